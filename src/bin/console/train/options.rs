//! The options of `train`.

use std::path::PathBuf;

use mlpconv::data::{DataName, Flip, Normalization};
use mlpconv::ops::shards::AllReduce;
use mlpconv::optim::{Average, OptimizerKind, RateMultiplier, Schedule};
use mlpconv::train::{OnNan, Preset};

use crate::console::as_given::AsGiven;
use crate::console::device::DeviceArgs;
use crate::console::saving::SaveEvery;
use crate::console::time_span::TimeSpan;
use crate::console::view::Progress;

/// The options of training.
#[derive(clap::Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub course: CourseArgs,
    #[command(flatten)]
    pub optimizer: OptimizerArgs,
    #[command(flatten)]
    pub augmentation: AugmentationArgs,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub process: AsGiven<ProcessArgs>,
    #[command(flatten)]
    pub device: AsGiven<DeviceArgs>,
}

/// The network and the images that it is trained on.
#[derive(clap::Args)]
#[command(next_help_heading = "Network and data")]
pub struct NetworkArgs {
    /// The network and its recipe: d2l (the book's, 224x224), d2l-gluon (its first edition's: zero biases, 3 epochs), stable
    /// (the book's, so that no run dies), small (28x28, minutes on a CPU), tuned (28x28, augmented and averaged, 45 minutes on two cores) or cifar (the paper's, 32x32)
    #[arg(long)]
    pub preset: Option<Preset>,
    /// Begin with the weights of a run (its last ones), or of a file that this program or PyTorch wrote, instead of random ones;
    /// the optimiser and the epochs begin anew. A run's preset, size of images and normalisation are this run's too, unless
    /// options or --config name others
    #[arg(long, value_name = "RUN|FILE")]
    pub init: Option<PathBuf>,
    /// With --init, keep fresh values in the last layers where the weights have another number of classes
    #[arg(long)]
    pub reset_head: bool,
    /// fashion-mnist, mnist, kmnist, cifar10, or a folder of images: DIR/train/CLASS/* and DIR/test/CLASS/*, or DIR/CLASS/*,
    /// of which the 1st, 11th, 21st ... are for testing [default: the preset's]
    #[arg(long, value_name = "NAME|DIR")]
    pub data: Option<DataName>,
    /// Folder that holds the files of the data set
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Height and width that the images are brought to
    #[arg(long, value_name = "PIXELS")]
    pub resize: Option<usize>,
    /// Normalise images, (value / 255 - MEAN) / DEVIATION, by a number each for all channels or one for each, as in
    /// 0.49,0.48,0.45:0.25,0.24,0.26 [default: 0:1, values from 0 to 1]
    #[arg(long, value_name = "MEAN:DEVIATION")]
    pub normalize: Option<Normalization>,
    /// Keep so many training images, the last ones of each class, to choose by: they take the test images' place, which are
    /// read for the final scores alone
    #[arg(long, value_name = "IMAGES")]
    pub holdout: Option<usize>,
    /// Train on the first so many images only
    #[arg(long, value_name = "IMAGES")]
    pub train_limit: Option<usize>,
    /// Test on the first so many images only
    #[arg(long, value_name = "IMAGES")]
    pub test_limit: Option<usize>,
}

/// The course of training.
#[derive(clap::Args)]
#[command(next_help_heading = "Training")]
pub struct CourseArgs {
    /// Times to go through the training images
    #[arg(long)]
    pub epochs: Option<u32>,
    /// Images a step
    #[arg(long, value_name = "IMAGES")]
    pub batch_size: Option<usize>,
    /// Cut the batch of a step into so many equal parts, run in turn or shared by ranks; the weights depend on the number of parts,
    /// and not on that of ranks [default: one a rank]
    #[arg(long, value_name = "PARTS")]
    pub shards: Option<usize>,
    /// How the gradients of ranks are added: tree, with the same bits for any number of ranks, or nccl, the library's fastest way
    /// [default: tree]
    #[arg(long, value_name = "tree|nccl")]
    pub allreduce: Option<AllReduce>,
    /// Stop early, after this many epochs in a row that did not raise the best test accuracy
    #[arg(long, value_name = "EPOCHS")]
    pub patience: Option<u32>,
    /// Spread this share of each label over all classes
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub label_smoothing: Option<f64>,
    /// Scale the initial weights so that each convolution's outputs for the first batch have variance 1 (LSUV); those of --init
    /// keep their scale
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub lsuv: Option<bool>,
    /// Average the weights besides, over the last share of the run (tail:SHARE), exponentially (ema:DECAY), or not (none); the
    /// average is evaluated at the end, and saved beside the weights
    #[arg(long, value_name = "RULE")]
    pub average: Option<Average>,
    /// Take the final scores on images and their mirror images
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub tta: Option<bool>,
    /// Seed of initial weights, shuffling, augmentation and dropout
    #[arg(long)]
    pub seed: Option<u64>,
    /// What to do about a step of which something is not finite (NaN or infinite): stop, or skip it and go on [default: stop]
    #[arg(long, value_name = "stop|skip")]
    pub on_nan: Option<OnNan>,
}

