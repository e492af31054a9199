//! Run folders: the settings, metrics, weights and state of a training run.
//!
//! * `config.toml`: the resolved settings;
//! * `metrics.jsonl`: a line for each epoch;
//! * `weights.safetensors`: the network, as PyTorch loads it;
//! * `state.safetensors`: the state to resume from: weights, the optimiser's tensors and counters, position and running
//!   loss.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{EpochMetrics, Position, TrainConfig, Trainer};
use crate::Backend;
use crate::nn::Module;
use crate::ops::cross_entropy::Reading;
use crate::optim::OptimizerKind;
use crate::weights::{Tensors, write_whole};
use crate::{Error, Result};

/// A run folder, with the run's settings.
#[derive(Clone, Debug)]
pub struct Run {
    folder: PathBuf,
    pub config: TrainConfig,
}

const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const WEIGHTS: &str = "weights.safetensors";
const STATE: &str = "state.safetensors";
/// The note of a state file, as JSON.
#[derive(Serialize, Deserialize)]
struct Progress {
    position: Position,
    /// The running loss of the epoch so far.
    reading: Reading,
    /// Seconds of training in the epoch so far.
    seconds: f64,
    /// The name of the optimiser whose state this is. Older files do not have it; they are SGD's.
    #[serde(default = "sgd")]
    optimizer: String,
    /// The optimiser's counters. Its tensors are in the file beside the weights.
    #[serde(default)]
    counters: BTreeMap<String, u64>,
}

fn sgd() -> String {
    OptimizerKind::default().to_string()
}

/// The prefix of an optimiser's tensor in a state file, as in `velocity.0.2.weight`.
fn prefix(tensor: &str) -> String {
    format!("{tensor}.")
}

