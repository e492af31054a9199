//! A training step with each optimiser: the last launch is the update, and all launches before it are the same.

use mlpconv::nn::Nin;
use mlpconv::optim::{AdamW, Optimizer, Sgd};
use mlpconv::train::Trainer;
use mlpconv::{Cuda, Shape};
use serde_json::Value;

/// The kernels' names, in the order of [`run`].
const KERNELS: [&str; 3] = ["sgd", "sgd", "adamw"];

/// Runs a step of `small` with each optimiser.
pub fn run(gpu: &Cuda) -> mlpconv::Result<()> {
    let optimizers: [Box<dyn Optimizer<_>>; 3] =
        [Sgd::new(gpu).into(), Sgd::new(gpu).with_momentum(0.9).into(), AdamW::new(gpu).into()];
    for optimizer in optimizers {
        let shape = Shape::image(2, 1, 28, 28);
        let mut trainer = Trainer::new(gpu, Nin::small(gpu, 1)?, optimizer, 1)?;
        trainer.step(&vec![0.5; shape.len()], shape, &[1, 2], 0.001)?;
    }
    Ok(())
}

/// # Panics
/// If two steps differ in a launch other than the update.
pub fn check(launches: &[Value]) {
    let names: Vec<&str> = launches.iter().map(|launch| launch["kernel"].as_str().expect("a name")).collect();
    let steps: Vec<&[&str]> = names.split_inclusive(|name| KERNELS.contains(name)).collect();
    let last: Vec<&str> = steps.iter().filter_map(|step| step.last().copied()).collect();
    assert_eq!(last, KERNELS, "one update a step, its last launch");
    for step in &steps {
        assert_eq!(step[..step.len() - 1], steps[0][..steps[0].len() - 1]);
    }
}
