//! The state file of a run: saving, restoring, and the checks that it belongs to the run.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{AVERAGE, CONFIG, DataHashes, METRICS, Run, STATE};
use crate::nn::Module;
use crate::ops::cross_entropy::Reading;
use crate::optim::{Averaging, OptimizerKind};
use crate::train::{EpochMetrics, Position, TrainConfig, Trainer};
use crate::weights::{Tensors, write_whole};
use crate::{Backend, Error, Result};

/// The format of the state files that this version writes. It reads this one and the older ones.
///
/// | format | what it has |
/// |---|---|
/// | 1 | position, running loss, seconds; later ones the optimiser's name and counters; no checksum |
/// | 2 | besides: a checksum over all of it, the settings, the data set's hashes, the metrics |
/// | 3 | besides: where the average of a run of changed length begins |
const FORMAT: u32 = 3;

/// The note of a state file, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    /// Absent in files of format 1.
    #[serde(default = "oldest")]
    format: u32,
    pub(super) position: Position,
    /// The running loss of the epoch so far.
    reading: Reading,
    /// Seconds of training in the epoch so far.
    seconds: f64,
    /// The name of the optimiser whose state this is. The oldest files do not have it; they are SGD's.
    #[serde(default = "sgd")]
    optimizer: String,
    /// The optimiser's counters. Its tensors are in the file beside the weights.
    #[serde(default)]
    counters: BTreeMap<String, u64>,
    /// The run's settings, as `config.toml` has them. This and what follows is there since format 2.
    #[serde(default)]
    config: String,
    /// The settings before a change, until `config.toml` has the changed ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaced: Option<String>,
    #[serde(default)]
    data: Option<DataHashes>,
    /// The metrics of the epochs so far.
    #[serde(default)]
    metrics: Vec<EpochMetrics>,
}

fn oldest() -> u32 {
    1
}

fn sgd() -> String {
    OptimizerKind::default().to_string()
}

/// The prefix of an optimiser's tensor in a state file, as in `velocity.0.2.weight`.
fn prefix(tensor: &str) -> String {
    format!("{tensor}.")
}

/// A state file that was read.
pub(super) struct Saved {
    tensors: Tensors,
    pub(super) note: Note,
}

impl Run {
    fn state(&self) -> PathBuf {
        self.folder.join(STATE)
    }

    /// Reads the state file, and checks it by itself; `None` if there is none.
    pub(super) fn read_state(&self) -> Result<Option<Saved>> {
        let path = self.state();
        match Tensors::load(&path) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            tensors => Saved::of(&path, tensors?).map(Some),
        }
    }

    /// The state file as it was last saved, for [`restore`] on other machines; `None` if nothing was saved yet.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read.
    pub fn state_bytes(&self) -> Result<Option<Vec<u8>>> {
        let path = self.state();
        match fs::read(&path) {
            Err(source) if source.kind() == ErrorKind::NotFound => Ok(None),
            bytes => bytes.map(Some).map_err(Error::io("read", path)),
        }
    }
}

impl Saved {
    /// The state in the tensors of a file, checked by itself.
    fn of(path: &Path, tensors: Tensors) -> Result<Self> {
        let problem = |problem: String| Error::weights(path)(problem);
        let text = tensors.note().ok_or_else(|| problem("it does not say how far the run had come".into()))?;
        #[derive(Deserialize)]
        struct Format {
            #[serde(default = "oldest")]
            format: u32,
        }
        // Before the rest: a newer note has entries that this version does not know.
        if let Ok(Format { format }) = serde_json::from_str(text)
            && format > FORMAT
        {
            return Err(problem(format!(
                "it is of format {format}, of a newer version of mlpconv; this one reads formats up to {FORMAT}"
            )));
        }
        let note: Note = serde_json::from_str(text).map_err(|e| problem(format!("its note is damaged: {e}")))?;
        if note.format >= 2 && !tensors.is_sealed() {
            return Err(problem("its checksum is missing: the file is damaged".into()));
        }
        Ok(Saved { tensors, note })
    }

