//! What the trainings of an exercise gave, for tables, charts and comparisons.

use mlpconv::train::{EpochMetrics, Health};

use super::super::page::Series;
use super::findings::Table;
use super::spread::Spread;

/// How a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Done,
    /// Something was not finite.
    Diverged,
    /// A signal, or an output that nobody reads any more.
    Interrupted,
}

/// What a training gave.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The network's name, which trainings with other seeds share.
    pub network: String,
    pub seed: u64,
    /// The epochs that were completed.
    pub epochs: Vec<EpochMetrics>,
    /// The network's health after the last of them.
    pub health: Health,
    pub end: End,
}

impl Trained {
    /// Accuracy after the last epoch, unless the training was interrupted; 0 if it diverged before an epoch was complete.
    pub fn accuracy(&self) -> Option<f64> {
        let last = self.epochs.last().map_or(0.0, |last| last.test_accuracy);
        (self.end != End::Interrupted).then_some(last)
    }

    /// Seconds of training and measuring.
    pub fn seconds(&self) -> f64 {
        self.epochs.iter().map(|epoch| epoch.train_seconds + epoch.test_seconds).sum()
    }
}

/// The accuracies of a network's trainings; `None` if none came to its end.
pub fn accuracies(trainings: &[Trained], network: &str) -> Option<Spread> {
    Spread::of(trainings.iter().filter(|trained| trained.network == network).filter_map(Trained::accuracy))
}

/// The accuracy of a network's trainings after each epoch, at `x` of the number of epochs: the mean of the seeds, and a band
/// from the lowest to the highest.
pub fn curve(trainings: &[Trained], network: &str, x: impl Fn(u32) -> f64) -> Series {
    let of = || trainings.iter().filter(|trained| trained.network == network);
    let most = of().map(|trained| trained.epochs.len()).max().unwrap_or(0);
    let spreads = (0..most).filter_map(|epoch| {
        let reached = of().filter_map(|trained| trained.epochs.get(epoch)).map(|metrics| metrics.test_accuracy);
        Some((x(epoch as u32 + 1), Spread::of(reached)?))
    });
    let (mut points, mut band) = (Vec::new(), Vec::new());
    for (x, spread) in spreads {
        let [low, high] = spread.range();
        points.push([x, spread.mean()]);
        band.push([x, low, high]);
    }
    Series { name: network.into(), points, band }
}

/// A row for each epoch of each training.
pub fn results(trainings: &[Trained]) -> Table {
    let mut table = Table::new([
        "network",
        "seed",
        "epoch",
        "loss",
        "train_accuracy",
        "test_loss",
        "test_accuracy",
        "rate",
        "train_seconds",
        "test_seconds",
    ]);
    for Trained { network, seed, epochs, .. } in trainings {
        for metrics in epochs {
            table.push([
                network.clone(),
                seed.to_string(),
                metrics.epoch.to_string(),
                metrics.loss.to_string(),
                metrics.train_accuracy.to_string(),
                metrics.test_loss.to_string(),
                metrics.test_accuracy.to_string(),
                metrics.rate.to_string(),
                metrics.train_seconds.to_string(),
                metrics.test_seconds.to_string(),
            ]);
        }
    }
    table
}
