//! Whole kernels compiled by nvcc, compared with the same computation in Rust. No tile or block divides the shapes.

mod common;

use cudarc::driver::sys::{CUmodule, CUresult};

use common::driver::*;
use common::*;

#[track_caller]
fn runs(module: CUmodule, name: &str, grid: [u32; 3], block: [u32; 3], shared: u32, args: Args) {
    assert_eq!(run(function(module, name), grid, block, shared, &args), CUresult::CUDA_SUCCESS, "{name}");
}

fn close(found: f32, wanted: f32, bound: f32) -> bool {
    (found - wanted).abs() <= bound
}

#[test]
fn vector_add_has_the_bits_of_the_reference() {
    let _context = context();
    let module = compile(&older(include_str!("kernels/vector_add.ptx")));
    let mut rng = Rng(1);
    let n = 1237;
    let (a, b) = (rng.floats(n), rng.floats(n));
    let (da, db, dc) = (upload(&a), upload(&b), alloc(n * 4));
    let args = Args::default().ptr(da).ptr(db).ptr(dc).int(n);
    runs(module, "vector_add", [10, 1, 1], [128, 1, 1], 0, args);
    let c: Vec<f32> = download(dc, n);
    assert!((0..n).all(|i| c[i] == a[i] + b[i]));

    let args = Args::default().ptr(da).ptr(dc).int(n / 4);
    runs(module, "copy4", [3, 1, 1], [32, 1, 1], 0, args);
    assert_eq!(download::<f32>(dc, n / 4 * 4), a[..n / 4 * 4]);
}

#[test]
fn sgemm_has_the_bits_of_the_reference() {
    let _context = context();
    let module = compile(&older(include_str!("kernels/sgemm.ptx")));
    let mut rng = Rng(2);
    for (m, n, k) in [(1, 1, 1), (33, 31, 65), (70, 101, 37)] {
        let (a, b) = (rng.floats(m * k), rng.floats(k * n));
        let (da, db, dc) = (upload(&a), upload(&b), alloc(m * n * 4));
        let args = Args::default().ptr(da).ptr(db).ptr(dc).int(m).int(n).int(k);
        let grid = [n.div_ceil(32) as u32, m.div_ceil(32) as u32, 1];
        runs(module, "sgemm", grid, [256, 1, 1], 0, args);
        let c: Vec<f32> = download(dc, m * n);
        for i in 0..m * n {
            // Summed in the kernel's order, so the bits are the same.
            let sum = (0..k).fold(0f32, |sum, q| a[i / n * k + q].mul_add(b[q * n + i % n], sum));
            assert_eq!(c[i], sum, "{i}");
        }
    }
}

#[test]
fn reductions_are_within_1e_3_of_the_f64_sum() {
    let _context = context();
    let module = compile(&older(include_str!("kernels/reduce.ptx")));
    let n = 3331;
    let x = Rng(3).floats(n);
    let wanted: f64 = x.iter().map(|x| f64::from(*x)).sum();
    let dx = upload(&x);
    for (name, blocks, threads, shared) in [("reduce", 5, 96, 0), ("reduce_tree", 27, 128, 512)] {
        let sums = alloc(blocks * 4);
        let args = Args::default().ptr(dx).ptr(sums).int(n);
        runs(module, name, [blocks as u32, 1, 1], [threads, 1, 1], shared, args);
        let sum: f32 = download::<f32>(sums, blocks).iter().sum();
        assert!((f64::from(sum) - wanted).abs() < 1e-3, "{name}: {sum} {wanted}");
    }
}

#[test]
fn softmax_is_within_1e_6_of_the_reference() {
    let _context = context();
    let module = compile(&older(include_str!("kernels/softmax.ptx")));
    for (rows, cols) in [(1, 10), (7, 10), (13, 67)] {
        let x = Rng(4).floats(rows * cols);
        let (dx, dy) = (upload(&x), alloc(rows * cols * 4));
        let args = Args::default().ptr(dx).ptr(dy).int(rows).int(cols);
        runs(module, "softmax", [rows.div_ceil(3) as u32, 1, 1], [96, 1, 1], 0, args);
        let y: Vec<f32> = download(dy, rows * cols);
        for (x, y) in x.chunks(cols).zip(y.chunks(cols)) {
            let sum: f32 = x.iter().map(|x| x.exp()).sum();
            assert!(x.iter().zip(y).all(|(x, y)| close(*y, x.exp() / sum, 1e-6)));
        }
    }
}

#[test]
fn histogram_equals_the_reference() {
    let _context = context();
    let module = compile(&older(include_str!("kernels/histogram.ptx")));
    let n = 5003;
    let mut rng = Rng(5);
    let x: Vec<u8> = (0..n).map(|_| (rng.bits() & rng.bits()) as u8).collect();
    let (dx, dc) = (upload(&x), upload(&[0u32; 256]));
    let args = Args::default().ptr(dx).ptr(dc).int(n);
    runs(module, "histogram", [7, 1, 1], [96, 1, 1], 0, args);
    let mut wanted = vec![0u32; 256];
    x.iter().for_each(|x| wanted[usize::from(*x)] += 1);
    assert_eq!(download::<u32>(dc, 256), wanted);
}

