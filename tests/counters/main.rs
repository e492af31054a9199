//! Memory traffic and arithmetic of the kernels, as the virtual GPU counts them. The convolutions are compared with the
//! least traffic of their tiles and with the committed `kernels/measured/COUNTERS.md`, a training step with a plan and with
//! `kernels/measured/STEP.md`.
#![cfg(feature = "cuda")]

// The model of `mlpconv model`, by which the report estimates: all but its launches, which are counted here.
#[path = "../../src/bin/console/model/estimate.rs"]
#[allow(dead_code)]
mod estimate;
#[path = "../../src/bin/console/model/gpus.rs"]
#[allow(dead_code)]
mod gpus;
#[path = "../../src/bin/console/model/occupancy.rs"]
#[allow(dead_code)]
/// The blocks of a multiprocessor.
mod occupancy;
#[path = "../../src/bin/console/model/tables.rs"]
#[allow(dead_code)]
mod tables;
#[path = "../../src/bin/console/model/together.rs"]
mod together;

#[path = "../gpu/mod.rs"]
mod gpu;
/// The launches of single convolutions.
mod layers;
/// The least traffic of tiles.
mod least;
/// The accesses in the PTX of main loops.
mod loops;
/// Optimisers' launches.
mod optimizers;
/// The least traffic of a training step.
mod plan;
/// The report `kernels/measured/COUNTERS.md`.
mod report;
/// What may be skipped.
#[path = "../required/mod.rs"]
mod required;
/// The launches of a training step.
mod step;

use std::process::Command;
use std::{env, fs};

use mlpconv::Precision;
use mlpconv::device::cuda::tiles::{FP32_TILES, MMA_TILES, TALL_TILES, Tile};
use mlpconv::device::cuda::{Architecture, Unit, missing, units};
use serde_json::Value;

use layers::layers;
use least::{SECTOR, Traffic};

/// The largest ratio of an aligned kernel's sectors to the least that its tiles need.
const EXCESS: f64 = 1.25;

/// A launch, with its counters.
pub struct Row {
    layer: &'static str,
    pass: &'static str,
    kernel: String,
    grid: [usize; 2],
    /// Whether all channels are read 16 bytes at a time.
    aligned: bool,
    /// The share of useful multiply-adds, and the warp instructions for each `mma` or `fma`. `None` for sums.
    arithmetic: Option<Arithmetic>,
    loads: Access,
    stores: Access,
    least: Traffic,
    conflicts: usize,
    /// The bytes of each access to global memory in the main loop.
    widths: Vec<usize>,
}

struct Arithmetic {
    useful: f64,
    instructions: f64,
}

struct Access {
    bytes: usize,
    sectors: usize,
}

impl Access {
    fn efficiency(&self) -> f64 {
        self.bytes as f64 / (self.sectors * SECTOR) as f64
    }
}

/// Runs in a process of its own, because the driver reads `VIRTUAL_GPU_COUNTS` only when it is initialised.
#[test]
#[ignore = "`aligned_kernels_move_at_most_1_25_of_the_least_without_conflicts` starts it"]
fn launches() {
    for precision in Precision::ALL {
        let gpu = gpu::gpu(precision).expect("kernels");
        for layer in layers() {
            layer.run(&gpu).unwrap();
        }
    }
}

#[test]
#[ignore = "`a_steps_launches_and_traffic_follow_the_plan` starts it"]
fn steps() {
    step::run_all().unwrap();
}

#[test]
#[ignore = "`every_optimizer_updates_in_one_launch` starts it"]
fn updates() {
    optimizers::run(&gpu::gpu(Precision::Bf16).expect("kernels")).unwrap();
}

#[test]
fn every_optimizer_updates_in_one_launch() {
    if let Some(launches) = counted("updates", "8.0") {
        optimizers::check(&launches);
    }
}

#[test]
fn a_steps_launches_and_traffic_follow_the_plan() {
    if let Some(launches) = counted("steps", "9.0") {
        step::check(&launches);
    }
}