impl Run {
    /// Begins a run in a new or empty folder, and writes `config.toml`.
    ///
    /// # Errors
    /// [`Error::Run`] if the folder is not empty; [`Error::Io`] if it cannot be made, read or written.
    pub fn create(folder: impl Into<PathBuf>, config: TrainConfig) -> Result<Self> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let mut entries = fs::read_dir(&folder).map_err(Error::io("read", &folder))?;
        if entries.next().is_some() {
            let problem = "the folder is not empty; name another with --out, or go on with the run by --resume";
            return Err(Error::run(folder, problem));
        }
        let text = toml::to_string(&config).map_err(|e| Error::run(&folder, e.to_string()))?;
        write_whole(&folder.join(CONFIG), text.as_bytes())?;
        Ok(Run { folder, config })
    }

    /// Opens the run of a folder, and reads `config.toml`.
    ///
    /// # Errors
    /// [`Error::Run`] if the folder is not a run's, or a setting is not in its range.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        let path = folder.join(CONFIG);
        let text = fs::read_to_string(&path).map_err(|e| {
            Error::run(&folder, format!("cannot read {CONFIG} ({e}); name a folder that train --out has made"))
        })?;
        let config: TrainConfig =
            toml::from_str(&text).map_err(|e| Error::run(&folder, format!("{CONFIG}: {}", e.message())))?;
        config.validate().map_err(|e| Error::run(&folder, format!("{CONFIG}: {e}")))?;
        Ok(Run { folder, config })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of the weights file, which PyTorch loads.
    pub fn weights(&self) -> PathBuf {
        self.folder.join(WEIGHTS)
    }

    /// Appends an epoch's metrics to `metrics.jsonl`; lines of that epoch and of later ones are removed first.
    ///
    /// # Errors
    /// As [`Run::metrics`]; [`Error::Io`] if the file cannot be written.
    pub fn append(&self, metrics: &EpochMetrics) -> Result<()> {
        let mut all: Vec<EpochMetrics> = self.metrics()?;
        // A run that ended after it wrote an epoch's metrics, and before it saved its state, repeats that epoch.
        all.retain(|earlier| earlier.epoch < metrics.epoch);
        all.push(*metrics);
        let mut text = String::new();
        for line in &all {
            text += &serde_json::to_string(line).map_err(|e| Error::run(&self.folder, e.to_string()))?;
            text.push('\n');
        }
        write_whole(&self.folder.join(METRICS), text.as_bytes())
    }

    /// The metrics of the epochs so far, in order.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Run`] for a line that is not an epoch's metrics.
    pub fn metrics(&self) -> Result<Vec<EpochMetrics>> {
        let path = self.folder.join(METRICS);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let parse = |(i, line)| {
            serde_json::from_str(line).map_err(|e| Error::run(&self.folder, format!("{METRICS}, line {}: {e}", i + 1)))
        };
        text.lines().enumerate().map(parse).collect()
    }

    /// Saves the weights file and the state file, each atomically.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be written. [`Error::Diverged`] as by [`Trainer::reading`]; the earlier files
    /// are kept then.
    pub fn save<B: Backend, N: Module<B>>(&self, trainer: &Trainer<B, N>) -> Result<()> {
        let (position, reading) = (trainer.position, trainer.reading()?);
        let mut tensors = Tensors::of(&trainer.backend, &trainer.net)?;
        tensors.save(&self.weights())?;
        let optimizer = &trainer.optimizer;
        for name in optimizer.tensor_names() {
            tensors
                .push_beside(&trainer.backend, &trainer.net, &prefix(name), |param| optimizer.tensor(name, param))?;
        }
        let counters = optimizer.counters().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let seconds = trainer.epoch_time.as_secs_f64();
        let progress = Progress { position, reading, seconds, optimizer: optimizer.name().into(), counters };
        tensors.set_note(serde_json::to_string(&progress).map_err(|e| Error::run(&self.folder, e.to_string()))?);
        tensors.save(&self.folder.join(STATE))
    }

    /// Restores the last saved state into a new trainer: weights, the optimiser's state, position and running loss.
    ///
    /// # Errors
    /// [`Error::Run`] if there is no state file; [`Error::Io`] if it cannot be read; [`Error::Weights`] if it does not
    /// fit the network or lacks a part; [`Error::OtherOptimizer`] if it is another optimiser's. The network is
    /// unchanged after any of these.
    pub fn restore<B: Backend, N: Module<B>>(&self, trainer: &mut Trainer<B, N>) -> Result<()> {
        let path = self.folder.join(STATE);
        if !path.exists() {
            return Err(Error::run(
                &self.folder,
                "there is no state.safetensors: the run ended before it first saved; begin it again",
            ));
        }
        let tensors = Tensors::load(&path)?;
        let progress: Progress = tensors
            .note()
            .and_then(|note| serde_json::from_str(note).ok())
            .ok_or_else(|| Error::weights(&path)("it does not say how far the run had come".into()))?;
        let optimizer = &mut trainer.optimizer;
        if progress.optimizer != optimizer.name() {
            let (saved, present) = (progress.optimizer, optimizer.name());
            return Err(Error::OtherOptimizer { path, saved, present });
        }
        let known: Vec<_> = optimizer.counters().into_iter().map(|(name, _)| name).collect();
        let mut counters = Vec::new();
        for name in known {
            let missing = || Error::weights(&path)(format!("it lacks the optimiser's number {name}"));
            counters.push((name, *progress.counters.get(name).ok_or_else(missing)?));
        }
        let names = optimizer.tensor_names();
        let prefixes: Vec<String> = names.iter().map(|name| prefix(name)).collect();
        let mut state = Vec::new();
        for (name, prefix) in names.iter().zip(&prefixes) {
            let tensors = tensors.beside(&trainer.net, prefix, &path)?;
            if tensors.is_empty() && progress.position != Position::default() {
                return Err(Error::weights(&path)(format!("it lacks the optimiser's tensors {prefix}*")));
            }
            state.push((name, tensors));
        }
        tensors.give_to(&trainer.backend, &mut trainer.net, &prefixes, &path)?;
        let params = trainer.net.params();
        for (name, tensors) in &state {
            for (owner, values) in tensors {
                if let Some((_, param)) = params.iter().find(|(known, _)| known == owner) {
                    optimizer.set_tensor(name, param, values)?;
                }
            }
        }
        drop(params);
        for (name, value) in counters {
            optimizer.set_counter(name, value)?;
        }
        trainer.position = progress.position;
        trainer.epoch_time = Duration::try_from_secs_f64(progress.seconds).unwrap_or_default();
        trainer.set_reading(progress.reading)
    }
}
