//! Operands that are not K-major rows in shared memory: `kernels/hopper/gradient.cu`.

use super::*;

#[test]
fn operands_with_k_outermost_are_multiplied_exactly() {
    let Some(_context) = hopper() else { return };
    let kernel = hungry(compile(&older(include_str!("../kernels/hopper/gradient.ptx"))), "gemm_transposed");
    let mut rng = Rng(35);
    for [m, n, k] in [[64, 128, 64], [8, 8, 1], [72, 200, 77], [136, 136, 300]] {
        let mut whole = |count: usize| -> Vec<u16> { (0..count).map(|_| whole(&mut rng)).collect() };
        let (a, b) = (whole(k * m), whole(k * n));
        let (da, db, dc) = (upload(&a), upload(&b), upload(&vec![f32::INFINITY; m * n]));
        let map = |at: u64, columns: usize| {
            Tensor::tiled(Kind::Bf16, at, &[columns as u64, k as u64], &[64, 64]).swizzled(128).encode()
        };
        let args = Args::default().map(&map(da, m)).map(&map(db, n)).ptr(dc).int(m).int(n).int(k);
        let grid = [n.div_ceil(128) as u32, m.div_ceil(64) as u32, 1];
        runs(kernel, grid, 128, 24584, args, "gemm_transposed");
        for (i, c) in download::<f32>(dc, m * n).into_iter().enumerate() {
            let wanted: f64 = (0..k).map(|q| wide(a[q * m + i / n]) * wide(b[q * n + i % n])).sum();
            assert_eq!(f64::from(c), wanted, "{m} x {n} x {k}: {i}");
        }
    }
}

#[test]
fn an_operand_in_registers_is_multiplied_exactly() {
    let Some(_context) = hopper() else { return };
    let kernel = hungry(compile(&older(include_str!("../kernels/hopper/gradient.ptx"))), "gemm_registers");
    let mut rng = Rng(36);
    for [m, n, k] in [[64, 64, 64], [1, 8, 8], [77, 72, 200], [130, 136, 72]] {
        let mut whole = |count: usize| -> Vec<u16> { (0..count).map(|_| whole(&mut rng)).collect() };
        let (a, b) = (whole(m * k), whole(n * k));
        let (da, db, dc) = (upload(&a), upload(&b), upload(&vec![f32::INFINITY; m * n]));
        let map = Tensor::tiled(Kind::Bf16, db, &[k as u64, n as u64], &[64, 64]).swizzled(128);
        let args = Args::default().ptr(da).map(&map.encode()).ptr(dc).int(m).int(n).int(k);
        let grid = [n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1];
        runs(kernel, grid, 128, 24584, args, "gemm_registers");
        for (i, c) in download::<f32>(dc, m * n).into_iter().enumerate() {
            let pairs = a[i / n * k..][..k].iter().zip(&b[i % n * k..][..k]);
            let wanted: f64 = pairs.map(|(a, b)| wide(*a).max(0.0) * wide(*b)).sum();
            assert_eq!(f64::from(c), wanted, "{m} x {n} x {k}: {i}");
        }
    }
}
