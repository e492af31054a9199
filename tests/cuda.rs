//! Whole networks on the CUDA kernels: a training step of the book's network in each precision against `Cpu<f64>`, twenty
//! steps of `small` beside the CPU's, the same bits every time, and no allocation in the steady state.
#![cfg(feature = "cuda")]

mod gpu;

use std::sync::Arc;

use mlpconv::data::{Dataset, Loader, LoaderConfig, Order};
use mlpconv::device::{Real, Role};
use mlpconv::nn::{Init, Module, Nin, Summary};
use mlpconv::ops::cross_entropy::Meter;
use mlpconv::optim::Sgd;
use mlpconv::train::{Preset, Trainer};
use mlpconv::{Backend, Cpu, Cuda, Device, Mode, Precision, Shape, Tape};

/// What a step of training came to.
struct Step {
    loss: f64,
    logits: Vec<f64>,
    /// Of each parameter: its name, its gradient, and its values after the update.
    params: Vec<(String, Vec<f64>, Vec<f64>)>,
}

fn wide<S: Real>(values: Vec<S>) -> Vec<f64> {
    values.into_iter().map(Real::to_f64).collect()
}

/// Grey levels that every precision stores as they are.
fn images<S: Real>(shape: Shape) -> Vec<S> {
    let noise = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 25;
    (0..shape.len()).map(|i| S::from_f64(f64::from(noise(i)) / 128.0)).collect()
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

/// The distance of `got` from `want` over the length of `want`, as vectors.
fn distance(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let length = norm(&mut want.iter().copied());
    assert!(length > 0.0, "there is nothing to compare with");
    norm(&mut got.iter().zip(want).map(|(a, b)| a - b)) / length
}

/// Where the numbers that decide a ReLU's or a pool's branch differ by a relative δ, about a share δ of the branches is taken
/// the other way, and what flows back through those is another gradient altogether: a relative error of √δ. That is
/// more than rounding itself adds, so it decides what the gradients of a deep network can agree to.
fn tolerance(precision: Precision) -> (f64, f64) {
    // Relative error of a product's operand, twelve layers deep, errors adding as squares.
    let unit: f64 = match precision {
        Precision::Fp32 => 2f64.powi(-24),
        Precision::Tf32 => 2f64.powi(-12),
        Precision::Bf16 => 2f64.powi(-9),
    };
    let forward = 2.0 * unit * 12f64.sqrt() * 4.0;
    (forward, forward.sqrt())
}

fn the_books_network_at(precision: Precision) {
    let Some(cuda) = gpu::cuda(precision) else { return };
    let (want, got) = (step(&Cpu::<f64>::new()), step(&cuda));
    let (forward, backward) = tolerance(precision);
    let off = distance(&got.logits, &want.logits);
    println!("{precision}: logits {off:.1e} (limit {forward:.1e}), loss {} and {}", got.loss, want.loss);
    assert!(off <= forward, "{precision}: the logits are {off:e} off");
    assert!((got.loss - want.loss).abs() <= 10.0 * forward, "{precision}: loss {} and {}", got.loss, want.loss);
    assert_eq!(want.params.len(), 24);
    for ((name, gradient, updated), (_, right_gradient, right_updated)) in got.params.iter().zip(&want.params) {
        let off = distance(gradient, right_gradient);
        let moved = distance(updated, right_updated);
        println!("{precision}: {name:<12} gradient {off:.1e} (limit {backward:.1e}), updated {moved:.1e}");
        assert!(off <= backward, "{precision}: the gradient of {name} is {off:e} off");
        // An update is as wrong as its gradient: by a tenth of it.
        let length = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
        let limit = 0.1 * off * length(right_gradient) / length(right_updated) + 2f64.powi(-22);
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

/// A data set of `n` images with something to learn: each class is a bar at a place of its own, under noise.
fn dataset(n: usize) -> Arc<Dataset> {
    let noise = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 26) as u8;
    let pixel = |i: usize| {
        let (image, row) = (i / 784, i % 784 / 28);
        let lit = row / 2 == image % 10 + 2;
        noise(i) + if lit { 190 } else { 0 }
    };
    let labels = (0..n).map(|i| (i % 10) as u8).collect();
    Arc::new(Dataset::new((0..n * 784).map(pixel).collect(), labels, 28, 28, 10).unwrap())
}

const STEPS: usize = 20;

/// The losses of [`STEPS`] steps of `small` with its recipe's momentum, shuffling and dropout, and the parameters after them.
fn train<B: Backend<Scalar = f32>>(backend: &B) -> (Vec<f64>, Vec<Vec<f32>>) {
    let batch_size = 16;
    let config = LoaderConfig { batch_size, height: 28, width: 28, order: Order::Shuffled { seed: 5 } };
    let loader = Loader::new(dataset(10 * batch_size), config).unwrap();
    let net = Nin::small(backend, 5).unwrap();
    let mut trainer = Trainer::new(backend, net, Sgd::new(backend).with_momentum(0.9), 5).unwrap();
    let mut losses = Vec::new();
    for epoch in 0..STEPS / loader.steps() {
        trainer.position.epoch = epoch as u32;
        trainer.position.step = 0;
        for batch in loader.epoch(epoch as u32).unwrap() {
            trainer.reset_reading().unwrap();
            trainer.step(&batch.images, Shape::image(batch.len(), 1, 28, 28), &batch.labels, 0.01).unwrap();
            losses.push(trainer.reading().unwrap().loss);
        }
    }
    let params = trainer.net.params().into_iter().map(|(_, param)| backend.download(param.data()).unwrap()).collect();
    (losses, params)
}

/// The same seed gives the same batches and the same dropout; what is left is rounding, which grows from step to step.
#[test]
fn small_learns_as_on_the_cpu() {
    let (want, _) = train(&Cpu::<f32>::new());
    assert!(want[STEPS - 1] < want[0] - 0.05, "there should be something to learn: {want:?}");
    for precision in Precision::ALL {
        let Some(cuda) = gpu::cuda(precision) else { return };
        let (got, _) = train(&cuda);
        let (forward, _) = tolerance(precision);
        for (step, (got, want)) in got.iter().zip(&want).enumerate() {
            // Each step starts from parameters that are off by what all steps before it have added.
            let limit = forward * (step + 1) as f64;
            println!("{precision}, step {step}: {got:.6} and {want:.6}, limit {limit:.1e}");
            assert!((got - want).abs() <= limit, "{precision}, step {step}: loss {got}, the CPU's {want}");
        }
    }
}

#[test]
fn two_runs_give_the_same_bits() {
    for precision in Precision::ALL {
        let Some(cuda) = gpu::cuda(precision) else { return };
        assert!(train(&cuda) == train(&cuda), "{precision}");
    }
}

/// A device of the test's own, so that nobody else's buffers are counted.
fn own(precision: Precision) -> Option<Cuda> {
    gpu::cuda(precision)?;
    Some(Cuda::new(0, precision).unwrap())
}

#[test]
fn a_step_takes_no_memory_once_it_has_run() {
    for precision in Precision::ALL {
        let Some(cuda) = own(precision) else { return };
        let net = Nin::small(&cuda, 1).unwrap();
        let mut trainer = Trainer::new(&cuda, net, Sgd::new(&cuda).with_momentum(0.9), 1).unwrap();
        let shape = Shape::image(4, 1, 28, 28);
        let mut step = || trainer.step(&images(shape), shape, &[1, 2, 3, 4], 0.01).unwrap();
        step();
        step();
        let settled = cuda.memory();
        step();
        step();
        assert_eq!(cuda.memory(), settled, "{precision}");
    }
}

/// What `mlpconv summary` promises of memory, against what the buffers of a step really held.
#[test]
fn predicted_memory_is_what_a_step_takes() {
    for precision in Precision::ALL {
        let Some(cuda) = own(precision) else { return };
        let (config, batch) = (Preset::Small.config(), 8);
        let net = Preset::Small.net(&cuda, 1).unwrap();
        let shape = Shape::image(batch, 1, 28, 28);
        let summary = Summary::new(&net, shape).unwrap();
        let mut trainer = Trainer::new(&cuda, net, config.optimizer(&cuda), 1).unwrap();
        trainer.step(&images(shape), shape, &vec![3; batch], 0.001).unwrap();
        let measured = cuda.memory().peak as f64;
        let predicted = summary.training_bytes(precision.activation_width(), config.momentum > 0.0) as f64;
        println!("{precision}: predicted {predicted:.3e}, measured {measured:.3e}");
        // Besides, there are the partial sums of one weight's gradient at a time.
        assert!(predicted <= measured * 1.02, "{precision}: predicted {predicted:.3e}, measured {measured:.3e}");
        assert!(measured <= 2.0 * predicted + 4e6, "{precision}: predicted {predicted:.3e}, measured {measured:.3e}");
    }
}

#[test]
fn initial_values_do_not_depend_on_the_device() {
    let Some(cuda) = gpu::cuda(Precision::Bf16) else { return };
    let _ = Init::He;
    let (a, b) = (Nin::small(&cuda, 9).unwrap(), Nin::small(&Cpu::<f32>::new(), 9).unwrap());
    for ((name, a), (_, b)) in a.params().into_iter().zip(b.params()) {
        assert!(cuda.download(a.data()).unwrap() == b.data()[..], "{name}");
    }
}