#[test]
fn maxpool_returns_the_first_maximum_of_each_window() {
    let _context = context();
    let module = compile(&older(include_str!("kernels/maxpool.ptx")));
    let (n, h, w, c) = (2, 11, 9, 5);
    let (p, q) = ((h - 3) / 2 + 1, (w - 3) / 2 + 1);
    // Few distinct values, so that there are ties.
    let mut rng = Rng(6);
    let x: Vec<f32> = (0..n * h * w * c).map(|_| rng.below(4) as f32).collect();
    let total = n * p * q * c;
    let dx = upload(&x);
    let (dy, dw) = (alloc(total * 4), alloc(total));
    let args = Args::default().ptr(dx).ptr(dy).ptr(dw).int(n).int(h).int(w).int(c);
    runs(module, "maxpool", [3, 1, 1], [64, 1, 1], 0, args);
    let (y, places): (Vec<f32>, Vec<u8>) = (download(dy, total), download(dw, total));
    for i in 0..total {
        let (ch, col, row, image) = (i % c, i / c % q, i / c / q % p, i / c / q / p);
        let at = |k: usize| x[((image * h + 2 * row + k / 3) * w + 2 * col + k % 3) * c + ch];
        let first = (0..9).fold(0, |best, k| if at(k) > at(best) { k } else { best });
        assert_eq!((y[i], usize::from(places[i])), (at(first), first), "{i}");
    }
}

#[test]
fn philox_has_the_bits_of_the_reference() {
    let _context = context();
    let module = compile(&older(include_str!("kernels/philox.ptx")));
    let n = 333;
    let out = alloc(n * 16);
    let args = Args::default().ptr(out).int(0x1234_5678).int(0x9abc_def0).int(n);
    runs(module, "philox", [6, 1, 1], [64, 1, 1], 0, args);
    let found: Vec<u32> = download(out, 4 * n);
    for i in 0..n {
        let (mut c, mut key) = ([i as u32, 0, 0, 0], [0x1234_5678u32, 0x9abc_def0]);
        for _ in 0..10 {
            let (a, b) = (0xD251_1F53u64 * u64::from(c[0]), 0xCD9E_8D57u64 * u64::from(c[2]));
            c = [(b >> 32) as u32 ^ c[1] ^ key[0], b as u32, (a >> 32) as u32 ^ c[3] ^ key[1], a as u32];
            key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
        }
        assert_eq!(found[4 * i..4 * i + 4], c);
    }
}

/// The dot product, and a bound for its error in f32 for any order of summation.
fn product(a: &[f32], b: &[f32]) -> (f32, f32) {
    let terms = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
    let size: f64 = terms.clone().map(f64::abs).sum();
    (terms.sum::<f64>() as f32, (size * a.len() as f64 * 2f64.powi(-23)) as f32)
}

#[test]
fn bf16_gemm_is_within_the_f32_summation_bound() {
    let _context = context();
    let module = compile(&older(include_str!("kernels/mma.ptx")));
    let mut rng = Rng(7);
    for (m, n, k) in [(1, 1, 8), (67, 71, 104), (130, 65, 32)] {
        let mut half =
            |count: usize| -> Vec<u16> { (0..count).map(|_| (rng.float().to_bits() >> 16) as u16).collect() };
        let (a, b) = (half(m * k), half(n * k));
        let widen = |x: &[u16]| -> Vec<f32> { x.iter().map(|x| f32::from_bits(u32::from(*x) << 16)).collect() };
        let (da, db, dc) = (upload(&a), upload(&b), alloc(m * n * 4));
        let args = Args::default().ptr(da).ptr(db).ptr(dc).int(m).int(n).int(k);
        let grid = [n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1];
        runs(module, "gemm_bf16", grid, [128, 1, 1], 0, args);
        let c: Vec<f32> = download(dc, m * n);
        let (a, b) = (widen(&a), widen(&b));
        for i in 0..m * n {
            let (wanted, bound) = product(&a[i / n * k..][..k], &b[i % n * k..][..k]);
            assert!(close(c[i], wanted, bound), "{i}: {} {wanted}", c[i]);
        }
    }
}

#[test]
fn tf32_gemm_is_within_the_f32_summation_bound() {
    let _context = context();
    let module = compile(&older(include_str!("kernels/mma.ptx")));
    let mut rng = Rng(8);
    let (m, n, k) = (37, 19, 27);
    let mut tf32 =
        |count: usize| -> Vec<f32> { (0..count).map(|_| f32::from_bits(rng.float().to_bits() & !0x1fff)).collect() };
    let (a, b) = (tf32(m * k), tf32(n * k));
    let (da, db, dc) = (upload(&a), upload(&b), alloc(m * n * 4));
    let args = Args::default().ptr(da).ptr(db).ptr(dc).int(m).int(n).int(k);
    let grid = [n.div_ceil(8) as u32, m.div_ceil(16) as u32, 1];
    runs(module, "gemm_tf32", grid, [32, 1, 1], 0, args);
    let c: Vec<f32> = download(dc, m * n);
    for i in 0..m * n {
        let (wanted, bound) = product(&a[i / n * k..][..k], &b[i % n * k..][..k]);
        assert!(close(c[i], wanted, bound), "{i}: {} {wanted}", c[i]);
    }
}

