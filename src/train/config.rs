//! The settings of a run: the command line resolves to them, and the run folder keeps them.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{FitOptions, OnNan, Preset, Trainer};
use crate::Backend;
use crate::data::{Augmentation, DataName, Dataset, Erasing, Flip, Loader, LoaderConfig, Normalization, Order};
use crate::device::Precision;
use crate::nn::Module;
use crate::ops::cross_entropy::require_smoothing;
use crate::ops::shards::{self, AllReduce, Division};
use crate::optim::adamw::{BETAS, EPS};
use crate::optim::{
    AdamW, Average, Averaging, Optimizer, OptimizerKind, RateMultiplier, Schedule, Sgd, set_multipliers,
};
use crate::{Error, Result};

/// The most epochs. A larger number is a typing error.
const MAX_EPOCHS: u32 = 1 << 24;

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
    /// Equal parts that the batch of a step is cut into, see [`Trainer::divide`]: weights depend on their number, and not on that of
    /// the ranks. Older runs do not have this entry; they have one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub shards: usize,
    /// How the gradients of ranks are added.
    #[serde(default, skip_serializing_if = "AllReduce::is_tree")]
    pub allreduce: AllReduce,
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
    pub schedule: Schedule,
    /// Height and width of the resized images, in pixels, from 1 to 1024.
    pub resize: usize,
    /// The seed of initial values, of the images' order, of their augmentation and of dropout.
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
    /// Which training images are mirrored. Older runs do not have this entry and those below, which change nothing.
    #[serde(default)]
    pub fliplr: Flip,
    /// The most pixels by which training images are shifted, see [`Augmentation::translate`].
    #[serde(default)]
    pub translate: usize,
    /// The probability that a part of a training image is erased, see [`Erasing`].
    #[serde(default)]
    pub erasing: f64,
    /// The last epochs, in which nothing is erased.
    #[serde(default)]
    pub erasing_rest: u32,
    /// The normalisation of all images.
    #[serde(default)]
    pub normalize: Normalization,
    /// The share of the labels that is spread over all classes, see [`Trainer::label_smoothing`].
    #[serde(default)]
    pub label_smoothing: f64,
    /// Whether weights alone have weight decay, and biases have none.
    #[serde(default)]
    pub decay_weights_only: bool,
    /// Factors of the learning rate for some parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rate_multipliers: Vec<RateMultiplier>,
    /// Whether the first batch of training images scales the initial weights, see [`lsuv`](crate::nn::lsuv).
    #[serde(default)]
    pub lsuv: bool,
    /// Which weights are averaged, if any.
    #[serde(default)]
    pub average: Average,
    /// Whether the final scores are of images and their mirror images.
    #[serde(default)]
    pub tta: bool,
    /// So many of the training images take the test images' place during the run: they are measured after each epoch, and not
    /// trained on. They are the last ones of each class, see [`Dataset::hold_out`]. The test images are read for the final
    /// scores alone.
    #[serde(default)]
    pub holdout: usize,
    /// The absolute path of what the run's first weights were taken from, if they were not drawn: another run's folder, or a
    /// file. A run that goes on does not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Whether the last layers kept their drawn values where `init` has another number of classes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset_head: bool,
    /// The absolute path of the file whose weights were imported. Such a run was not trained here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<PathBuf>,
    /// A line for each setting that was changed when the run went on: from where on, the old value and the new one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
}

impl TrainConfig {
    /// The largest batch size: about twice as many images as Fashion-MNIST has. A larger number is a typing error.
    pub const MAX_BATCH: usize = 1 << 17;

    /// The settings that the text of a run folder's `config.toml` has. They are not checked by [`validate`](Self::validate).
    /// Errors call the text `name`.
    ///
    /// # Errors
    /// [`Error::Config`] for a text that is not TOML, an unknown or missing setting, and a value of another type.
    pub fn from_toml(text: &str, name: &str) -> Result<Self> {
        let table = text.parse::<toml::Table>();
        table.and_then(Self::deserialize).map_err(|error| Error::config(name, error.message()))
    }

