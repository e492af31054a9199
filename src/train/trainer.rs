//! A network that learns: one step at a time, on anybody's arrays or on a data set that lies on the device.

use std::cell::RefCell;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Resident;
use super::recorded::{Recorded, Work};
use crate::Backend;
use crate::device::{Real, Role, StepScalars};
use crate::nn::Module;
use crate::ops::cross_entropy::{Meter, Pending, Reading};
use crate::optim::Optimizer;
use crate::tape::{Mode, Tape, Var};
use crate::{Error, Result, Shape};

/// How far a run has come: the epoch it is in, and the steps it has done in it. Both count from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub epoch: u32,
    pub step: u32,
}

/// A network with its optimiser, its place in a training run, and a running loss.
pub struct Trainer<B: Backend, N: Module<B>> {
    pub backend: B,
    pub net: N,
    pub optimizer: Box<dyn Optimizer<B>>,
    /// With the seed, what dropout draws from.
    pub position: Position,
    /// Whether a device that can record work does so; the bits are the same without.
    pub record: bool,
    /// Spent on the steps of this epoch so far.
    pub(super) epoch_time: Duration,
    seed: u64,
    meter: Meter<B>,
    /// Of the evaluation under way. It stays where it is, since recorded work adds to it.
    pub(super) scores: RefCell<Meter<B>>,
    recorded: RefCell<Recorded<B>>,
}

impl<B: Backend, N: Module<B>> Trainer<B, N> {
    /// # Errors
    /// Where the device has no memory left.
    pub fn new(backend: &B, net: N, optimizer: impl Into<Box<dyn Optimizer<B>>>, seed: u64) -> Result<Self> {
        Ok(Trainer {
            backend: backend.clone(),
            net,
            optimizer: optimizer.into(),
            position: Position::default(),
            record: true,
            epoch_time: Duration::ZERO,
            seed,
            meter: Meter::new(backend)?,
            scores: RefCell::new(Meter::new(backend)?),
            recorded: RefCell::default(),
        })
    }

    /// One step: forward, loss, backward, update, and on to the next position. `images` has shape `shape` and lies
    /// NHWC; `labels` has one class an image.
    ///
    /// # Errors
    /// Shapes that do not fit the network, or labels that are not its classes; nothing is updated then.
    pub fn step(&mut self, images: &[B::Scalar], shape: Shape, labels: &[u8], rate: f64) -> Result<()> {
        let x = self.backend.upload(Role::Activation, images)?;
        self.learn(x, shape, rate, |backend, logits| upload_labels(backend, labels, logits.c()))?;
        self.position.step += 1;
        Ok(())
    }

