//! Logits, gradients and losses.

use mlpconv::device::Role;
use mlpconv::nn::Module;
use mlpconv::ops::cross_entropy::Meter;
use mlpconv::optim::{AdamW, Optimizer, Sgd};
use mlpconv::train::Trainer;
use mlpconv::{Cpu, Mode, Shape, Tape};

use super::fixture::{AdamWRun, adamw_run, blank, labels, tensor};
use super::*;

/// The largest difference from PyTorch's values, relative to the largest value.
///
/// PyTorch's values are f32 sums of up to 500 products (and up to 1,352 positions in a weight's gradient). So each
/// layer adds a relative error of some √500 · 2⁻²⁴ ≈ 1.3e-6, and twelve layers, forward and backward, some √24
/// times that: 6.5e-6. A backend in f32 has an independent error of the same size.
const TOLERANCE: f64 = 1e-5;
/// The largest difference of a loss: eight times 1.2e-7, the rounding of an f32 near 2.2. The logits add less, and
/// ten steps at a rate of 0.05 add little.
const LOSS_TOLERANCE: f64 = 1e-6;

/// The network with the fixture's parameters, and its images.
fn start<B: Backend>(backend: &B) -> (Nin<B>, Vec<B::Scalar>, Shape) {
    let mut net = blank(backend, 1);
    for (name, param) in net.params_mut() {
        let values = tensor(&format!("param.{name}"));
        assert_eq!(values.dims, param.shape().dims(), "{name}");
        param.set(backend, &values.in_memory_order()).unwrap();
    }
    let x = tensor("x");
    let &[n, 1, h, w] = &x.dims[..] else { panic!("x has shape {:?}", x.dims) };
    // One channel: NCHW and NHWC are the same order.
    let images = x.values.iter().map(|&v| Real::from_f64(f64::from(v))).collect();
    (net, images, Shape::image(n, 1, h, w))
}

/// Asserts that `ours` is `theirs` within [`TOLERANCE`].
fn compare<T: Real>(what: &str, ours: &[T], theirs: &[T]) {
    let wide = |values: &[T]| values.iter().map(|&v| Real::to_f64(v)).collect::<Vec<_>>();
    let (ours, theirs) = (wide(ours), wide(theirs));
    assert_eq!(ours.len(), theirs.len(), "{what}");
    // `f64::max` ignores NaN, so it is checked here.
    assert!(ours.iter().all(|v| v.is_finite()), "{what} is not finite");
    let largest = theirs.iter().map(|v| v.abs()).fold(0.0, f64::max);
    let difference = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest;
    println!("{what:<16} {difference:.2e} of the largest, {largest:.3e}");
    assert!(difference <= TOLERANCE, "{what} is {difference:e} of its largest value off");
}

fn logits<B: Backend>(backend: &B) {
    let (net, images, shape) = start(backend);
    let trainer = Trainer::new(backend, net, Sgd::new(backend), 0).unwrap();
    let ours = trainer.predict(&images, shape).unwrap();
    compare("logits", &ours, &tensor("logits").in_memory_order());
}

fn gradients<B: Backend>(backend: &B) {
    let (net, images, shape) = start(backend);
    let mut tape = Tape::new(backend, Mode::Training { seed: 0, epoch: 0, step: 0 });
    let x = tape.constant(backend.upload(Role::Activation, &images).unwrap(), shape).unwrap();
    let logits = net.forward(&mut tape, x).unwrap();
    let mut meter = Meter::new(backend).unwrap();
    let labels = backend.upload_bytes(&labels()).unwrap();
    let loss = tape.cross_entropy(&logits, &labels, &mut meter).unwrap();
    let grads = tape.backward(loss).unwrap();
    let params = net.params();
    assert_eq!(params.len(), 24);
    for (name, param) in params {
        let ours = backend.download(grads.of_param(param).expect("a gradient")).unwrap();
        compare(&format!("grad.{name}"), &ours, &tensor(&format!("grad.{name}")).in_memory_order());
    }
}

/// Asserts that the losses before ten steps are `theirs` within `tolerance`.
fn losses<B: Backend>(
    backend: &B,
    optimizer: impl Into<Box<dyn Optimizer<B>>>,
    rate: f64,
    theirs: &[f64],
    tolerance: f64,
) {
    let (net, images, shape) = start(backend);
    let mut trainer = Trainer::new(backend, net, optimizer, 0).unwrap();
    assert_eq!(theirs.len(), 10);
    for (step, theirs) in theirs.iter().enumerate() {
        trainer.reset_reading().unwrap();
        trainer.step(&images, shape, &labels(), rate).unwrap();
        let ours = trainer.reading().unwrap().loss;
        let difference = (ours - theirs).abs();
        println!("{}, loss {step}: {ours} is {difference:.2e} off", trainer.optimizer.name());
        assert!(difference <= tolerance, "step {step}: loss {ours}, PyTorch's {theirs}");
    }
}

fn sgd_losses<B: Backend>(backend: &B) {
    let theirs: Vec<f64> = tensor("losses").values.into_iter().map(f64::from).collect();
    losses(backend, Sgd::new(backend), 0.05, &theirs, LOSS_TOLERANCE);
}

fn adamw_losses<B: Backend>(backend: &B, tolerance: f64) {
    let AdamWRun { rate, betas, eps, weight_decay, losses: theirs } = adamw_run();
    let optimizer = AdamW::new(backend).with_betas(betas).with_eps(eps).with_weight_decay(weight_decay);
    losses(backend, optimizer, rate, &theirs, tolerance);
}

#[test]
fn logits_are_pytorchs() {
    logits(&Cpu::<f64>::new());
    logits(&Cpu::<f32>::new());
}

/// On the CUDA kernels, in fp32.
#[cfg(feature = "cuda")]
#[test]
fn a_gpu_computes_and_learns_as_pytorch() {
    let Some(cuda) = crate::gpu::gpu(mlpconv::Precision::Fp32) else { return };
    logits(&*cuda);
    gradients(&*cuda);
    sgd_losses(&*cuda);
    adamw_losses(&*cuda, LOSS_TOLERANCE);
}

#[test]
fn gradients_are_pytorchs() {
    gradients(&Cpu::<f64>::new());
    gradients(&Cpu::<f32>::new());
}

#[test]
fn sgd_takes_pytorchs_path() {
    sgd_losses(&Cpu::<f64>::new());
    sgd_losses(&Cpu::<f32>::new());
}

/// PyTorch computed AdamW's losses in f64, so a backend in f64 agrees up to rounding.
#[test]
fn adamw_takes_pytorchs_path() {
    adamw_losses(&Cpu::<f64>::new(), 1e-12);
    adamw_losses(&Cpu::<f32>::new(), LOSS_TOLERANCE);
}
