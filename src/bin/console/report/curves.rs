//! Runs as curves and as rows of settings, for the report of one and the comparison of several.

use std::path::Path;

use maud::{Markup, html};
use mlpconv::train::{EpochMetrics, TrainConfig};

use crate::console::page::{Axis, Chart, Scale, Series};

/// The name of a run, its folder's, or of a file.
pub fn name(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    whole.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// The epoch with the largest accuracy on the images that are measured; of equals the first.
pub fn best(metrics: &[EpochMetrics]) -> Option<&EpochMetrics> {
    metrics.iter().rev().max_by(|a, b| a.test_accuracy.total_cmp(&b.test_accuracy))
}

/// The settings as `config.toml` has them: names and values.
pub fn settings(config: &TrainConfig) -> Vec<(String, String)> {
    let table = toml::Table::try_from(config).unwrap_or_default();
    let plain = |value: toml::Value| match value {
        toml::Value::String(text) => text,
        other => other.to_string(),
    };
    table.into_iter().map(|(name, value)| (name, plain(value))).collect()
}

/// A curve of something by something else over epochs.
pub fn series(
    name: &str,
    metrics: &[EpochMetrics],
    x: impl Fn(&EpochMetrics) -> f64,
    y: impl Fn(&EpochMetrics) -> f64,
) -> Series {
    Series { name: name.into(), points: metrics.iter().map(|epoch| [x(epoch), y(epoch)]).collect(), band: Vec::new() }
}

/// A chart of curves with linear axes.
pub fn chart(title: &str, x: &str, y: &str, series: Vec<Series>) -> Chart {
    let axis = |label: &str| Axis { label: label.into(), scale: Scale::Linear };
    Chart { title: title.into(), x: axis(x), y: axis(y), series }
}

/// Loss, accuracy and rate of a run, by epoch. `measured` are the images that were measured.
pub fn of_a_run(metrics: &[EpochMetrics], measured: &str) -> Markup {
    if metrics.is_empty() {
        return html! { p { "No epoch is done yet." } };
    }
    let curve = |name: &str, y: fn(&EpochMetrics) -> f64| series(name, metrics, |epoch| f64::from(epoch.epoch), y);
    let loss = vec![curve("training", |epoch| epoch.loss), curve(measured, |epoch| epoch.test_loss)];
    let accuracy = vec![curve("training", |epoch| epoch.train_accuracy), curve(measured, |epoch| epoch.test_accuracy)];
    let rate = vec![curve("learning rate", |epoch| epoch.rate)];
    let speed = vec![curve("images a second", |epoch| epoch.examples_per_second)];
    html! {
        div.figures {
            (chart("Loss", "epoch", "cross-entropy", loss).figure())
            (chart("Accuracy", "epoch", "share of images", accuracy).figure())
            (chart("Learning rate", "epoch", "rate of the epoch's last step", rate).figure())
            (chart("Speed", "epoch", "training images a second", speed).figure())
        }
        p.quiet {
            "Training loss and accuracy are means over an epoch, each batch before its update, with dropout, and on images and \
             labels as the recipe changes them; " (measured) " loss and accuracy are those after it, without any of that."
        }
    }
}
