//! Which weights of a run a command uses.

use std::path::PathBuf;

use mlpconv::Result;
use mlpconv::train::Run;

use super::note;

/// The options that choose among a run's weights, and others.
#[derive(clap::Args)]
#[group(multiple = false)]
pub struct WeightsArgs {
    /// Weights to use instead of the run's last ones
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Use the weights of the run's best epoch. It was chosen by its accuracy on the test images, or the holdout, so that accuracy
    /// is optimistic
    #[arg(long)]
    best: bool,
    /// Use the average of the run's weights, which a run with the setting `average` has
    #[arg(long)]
    average: bool,
}

impl WeightsArgs {
    /// The file of the weights. Of the best ones a line says which they are.
    ///
    /// # Errors
    /// As [`Run::best`] and [`Run::average`].
    pub fn of(&self, run: &Run) -> Result<PathBuf> {
        if self.best {
            note(format_args!("the best weights: {}", run.best()?.on(run.config().measured())));
            return Ok(run.best_weights());
        }
        if self.average {
            return run.average();
        }
        Ok(self.weights.clone().unwrap_or_else(|| run.weights()))
    }
}
