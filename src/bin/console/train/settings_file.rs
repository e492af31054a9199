//! Settings in a file: `--config`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use mlpconv::data::{DataName, known};
use mlpconv::device::Precision;
use mlpconv::train::{Preset, TrainConfig};
use mlpconv::{Error, Result};
use serde::de::DeserializeOwned;
use toml::de::DeTable;
use toml::{Table, Value};

use crate::console::device::Earlier;

/// A file with settings: any of the keys of a run's `config.toml`, each of a type that the key takes.
pub struct SettingsFile {
    path: PathBuf,
    pub settings: Table,
    /// The line of each key, from 1.
    lines: BTreeMap<String, usize>,
}

/// The largest file, in bytes. A run's has less than a thousandth.
const MOST: u64 = 1 << 20;

/// The keys, each with the values that it takes.
fn keys() -> Vec<(&'static str, String)> {
    const SHARE: &str = "a number, from 0 to below 1";
    const COUNT: &str = "a whole number, at least 1";
    let presets = Preset::ALL.map(|preset| preset.to_string());
    let data = known::ALL.map(|spec| spec.name);
    let list = [
        ("preset", &*format!("one of {}", presets.join(", "))),
        ("data", &*format!("one of {}, or the path of a folder of images", data.join(", "))),
        ("data_dir", "the path of a folder"),
        ("device", "auto, cpu, cuda or cuda:N"),
        ("precision", "fp32, tf32 or bf16"),
        ("epochs", COUNT),
        ("batch_size", COUNT),
        ("shards", "a whole number, from 1 to 4096"),
        ("allreduce", "tree or nccl"),
        ("optimizer", "sgd or adamw"),
        ("learning_rate", "a positive number"),
        ("momentum", SHARE),
        ("nesterov", "true or false"),
        ("weight_decay", "a number, zero or positive"),
        ("beta1", SHARE),
        ("beta2", SHARE),
        ("eps", "a positive number, at least 1.2e-38"),
        (
            "schedule",
            "\"constant\", \"step:EVERY:FACTOR\", \"cosine\", \"cosine:WARMUP\" (EVERY and WARMUP in epochs), \"one-cycle\" or \
             \"one-cycle:RISE\" (a share of the run)",
        ),
        ("resize", "a whole number of pixels, from 1 to 1024"),
        ("seed", "a whole number, zero or positive"),
        ("on_nan", "stop or skip"),
        ("train_limit", COUNT),
        ("test_limit", COUNT),
        ("patience", COUNT),
        ("fliplr", "none, random, alternate or always"),
        ("translate", "a whole number of pixels, zero or positive"),
        ("erasing", "a probability, from 0 to 1"),
        ("erasing_rest", "a whole number of epochs, zero or positive"),
        ("normalize", "\"MEAN:DEVIATION\", each a number or one for each channel"),
        ("label_smoothing", "a share, from 0 to 1"),
        ("decay_weights_only", "true or false"),
        ("rate_multipliers", "a list of \"PATTERN=FACTOR\""),
        ("lsuv", "true or false"),
        ("average", "\"tail:SHARE\", \"ema:DECAY\" or \"none\""),
        ("tta", "true or false"),
        ("holdout", "a whole number of images, zero or positive"),
        ("init", "the path of a run folder or of a weights file"),
        ("reset_head", "true or false"),
        ("imported", "the path of a weights file"),
        ("changes", "a list of texts"),
    ];
    list.map(|(key, takes)| (key, takes.to_owned())).into()
}

/// The likeness, from 0 to 1, from which on a key may be what an unknown one means.
const ALIKE: f64 = 0.6;

/// The known key that is most like `key`, if any is like it. Options' names are known too.
fn nearest(key: &str) -> Option<&'static str> {
    if key.replace('-', "_") == "lr" {
        return Some("learning_rate");
    }
    let key = key.replace('-', "_").to_lowercase();
    let likeness = |(known, _): &(&'static str, String)| (*known, strsim::jaro_winkler(&key, known));
    let nearest = keys().iter().map(likeness).max_by(|(_, a), (_, b)| a.total_cmp(b));
    nearest.filter(|(_, likeness)| *likeness >= ALIKE).map(|(known, _)| known)
}

impl SettingsFile {
    /// Reads the file, and checks keys and types. Paths in it become absolute: relative ones begin at the file's folder.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read. [`Error::Config`] that names file and line for what is not TOML, for an
    /// unknown key (with the nearest known one) and for a value of another type (with what the key takes).
    pub fn read(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { action: "read", path: path.into(), source };
        let mut text = String::new();
        File::open(path).and_then(|file| file.take(MOST + 1).read_to_string(&mut text)).map_err(io)?;
        let mut file = SettingsFile { path: path.into(), settings: Table::new(), lines: BTreeMap::new() };
        if text.len() as u64 > MOST {
            let problem = "has more than a MiB; a run's config.toml has a few lines".into();
            return Err(Error::Config { what: path.display().to_string(), problem });
        }
        let line = |at: usize| 1 + text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
        let malformed = |error: toml::de::Error| {
            let line = error.span().map_or(1, |span| line(span.start.min(text.len())));
            file.problem(line, error.message().to_owned())
        };
        let keys = DeTable::parse(&text).map_err(malformed)?;
        file.lines = keys.get_ref().keys().map(|key| (key.get_ref().to_string(), line(key.span().start))).collect();
        file.settings = text.parse().map_err(|error: toml::de::Error| file.problem(1, error.message().to_owned()))?;
        file.check()?;
        file.place()?;
        Ok(file)
    }

