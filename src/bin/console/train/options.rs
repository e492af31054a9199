//! The options of `train`.

use std::path::PathBuf;

use mlpconv::data::DataName;
use mlpconv::optim::{OptimizerKind, Schedule};
use mlpconv::train::{OnNan, Preset};

use crate::console::device::DeviceArgs;
use crate::console::saving::SaveEvery;

/// The options of training.
#[derive(clap::Args)]
pub struct TrainArgs {
    /// The network and its recipe: d2l (the book's, 224x224), small (28x28, minutes on a CPU) or cifar (the paper's, 32x32)
    #[arg(long)]
    pub preset: Option<Preset>,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Times to go through the training images
    #[arg(long)]
    pub epochs: Option<u32>,
    /// Images a step
    #[arg(long)]
    pub batch_size: Option<usize>,
    /// The optimiser: sgd or adamw [default: sgd]
    #[arg(long)]
    pub optimizer: Option<OptimizerKind>,
    /// Learning rate [default: the preset's for the optimiser]
    #[arg(long, allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// Momentum of sgd, from 0 to below 1
    #[arg(long, allow_negative_numbers = true)]
    pub momentum: Option<f64>,
    /// Nesterov momentum of sgd
    #[arg(long)]
    pub nesterov: bool,
    /// Weight decay: a penalty on squares with sgd, decoupled from the gradient with adamw, whose default is 0.01
    #[arg(long, allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,
    /// What adamw's average of gradients keeps in a step, from 0 to below 1 [default: 0.9]
    #[arg(long, allow_negative_numbers = true)]
    pub beta1: Option<f64>,
    /// What adamw's average of squared gradients keeps in a step, from 0 to below 1 [default: 0.999]
    #[arg(long, allow_negative_numbers = true)]
    pub beta2: Option<f64>,
    /// What adamw adds to the root of the average of squares [default: 1e-8]
    #[arg(long, allow_negative_numbers = true)]
    pub eps: Option<f64>,
    /// Learning rate over time: constant, step:EVERY:FACTOR, cosine or cosine:WARMUP (in epochs)
    #[arg(long)]
    pub schedule: Option<Schedule>,
    /// Height and width that the images are brought to
    #[arg(long, value_name = "PIXELS")]
    pub resize: Option<usize>,
    /// Seed of initial weights, shuffling and dropout
    #[arg(long)]
    pub seed: Option<u64>,
    /// What to do about a step of which something is not finite (NaN or infinite): stop, or skip it and go on [default: stop]
    #[arg(long, value_name = "stop|skip")]
    pub on_nan: Option<OnNan>,
    /// fashion-mnist, mnist, kmnist, cifar10, or a folder of images: DIR/train/CLASS/* and DIR/test/CLASS/*, or DIR/CLASS/*,
    /// of which the 1st, 11th, 21st ... are for testing [default: the preset's]
    #[arg(long, value_name = "NAME|DIR")]
    pub data: Option<DataName>,
    /// Folder that holds the files of the data set
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Train on the first so many images only
    #[arg(long, value_name = "IMAGES")]
    pub train_limit: Option<usize>,
    /// Test on the first so many images only
    #[arg(long, value_name = "IMAGES")]
    pub test_limit: Option<usize>,
    /// The run folder, which must be new or empty [default: runs/PRESET-TIME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with the run in this folder, exactly as if it had not been interrupted: on its device and in its
    /// precision, unless --device or --precision names another, which has to be repeated at each resume. --epochs, --lr,
    /// --schedule, --weight-decay and --on-nan change the run from there on
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "preset", "data", "batch_size", "optimizer", "momentum", "nesterov", "beta1", "beta2", "eps", "resize", "seed",
        "train_limit", "test_limit", "out",
    ])]
    pub resume: Option<PathBuf>,
    /// Time or steps between two saves of the run's state, besides one after each epoch: 90s, 5m, 1h, or a number of
    /// steps
    #[arg(long, value_name = "TIME|STEPS", default_value_t)]
    pub save_every: SaveEvery,
    /// Steps between two lines where there is no terminal to draw a bar on [default: ten lines an epoch]
    #[arg(long, value_name = "STEPS")]
    pub log_every: Option<usize>,
}
