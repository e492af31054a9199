//! Settings that may change when a run goes on.

use std::path::PathBuf;

use super::Run;
use crate::optim::Schedule;
use crate::train::{OnNan, Position};
use crate::{Error, Result};

/// New values for settings of a run that goes on; `None` keeps the present one. The others are the run's for good:
/// with another network, data set, batch size, seed or optimiser the saved state would mean nothing.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// More epochs than the run had, or fewer, down to those that are done.
    pub epochs: Option<u32>,
    pub learning_rate: Option<f64>,
    pub schedule: Option<Schedule>,
    pub weight_decay: Option<f64>,
    pub on_nan: Option<OnNan>,
    /// Epochs without a new best test accuracy, those before the change included.
    pub patience: Option<u32>,
    /// The folder of the data set's files, which have to be the same files.
    pub data_dir: Option<PathBuf>,
}

impl Run {
    /// Changes settings of a run that goes on, before its network and optimiser are made. The next [`Run::save`]
    /// stores them. What changes results is noted in the setting `changes`, with the position from which it holds.
    ///
    /// Returns a line for each such setting, as in `epochs: 3, now 5`.
    ///
    /// # Errors
    /// [`Error::Config`] if a value is not in its range, or fewer epochs than those that are done; nothing changes then.
    pub fn change(&mut self, change: &Change) -> Result<Vec<String>> {
        let (old, mut new) = (&self.config, self.config.clone());
        let mut lines = Vec::new();
        fn set<T: PartialEq + Copy + std::fmt::Display>(
            lines: &mut Vec<String>,
            name: &str,
            setting: &mut T,
            value: Option<T>,
        ) {
            if let Some(value) = value.filter(|value| value != setting) {
                lines.push(format!("{name}: {setting}, now {value}"));
                *setting = value;
            }
        }
        set(&mut lines, "epochs", &mut new.epochs, change.epochs);
        set(&mut lines, "learning rate", &mut new.learning_rate, change.learning_rate);
        set(&mut lines, "schedule", &mut new.schedule, change.schedule);
        set(&mut lines, "weight decay", &mut new.weight_decay, change.weight_decay);
        set(&mut lines, "on nan", &mut new.on_nan, change.on_nan);
        if let Some(epochs) = change.patience.filter(|epochs| new.patience != Some(*epochs)) {
            let old = new.patience.map_or("none".into(), |epochs| epochs.to_string());
            lines.push(format!("patience: {old}, now {epochs}"));
            new.patience = Some(epochs);
        }
        if let Some(folder) = &change.data_dir {
            new.data_dir = Some(std::path::absolute(folder).map_err(Error::io("find", folder))?);
        }
        new.validate()?;
        let Position { epoch, step } = self.position;
        let begun = epoch + u32::from(step > 0);
        if new.epochs < begun {
            let problem = format!("{} are fewer than the {begun} that the run has begun", new.epochs);
            return Err(Error::config("epochs", problem));
        }
        new.changes.extend(lines.iter().map(|line| format!("after {epoch} epochs and {step} steps, {line}")));
        if new != *old {
            self.replaced.get_or_insert(std::mem::replace(&mut self.config, new));
        }
        Ok(lines)
    }
}
