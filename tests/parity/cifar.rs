//! The paper's network at its own size: the layers of a block differ in width, and images have three channels.

use std::collections::BTreeMap;

use mlpconv::device::Role;
use mlpconv::nn::Module;
use mlpconv::ops::cross_entropy::Meter;
use mlpconv::{Cpu, Mode, Shape, Tape};
use serde::Deserialize;

use super::*;

/// The fixture that tests/pytorch/make_cifar_fixture.py writes.
#[derive(Deserialize)]
struct Fixture {
    labels: Vec<u8>,
    logits: Vec<f64>,
    loss: f64,
    gradients: BTreeMap<String, Gradient>,
}

/// The gradient of a parameter: its sum, its norm, and samples.
#[derive(Deserialize)]
struct Gradient {
    sum: f64,
    norm: f64,
    /// The values at the script's places, which are in PyTorch's layout.
    values: Vec<f64>,
}

/// Element `i` of tensor `tensor`, in [-1, 1): the formula of the script.
fn noise(tensor: u32, i: usize) -> f64 {
    let mut word = (i as u32).wrapping_add(tensor.wrapping_mul(0x9e37_79b9));
    for (shift, factor) in [(16, 0x85eb_ca6b), (13, 0xc2b2_ae35)] {
        word = (word ^ (word >> shift)).wrapping_mul(factor);
    }
    word ^= word >> 16;
    f64::from(word >> 8) / f64::from(1u32 << 23) - 1.0
}

/// The memory index (NHWC, KRSC) of element `i` in PyTorch's order (NCHW, OIHW).
fn place(dims: &[usize], i: usize) -> usize {
    let &[_, c, h, w] = dims else { return i };
    let (outer, channel, inner) = (i / (c * h * w), i / (h * w) % c, i % (h * w));
    (outer * h * w + inner) * c + channel
}

/// Rounds values to f32 and brings them from PyTorch's order into memory order.
fn in_memory_order<T: Real>(dims: &[usize], value: impl Fn(usize) -> f64) -> Vec<T> {
    let mut out = vec![T::from_f64(0.0); dims.iter().product()];
    (0..out.len()).for_each(|i| out[place(dims, i)] = T::from_f64(f64::from(value(i) as f32)));
    out
}

/// Compares a step on `backend`, whose sums have a relative error of `unit` for each term. A logit passes nine
/// layers of sums. A ReLU or a maximum may take the other branch where its inputs are as close to a tie as their
/// error, for a share of about `unit` of its elements. Each of the ten in a row adds a relative error of √`unit`
/// to a gradient. The squares add up, and the limit is twice the root of their sum.
fn check<B: Backend>(backend: &B, unit: f64) {
    let fixture: Fixture = serde_json::from_str(include_str!("../fixtures/parity/cifar.json")).unwrap();
    let mut net = Nin::cifar_with_dropout(backend, 1, 3, 10, 0.0).unwrap();
    for (tensor, (_, param)) in (1..).zip(net.params_mut()) {
        let dims = param.shape().dims().to_vec();
        let bound = match dims[..] {
            [_] => 0.05,
            _ => (6.0 / dims[1..].iter().product::<usize>() as f64).sqrt(),
        };
        param.set(backend, &in_memory_order(&dims, |i| bound * noise(tensor, i))).unwrap();
    }
    let shape = Shape::image(2, 3, 32, 32);
    let images: Vec<B::Scalar> = in_memory_order(shape.dims(), |i| 0.5 + 0.5 * noise(0, i));

    let mut tape = Tape::new(backend, Mode::Training { seed: 0, epoch: 0, step: 0 });
    let x = tape.constant(backend.upload(Role::Activation, &images).unwrap(), shape).unwrap();
    let logits = net.forward(&mut tape, x).unwrap();
    let ours: Vec<f64> = backend.download(logits.data()).unwrap().into_iter().map(Real::to_f64).collect();
    let forward = 2.0 * 9f64.sqrt() * unit * fixture.logits.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
    for (ours, theirs) in ours.iter().zip(&fixture.logits) {
        assert!((ours - theirs).abs() <= forward, "logit {ours}, PyTorch's {theirs}");
    }
    let mut meter = Meter::new(backend).unwrap();
    let labels = backend.upload_bytes(&fixture.labels).unwrap();
    let loss = tape.cross_entropy(&logits, &labels, &mut meter).unwrap();
    drop(logits);
    let grads = tape.backward(loss).unwrap();
    let loss = meter.read(backend).unwrap().loss;
    assert!((loss - fixture.loss).abs() <= forward.max(1e-6), "loss {loss}, PyTorch's {}", fixture.loss);

    let params = net.params();
    assert_eq!((params.len(), fixture.gradients.len()), (18, 18));
    let limit = 2.0 * (10.0 * unit).sqrt();
    for (name, param) in params {
        let theirs = &fixture.gradients[&name];
        let shape = param.shape();
        let dims = shape.dims();
        let memory = backend.download(grads.of_param(param).expect("a gradient")).unwrap();
        let ours: Vec<f64> = (0..memory.len()).map(|i| Real::to_f64(memory[place(dims, i)])).collect();
        let norm = ours.iter().map(|v| v * v).sum::<f64>().sqrt();
        // The error of a sum of n gradients, each of which may be off by its share of the norm.
        let sum = (ours.iter().sum::<f64>() - theirs.sum).abs() / (theirs.norm * (ours.len() as f64).sqrt());
        let norm = (norm - theirs.norm).abs() / theirs.norm;
        let count = theirs.values.len();
        let sampled = (0..count).map(|i| ours[i * 104_729 % ours.len()] - theirs.values[i]);
        let off = sampled.map(|v| v * v).sum::<f64>().sqrt();
        let length = theirs.values.iter().map(|v| v * v).sum::<f64>().sqrt();
        let off = off / length;
        println!("{name:<12} values {off:.1e}, norm {norm:.1e}, sum {sum:.1e} (limit {limit:.1e})");
        assert!(off <= limit, "{name}: values are {off:e} off");
        assert!(norm <= limit && sum <= limit, "{name}: norm {norm:e} and sum {sum:e} off");
    }
}

/// In f64 no branch is taken differently: the only error is that of the order of sums.
#[test]
fn a_step_is_pytorchs_on_a_cpu() {
    check(&Cpu::<f64>::new(), 2f64.powi(-53));
    check(&Cpu::<f32>::new(), 2f64.powi(-24));
}

/// On the CUDA kernels, in fp32.
#[cfg(feature = "cuda")]
#[test]
fn a_step_is_pytorchs_on_a_gpu() {
    let Some(cuda) = crate::gpu::gpu(mlpconv::Precision::Fp32) else { return };
    check(&*cuda, 2f64.powi(-24));
}
