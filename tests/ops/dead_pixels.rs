//! Leaving out pixels that no pool reads changes no logit, and gradients only by rounding.

use mlpconv::nn::{Builder, Flatten, GlobalAvgPool, Init, MaxPool, Module, Sequential};
use mlpconv::ops::cross_entropy::Meter;
use mlpconv::{Backend, Shape, Tape};

use crate::arithmetic::Arithmetic;
use crate::case::{self, TRAINING};

on_every_backend!(leaving_them_out_changes_nothing);

/// The logits, and the gradients of all parameters, of two blocks that are each followed by a 3×3 pool of stride 2.
/// The first pool reads 11×17 of 12×17 pixels, the second 5×7 of 5×8.
fn run<B: Backend>(backend: &B, dead_pixels: bool) -> (Vec<f64>, Vec<Vec<f64>>) {
    let mut build = Builder::new(backend, Init::He, 3).with_bias(Init::FanIn);
    let pool = MaxPool { window: 3, stride: 2 };
    let net = Sequential::new()
        .push(build.nin_block(1, 16, 5, 2, 2).unwrap())
        .push(pool)
        .push(build.nin_block(16, 24, 3, 1, 1).unwrap())
        .push(pool)
        .push(build.nin_block(24, 10, 3, 1, 1).unwrap().with_linear_output())
        .push(GlobalAvgPool)
        .push(Flatten);
    let net = if dead_pixels { net.with_dead_pixels() } else { net };
    let shape = Shape::image(3, 1, 24, 34);
    let noise = |i: usize| f64::from((i as u32).wrapping_mul(2_654_435_761) >> 25) / 128.0;
    let images: Vec<f64> = (0..shape.len()).map(noise).collect();
    let mut tape = Tape::new(backend, TRAINING);
    let x = tape.constant(case::upload(backend, shape, &images), shape).unwrap();
    let y = net.forward(&mut tape, x).unwrap();
    let logits = case::download(backend, y.shape(), y.data());
    let mut meter = Meter::new(backend).unwrap();
    let loss = tape.cross_entropy(&y, &backend.upload_bytes(&[1, 5, 8]).unwrap(), &mut meter).unwrap();
    let grads = tape.backward(loss).unwrap();
    let gradient = |param: &mlpconv::Param<B>| case::download(backend, param.shape(), grads.of_param(param).unwrap());
    (logits, net.params().into_iter().map(|(_, param)| gradient(param)).collect())
}

/// Logits have the same bits, as each computed pixel is computed in the same way. A weight's gradient is a sum over
/// fewer pixels, so in another order; `unit` is the relative rounding error of a term.
fn leaving_them_out_changes_nothing<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    // Another order of the sums may change how a gradient of an activation is rounded.
    let unit = 2f64.powi(match arithmetic {
        Arithmetic::CpuF64 => -53,
        Arithmetic::CpuF32 => -24,
        Arithmetic::CudaFp32 => -23,
        Arithmetic::CudaTf32 => -21,
        Arithmetic::CudaBf16 => -18,
    });
    let ((all, all_gradients), (read, read_gradients)) = (run(backend, true), run(backend, false));
    assert_eq!(all, read, "logits");
    assert_eq!(all_gradients.len(), 18);
    let mut different = 0;
    for (i, (all, read)) in all_gradients.iter().zip(&read_gradients).enumerate() {
        let largest = all.iter().fold(0f64, |largest, value| largest.max(value.abs()));
        assert!(largest > 0.0, "parameter {i} has no gradient");
        for (all, read) in all.iter().zip(read) {
            // A sum has up to 3·12·17 = 612 terms. Each rounding error is taken to be at most `unit` times the largest
            // sum.
            assert!((all - read).abs() <= 612.0 * unit * largest, "parameter {i}: {all} and {read}");
            different += usize::from(all != read);
        }
    }
    println!("{different} elements of gradients differ in their last bits");
}
