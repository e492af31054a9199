//! Softmax and cross-entropy in one, forward and backward: the loss of a classifier, and its gradient.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use serde::{Deserialize, Serialize};

use crate::device::{Buffer, Device, Download, Real, Role};
use crate::tape::{Loss, Tape, Var};
use crate::{Error, Result};

/// The kernel of softmax cross-entropy.
pub trait CrossEntropy: Device {
    /// For logits `[n, classes]`: adds `Σ_n −ln softmax(logits[n])[labels[n]]` to `meter[0]`; to `meter[1]` how many rows
    /// have their first largest logit at their label; and to `meter[2]` how many have logits that are all equal.
    /// `dlogits`, if wanted, takes the gradient of the *mean* loss, `(softmax(logits) − onehot(labels)) / n`.
    ///
    /// # Errors
    /// [`Error::Label`], on a backend that looks at them, if a label is not below `classes`.
    fn cross_entropy(
        &self,
        n: usize,
        classes: usize,
        logits: &Self::Buf,
        labels: &Self::Bytes,
        dlogits: Option<&mut Self::Buf>,
        meter: &mut Self::Buf,
    ) -> Result<()>;
}

/// Sums of losses, hits and flat rows, added up on the device and read when somebody wants to know.
pub struct Meter<B: Device> {
    buf: B::Buf,
    samples: usize,
}

/// What a [`Meter`] has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Mean loss per sample; 0 without samples.
    pub loss: f64,
    /// Share of samples whose largest logit is their label's; 0 without samples.
    pub accuracy: f64,
    /// Share of samples whose logits are all equal, as a dead network's are.
    pub flat: f64,
    pub samples: usize,
}

/// A reading on its way from the device.
pub struct Pending<B: Device> {
    sums: B::Download,
    samples: usize,
}

impl<B: Device> Pending<B> {
    /// Whether the device has come so far.
    pub fn is_done(&self) -> Result<bool> {
        self.sums.is_done()
    }

    /// The reading, once the device has come so far.
    pub fn wait(self) -> Result<Reading> {
        let (sums, samples) = (self.sums.wait()?, self.samples);
        let mean = |sum: B::Scalar| sum.to_f64() / samples.max(1) as f64;
        Ok(Reading { loss: mean(sums[0]), accuracy: mean(sums[1]), flat: mean(sums[2]), samples })
    }
}

impl<B: Device> Meter<B> {
    pub fn new(backend: &B) -> Result<Self> {
        let mut buf = backend.alloc(Role::Parameter, 3)?;
        backend.fill(&mut buf, num_traits::Zero::zero())?;
        Ok(Meter { buf, samples: 0 })
    }

    /// The means over all samples since the last reset.
    pub fn read(&self, backend: &B) -> Result<Reading> {
        self.read_later(backend)?.wait()
    }

    /// [`Meter::read`], without waiting for the device.
    pub fn read_later(&self, backend: &B) -> Result<Pending<B>> {
        Ok(Pending { sums: backend.download_later(&self.buf)?, samples: self.samples })
    }

    pub fn reset(&mut self, backend: &B) -> Result<()> {
        self.samples = 0;
        backend.fill(&mut self.buf, num_traits::Zero::zero())
    }

    /// Counts the samples of a replay, whose losses the device has added by itself.
    pub(crate) fn count(&mut self, samples: usize) {
        self.samples += samples;
    }

    /// Goes on from what an earlier meter had read.
    pub fn set(&mut self, backend: &B, reading: Reading) -> Result<()> {
        let sum = |mean: f64| Real::from_f64(mean * reading.samples as f64);
        let sums = [reading.loss, reading.accuracy, reading.flat].map(sum);
        self.samples = reading.samples;
        backend.write(&mut self.buf, &sums)
    }
}

impl<B: CrossEntropy> Tape<B> {
    /// The mean cross-entropy of `logits` `[N, classes]` against `labels` `[N]`. Loss and hits are added to `meter`;
    /// the result is what [`Tape::backward`] takes.
    ///
    /// # Errors
    /// [`Error::Shape`] if logits are not a matrix or the labels are not N. Labels must be below the number of classes:
    /// a backend that looks at them gives [`Error::Label`], and one that does not computes nonsense.
    pub fn cross_entropy(&mut self, logits: &Var<B>, labels: &B::Bytes, meter: &mut Meter<B>) -> Result<Loss<B>> {
        let backend = self.backend().clone();
        let mut gradient = backend.alloc(Role::Activation, logits.shape().len())?;
        run(&backend, logits, labels, Some(&mut gradient), meter)?;
        Ok(Loss { logits: logits.clone(), gradient })
    }

    /// Adds the loss and hits of `logits` to `meter`, as [`Tape::cross_entropy`] does, where no gradient is wanted.
    ///
    /// # Errors
    /// As [`Tape::cross_entropy`].
    pub fn score(&self, logits: &Var<B>, labels: &B::Bytes, meter: &mut Meter<B>) -> Result<()> {
        run(self.backend(), logits, labels, None, meter)
    }
}

fn run<B: CrossEntropy>(
    backend: &B,
    logits: &Var<B>,
    labels: &B::Bytes,
    gradient: Option<&mut B::Buf>,
    meter: &mut Meter<B>,
) -> Result<()> {
    let shape = logits.shape();
    let &[n, classes] = shape.dims() else {
        return Err(Error::shape("cross_entropy", format!("needs logits [N, classes], got {shape}; flatten first")));
    };
    if n == 0 || classes == 0 || labels.len() != n {
        return Err(Error::shape("cross_entropy", format!("{} labels for logits {shape}", labels.len())));
    }
    backend.cross_entropy(n, classes, &logits.data, labels, gradient, &mut meter.buf)?;
    meter.samples += n;
    Ok(())
}
