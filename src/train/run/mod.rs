//! Run folders: the settings, metrics, weights and state of a training run.
//!
//! | file | what it holds |
//! |---|---|
//! | `config.toml` | The resolved settings. |
//! | `metrics.jsonl` | A line for each epoch: its [`EpochMetrics`] as JSON. |
//! | `results.csv` | The same as a table for spreadsheets: a header, and a line for each epoch. |
//! | `weights.safetensors` | The last weights that were saved, as PyTorch loads them. |
//! | `best.safetensors` | The weights after the epoch with the highest test accuracy ([`Run::best`]), as PyTorch loads them. |
//! | `average.safetensors` | The average of the weights, if the settings ask for one, as PyTorch loads it. |
//! | `scores.json` | At the run's end, how well weights and average do on the test images ([`Run::scores`]), where the last epoch does not say it. |
//! | `state.safetensors` | What a run goes on from, under one checksum: see [`Run::save`]. |
//! | `events.out.tfevents.*` | Scalars for TensorBoard, if they are asked for ([`Run::event_file`]): a file for each process that trained. |
//! | `.lock` | The number of the process that trains here, or trained here last. |
//!
//! The state decides. `config.toml` has to agree with it; `metrics.jsonl`, `results.csv` and `best.safetensors` are written
//! anew where they do not, the last one where the state has those weights. Every file is replaced as a whole, but event files
//! grow; a new one takes back what its predecessors hold beyond the state.

mod best;
mod change;
mod contents;
mod history;
mod imported;
mod lock;
mod scores;
mod state;
mod tensorboard;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use super::{EpochMetrics, Position, TrainConfig};
use crate::optim::Average;
use crate::weights::{is_part_of, sync_folder, write_whole};
use crate::{Error, Result};
use best::BEST;
pub use best::Best;
pub use change::Change;
pub use contents::DataHashes;
use history::{METRICS, RESULTS};
use lock::Lock;
use scores::SCORES;
pub use scores::Score;
pub use state::restore;
use tensorboard::EVENTS;
pub use tensorboard::EventFile;

/// A run folder, with the run's settings.
///
/// [`Run::open`] only reads. Whatever writes into the folder ([`Run::create`], [`Run::resume`], and
/// [`Run::restore`], [`Run::append`], [`Run::save`] or [`Run::event_file`] after [`Run::open`]) takes the folder's lock
/// first, and keeps it until the run is dropped.
#[derive(Debug)]
pub struct Run {
    folder: PathBuf,
    config: TrainConfig,
    /// The data set, if it is known. [`Run::save`] stores it, and [`Run::restore`] refuses the state of another.
    pub data: Option<DataHashes>,
    /// What the user should know, though it stops nothing: a file system without locks, metrics that were written anew,
    /// best weights that are lost, a state without checksum.
    pub warnings: Vec<String>,
    /// The position of the last state that was saved or read.
    position: Position,
    /// The metrics of the epochs so far.
    history: Vec<EpochMetrics>,
    /// What `best.safetensors` holds, as far as this run has read or written it.
    kept: Option<Best>,
    /// The settings that `config.toml` still holds, if they have changed since it was written.
    replaced: Option<TrainConfig>,
    lock: Option<Lock>,
}

const CONFIG: &str = "config.toml";
const WEIGHTS: &str = "weights.safetensors";
const STATE: &str = "state.safetensors";
const AVERAGE: &str = "average.safetensors";
const FILES: [&str; 8] = [CONFIG, METRICS, RESULTS, WEIGHTS, BEST, AVERAGE, SCORES, STATE];

/// Whether a killed process left the file of this name: a part of one of the files in a run's folder. Other programs name
/// unfinished files alike, as browsers do (`film.part`).
fn is_part(name: &str) -> bool {
    FILES.iter().chain(&[EVENTS, Run::REPORT]).any(|file| is_part_of(name, file))
}

impl Run {
    /// The name of a page about the run in its folder. The run does not write it, but removes what a process left that was
    /// killed while it did, by [`weights::write_whole`](crate::weights::write_whole).
    pub const REPORT: &str = "report.html";

    fn new(folder: PathBuf, config: TrainConfig) -> Self {
        let (data, lock, replaced, kept) = (None, None, None, None);
        let (position, warnings, history) = (Position::default(), Vec::new(), Vec::new());
        Run { folder, config, data, warnings, position, history, kept, replaced, lock }
    }

    /// Begins a run in a new or empty folder, and writes `config.toml`. Hidden files do not count.
    ///
    /// # Errors
    /// [`Error::Config`] if a setting is not in its range; [`Error::RunNotEmpty`] for a folder with something
    /// in it; [`Error::RunLocked`] if another process trains in it; [`Error::Io`] if it cannot be made, read or written.
    pub fn create(folder: impl Into<PathBuf>, config: TrainConfig) -> Result<Self> {
        config.validate()?;
        let mut run = Run::new(folder.into(), config);
        let text = run.config_text(&run.config)?;
        fs::create_dir_all(&run.folder).map_err(Error::io("create", &run.folder))?;
        run.require_empty()?;
        run.hold()?;
        // Another process may have begun a run after the first look.
        run.require_empty()?;
        write_whole(&run.folder.join(CONFIG), text.as_bytes())?;
        // The new folder's own name.
        sync_folder(&run.folder).map_err(Error::io("write", &run.folder))?;
        Ok(run)
    }

