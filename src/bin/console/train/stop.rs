//! The reasons for which a run stops before its last epoch.

use std::time::Instant;
use std::{fmt, io};

use mlpconv::Result;
use mlpconv::train::{Best, EpochMetrics, Event, TrainConfig};

use super::options::TrainArgs;
use crate::console::time_span::TimeSpan;
use crate::console::{output, signals};

/// A reason to stop.
pub enum Stop {
    /// The number of a signal.
    Signal(i32),
    /// Nobody reads what the run says.
    Output(&'static io::Error),
    /// The process has trained for as long as it may.
    Time(TimeSpan),
    /// The accuracy rises no more.
    Patience(Stalled),
    /// Another rank has a reason.
    Rank,
}

/// Epochs in a row that did not raise the best test accuracy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stalled {
    pub epochs: u32,
    pub best: Best,
    /// As [`TrainConfig::measured`].
    pub measured: &'static str,
}

impl Stalled {
    /// The epochs since the best, if they exhaust the patience of the settings.
    pub fn of(metrics: &[EpochMetrics], config: &TrainConfig) -> Option<Self> {
        let best = Best::of(metrics)?;
        let (epochs, measured) = (metrics.last()?.epoch - best.epoch, config.measured());
        config.patience.filter(|patience| epochs >= *patience).map(|_| Stalled { epochs, best, measured })
    }
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stalled { epochs, best, measured } = self;
        let (last, accuracy) = (best.epoch + epochs, best.test_accuracy);
        let count = if *epochs == 1 { "for an epoch".into() } else { format!("for {epochs} epochs") };
        write!(
            f,
            "stopped after epoch {last}: {count} no {measured} accuracy was above the {accuracy:.4} of epoch {}",
            best.epoch
        )
    }
}

/// The limits of the process and of the run.
pub struct Limits<'a> {
    began: Instant,
    time: Option<TimeSpan>,
    config: &'a TrainConfig,
}

impl<'a> Limits<'a> {
    /// Limits by which the time begins to count now.
    pub fn new(args: &TrainArgs, config: &'a TrainConfig) -> Self {
        Limits { began: Instant::now(), time: args.process.time_limit, config }
    }

    /// The reason to stop after an event, if there is one. `metrics` gives those of the epochs so far.
    ///
    /// # Errors
    /// Those of `metrics`.
    pub fn reached(&self, event: &Event, metrics: impl FnOnce() -> Result<Vec<EpochMetrics>>) -> Result<Option<Stop>> {
        // An epoch that exhausts the patience is the run's last one, and a signal changes nothing about it.
        if let (Event::Epoch { .. }, Some(_)) = (event, self.config.patience)
            && let Some(stalled) = Stalled::of(&metrics()?, self.config)
        {
            return Ok(Some(Stop::Patience(stalled)));
        }
        if let Some(signal) = signals::received() {
            return Ok(Some(Stop::Signal(signal)));
        }
        if let Some(error) = output::failure() {
            return Ok(Some(Stop::Output(error)));
        }
        // A run that goes on repeats the evaluation under way. If it did not end within the limit, the run would get nowhere.
        let in_evaluation = matches!(event, Event::Evaluation { .. });
        Ok(self.time.filter(|limit| !in_evaluation && self.began.elapsed() >= limit.0).map(Stop::Time))
    }
}

#[cfg(test)]
mod tests {
    use mlpconv::train::Preset;

    use super::*;
    use crate::console::epoch_metrics;

    /// Metrics of epochs with these test accuracies.
    fn epochs(accuracies: &[f64]) -> Vec<EpochMetrics> {
        (1..).zip(accuracies).map(|(epoch, accuracy)| epoch_metrics(epoch, *accuracy)).collect()
    }

    #[test]
    fn patience_counts_the_epochs_since_the_best() {
        let with = |patience| TrainConfig { patience, ..Preset::Small.config() };
        let stalled = |accuracies: &[f64], patience| {
            let stalled = Stalled::of(&epochs(accuracies), &with(Some(patience)))?;
            Some((stalled.epochs, stalled.best.epoch))
        };
        assert_eq!(stalled(&[], 1), None);
        assert_eq!(stalled(&[0.5], 1), None);
        assert_eq!(stalled(&[0.5, 0.6, 0.7], 1), None);
        assert_eq!(stalled(&[0.5, 0.7, 0.6], 1), Some((1, 2)));
        assert_eq!(stalled(&[0.5, 0.7, 0.6], 2), None);
        // As good as the best is not better.
        assert_eq!(stalled(&[0.5, 0.7, 0.7, 0.7], 2), Some((2, 2)));
        assert_eq!(stalled(&[0.5, 0.7, 0.6, 0.8], 2), None);
        assert_eq!(Stalled::of(&epochs(&[0.5, 0.4]), &with(None)), None);
    }
}