/// The optimiser and its rate.
#[derive(clap::Args)]
#[command(next_help_heading = "Optimiser")]
pub struct OptimizerArgs {
    /// The optimiser: sgd or adamw [default: the preset's: sgd, of stable and tuned adamw]
    #[arg(long)]
    pub optimizer: Option<OptimizerKind>,
    /// Learning rate [default: the preset's for the optimiser]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// Learning rate over time: constant, step:EVERY:FACTOR, cosine, cosine:WARMUP (in epochs), one-cycle or one-cycle:RISE (a
    /// share of the run)
    #[arg(long)]
    pub schedule: Option<Schedule>,
    /// Momentum of sgd, from 0 to below 1
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub momentum: Option<f64>,
    /// Nesterov momentum of sgd
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub nesterov: Option<bool>,
    /// Weight decay: a penalty on squares with sgd, decoupled from the gradient with adamw, whose default is 0.01
    #[arg(long, value_name = "DECAY", allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,
    /// Let weights alone decay, and biases not
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub decay_weights_only: Option<bool>,
    /// Multiply the rate of the parameters whose names fit a pattern, as in '*.bias=2'; can be repeated
    #[arg(long = "rate-multiplier", value_name = "PATTERN=FACTOR")]
    pub rate_multipliers: Vec<RateMultiplier>,
    /// What adamw's average of gradients keeps in a step, from 0 to below 1 [default: 0.9]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub beta1: Option<f64>,
    /// What adamw's average of squared gradients keeps in a step, from 0 to below 1 [default: 0.999]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub beta2: Option<f64>,
    /// What adamw adds to the root of the average of squares [default: 1e-8]
    #[arg(long, allow_negative_numbers = true)]
    pub eps: Option<f64>,
}

/// Augmentation: how training images are changed.
#[derive(clap::Args)]
#[command(next_help_heading = "Augmentation")]
pub struct AugmentationArgs {
    /// Mirror training images, left for right: random ones in each epoch (random), each in every second epoch (alternate), all
    /// of them (always), or none
    #[arg(long, value_name = "WHICH")]
    pub fliplr: Option<Flip>,
    /// Shift training images by up to so many pixels along each axis
    #[arg(long, value_name = "PIXELS")]
    pub translate: Option<usize>,
    /// Erase a rectangle of training images, with this probability
    #[arg(long, value_name = "PROBABILITY", allow_negative_numbers = true)]
    pub erasing: Option<f64>,
    /// Erase nothing in so many epochs at the end
    #[arg(long, value_name = "EPOCHS")]
    pub erasing_rest: Option<u32>,
}

/// The run: its settings and its folder, or a look at it beforehand.
#[derive(clap::Args)]
#[command(next_help_heading = "Run")]
pub struct RunArgs {
    /// Take settings from this file: a run's config.toml, or a TOML file with some of its keys. Options go before the file,
    /// the file goes before the preset. Relative paths in it begin at its folder
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The run folder, which must be new or empty [default: runs/PRESET-TIME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with the run in this folder, exactly as if it had not been interrupted: on its device and in its
    /// precision, unless --device or --precision names another, which has to be repeated at each resume. --epochs, --lr,
    /// --schedule, --weight-decay, --on-nan and --patience change the run from there on
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "config", "preset", "init", "reset_head", "data", "batch_size", "shards", "allreduce", "optimizer", "momentum", "nesterov", "beta1", "beta2", "eps", "resize", "seed",
        "train_limit", "test_limit", "normalize", "label_smoothing", "average", "decay_weights_only", "rate_multipliers", "fliplr", "tta", "holdout", "lsuv",
        "translate", "erasing", "erasing_rest", "out", "dry_run", "overfit_batch",
    ])]
    pub resume: Option<PathBuf>,
    /// Print the settings, as TOML that --config takes, with the costs, the memory and the estimated time of the run, for which
    /// a few steps are timed; train nothing and write nothing
    #[arg(long, conflicts_with_all = ["overfit_batch", "progress"])]
    pub dry_run: bool,
    /// Check that the network can learn at all: train it on one batch again and again, without dropout, weight decay and
    /// schedule, at the rate of --lr or else a fifth of the recipe's, until it knows the batch by heart, or for so many steps
    /// [default: 500]. Writes nothing; the exit code is 1 if it did not
    #[arg(long, value_name = "STEPS", num_args = 0..=1, default_missing_value = "500",
        conflicts_with_all = ["out", "progress", "time_limit", "save_every", "tensorboard"],
        value_parser = clap::value_parser!(u32).range(1..))]
    pub overfit_batch: Option<u32>,
}

/// Options of the process alone, which no run folder keeps. The command that goes on with a run repeats them.
#[derive(clap::Args)]
#[command(next_help_heading = "Output and saving")]
pub struct ProcessArgs {
    /// How progress is shown; PROGRESS.md in src/bin/console/view documents the JSON lines
    #[arg(long, value_enum, default_value_t)]
    pub progress: Progress,
    /// Steps between two readings of loss and accuracy: two lines of plain progress, two points of the curve
    /// [default: ten lines an epoch, a point every eight steps]
    #[arg(long, value_name = "STEPS")]
    pub log_every: Option<usize>,
    /// Time or steps between two saves of the run's state, besides one after each epoch: 90s, 5m, 1h, or a number of
    /// steps
    #[arg(long, value_name = "TIME|STEPS", default_value_t)]
    pub save_every: SaveEvery,
    /// Stop after this time of training and testing (90s, 10m, 2h): saved, and ready to go on
    #[arg(long, value_name = "TIME")]
    pub time_limit: Option<TimeSpan>,
    /// Write event files for TensorBoard into the run folder; a run that has some goes on with them at each resume
    #[arg(long)]
    pub tensorboard: bool,
}
