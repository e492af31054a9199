//! Whole training runs over feeds, reported to the caller as events.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::feed::Batch;
use super::lag::{Awaited, LEAD, Lag};
use super::{Feed, OnNan, Position, Trainer};
use crate::Backend;
use crate::error::{NotFinite, Place};
use crate::nn::Module;
use crate::ops::cross_entropy::Reading;
use crate::optim::{Schedule, require_rate};
use crate::{Error, Result};

/// The finest tick of a clock, in seconds: steps that take no time by a coarse one have a speed all the same.
const CLOCK: f64 = 1e-9;

/// The options of [`Trainer::fit`].
#[derive(Clone, Copy, Debug)]
pub struct FitOptions {
    /// Epochs of the whole run, those before a resumption included.
    pub epochs: u32,
    /// The base learning rate.
    pub rate: f64,
    pub schedule: Schedule,
    /// Steps between two reported readings of the loss; with 0 there are none in between. The device does not wait for a
    /// reading.
    pub report_every: usize,
    /// What to do about a step of which something is not finite.
    pub on_nan: OnNan,
}

/// The metrics of an epoch. What they call test are the images that [`Trainer::fit`] measures: those of the test set, or in their
/// place a [holdout](super::TrainConfig::holdout).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// The epoch's number, from 1.
    pub epoch: u32,
    /// Training loss: the mean over the epoch's images, each batch before its update, with dropout, on labels that are smoothed
    /// and images that are changed, if the settings say so.
    pub loss: f64,
    /// Share of training images classified correctly, measured like `loss`.
    pub train_accuracy: f64,
    /// Test loss: the mean over all test images after the epoch, without dropout.
    pub test_loss: f64,
    /// Share of test images classified correctly.
    pub test_accuracy: f64,
    /// Training images a second, without the evaluation.
    pub examples_per_second: f64,
    /// Seconds of training, without the evaluation.
    pub train_seconds: f64,
    /// Seconds of the evaluation.
    pub test_seconds: f64,
    /// The learning rate of the epoch's last step.
    pub rate: f64,
    /// Steps of which something was not finite and was left out ([`OnNan::Skip`]).
    #[serde(default)]
    pub skipped: usize,
}

impl EpochMetrics {
    /// Whether every number is finite, as JSON holds them.
    pub(super) fn is_finite(&self) -> bool {
        let EpochMetrics { loss, train_accuracy, test_loss, test_accuracy, examples_per_second, .. } = *self;
        let times = [examples_per_second, self.train_seconds, self.test_seconds, self.rate];
        [loss, train_accuracy, test_loss, test_accuracy].into_iter().chain(times).all(f64::is_finite)
    }
}

/// The health of a training run: whether the network still learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Alive,
    /// Training and test loss are within 0.01 of ln(classes), the loss of guessing. Training may leave such a plateau
    /// again.
    Stuck,
    /// Every test image has logits that are all equal: the last ReLU's output is zero everywhere, so no parameter gets
    /// a gradient any more.
    Dead,
}

impl Health {
    /// The health by an epoch's readings on the training and test images, for `classes` classes.
    pub fn of(train: &Reading, test: &Reading, classes: usize) -> Self {
        let chance = (classes as f64).ln();
        let guessing = |reading: &Reading| (reading.loss - chance).abs() < 0.01;
        if test.samples > 0 && test.flat == 1.0 {
            Health::Dead
        } else if guessing(train) && guessing(test) {
            Health::Stuck
        } else {
            Health::Alive
        }
    }
}

/// An event of [`Trainer::fit`].
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A step is done, or queued on an asynchronous device. `steps` is the epoch's number of steps, `images` the
    /// step's. A `reading` covers the epoch's first `.0` steps. It comes after the call's first step, after the epoch's
    /// last step, and for every [`FitOptions::report_every`] steps as soon as it has arrived.
    Step { position: Position, steps: usize, images: usize, reading: Option<(u32, Reading)> },
    /// A batch of the test set is evaluated, or queued: `done` images `of` all.
    Evaluation { done: usize, of: usize },
    /// An epoch is done, evaluation included.
    Epoch { metrics: EpochMetrics, health: Health },
}

