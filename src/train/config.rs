//! The settings of a run: the command line resolves to them, and the run folder keeps them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{FitOptions, OnNan};
use crate::Backend;
use crate::data::{DataName, known};
use crate::device::Precision;
use crate::nn::Nin;
use crate::optim::adamw::{BETAS, EPS, WEIGHT_DECAY};
use crate::optim::{AdamW, Optimizer, OptimizerKind, Schedule, Sgd};
use crate::{Error, Result};

/// A preset: a network and its recipe, the settings that train it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// d2l's NiN at 224×224 with d2l's recipe: SGD at 0.1, batch 128, 10 epochs.
    D2l,
    /// The same network and recipe as in the book's first edition, on MXNet's Gluon: biases begin at zero, and there are 3
    /// epochs.
    D2lGluon,
    /// A NiN for 28×28 images that trains in minutes on a CPU.
    Small,
    /// The paper's network for CIFAR-10's 32×32 colour images.
    Cifar,
}

impl Preset {
    pub const ALL: [Preset; 4] = [Preset::D2l, Preset::D2lGluon, Preset::Small, Preset::Cifar];

    /// The preset's settings, with SGD.
    pub fn config(self) -> TrainConfig {
        let d2l = TrainConfig {
            preset: Preset::D2l,
            data: DataName::Known(&known::FASHION_MNIST),
            data_dir: None,
            device: "cpu".into(),
            precision: Precision::Fp32,
            epochs: 10,
            batch_size: 128,
            optimizer: OptimizerKind::Sgd,
            learning_rate: 0.1,
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.0,
            beta1: BETAS[0],
            beta2: BETAS[1],
            eps: EPS,
            schedule: Schedule::Constant,
            resize: 224,
            seed: 0,
            on_nan: OnNan::Stop,
            train_limit: None,
            test_limit: None,
            patience: None,
            changes: Vec::new(),
        };
        match self {
            Preset::D2l => d2l,
            Preset::D2lGluon => TrainConfig { preset: Preset::D2lGluon, epochs: 3, ..d2l },
            Preset::Small => TrainConfig {
                preset: Preset::Small,
                epochs: 8,
                learning_rate: 0.025,
                momentum: 0.9,
                schedule: Schedule::Cosine { warmup: 1.0 },
                resize: 28,
                ..d2l
            },
            // The rate is a little lower than `small`'s, because the network is deeper and wider. The weight decay is
            // the usual one of convolutional networks on CIFAR-10.
            Preset::Cifar => TrainConfig {
                preset: Preset::Cifar,
                data: DataName::Known(&known::CIFAR10),
                epochs: 60,
                learning_rate: 0.02,
                momentum: 0.9,
                weight_decay: 1e-4,
                schedule: Schedule::Cosine { warmup: 1.0 },
                resize: 32,
                ..d2l
            },
        }
    }

    /// The preset's settings with the recipe for `optimizer`.
    pub fn config_with(self, optimizer: OptimizerKind) -> TrainConfig {
        let config = self.config();
        match optimizer {
            OptimizerKind::Sgd => config,
            OptimizerKind::AdamW => TrainConfig {
                optimizer,
                learning_rate: match self {
                    Preset::D2l | Preset::D2lGluon => 0.001,
                    Preset::Small => 0.002,
                    Preset::Cifar => 0.001,
                },
                momentum: 0.0,
                nesterov: false,
                weight_decay: WEIGHT_DECAY,
                ..config
            },
        }
    }

    /// The preset's network for its own data set, with initial values drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::Memory`] if the device has too little free memory.
    pub fn net<B: Backend>(self, backend: &B, seed: u64) -> Result<Nin<B>> {
        match self {
            Preset::D2l => Nin::d2l(backend, seed),
            Preset::D2lGluon => Nin::d2l_gluon(backend, seed),
            Preset::Small => Nin::small(backend, seed),
            Preset::Cifar => Nin::cifar(backend, seed),
        }
    }

