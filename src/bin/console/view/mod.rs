//! The progress of training: a bar on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mlpconv::train::{EpochMetrics, Event, Health, Preset};

use super::{note, say};

/// Shows the progress of training: a bar on a terminal, plain lines elsewhere.
pub struct View {
    preset: Preset,
    epochs: u32,
    classes: usize,
    bar: ProgressBar,
    /// The start of the epoch, or of the run if it resumes within an epoch.
    began: Instant,
    /// Whether the bar has been set up for this epoch.
    begun: bool,
    /// The epoch's images trained on before `began`; `None` until the run's first reading.
    before: Option<usize>,
}

impl View {
    pub fn new(preset: Preset, epochs: u32, classes: usize) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        let template = "{prefix} {bar:24} {pos}/{len} {msg}, {eta} left";
        bar.set_style(ProgressStyle::with_template(template).expect("a constant template"));
        View { preset, epochs, classes, bar, began: Instant::now(), begun: false, before: None }
    }

    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }

    pub fn show(&mut self, event: &Event) {
        match *event {
            Event::Step { position, steps, images, reading } => {
                if !self.begun {
                    self.begun = true;
                    // The first step of an epoch, or of a run that resumes within one.
                    self.bar.reset();
                    self.bar.set_length(steps as u64);
                    self.bar.set_position(u64::from(position.step) - 1);
                    self.bar.reset_eta();
                    self.bar.set_prefix(format!("epoch {}/{}", position.epoch + 1, self.epochs));
                }
                self.bar.set_position(u64::from(position.step));
                let Some((step, reading)) = reading else { return };
                // The device may lag behind the steps launched, so the rate counts the samples of the reading.
                let before = *self.before.get_or_insert(reading.samples.saturating_sub(images));
                let done = reading.samples - before;
                let rate = done as f64 / self.began.elapsed().as_secs_f64().max(1e-9);
                let progress =
                    format!("loss {:.3}, train acc {:.3}, {rate:.0} images/s", reading.loss, reading.accuracy);
                if stderr().is_terminal() {
                    self.bar.set_message(progress);
                } else {
                    let (epoch, epochs) = (position.epoch + 1, self.epochs);
                    say(format_args!("epoch {epoch}/{epochs}, step {step}/{steps}: {progress}"));
                }
            }
            Event::Evaluation { done, of } => {
                self.bar.set_length(of as u64);
                self.bar.set_position(done as u64);
                self.bar.set_message("images tested");
            }
            Event::Epoch { metrics, health } => {
                self.bar.suspend(|| self.epoch(&metrics, health));
                (self.began, self.begun, self.before) = (Instant::now(), false, Some(0));
            }
        }
    }

    /// Prints the line of an epoch in the book's format, and a warning if the network is dead or stuck.
    fn epoch(&self, metrics: &EpochMetrics, health: Health) {
        say(format_args!(
            "epoch {}/{}: loss {:.3}, train acc {:.3}, test acc {:.3}, {:.1} examples/s",
            metrics.epoch,
            self.epochs,
            metrics.loss,
            metrics.train_accuracy,
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
                "another --seed, a lower --lr, or --preset small, which has no ReLU before the average"
            }
            Preset::Small | Preset::Cifar => "another --seed, or a lower --lr",
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
