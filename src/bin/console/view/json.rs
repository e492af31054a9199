//! The progress of training as JSON lines on standard output. PROGRESS.md beside this file documents them: its table
//! and these structures change together, and [`SCHEMA`] with them.

use std::time::Instant;

use mlpconv::train::{EpochMetrics, Event, Health, Position};
use serde::{Serialize, Serializer};

use super::{About, End};
use crate::console::output::emit;

/// The schema's version. A new key leaves it; a key that is taken away, or that changes its meaning, raises it.
const SCHEMA: u32 = 1;

/// A line: its seconds since the first line, then an event.
#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    #[serde(serialize_with = "to_the_millisecond")]
    seconds: f64,
    #[serde(flatten)]
    what: What<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum What<'a> {
    Run {
        schema: u32,
        preset: String,
        data: String,
        device: &'a str,
        precision: String,
        folder: String,
        epochs: u32,
        steps: usize,
        images: usize,
        test_images: usize,
        measured: &'static str,
        classes: usize,
        /// Epochs, and steps of the next one, that were done before.
        done_epochs: u32,
        done_steps: u32,
    },
    Step {
        epoch: u32,
        step: u32,
        images: usize,
        #[serde(flatten)]
        reading: Option<Read>,
    },
    Evaluation {
        epoch: u32,
        images: usize,
    },
    Epoch {
        #[serde(flatten)]
        metrics: &'a EpochMetrics,
        health: &'static str,
    },
    Done {
        status: &'static str,
        test_accuracy: f64,
        train_seconds: f64,
        weights: String,
    },
    Interrupted {
        status: &'static str,
        done_epochs: u32,
        done_steps: u32,
        weights: String,
        resume: &'a str,
    },
    Failed {
        status: &'static str,
        error: String,
    },
}

/// Means over the first `reading_step` steps of the epoch.
#[derive(Serialize)]
struct Read {
    reading_step: u32,
    reading_images: usize,
    loss: f64,
    train_accuracy: f64,
}

fn to_the_millisecond<S: Serializer>(seconds: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((seconds * 1e3).round() / 1e3)
}

/// Prints the lines of a run.
pub struct Json {
    began: Instant,
    /// The epoch, from 1.
    epoch: u32,
}

impl Json {
    /// Prints the first line.
    pub fn new(about: &About) -> Self {
        let Position { epoch, step } = about.position;
        let json = Json { began: Instant::now(), epoch: epoch + 1 };
        let config = about.config;
        json.print(
            "run",
            What::Run {
                schema: SCHEMA,
                preset: config.preset.to_string(),
                data: config.data.to_string(),
                device: &about.device,
                precision: about.precision.to_string(),
                folder: about.folder.display().to_string(),
                epochs: config.epochs,
                steps: about.steps,
                images: about.images,
                test_images: about.test_images,
                measured: config.measured(),
                classes: about.classes,
                done_epochs: epoch,
                done_steps: step,
            },
        );
        json
    }

    pub fn show(&mut self, event: &Event) {
        match event {
            Event::Step { position, images, reading, .. } => {
                self.epoch = position.epoch + 1;
                let reading = reading.as_ref().map(|(step, reading)| Read {
                    reading_step: *step,
                    reading_images: reading.samples,
                    loss: reading.loss,
                    train_accuracy: reading.accuracy,
                });
                self.print("step", What::Step { epoch: self.epoch, step: position.step, images: *images, reading });
            }
            Event::Evaluation { done, of } if done == of => {
                self.print("evaluation", What::Evaluation { epoch: self.epoch, images: *of });
            }
            Event::Evaluation { .. } => {}
            Event::Epoch { metrics, health } => {
                let health = match health {
                    Health::Alive => "alive",
                    Health::Stuck => "stuck",
                    Health::Dead => "dead",
                };
                self.print("epoch", What::Epoch { metrics, health });
                self.epoch = metrics.epoch + 1;
            }
        }
    }

    /// Prints the last line.
    pub fn end(&self, end: &End) {
        let what = match *end {
            End::Done { test_accuracy, train_seconds, weights } => {
                let weights = weights.display().to_string();
                What::Done { status: "done", test_accuracy, train_seconds, weights }
            }
            End::Interrupted { position: Position { epoch, step }, weights, resume } => {
                let (done_epochs, done_steps, weights) = (epoch, step, weights.display().to_string());
                What::Interrupted { status: "interrupted", done_epochs, done_steps, weights, resume }
            }
            End::Failed(error) => What::Failed { status: "failed", error: error.to_string() },
        };
        self.print("end", what);
    }

    fn print(&self, event: &'static str, what: What) {
        let line = Line { event, seconds: self.began.elapsed().as_secs_f64(), what };
        emit(serde_json::to_string(&line).expect("strings and numbers"));
    }
}