    /// The preset's network for images of `channels` channels and for `classes` classes.
    ///
    /// # Errors
    /// As [`Preset::net`]; [`Error::Shape`] for no channels or no classes.
    pub fn net_for<B: Backend>(self, backend: &B, seed: u64, channels: usize, classes: usize) -> Result<Nin<B>> {
        match self {
            Preset::D2l => Nin::d2l_for(backend, seed, channels, classes),
            Preset::D2lGluon => Nin::d2l_gluon_for(backend, seed, channels, classes),
            Preset::Small => Nin::small_for(backend, seed, channels, classes),
            Preset::Cifar => Nin::cifar_for(backend, seed, channels, classes),
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Preset::D2l => "d2l",
            Preset::D2lGluon => "d2l-gluon",
            Preset::Small => "small",
            Preset::Cifar => "cifar",
        })
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Preset::ALL.into_iter().find(|preset| preset.to_string() == text);
        found.ok_or_else(|| Error::config("preset", format!("{text:?} is none of d2l, d2l-gluon, small and cifar")))
    }
}

/// The most epochs. A larger number is a typing error.
const MAX_EPOCHS: u32 = 1 << 24;

/// The largest batch size: about twice as many images as Fashion-MNIST has. A larger number is a typing error.
const MAX_BATCH: usize = 1 << 17;

/// The settings of a run: everything that its results depend on. As TOML, they are the run folder's `config.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    pub preset: Preset,
    /// The data set: its name, or the path of a folder. Older runs do not have this entry; they used Fashion-MNIST.
    #[serde(default)]
    pub data: DataName,
    /// The absolute path of the folder that holds the files of a known data set, if one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// The device that the run began on: `cpu` or `cuda:N`.
    pub device: String,
    #[serde(default = "fp32")]
    pub precision: Precision,
    /// Epochs of the whole run, at least 1.
    pub epochs: u32,
    /// Images of a training step, at least 1. The last step of an epoch may have fewer.
    pub batch_size: usize,
    #[serde(default)]
    pub optimizer: OptimizerKind,
    /// The base learning rate; `schedule` gives its factor at each step.
    pub learning_rate: f64,
    /// For SGD only: the momentum, in [0, 1).
    pub momentum: f64,
    /// For SGD only: whether the momentum is Nesterov's.
    pub nesterov: bool,
    /// Zero or positive: in SGD added to the gradient, in AdamW decoupled from it.
    pub weight_decay: f64,
    /// For AdamW only: β₁, in [0, 1).
    #[serde(default = "beta1")]
    pub beta1: f64,
    /// For AdamW only: β₂, in [0, 1).
    #[serde(default = "beta2")]
    pub beta2: f64,
    /// For AdamW only: the number added to the denominator, at least 1.2e-38.
    #[serde(default = "eps")]
    pub eps: f64,
    #[serde(serialize_with = "to_text", deserialize_with = "from_text")]
    pub schedule: Schedule,
    /// Height and width of the resized images, in pixels, from 1 to 1024.
    pub resize: usize,
    /// The seed of initial values, of the images' order and of dropout.
    pub seed: u64,
    /// What to do about a step of which something is not finite. Older runs do not have this entry; they stop.
    #[serde(default)]
    pub on_nan: OnNan,
    /// Train on this many images only, the first ones; on all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_limit: Option<usize>,
    /// Test on this many images only, the first ones; on all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_limit: Option<usize>,
    /// End after this many epochs in a row without a new best test accuracy; at the last epoch only if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<u32>,
    /// A line for each setting that was changed when the run went on: from where on, the old value and the new one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
}

