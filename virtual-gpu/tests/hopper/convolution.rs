//! A convolution whose images are loaded by an im2col map: `kernels/hopper/convolution.cu`.

use super::*;

#[test]
fn convolution_by_im2col_is_exact_for_whole_numbers() {
    let Some(_context) = hopper() else { return };
    let kernel = hungry(compile(&older(include_str!("../kernels/hopper/convolution.ptx"))), "convolution");
    let mut rng = Rng(34);
    // n, h, w, c, k, r, s, stride, pad, dilation
    for [n, h, w, c, k, r, s, stride, pad, dilation] in [
        [1, 8, 8, 64, 64, 1, 1, 1, 0, 1],
        [2, 9, 7, 8, 10, 3, 3, 1, 1, 1],
        [3, 11, 12, 24, 70, 5, 3, 2, 2, 1],
        [2, 13, 10, 72, 33, 3, 3, 1, 2, 2],
        [7, 1, 1, 16, 5, 3, 3, 1, 1, 1],
        [1, 10, 9, 8, 3, 2, 2, 3, 0, 1],
        [5, 4, 4, 136, 129, 1, 1, 2, 0, 1],
    ] {
        let out = |extent: usize, taps: usize| (extent + 2 * pad - (taps - 1) * dilation - 1) / stride + 1;
        let (p, q) = (out(h, r), out(w, s));
        let mut whole = |count: usize| -> Vec<u16> { (0..count).map(|_| whole(&mut rng)).collect() };
        let (x, f) = (whole(n * h * w * c), whole(k * r * s * c));
        let (dx, df) = (upload(&x), upload(&f));
        let dy = upload(&vec![f32::INFINITY; n * p * q * k]);
        let low = -(pad as i32);
        let up = [s, r].map(|taps| pad as i32 - ((taps - 1) * dilation) as i32);
        let images = [c, w, h, n].map(|extent| extent as u64);
        let images = Tensor::im2col(Kind::Bf16, dx, &images, (&[low, low], &up), (64, 64));
        let images = images.stepped(&[1, stride as u32, stride as u32, 1]).swizzled(128);
        let filters = [c, r * s, k].map(|extent| extent as u64);
        let filters = Tensor::tiled(Kind::Bf16, df, &filters, &[64, 1, 64]).swizzled(128);
        let mut args = Args::default().map(&images.encode()).map(&filters.encode()).ptr(dy);
        for extent in [n * p * q, k, c, p, q, r, s, stride, pad, dilation] {
            args = args.int(extent);
        }
        let what = format!("n {n} h {h} w {w} c {c} k {k} r {r} s {s} stride {stride} pad {pad} dilation {dilation}");
        let grid = [k.div_ceil(64) as u32, (n * p * q).div_ceil(64) as u32, 1];
        runs(kernel, grid, 128, 32784, args, &what);
        for (i, y) in download::<f32>(dy, n * p * q * k).into_iter().enumerate() {
            let (ch, column, line, image) = (i % k, i / k % q, i / k / q % p, i / k / q / p);
            let mut wanted = 0.0;
            for tap in 0..r * s {
                let row = (line * stride + tap / s * dilation).wrapping_sub(pad);
                let at = (column * stride + tap % s * dilation).wrapping_sub(pad);
                if row < h && at < w {
                    let pixel = &x[((image * h + row) * w + at) * c..][..c];
                    let filter = &f[(ch * r * s + tap) * c..][..c];
                    wanted += pixel.iter().zip(filter).map(|(x, f)| wide(*x) * wide(*f)).sum::<f64>();
                }
            }
            assert_eq!(f64::from(y), wanted, "{what}: {i}");
        }
    }
}
