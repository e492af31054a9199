//! Warp-specialised products: `kernels/hopper/gemm.cu` and `persistent.cu`.

use super::*;

/// m, n and k: one tile and a part of one, k below the ring's length and far above it, no multiple of anything.
const SHAPES: [[usize; 3]; 6] =
    [[128, 64, 64], [1, 8, 8], [64, 72, 200], [130, 136, 328], [257, 40, 1000], [300, 200, 64]];

/// Memory around a result that no store may change.
const GUARD: usize = 64;

fn guarded<T: Copy>(count: usize, fill: T) -> u64 {
    upload(&vec![fill; count + 2 * GUARD])
}

/// The result between its guards, which are as they were.
fn unguarded<T: Copy + Default + PartialEq>(at: u64, count: usize, fill: T) -> Vec<T> {
    let all: Vec<T> = download(at, count + 2 * GUARD);
    let outside = all[..GUARD].iter().chain(&all[GUARD + count..]);
    assert!(outside.copied().all(|value| value == fill), "written outside of the result");
    all[GUARD..][..count].to_vec()
}

#[test]
fn bf16_gemm_is_within_the_summation_bound_and_one_rounding() {
    let Some(_context) = hopper() else { return };
    let kernel = hungry(compile(&older(include_str!("../kernels/hopper/gemm.ptx"))), "gemm_bf16");
    let mut rng = Rng(31);
    for [m, n, k] in SHAPES {
        let (a, b) = (halves(&mut rng, m * k), halves(&mut rng, n * k));
        let (da, db, dc) = (upload(&a), upload(&b), guarded(m * n, 0x7fc1u16));
        let maps =
            [(da, m, k, 128), (db, n, k, 64), (dc + 2 * GUARD as u64, m, n, 64)].map(|(at, rows, columns, tall)| {
                Tensor::tiled(Kind::Bf16, at, &[columns as u64, rows as u64], &[64, tall]).swizzled(128).encode()
            });
        let args = maps.iter().fold(Args::default(), Args::map).int(k);
        let grid = [n.div_ceil(64) as u32, m.div_ceil(128) as u32, 1];
        runs(kernel, grid, 384, 114752, args, "gemm_bf16");
        for (i, c) in unguarded(dc, m * n, 0x7fc1u16).into_iter().enumerate() {
            let pairs = a[i / n * k..][..k].iter().zip(&b[i % n * k..][..k]);
            let (wanted, bound) = product(pairs.map(|(a, b)| (wide(*a), wide(*b))));
            let rounding = 2f64.powi(-8) * (wanted.abs() + bound);
            near(wide(c), (wanted, bound + rounding), &format!("{m} x {n} x {k}: {i}"));
        }
    }
}

#[test]
fn tf32_gemm_rounds_its_operands_to_nearest_while_loading() {
    let Some(_context) = hopper() else { return };
    let kernel = hungry(compile(&older(include_str!("../kernels/hopper/gemm.ptx"))), "gemm_tf32");
    let mut rng = Rng(32);
    for [m, n, k] in SHAPES {
        let (a, b) = (rng.floats(m * k), rng.floats(n * k));
        let (da, db, dc) = (upload(&a), upload(&b), guarded(m * n, f32::INFINITY));
        let load = |at: u64, rows: usize, tall: u32| {
            Tensor::tiled(Kind::Tf32, at, &[k as u64, rows as u64], &[32, tall]).swizzled(128).encode()
        };
        let c = Tensor::tiled(Kind::F32, dc + 4 * GUARD as u64, &[n as u64, m as u64], &[64, 64]).encode();
        let args = Args::default().map(&load(da, m, 128)).map(&load(db, n, 64)).map(&c).int(k);
        let grid = [n.div_ceil(64) as u32, m.div_ceil(128) as u32, 1];
        runs(kernel, grid, 384, 131136, args, "gemm_tf32");
        // 10 bits of fraction, ties to even.
        let tf32 = |x: f32| {
            let bits = x.to_bits();
            f64::from(f32::from_bits((bits + 0xfff + (bits >> 13 & 1)) & !0x1fff))
        };
        for (i, c) in unguarded(dc, m * n, f32::INFINITY).into_iter().enumerate() {
            let pairs = a[i / n * k..][..k].iter().zip(&b[i % n * k..][..k]);
            let wanted = product(pairs.map(|(a, b)| (tf32(*a), tf32(*b))));
            near(c.into(), wanted, &format!("{m} x {n} x {k}: {i}"));
        }
    }
}

#[test]
fn persistent_gemm_is_exact_for_whole_numbers_whatever_the_number_of_blocks() {
    let Some(_context) = hopper() else { return };
    let kernel = hungry(compile(&older(include_str!("../kernels/hopper/persistent.ptx"))), "gemm_persistent");
    let mut rng = Rng(33);
    for (shape, blocks) in SHAPES.into_iter().zip([1, 2, 1, 3, 4, 100]) {
        let [m, n, k] = shape;
        let mut whole = |count: usize| -> Vec<u16> { (0..count).map(|_| whole(&mut rng)).collect() };
        let (a, b) = (whole(m * k), whole(n * k));
        let (da, db, dc) = (upload(&a), upload(&b), guarded(m * n, f32::INFINITY));
        let load = |at: u64, rows: usize| {
            Tensor::tiled(Kind::Bf16, at, &[k as u64, rows as u64], &[64, 64]).swizzled(128).encode()
        };
        let c = Tensor::tiled(Kind::F32, dc + 4 * GUARD as u64, &[n as u64, m as u64], &[64, 64]).encode();
        let args = Args::default().map(&load(da, m)).map(&load(db, n)).map(&c).int(m).int(n).int(k);
        runs(kernel, [blocks, 1, 1], 160, 81984, args, "gemm_persistent");
        for (i, c) in unguarded(dc, m * n, f32::INFINITY).into_iter().enumerate() {
            let pairs = a[i / n * k..][..k].iter().zip(&b[i % n * k..][..k]);
            let wanted: f64 = pairs.map(|(a, b)| wide(*a) * wide(*b)).sum();
            assert_eq!(f64::from(c), wanted, "{shape:?} by {blocks} blocks: {i}");
        }
    }
}
