//! The end of a run in this process: done, with its scores and its last report, or interrupted, with the way to go on.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use mlpconv::data::Dataset;
use mlpconv::nn::Nin;
use mlpconv::train::{Position, Run, Score, Trainer};
use mlpconv::{Backend, Result};

use super::going_on::resumption;
use super::options::TrainArgs;
use super::scores;
use super::stop::Stop;
use crate::console::memory::Steps;
use crate::console::report::Renewal;
use crate::console::view::{End, View};
use crate::console::{note, output, say, say_in_one, signals};

/// What an end needs besides the run.
pub struct Ending<'a> {
    pub args: &'a TrainArgs,
    /// The test images, by which a run is scored.
    pub test: &'a Arc<Dataset>,
    /// The memory of a step.
    pub steps: &'a Steps,
}

impl Ending<'_> {
    /// Ends a run that is done: takes its scores, unless it has them, renews its report and says the result. A signal during the
    /// scores interrupts the run, whose next resumption makes up for them.
    ///
    /// # Errors
    /// As reading and writing the run's files, and as classifying.
    pub fn done<B: Backend<Scalar = f32>>(
        &self,
        run: &mut Run,
        trainer: &Trainer<B, Nin<B>>,
        report: &mut Renewal,
        view: &mut View,
    ) -> Result<ExitCode> {
        let mut taken = run.scores()?;
        if taken.is_empty() && scores::are_wanted(run.config()) {
            let found = scores::scores(run, &trainer.backend, self.test);
            let Some(found) = found.map_err(|error| self.steps.explain(&trainer.backend, error))? else {
                let stop = signals::received().map(Stop::Signal);
                return Ok(self.interrupted(run, trainer.position, stop, view));
            };
            run.save_scores(&found)?;
            taken = found;
        }
        report.renew(run, trainer, true);
        let epochs = run.metrics()?;
        let train_seconds = epochs.iter().map(|epoch| epoch.train_seconds).sum();
        let of_epoch = epochs.last().map_or(0.0, |last| last.test_accuracy);
        let test_accuracy = taken.last().map_or(of_epoch, |score| score.accuracy);
        let weights = weights(run, &taken);
        view.end(&End::Done { test_accuracy, train_seconds, weights: &weights });
        say(format_args!("done: test accuracy {test_accuracy:.4} after {train_seconds:.1} s of training"));
        taken.iter().for_each(|score| say(format_args!("score    {score}")));
        say(format_args!("weights  {}", weights.display()));
        if let Ok(best) = run.best() {
            say(format_args!("best     {} ({})", run.best_weights().display(), best.on(run.config().measured())));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Says where a run was saved that has lost a rank; the error follows.
    pub fn lost(&self, run: &Run, position: Position) {
        note(format_args!("a rank was lost {}; saved to {}", place(position), run.weights().display()));
        note(format_args!(
            "go on with any number of ranks, up to {}: {}",
            run.config().shards,
            resumption(self.args, run.folder())
        ));
    }

    /// Ends the process of a run that is saved and not done.
    pub fn interrupted(&self, run: &Run, position: Position, stop: Option<Stop>, view: &mut View) -> ExitCode {
        let place = place(position);
        let what = match stop {
            Some(Stop::Time(limit)) => format!("time limit of {limit} reached"),
            Some(Stop::Rank) => "interrupted on another rank".into(),
            _ => "interrupted".into(),
        };
        let (weights, resume) = (run.weights(), resumption(self.args, run.folder()));
        view.end(&End::Interrupted { position, weights: &weights, resume: &resume });
        say(format_args!("{what} {place}; saved to {}", weights.display()));
        say_in_one(format_args!("go on with: {resume}"));
        match stop {
            Some(Stop::Signal(signal)) => ExitCode::from(signals::code(signal) as u8),
            Some(Stop::Output(error)) => output::failed(error),
            _ => ExitCode::SUCCESS,
        }
    }
}

/// The place of a run that is not done, in words.
fn place(Position { epoch, step }: Position) -> String {
    match step {
        0 => format!("after epoch {epoch}"),
        _ => format!("in epoch {}, after step {step}", epoch + 1),
    }
}

/// The file of the weights that the result is of.
fn weights(run: &Run, scores: &[Score]) -> PathBuf {
    scores.last().map_or_else(|| run.weights(), |score| run.folder().join(&score.weights))
}
