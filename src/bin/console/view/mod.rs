//! The progress of training: a live picture on a terminal, plain lines elsewhere, JSON lines for programs.

mod curve;
mod json;
mod live;
pub mod look;
mod pace;
mod picture;

use std::fmt;
use std::io;
use std::mem;
use std::path::Path;
use std::time::Instant;

use clap::ValueEnum;
use mlpconv::ops::cross_entropy::Reading;
use mlpconv::train::{EpochMetrics, Event, Health, Position, Preset, TrainConfig};
use mlpconv::{Error, Precision};

use super::{note, output, say};
use curve::Curve;
use json::Json;
use live::Live;
use pace::{Extent, Pace};
use picture::{Picture, Stage};

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// bar on a terminal, plain elsewhere, as in a pipe
    #[default]
    Auto,
    /// A bar and a live curve, where standard error is a terminal
    Bar,
    /// A line every --log-every steps, and one an epoch
    Plain,
    /// JSON lines on standard output, for programs: every step, evaluation and epoch
    Json,
    /// Nothing but warnings and errors
    None,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().expect("no variant is skipped").get_name())
    }
}

impl Progress {
    /// The way that suits standard output and standard error: never [`Progress::Auto`], and [`Progress::Bar`] only
    /// where standard error is a terminal that can draw. [`Progress::Json`] and [`Progress::None`] hush standard output.
    pub fn settle(self) -> Self {
        let settled = match self {
            Progress::Auto if output::draws() && !is_pipe(&io::stdout()) => Progress::Bar,
            Progress::Bar if output::draws() => Progress::Bar,
            Progress::Auto | Progress::Bar => Progress::Plain,
            chosen => chosen,
        };
        if matches!(settled, Progress::Json | Progress::None) {
            output::hush();
        }
        settled
    }

    /// The steps between two readings, unless the user asks for a number, in epochs of so many steps: ten lines are
    /// enough to read, a curve and a program take more.
    pub fn readings_every(self, steps: usize) -> usize {
        let tenth = steps.div_ceil(10);
        if self == Progress::Plain { tenth } else { tenth.min(8) }
    }
}

/// Whether what is written may be read by a program that prints it on the same terminal, into the picture.
#[cfg(unix)]
fn is_pipe(stream: &impl std::os::fd::AsFd) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    let file = stream.as_fd().try_clone_to_owned().map(std::fs::File::from);
    file.and_then(|file| file.metadata()).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

#[cfg(not(unix))]
fn is_pipe(stream: &impl io::IsTerminal) -> bool {
    !stream.is_terminal()
}

/// What a view tells of the training that it shows.
pub struct About<'a> {
    pub config: &'a TrainConfig,
    pub folder: &'a Path,
    /// The device's name, and its precision in this process.
    pub device: String,
    pub precision: Precision,
    /// Steps of an epoch.
    pub steps: usize,
    /// Training images of an epoch.
    pub images: usize,
    /// Images that are measured after each epoch.
    pub test_images: usize,
    pub classes: usize,
    /// What was done before this process, and the metrics of those epochs.
    pub position: Position,
    pub done: &'a [EpochMetrics],
}

