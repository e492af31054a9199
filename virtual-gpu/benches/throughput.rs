//! The speed of kernels, with checks and without: `cargo bench -p virtual-gpu`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use common::machine::*;
use common::tensor::{Kind, Tensor};
use common::{Args, Rng};
use virtual_gpu::machine::{Config, Machine};

fn main() {
    for checks in [true, false] {
        let machine = Machine::new(Config { checks, ..Config::default() });
        let mut rng = Rng(1);
        let (m, n, k) = (256, 256, 256);
        let (a, b) = (upload(&machine, &rng.floats(m * k)), upload(&machine, &rng.floats(n * k)));
        let c = machine.alloc(m * n * 4).expect("memory");
        let module = machine.load(include_str!("../tests/kernels/sgemm.ptx")).expect("loads");
        let args = || Args::default().ptr(a).ptr(b).ptr(c).int(m).int(n).int(k);
        let start = Instant::now();
        let counts = run(&machine, &module, "sgemm", [8, 8, 1], [256, 1, 1], 0, args()).expect("runs");
        let seconds = start.elapsed().as_secs_f64();
        let rate = counts.thread_instructions as f64 / seconds / 1e6;
        println!("checks {checks}: sgemm 256^3 {seconds:.3} s, {rate:.0} M thread instructions/s");

        let module = machine.load(include_str!("../tests/kernels/philox.ptx")).expect("loads");
        let count = 1 << 18;
        let out = machine.alloc(count * 16).expect("memory");
        let args = Args::default().ptr(out).int(1).int(2).int(count);
        let start = Instant::now();
        let counts = run(&machine, &module, "philox", [1 << 10, 1, 1], [256, 1, 1], 0, args).expect("runs");
        let seconds = start.elapsed().as_secs_f64();
        let rate = counts.thread_instructions as f64 / seconds / 1e6;
        println!("checks {checks}: philox 2^18 {seconds:.3} s, {rate:.0} M thread instructions/s");

        for ordered_sums in [false, true] {
            let machine = Machine::new(Config { checks, ordered_sums, ..Config::default() });
            let (m, n, k) = (512, 512, 512);
            let half =
                |rng: &mut Rng| -> Vec<u16> { (0..m * k).map(|_| (rng.float().to_bits() >> 16) as u16).collect() };
            let (a, b) = (upload(&machine, &half(&mut rng)), upload(&machine, &half(&mut rng)));
            let c = machine.alloc(m * n * 4).expect("memory");
            let module = machine.load(include_str!("../tests/kernels/mma.ptx")).expect("loads");
            let args = Args::default().ptr(a).ptr(b).ptr(c).int(m).int(n).int(k);
            let start = Instant::now();
            let counts = run(&machine, &module, "gemm_bf16", [8, 8, 1], [128, 1, 1], 0, args).expect("runs");
            let seconds = start.elapsed().as_secs_f64();
            let rate = counts.thread_instructions as f64 / seconds / 1e6;
            let sums = if ordered_sums { "in order" } else { "as a card's" };
            println!("checks {checks}: bf16 mma 512^3, sums {sums} {seconds:.3} s, {rate:.0} M thread instructions/s");
        }
        for ordered_sums in [false, true] {
            let config = Config { compute_capability: (9, 0), checks, ordered_sums, ..Config::default() };
            let machine = Machine::new(config);
            let (m, n, k) = (1024, 1024, 1024);
            let mut half =
                |count: usize| -> Vec<u16> { (0..count).map(|_| (rng.float().to_bits() >> 16) as u16).collect() };
            let maps = [(upload(&machine, &half(m * k)), m, k, 128), (upload(&machine, &half(n * k)), n, k, 64)]
                .into_iter()
                .chain([(machine.alloc(m * n * 2).expect("memory"), m, n, 64)])
                .map(|(at, rows, columns, tall)| {
                    let dims = [columns as u64, rows as u64];
                    Tensor::tiled(Kind::Bf16, at, &dims, &[64, tall]).swizzled(128).on(&machine)
                });
            let args = maps.fold(Args::default(), |args, map| args.map(&map)).int(k);
            let module = machine.load(include_str!("../tests/kernels/hopper/gemm.ptx")).expect("loads");
            let grid = [(n / 64) as u32, (m / 128) as u32, 1];
            let start = Instant::now();
            run(&machine, &module, "gemm_bf16", grid, [384, 1, 1], 114_752, args).expect("runs");
            let seconds = start.elapsed().as_secs_f64();
            let rate = 2e-9 * (m * n * k) as f64 / seconds;
            let sums = if ordered_sums { "in order" } else { "as a card's" };
            println!("checks {checks}: bf16 wgmma 1024^3, sums {sums} {seconds:.3} s, {rate:.1} GFLOP/s");
        }
    }
}
