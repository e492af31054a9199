//! The trainer: one training step at a time, on arrays of the host or on a data set in device memory.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::gradients::gradients;
use super::recorded::{Recorded, Work};
use super::shards::{Shards, Step};
use super::source::Source;
use super::{OnNan, Resident};
use crate::Backend;
use crate::device::{Real, StepScalars};
use crate::nn::{Module, params_mut, predict};
use crate::ops::cross_entropy::{Meter, Pending, Reading};
use crate::ops::shards::Division;
use crate::optim::{Optimizer, require_rate};
use crate::ranks::Group;
use crate::tape::{Mode, Tape};
use crate::{Error, Result, Shape};

/// The position of a run: the epoch, from 0, and the number of steps done in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub epoch: u32,
    pub step: u32,
}

/// A network with its optimiser, its position in a training run, and the running loss. It can be sent to another thread,
/// and is used by one at a time; [`nn::predict`](predict) needs the network alone, which threads may share.
pub struct Trainer<B: Backend, N: Module<B>> {
    pub backend: B,
    pub net: N,
    pub optimizer: Box<dyn Optimizer<B>>,
    /// The position in the run. Dropout's masks are functions of it and of the seed.
    pub position: Position,
    /// The share of the labels that is spread over all classes in training, in [0, 1]
    /// ([`Tape::smoothed_cross_entropy`]); 0 by default. Evaluations have none.
    pub label_smoothing: f64,
    /// Whether to record and replay steps on a device that can; the bits are the same either way. `true` by default.
    pub record: bool,
    /// The time of this epoch's steps so far.
    pub(super) epoch_time: Duration,
    pub(super) seed: u64,
    pub(super) meter: Meter<B>,
    /// The meter of the evaluation under way. Its buffer never moves, because recordings contain its address.
    pub(super) scores: RefCell<Meter<B>>,
    /// Whether `scores` are of an evaluation under way.
    pub(super) evaluating: Cell<bool>,
    pub(super) recorded: RefCell<Recorded<B>>,
    /// `None` for whole batches on a single rank.
    pub(super) shards: Option<Shards<B>>,
}

/// The counts before a step.
struct Mark<B: Backend> {
    meter: Pending<B>,
    counters: Vec<(&'static str, u64)>,
}

impl<B: Backend, N: Module<B>> Trainer<B, N> {
    /// A trainer at the start of a run. Dropout draws from `seed`.
    ///
    /// # Errors
    /// [`Error::Memory`] if the device has too little free memory.
    pub fn new(backend: &B, net: N, optimizer: impl Into<Box<dyn Optimizer<B>>>, seed: u64) -> Result<Self> {
        Ok(Trainer {
            backend: backend.clone(),
            net,
            optimizer: optimizer.into(),
            position: Position::default(),
            label_smoothing: 0.0,
            record: true,
            epoch_time: Duration::ZERO,
            seed,
            meter: Meter::with(backend, OnNan::default().policy())?,
            scores: RefCell::new(Meter::new(backend)?),
            evaluating: Cell::new(false),
            recorded: RefCell::default(),
            shards: None,
        })
    }

    /// Cuts the batch of every step into [`Division::shards`] parts, whose gradients are added in one order, so that the bits of the
    /// weights depend on the number of shards alone, and not on the number of ranks that share them. On a single rank the parts are
    /// run one after the other, which trains batches whose activations do not fit the device together.
    ///
    /// With `group` all of its ranks call this and then train alike: each step is one of all ranks, each of which runs its part.
    /// Their networks, optimisers and positions must be the same. Gradients are exchanged in [buckets](Division::bucket), while the
    /// backward pass goes on.
    ///
    /// # Errors
    /// [`Error::Config`] for no shards, more than 4096, or fewer than ranks; [`Error::Ranks`] if a rank is lost, or if what joins
    /// the devices cannot be used; [`Error::Memory`].
    pub fn divide(&mut self, division: &Division, group: Option<&Arc<Group>>) -> Result<()> {
        let alone = group.is_none_or(|group| group.ranks() == 1);
        // What is recorded has the work of the earlier division. NCCL ends a communicator once no recording has work of it.
        self.recorded = RefCell::default();
        self.shards = None;
        self.shards = match division.shards {
            1 if alone => None,
            _ => Some(Shards::new(&self.backend, &self.net, &self.meter, division, group)?),
        };
        Ok(())
    }