    /// Gives the state to a new trainer. Errors name it as that of the file at `path`.
    fn give_to<B: Backend, N: Module<B>>(self, path: &Path, trainer: &mut Trainer<B, N>) -> Result<()> {
        let Saved { tensors, note } = self;
        let optimizer = &mut trainer.optimizer;
        if note.optimizer != optimizer.name() {
            let (saved, present) = (note.optimizer, optimizer.name());
            return Err(Error::OtherOptimizer { path: path.into(), saved, present });
        }
        let known: Vec<_> = optimizer.counters().into_iter().map(|(name, _)| name).collect();
        let mut counters = Vec::new();
        for name in known {
            match note.counters.get(name) {
                Some(value) => counters.push((name, *value)),
                // What an older version did not count begins at zero.
                None if note.format < FORMAT && !note.counters.is_empty() => {}
                None => return Err(Error::weights(path)(format!("it lacks the optimiser's number {name}"))),
            }
        }
        let names = optimizer.tensor_names();
        let prefixes: Vec<String> = names.iter().map(|name| prefix(name)).collect();
        let mut state = Vec::new();
        for (name, prefix) in names.iter().zip(&prefixes) {
            let tensors = tensors.beside(&trainer.net, prefix, path)?;
            if tensors.is_empty() && note.position != Position::default() {
                return Err(Error::weights(path)(format!("it lacks the optimiser's tensors {prefix}*")));
            }
            state.push((name, tensors));
        }
        tensors.give_to(&trainer.backend, &mut trainer.net, &prefixes, path)?;
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
        trainer.position = note.position;
        trainer.epoch_time = Duration::try_from_secs_f64(note.seconds).unwrap_or_default();
        trainer.set_reading(note.reading)
    }
}

/// Restores the state of another process's run, its file's bytes as [`Run::state_bytes`] gives them, into a new trainer. `origin`
/// names it in errors.
///
/// # Errors
/// [`Error::Weights`] if the state is damaged, does not fit the network or lacks a part; [`Error::OtherOptimizer`].
pub fn restore<B: Backend, N: Module<B>>(bytes: &[u8], origin: &str, trainer: &mut Trainer<B, N>) -> Result<()> {
    let path = Path::new(origin);
    Saved::of(path, Tensors::of_bytes(path, bytes)?)?.give_to(path, trainer)
}

impl Run {
    /// Reads the state file of a run that goes on, and settles what differs in the files beside it; `None` if nothing
    /// was saved yet, so that the run begins anew from its settings.
    pub(super) fn saved(&mut self) -> Result<Option<Saved>> {
        self.require_own()?;
        let Some(saved) = self.read_state()? else {
            let metrics = self.folder.join(METRICS);
            if fs::metadata(&metrics).is_ok_and(|file| file.len() > 0) {
                let problem = format!(
                    "{STATE} is missing, though epochs are done ({METRICS}); put it back, or begin another run"
                );
                return Err(Error::run(&self.folder, problem));
            }
            return Ok(None);
        };
        self.position = saved.note.position;
        match saved.note.format {
            1 => {
                let done = saved.note.position.epoch as usize;
                self.history = self.metrics()?;
                if self.history.len() < done {
                    let problem = format!("{METRICS} has {} epochs, but {done} are done", self.history.len());
                    return Err(Error::run(&self.folder, problem));
                }
                self.history.truncate(done);
                self.warn(format!(
                    "{STATE} is of an older version: it has no checksum, so damage to it goes unnoticed"
                ));
            }
            _ => self.history.clone_from(&saved.note.metrics),
        }
        self.settle_history()?;
        Ok(Some(saved))
    }

    /// Checks that the settings are those of the state. Of a change that was saved in the state and not yet in
    /// `config.toml`, the state is right.
    pub(super) fn agree_with(&mut self, saved: &Saved) -> Result<()> {
        let note = &saved.note;
        if note.format < 2 {
            return Ok(());
        }
        let settings = self.parse_config(&note.config)?;
        if settings == self.config {
            return Ok(());
        }
        if let Some(replaced) = &note.replaced
            && self.parse_config(replaced)? == self.config
        {
            self.replaced = Some(std::mem::replace(&mut self.config, settings));
            return Ok(());
        }
        let problem = format!(
            "{CONFIG} has other settings than the state was saved with: {}; put them back (what may change, changes when the run goes on)",
            differences(&self.config, &settings)
        );
        Err(Error::run(&self.folder, problem))
    }