    /// [`Trainer::step`] on the images that come up at the present position. A device that can records the step when it
    /// comes up for the second time, and replays it from then on; the bits are the same.
    ///
    /// Returns the number of images; 0 where the epoch has no such step.
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
        data.begin(epoch)?;
        let scalars = StepScalars {
            rate: Real::to_f64(B::Scalar::from_f64(rate)) as f32,
            corrections: self.optimizer.corrections(),
            epoch,
            step,
            first: places.start as u32,
        };
        let work = Work::training(data.id, n, self.seed, &self.net, &*self.optimizer);
        let backend = self.backend.clone();
        let mut recorded = std::mem::take(self.recorded.get_mut());
        let replayed = recorded.run(&backend, work, self.record.then_some(&scalars), &mut || {
            let (x, labels) = data.gather(places.clone())?;
            self.learn(x, data.shape(n), rate, |_, logits| data.require_classes(logits.c()).map(|()| labels))
        });
        *self.recorded.get_mut() = recorded;
        if replayed? {
            self.meter.count(n);
            self.optimizer.count_replay();
        }
        self.position.step += 1;
        Ok(n)
    }

    /// Forward, loss, backward, update. `labels` is given the shape of the logits.
    fn learn(
        &mut self,
        x: B::Buf,
        shape: Shape,
        rate: f64,
        labels: impl FnOnce(&B, Shape) -> Result<B::Bytes>,
    ) -> Result<()> {
        let Position { epoch, step } = self.position;
        let (mut tape, logits) = self.forward(x, shape, Mode::Training { seed: self.seed, epoch, step })?;
        let labels = labels(&self.backend, logits.shape())?;
        let loss = tape.cross_entropy(&logits, &labels, &mut self.meter)?;
        drop(logits);
        let grads = tape.backward(loss)?;
        self.optimizer.step(self.net.params_mut(), &grads, rate)
    }

    /// The logits of a batch of shape `shape`, NHWC: `[N, classes]` in rows.
    ///
    /// # Errors
    /// Shapes that do not fit the network.
    pub fn predict(&self, images: &[B::Scalar], shape: Shape) -> Result<Vec<B::Scalar>> {
        let (_, logits) = self.forward(self.backend.upload(Role::Activation, images)?, shape, Mode::Inference)?;
        self.backend.download(logits.data())
    }

    /// Adds the loss and hits of a batch, without dropout and without learning, to `meter`.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn score(&self, images: &[B::Scalar], shape: Shape, labels: &[u8], meter: &mut Meter<B>) -> Result<()> {
        let (tape, logits) = self.forward(self.backend.upload(Role::Activation, images)?, shape, Mode::Inference)?;
        tape.score(&logits, &upload_labels(&self.backend, labels, logits.shape().c())?, meter)
    }

    /// [`Trainer::score`] of step `step` of an epoch that has begun, added to the evaluation under way; recorded and
    /// replayed as [`Trainer::step_resident`] is.
    pub(super) fn score_resident(&self, data: &Resident<B>, step: usize) -> Result<()> {
        let places = data.batch(step);
        let n = places.len();
        let scalars = StepScalars { first: places.start as u32, ..StepScalars::default() };
        let work = Work::scoring(data.id, n, &self.net);
        let scalars = self.record.then_some(&scalars);
        let replayed = self.recorded.borrow_mut().run(&self.backend, work, scalars, &mut || {
            let (x, labels) = data.gather(places.clone())?;
            let (tape, logits) = self.forward(x, data.shape(n), Mode::Inference)?;
            data.require_classes(logits.shape().c())?;
            tape.score(&logits, &labels, &mut self.scores.borrow_mut())
        })?;
        if replayed {
            self.scores.borrow_mut().count(n);
        }
        Ok(())
    }

    fn forward(&self, x: B::Buf, shape: Shape, mode: Mode) -> Result<(Tape<B>, Var<B>)> {
        let mut tape = Tape::new(&self.backend, mode);
        let x = tape.constant(x, shape)?;
        let logits = self.net.forward(&mut tape, x)?;
        Ok((tape, logits))
    }

    /// Mean loss and accuracy of the steps since the last [`Trainer::reset_reading`], each before its update.
    pub fn reading(&self) -> Result<Reading> {
        self.meter.read(&self.backend)
    }

    /// [`Trainer::reading`], without waiting for the device.
    pub fn reading_later(&self) -> Result<Pending<B>> {
        self.meter.read_later(&self.backend)
    }

    /// Begins a new mean.
    pub fn reset_reading(&mut self) -> Result<()> {
        self.meter.reset(&self.backend)
    }

    pub(super) fn set_reading(&mut self, reading: Reading) -> Result<()> {
        self.meter.set(&self.backend, reading)
    }
}

/// Labels on the device, once it is certain that each is a class: a kernel cannot say so without waiting for it.
fn upload_labels<B: Backend>(backend: &B, labels: &[u8], classes: usize) -> Result<B::Bytes> {
    if let Some(position) = labels.iter().position(|&label| usize::from(label) >= classes) {
        return Err(Error::Label { op: "cross_entropy", label: labels[position], position, classes });
    }
    backend.upload_bytes(labels)
}