/// Runs an ignored test in a child process, on a virtual GPU of a compute capability, and returns its launches with their
/// counters; `None` in a build without kernels.
fn counted(test: &str, capability: &str) -> Option<Vec<Value>> {
    if missing().is_some() {
        // Prints why the test is skipped, or panics where kernels are required.
        assert!(gpu::gpu(Precision::Fp32).is_none());
        return None;
    }
    let counts = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", test, "--ignored", "--nocapture"]).env("VIRTUAL_GPU_COUNTS", counts.path());
    // No checks: other tests find bugs.
    child.env("VIRTUAL_GPU_SM", capability).env_remove("MLPCONV_TESTS").env("VIRTUAL_GPU_CHECKS", "off");
    // Only counts matter here.
    child.env("VIRTUAL_GPU_SUMS", "ordered");
    let output = child.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(counts.path()).unwrap();
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn aligned_kernels_move_at_most_1_25_of_the_least_without_conflicts() {
    let Some(launches) = counted("launches", "8.0") else { return };
    let mut launches = launches.into_iter().peekable();
    let mut tables = Vec::new();
    for precision in Precision::ALL {
        let mut rows = Vec::new();
        for layer in layers() {
            for pass in layer.passes() {
                rows.push(row(precision, &layer, pass, &launches.next().expect("a launch")));
                let splits = rows.last().unwrap().grid[1];
                if let Some(sum) = launches.next_if(|next| next["kernel"] == "sum") {
                    let aligned = layer.shape.weight().len().is_multiple_of(4);
                    rows.push(sum_row(&layer, "sum of dw's parts", aligned, least::sum(&layer.shape, splits), &sum));
                }
                if let Some(sum) = launches.next_if(|next| next["kernel"] == "sum_activated") {
                    let least = least::activated(&layer.shape, precision.activation_width(), splits);
                    rows.push(sum_row(&layer, "sum of y's parts", layer.shape.k.is_multiple_of(4), least, &sum));
                }
            }
        }
        tables.push((precision, rows));
    }
    assert!(launches.next().is_none(), "launches that nobody expects");

    let report = report::markdown(&tables);
    let written = report::write(&report);
    let problems: Vec<String> = tables.iter().flat_map(|(precision, rows)| problems(*precision, rows)).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    if !written {
        report::compare(&report);
    }
}

fn number(launch: &Value, name: &str) -> usize {
    launch["counts"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {launch}")) as usize
}

fn grid(launch: &Value) -> [usize; 2] {
    [0, 1].map(|axis| launch["grid"][axis].as_u64().unwrap() as usize)
}

fn loads(launch: &Value) -> Access {
    Access { bytes: number(launch, "global_load_bytes"), sectors: number(launch, "global_load_sectors") }
}

fn stores(launch: &Value) -> Access {
    Access { bytes: number(launch, "global_store_bytes"), sectors: number(launch, "global_store_sectors") }
}

fn row(precision: Precision, layer: &layers::Layer, pass: &'static str, launch: &Value) -> Row {
    let kernel = launch["kernel"].as_str().unwrap().to_owned();
    let (op, rest) = kernel.split_once('_').unwrap();
    let tile = rest.strip_prefix(pass).and_then(|name| name.strip_prefix('_')).expect("the launches' order");
    let tile = tile.trim_start_matches("parts_");
    let tile = tiles(precision).iter().chain(&TALL_TILES).find(|known| known.name() == tile);
    let tile = tile.expect("a tile of the table");
    let grid = grid(launch);
    let g = &layer.shape;
    let pool = layer.pool();
    let (m, n) = least::product(pass, g, &pool, tile);
    assert_eq!(grid[0], m.div_ceil(tile.m) * n.div_ceil(tile.n), "{kernel}");
    // A warp's `mma` is 16×8×8 or 16×8×16 products, a thread's `fma` one.
    let (steps, each) = match precision {
        Precision::Fp32 => (number(launch, "flops") / 2 / 32, 32),
        Precision::Tf32 => (number(launch, "mma"), 1024),
        Precision::Bf16 => (number(launch, "mma"), 2048),
    };
    let arithmetic = Arithmetic {
        useful: g.macs() as f64 / (steps * each) as f64,
        instructions: number(launch, "warp_instructions") as f64 / steps as f64,
    };
    // The virtual GPU of these counts runs the portable architecture.
    let of_op = |unit: &Unit| unit.module == op && unit.architecture == Architecture::PORTABLE;
    let text = units().find(of_op).expect("a module for each op").ptx(precision).unwrap();
    Row {
        layer: layer.name,
        pass,
        grid,
        aligned: tile.aligned,
        arithmetic: Some(arithmetic),
        loads: loads(launch),
        stores: stores(launch),
        least: least::gemm(pass, g, &pool, tile, precision.activation_width(), grid[1]),
        conflicts: number(launch, "shared_bank_conflicts"),
        widths: loops::access_widths(&text, &kernel).unwrap_or_else(|| panic!("{kernel} has no main loop")),
        kernel,
    }
}

fn sum_row(layer: &layers::Layer, pass: &'static str, aligned: bool, least: Traffic, launch: &Value) -> Row {
    Row {
        layer: layer.name,
        pass,
        kernel: launch["kernel"].as_str().unwrap().to_owned(),
        grid: grid(launch),
        aligned,
        arithmetic: None,
        loads: loads(launch),
        stores: stores(launch),
        least,
        conflicts: number(launch, "shared_bank_conflicts"),
        widths: Vec::new(),
    }
}

fn tiles(precision: Precision) -> &'static [Tile] {
    match precision {
        Precision::Fp32 => &FP32_TILES,
        Precision::Tf32 | Precision::Bf16 => &MMA_TILES,
    }
}

/// The violations of the rules for aligned kernels: excess traffic, bank conflicts, narrow accesses.
fn problems(precision: Precision, rows: &[Row]) -> Vec<String> {
    let mut problems = Vec::new();
    for row in rows.iter().filter(|row| row.aligned) {
        let mut problem = |what: String| {
            problems.push(format!("{precision}, {}, {}, {}: {what}", row.layer, row.pass, row.kernel));
        };
        for (what, access, least) in [("loads", &row.loads, row.least.loads), ("stores", &row.stores, row.least.stores)]
        {
            if access.sectors as f64 > EXCESS * least as f64 {
                problem(format!("{what} {} sectors, where its tiles need {least}", access.sectors));
            }
        }
        if row.conflicts != 0 {
            problem(format!("{} bank conflicts", row.conflicts));
        }
        if row.widths.iter().any(|&bytes| bytes != 16) {
            problem(format!("accesses of {:?} bytes in its main loop", row.widths));
        }
    }
    problems
}
