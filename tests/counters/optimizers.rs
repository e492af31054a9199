//! A training step with each optimiser: the last launch is the update, or after it that of the averages, and all launches before
//! it are the same.

use mlpconv::nn::Nin;
use mlpconv::optim::{AdamW, Average, Averaging, Optimizer, Sgd};
use mlpconv::train::Trainer;
use mlpconv::{Cuda, Shape};
use serde_json::Value;

/// The updates' kernels, in the order of [`run`].
const KERNELS: [&str; 4] = ["sgd", "sgd", "adamw", "sgd"];
/// The launch after the last one.
const AVERAGE: [&str; 1] = ["average"];

/// Runs a step of `small` with each optimiser.
pub fn run(gpu: &Cuda) -> mlpconv::Result<()> {
    let optimizers: [Box<dyn Optimizer<_>>; 4] = [
        Sgd::new(gpu).into(),
        Sgd::new(gpu).with_momentum(0.9).into(),
        AdamW::new(gpu).into(),
        Averaging::new(gpu, Sgd::new(gpu), Average::Tail(1.0)).into(),
    ];
    for optimizer in optimizers {
        let shape = Shape::image(2, 1, 28, 28);
        let mut trainer = Trainer::new(gpu, Nin::small(gpu, 1)?, optimizer, 1)?;
        trainer.step(&vec![0.5; shape.len()], shape, &[1, 2], 0.001)?;
    }
    Ok(())
}

/// # Panics
/// If two steps differ in a launch other than the update and the averages.
pub fn check(launches: &[Value]) {
    let names: Vec<&str> = launches.iter().map(|launch| launch["kernel"].as_str().expect("a name")).collect();
    let mut steps: Vec<&[&str]> = names.split_inclusive(|name| KERNELS.contains(name)).collect();
    assert_eq!(steps.pop(), Some(&AVERAGE[..]), "one launch for all averages");
    let last: Vec<&str> = steps.iter().filter_map(|step| step.last().copied()).collect();
    assert_eq!(last, KERNELS, "one update a step, its last launch");
    for step in &steps {
        assert_eq!(step[..step.len() - 1], steps[0][..steps[0].len() - 1]);
    }
}
