//! The counters of launches, on the machine itself: a card does not have them.

mod common;

use common::machine::*;
use common::*;

/// The counters of a launch of one warp.
#[test]
fn one_warps_sectors_conflicts_and_flops_are_counted_exactly() {
    let count = |body: &str| {
        let machine = machine();
        let module = machine.load(&kernel(body)).unwrap_or_else(|error| panic!("{error}"));
        let out = upload(&machine, &[0u32; 1024]);
        run(&machine, &module, "k", [1, 1, 1], [32, 1, 1], 0, Args::default().ptr(out))
            .unwrap_or_else(|trap| panic!("{trap}"))
    };
    let address = |stride: u32| format!("mul.wide.u32 %rd1, %r0, {stride};\nadd.s64 %rd1, %rd0, %rd1;");
    for (stride, sectors) in [(0, 1), (4, 4), (8, 8), (32, 32), (128, 32)] {
        let counts = count(&format!("{}\nld.global.u32 %r1, [%rd1];", address(stride)));
        assert_eq!((counts.global_load_bytes, counts.global_load_sectors), (128, sectors), "stride {stride}");
        assert_eq!((counts.global_load_footprint, counts.global_store_footprint), (sectors, 0), "stride {stride}");
    }
    let counts = count(&format!("{}\nst.global.v4.u32 [%rd1], {{%r0, %r0, %r0, %r0}};", address(16)));
    assert_eq!((counts.global_store_bytes, counts.global_store_sectors), (512, 16));
    // Different words of one bank take a pass each; the same word for all lanes is no conflict.
    for (stride, conflicts) in [(0, 0), (4, 0), (8, 1), (12, 0), (16, 3), (32, 7)] {
        let body = format!("mov.u32 %r2, tile;\nmad.lo.u32 %r2, %r0, {stride}, %r2;\nst.shared.u32 [%r2], 1;");
        assert_eq!(count(&body).shared_bank_conflicts, conflicts, "stride {stride}");
    }
    let wide = "mov.u32 %r2, tile;\nmad.lo.u32 %r2, %r0, 16, %r2;\nst.shared.v4.u32 [%r2], {1, 1, 1, 1};";
    assert_eq!(count(wide).shared_bank_conflicts, 0);
    let counts = count(
        "mov.f32 %f1, 0f3F800000;\nfma.rn.f32 %f2, %f1, %f1, %f1;\nsetp.lt.u32 %p1, %r0, 8;\n@%p1 add.f32 %f2, %f2, %f1;\nbar.sync 0;",
    );
    assert_eq!((counts.flops, counts.barriers), (72, 1));
    assert_eq!(counts.warp_instructions, 8);
    assert_eq!(counts.thread_instructions, 7 * 32 + 8);
    assert!(counts.to_json().contains("\"flops\":72"));
}

/// A footprint counts a sector once, however many blocks and instructions access it.
#[test]
fn a_footprint_counts_each_sector_once() {
    let machine = machine();
    let body = "mul.wide.u32 %rd1, %r0, 4;\nadd.s64 %rd1, %rd0, %rd1;\nld.global.u32 %r1, [%rd1];\n\
                ld.global.u32 %r2, [%rd1+64];\nst.global.u32 [%rd1+2048], %r1;\nst.global.u32 [%rd1+2048], %r2;";
    let module = machine.load(&kernel(body)).unwrap_or_else(|error| panic!("{error}"));
    let out = upload(&machine, &[0u32; 1024]);
    let args = Args::default().ptr(out);
    // Five blocks that access the same sectors.
    let counts = run(&machine, &module, "k", [5, 1, 1], [32, 1, 1], 0, args).unwrap_or_else(|trap| panic!("{trap}"));
    assert_eq!((counts.global_load_sectors, counts.global_store_sectors), (5 * 8, 5 * 8));
    // Loads: 128 bytes, and 64 bytes beyond them. Stores: 128 bytes.
    assert_eq!((counts.global_load_footprint, counts.global_store_footprint), (6, 4));
}

#[test]
fn vector_add_counts_its_bytes_sectors_and_flops() {
    let machine = machine();
    let module = machine.load(include_str!("kernels/vector_add.ptx")).expect("loads");
    let n = 1237;
    let (a, b) = (upload(&machine, &Rng(1).floats(n)), upload(&machine, &Rng(2).floats(n)));
    let c = machine.alloc(n * 4).expect("memory");
    let args = Args::default().ptr(a).ptr(b).ptr(c).int(n);
    let counts = run(&machine, &module, "vector_add", [10, 1, 1], [128, 1, 1], 0, args).expect("runs");
    assert_eq!(counts.global_load_bytes, 8 * n as u64);
    assert_eq!(counts.global_store_sectors, (n as u64 * 4).div_ceil(32));
    assert_eq!(counts.global_load_footprint, 2 * (n as u64 * 4).div_ceil(32));
    assert_eq!(counts.flops, n as u64);
}

#[test]
fn bf16_gemm_counts_its_mma_and_bank_conflicts() {
    let machine = machine();
    let module = machine.load(include_str!("kernels/mma.ptx")).expect("loads");
    let (m, n, k) = (67, 71, 104);
    let (a, b) = (upload(&machine, &vec![0x3f80u16; m * k]), upload(&machine, &vec![0x3f80u16; n * k]));
    let c = machine.alloc(m * n * 4).expect("memory");
    let args = Args::default().ptr(a).ptr(b).ptr(c).int(m).int(n).int(k);
    let counts =
        run(&machine, &module, "gemm_bf16", [2, 2, 1], [128, 1, 1], 0, args).unwrap_or_else(|trap| panic!("{trap}"));
    // Rows of 80 bytes: the eight rows that `ldmatrix` reads lie in different banks. A group of lanes copies two rows
    // at once, which overlap in four banks: one more pass for each of four groups.
    let steps = 2 * 2 * k.div_ceil(32) as u64;
    assert_eq!(counts.shared_bank_conflicts, steps * 4 * 4 * 4);
    assert_eq!(counts.mma, steps * 4 * 16);
}
