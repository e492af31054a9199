//! `best.safetensors`: the weights after a run's best epoch. The file itself says which epoch that is.

use std::io::ErrorKind;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Run;
use crate::nn::Module;
use crate::train::{EpochMetrics, Position, Trainer};
use crate::weights::Tensors;
use crate::{Backend, Error, Result};

pub(super) const BEST: &str = "best.safetensors";

/// The best epoch of a run: that with the highest test accuracy, of equal ones the earliest. It is chosen on the images that
/// are measured after each epoch, the test images or a [holdout](crate::train::TrainConfig::holdout), so its accuracy on them is
/// optimistic: on images that no choice was made by, it is lower.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The epoch's number, from 1.
    pub epoch: u32,
    /// Share of the measured images classified correctly after that epoch.
    pub test_accuracy: f64,
}

impl Best {
    /// The epoch and its accuracy on the images that were measured, which [`TrainConfig::measured`](crate::train::TrainConfig::measured) names.
    pub fn on(&self, measured: &str) -> String {
        let Best { epoch, test_accuracy } = self;
        format!("epoch {epoch}, {measured} accuracy {test_accuracy:.4}")
    }

    /// The best of some epochs in their order; `None` if there are none.
    pub fn of(history: &[EpochMetrics]) -> Option<Self> {
        let best =
            history.iter().reduce(|best, next| if next.test_accuracy > best.test_accuracy { next } else { best });
        best.map(|best| Best { epoch: best.epoch, test_accuracy: best.test_accuracy })
    }
}

impl Run {
    /// The path of the file of the best weights, which PyTorch loads. [`Run::best`] says what it holds.
    pub fn best_weights(&self) -> PathBuf {
        self.folder.join(BEST)
    }

    /// The epoch of which `best.safetensors` has the weights: the best of those after which the run was saved. Runs of
    /// older versions have no such file until a later epoch is better.
    ///
    /// # Errors
    /// [`Error::Run`] if there is no such file; [`Error::Io`] if it cannot be read; [`Error::Weights`] if it is damaged,
    /// does not say of which epoch it is, or is of another course of the run. As [`Run::metrics`] besides.
    pub fn best(&self) -> Result<Best> {
        let best = self.read_best()?.ok_or_else(|| {
            let problem = "it has no best weights: they are saved after an epoch that is better than all before it";
            Error::run(&self.folder, format!("{problem}; take the last ones"))
        })?;
        let is_of = |metrics: &EpochMetrics| Best::of(&[*metrics]) == Some(best);
        if !self.metrics()?.iter().any(is_of) {
            let best = best.on(self.config.measured());
            let problem =
                format!("it is of another course of the run, which has no such {best}; take the last weights");
            return Err(Error::weights(self.best_weights())(problem));
        }
        Ok(best)
    }

    /// Reads and checks `best.safetensors`; `None` if there is none.
    fn read_best(&self) -> Result<Option<Best>> {
        let path = self.best_weights();
        let tensors = match Tensors::load(&path) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
            tensors => tensors?,
        };
        let note = tensors.note().filter(|_| tensors.is_sealed());
        let best = note.and_then(|note| serde_json::from_str(note).ok());
        let problem =
            "it does not say, under a checksum, of which epoch it is, so no run has written it; take the last weights";
        best.map(Some).ok_or_else(|| Error::weights(path)(problem.into()))
    }

    /// Writes `best.safetensors` if the trainer stands at the end of the best epoch, and the file is not of that.
    pub(super) fn keep_best<B: Backend, N: Module<B>>(&mut self, trainer: &Trainer<B, N>) -> Result<()> {
        let best = Best::of(&self.history);
        let Some(best) = best.filter(|best| self.kept != Some(*best)) else { return Ok(()) };
        if trainer.position == (Position { epoch: best.epoch, step: 0 }) {
            let mut tensors = Tensors::of(&trainer.backend, &trainer.net)?;
            tensors.set_note(serde_json::to_string(&best).map_err(|e| Error::run(&self.folder, e.to_string()))?);
            tensors.save(&self.best_weights())?;
            self.kept = Some(best);
        }
        Ok(())
    }

    /// Looks whether `best.safetensors` is of the best epoch of a run that goes on. A run that ended between its state and
    /// this file has the weights in its state. Otherwise those weights are lost, which is a warning unless there is no file,
    /// as in runs of older versions; the file is replaced after the next epoch that is better.
    pub(super) fn settle_best<B: Backend, N: Module<B>>(&mut self, trainer: &Trainer<B, N>) -> Result<()> {
        let read = self.read_best();
        self.kept = match &read {
            Ok(kept) => *kept,
            Err(Error::Weights { .. }) => None,
            Err(_) => return read.map(drop),
        };
        self.keep_best(trainer)?;
        let best = Best::of(&self.history);
        if self.kept == best {
            return Ok(());
        }
        let lost = best
            .map_or("no epoch is done".into(), |best| format!("the best weights, of epoch {}, are lost", best.epoch));
        match read {
            Ok(None) => {}
            Ok(Some(other)) => {
                self.warn(format!("{BEST} is of epoch {} of another course of the run: {lost}", other.epoch))
            }
            Err(error) => self.warn(format!("{error}: {lost}")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_epochs_the_earliest_is_the_best() {
        let epoch = |(epoch, test_accuracy)| EpochMetrics {
            epoch,
            test_accuracy,
            loss: 0.0,
            train_accuracy: 0.0,
            test_loss: 0.0,
            examples_per_second: 0.0,
            train_seconds: 0.0,
            test_seconds: 0.0,
            rate: 0.0,
            skipped: 0,
        };
        let history = [(1, 0.5), (2, 0.75), (3, 0.25), (4, 0.75)].map(epoch);
        let best = |epochs: usize| Best::of(&history[..epochs]);
        assert_eq!(best(0), None);
        assert_eq!(best(1), Some(Best { epoch: 1, test_accuracy: 0.5 }));
        assert_eq!(best(4), Some(Best { epoch: 2, test_accuracy: 0.75 }));
    }
}
