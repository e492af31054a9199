//! The report `kernels/measured/COUNTERS.md`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::{env, fs};

use mlpconv::Precision;
use mlpconv::device::cuda::units;

use crate::Row;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/measured/COUNTERS.md");

const HEAD: &str = "\
# What the convolutions' kernels do

Each convolution of the book's network by itself, every pass, at 224×224, as the virtual GPU (108 multiprocessors)
counts it: exact figures, the same on every run. One image, or as many as have 128 pixels (two of 11×11, six of 5×5).
In training fused kernels take the place of some: `STEP.md` has those.
Written by `make counters`; `cargo test --test counters` holds the kernels and this file to each other.

* **grid**: blocks, times splits of the sum.
* **useful**: multiply-adds of the problem, of those executed. The rest are rows, columns and steps that tiles have too
  many, and db's column of ones. **instr**: instructions that a warp executes for each of its `mma` (TF32: 16×8×8
  products; bf16: 16×8×16), or for each of its `fma` in fp32. They are PTX instructions.
* **loads**, **stores**: sectors of 32 bytes, thousands. **of least**: as a multiple of what the tiles need at least:
  every block reads its rows of A and its columns of B (as matrices: a patch's elements under each tap anew), its
  columns of the bias or its results' mask once, and writes its results once. `tests/counters/least.rs` has the formula.
  Of a convolution that pools (`maxpool_fprop`) results are the maxima and their positions; blocks of an image have rows
  in common there. A warp that finds the same sector under two taps at once needs fewer. **used**: bytes that lanes
  asked for, of the sectors' bytes; more than all where several lanes ask for the same.
* **tensors**: KiB, if each tensor were read or written once, which is what a roofline counts (for the sums of
  parts, these are such tensors); **asked**: what lanes ask for, as a multiple of that. The caches serve it.
* **conflicts**: passes over the shared memory's banks beyond the fewest, in the main loop and the epilogue together:
  where there is none, there is none in either.
* **width**: bytes of the main loop's accesses to global memory, from the PTX.

Kernels of whole tiles must read and write no more than 1.25 of the least, have no conflict, and access 16 bytes at a
time in their loops; the test fails otherwise. Those whose names end in `_any` are for channels that 16 bytes do not
divide (the last layers' ten) and promise nothing. They read element by element whatever does not lie in whole chunks, so
they ask for a sector once for each instruction that wants some of it, and their tiles are far too large for ten
channels. The first layer, 11×11/4 over one channel, is run as 3×3 over the 16 pixels of a block (`conv2d_space_to_depth`, not
counted here); the images' own gradient nobody asks for.
";

/// The version of nvcc, from the PTX.
fn compiler() -> String {
    let text = units().next().expect("modules").ptx(Precision::Fp32).unwrap();
    text.lines().find_map(|line| line.split_once(", V")).map_or("an unknown nvcc", |(_, version)| version).to_owned()
}

pub fn markdown(tables: &[(Precision, Vec<Row>)]) -> String {
    let mut text = format!("{HEAD}\nPTX by nvcc {}.\n", compiler());
    for (precision, rows) in tables {
        write!(
            text,
            "\n## {precision}\n\n\
             | layer | pass | kernel | grid | useful | instr | loads | of least | used | stores | of least | used \
             | tensors | asked | conflicts | width |\n\
             |---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        )
        .unwrap();
        for row in rows {
            line(&mut text, row);
        }
    }
    text
}

fn line(text: &mut String, row: &Row) {
    let (useful, instructions) = match &row.arithmetic {
        Some(a) => (format!("{:.0} %", 100.0 * a.useful), format!("{:.2}", a.instructions)),
        None => ("–".into(), "–".into()),
    };
    let grid = if row.grid[1] == 1 { row.grid[0].to_string() } else { format!("{}×{}", row.grid[0], row.grid[1]) };
    let widths: BTreeSet<usize> = row.widths.iter().copied().collect();
    let widths: Vec<String> = widths.iter().map(usize::to_string).collect();
    write!(text, "| {} | {} | `{}` | {grid} | {useful} | {instructions}", row.layer, row.pass, row.kernel).unwrap();
    for (access, least) in [(&row.loads, row.least.loads), (&row.stores, row.least.stores)] {
        let (thousands, excess) = (access.sectors as f64 / 1e3, access.sectors as f64 / least as f64);
        write!(text, " | {thousands:.1} | {excess:.2} | {:.0} %", 100.0 * access.efficiency()).unwrap();
    }
    let tensors = row.least.tensors as f64;
    let asked = (row.loads.bytes + row.stores.bytes) as f64 / tensors;
    let widths = if widths.is_empty() { "–".to_owned() } else { widths.join(", ") };
    writeln!(text, " | {:.0} | {asked:.2} | {} | {widths} |", tensors / 1024.0, row.conflicts).unwrap();
}

/// Writes the report to the file that `MLPCONV_COUNTERS` names (`make counters`). Returns whether the variable is set.
pub fn write(report: &str) -> bool {
    let path = env::var_os("MLPCONV_COUNTERS");
    path.map(|path| fs::write(path, report).unwrap()).is_some()
}

/// Compares the report with the committed one. Skipped for another compiler, which may order instructions differently.
///
/// # Panics
/// If they differ.
pub fn compare(report: &str) {
    let committed = fs::read_to_string(COMMITTED).unwrap_or_default();
    let by = format!("PTX by nvcc {}.", compiler());
    if !committed.is_empty() && !committed.contains(&by) {
        return;
    }
    let stale = "kernels/measured/COUNTERS.md is stale; `make counters` renews it";
    for (old, new) in committed.lines().zip(report.lines()) {
        assert_eq!(old, new, "{stale}");
    }
    assert_eq!(committed.lines().count(), report.lines().count(), "{stale}");
}
