//! Softmax cross-entropy, the loss of a classifier: softmax and cross-entropy in one kernel, with the gradient. And the
//! meter that adds up losses on the device.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use serde::{Deserialize, Serialize};

use crate::device::guard::{self, Guard, Policy, WORDS};
use crate::device::{Buffer, Device, Download, Real, Role};
use crate::tape::{Loss, Tape, Var};
use crate::{Error, Result};

pub(crate) use cpu::settle;

/// The extents of a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Rows of logits.
    pub n: usize,
    pub classes: usize,
    /// Rows that the mean is over: `n`, or more if the rows are a shard of a batch.
    pub batch: usize,
}

/// The kernel of softmax cross-entropy.
pub trait CrossEntropy: Device {
    /// For logits `[n, classes]` and labels `[n]`, adds three sums over rows to `meter` `[9]`:
    ///
    /// * `meter[0]`: the losses, `Σ_n Σ_c −target[n, c] · ln softmax(logits[n])[c]`, where `target = (1 − smoothing) ·
    ///   onehot(labels) + smoothing / classes` (label smoothing as in PyTorch; 0 for none);
    /// * `meter[1]`: the hits, rows whose first largest logit is their label's;
    /// * `meter[2]`: the flat rows, whose logits are all equal.
    ///
    /// The other words are the update's guard: with `late = meter[6]` and the policy `meter[7]`, `meter[4] += late` and
    /// `meter[6] = 0`. The batch is left out, `meter[5] = 1`, if the policy is not 0 and a logit or the batch's loss is not
    /// finite, or if the policy is 2 and `meter[4] > 0`; else `meter[5] = 0`. A batch that is left out adds nothing to the
    /// sums, its `n` to `meter[3]`, and 1 to `meter[4]`. With policy 3 the sums are a shard's: they overwrite those of `meter`,
    /// the loss is NaN if a logit is not finite, and the other words stay.
    ///
    /// `dlogits`, if wanted, is overwritten by the gradient of the *mean* loss,
    /// `(softmax(logits) − target) / batch`.
    ///
    /// # Errors
    /// [`Error::Label`] on the CPU if a label is not below `classes`. A GPU does not check labels; the loss is NaN
    /// then.
    fn cross_entropy(
        &self,
        extents: Extents,
        logits: &Self::Buf,
        labels: &Self::Bytes,
        smoothing: f64,
        dlogits: Option<&mut Self::Buf>,
        meter: &mut Self::Buf,
    ) -> Result<()>;
}

/// Running sums of losses, hits and flat rows on the device, and the number of samples, which the host counts. Behind the
/// sums lie the words of the update's guard.
pub struct Meter<B: Device> {
    words: Guard<B>,
    policy: Policy,
    samples: usize,
    /// Skipped steps of the meter whose reading this one goes on from.
    skipped: usize,
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
    /// The samples of the means, without those of batches that were left out.
    pub samples: usize,
    /// Steps of which something was not finite and was left out: the whole step if a logit or the loss was not finite, else
    /// the elements of the update that would not have been.
    #[serde(default)]
    pub skipped: usize,
    /// The steps since the first that was not done, that step included: one of which something was not finite, for a meter that
    /// stops, or one in which a rank was lost. Nothing of the later ones is in the means or in the weights.
    #[serde(skip)]
    pub held: usize,
}

/// A reading whose download is under way.
pub struct Pending<B: Device> {
    words: B::Download,
    samples: usize,
    skipped: usize,
}

impl<B: Device> Pending<B> {
    /// Whether the download is complete, so that [`Pending::wait`] returns at once.
    pub fn is_done(&self) -> Result<bool> {
        self.words.is_done()
    }

    /// Waits for the download and returns the reading.
    pub fn wait(self) -> Result<Reading> {
        let reading = Reading::of_sums(&self.words.wait()?, self.samples);
        Ok(Reading { skipped: self.skipped.saturating_add(reading.skipped), ..reading })
    }
}

impl Reading {
    /// The means by a meter's words, over `samples` samples.
    pub(crate) fn of_sums(words: &[impl Real], samples: usize) -> Self {
        let count = |word: usize| words[word].to_f64() as usize;
        let samples = samples.saturating_sub(count(guard::SAMPLES_LEFT_OUT));
        let mean = |sum: usize| words[sum].to_f64() / samples.max(1) as f64;
        let (loss, accuracy, flat) = (mean(0), mean(1), mean(2));
        let left_out = count(guard::STEPS_LEFT_OUT).saturating_add(count(guard::LATE));
        let (skipped, held) = if Policy::of(words) == Policy::Stop { (0, left_out) } else { (left_out, 0) };
        let held = held.saturating_add(count(guard::LOST));
        Reading { loss, accuracy, flat, samples, skipped, held }
    }
}

impl<B: Device> Meter<B> {
    /// A meter without samples, which counts every batch.
    pub fn new(backend: &B) -> Result<Self> {
        Self::with(backend, Policy::Count)
    }

    /// [`Meter::new`] for training: a step whose logits or loss are not finite is left out of the sums and of the update.
    pub(crate) fn with(backend: &B, policy: Policy) -> Result<Self> {
        let words = Guard::new(backend.alloc(Role::Parameter, WORDS)?);
        let mut meter = Meter { words, policy, samples: 0, skipped: 0 };
        meter.reset(backend)?;
        Ok(meter)
    }

    /// The words, for kernels.
    pub(crate) fn guard(&self) -> &Guard<B> {
        &self.words
    }

    /// The policy from the next [`Meter::set`] or [`Meter::reset`] on.
    pub(crate) fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    pub(crate) fn policy(&self) -> Policy {
        self.policy
    }