impl TrainConfig {
    /// Checks that every setting is in its range and belongs to the optimiser.
    ///
    /// # Errors
    /// [`Error::Config`] that names the first setting that is not, and its range or the remedy.
    pub fn validate(&self) -> Result<()> {
        let at_least_one = |what: &str, value: Option<usize>| match value {
            Some(0) => Err(Error::config(what, "must be at least 1")),
            _ => Ok(()),
        };
        at_least_one("epochs", Some(self.epochs as usize))?;
        if self.epochs > MAX_EPOCHS {
            let problem = format!("{} are more than {MAX_EPOCHS}, the most that are supported", self.epochs);
            return Err(Error::config("epochs", problem));
        }
        at_least_one("batch-size", Some(self.batch_size))?;
        if self.batch_size > MAX_BATCH {
            let problem = format!("{} is more than {MAX_BATCH}, the most that is supported", self.batch_size);
            return Err(Error::config("batch-size", problem));
        }
        at_least_one("train-limit", self.train_limit)?;
        at_least_one("test-limit", self.test_limit)?;
        at_least_one("patience", self.patience.map(|epochs| epochs as usize))?;
        let range = |what: &str, value: f64, ok: bool, must: &str| {
            if ok { Ok(()) } else { Err(Error::config(what, format!("{value} must be {must}"))) }
        };
        let gpu = self.device.strip_prefix("cuda:").is_some_and(|ordinal| ordinal.parse::<usize>().is_ok());
        if self.device != "cpu" && !gpu {
            return Err(Error::config("device", format!("{:?} is neither cpu nor cuda:N", self.device)));
        }
        // Kernels take the rate in f32, where a smaller number may become zero, which trains nothing.
        let (rate, least) = (self.learning_rate, f64::from(f32::MIN_POSITIVE));
        range("lr", rate, rate > 0.0 && rate.is_finite(), "positive and finite")?;
        range("lr", rate, (least..=f64::from(f32::MAX)).contains(&rate), "within the range of f32, from 1.2e-38")?;
        range("momentum", self.momentum, (0.0..1.0).contains(&self.momentum), "in [0, 1)")?;
        let decay = self.weight_decay;
        range(
            "weight-decay",
            decay,
            decay >= 0.0 && (decay as f32).is_finite(),
            "zero or positive, and finite in f32",
        )?;
        range("beta1", self.beta1, (0.0..1.0).contains(&self.beta1), "in [0, 1)")?;
        range("beta2", self.beta2, (0.0..1.0).contains(&self.beta2), "in [0, 1)")?;
        // Kernels take eps in f32, where a smaller number may become zero. A zero gradient would then give 0 / 0.
        let eps = f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX);
        range("eps", self.eps, eps.contains(&self.eps), "at least 1.2e-38, and finite in f32")?;
        self.schedule.validate()?;
        match self.optimizer {
            OptimizerKind::Sgd => {
                if self.nesterov && self.momentum == 0.0 {
                    return Err(Error::config("nesterov", "needs momentum; add --momentum 0.9"));
                }
                let settings =
                    [("beta1", self.beta1, BETAS[0]), ("beta2", self.beta2, BETAS[1]), ("eps", self.eps, EPS)];
                if let Some((name, ..)) = settings.into_iter().find(|(_, value, default)| value != default) {
                    return Err(Error::config(name, "sgd has none; leave it out, or add --optimizer adamw"));
                }
            }
            OptimizerKind::AdamW => {
                if self.nesterov {
                    return Err(Error::config("nesterov", "adamw has none; leave it out, or use --optimizer sgd"));
                }
                if self.momentum != 0.0 {
                    let problem = "adamw has none; leave it out, set --beta1 instead, or use --optimizer sgd";
                    return Err(Error::config("momentum", problem));
                }
            }
        }
        if !(1..=1024).contains(&self.resize) {
            return Err(Error::config("resize", format!("{} must be between 1 and 1024 pixels", self.resize)));
        }
        Ok(())
    }

    /// A new optimiser with these settings.
    pub fn optimizer<B: Backend>(&self, backend: &B) -> Box<dyn Optimizer<B>> {
        match self.optimizer {
            OptimizerKind::Sgd => {
                let sgd = Sgd::new(backend).with_momentum(self.momentum).with_nesterov(self.nesterov);
                sgd.with_weight_decay(self.weight_decay).into()
            }
            OptimizerKind::AdamW => {
                let adamw = AdamW::new(backend).with_betas([self.beta1, self.beta2]).with_eps(self.eps);
                adamw.with_weight_decay(self.weight_decay).into()
            }
        }
    }

    /// The options for [`Trainer::fit`](super::Trainer::fit), which reports every `report_every` steps (at least 1).
    pub fn fit_options(&self, report_every: usize) -> FitOptions {
        let report_every = report_every.max(1);
        FitOptions {
            epochs: self.epochs,
            rate: self.learning_rate,
            schedule: self.schedule,
            report_every,
            on_nan: self.on_nan,
        }
    }
}

fn fp32() -> Precision {
    Precision::Fp32
}

fn beta1() -> f64 {
    BETAS[0]
}

fn beta2() -> f64 {
    BETAS[1]
}

fn eps() -> f64 {
    EPS
}

fn to_text<S: Serializer>(schedule: &Schedule, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(schedule)
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Schedule, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}
