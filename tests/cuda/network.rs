//! A training step of the book's network at each precision against `Cpu<f64>`, and steps of `small` against the CPU's.

use std::sync::OnceLock;

use mlpconv::device::Role;
use mlpconv::nn::{Module, Nin};
use mlpconv::ops::cross_entropy::Meter;
use mlpconv::optim::{Optimizer, Sgd};
use mlpconv::{Backend, Cpu, Device, Mode, Precision, Shape, Tape};

use crate::gpu::gpu;
use crate::small::{RATE, sgd, train};
use crate::{distance, images, wide};

/// The results of a training step.
struct Step {
    loss: f64,
    logits: Vec<f64>,
    /// For each parameter: its name, its gradient, and its values after the update.
    params: Vec<(String, Vec<f64>, Vec<f64>)>,
}

/// Forward, all gradients and one update of the book's network at its own size.
fn step<B: Backend>(backend: &B) -> Step {
    let (shape, labels) = (Shape::image(2, 1, 224, 224), [3, 7]);
    let mut net = Nin::d2l(backend, 3).unwrap();
    let mut tape = Tape::new(backend, Mode::Training { seed: 3, epoch: 1, step: 2 });
    let x = tape.constant(backend.upload(Role::Activation, &images(shape)).unwrap(), shape).unwrap();
    let y = net.forward(&mut tape, x).unwrap();
    let logits = wide(backend.download(y.data()).unwrap());
    let mut meter = Meter::new(backend).unwrap();
    let loss = tape.cross_entropy(&y, &backend.upload_bytes(&labels).unwrap(), &mut meter).unwrap();
    drop(y);
    let grads = tape.backward(loss).unwrap();
    let gradients: Vec<Vec<f64>> = net
        .params()
        .into_iter()
        .map(|(_, param)| wide(backend.download(grads.of_param(param).expect("a gradient")).unwrap()))
        .collect();
    Sgd::new(backend).step(net.params_mut(), &grads, 0.1).unwrap();
    let updated = net.params().into_iter().zip(gradients);
    let params = updated.map(|((name, param), g)| (name, g, wide(backend.download(param.data()).unwrap()))).collect();
    Step { loss: meter.read(backend).unwrap().loss, logits, params }
}

/// The relative error of a layer's output at a precision: that of rounding a product's operands, or of its sums.
fn unit(precision: Precision) -> f64 {
    match precision {
        Precision::Fp32 => 2f64.powi(-24),
        Precision::Tf32 => 2f64.powi(-12),
        Precision::Bf16 => 2f64.powi(-9),
    }
}

/// The limit of the relative error after twelve layers. Each adds an independent error of [`unit`], together √12 of
/// it; the limit is twice that.
fn forward_limit(precision: Precision) -> f64 {
    2.0 * 12f64.sqrt() * unit(precision)
}

/// The limit of the relative error of a gradient that has passed `branches` ReLUs and pools, the nearest to the
/// parameter included. If the inputs of a ReLU or pool have a relative error u, about a share u of its elements takes
/// the other branch, and their gradients are entirely different. That is a relative error of √u at each, and the
/// squares add up. The limit is twice the root of their sum. In a deep network this exceeds the error of rounding
/// itself.
fn backward_limit(precision: Precision, branches: usize) -> f64 {
    2.0 * (branches as f64 * unit(precision)).sqrt()
}

/// The ReLUs and pools from a parameter's layer to the loss.
fn branches(name: &str) -> usize {
    let numbers: Vec<usize> = name.split('.').filter_map(|part| part.parse().ok()).collect();
    let &[block, layer] = &numbers[..] else { panic!("{name} is not a parameter of a block") };
    // Blocks are modules 0, 2, 4 and 7, with a pool after each but the last; their convolutions are layers 0, 2 and 4.
    let after = [0, 2, 4, 7].iter().filter(|later| **later > block).count();
    (3 - layer / 2) + 3 * after + after
}

fn the_books_network_at(precision: Precision) {
    static WANT: OnceLock<Step> = OnceLock::new();
    let Some(cuda) = gpu(precision) else { return };
    let (want, got) = (WANT.get_or_init(|| step(&Cpu::<f64>::new())), step(&*cuda));
    let (off, limit) = (distance(&got.logits, &want.logits), forward_limit(precision));
    println!("{precision}: logits {off:.1e} (limit {limit:.1e}), loss {} and {}", got.loss, want.loss);
    assert!(off <= limit, "{precision}: the logits are {off:e} off");
    assert!((got.loss - want.loss).abs() <= limit, "{precision}: loss {} and {}", got.loss, want.loss);
    assert_eq!(want.params.len(), 24);
    for ((name, gradient, updated), (_, right_gradient, right_updated)) in got.params.iter().zip(&want.params) {
        let (off, limit) = (distance(gradient, right_gradient), backward_limit(precision, branches(name)));
        let moved = distance(updated, right_updated);
        println!("{precision}: {name:<12} gradient {off:.1e} (limit {limit:.1e}), updated {moved:.1e}");
        assert!(off <= limit, "{precision}: the gradient of {name} is {off:e} off, not {limit:e}");
        // The update is 0.1 of the gradient, so it adds 0.1 of the gradient's error, and one rounding of the parameter.
        let length = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
        let limit = 0.1 * off * length(right_gradient) / length(right_updated) + 2f64.powi(-23);
        assert!(moved <= limit, "{precision}: {name} is {moved:e} off after the update, not {limit:e}");
    }
}

#[test]
fn the_books_network_in_fp32() {
    the_books_network_at(Precision::Fp32);
}

#[test]
fn the_books_network_in_tf32() {
    the_books_network_at(Precision::Tf32);
}

#[test]
fn the_books_network_in_bf16() {
    the_books_network_at(Precision::Bf16);
}

/// The losses of `small` on a GPU are the CPU's up to rounding, as the same seed gives the same batches and dropout.
/// Rounding changes a loss by the error of a forward pass, and each update by the error of a gradient, which momentum
/// lets grow by about a third from step to step.
#[test]
fn small_learns_as_on_the_cpu() {
    let steps = 14;
    let (want, _) = train(&Cpu::<f32>::new(), sgd(&Cpu::new()), steps);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&want[steps - 5..]) < mean(&want[..5]) - 0.02, "there should be something to learn: {want:?}");
    for precision in Precision::ALL {
        let Some(cuda) = gpu(precision) else { return };
        let (got, _) = train(&*cuda, sgd(&*cuda), steps);
        for (step, (got, want)) in got.iter().zip(&want).enumerate() {
            let updates = RATE * unit(precision).sqrt() * (4f64 / 3.0).powi(step as i32);
            let limit = want * (forward_limit(precision) + updates);
            println!("{precision}, step {step}: {got:.7}, {:.1e} off (limit {limit:.1e})", (got - want).abs());
            assert!((got - want).abs() <= limit, "{precision}, step {step}: loss {got}, the CPU's {want}");
        }
    }
}

#[test]
fn initial_values_do_not_depend_on_the_device() {
    let Some(cuda) = gpu(Precision::Bf16) else { return };
    let (a, b) = (Nin::small(&*cuda, 9).unwrap(), Nin::small(&Cpu::<f32>::new(), 9).unwrap());
    for ((name, a), (_, b)) in a.params().into_iter().zip(b.params()) {
        assert!(cuda.download(a.data()).unwrap() == b.data()[..], "{name}");
    }
}
