//! `scores.json`: how well the weights of a finished run do on the test images.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Run;
use crate::weights::write_whole;
use crate::{Error, Result};

pub(super) const SCORES: &str = "scores.json";

/// How well some weights of a run do on the test images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The name of the weights' file in the run folder.
    pub weights: String,
    /// Whether an image's probabilities are the mean of its own and of its mirror image's.
    pub tta: bool,
    /// The test images.
    pub images: usize,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Share of images classified correctly.
    pub accuracy: f64,
}

impl Score {
    /// What is scored: the weights, and on which sides of the images.
    pub fn by(&self) -> String {
        let sides = if self.tta { " on images and their mirror images" } else { "" };
        format!("{}{sides}", self.weights)
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "test accuracy {:.4}, loss {:.4}, {}", self.accuracy, self.loss, self.by())
    }
}

impl Run {
    /// The scores at the run's end; none of a run that is not done, and of one whose last epoch says it all.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be read, [`Error::Run`] if they are damaged.
    pub fn scores(&self) -> Result<Vec<Score>> {
        let path = self.scores_file();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            text => text.map_err(Error::io("read", &path))?,
        };
        let damaged = |error| Error::run(&self.folder, format!("{SCORES} is damaged ({error}); remove it"));
        serde_json::from_str(&text).map_err(damaged)
    }

    /// Writes the scores at the run's end.
    ///
    /// # Errors
    /// [`Error::RunLocked`] if another process trains in the folder; [`Error::Io`] if they cannot be written.
    pub fn save_scores(&mut self, scores: &[Score]) -> Result<()> {
        self.hold_with_history()?;
        let text = serde_json::to_string_pretty(scores).map_err(|e| Error::run(&self.folder, e.to_string()))?;
        write_whole(&self.scores_file(), format!("{text}\n").as_bytes())
    }

    /// Removes the scores of a run that trains on, which are those of other weights from then on.
    ///
    /// # Errors
    /// As [`Run::save_scores`].
    pub fn discard_scores(&mut self) -> Result<()> {
        self.hold_with_history()?;
        let path = self.scores_file();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    fn scores_file(&self) -> PathBuf {
        self.folder.join(SCORES)
    }
}
