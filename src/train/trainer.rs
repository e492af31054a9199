//! A network that learns: one step at a time, on anybody's arrays.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::device::{Backend, Role};
use crate::nn::Module;
use crate::ops::cross_entropy::{Meter, Reading};
use crate::optim::Sgd;
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
    pub optimizer: Sgd<B>,
    /// With the seed, what dropout draws from.
    pub position: Position,
    /// Spent on the steps of this epoch so far.
    pub(super) epoch_time: Duration,
    seed: u64,
    meter: Meter<B>,
}

impl<B: Backend, N: Module<B>> Trainer<B, N> {
    /// # Errors
    /// Where the device has no memory left.
    pub fn new(backend: &B, net: N, optimizer: Sgd<B>, seed: u64) -> Result<Self> {
        let meter = Meter::new(backend)?;
        let (backend, position) = (backend.clone(), Position::default());
        Ok(Trainer { backend, net, optimizer, position, epoch_time: Duration::ZERO, seed, meter })
    }

    /// One step: forward, loss, backward, update, and on to the next position. `images` has shape `shape` and lies
    /// NHWC; `labels` has one class an image.
    ///
    /// # Errors
    /// Shapes that do not fit the network, or labels that are not its classes; nothing is updated then.
    pub fn step(&mut self, images: &[B::Scalar], shape: Shape, labels: &[u8], rate: f64) -> Result<()> {
        let Position { epoch, step } = self.position;
        let (mut tape, logits) = self.forward(images, shape, Mode::Training { seed: self.seed, epoch, step })?;
        let labels = upload_labels(&self.backend, labels, logits.shape())?;
        let loss = tape.cross_entropy(&logits, &labels, &mut self.meter)?;
        drop(logits);
        let grads = tape.backward(loss)?;
        self.optimizer.step(self.net.params_mut(), &grads, rate)?;
        self.position.step += 1;
        Ok(())
    }

    /// The logits of a batch of shape `shape`, NHWC: `[N, classes]` in rows.
    ///
    /// # Errors
    /// Shapes that do not fit the network.
    pub fn predict(&self, images: &[B::Scalar], shape: Shape) -> Result<Vec<B::Scalar>> {
        let (_, logits) = self.forward(images, shape, Mode::Inference)?;
        self.backend.download(logits.data())
    }

    /// Adds the loss and hits of a batch, without dropout and without learning, to `meter`.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn score(&self, images: &[B::Scalar], shape: Shape, labels: &[u8], meter: &mut Meter<B>) -> Result<()> {
        let (tape, logits) = self.forward(images, shape, Mode::Inference)?;
        tape.score(&logits, &upload_labels(&self.backend, labels, logits.shape())?, meter)
    }

    fn forward(&self, images: &[B::Scalar], shape: Shape, mode: Mode) -> Result<(Tape<B>, Var<B>)> {
        let mut tape = Tape::new(&self.backend, mode);
        let x = tape.constant(self.backend.upload(Role::Activation, images)?, shape)?;
        let logits = self.net.forward(&mut tape, x)?;
        Ok((tape, logits))
    }

    /// Mean loss and accuracy of the steps since the last [`Trainer::reset_reading`], each before its update.
    pub fn reading(&self) -> Result<Reading> {
        self.meter.read(&self.backend)
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
fn upload_labels<B: Backend>(backend: &B, labels: &[u8], logits: Shape) -> Result<B::Bytes> {
    let classes = logits.c();
    if let Some(position) = labels.iter().position(|&label| usize::from(label) >= classes) {
        return Err(Error::Label { op: "cross_entropy", label: labels[position], position, classes });
    }
    backend.upload_bytes(labels)
}