    /// The text of a run folder's `config.toml` with these settings.
    ///
    /// # Errors
    /// [`Error::Config`] for a number beyond TOML's, which end at `i64::MAX`.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| Error::config("settings", error.to_string()))
    }

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
        if self.batch_size > Self::MAX_BATCH {
            let (batch, most) = (self.batch_size, Self::MAX_BATCH);
            let problem = format!("{batch} is more than {most}, the most that is supported");
            return Err(Error::config("batch-size", problem));
        }
        shards::Order::require(self.shards)?;
        if self.allreduce == AllReduce::Nccl && self.device == "cpu" {
            return Err(Error::config("allreduce", "nccl adds on GPUs alone; leave it out, or train on GPUs"));
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
        range("erasing", self.erasing, (0.0..=1.0).contains(&self.erasing), "a probability, from 0 to 1")?;
        require_smoothing(self.label_smoothing)?;
        self.average.validate()?;
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
        if self.reset_head && self.init.is_none() {
            return Err(Error::config("reset-head", "there is no head to reset without --init; leave it out"));
        }
        if !(1..=1024).contains(&self.resize) {
            return Err(Error::config("resize", format!("{} must be between 1 and 1024 pixels", self.resize)));
        }
        Ok(())
    }

    /// A new optimiser with these settings, which keeps averages of the weights if they say so.
    pub fn optimizer<B: Backend>(&self, backend: &B) -> Box<dyn Optimizer<B>> {
        let optimizer: Box<dyn Optimizer<B>> = match self.optimizer {
            OptimizerKind::Sgd => {
                let sgd = Sgd::new(backend).with_momentum(self.momentum).with_nesterov(self.nesterov);
                sgd.with_weight_decay(self.weight_decay).into()
            }
            OptimizerKind::AdamW => {
                let adamw = AdamW::new(backend).with_betas([self.beta1, self.beta2]).with_eps(self.eps);
                adamw.with_weight_decay(self.weight_decay).into()
            }
        };
        match self.average {
            Average::None => optimizer,
            rule => Averaging::new(backend, optimizer, rule).into(),
        }
    }

    /// A trainer of `net` at the start of a run with these settings.
    ///
    /// # Errors
    /// [`Error::Config`] for a rate multiplier that fits no parameter; as [`Trainer::new`].
    pub fn trainer<B: Backend, N: Module<B>>(&self, backend: &B, mut net: N) -> Result<Trainer<B, N>> {
        set_multipliers(&mut net, &self.rate_multipliers, self.decay_weights_only)?;
        let mut trainer = Trainer::new(backend, net, self.optimizer(backend), self.seed)?;
        trainer.label_smoothing = self.label_smoothing;
        Ok(trainer)
    }

    /// The images that are measured after each epoch, in a word: `test` or `holdout`.
    pub fn measured(&self) -> &'static str {
        if self.holdout > 0 { "holdout" } else { "test" }
    }

    /// What becomes of training images.
    pub fn augmentation(&self) -> Augmentation {
        let epochs = self.epochs.saturating_sub(self.erasing_rest);
        let erasing = (self.erasing != 0.0).then(|| Erasing { epochs, ..Erasing::new(self.erasing) });
        Augmentation { seed: self.seed, flip: self.fliplr, translate: self.translate, erasing }
    }

    /// The training images to train on, and those to measure with after each epoch, out of a data set's training and test
    /// images: within the limits, and with the [`holdout`](Self::holdout) in the test images' place.
    ///
    /// # Errors
    /// [`Error::Config`] for a holdout that leaves no image to train on; as [`Dataset::hold_out`].
    pub fn divided(&self, train: Dataset, test: Arc<Dataset>) -> Result<[Arc<Dataset>; 2]> {
        let all = train.len();
        if self.holdout > 0 && self.holdout >= all {
            let problem = format!("{} of {all} training images leave none to train on", self.holdout);
            return Err(Error::config("holdout", problem));
        }
        let (train, measured) = match self.holdout {
            0 => (train, test),
            holdout => {
                let [train, held] = train.hold_out(holdout)?;
                (train, Arc::new(held))
            }
        };
        Ok([Arc::new(train.take(self.train_limit.unwrap_or(usize::MAX))), measured])
    }

    /// A loader of training images: all that are given, shuffled and augmented.
    ///
    /// # Errors
    /// As [`Loader::new`], [`Loader::with_augmentation`] and [`Loader::with_normalization`].
    pub fn train_loader(&self, images: Arc<Dataset>) -> Result<Loader> {
        self.loader(images, Order::Shuffled { seed: self.seed })?.with_augmentation(self.augmentation())
    }

    /// A loader of test images: all that are given, in their order and as they are.
    ///
    /// # Errors
    /// [`Error::Config`] for a number of shards out of its range; as [`Loader::new`] and [`Loader::with_normalization`].
    pub fn test_loader(&self, images: Arc<Dataset>) -> Result<Loader> {
        shards::Order::require(self.shards)?;
        // No more at once than a shard has, which is what the device has room for.
        let config = TrainConfig { batch_size: self.batch_size.div_ceil(self.shards), ..self.clone() };
        config.loader(images, Order::Sequential)
    }

    fn loader(&self, images: Arc<Dataset>, order: Order) -> Result<Loader> {
        let config = LoaderConfig { batch_size: self.batch_size, height: self.resize, width: self.resize, order };
        Loader::new(images, config)?.with_normalization(self.normalize.clone())
    }

    /// How [`Trainer::divide`](super::Trainer::divide) is to divide the steps.
    pub fn division(&self) -> Division {
        Division { shards: self.shards, all_reduce: self.allreduce, ..Division::default() }
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

fn one() -> usize {
    1
}

fn is_one(shards: &usize) -> bool {
    *shards == 1
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_images_of_no_shard_are_refused() {
        let images = Arc::new(Dataset::new(vec![0; 4], vec![0], 2, 2, 1).unwrap());
        let config = TrainConfig { shards: 0, ..Preset::Small.config() };
        let error = config.test_loader(images).map(drop).unwrap_err().to_string();
        assert!(error.starts_with("shards: 0 must be between 1 and "), "{error}");
    }
}
