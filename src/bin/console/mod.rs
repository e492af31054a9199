//! The program `mlpconv`, of which `train` is a part: a file for each command, and what they share.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod allocator;
pub mod as_given;
mod chosen;
pub mod compare;
pub mod completions;
pub mod data;
pub mod device;
pub mod doctor;
pub mod evaluate;
pub mod exercise;
pub mod export;
pub mod folder;
pub mod import;
#[cfg(unix)]
pub mod launch;
pub mod limits;
pub mod man;
pub mod memory;
pub mod model;
pub mod output;
pub mod page;
pub mod plan;
pub mod predict;
pub mod report;
pub mod saving;
pub mod scaling;
pub mod screen;
pub mod signals;
pub mod summary;
pub mod time;
pub mod time_span;
pub mod train;
pub mod view;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use mlpconv::Backend;
use mlpconv::data::DataName;
#[cfg(feature = "cuda")]
use mlpconv::device::cuda::CudaError;
use mlpconv::nn::{Nin, Summary};
use mlpconv::optim::OptimizerKind;
use mlpconv::train::{Preset, TrainConfig};
use mlpconv::{Error, Result, Shape};

use compare::{CompareArgs, compare};
use data::{ShowArgs, show};
use device::{DeviceArgs, choose, on_device};
use doctor::doctor;
use evaluate::{EvaluateArgs, evaluate};
use exercise::{ExerciseArgs, exercise};
use export::{ExportArgs, export};
use import::{ImportArgs, import};
#[cfg(unix)]
use launch::{LaunchArgs, launch};
use model::{ModelArgs, model};
pub use output::{emit, note, say, say_in_one};
use plan::plan;
use predict::{PredictArgs, predict};
use report::{ReportArgs, report};
use scaling::{ScalingArgs, scaling};
use summary::summary;
use time::{Timing, time};
use train::{TrainArgs, train};

