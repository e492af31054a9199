//! Trains `small` for some steps, on batches from the host or on data in device memory.

use std::sync::Arc;

use mlpconv::data::{Dataset, Loader, LoaderConfig, Order};
use mlpconv::nn::Nin;
use mlpconv::optim::{Optimizer, Sgd};
use mlpconv::train::{Position, Resident, Trainer};
use mlpconv::{Backend, Shape};

use crate::parameters;

/// A learnable data set of `n` images: each class is a bar at a position of its own, under noise.
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

/// Three batches of eight images an epoch, the last of them short.
pub fn loader() -> Loader {
    let config = LoaderConfig { batch_size: 8, height: 28, width: 28, order: Order::Shuffled { seed: 5 } };
    Loader::new(dataset(21), config).unwrap()
}

/// The losses of `steps` steps of `small` with shuffling and dropout, and the parameters after them.
pub fn train<B: Backend<Scalar = f32>>(
    backend: &B,
    optimizer: impl Into<Box<dyn Optimizer<B>>>,
    steps: usize,
) -> (Vec<f64>, Vec<Vec<f32>>) {
    let loader = loader();
    let net = Nin::small(backend, 5).unwrap();
    let mut trainer = Trainer::new(backend, net, optimizer, 5).unwrap();
    let mut losses = Vec::new();
    for epoch in 0.. {
        trainer.position = Position { epoch, step: 0 };
        for batch in loader.epoch(epoch).unwrap().take(steps - losses.len()) {
            trainer.reset_reading().unwrap();
            trainer
                .step(&batch.images, Shape::image(batch.len(), 1, 28, 28), &batch.labels, RATE / f64::from(epoch + 1))
                .unwrap();
            losses.push(trainer.reading().unwrap().loss);
        }
        if losses.len() == steps {
            break;
        }
    }
    (losses, parameters(backend, &trainer.net))
}

/// Of the first epoch; that of epoch e is divided by e + 1.
pub const RATE: f64 = 0.005;

/// SGD with the momentum of `small`'s recipe.
pub fn sgd<B: Backend>(backend: &B) -> Sgd<B> {
    Sgd::new(backend).with_momentum(0.9)
}

/// Trains on a data set in device memory. Returns the loss of each step, and the parameters in the end. From the third
/// run of a batch size on, a step is a replay.
pub fn train_resident<B: Backend<Scalar = f32>>(
    backend: &B,
    optimizer: impl Into<Box<dyn Optimizer<B>>>,
    steps: usize,
) -> (Vec<f64>, Vec<Vec<f32>>) {
    let net = Nin::small(backend, 5).unwrap();
    let mut trainer = Trainer::new(backend, net, optimizer, 5).unwrap();
    let data = Resident::new(backend, loader()).unwrap();
    let mut losses = Vec::new();
    for epoch in 0.. {
        trainer.position = Position { epoch, step: 0 };
        for _ in 0..data.loader().steps().min(steps - losses.len()) {
            trainer.reset_reading().unwrap();
            assert!(trainer.step_resident(&data, RATE / f64::from(epoch + 1)).unwrap() > 0);
            losses.push(trainer.reading().unwrap().loss);
        }
        if losses.len() == steps {
            break;
        }
    }
    (losses, parameters(backend, &trainer.net))
}