impl<B: Backend<Scalar = f32>, N: Module<B>> Trainer<B, N> {
    /// Trains from the present position to the end of epoch `options.epochs`, and evaluates the network on `test` after
    /// each epoch. With a shuffling loader each epoch has another order. `train` and `test` are each a
    /// [`Loader`](crate::data::Loader) or a [`Resident`](super::Resident) data set.
    ///
    /// `on_event` may stop the run by [`ControlFlow::Break`]: after a step, during the evaluation (which is repeated
    /// when the run is resumed), or after an epoch.
    ///
    /// Returns [`ControlFlow::Continue`] if the run came to its end, [`ControlFlow::Break`] if `on_event` stopped it.
    ///
    /// # Errors
    /// [`Error::Data`] without training or without test images; [`Error::Config`] for a rate that is not positive and
    /// finite in f32, for a schedule that [`Schedule::validate`] refuses, and for a position beyond the epoch's last step.
    ///
    /// [`Error::Ranks`] if the steps are [divided](Trainer::divide) over ranks of which one is lost. The trainer is that after the
    /// last complete step then, and can be saved.
    ///
    /// [`Error::Diverged`] as soon as the host learns that something of a step is not finite, which may be some steps later;
    /// it names the step and the op. The trainer has gone back to that step then: its weights, its optimiser, its position
    /// and its running loss are those before the step, so [`Run::save`](super::Run::save) saves what can be resumed. Where
    /// logits and loss were finite, and only gradients or new values were not, the elements that were finite have been
    /// updated.
    ///
    /// With [`OnNan::Skip`] such a step is no error, unless all steps of an epoch are. With either, [`Error::Diverged`] for
    /// a test loss that is not finite; the errors of [`Trainer::step`], of `on_event` and of the device.
    pub fn fit<'a>(
        &mut self,
        train: impl Into<Feed<'a, B>>,
        test: impl Into<Feed<'a, B>>,
        options: &FitOptions,
        on_event: &mut dyn FnMut(&Self, Event) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let (train, test) = (train.into(), test.into());
        self.set_on_nan(options.on_nan)?;
        // The caller's own errors, as of a save, come on one rank alone, so no other rank looks for a number with it.
        let mut own = false;
        let ended = self
            .epochs(train, test, options, &mut |trainer, event| on_event(trainer, event).inspect_err(|_| own = true));
        let alone = own && self.group().is_some();
        match ended {
            Err(error) if self.has_lost(&error) => Err(self.lost(error)),
            Err(Error::Diverged { found: NotFinite { place: Place::Step, .. }, .. }) => {
                Err(self.diverged(train, alone)?)
            }
            ended => ended,
        }
    }

    fn epochs(
        &mut self,
        train: Feed<'_, B>,
        test: Feed<'_, B>,
        options: &FitOptions,
        on_event: &mut dyn FnMut(&Self, Event) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let steps = train.loader().steps();
        if steps == 0 {
            return Err(Error::data("training images", "there are none"));
        }
        if test.loader().steps() == 0 {
            return Err(Error::data("test images", "there are none"));
        }
        if options.rate == 0.0 {
            return Err(Error::config("learning rate", "must be positive"));
        }
        require_rate(options.rate)?;
        options.schedule.validate()?;
        // A schedule may bring the rate below the numbers of f32.
        let rate = |epoch: u32, step: usize| {
            let factor = options.schedule.factor(epoch as usize * steps + step, steps, options.epochs);
            let rate = options.rate * factor;
            if rate as f32 == 0.0 { 0.0 } else { rate }
        };
        self.optimizer.set_updates(steps as u64 * u64::from(options.epochs));
        let mut first = true;
        let mut lag = Lag::new();
        // Ranks have to do the same at the same step, so they do not ask whether a reading has arrived: a synchronous device has it.
        let alone = self.group().is_none();
        // Whether a step's event has asked to stop since the last vote.
        let mut wish = false;
        while self.position.epoch < options.epochs {
            let epoch = self.position.epoch;
            if self.position.step == 0 {
                self.reset_reading()?;
                self.epoch_time = Duration::ZERO;
            }
            let mut batches = train.epoch_from(epoch, self.position.step as usize)?;
            loop {
                let started = Instant::now();
                let Some(batch) = batches.next() else { break };
                let step = self.position.step as usize;
                let images = batch.len();
                match batch {
                    Batch::Loaded(..) => self.step_on(&batch.source(), rate(epoch, step))?,
                    Batch::Resident(data, _) => {
                        self.step_resident(data, rate(epoch, step))?;
                    }
                }
                let at_once = first || step + 1 == steps;
                first = false;
                let told = at_once || (step + 1).is_multiple_of(options.report_every);
                let mut arrived = Vec::new();
                if told || (step + 1).is_multiple_of(LEAD) {
                    let reading = self.reading_later()?;
                    arrived.extend(lag.ask(Awaited { step: self.position.step, told, reading }));
                }
                arrived.extend(
                    lag.take(at_once, |pending| if alone { pending.is_done() } else { Ok(B::VOTES_EVERY == 1) })?,
                );
                let mut reading = None;
                for Awaited { step, told, reading: pending } in arrived {
                    let read = self.require_finite(pending.wait()?, Position { epoch, step })?;
                    reading = if told { Some((step, read)) } else { reading };
                }
                self.epoch_time += started.elapsed();
                let event = Event::Step { position: self.position, steps, images, reading };
                wish |= on_event(self, event)?.is_break();
                let due = at_once || (step + 1).is_multiple_of(B::VOTES_EVERY);
                if self.vote(wish, due)? {
                    let started = Instant::now();
                    // Waits for the device. A step that was not finite is named here, since there is no later reading.
                    self.reading()?;
                    self.epoch_time += started.elapsed();
                    return Ok(ControlFlow::Break(()));
                }
            }
            let started = Instant::now();
            let scored = self.evaluate(test, &mut |trainer, done| {
                on_event(trainer, Event::Evaluation { done, of: test.loader().dataset().len() })
            })?;
            let Some(scored) = scored else { return Ok(ControlFlow::Break(())) };
            if !scored.loss.is_finite() {
                let found = NotFinite::loss(scored.loss, Place::TestLoss);
                return Err(Error::Diverged { epoch: epoch + 1, step: steps, found });
            }
            let (learned, seconds) = (self.reading()?, self.epoch_time.as_secs_f64());
            if learned.samples == 0 && learned.skipped > 0 {
                let found = NotFinite::uncounted(Place::EveryStep);
                return Err(Error::Diverged { epoch: epoch + 1, step: steps, found });
            }
            let metrics = EpochMetrics {
                epoch: epoch + 1,
                loss: learned.loss,
                train_accuracy: learned.accuracy,
                test_loss: scored.loss,
                test_accuracy: scored.accuracy,
                examples_per_second: learned.samples as f64 / seconds.max(CLOCK),
                train_seconds: seconds,
                test_seconds: started.elapsed().as_secs_f64(),
                rate: rate(epoch, steps - 1),
                skipped: learned.skipped,
            };
            self.position = Position { epoch: epoch + 1, step: 0 };
            let health = Health::of(&learned, &scored, test.loader().dataset().classes());
            let wish = on_event(self, Event::Epoch { metrics, health })?.is_break();
            if self.vote(wish, true)? {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Evaluates the network on all images of a loader or a resident data set, without dropout: mean loss and accuracy.
    /// `on_batch` is called with the number of images done. If it breaks off, the result is `None`. Ranks that share the steps
    /// ([`Trainer::divide`]) share the batches too, so all of them call this.
    ///
    /// # Errors
    /// As [`Trainer::score`], and the errors of `on_batch`; [`Error::Config`] within the `on_batch` of another evaluation.
    pub fn evaluate<'a>(
        &self,
        feed: impl Into<Feed<'a, B>>,
        on_batch: &mut dyn FnMut(&Self, usize) -> Result<ControlFlow<()>>,
    ) -> Result<Option<Reading>> {
        let feed = feed.into();
        if self.evaluating.replace(true) {
            return Err(Error::config("evaluate", "another evaluation of this trainer is under way"));
        }
        let _under_way = UnderWay(&self.evaluating);
        match self.group() {
            Some(group) => self.evaluate_divided(group, feed, on_batch),
            None => self.evaluate_undivided(feed, on_batch),
        }
    }

    fn evaluate_undivided(
        &self,
        feed: Feed<'_, B>,
        on_batch: &mut dyn FnMut(&Self, usize) -> Result<ControlFlow<()>>,
    ) -> Result<Option<Reading>> {
        self.scores.borrow_mut().reset(&self.backend)?;
        let mut done = 0;
        for batch in feed.epoch_from(0, 0)? {
            done += batch.len();
            self.evaluate_batch(&batch)?;
            if on_batch(self, done)?.is_break() {
                return Ok(None);
            }
        }
        self.scores.borrow().read(&self.backend).map(Some)
    }

    /// Adds a batch to the evaluation under way.
    pub(super) fn evaluate_batch(&self, batch: &Batch<'_, B>) -> Result<()> {
        match batch {
            Batch::Loaded(..) => self.score_on(&batch.source(), &mut self.scores.borrow_mut()),
            Batch::Resident(data, step) => self.score_resident(data, *step),
        }
    }
}

/// An evaluation, which has ended when this is dropped.
struct UnderWay<'a>(&'a Cell<bool>);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_network_is_told_from_a_slow_one() {
        let reading = |loss, flat| Reading { loss, accuracy: 0.1, flat, samples: 10_000, ..Reading::default() };
        let health = |train, test| Health::of(&train, &test, 10);
        let chance = 10f64.ln();
        assert_eq!(health(reading(chance, 0.9), reading(chance, 1.0)), Health::Dead);
        assert_eq!(health(reading(chance, 0.0), reading(chance + 1e-6, 0.9999)), Health::Stuck);
        assert_eq!(health(reading(chance - 0.05, 0.0), reading(chance, 0.0)), Health::Alive, "it has begun to learn");
        assert_eq!(health(reading(1.3, 0.0), reading(1.2, 0.0)), Health::Alive);
    }
}