/// Looks at Network in Network: its costs, its accuracy, its speed.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Trains Network in Network, and leaves a run folder behind
    Train(Box<TrainArgs>),
    /// Starts a command several times on this host, as ranks that train together
    ///
    /// Each rank is this program with RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun sets them.
    /// Rank 0 has this terminal; the lines of the others begin with their rank. If a rank fails, the others have 10 s to end, and the exit
    /// code is that of the first that failed. On several hosts torchrun, mpirun, mpiexec or srun start the ranks.
    #[cfg(unix)]
    Launch(LaunchArgs),
    /// Shapes, parameters, multiply-adds and memory of a preset, layer by layer
    Summary {
        #[command(flatten)]
        network: NetworkArgs,
        /// Count the state of this optimiser: sgd or adamw
        #[arg(long, default_value = "sgd")]
        optimizer: OptimizerKind,
        /// Count velocities too, as momentum needs them
        #[arg(long)]
        momentum: bool,
    },
    /// The plan of a preset's network: what runs as one op, which pixels are left out, and why what is not fused is not
    ///
    /// With --device cuda and no usable GPU, the plan is that of an H200.
    Plan {
        #[command(flatten)]
        network: NetworkArgs,
        #[command(flatten)]
        device: DeviceArgs,
    },
    /// An estimate of a training step of d2l's NiN on a GPU that is not at hand: each launch, and what binds it
    Model(ModelArgs),
    /// A simulation of a training step on ranks that are not at hand: its time, what is exchanged, and how efficient it is
    Scaling(ScalingArgs),
    /// Loss and accuracy of a run's weights on the test images, and how well they tell each class
    Evaluate(EvaluateArgs),
    /// What a run's network takes pictures of your own for: PNG or JPEG files of any size, colour and depth
    Predict(PredictArgs),
    /// Makes a run folder of weights that were trained elsewhere: evaluate, predict, report and train --init use it
    Import(ImportArgs),
    /// Writes a run's network for other programs: ONNX, safetensors, NumPy's arrays, a PyTorch module. Nothing that is there is
    /// replaced
    Export(ExportArgs),
    /// Makes a run's report.html anew: curves, confusion, mistakes, feature maps, settings
    Report(ReportArgs),
    /// Compares runs: a page with their curves and the settings that differ, and a table
    Compare(CompareArgs),
    /// The exercises of the book's chapter, each answered by a table, a picture and two sentences
    Exercise(Box<ExerciseArgs>),
    /// Finds a data set on this machine, or else fetches it, and says where it lies and what it holds
    #[command(args_conflicts_with_subcommands = true)]
    Data {
        #[command(flatten)]
        args: DataArgs,
        #[command(subcommand)]
        command: Option<DataCommand>,
    },
    /// Looks at this machine and this build: driver, GPUs, kernels, data set, CPU; with a remedy for what is missing
    Doctor(DataArgs),
    /// Prints a script with which a shell completes commands and options
    ///
    /// Bash takes it by `source <(mlpconv completions bash)`, and for good from
    /// ~/.local/share/bash-completion/completions/mlpconv. Fish reads ~/.config/fish/completions/mlpconv.fish, zsh a file _mlpconv in a
    /// folder of its $fpath.
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Prints the manual, a page for each command: for `mlpconv man | man -l -`
    Man {
        /// Write a file for each page into this folder, which is made if need be: mlpconv.1, mlpconv-train.1, ...
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Times training steps and inference on random images: on a GPU from a data set that lies there, as `train` does
    Time {
        /// d2l, d2l-gluon, stable, small, tuned or cifar
        #[arg(long, default_value = "d2l")]
        preset: Preset,
        /// Images a batch
        #[arg(long, default_value_t = 64)]
        batch_size: usize,
        /// Steps to time, after some to warm up [default: 5 on a CPU, 100 a round on a GPU]
        #[arg(long)]
        steps: Option<usize>,
        /// On a GPU: rounds of as many steps, of which the median is told
        #[arg(long, default_value_t = 7)]
        rounds: usize,
        /// On a GPU: the kernels for all GPUs alone, to compare those for its own architecture with
        #[arg(long)]
        portable: bool,
        #[command(flatten)]
        device: DeviceArgs,
        /// One line of JSON instead of text
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
enum DataCommand {
    /// Examples of each class with its name, and how many images there are of each
    Show(ShowArgs),
}

/// A preset's network and its input.
#[derive(clap::Args)]
struct NetworkArgs {
    /// d2l, d2l-gluon, stable, small, tuned or cifar
    #[arg(long, default_value = "d2l")]
    preset: Preset,
    /// Images a batch
    #[arg(long, default_value_t = 1)]
    batch_size: usize,
    /// Height and width of the images [default: the preset's]
    #[arg(long, value_name = "PIXELS")]
    resize: Option<usize>,
}

impl NetworkArgs {
    /// The settings of the preset with this input, for an optimiser.
    fn config(&self, optimizer: OptimizerKind) -> TrainConfig {
        let config = self.preset.config_with(optimizer);
        let resize = self.resize.unwrap_or(config.resize);
        TrainConfig { batch_size: self.batch_size, resize, ..config }
    }
}

#[derive(clap::Args)]
struct DataArgs {
    /// fashion-mnist, mnist, kmnist, cifar10, or a folder of images [default: fashion-mnist]
    #[arg(long, value_name = "NAME|DIR", default_value_t, hide_default_value = true)]
    data: DataName,
    /// Folder that holds the files of the data set
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// The program `mlpconv`.
pub fn main() -> ExitCode {
    let command = Args::parse().command;
    ended(limits::respect().and_then(|()| run(command)))
}

/// The exit code of a program that has come to its end, or has failed.
pub fn ended(done: Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| fail(&error))
}

/// Runs a command. Those that only tell something end well unless what they told could not be written.
fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Train(args) => return train(*args),
        Command::Exercise(args) => return exercise(*args),
        #[cfg(unix)]
        Command::Launch(args) => return launch(&args),
        Command::Predict(args) => return predict(args).map(|code| output::failure().map_or(code, output::failed)),
        Command::Summary { network, optimizer, momentum } => {
            let momentum = if momentum { 0.9 } else { 0.0 };
            summary(&TrainConfig { momentum, ..network.config(optimizer) })?;
        }
        Command::Plan { network, device } => plan(&network.config(OptimizerKind::default()), &device)?,
        Command::Model(args) => model(&args)?,
        Command::Scaling(args) => scaling(&args)?,
        Command::Evaluate(args) => evaluate(args)?,
        Command::Data { command: Some(DataCommand::Show(args)), .. } => show(args)?,
        Command::Data { args: DataArgs { data, data_dir }, .. } => data::describe(&data, data_dir.as_deref())?,
        Command::Import(args) => import(args)?,
        Command::Export(args) => export(args)?,
        Command::Report(args) => report(args)?,
        Command::Compare(args) => compare(&args)?,
        Command::Doctor(DataArgs { data, data_dir }) => doctor(&data, data_dir)?,
        Command::Completions { shell } => completions::print(shell, Args::command()),
        Command::Man { out } => man::man(Args::command(), out.as_deref())?,
        Command::Time { preset, batch_size: batch, steps, rounds, portable, device, json } => {
            let timing = Timing { preset, batch, steps, rounds, json };
            let device = choose(&device, None)?;
            let device = if portable { device.portable()? } else { device };
            on_device!(&device.backend, backend => time(&timing, &device, backend))?;
        }
    }
    Ok(output::failure().map_or(ExitCode::SUCCESS, output::failed))
}

