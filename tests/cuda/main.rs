//! CUDA devices, and whole networks on them: on the virtual GPU or, with `MLPCONV_TESTS=real`, on the machine's own.
#![cfg(feature = "cuda")]

#[path = "../gpu/mod.rs"]
mod gpu;
#[path = "../required/mod.rs"]
mod required;

mod bits;
mod device;
mod forks;
mod network;
mod small;
mod together;

use mlpconv::device::Real;
use mlpconv::nn::Module;
use mlpconv::{Backend, Shape};

fn wide<S: Real>(values: Vec<S>) -> Vec<f64> {
    values.into_iter().map(Real::to_f64).collect()
}

/// The values of a network's parameters.
fn parameters<B: Backend<Scalar = f32>>(backend: &B, net: &impl Module<B>) -> Vec<Vec<f32>> {
    net.params().into_iter().map(|(_, param)| backend.download(param.data()).unwrap()).collect()
}

/// Grey levels that every precision stores without rounding.
fn images<S: Real>(shape: Shape) -> Vec<S> {
    let noise = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 25;
    (0..shape.len()).map(|i| S::from_f64(f64::from(noise(i)) / 128.0)).collect()
}

/// The relative error of `got`: the Euclidean distance from `want`, divided by the norm of `want`.
fn distance(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let length = norm(&mut want.iter().copied());
    assert!(length > 0.0, "there is nothing to compare with");
    norm(&mut got.iter().zip(want).map(|(a, b)| a - b)) / length
}
