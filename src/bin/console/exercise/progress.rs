//! The progress of an exercise over all of its trainings: a bar on a terminal, plain lines elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mlpconv::train::EpochMetrics;

use super::super::say;

/// The least time between two lines of epochs where there is no terminal.
const QUIET: Duration = Duration::from_secs(10);

pub struct Progress {
    bar: ProgressBar,
    /// The name of the training under way.
    training: String,
    /// The time of the last line.
    told: Instant,
}

impl Progress {
    pub fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
        let template = "{percent:>3}% {bar:24} {eta} left, {msg}";
        bar.set_style(ProgressStyle::with_template(template).expect("a constant template"));
        Progress { bar, training: String::new(), told: Instant::now() }
    }

    /// The work begins: so many training images in all.
    pub fn begin(&mut self, images: u64) {
        self.bar.set_length(images);
        self.bar.reset_eta();
        self.told = Instant::now();
    }

    /// A training begins.
    pub fn training(&mut self, name: &str) {
        self.training = name.into();
        self.bar.set_message(self.training.clone());
    }

    /// So many images more are trained on.
    pub fn images(&self, images: usize) {
        self.bar.inc(images as u64);
    }

    /// An epoch of so many is done.
    pub fn epoch(&mut self, metrics: &EpochMetrics, epochs: u32) {
        let EpochMetrics { epoch, loss, test_accuracy, .. } = metrics;
        let line = format!("{}, epoch {epoch}/{epochs}: loss {loss:.3}, accuracy {test_accuracy:.3}", self.training);
        if self.bar.is_hidden() && *epoch < epochs && self.told.elapsed() >= QUIET {
            self.line(&line);
        }
        self.bar.set_message(line);
    }

    /// A line above the bar.
    pub fn line(&mut self, line: &str) {
        self.bar.suspend(|| say(line));
        self.told = Instant::now();
    }

    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// A time for readers: `42 s`, `5 min 20 s`, `3 h 5 min`.
pub fn time(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_told_in_two_units() {
        assert_eq!([59.4, 59.6, 3599.0, 11_100.0].map(super::time), ["59 s", "1 min 0 s", "59 min 59 s", "3 h 5 min"]);
    }
}