    /// Checks that every key is known, and its value of a type that it takes.
    fn check(&self) -> Result<()> {
        let keys = keys();
        // Any settings, so that a key can be looked at by itself.
        let whole = Table::try_from(Preset::Small.config()).unwrap_or_default();
        for (key, value) in &self.settings {
            let Some((_, takes)) = keys.iter().find(|(known, _)| known == key) else {
                let remedy = match nearest(key) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => {
                        let known: Vec<&str> = keys.iter().map(|(known, _)| *known).collect();
                        format!("the keys are {}", known.join(", "))
                    }
                };
                return Err(self.problem(self.line(key), format!("there is no setting {key}; {remedy}")));
            };
            let mut one = whole.clone();
            one.insert(key.clone(), value.clone());
            if TrainConfig::from_toml(&one.to_string(), "settings").is_err() {
                return Err(self.refused(key, &format!("must be {takes}")));
            }
        }
        Ok(())
    }

    /// Makes paths absolute.
    fn place(&mut self) -> Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let absolute = |value: &str| -> Result<Value> {
            let path = folder.join(value);
            let absolute = std::path::absolute(&path).map_err(|source| Error::Io { action: "find", path, source })?;
            Ok(absolute.display().to_string().into())
        };
        for key in ["data", "data_dir", "init"] {
            if let Some(Value::String(path)) = self.settings.get(key)
                && (key != "data" || DataName::from(&**path).spec().is_none())
            {
                let path = absolute(path)?;
                self.settings.insert(key.into(), path);
            }
        }
        Ok(())
    }

    /// The value of a key.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.settings.get(key)?.clone().try_into().ok()
    }

    /// The device and the precision that the file asks for.
    pub fn device(&self) -> Earlier<'_> {
        let device = self.settings.get("device").and_then(Value::as_str);
        Earlier { device, precision: self.get::<Precision>("precision"), why: self.why() }
    }

    /// The reason for what the file sets.
    pub fn why(&self) -> String {
        format!("as {} says", self.path.display())
    }

    /// The error of a setting out of its range: with this file, the line and the value if it was set there, and not by one of
    /// the options, which go before.
    pub fn locate(&self, error: Error, options: &Table) -> Error {
        let Error::Config { what, problem } = &error else { return error };
        // Errors name the option.
        let key = if what == "lr" { "learning_rate".into() } else { what.replace('-', "_") };
        match self.settings.contains_key(&key) && !options.contains_key(&key) {
            true => self.refused(&key, problem),
            false => error,
        }
    }

    fn refused(&self, key: &str, problem: &str) -> Error {
        let value = self.settings.get(key).map(Value::to_string).unwrap_or_default();
        // A problem may begin with the value.
        let problem = problem.strip_prefix(&format!("{value} ")).unwrap_or(problem);
        let value: String = value.lines().next().unwrap_or_default().chars().take(60).collect();
        self.problem(self.line(key), format!("{key} = {value}: {problem}"))
    }

    fn line(&self, key: &str) -> usize {
        self.lines.get(key).copied().unwrap_or(1)
    }

    fn problem(&self, line: usize, problem: String) -> Error {
        Error::Config { what: format!("{}, line {line}", self.path.display()), problem }
    }
}

#[cfg(test)]
mod tests {
    use mlpconv::ops::shards::AllReduce;

    use super::*;

    #[test]
    fn the_keys_are_those_of_a_runs_settings() {
        let (limit, folder) = (Some(1), Some("/data".into()));
        let all = TrainConfig {
            data_dir: folder,
            shards: 2,
            allreduce: AllReduce::Nccl,
            train_limit: limit,
            test_limit: limit,
            patience: Some(1),
            rate_multipliers: vec!["*=1".parse().unwrap()],
            init: Some("/run".into()),
            reset_head: true,
            imported: Some("/weights.pt".into()),
            changes: vec!["after 1 epochs and 0 steps, epochs: 1, now 2".into()],
            ..Preset::Small.config()
        };
        let config = Table::try_from(all).unwrap();
        let mut known: Vec<_> = keys().into_iter().map(|(key, _)| key.to_owned()).collect();
        known.sort();
        assert_eq!(config.keys().cloned().collect::<Vec<_>>(), known);
    }

    #[test]
    fn the_nearest_key_is_the_one_that_was_meant() {
        for (key, meant) in [
            ("epoch", "epochs"),
            ("lr", "learning_rate"),
            ("learningrate", "learning_rate"),
            ("batch-size", "batch_size"),
            ("batchsize", "batch_size"),
            ("optimiser", "optimizer"),
            ("Seed", "seed"),
            ("weight-decay", "weight_decay"),
        ] {
            assert_eq!(nearest(key), Some(meant), "{key}");
        }
        assert_eq!(nearest("zzz"), None);
    }
}
