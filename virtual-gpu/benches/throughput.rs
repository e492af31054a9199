//! The speed of kernels, with checks and without: `cargo bench -p virtual-gpu`, or `cargo bench -p virtual-gpu -- sgemm` for the lines
//! with this word. Each runs several times, and the least time counts.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use common::machine::*;
use common::tensor::{Kind, Tensor};
use common::{Args, Rng};
use virtual_gpu::machine::{Config, Machine, Module};

const ROUNDS: usize = 5;

/// A kernel with its launch.
struct Case {
    module: Module,
    kernel: &'static str,
    grid: [u32; 3],
    threads: u32,
    shared: usize,
    args: Args,
    /// Floating-point operations, where they and not the instructions say how fast it is.
    work: Option<f64>,
}

fn bf16(rng: &mut Rng, count: usize) -> Vec<u16> {
    (0..count).map(|_| (rng.float().to_bits() >> 16) as u16).collect()
}

fn sgemm(machine: &Machine) -> Case {
    let (rng, n) = (&mut Rng(1), 256);
    let (a, b) = (upload(machine, &rng.floats(n * n)), upload(machine, &rng.floats(n * n)));
    let c = machine.alloc(n * n * 4).expect("memory");
    let module = machine.load(include_str!("../tests/kernels/sgemm.ptx")).expect("loads");
    let args = Args::default().ptr(a).ptr(b).ptr(c).int(n).int(n).int(n);
    Case { module, kernel: "sgemm", grid: [8, 8, 1], threads: 256, shared: 0, args, work: None }
}

fn philox(machine: &Machine) -> Case {
    let module = machine.load(include_str!("../tests/kernels/philox.ptx")).expect("loads");
    let count = 1 << 18;
    let out = machine.alloc(count * 16).expect("memory");
    let args = Args::default().ptr(out).int(1).int(2).int(count);
    Case { module, kernel: "philox", grid: [1 << 10, 1, 1], threads: 256, shared: 0, args, work: None }
}

fn mma(machine: &Machine) -> Case {
    let (rng, n) = (&mut Rng(2), 512);
    let (a, b) = (upload(machine, &bf16(rng, n * n)), upload(machine, &bf16(rng, n * n)));
    let c = machine.alloc(n * n * 4).expect("memory");
    let module = machine.load(include_str!("../tests/kernels/mma.ptx")).expect("loads");
    let args = Args::default().ptr(a).ptr(b).ptr(c).int(n).int(n).int(n);
    Case { module, kernel: "gemm_bf16", grid: [8, 8, 1], threads: 128, shared: 0, args, work: None }
}

fn wgmma(machine: &Machine) -> Case {
    let (rng, n) = (&mut Rng(3), 1024);
    let (a, b) = (upload(machine, &bf16(rng, n * n)), upload(machine, &bf16(rng, n * n)));
    let c = machine.alloc(n * n * 2).expect("memory");
    let maps = [(a, 128), (b, 64), (c, 64)].map(|(at, tall)| {
        let dims = [n as u64; 2];
        Tensor::tiled(Kind::Bf16, at, &dims, &[64, tall]).swizzled(128).on(machine)
    });
    let args = maps.into_iter().fold(Args::default(), |args, map| args.map(&map)).int(n);
    let module = machine.load(include_str!("../tests/kernels/hopper/gemm.ptx")).expect("loads");
    let grid = [(n / 64) as u32, (n / 128) as u32, 1];
    let work = Some(2.0 * (n as f64).powi(3));
    Case { module, kernel: "gemm_bf16", grid, threads: 384, shared: 114_752, args, work }
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    type Set = fn(&Machine) -> Case;
    // Each with its compute capability, and whether products are summed in order.
    let cases: [(&str, (u32, u32), bool, Set); 6] = [
        ("sgemm 256^3", (8, 0), false, sgemm),
        ("philox 2^18", (8, 0), false, philox),
        ("bf16 mma 512^3, sums as a card's", (8, 0), false, mma),
        ("bf16 mma 512^3, sums in order", (8, 0), true, mma),
        ("bf16 wgmma 1024^3, sums as a card's", (9, 0), false, wgmma),
        ("bf16 wgmma 1024^3, sums in order", (9, 0), true, wgmma),
    ];
    for checks in [true, false] {
        for (name, compute_capability, ordered_sums, case) in cases {
            let label = format!("checks {checks}: {name}");
            if !wanted.iter().all(|wanted| label.contains(wanted.as_str())) {
                continue;
            }
            let machine = Machine::new(Config { compute_capability, checks, ordered_sums, ..Config::default() });
            let Case { module, kernel, grid, threads, shared, args, work } = case(&machine);
            let rounds = (0..ROUNDS).map(|_| {
                let start = Instant::now();
                let counts = run(&machine, &module, kernel, grid, [threads, 1, 1], shared, args.clone()).expect("runs");
                (start.elapsed().as_secs_f64(), counts.thread_instructions as f64)
            });
            let (seconds, instructions) = rounds.min_by(|a, b| a.0.total_cmp(&b.0)).expect("rounds");
            let rate = match work {
                Some(work) => format!("{:.1} GFLOP/s", 1e-9 * work / seconds),
                None => format!("{:.0} M thread instructions/s", 1e-6 * instructions / seconds),
            };
            println!("{label} {seconds:.3} s, {rate}");
        }
    }
}
