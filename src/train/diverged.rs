//! Steps of which something is not finite: what the host learns of them, and which op is to blame.

use super::gradients::gradients;
use super::source::Source;
use super::{Feed, OnNan, Position, Trainer};
use crate::Backend;
use crate::device::guard::Policy;
use crate::error::{NotFinite, Place};
use crate::nn::Module;
use crate::ops::cross_entropy::{Meter, Reading};
use crate::tape::{Shard, Tape};
use crate::{Error, Result, Shape};

impl<B: Backend, N: Module<B>> Trainer<B, N> {
    /// Sets what to do about a step of which something is not finite; [`OnNan::Stop`] at first. The running loss
    /// goes on.
    ///
    /// # Errors
    /// As the device ([`Device`](crate::device::Device)).
    pub fn set_on_nan(&mut self, on_nan: OnNan) -> Result<()> {
        if self.meter.policy() == on_nan.policy() {
            return Ok(());
        }
        let reading = self.meter.read(&self.backend)?;
        self.meter.set_policy(on_nan.policy());
        self.meter.set(&self.backend, reading)
    }

    /// `reading`, which covers the steps up to `position`.
    ///
    /// # Errors
    /// [`Error::Diverged`] if something was not finite and was not skipped. It names the step, and the loss if that says it.
    pub(super) fn require_finite(&self, reading: Reading, Position { epoch, step }: Position) -> Result<Reading> {
        let step = step as usize;
        let (step, found) = match reading {
            Reading { held: 1.., .. } => ((step + 1).saturating_sub(reading.held), NotFinite::uncounted(Place::Step)),
            Reading { loss, .. } if !loss.is_finite() => (step, NotFinite::loss(loss, Place::Loss)),
            _ => return Ok(reading),
        };
        Err(Error::Diverged { epoch: epoch.saturating_add(1), step, found })
    }

    /// Goes back to the first step of which something was not finite: position, optimiser's counters and running loss are
    /// those before it, as the weights are. Returns whether there was such a step.
    pub(super) fn go_back(&mut self) -> Result<bool> {
        let reading = self.meter.read(&self.backend)?;
        self.position.step = self.position.step.saturating_sub(reading.held as u32);
        self.optimizer.uncount(reading.held as u64);
        self.meter.set(&self.backend, reading)?;
        Ok(reading.held > 0)
    }

    /// Looks for the first values that are not finite in a training step on this batch at the present position and weights:
    /// its forward and backward pass on a [checked tape](Tape::checked), without an update. `None` if all are finite. The
    /// arguments are as for [`Trainer::step`].
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn find_not_finite(&self, images: &[B::Scalar], shape: Shape, labels: &[u8]) -> Result<Option<NotFinite>> {
        self.look(&Source::host(images, labels, shape))
    }

    /// [`Trainer::find_not_finite`], in the shards of this rank, one after the other.
    fn look(&self, source: &Source<'_, B>) -> Result<Option<NotFinite>> {
        let batch = source.batch();
        let Some(shards) = &self.shards else { return self.look_at(source, None) };
        for (index, ..) in
            shards.order().leaves().filter(|(index, ..)| !shards.order().images(*index, batch).is_empty())
        {
            if let Some(found) = self.look_at(source, Some(Shard { index: index as u32, batch }))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn look_at(&self, source: &Source<'_, B>, shard: Option<Shard>) -> Result<Option<NotFinite>> {
        let backend = &self.backend;
        let part = match (shard, &self.shards) {
            (Some(Shard { index, batch }), Some(shards)) => {
                source.part(backend, shards.order().images(index as usize, batch))?
            }
            _ => source.whole(backend)?,
        };
        let tape = Tape::checked(backend, self.mode()).of_shard(shard)?;
        let mut meter = Meter::with(backend, Policy::Count)?;
        match gradients(&self.net, tape, part, self.label_smoothing, &mut meter, &mut |_| Ok(())) {
            Ok(_) => {
                let loss = meter.read(backend)?.loss;
                Ok((!loss.is_finite()).then(|| NotFinite::loss(loss, Place::Loss)))
            }
            Err(Error::NotFinite(found)) => Ok(Some(found)),
            Err(error) => Err(error),
        }
    }

    /// What the first rank with a finding has found: the own finding, or another rank's in its words.
    fn first_finding(&self, own: Option<NotFinite>) -> Result<Option<NotFinite>> {
        let Some(group) = self.shards.as_ref().and_then(|shards| shards.group()) else { return Ok(own) };
        let said = group.exchange(own.as_ref().map(ToString::to_string).unwrap_or_default().as_bytes())?;
        let Some(rank) = said.iter().position(|said| !said.is_empty()) else { return Ok(None) };
        if rank == group.rank() {
            return Ok(own);
        }
        let found = String::from_utf8_lossy(&said[rank]).into_owned();
        Ok(Some(NotFinite::uncounted(Place::Rank { rank, found })))
    }
}

impl<B: Backend<Scalar = f32>, N: Module<B>> Trainer<B, N> {
    /// The error for a run that the guard has stopped. Goes back to the step, and repeats it on a checked tape.
    ///
    /// With other ranks, they look in their shards as well, unless this one is `alone` with the error.
    pub(super) fn diverged(&mut self, train: Feed<'_, B>, alone: bool) -> Result<Error> {
        // A recording's memory is free for the step that is repeated.
        *self.recorded.get_mut() = Default::default();
        let known = self.go_back()?;
        let Position { epoch, step } = self.position;
        let mut batches = train.epoch_from(epoch, step as usize)?;
        let found = match batches.next() {
            Some(batch) if known => self.look(&batch.source()),
            _ => Ok(Some(NotFinite::uncounted(Place::Step))),
        };
        let found = found.and_then(|found| if alone { Ok(found) } else { self.first_finding(found) });
        let found = match found {
            Ok(Some(found)) => found,
            // Every value of the passes is finite, so those of the update were not.
            Ok(None) => NotFinite::uncounted(Place::Update),
            // Too little memory to look, for one.
            Err(_) => NotFinite::uncounted(Place::Step),
        };
        Ok(Error::Diverged { epoch: epoch.saturating_add(1), step: step as usize + 1, found })
    }
}