#[test]
fn resize_is_within_1e_5_of_the_reference() {
    let _context = context();
    let module = compile(&older(include_str!("kernels/resize.ptx")));
    let (n, h, w, p, q) = (2, 7, 5, 17, 13);
    let mut rng = Rng(9);
    let x: Vec<u8> = (0..n * h * w).map(|_| rng.bits() as u8).collect();
    let (dx, dy) = (upload(&x), alloc(n * p * q * 4));
    let args = Args::default().ptr(dx).ptr(dy).int(n).int(h).int(w).int(p).int(q);
    runs(module, "resize", [2, 3, n as u32], [8, 8, 1], 0, args);
    let y: Vec<f32> = download(dy, n * p * q);
    for (i, y) in y.iter().enumerate() {
        let place = |at: usize, from: usize, to: usize| {
            let place = ((at as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
            (place as usize, (place as usize + 1).min(from - 1), place.fract())
        };
        let ((y0, y1, ay), (x0, x1, ax)) = (place(i / q % p, h, p), place(i % q, w, q));
        let at = |row: usize, col: usize| f64::from(x[(i / p / q * h + row) * w + col]) / 255.0;
        let mix = |a: f64, b: f64, t: f64| a * (1.0 - t) + b * t;
        let wanted = mix(mix(at(y0, x0), at(y0, x1), ax), mix(at(y1, x0), at(y1, x1), ax), ay);
        assert!((f64::from(*y) - wanted).abs() < 1e-5, "{i}: {y} {wanted}");
    }
}

#[test]
fn convolution_has_the_bits_of_the_reference() {
    let _context = context();
    let module = compile(&older(include_str!("kernels/convolution.ptx")));
    // n, h, w, c, k, r, s, stride, pad
    for [n, h, w, c, k, r, s, stride, pad] in
        [[2, 9, 7, 3, 35, 3, 3, 1, 1], [1, 11, 12, 5, 10, 5, 3, 2, 2], [3, 1, 1, 7, 13, 1, 1, 3, 0]]
    {
        let (p, q) = ((h + 2 * pad - r) / stride + 1, (w + 2 * pad - s) / stride + 1);
        let mut rng = Rng(10);
        let (x, f, bias) = (rng.floats(n * h * w * c), rng.floats(k * r * s * c), rng.floats(k));
        let (dx, df, db) = (upload(&x), upload(&f), upload(&bias));
        let dy = alloc(n * p * q * k * 4);
        let mut args = Args::default().ptr(dx).ptr(df).ptr(db).ptr(dy);
        for extent in [n, h, w, c, k, r, s, p, q, stride, pad] {
            args = args.int(extent);
        }
        let grid = [(n * p * q).div_ceil(16) as u32, k.div_ceil(32) as u32, 1];
        runs(module, "convolution", grid, [128, 1, 1], 0, args);
        let y: Vec<f32> = download(dy, n * p * q * k);
        for (i, y) in y.iter().enumerate() {
            let (ch, col, row, image) = (i % k, i / k % q, i / k / q % p, i / k / q / p);
            let mut sum = 0f32;
            for d in 0..r * s * c {
                let (h_at, w_at) =
                    ((row * stride + d / c / s).wrapping_sub(pad), (col * stride + d / c % s).wrapping_sub(pad));
                let inside = h_at < h && w_at < w;
                let v = if inside { x[((image * h + h_at) * w + w_at) * c + d % c] } else { 0.0 };
                sum = v.mul_add(f[ch * r * s * c + d], sum);
            }
            assert_eq!(*y, (sum + bias[ch]).max(0.0), "{i}");
        }
    }
}

#[test]
fn device_function_calls_equal_the_reference() {
    let _context = context();
    let module = compile(&older(include_str!("kernels/functions.ptx")));
    let n = 45;
    let a: Vec<f32> = (0..n).map(|i| (i * 7 % 11) as f32 - 2.5).collect();
    let q = vec![0.5f64; n];
    let (da, dq) = (upload(&a), upload(&q));
    let args = Args::default().ptr(da).ptr(dq).int(n);
    runs(module, "functions", [1, 1, 1], [64, 1, 1], 0, args);
    let (found, found_q): (Vec<f32>, Vec<f64>) = (download(da, n), download(dq, n));
    for i in 0..n {
        let second = (2 * i + if i % 5 == 2 { i } else { 0 }) as f32;
        let picked = if a[i] > 3.0 { a[i] * i as f32 } else { a[i] + i as f32 };
        assert_eq!(found[i], picked + second, "{i}");
        let q = if a[i] > 3.0 { 0.5 } else { f64::from(a[i]) };
        let wanted = (1e6 * q).sin() + (q.abs() + 1.0).powf(3.3);
        assert!((found_q[i] - wanted).abs() <= 1e-12 * wanted.abs().max(1.0), "{i}: {} {wanted}", found_q[i]);
    }
}
