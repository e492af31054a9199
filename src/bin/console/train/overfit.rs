//! `--overfit-batch`: whether the network can learn one batch by heart, which any network that learns at all can.

use std::process::ExitCode;

use mlpconv::data::Augmentation;
use mlpconv::nn::{Layer, Module, Op};
use mlpconv::optim::Average;
use mlpconv::tape::Param;
use mlpconv::train::TrainConfig;
use mlpconv::{Backend, Result, Shape};

use super::in_shards;
use super::init::begin_with;
use super::options::TrainArgs;
use super::prepared::Prepared;
use crate::console::{grouped, output, say};

/// The loss below which a batch is known by heart: the network gives each label a probability of 98 % in the geometric mean.
const LEARNED: f64 = 0.02;

/// The divisor of the settings' rate. Recipes are made for dropout and ever new batches; on one batch without dropout the
/// rate of `small` makes momentum overshoot until ReLUs die.
const SLOWER: f64 = 5.0;

/// A network without its dropout. Dropout is there to prevent what is asked for here.
struct WithoutDropout<N>(N);

impl<B: Backend, N: Module<B>> Module<B> for WithoutDropout<N> {
    fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, B>>) {
        let first = layers.len();
        self.0.layers(path, layers);
        let own = layers.split_off(first);
        layers.extend(own.into_iter().filter(|layer| !matches!(layer.op, Op::Dropout(_))));
    }

    fn params(&self) -> Vec<(String, &Param<B>)> {
        self.0.params()
    }

    fn params_mut(&mut self) -> Vec<(String, &mut Param<B>)> {
        self.0.params_mut()
    }
}

/// Trains on the first batch of the first epoch, until the network knows it or `steps` steps are done. Says which. Every
/// step has the same batch, at the same rate: that of `--lr`, or a fifth of the settings'.
///
/// # Errors
/// As training.
pub fn overfit<B: Backend<Scalar = f32>>(
    args: &TrainArgs,
    config: &TrainConfig,
    prepared: Prepared<'_, B>,
    backend: &B,
    steps: u32,
) -> Result<ExitCode> {
    let Prepared { data, mut net, steps: memory, .. } = prepared;
    let data = data.load()?;
    say(format_args!("data     {} in {}", data.title, data.source));
    // The order is that of training, since a folder's images are sorted by class; the images are as they are.
    let [train, _] = config.divided(data.train, data.test.into())?;
    let loader = config.train_loader(train)?.with_augmentation(Augmentation::none(config.seed))?;
    begin_with(config, backend, &mut net, &loader)?.iter().for_each(say);
    let Some(batch) = loader.epoch(0)?.next() else { unreachable!("a loader has images") };
    let classes = loader.dataset().classes();
    let shape = Shape::image(batch.len(), loader.dataset().channels(), config.resize, config.resize);
    let rate = args.optimizer.lr.unwrap_or(config.learning_rate / SLOWER);
    let (images, most) = (grouped(batch.len()), grouped(steps as usize));
    say(format_args!(
        "batch    {images} images{}, the same in each step, at rate {rate}, without dropout and weight decay; {most} steps at most",
        in_shards(config.shards)
    ));

    let settings = TrainConfig { weight_decay: 0.0, label_smoothing: 0.0, average: Average::None, ..config.clone() };
    let mut trainer = settings.trainer(backend, WithoutDropout(net))?;
    trainer.divide(&settings.division(), None)?;
    let every = args.process.log_every.unwrap_or(steps as usize / 20).max(1);
    let mut last = None;
    for step in 1..=steps {
        trainer.reset_reading()?;
        trainer.step(&batch.images, shape, &batch.labels, rate).map_err(|error| memory.explain(backend, error))?;
        let reading = trainer.reading()?;
        let learned = reading.loss < LEARNED && reading.accuracy == 1.0;
        if learned || step == 1 || (step as usize).is_multiple_of(every) || step == steps {
            say(format_args!("step {step}/{steps}: loss {:.4}, accuracy {:.3}", reading.loss, reading.accuracy));
        }
        if let Some(error) = output::failure() {
            return Ok(output::failed(error));
        }
        if learned {
            let loss = reading.loss;
            say(format_args!("the network can learn: it knows the batch by heart after {step} steps (loss {loss:.4})"));
            return Ok(ExitCode::SUCCESS);
        }
        last = Some(reading);
    }
    let reading = last.unwrap_or_default();
    let (loss, accuracy) = (reading.loss, reading.accuracy);
    let chance = (classes as f64).ln();
    let advice = match (reading.flat == 1.0, loss < chance - 0.05) {
        (true, _) => "its last ReLU lets nothing through, so it is dead; try another --seed or a lower --lr",
        (false, true) => "it has begun to: try more steps, as in --overfit-batch 2000, or another --lr",
        (false, false) => "it still guesses: try another --lr or --seed, and look at the data",
    };
    say(format_args!(
        "the network did not learn the batch in {most} steps: loss {loss:.4} (guessing is ln {classes} = {chance:.4}), accuracy \
         {accuracy:.3}; {advice}"
    ));
    Ok(ExitCode::FAILURE)
}