/// Prints an error, and the options that may help. The exit code is 2 if the device cannot be used, as it is for an
/// option that does not exist, and else 1.
pub fn fail(error: &Error) -> ExitCode {
    note(format_args!("error: {error}"));
    if let Some(options) = remedy(error) {
        note(format_args!("options: {options}"));
    }
    if is_of_a_device(error) { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// Whether the device that was asked for cannot be used, or has failed. A CPU lacks no more than memory or threads.
fn is_of_a_device(error: &Error) -> bool {
    match error {
        Error::Device { device, .. } => device != "cpu",
        #[cfg(feature = "cuda")]
        Error::Cuda(_) => true,
        _ => false,
    }
}

/// The options that may help against an error. The library's message does not name options.
fn remedy(error: &Error) -> Option<&'static str> {
    match error {
        Error::RunNotEmpty { .. } => Some("another --out; --resume goes on with a run"),
        Error::RunImported { .. } => Some("train --init RUN begins a run with its weights"),
        Error::OtherClasses { .. } => {
            Some("--data names the data set of the weights; train --reset-head gives a fresh last layer")
        }
        Error::RunLocked { .. } => Some("another --out begins another run"),
        Error::Diverged { .. } => Some("a lower --lr or --momentum; --schedule cosine:1 warms up"),
        Error::DataFileMissing { .. } | Error::DataNotFound { .. } => {
            Some("--data-dir names a folder; --data names another data set")
        }
        #[cfg(feature = "cuda")]
        Error::Cuda(error) => match error {
            CudaError::NoSuchDevice { .. } => Some("--device cuda:0, or --device cpu"),
            CudaError::NoDriver
            | CudaError::DriverDamaged { .. }
            | CudaError::DriverNotStarted { .. }
            | CudaError::NoDevice
            | CudaError::KernelsNotBuilt { .. }
            | CudaError::Unsupported { .. }
            | CudaError::DriverTooOld { .. } => Some("--device cpu"),
            _ => None,
        },
        _ => None,
    }
}

/// The cost of a preset's network on a batch of square images of so many channels.
///
/// # Errors
/// [`Error::Config`] if the images are too small for the network. It names `--resize` and its least value.
pub fn summarize<B: Backend>(
    preset: Preset,
    net: &Nin<B>,
    batch: usize,
    channels: usize,
    size: usize,
) -> Result<Summary> {
    let at = |size| Summary::new(net, Shape::image(batch, channels, size, size));
    at(size).map_err(|error| match (size..=1024).find(|&larger| at(larger).is_ok()) {
        Some(least) => Error::Config {
            what: "resize".into(),
            problem: format!("{size} pixels are too few for preset {preset}, which needs {least} at least ({error})"),
        },
        None => error,
    })
}

/// The metrics of an epoch with so much training and test accuracy, for tests.
#[cfg(test)]
fn epoch_metrics(epoch: u32, accuracy: f64) -> mlpconv::train::EpochMetrics {
    mlpconv::train::EpochMetrics {
        epoch,
        loss: 2.0 - accuracy,
        train_accuracy: accuracy,
        test_loss: 1.0,
        test_accuracy: accuracy,
        examples_per_second: 1.0,
        train_seconds: 1.0,
        test_seconds: 1.0,
        rate: 0.1,
        skipped: 0,
    }
}

/// A number with separators: `1992166` as `1,992,166`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count with one decimal and a metric prefix: `762297352` as `762.3 M`.
pub fn metric(number: usize) -> String {
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => format!("{:.1} k", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", number as f64 / 1e6),
        _ => format!("{:.1} G", number as f64 / 1e9),
    }
}

/// Bytes in binary units: `1536` as `1.5 KiB`.
pub fn bytes(number: usize) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut value = number as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}
