//! A network that learns: one step at a time, on anybody's arrays.

use serde::{Deserialize, Serialize};

use crate::device::{Backend, Role};
use crate::nn::Module;
use crate::ops::cross_entropy::{Meter, Reading};
use crate::optim::Sgd;
use crate::tape::{Mode, Tape};
use crate::{Result, Shape};

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
    seed: u64,
    meter: Meter<B>,
}

impl<B: Backend, N: Module<B>> Trainer<B, N> {
    /// # Errors
    /// Where the device has no memory left.
    pub fn new(backend: &B, net: N, optimizer: Sgd<B>, seed: u64) -> Result<Self> {
        let meter = Meter::new(backend)?;
        Ok(Trainer { backend: backend.clone(), net, optimizer, position: Position::default(), seed, meter })
    }

    /// One step: forward, loss, backward, update, and on to the next position. `images` has shape `shape` and lies
    /// NHWC; `labels` has one class an image.
    ///
    /// # Errors
    /// Shapes that do not fit the network, or labels that are not its classes; nothing is updated then.
    pub fn step(&mut self, images: &[B::Scalar], shape: Shape, labels: &[u8], rate: f64) -> Result<()> {
        let Position { epoch, step } = self.position;
        let mut tape = Tape::new(&self.backend, Mode::Training { seed: self.seed, epoch, step });
        let x = tape.constant(self.backend.upload(Role::Activation, images)?, shape)?;
        let logits = self.net.forward(&mut tape, x)?;
        let loss = tape.cross_entropy(&logits, &self.backend.upload_bytes(labels)?, &mut self.meter)?;
        drop(logits);
        let grads = tape.backward(loss)?;
        self.optimizer.step(self.net.params_mut(), &grads, rate)?;
        self.position.step += 1;
        Ok(())
    }

    /// Mean loss and accuracy of the steps since the last [`Trainer::reset_reading`], each before its update.
    pub fn reading(&self) -> Result<Reading> {
        self.meter.read(&self.backend)
    }

    pub fn reset_reading(&mut self) -> Result<()> {
        self.meter.reset(&self.backend)
    }

    pub(super) fn set_reading(&mut self, reading: Reading) -> Result<()> {
        self.meter.set(&self.backend, reading)
    }

    /// The logits of a batch of shape `shape`, NHWC: `[N, classes]` in rows.
    ///
    /// # Errors
    /// Shapes that do not fit the network.
    pub fn predict(&self, images: &[B::Scalar], shape: Shape) -> Result<Vec<B::Scalar>> {
        let mut tape = Tape::new(&self.backend, Mode::Inference);
        let x = tape.constant(self.backend.upload(Role::Activation, images)?, shape)?;
        let logits = self.net.forward(&mut tape, x)?;
        self.backend.download(logits.data())
    }

    /// Adds the loss and hits of a batch, without dropout and without learning, to `meter`.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn score(&self, images: &[B::Scalar], shape: Shape, labels: &[u8], meter: &mut Meter<B>) -> Result<()> {
        let mut tape = Tape::new(&self.backend, Mode::Inference);
        let x = tape.constant(self.backend.upload(Role::Activation, images)?, shape)?;
        let logits = self.net.forward(&mut tape, x)?;
        tape.score(&logits, &self.backend.upload_bytes(labels)?, meter)
    }
}
