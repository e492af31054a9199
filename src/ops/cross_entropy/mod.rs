//! Softmax cross-entropy, the loss of a classifier: softmax and cross-entropy in one kernel, with the gradient. And the
//! meter that adds up losses on the device.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use serde::{Deserialize, Serialize};

use crate::device::{Buffer, Device, Download, Real, Role};
use crate::tape::{Loss, Tape, Var};
use crate::{Error, Result};

/// The kernel of softmax cross-entropy.
pub trait CrossEntropy: Device {
    /// For logits `[n, classes]` and labels `[n]`, adds three sums over rows to `meter` `[3]`:
    ///
    /// * `meter[0]`: the losses, `Σ_n −ln softmax(logits[n])[labels[n]]`;
    /// * `meter[1]`: the hits, rows whose first largest logit is their label's;
    /// * `meter[2]`: the flat rows, whose logits are all equal.
    ///
    /// `dlogits`, if wanted, is overwritten by the gradient of the *mean* loss,
    /// `(softmax(logits) − onehot(labels)) / n`.
    ///
    /// # Errors
    /// [`Error::Label`] on the CPU if a label is not below `classes`. A GPU does not check labels; the loss is NaN
    /// then.
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

/// Running sums of losses, hits and flat rows on the device, and the number of samples, which the host counts.
pub struct Meter<B: Device> {
    buf: B::Buf,
    samples: usize,
}

/// The means over a [`Meter`]'s samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Mean loss per sample; 0 without samples.
    pub loss: f64,
    /// Share of samples whose first largest logit is their label's; 0 without samples.
    pub accuracy: f64,
    /// Share of samples whose logits are all equal, as those of a dead network are; 0 without samples.
    pub flat: f64,
    pub samples: usize,
}

/// A reading whose download is under way.
pub struct Pending<B: Device> {
    sums: B::Download,
    samples: usize,
}

impl<B: Device> Pending<B> {
    /// Whether the download is complete, so that [`Pending::wait`] returns at once.
    pub fn is_done(&self) -> Result<bool> {
        self.sums.is_done()
    }

    /// Waits for the download and returns the reading.
    pub fn wait(self) -> Result<Reading> {
        let (sums, samples) = (self.sums.wait()?, self.samples);
        let mean = |sum: B::Scalar| sum.to_f64() / samples.max(1) as f64;
        Ok(Reading { loss: mean(sums[0]), accuracy: mean(sums[1]), flat: mean(sums[2]), samples })
    }
}

impl<B: Device> Meter<B> {
    /// A meter without samples.
    pub fn new(backend: &B) -> Result<Self> {
        let mut buf = backend.alloc(Role::Parameter, 3)?;
        backend.fill(&mut buf, num_traits::Zero::zero())?;
        Ok(Meter { buf, samples: 0 })
    }

    /// The means over all samples since the last reset. Waits for the device.
    pub fn read(&self, backend: &B) -> Result<Reading> {
        self.read_later(backend)?.wait()
    }

    /// [`Meter::read`], without waiting for the device.
    pub fn read_later(&self, backend: &B) -> Result<Pending<B>> {
        Ok(Pending { sums: backend.download_later(&self.buf)?, samples: self.samples })
    }

    /// Zeroes the sums and the number of samples.
    pub fn reset(&mut self, backend: &B) -> Result<()> {
        self.samples = 0;
        backend.fill(&mut self.buf, num_traits::Zero::zero())
    }

    /// Counts the samples of a step on the host; the step itself adds to the sums.
    pub(crate) fn count(&mut self, samples: usize) {
        // A state file may have said any number before.
        self.samples = self.samples.saturating_add(samples);
    }

    /// Replaces the sums and the number of samples by those of an earlier meter's reading.
    pub fn set(&mut self, backend: &B, reading: Reading) -> Result<()> {
        let sum = |mean: f64| Real::from_f64(mean * reading.samples as f64);
        let sums = [reading.loss, reading.accuracy, reading.flat].map(sum);
        self.samples = reading.samples;
        backend.write(&mut self.buf, &sums)
    }
}

impl<B: CrossEntropy> Tape<B> {
    /// The mean cross-entropy of `logits` `[N, classes]` against `labels` `[N]`, for [`Tape::backward`]. Adds losses,
    /// hits and flat rows to `meter`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `logits` is not a non-empty matrix or there are not N labels. [`Error::Label`] on the CPU if
    /// a label is not below the number of classes; a GPU does not check labels, and the loss is NaN then.
    pub fn cross_entropy(&mut self, logits: &Var<B>, labels: &B::Bytes, meter: &mut Meter<B>) -> Result<Loss<B>> {
        let backend = self.backend().clone();
        let mut gradient = backend.alloc(Role::Activation, logits.shape().len())?;
        run(&backend, logits, labels, Some(&mut gradient), meter)?;
        Ok(Loss { logits: logits.clone(), gradient })
    }

    /// Adds the losses, hits and flat rows of `logits` to `meter` as [`Tape::cross_entropy`] does, without a gradient.
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
    meter.count(n);
    Ok(())
}