    /// One training step at learning rate `rate`: forward, loss, backward, update. It advances `position.step` and adds
    /// to the running loss. `images` are of shape `shape` `[N, C, H, W]`, in NHWC memory order; `labels` has one class
    /// for each image.
    ///
    /// A step whose logits or loss are not finite is `Ok`, since the host does not wait for the device, but changes no weight. Later steps
    /// change none either, until [`reset_reading`](Self::reset_reading), and [`reading`](Self::reading) is the error that names it. With
    /// [`set_on_nan`](Self::set_on_nan) such steps are left out one by one. Of a gradient that is not finite the other elements are updated.
    ///
    /// # Errors
    /// [`Error::Shape`] for shapes or lengths that do not fit the network, [`Error::Label`] for a label that is not
    /// below its number of classes; [`Error::Config`] as by [`Optimizer::step`] and
    /// [`params_mut`], and after step `u32::MAX` of an epoch. Nothing is updated or counted then.
    pub fn step(&mut self, images: &[B::Scalar], shape: Shape, labels: &[u8], rate: f64) -> Result<()> {
        self.step_on(&Source::host(images, labels, shape), rate)
    }

    /// [`Trainer::step`] on a batch of which this rank may have its own part alone.
    pub(super) fn step_on(&mut self, source: &Source<'_, B>, rate: f64) -> Result<()> {
        require_rate(rate)?;
        let next = self.next_step()?;
        let mark = self.mark()?;
        let learned = self.learn(source, rate);
        if learned.is_err() {
            // The first error is the one to report.
            drop(self.back_to(mark));
            return learned;
        }
        self.position.step = next;
        Ok(())
    }

    /// [`Trainer::step`] on the batch of `data` at the present position. A device that can record does so the second
    /// time that a step of this kind (its cache key: data set, number of images, network, settings) runs, and replays
    /// it from then on. The bits are the same.
    ///
    /// Returns the number of images; 0, and no step is done, if the epoch has no step at this position.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn step_resident(&mut self, data: &Resident<B>, rate: f64) -> Result<usize> {
        let Position { epoch, step } = self.position;
        let places = data.batch(step as usize);
        let n = places.len();
        if n == 0 {
            return Ok(0);
        }
        require_rate(rate)?;
        let next = self.next_step()?;
        data.begin(epoch)?;
        let scalars = StepScalars {
            rate: Real::to_f64(B::Scalar::from_f64(rate)) as f32,
            corrections: self.optimizer.corrections(),
            keep: Real::to_f64(B::Scalar::from_f64(self.optimizer.keep())) as f32,
            epoch,
            step,
            first: places.start as u32,
        };
        let work = Work::training(data.id, n, self.seed, &self.net, &*self.optimizer, self.label_smoothing);
        let backend = self.backend.clone();
        // A replay fails with the device, and then there is nothing to read any more.
        let replays = self.record && self.recorded.get_mut().replays(&work);
        let mark = if replays { None } else { Some(self.mark()?) };
        let mut recorded = std::mem::take(self.recorded.get_mut());
        let replayed = recorded.run(&backend, work, self.record.then_some(&scalars), &mut || {
            self.learn(&Source::Resident { data, places: places.clone() }, rate)
        });
        *self.recorded.get_mut() = recorded;
        if let (Err(_), Some(mark)) = (&replayed, mark) {
            // The first error is the one to report.
            drop(self.back_to(mark));
        }
        if replayed? {
            self.meter.count(n);
            self.optimizer.count_replay();
        }
        self.position.step = next;
        Ok(n)
    }

    /// The step after the present one.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no number for it.
    fn next_step(&self) -> Result<u32> {
        let step = self.position.step;
        let none = || Error::config("position", format!("step {step} has no successor; begin the next epoch"));
        step.checked_add(1).ok_or_else(none)
    }

    /// What a step that fails may have counted, on the device and on the host.
    fn mark(&self) -> Result<Mark<B>> {
        Ok(Mark { meter: self.meter.mark(&self.backend)?, counters: self.optimizer.counters() })
    }

    /// Takes back what was counted since `mark`. A recording that fails has counted on the host alone.
    fn back_to(&mut self, mark: Mark<B>) -> Result<()> {
        for (name, value) in mark.counters {
            self.optimizer.set_counter(name, value)?;
        }
        self.meter.back_to(&self.backend, mark.meter)
    }

