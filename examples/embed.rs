//! Embedding the engine: define a network, train it on arrays of one's own, save, load, predict.
//!
//! The task is to tell horizontal, vertical and diagonal lines apart, at any position.

use mlpconv::nn::{Builder, Flatten, GlobalAvgPool, Init, MaxPool, Sequential};
use mlpconv::optim::Sgd;
use mlpconv::train::Trainer;
use mlpconv::{Cpu, Result, Shape, weights};

const SIZE: usize = 12;

/// A block, a pool, a classifying block, and the global average that NiN ends in.
fn network(backend: &Cpu<f32>, seed: u64) -> Result<Sequential<Cpu<f32>>> {
    let mut build = Builder::new(backend, Init::He, seed);
    Ok(Sequential::new()
        .push(build.nin_block(1, 16, 3, 1, 1)?)
        .push(MaxPool { window: 2, stride: 2 })
        .push(build.nin_block(16, 3, 3, 1, 1)?.with_linear_output())
        .push(GlobalAvgPool)
        .push(Flatten))
}

/// `n` images with one line each, and the kind of each line (0 to 2). Batches of different `first` differ.
fn batch(n: usize, first: usize) -> (Vec<f32>, Vec<u8>) {
    let mut images = vec![0.0; n * SIZE * SIZE];
    for (i, image) in images.chunks_mut(SIZE * SIZE).enumerate() {
        let place = (first + i) * 7 % SIZE;
        for t in 0..SIZE {
            let (row, column) = [(place, t), (t, place), (t, (place + t) % SIZE)][i % 3];
            image[row * SIZE + column] = 1.0;
        }
    }
    (images, (0..n).map(|i| (i % 3) as u8).collect())
}

fn main() -> Result<()> {
    let backend = Cpu::<f32>::new();
    let optimizer = Sgd::new(&backend).with_momentum(0.9);
    let mut trainer = Trainer::new(&backend, network(&backend, 1)?, optimizer, 1)?;
    let shape = Shape::image(36, 1, SIZE, SIZE);
    for step in 0..200 {
        let (images, labels) = batch(36, step);
        trainer.step(&images, shape, &labels, 0.05)?;
        if (step + 1) % 50 == 0 {
            let reading = trainer.reading()?;
            println!("step {:3}: loss {:.3}, accuracy {:.3}", step + 1, reading.loss, reading.accuracy);
            trainer.reset_reading()?;
        }
    }

    let file = std::env::temp_dir().join("mlpconv-embed.safetensors");
    weights::save(&backend, &trainer.net, &file)?;
    weights::load(&backend, &mut trainer.net, &file)?;
    let (images, labels) = batch(4, 1);
    let logits = trainer.predict(&images, shape.with_batch(4))?;
    println!("labels {labels:?}, logits {logits:.1?}");
    Ok(())
}
