//! The measured times, printed as a table, and written as JSON to cargo's target folder.

use std::path::PathBuf;
use std::{env, fs};

use mlpconv::Precision;
use serde_json::{Value, json};

use super::{Ceiling, Times};

/// A measured case.
pub struct Row {
    pub group: &'static str,
    pub case: String,
    pub pass: String,
    pub precision: Precision,
    pub times: Times,
    /// Floating-point operations, two for a multiply-add.
    pub flops: f64,
    /// The bytes of all tensors, each once; `None` for whole networks, which have no floor.
    pub bytes: Option<f64>,
    /// Images in the batch.
    pub images: usize,
}

pub struct Table {
    bench: &'static str,
    device: String,
    ceilings: Vec<(Precision, Ceiling)>,
    rows: Vec<Row>,
}

impl Table {
    /// A table for `device`, the name without its precision.
    pub fn new(bench: &'static str, device: String) -> Self {
        Table { bench, device, ceilings: Vec::new(), rows: Vec::new() }
    }

    pub fn ceiling(&mut self, precision: Precision, ceiling: Ceiling) {
        self.ceilings.push((precision, ceiling));
    }

    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Prints the table and writes `target/bench/<bench>.json`, unless nothing was measured.
    pub fn finish(self) {
        if self.rows.is_empty() {
            return;
        }
        self.print();
        let folder = PathBuf::from(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into())).join("bench");
        let file = folder.join(self.bench).with_extension("json");
        let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&file, format!("{:#}\n", self.json())));
        match written {
            Ok(()) => println!("written to {}", file.display()),
            Err(error) => eprintln!("{} could not be written: {error}", file.display()),
        }
    }

    fn of(&self, precision: Precision) -> &Ceiling {
        let found = self.ceilings.iter().find(|(of, _)| *of == precision);
        &found.expect("each precision has its ceiling").1
    }

    /// The least seconds by FLOPs and by bytes, where known, and the higher of the two divided by the measured time.
    fn floors(&self, row: &Row) -> (Option<f64>, Option<f64>, Option<f64>) {
        let ceiling = self.of(row.precision);
        let Some(bytes) = row.bytes else { return (None, None, None) };
        let floors = (ceiling.by_flops(row.flops), Some(ceiling.by_bytes(bytes)));
        let highest = [floors.0, floors.1].into_iter().flatten().reduce(f64::max);
        (floors.0, floors.1, highest.map(|floor| floor / row.times.median))
    }

    fn print(&self) {
        println!("\n{} on {}", self.bench, self.device);
        if is_interpreter(&self.device) {
            println!("THE DEVICE IS AN INTERPRETER: these times say nothing about any kernel.");
        }
        for (precision, ceiling) in &self.ceilings {
            let flops = ceiling.flops.map_or("?".into(), |flops| format!("{:.3}", flops / 1e12));
            println!("{precision}: at most {flops} TFLOP/s ({})", ceiling.flops_are);
        }
        if let Some((_, ceiling)) = self.ceilings.first() {
            println!("memory: at most {:.0} GB/s ({})", ceiling.bytes / 1e9, ceiling.bytes_are);
        }
        println!(
            "floor: the least time by FLOPs and by bytes, each tensor moved once; share: the higher floor / time\n"
        );
        println!(
            "{:<16} {:<24} {:<6} {:<5} {:>12} {:>9} {:>10} {:>9} {:>8} {:>12} {:>12} {:>6}",
            "",
            "case",
            "pass",
            "",
            "time, us",
            "+-",
            "images/s",
            "TFLOP/s",
            "GB/s",
            "flop floor",
            "byte floor",
            "share"
        );
        for row in &self.rows {
            let (by_flops, by_bytes, share) = self.floors(row);
            let seconds = row.times.median;
            let number =
                |value: Option<f64>, digits: usize| value.map_or("".into(), |value| format!("{value:.digits$}"));
            println!(
                "{:<16} {:<24} {:<6} {:<5} {:>12.2} {:>9.2} {:>10.0} {:>9.3} {:>8} {:>12} {:>12} {:>6}",
                row.group,
                row.case,
                row.pass,
                row.precision.name(),
                seconds * 1e6,
                (row.times.most - row.times.least) / 2.0 * 1e6,
                row.images as f64 / seconds,
                row.flops / seconds / 1e12,
                number(row.bytes.map(|bytes| bytes / seconds / 1e9), 0),
                number(by_flops.map(|floor| floor * 1e6), 2),
                number(by_bytes.map(|floor| floor * 1e6), 2),
                number(share.map(|share| share * 100.0), 0) + if share.is_some() { "%" } else { "" },
            );
        }
    }

    fn json(&self) -> Value {
        let row = |row: &Row| {
            let (by_flops, by_bytes, share) = self.floors(row);
            let (microseconds, seconds) = (|seconds: f64| seconds * 1e6, row.times.median);
            json!({
                "group": row.group, "case": row.case, "pass": row.pass,
                "precision": row.precision, "images": row.images,
                "us": microseconds(seconds), "us_range": [microseconds(row.times.least), microseconds(row.times.most)],
                "samples": row.times.samples, "images_s": row.images as f64 / seconds,
                "tflops": row.flops / seconds / 1e12, "gb_s": row.bytes.map(|bytes| bytes / seconds / 1e9),
                "floor_flops_us": by_flops.map(microseconds), "floor_bytes_us": by_bytes.map(microseconds),
                "share": share,
            })
        };
        let ceiling = |(precision, ceiling): &(Precision, Ceiling)| {
            json!({
                "precision": precision,
                "tflops": ceiling.flops.map(|flops| flops / 1e12), "tflops_are": ceiling.flops_are,
                "gb_s": ceiling.bytes / 1e9, "gb_s_are": ceiling.bytes_are,
            })
        };
        json!({
            "bench": self.bench, "device": self.device, "interpreter": is_interpreter(&self.device),
            "ceilings": self.ceilings.iter().map(ceiling).collect::<Vec<_>>(),
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}

/// Whether the device is the virtual GPU, whose times are those of an interpreter.
fn is_interpreter(device: &str) -> bool {
    device.contains("Virtual GPU")
}