    /// Forward, loss, backward, update.
    fn learn(&mut self, source: &Source<'_, B>, rate: f64) -> Result<()> {
        let (backend, smoothing, mode) = (&self.backend, self.label_smoothing, self.mode());
        let whole;
        let grads = match &mut self.shards {
            Some(shards) => {
                let step = Step { net: &self.net, mode, source, smoothing };
                shards.gradients(backend, &step, &mut self.meter)?
            }
            None => {
                let (images, tape) = (source.whole(backend)?, Tape::new(backend, mode));
                whole = gradients(&self.net, tape, images, smoothing, &mut self.meter, &mut |_| Ok(()))?;
                &whole
            }
        };
        self.optimizer.step(params_mut(&mut self.net)?, grads, rate)
    }

    /// The mode of a training step at the present position.
    pub(super) fn mode(&self) -> Mode {
        let Position { epoch, step } = self.position;
        Mode::Training { seed: self.seed, epoch, step }
    }

    /// [`nn::predict`](predict) by the trainer's network. Threads that predict at the same time call that function on
    /// `backend` and `net`: the trainer itself is not [`Sync`], because it keeps the recordings of steps and the meter of an
    /// evaluation, which change behind a shared reference.
    ///
    /// # Errors
    /// As [`nn::predict`](predict).
    pub fn predict(&self, images: &[B::Scalar], shape: Shape) -> Result<Vec<B::Scalar>> {
        predict(&self.backend, &self.net, images, shape)
    }

    /// Adds the losses, hits and flat rows of a batch to `meter`, without dropout and without an update. The arguments
    /// are as for [`Trainer::step`].
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn score(&self, images: &[B::Scalar], shape: Shape, labels: &[u8], meter: &mut Meter<B>) -> Result<()> {
        self.score_on(&Source::host(images, labels, shape), meter)
    }

    pub(super) fn score_on(&self, source: &Source<'_, B>, meter: &mut Meter<B>) -> Result<()> {
        let (x, shape, labels) = source.whole(&self.backend)?;
        let mut tape = Tape::new(&self.backend, Mode::Inference);
        let x = tape.constant(x, shape)?;
        let logits = self.net.forward(&mut tape, x)?;
        tape.score(&logits, &labels.checked(&self.backend, logits.shape().c())?, meter)
    }

    /// [`Trainer::score`] of step `step` of the epoch whose order is on the device, added to the evaluation under way.
    /// It is recorded and replayed like [`Trainer::step_resident`].
    pub(super) fn score_resident(&self, data: &Resident<B>, step: usize) -> Result<()> {
        let places = data.batch(step);
        let n = places.len();
        let scalars = StepScalars { first: places.start as u32, ..StepScalars::default() };
        let work = Work::scoring(data.id, n, &self.net);
        let scalars = self.record.then_some(&scalars);
        let replayed = self.recorded.borrow_mut().run(&self.backend, work, scalars, &mut || {
            self.score_on(&Source::Resident { data, places: places.clone() }, &mut self.scores.borrow_mut())
        })?;
        if replayed {
            self.scores.borrow_mut().count(n);
        }
        Ok(())
    }

    /// Mean loss and accuracy of the steps since the last [`Trainer::reset_reading`], each before its update. Waits for
    /// the device.
    ///
    /// # Errors
    /// [`Error::Diverged`] if something of a step was not finite, unless such steps are [skipped](OnNan::Skip): that step and
    /// all later ones were left out. As the device ([`Device`](crate::device::Device)).
    pub fn reading(&self) -> Result<Reading> {
        self.require_finite(self.meter.read(&self.backend)?, self.position)
    }

    /// [`Trainer::reading`], without waiting for the device. A step that was not finite is no error here:
    /// [`Reading::held`] counts the steps since.
    ///
    /// # Errors
    /// As the device ([`Device`](crate::device::Device)).
    pub fn reading_later(&self) -> Result<Pending<B>> {
        self.meter.read_later(&self.backend)
    }

    /// Zeroes the running loss, so that a new mean begins.
    ///
    /// # Errors
    /// As the device ([`Device`](crate::device::Device)).
    pub fn reset_reading(&mut self) -> Result<()> {
        self.meter.reset(&self.backend)
    }

    pub(super) fn set_reading(&mut self, reading: Reading) -> Result<()> {
        self.meter.set(&self.backend, reading)
    }
}
