//! What ranks decide and count together while they train: when to stop, how the test images are told, and what is left once a rank is
//! lost.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::Feed;
use super::Trainer;
use crate::device::guard::WORDS;
use crate::nn::Module;
use crate::ops::cross_entropy::Reading;
use crate::ranks::Group;
use crate::{Backend, Error, Result};

impl<B: Backend, N: Module<B>> Trainer<B, N> {
    /// The ranks that share the steps; `None` for a single one.
    pub fn group(&self) -> Option<&Arc<Group>> {
        self.shards.as_ref().and_then(|shards| shards.group())
    }

    /// Whether a rank wishes to stop. Where it is not due, ranks go on, and their wishes are counted at the next vote.
    pub(super) fn vote(&self, wish: bool, due: bool) -> Result<bool> {
        self.goes_on();
        match self.group() {
            Some(group) if due => group.any(wish),
            Some(_) => Ok(false),
            None => Ok(wish),
        }
    }

    /// Tells what joins the devices that this rank does not hang.
    fn goes_on(&self) {
        if let Some(communicator) = self.shards.as_ref().and_then(|shards| shards.communicator()) {
            self.backend.goes_on(communicator);
        }
    }

    /// Whether training ended because a rank was lost.
    pub(super) fn has_lost(&self, error: &Error) -> bool {
        let failed = self.group().is_some_and(|group| group.failure().is_some());
        #[cfg(feature = "cuda")]
        if matches!(error, Error::Cuda(_)) {
            return failed;
        }
        failed && matches!(error, Error::Ranks(_) | Error::Diverged { .. })
    }

    /// Goes back to the last complete step. Returns the error to tell.
    pub(super) fn lost(&mut self, error: Error) -> Error {
        let gone_back = self.go_back();
        // NCCL gives a communicator up once no recording has work of it.
        *self.recorded.get_mut() = Default::default();
        // A device that has failed as well has nothing to go back to.
        if let Err(of_device) = gone_back {
            return of_device;
        }
        let failure = self.group().and_then(|group| group.failure());
        failure.map_or(error, Error::Ranks)
    }
}

impl<B: Backend<Scalar = f32>, N: Module<B>> Trainer<B, N> {
    /// [`Trainer::evaluate`] by ranks: each takes every so many batches. The sums of the batches are added in order, in fp32 as a
    /// single rank's device adds them, so the reading has the same bits.
    pub(super) fn evaluate_divided(
        &self,
        group: &Group,
        feed: Feed<'_, B>,
        on_batch: &mut dyn FnMut(&Self, usize) -> Result<ControlFlow<()>>,
    ) -> Result<Option<Reading>> {
        let (mut done, mut stopped) = (0, false);
        let mut sums = Vec::new();
        for (number, batch) in feed.epoch_from(0, 0)?.enumerate() {
            done += batch.len();
            if number % group.ranks() != group.rank() {
                continue;
            }
            self.goes_on();
            self.scores.borrow_mut().reset(&self.backend)?;
            self.evaluate_batch(&batch)?;
            sums.push(self.backend.download_later(&self.scores.borrow().guard().words())?);
            if on_batch(self, done)?.is_break() {
                stopped = true;
                break;
            }
        }
        let mut own = vec![u8::from(stopped)];
        for words in sums {
            let words = crate::device::Download::wait(words)?;
            own.extend(words[..3].iter().flat_map(|word| word.to_le_bytes()));
        }
        let all = group.exchange(&own)?;
        if all.iter().any(|rank| rank.first() != Some(&0)) {
            return Ok(None);
        }
        let mut words = [0.0f32; WORDS];
        for number in 0..feed.loader().steps() {
            let rank = number % group.ranks();
            let sums = all[rank][1..].as_chunks::<12>().0.get(number / group.ranks());
            let none =
                || Error::data("test images", format!("rank {rank} has no batch {number}; all ranks need the same"));
            let sums = sums.ok_or_else(none)?.as_chunks::<4>().0;
            words.iter_mut().zip(sums).for_each(|(word, sum)| *word += f32::from_le_bytes(*sum));
        }
        Ok(Some(Reading::of_sums(&words, feed.loader().dataset().len())))
    }
}