/// The end of a run in this process.
pub enum End<'a> {
    Done { test_accuracy: f64, train_seconds: f64, weights: &'a Path },
    Interrupted { position: Position, weights: &'a Path, resume: &'a str },
    Failed(&'a Error),
}

/// Shows the progress of training.
pub struct View {
    preset: Preset,
    epochs: u32,
    classes: usize,
    /// As [`TrainConfig::measured`].
    measured: &'static str,
    pace: Pace,
    way: Way,
}

enum Way {
    Live(Live),
    Plain,
    Json(Json),
    Silent,
}

impl View {
    /// Begins to show, in a way that [`Progress::settle`] gave.
    pub fn new(progress: Progress, about: &About) -> Self {
        let &About { config, steps, images, test_images, classes, position, .. } = about;
        let (preset, epochs, measured) = (config.preset, config.epochs, config.measured());
        let way = match progress {
            Progress::Bar => Way::Live(Live::new(Picture {
                epoch: position.epoch + 1,
                epochs,
                stage: Stage::Training { step: position.step as usize, steps },
                reading: None,
                left: None,
                measured,
                curve: Curve::new(epochs, images, measured, about.done),
            })),
            Progress::Auto | Progress::Plain => Way::Plain,
            Progress::Json => Way::Json(Json::new(about)),
            Progress::None => Way::Silent,
        };
        let pace = Pace::new(Extent { epochs, steps, images, test_images }, Instant::now());
        View { preset, epochs, classes, measured, pace, way }
    }

    pub fn show(&mut self, event: &Event) {
        let now = Instant::now();
        match &mut self.way {
            Way::Live(live) => show_live(live, &mut self.pace, event, now),
            Way::Plain => show_plain(&mut self.pace, self.epochs, event, now),
            Way::Json(json) => json.show(event),
            Way::Silent => {}
        }
        if let Event::Epoch { metrics, health } = event {
            self.epoch(metrics, *health);
            self.pace.epoch(Instant::now());
        }
    }

    /// Ends the view, unless it has ended. Of a run that is done, the curve stays on the terminal.
    pub fn end(&mut self, end: &End) {
        match mem::replace(&mut self.way, Way::Silent) {
            Way::Live(live) if matches!(end, End::Done { .. }) => live.leave_curve(),
            Way::Live(_) | Way::Plain | Way::Silent => {}
            Way::Json(json) => json.end(end),
        }
    }

    /// Prints the line of an epoch in the book's format, and a warning if the network is dead or stuck.
    fn epoch(&self, metrics: &EpochMetrics, health: Health) {
        say(format_args!(
            "epoch {}/{}: loss {:.3}, train acc {:.3}, {} acc {:.3}, {:.1} examples/s",
            metrics.epoch,
            self.epochs,
            metrics.loss,
            metrics.train_accuracy,
            self.measured,
            metrics.test_accuracy,
            metrics.examples_per_second
        ));
        if metrics.skipped > 0 {
            let skipped = metrics.skipped;
            note(format_args!(
                "warning: {skipped} steps of the epoch were left out, as something of them was not finite"
            ));
        }
        let remedies = match self.preset {
            Preset::D2l | Preset::D2lGluon => {
                "another --seed, a lower --lr, --preset stable or --preset small, which have no ReLU before the average"
            }
            Preset::Stable | Preset::Small | Preset::Tuned | Preset::Cifar => "another --seed, or a lower --lr",
        };
        let (classes, chance) = (self.classes, (self.classes as f64).ln());
        match health {
            Health::Alive => {}
            Health::Stuck => note(format_args!(
                "warning: loss is still ln {classes} = {chance:.3} and accuracy that of guessing; if it stays so, try {remedies}"
            )),
            Health::Dead => note(format_args!(
                "warning: the network is dead: every logit is 0 for every image (loss ln {classes} = {chance:.3}, accuracy that of \
                 guessing), because its last ReLU lets nothing through, and no gradient will ever come back; try {remedies}"
            )),
        }
    }
}

/// Brings the picture up to date.
fn show_live(live: &Live, pace: &mut Pace, event: &Event, now: Instant) {
    let mut picture = live.picture();
    match event {
        Event::Step { position, steps, images, reading } => {
            let step = position.step as usize;
            pace.step(now);
            picture.epoch = position.epoch + 1;
            picture.stage = Stage::Training { step, steps: *steps };
            if let Some((read, reading)) = reading {
                picture.reading = Some((*reading, pace.rate(reading, *images, now)));
                let at = f64::from(position.epoch) + f64::from(*read) / *steps as f64;
                picture.curve.reading(at, reading);
            }
            picture.left = pace.left(picture.epoch, *steps - step, 0).map(|left| (left, now));
        }
        Event::Evaluation { done, of } => {
            let before = match picture.stage {
                Stage::Testing { done, .. } => done,
                Stage::Training { .. } => 0,
            };
            pace.tested(done.saturating_sub(before), now);
            picture.stage = Stage::Testing { done: *done, of: *of };
            picture.left = pace.left(picture.epoch, 0, *done).map(|left| (left, now));
        }
        Event::Epoch { metrics, .. } => picture.curve.epoch(metrics),
    }
}

/// Prints a line for each reading.
fn show_plain(pace: &mut Pace, epochs: u32, event: &Event, now: Instant) {
    let Event::Step { position, steps, images, reading: Some((step, reading)) } = event else { return };
    let (epoch, progress) = (position.epoch + 1, progress(reading, pace.rate(reading, *images, now)));
    say(format_args!("epoch {epoch}/{epochs}, step {step}/{steps}: {progress}"));
}

/// What a reading tells, with the images a second.
fn progress(reading: &Reading, rate: f64) -> String {
    format!("loss {:.3}, train acc {:.3}, {rate:.0} images/s", reading.loss, reading.accuracy)
}