    /// Saves the weights file and the state file, each atomically, and then `config.toml` if settings have changed. After an
    /// epoch, with its metrics in the run ([`Run::append`]), it saves the best weights too if they are better than those of
    /// all earlier epochs.
    ///
    /// The state has weights, the optimiser's tensors and counters, position, running loss and metrics, and what they
    /// belong to: settings and data set.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be written; [`Error::RunLocked`] if another process trains in the
    /// folder; [`Error::RunImported`] for a folder of imported weights. [`Error::Diverged`] as by [`Trainer::reading`]. After [`Run::open`] alone, as [`Run::resume`] too. A file
    /// that could not be written is the earlier one; save again before the next step, or the best weights may be lost.
    pub fn save<B: Backend, N: Module<B>>(&mut self, trainer: &Trainer<B, N>) -> Result<()> {
        self.require_own()?;
        let (position, reading) = (trainer.position, trainer.reading()?);
        self.hold_with_history()?;
        let mut tensors = Tensors::of(&trainer.backend, &trainer.net)?;
        tensors.save(&self.weights())?;
        let optimizer = &trainer.optimizer;
        let mut average = Tensors::default();
        average.push_beside(&trainer.backend, &trainer.net, "", |param| {
            optimizer.tensor(Averaging::<B>::AVERAGE, param)
        })?;
        if !average.is_empty() {
            average.save(&self.folder.join(AVERAGE))?;
        }
        for name in optimizer.tensor_names() {
            tensors
                .push_beside(&trainer.backend, &trainer.net, &prefix(name), |param| optimizer.tensor(name, param))?;
        }
        let counters = optimizer.counters().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let config = self.config_text(&self.config)?;
        let note = Note {
            format: FORMAT,
            position,
            reading,
            seconds: trainer.epoch_time.as_secs_f64(),
            optimizer: optimizer.name().into(),
            counters,
            config: config.clone(),
            replaced: self.replaced.as_ref().map(|replaced| self.config_text(replaced)).transpose()?,
            data: self.data.clone(),
            metrics: self.history.clone(),
        };
        tensors.set_note(serde_json::to_string(&note).map_err(|e| Error::run(&self.folder, e.to_string()))?);
        tensors.save(&self.state())?;
        self.position = position;
        if self.replaced.is_some() {
            write_whole(&self.folder.join(CONFIG), config.as_bytes())?;
            self.replaced = None;
        }
        // After the state, which has these weights as well: who is killed in between finds them there.
        self.keep_best(trainer)
    }

    /// Restores the last saved state into a new trainer: weights, the optimiser's state, position and running loss.
    /// If the run ended before it first saved, the trainer stays as it is, at the start.
    ///
    /// # Errors
    /// [`Error::RunLocked`] if another process trains in the folder; [`Error::Run`] if the state was saved on another
    /// data set than `data`, or if there is no state though epochs are done;
    /// [`Error::Io`] if the state cannot be read, or `best.safetensors` not be read, or written where the state has the
    /// best weights; [`Error::Weights`] if the state is damaged, does not fit the network, lacks a part, or is of more
    /// epochs than the settings have; [`Error::OtherOptimizer`] if it is another optimiser's. The network is unchanged
    /// after any of these but those of `best.safetensors`.
    pub fn restore<B: Backend, N: Module<B>>(&mut self, trainer: &mut Trainer<B, N>) -> Result<()> {
        self.hold_with_history()?;
        let Some(Saved { tensors, note }) = self.saved()? else { return Ok(()) };
        let (done, epochs) = (note.position.epoch, self.config.epochs);
        if done > epochs {
            let problem =
                format!("{done} epochs are done, more than the {epochs} of {CONFIG}; ask for as many at least");
            return Err(Error::weights(self.state())(problem));
        }
        if let (Some(saved), Some(present)) = (&note.data, &self.data)
            && let Some(parts) = saved.difference(present)
        {
            let problem = format!(
                "the data set is not the one that the run has trained on: it has other {parts}; name the folder of the \
                 files that it began with"
            );
            return Err(Error::run(&self.folder, problem));
        }
        Saved { tensors, note }.give_to(&self.state(), trainer)?;
        self.settle_best(trainer)
    }
}

/// The settings that differ, as in `seed is 1 instead of 0`.
fn differences(present: &TrainConfig, saved: &TrainConfig) -> String {
    let table = |config| toml::Table::try_from(config).unwrap_or_default();
    let (present, saved) = (table(present), table(saved));
    let names: std::collections::BTreeSet<_> = present.keys().chain(saved.keys()).collect();
    let shown = |table: &toml::Table, name: &str| table.get(name).map_or("absent".into(), ToString::to_string);
    let differing = names.into_iter().filter(|name| present.get(*name) != saved.get(*name));
    let lines = differing.map(|name| format!("{name} is {} instead of {}", shown(&present, name), shown(&saved, name)));
    lines.collect::<Vec<_>>().join(", ")
}
