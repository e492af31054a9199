//! The guard of a training step: words in device memory by which the loss and the update keep numbers that are not finite
//! out of the weights, without the host. They lie behind the sums of a running loss
//! ([`Meter`](crate::ops::cross_entropy::Meter)), so that its reading brings them to the host.
//!
//! | word | written by | what it is |
//! |---:|---|---|
//! | 0, 1, 2 | loss | the running loss's sums |
//! | 3 | loss | samples of the batches that were left out of the sums |
//! | 4 | loss | steps that were left out, wholly or in part |
//! | 5 | loss | 1 if the update of the present step is to be left out, else 0 |
//! | 6 | update | 1 if an element of the last update was left out, else 0; the next loss counts it in word 4 and clears it |
//! | 7 | host | the policy: 0 leaves nothing out of the sums, 1 leaves out a batch that is not finite, 2 that batch and all later ones; 3 is for the words of a shard, whose sums overwrite |
//! | 8 | loss | steps that were left out because a rank was lost |
//!
//! The update reads word 5 and writes word 6, so that no part of a launch sees what another part of it has found, and
//! results do not depend on timing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Device, Real};

/// The number of words.
pub const WORDS: usize = 9;

pub(crate) const SAMPLES_LEFT_OUT: usize = 3;
pub(crate) const STEPS_LEFT_OUT: usize = 4;
pub(crate) const NOW: usize = 5;
pub(crate) const LATE: usize = 6;
pub(crate) const POLICY: usize = 7;
pub(crate) const LOST: usize = 8;

/// What the loss does about a batch whose logits or loss are not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Adds it to the sums. Its update is guarded element by element alone.
    Count,
    /// Leaves the step out.
    Skip,
    /// Leaves the step out, and all later ones.
    Stop,
    /// Writes the sums of a shard, and NaN for the loss if a logit is not finite: all shards of the step are decided about together.
    Shard,
}

impl Policy {
    /// The word of the policy.
    pub(crate) fn word(self) -> f64 {
        f64::from(self as u8)
    }

    pub(crate) fn of(words: &[impl Real]) -> Self {
        let word = words[POLICY].to_f64();
        [Policy::Count, Policy::Skip, Policy::Shard]
            .into_iter()
            .find(|policy| policy.word() == word)
            .unwrap_or(Policy::Stop)
    }
}

/// A handle to the words, which loss, gradients and meter share.
pub struct Guard<D: Device>(Arc<Mutex<D::Buf>>);

impl<D: Device> Clone for Guard<D> {
    fn clone(&self) -> Self {
        Guard(self.0.clone())
    }
}

impl<D: Device> Guard<D> {
    pub(crate) fn new(words: D::Buf) -> Self {
        Guard(Arc::new(Mutex::new(words)))
    }

    /// The words, for kernels.
    pub fn words(&self) -> MutexGuard<'_, D::Buf> {
        // A panic elsewhere leaves the buffer; what is in it is on the device.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
