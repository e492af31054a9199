//! `--dry-run`: what a run would be, what it would take, and how long.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::HumanDuration;
use mlpconv::data::Splits;
use mlpconv::nn::{Nin, Plan, layers};
use mlpconv::train::{Event, FitOptions, Position, TrainConfig, Trainer};
use mlpconv::{Backend, Result};

use super::images::Images;
use super::in_shards;
use super::init::begin_with;
use super::prepared::Prepared;
use crate::console::data::limited;
use crate::console::device::Choice;
use crate::console::{bytes, grouped, say, time};

/// The most steps that are timed, and the time after which no other begins.
const STEPS: usize = 20;
const LONG_ENOUGH: Duration = Duration::from_secs(3);

/// Prints the settings as TOML, below comments with the costs of the run. The whole is a file that `--config` takes.
///
/// # Errors
/// As training, for what can be known before it.
pub fn dry_run<B: Backend<Scalar = f32>>(
    config: &TrainConfig,
    prepared: Prepared<'_, B>,
    device: &Choice,
    backend: &B,
    why_preset: &str,
) -> Result<ExitCode> {
    let comment = |line: &str| say(format_args!("# {line}"));
    prepared.lines(config, device, backend, why_preset).iter().for_each(|line| comment(line));
    let Prepared { data, mut net, summary, steps: memory } = prepared;
    let planned = layers(&net);
    // Ops run on a shard at a time.
    let shard = config.batch_size.div_ceil(config.shards);
    let plan = Plan::new(&planned, summary.input.with_batch(shard), &|fusion| backend.fuses(fusion))?;
    comment(&format!("plan     {} ops for {} layers", plan.steps().len(), planned.len()));
    drop(planned);

    // A data set that is not here is not fetched: nothing is written.
    let here = match config.data.spec() {
        Some(spec) => Splits::find(spec, config.data_dir.as_deref())?.is_some(),
        None => true,
    };
    let (train, test) = match config.data.spec().filter(|_| !here) {
        Some(spec) => {
            comment(&format!("data     {} is not on this machine; training fetches it", spec.title));
            let images = time::random(spec, (STEPS + 1) * config.batch_size)?;
            (images.clone(), images)
        }
        None => {
            let data = data.load()?;
            comment(&format!("data     {} in {}", data.title, data.source));
            (data.train, data.test)
        }
    };
    let test = limited(test, config.test_limit);
    // Images that stand in for a data set are not divided.
    let [train, test] = if here { config.divided(train, test)? } else { [limited(train, config.train_limit), test] };
    let (train, test) = (config.train_loader(train)?, config.test_loader(test)?);
    begin_with(config, backend, &mut net, &train)?.iter().for_each(|line| comment(line));
    let (steps, tests) = (train.steps(), test.dataset().len());
    if here {
        let (epochs, all) = (config.epochs, grouped(config.epochs as usize * steps));
        let (batch, steps) = (config.batch_size, grouped(steps));
        let parts = in_shards(config.shards);
        comment(&format!("steps    {all} of {batch} images{parts}: {epochs} epochs of {steps}"));
    }
    let free = match backend.free_memory()? {
        Some(free) => format!("of the {} that are free", bytes(free)),
        None => "; how much is free, this device does not tell".into(),
    };
    comment(&format!("memory   {} {free}", bytes(memory.needed())));

    let mut trainer = config.trainer(backend, net)?;
    trainer.divide(&config.division(), None)?;
    let images = Images::of_run([train, test], device, backend, &memory)?;
    let timed = Timed::new(trainer, config, &images, steps.min(STEPS), if device.resident { 3 } else { 1 });
    let Timed { steps: counted, step, test_image } = timed.map_err(|error| memory.explain(backend, error))?;
    let kind = if here { "the data set's images" } else { "random images" };
    let of = format!("({counted} steps were timed, on {kind})");
    if here {
        let [train, test] = [step * steps as f64, test_image * tests as f64];
        let whole = Duration::try_from_secs_f64((train + test) * f64::from(config.epochs))
            .unwrap_or(Duration::MAX)
            .max(Duration::from_secs(1));
        comment(&format!(
            "time     about {}: {train:.1} s of training and {test:.1} s of testing an epoch",
            HumanDuration(whole)
        ));
        comment(&format!("         {of}"));
    } else {
        let [train, test] = [config.batch_size as f64 / step, 1.0 / test_image];
        comment(&format!("time     {train:.0} images/s in training, {test:.0} images/s in testing {of}"));
    }
    say(format_args!("\n{}", config.to_toml()?.trim_end()));
    Ok(ExitCode::SUCCESS)
}

/// The times of a run's parts, in seconds.
struct Timed {
    /// The number of training steps that were timed.
    steps: usize,
    /// The mean of a training step.
    step: f64,
    /// The mean of a test image.
    test_image: f64,
}

impl Timed {
    /// Times up to `most` training steps, and some tests, after `warm_up` of each.
    fn new<B: Backend<Scalar = f32>>(
        mut trainer: Trainer<B, Nin<B>>,
        config: &TrainConfig,
        [train, test]: &[Images<B>; 2],
        most: usize,
        warm_up: usize,
    ) -> Result<Self> {
        // Times do not depend on the rate, and at this one nothing diverges.
        let options = FitOptions { rate: 1e-6, ..config.fit_options(most) };
        let mut train = |most: usize| -> Result<(usize, f64)> {
            trainer.position = Position::default();
            let (began, mut steps) = (Instant::now(), 0);
            let _ = trainer.fit(train.feed(), test.feed(), &options, &mut |_, event| {
                let is_step = matches!(event, Event::Step { .. });
                steps += usize::from(is_step);
                let goes_on = is_step && steps < most && began.elapsed() < LONG_ENOUGH;
                Ok(if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            Ok((steps, began.elapsed().as_secs_f64() / steps as f64))
        };
        train(warm_up.min(most))?;
        let (steps, step) = train(most)?;
        let evaluate = |most: usize| -> Result<f64> {
            let (began, mut batches, mut images) = (Instant::now(), 0, 0);
            trainer.evaluate(test.feed(), &mut |_, done| {
                (batches, images) = (batches + 1, done);
                let goes_on = batches < most && began.elapsed() < LONG_ENOUGH;
                Ok(if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            trainer.backend.synchronize()?;
            Ok(began.elapsed().as_secs_f64() / images as f64)
        };
        evaluate(warm_up)?;
        Ok(Timed { steps, step, test_image: evaluate(STEPS)? })
    }
}
