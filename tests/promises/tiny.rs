//! A tiny run of `train`: its data set, its commands, and the end that it comes to if nothing disturbs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mlpconv::data::known::FASHION_MNIST;
use mlpconv::train::{EpochMetrics, Run};
use safetensors::SafeTensors;
use tempfile::TempDir;

use super::events::{self, Scalars};
use super::place::{Finished, Place, TRAIN, names};

/// Momentum, dropout and shuffling all depend on state. At a constant rate an extended run is the longer run.
const RECIPE: &str = "--preset small --resize 16 --schedule constant --lr 0.01 --batch-size 4";
/// The options that a resumption repeats.
const ALWAYS: &str = "--threads 1 --log-every 1 --save-every 2 --tensorboard";
/// Steps of an epoch.
pub const STEPS: u32 = 6;
/// The steps that a kill may lose: it comes before the second one is saved.
pub const LOST: u32 = 1;

/// A folder with a data set of its own, in which runs are made.
pub struct Tiny {
    pub place: Place,
    epochs: u32,
    /// The end of a run that nothing disturbed.
    pub whole: Ended,
    /// The time that it took.
    pub time: Duration,
}

impl Tiny {
    /// Runs of so many epochs.
    pub fn new(epochs: u32) -> Self {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        write_data(&data, 4 * STEPS, 8);
        let place = Place { folder, data };
        let began = Instant::now();
        Finished::of(&mut place.command(TRAIN, &format!("{RECIPE} {ALWAYS} --epochs {epochs} --out whole"))).good();
        let time = began.elapsed();
        let whole = Ended::of(&place.path("whole"));
        Tiny { place, epochs, whole, time }
    }

    pub fn path(&self, run: &str) -> PathBuf {
        self.place.path(run)
    }

    /// The command that begins the run.
    pub fn begin(&self, run: &str) -> Command {
        self.begin_with(run, self.epochs)
    }

    /// The command that begins the run with so many epochs.
    pub fn begin_with(&self, run: &str, epochs: u32) -> Command {
        self.place.command(TRAIN, &format!("{RECIPE} {ALWAYS} --epochs {epochs} --out {run}"))
    }

    /// The command that goes on with the run.
    pub fn resume(&self, run: &str) -> Command {
        self.place.command(TRAIN, &format!("{ALWAYS} --resume {run}"))
    }

    /// The command that extends a shorter run to all epochs.
    pub fn extend(&self, run: &str) -> Command {
        self.place.command(TRAIN, &format!("{ALWAYS} --resume {run} --epochs {}", self.epochs))
    }

    /// The command of who finds the run as it is: it goes on, or begins again if not even the settings were written.
    pub fn go_on(&self, run: &str) -> Command {
        match self.path(run).join("config.toml").exists() {
            true => self.resume(run),
            false => self.begin(run),
        }
    }

    /// Asserts that the run has come to the end of an undisturbed one, to the bit, with the events of each step once, and that
    /// nothing else lies beside it but a report, which a process that was killed may owe.
    pub fn assert_ended(&self, run: &str, context: &str) {
        let folder = self.path(run);
        let files = [
            ".lock",
            "best.safetensors",
            "config.toml",
            "metrics.jsonl",
            "results.csv",
            "state.safetensors",
            "weights.safetensors",
        ];
        let found: Vec<String> = names(&folder)
            .into_iter()
            .filter(|name| name != "report.html" && !name.starts_with("events.out.tfevents."))
            .collect();
        assert_eq!(found, files, "{context}");
        let (ended, whole) = (Ended::of(&folder), &self.whole);
        assert!(ended.weights == whole.weights, "other weights {context}");
        assert!(ended.best == whole.best, "other best weights {context}");
        assert!(ended.tensors == whole.tensors, "other tensors in the state {context}");
        assert_eq!(ended.note, whole.note, "{context}");
        assert_eq!(ended.metrics, whole.metrics, "{context}");
        assert_eq!(ended.events, whole.events, "{context}");
    }
}

/// What a run has come to, without times.
#[derive(PartialEq)]
pub struct Ended {
    /// The bytes of the weights file.
    pub weights: Vec<u8>,
    /// The bytes of the file of the best weights.
    best: Vec<u8>,
    tensors: BTreeMap<String, Vec<u8>>,
    /// Position, running loss and the optimiser's counters.
    note: serde_json::Value,
    metrics: Vec<EpochMetrics>,
    events: Scalars,
}

impl Ended {
    pub fn of(run: &Path) -> Self {
        let state = fs::read(run.join("state.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&state).unwrap();
        let tensors = tensors.iter().map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec())).collect();
        let (_, metadata) = SafeTensors::read_metadata(&state).unwrap();
        let note: serde_json::Value = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["mlpconv"]).unwrap();
        let note = ["position", "reading", "optimizer", "counters"].map(|part| (part.to_owned(), note[part].clone()));
        let timeless = |metrics: EpochMetrics| EpochMetrics {
            examples_per_second: 0.0,
            train_seconds: 0.0,
            test_seconds: 0.0,
            ..metrics
        };
        let metrics = Run::open(run).unwrap().metrics().unwrap().into_iter().map(timeless).collect();
        let weights = fs::read(run.join("weights.safetensors")).unwrap();
        let best = fs::read(run.join("best.safetensors")).unwrap();
        let note = serde_json::Value::Object(note.into_iter().collect());
        Ended { weights, best, tensors, note, metrics, events: events::timeless(run) }
    }
}

/// Writes a data set of `train` and `test` images under Fashion-MNIST's file names.
fn write_data(folder: &Path, train: u32, test: u32) {
    fs::create_dir(folder).unwrap();
    let side = 28u32;
    for (files, count) in [(FASHION_MNIST.train, train), (FASHION_MNIST.test, test)] {
        // A multiplicative hash of the index.
        let noise = |i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8;
        let shape = |dims: &[u32]| dims.iter().flat_map(|dim| dim.to_be_bytes()).collect::<Vec<u8>>();
        let images = [vec![0, 0, 8, 3], shape(&[count, side, side]), (0..count * side * side).map(noise).collect()];
        let labels = [vec![0, 0, 8, 1], shape(&[count]), (0..count).map(|i| noise(i + 99) % 10).collect()];
        fs::write(folder.join(files[0].name), images.concat()).unwrap();
        fs::write(folder.join(files[1].name), labels.concat()).unwrap();
    }
}

/// Copies the files of a run to another folder.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for name in names(from) {
        fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}