    /// The means over all samples since the last reset. Waits for the device.
    pub fn read(&self, backend: &B) -> Result<Reading> {
        self.read_later(backend)?.wait()
    }

    /// [`Meter::read`], without waiting for the device.
    pub fn read_later(&self, backend: &B) -> Result<Pending<B>> {
        let words = backend.download_later(&self.words.words())?;
        Ok(Pending { words, samples: self.samples, skipped: self.skipped })
    }

    /// Zeroes the sums, the number of samples, and those of steps that were left out.
    pub fn reset(&mut self, backend: &B) -> Result<()> {
        self.set(backend, Reading::default())
    }

    /// The sums and the number of samples now, for [`Meter::back_to`].
    pub(crate) fn mark(&self, backend: &B) -> Result<Pending<B>> {
        self.read_later(backend)
    }

    /// Takes back what was added since `mark`, after a step that failed.
    pub(crate) fn back_to(&mut self, backend: &B, mark: Pending<B>) -> Result<()> {
        (self.samples, self.skipped) = (mark.samples, mark.skipped);
        backend.write(&mut self.words.words(), &mark.words.wait()?)
    }

    /// Counts the samples of a step on the host; the step itself adds to the sums.
    pub(crate) fn count(&mut self, samples: usize) {
        // A state file may have said any number before.
        self.samples = self.samples.saturating_add(samples);
    }

    /// Replaces the sums and the number of samples by those of an earlier meter's reading.
    pub fn set(&mut self, backend: &B, reading: Reading) -> Result<()> {
        let mut words = [B::Scalar::from_f64(0.0); WORDS];
        for (word, mean) in words.iter_mut().zip([reading.loss, reading.accuracy, reading.flat]) {
            *word = Real::from_f64(mean * reading.samples as f64);
        }
        words[guard::POLICY] = Real::from_f64(self.policy.word());
        (self.samples, self.skipped) = (reading.samples, reading.skipped);
        backend.write(&mut self.words.words(), &words)
    }
}

impl<B: CrossEntropy> Tape<B> {
    /// The mean cross-entropy of `logits` `[N, classes]` against `labels` `[N]`, for [`Tape::backward`]. Adds losses,
    /// hits and flat rows to `meter`. On the tape of a [shard](Tape::of_shard) it is the shard's share of the batch's mean.
    ///
    /// # Errors
    /// [`Error::Shape`] if `logits` is not a non-empty matrix or there are not N labels. [`Error::Label`] on the CPU if
    /// a label is not below the number of classes; a GPU does not check labels, and the loss is NaN then.
    pub fn cross_entropy(&mut self, logits: &Var<B>, labels: &B::Bytes, meter: &mut Meter<B>) -> Result<Loss<B>> {
        self.smoothed_cross_entropy(logits, labels, 0.0, meter)
    }

    /// [`Tape::cross_entropy`] with label smoothing: each label's target is `1 − smoothing`, and `smoothing` is spread evenly
    /// over all classes, the label's too. So are the losses that are added to `meter`.
    ///
    /// Source: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, "Rethinking the inception architecture for computer vision", CVPR
    /// 2016, <https://arxiv.org/abs/1512.00567>.
    ///
    /// # Errors
    /// As [`Tape::cross_entropy`]; [`Error::Config`] for a smoothing that is not in [0, 1].
    pub fn smoothed_cross_entropy(
        &mut self,
        logits: &Var<B>,
        labels: &B::Bytes,
        smoothing: f64,
        meter: &mut Meter<B>,
    ) -> Result<Loss<B>> {
        require_smoothing(smoothing)?;
        let backend = self.backend().clone();
        let mut gradient = backend.alloc(Role::Activation, logits.shape().len())?;
        let batch = self.shard().map(|shard| shard.batch);
        run(&backend, logits, labels, smoothing, Some(&mut gradient), meter, batch)?;
        self.require_finite_loss("cross_entropy", &gradient)?;
        Ok(Loss { logits: logits.clone(), gradient, guard: meter.words.clone() })
    }

    /// Adds the losses, hits and flat rows of `logits` to `meter` as [`Tape::cross_entropy`] does, without a gradient.
    ///
    /// # Errors
    /// As [`Tape::cross_entropy`].
    pub fn score(&self, logits: &Var<B>, labels: &B::Bytes, meter: &mut Meter<B>) -> Result<()> {
        run(self.backend(), logits, labels, 0.0, None, meter, None)
    }
}

/// # Errors
/// [`Error::Config`] for a label smoothing that is not in [0, 1].
pub(crate) fn require_smoothing(smoothing: f64) -> Result<()> {
    if (0.0..=1.0).contains(&smoothing) {
        return Ok(());
    }
    Err(Error::config("label-smoothing", format!("{smoothing} must be a share, from 0 to 1")))
}

fn run<B: CrossEntropy>(
    backend: &B,
    logits: &Var<B>,
    labels: &B::Bytes,
    smoothing: f64,
    gradient: Option<&mut B::Buf>,
    meter: &mut Meter<B>,
    batch: Option<usize>,
) -> Result<()> {
    let shape = logits.shape();
    let &[n, classes] = shape.dims() else {
        return Err(Error::shape("cross_entropy", format!("needs logits [N, classes], got {shape}; flatten first")));
    };
    if n == 0 || classes == 0 || labels.len() != n {
        return Err(Error::shape("cross_entropy", format!("{} labels for logits {shape}", labels.len())));
    }
    let extents = Extents { n, classes, batch: batch.unwrap_or(n) };
    backend.cross_entropy(extents, &logits.data, labels, smoothing, gradient, &mut meter.words.words())?;
    meter.count(n);
    Ok(())
}
