//! A run's folder: what it was asked to do, how it went, and the weights it came to.
//!
//! * `config.toml`: the resolved settings;
//! * `metrics.jsonl`: a line for each epoch;
//! * `weights.safetensors`: the network, as PyTorch loads it;
//! * `state.safetensors`: what resuming needs: weights, velocities, and how far the run had come.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{EpochMetrics, Position, TrainConfig, Trainer};
use crate::Backend;
use crate::nn::Module;
use crate::ops::cross_entropy::Reading;
use crate::weights::{Tensors, write_whole};
use crate::{Error, Result};

/// A run folder.
#[derive(Clone, Debug)]
pub struct Run {
    folder: PathBuf,
    pub config: TrainConfig,
}

const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const WEIGHTS: &str = "weights.safetensors";
const STATE: &str = "state.safetensors";
/// Velocities stand beside the weights of a state file under this prefix.
const VELOCITY: &str = "velocity.";

/// What a state file says besides its tensors.
#[derive(Serialize, Deserialize)]
struct Progress {
    position: Position,
    /// Of the epoch so far.
    reading: Reading,
    /// Seconds of training in the epoch so far.
    seconds: f64,
}

impl Run {
    /// Begins a run in a new or empty folder.
    ///
    /// # Errors
    /// [`Error::Run`] if the folder already holds something; [`Error::Io`] where the system refuses.
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

    /// Opens a run.
    ///
    /// # Errors
    /// [`Error::Run`] if the folder is not a run's, or its settings are not what they may be.
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

    /// The file that PyTorch loads.
    pub fn weights(&self) -> PathBuf {
        self.folder.join(WEIGHTS)
    }

    /// Appends an epoch's metrics.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses.
    pub fn append(&self, metrics: &EpochMetrics) -> Result<()> {
        let mut all: Vec<EpochMetrics> = self.metrics()?;
        // A run that was broken off between writing metrics and saving its state repeats that epoch.
        all.retain(|earlier| earlier.epoch < metrics.epoch);
        all.push(*metrics);
        let mut text = String::new();
        for line in &all {
            text += &serde_json::to_string(line).map_err(|e| Error::run(&self.folder, e.to_string()))?;
            text.push('\n');
        }
        write_whole(&self.folder.join(METRICS), text.as_bytes())
    }

    /// The metrics of the epochs so far.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read; [`Error::Run`] for a line that is not an epoch's metrics.
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

    /// Saves weights and state, each whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses; [`Error::Diverged`] if the loss is not finite: what was saved before is
    /// worth more.
    pub fn save<B: Backend, N: Module<B>>(&self, trainer: &Trainer<B, N>) -> Result<()> {
        let (position, reading) = (trainer.position, trainer.reading()?);
        if !reading.loss.is_finite() {
            let Position { epoch, step } = position;
            return Err(Error::Diverged { loss: reading.loss, epoch: epoch + 1, step: step as usize });
        }
        let mut tensors = Tensors::of(&trainer.backend, &trainer.net)?;
        tensors.save(&self.weights())?;
        let progress = Progress { position, reading, seconds: trainer.epoch_time.as_secs_f64() };
        let optimizer = &trainer.optimizer;
        tensors.push_beside(&trainer.backend, &trainer.net, VELOCITY, |param| optimizer.velocity(param))?;
        tensors.set_note(serde_json::to_string(&progress).map_err(|e| Error::run(&self.folder, e.to_string()))?);
        tensors.save(&self.folder.join(STATE))
    }

    /// Brings a fresh trainer to where the run was when it was last saved.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Weights`] where the state cannot be read or is not of such a network.
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
        let velocity = tensors.beside(&trainer.net, VELOCITY, &path)?;
        tensors.give_to(&trainer.backend, &mut trainer.net, &[VELOCITY], &path)?;
        let params = trainer.net.params();
        for (name, values) in &velocity {
            if let Some((_, param)) = params.iter().find(|(known, _)| known == name) {
                trainer.optimizer.set_velocity(param, values)?;
            }
        }
        drop(params);
        trainer.position = progress.position;
        trainer.epoch_time = Duration::try_from_secs_f64(progress.seconds).unwrap_or_default();
        trainer.set_reading(progress.reading)
    }
}
