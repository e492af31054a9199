//! Promise 16. The learning is real: accuracy does not fall by a point.

use std::ops::ControlFlow;
use std::sync::Arc;

use mlpconv::data::{Dataset, Loader, LoaderConfig, Order, Splits, known};
use mlpconv::nn::{Builder, Flatten, GlobalAvgPool, Init, MaxPool, Sequential};
use mlpconv::optim::{AdamW, Schedule, Sgd};
use mlpconv::train::{Event, FitOptions, Run, Trainer};
use mlpconv::{Backend, Cpu, Result};

use super::place::{self, Place};
use super::promise::{kept, tries};

/// A network in network that is small enough for three seeds in a minute.
fn network<B: Backend>(backend: &B, seed: u64) -> Result<Sequential<B>> {
    let mut build = Builder::new(backend, Init::He, seed);
    let pool = MaxPool { window: 3, stride: 2 };
    Ok(Sequential::new()
        .push(build.nin_block(1, 16, 5, 2, 2)?)
        .push(pool)
        .push(build.nin_block(16, 32, 3, 1, 1)?)
        .push(pool)
        .push(build.nin_block(32, 10, 3, 1, 1)?.with_linear_output())
        .push(GlobalAvgPool)
        .push(Flatten))
}

fn splits() -> Option<Splits> {
    let folder = place::data()?;
    let source = Splits::find(&known::FASHION_MNIST, Some(&folder)).unwrap().unwrap();
    Some(Splits::read(&known::FASHION_MNIST, source).unwrap())
}

fn loader(data: &Arc<Dataset>, batch_size: usize, order: Order) -> Loader {
    Loader::new(data.clone(), LoaderConfig { batch_size, height: 28, width: 28, order }).unwrap()
}

#[test]
fn measure() {
    let Some(splits) = splits() else { return };
    let [train, test] = [splits.train, splits.test].map(Arc::new);
    let backend = Cpu::<f32>::new();
    for adamw in [true, false] {
        let mut all = Vec::new();
        for seed in 0..8 {
            let began = std::time::Instant::now();
            let net = network(&backend, seed).unwrap();
            let mut trainer = match adamw {
                true => Trainer::new(&backend, net, AdamW::new(&backend), seed).unwrap(),
                false => Trainer::new(&backend, net, Sgd::new(&backend).with_momentum(0.9), seed).unwrap(),
            };
            let rate = if adamw { 0.005 } else { 0.05 };
            let options = FitOptions { epochs: 3, rate, schedule: Schedule::Cosine { warmup: 0.1 }, report_every: 1000 };
            let mut said = Vec::new();
            let ended = trainer.fit(
                &loader(&train, 64, Order::Shuffled { seed }),
                &loader(&test, 250, Order::Sequential),
                &options,
                &mut |_, event| {
                    if let Event::Epoch { metrics, .. } = event {
                        said.push(metrics.test_accuracy);
                    }
                    Ok(ControlFlow::Continue(()))
                },
            );
            ended.unwrap();
            println!("adamw {adamw} seed {seed}: {said:?} {:?}", began.elapsed());
            all.push(*said.last().unwrap());
        }
        let mean = all.iter().sum::<f64>() / 8.0;
        let sd = (all.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / 7.0).sqrt();
        println!("mean {mean} sd {sd}");
    }
}