    fn require_empty(&self) -> Result<()> {
        let entries = fs::read_dir(&self.folder).map_err(Error::io("read", &self.folder))?;
        for entry in entries {
            let name = entry.map_err(Error::io("read", &self.folder))?.file_name();
            let name = name.to_string_lossy();
            // A process that was killed while it began a run leaves a part of `config.toml`.
            if !name.starts_with('.') && !is_part(&name) {
                return Err(Error::RunNotEmpty { path: self.folder.clone(), holds: name.into() });
            }
        }
        Ok(())
    }

    /// Opens the run of a folder for a look at it: reads `config.toml`, and the state if it can be read.
    ///
    /// # Errors
    /// [`Error::Run`] if the folder is not a run's, a setting is not in its range, or the settings are not those of the
    /// saved state.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let mut run = Run::at(folder.into())?;
        // Reading weights or settings needs no state, so one that cannot be read is no error here.
        if let Ok(Some(saved)) = run.read_state() {
            run.agree_with(&saved)?;
            run.position = saved.note.position;
        }
        Ok(run)
    }

    /// Opens the run of a folder to go on with it: takes the folder's lock, removes what killed processes left, and
    /// checks settings, state and metrics. [`Run::restore`] gives the state to a trainer then.
    ///
    /// # Errors
    /// As [`Run::open`]; [`Error::RunLocked`] if another process trains in the folder; [`Error::RunImported`] if it was
    /// [imported](Run::import); [`Error::Run`] if there is no state though epochs are done; [`Error::Weights`] for a damaged state, or one of a newer version.
    pub fn resume(folder: impl Into<PathBuf>) -> Result<Self> {
        let mut run = Run::at(folder.into())?;
        run.hold()?;
        // They may have changed until the lock was there.
        run.config = run.read_config()?;
        if let Some(saved) = run.saved()? {
            run.agree_with(&saved)?;
        }
        Ok(run)
    }

    fn at(folder: PathBuf) -> Result<Self> {
        for name in FILES {
            // A pipe in the place of a file would have its reader wait for ever.
            if fs::metadata(folder.join(name)).is_ok_and(|found| !found.is_file()) {
                return Err(Error::run(folder, format!("{name} is no plain file; remove it")));
            }
        }
        let mut run = Run::new(folder, super::Preset::Small.config());
        run.config = run.read_config()?;
        Ok(run)
    }

    fn read_config(&self) -> Result<TrainConfig> {
        let text = fs::read_to_string(self.folder.join(CONFIG)).map_err(|e| {
            Error::run(&self.folder, format!("cannot read {CONFIG} ({e}); name a folder that a run has made"))
        })?;
        self.parse_config(&text)
    }

    fn parse_config(&self, text: &str) -> Result<TrainConfig> {
        let unusable = |problem: String| Error::run(&self.folder, problem);
        let config = TrainConfig::from_toml(text, CONFIG).map_err(|error| unusable(error.to_string()))?;
        config.validate().map_err(|error| unusable(format!("{CONFIG}: {error}")))?;
        Ok(config)
    }

    fn config_text(&self, config: &TrainConfig) -> Result<String> {
        config.to_toml().map_err(|e| Error::run(&self.folder, e.to_string()))
    }

    /// Takes the folder's lock, unless this run has it, and removes the parts of files that killed processes left.
    fn hold(&mut self) -> Result<()> {
        if self.lock.is_some() {
            return Ok(());
        }
        let lock = Lock::take(&self.folder)?;
        match lock.warning() {
            Some(warning) => self.warn(warning),
            // Under the lock nobody else writes here, so every part is a dead process's.
            None => self.remove_parts(),
        }
        self.lock = Some(lock);
        Ok(())
    }

    /// For what adds to the state: takes the lock, and with it the metrics of the epochs so far, which a run that was only
    /// [opened](Run::open) has not read.
    fn hold_with_history(&mut self) -> Result<()> {
        if self.lock.is_some() {
            return Ok(());
        }
        self.hold()?;
        // Without the lock the next call tries again.
        self.look_again().inspect_err(|_| self.lock = None)
    }

    /// Reads what another process may have changed until the lock was there.
    fn look_again(&mut self) -> Result<()> {
        if self.read_config()? != *self.replaced.as_ref().unwrap_or(&self.config) {
            let problem = format!("{CONFIG} has changed since the run was opened; open it again");
            return Err(Error::run(&self.folder, problem));
        }
        self.saved().map(drop)
    }

    fn remove_parts(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten().filter(|entry| is_part(&entry.file_name().to_string_lossy())) {
            // What cannot be removed is only in the way of a listing.
            let _ = fs::remove_file(entry.path());
        }
    }

    /// The settings. [`Run::change`] changes those that may change.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Whether a state was saved, from which the run goes on. Without one it begins anew from its settings.
    pub fn has_state(&self) -> bool {
        fs::metadata(self.folder.join(STATE)).is_ok()
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of the file of the last weights, which PyTorch loads.
    pub fn weights(&self) -> PathBuf {
        self.folder.join(WEIGHTS)
    }

    /// The path of the file of the average of the weights, which PyTorch loads.
    ///
    /// # Errors
    /// [`Error::Run`] if there is none: the settings ask for no average, or the run has not yet been saved after a step.
    pub fn average(&self) -> Result<PathBuf> {
        let path = self.folder.join(AVERAGE);
        if path.exists() {
            return Ok(path);
        }
        let why = match self.config.average {
            Average::None => "its setting average is none",
            _ => "it was not saved yet after a step",
        };
        Err(Error::run(&self.folder, format!("it has no average of its weights: {why}; take the last ones")))
    }

    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}
