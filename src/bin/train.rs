//! `cargo run --release --bin train`: trains a preset on a data set and leaves a run folder behind.

mod console;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use mlpconv::data::{DataName, Loader};
use mlpconv::optim::{OptimizerKind, Schedule};
use mlpconv::train::{Event, Feed, Position, Preset, Resident, Run, TrainConfig, Trainer};
use mlpconv::{Backend, Error, Result};

use console::data::Requested;
use console::device::{Choice, DeviceArgs, on_device};
use console::memory::Steps;
use console::report::Report;
use console::{grouped, metric, say};

/// Trains Network in Network on Fashion-MNIST, CIFAR-10 or another data set.
///
/// Without options: preset `small` on a CPU, preset `d2l` on a GPU, on Fashion-MNIST, which is found on this machine or
/// fetched.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The network and its recipe: d2l (the book's, 224x224), small (28x28, minutes on a CPU) or cifar (the paper's, 32x32)
    #[arg(long)]
    preset: Option<Preset>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Times to go through the training images
    #[arg(long)]
    epochs: Option<u32>,
    /// Images a step
    #[arg(long)]
    batch_size: Option<usize>,
    /// The optimiser: sgd or adamw [default: sgd]
    #[arg(long)]
    optimizer: Option<OptimizerKind>,
    /// Learning rate [default: the preset's for the optimiser]
    #[arg(long, allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Momentum of sgd, from 0 to below 1
    #[arg(long, allow_negative_numbers = true)]
    momentum: Option<f64>,
    /// Nesterov momentum of sgd
    #[arg(long)]
    nesterov: bool,
    /// Weight decay: a penalty on squares with sgd, decoupled from the gradient with adamw, whose default is 0.01
    #[arg(long, allow_negative_numbers = true)]
    weight_decay: Option<f64>,
    /// What adamw's average of gradients keeps in a step, from 0 to below 1 [default: 0.9]
    #[arg(long, allow_negative_numbers = true)]
    beta1: Option<f64>,
    /// What adamw's average of squared gradients keeps in a step, from 0 to below 1 [default: 0.999]
    #[arg(long, allow_negative_numbers = true)]
    beta2: Option<f64>,
    /// What adamw adds to the root of the average of squares [default: 1e-8]
    #[arg(long, allow_negative_numbers = true)]
    eps: Option<f64>,
    /// Learning rate over time: constant, step:EVERY:FACTOR, cosine or cosine:WARMUP (in epochs)
    #[arg(long)]
    schedule: Option<Schedule>,
    /// Height and width that the images are brought to
    #[arg(long, value_name = "PIXELS")]
    resize: Option<usize>,
    /// Seed of initial weights, shuffling and dropout
    #[arg(long)]
    seed: Option<u64>,
    /// fashion-mnist, mnist, kmnist, cifar10, or a folder of images: DIR/train/CLASS/* and DIR/test/CLASS/*, or DIR/CLASS/*,
    /// of which the 1st, 11th, 21st ... are for testing [default: the preset's]
    #[arg(long, value_name = "NAME|DIR")]
    data: Option<DataName>,
    /// Folder that holds the files of the data set
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Train on the first so many images only
    #[arg(long, value_name = "IMAGES")]
    train_limit: Option<usize>,
    /// Test on the first so many images only
    #[arg(long, value_name = "IMAGES")]
    test_limit: Option<usize>,
    /// The run folder, which must be new or empty [default: runs/PRESET-TIME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the run in this folder, exactly as if it had not been interrupted: on its device and in its
    /// precision, unless --device or --precision names another, which has to be repeated at each resume
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "preset", "data", "epochs", "batch_size", "optimizer", "lr", "momentum", "nesterov", "weight_decay", "beta1", "beta2", "eps",
        "schedule", "resize", "seed", "train_limit", "test_limit", "out",
    ])]
    resume: Option<PathBuf>,
    /// Steps between two lines where there is no terminal to draw a bar on [default: ten lines an epoch]
    #[arg(long, value_name = "STEPS")]
    log_every: Option<usize>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match console::limits::respect().and_then(|()| run(args)) {
        Ok(code) => code,
        Err(error) => console::fail(&error),
    }
}

/// The settings of the run: the preset's, overridden by the options.
fn resolve(args: &Args, device: &Choice) -> Result<TrainConfig> {
    let preset = args.preset.unwrap_or(device.preset);
    let mut config = preset.config_with(args.optimizer.unwrap_or_default());
    fn set<T: Clone>(setting: &mut T, option: &Option<T>) {
        if let Some(value) = option {
            setting.clone_from(value);
        }
    }
    if let Some(data) = &args.data {
        config.data = data.clone().absolute()?;
    }
    config.device.clone_from(&device.name);
    config.precision = device.precision;
    set(&mut config.epochs, &args.epochs);
    set(&mut config.batch_size, &args.batch_size);
    set(&mut config.learning_rate, &args.lr);
    set(&mut config.momentum, &args.momentum);
    set(&mut config.weight_decay, &args.weight_decay);
    set(&mut config.beta1, &args.beta1);
    set(&mut config.beta2, &args.beta2);
    set(&mut config.eps, &args.eps);
    set(&mut config.schedule, &args.schedule);
    set(&mut config.resize, &args.resize);
    set(&mut config.seed, &args.seed);
    config.nesterov |= args.nesterov;
    config.train_limit = args.train_limit;
    config.test_limit = args.test_limit;
    config.validate()?;
    Ok(config)
}

fn run(args: Args) -> Result<ExitCode> {
    let resumed = args.resume.as_ref().map(Run::open).transpose()?;
    let device = console::device::choose(&args.device, resumed.as_ref().map(|run| &run.config))?;
    on_device!(device.backend.clone(), backend => train(args, resumed, &device, backend))
}

fn train<B: Backend<Scalar = f32>>(args: Args, resumed: Option<Run>, device: &Choice, backend: B) -> Result<ExitCode> {
    let config = match &resumed {
        Some(run) => run.config.clone(),
        None => resolve(&args, device)?,
    };
    let size = config.resize;
    let data = Requested::new(&config.data, args.data_dir.as_deref(), size)?;
    let (channels, classes) = (data.channels, data.classes);
    let net = config.preset.net_for(&backend, config.seed, channels, classes)?;
    let summary = console::summarize(config.preset, &net, 1, channels, size)?;
    let precise = TrainConfig { precision: device.precision, ..config.clone() };
    // On a CPU the batches of two loaders and the data set lie beside the steps.
    let (batches, bytes) = if device.resident { (0, 0) } else { (2 * Loader::BATCHES, data.bytes()) };
    let steps = Steps::of(&backend, &net, &precise, channels, batches, bytes)?;
    steps.require(&backend)?;

    let (params, macs) = (grouped(summary.params()), metric(summary.forward_macs()));
    let why = match (&resumed, args.preset) {
        (Some(_), _) => "as the run began",
        (_, Some(_)) => "as --preset says",
        _ => device.why_preset,
    };
    say(format_args!("device   {} ({})", backend.name(), device.why));
    say(format_args!("preset   {} at {size}x{size} ({why})", config.preset));
    say(format_args!("network  {params} parameters, {macs} multiply-adds an image"));

    let data = data.load()?;
    say(format_args!("data     {} in {}", data.title, data.source));
    let (train, test) = (data.train, data.test);
    let train = console::data::loader(train, config.train_limit, config.batch_size, size, Some(config.seed))?;
    let test = console::data::loader(test, config.test_limit, config.batch_size, size, None)?;

    let mut trainer = Trainer::new(&backend, net, config.optimizer(&backend), config.seed)?;
    let (run, place) = match resumed {
        Some(run) => {
            run.restore(&mut trainer)?;
            let Position { epoch, step } = trainer.position;
            (run, format!(", from epoch {}, after step {step}", epoch + 1))
        }
        None => (Run::create(args.out.unwrap_or_else(|| new_folder(config.preset)), config)?, String::new()),
    };
    say(format_args!("run      {}{place}", run.folder().display()));
    let epochs = run.config.epochs;
    if trainer.position.epoch >= epochs {
        say(format_args!("all {epochs} epochs are done"));
        return Ok(ExitCode::SUCCESS);
    }

    let stop = Arc::new(AtomicBool::new(false));
    on_interrupt(stop.clone())?;
    let options = run.config.fit_options(args.log_every.unwrap_or(train.steps().div_ceil(10)));
    let mut report = Report::new(run.config.preset, epochs, classes);
    let resident = |loader: &Loader| device.resident.then(|| Resident::new(&backend, loader.clone())).transpose();
    let residents = (resident(&train)?, resident(&test)?);
    let (train, test) = match &residents {
        (Some(train), Some(test)) => (Feed::from(train), Feed::from(test)),
        _ => (Feed::from(&train), Feed::from(&test)),
    };
    let ended = trainer.fit(train, test, &options, &mut |trainer, event| {
        report.show(&event);
        if let Event::Epoch { metrics, .. } = &event {
            run.append(metrics)?;
            run.save(trainer)?;
        }
        Ok(if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    report.clear();
    let (weights, folder) = (run.weights(), run.folder().display());
    match ended.map_err(|error| steps.explain(&backend, error))? {
        ControlFlow::Continue(()) => {
            let metrics = run.metrics()?;
            let seconds: f64 = metrics.iter().map(|epoch| epoch.train_seconds).sum();
            let accuracy = metrics.last().map_or(0.0, |last| last.test_accuracy);
            say(format_args!("done: test accuracy {accuracy:.4} after {seconds:.1} s of training"));
            say(format_args!("weights  {}", weights.display()));
            Ok(ExitCode::SUCCESS)
        }
        ControlFlow::Break(()) => {
            run.save(&trainer)?;
            let Position { epoch, step } = trainer.position;
            say(format_args!("interrupted in epoch {}, after step {step}; saved to {}", epoch + 1, weights.display()));
            say(format_args!("go on with: {} --resume {folder}", invocation()));
            Ok(ExitCode::from(130))
        }
    }
}

/// `runs/small-20260131-235959`, by the clock in UTC.
fn new_folder(preset: Preset) -> PathBuf {
    let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    PathBuf::from(format!("runs/{preset}-{now}"))
}

/// The command by which this program was started.
fn invocation() -> String {
    if std::env::var_os("CARGO").is_some() {
        return "cargo run --release --bin train --".into();
    }
    std::env::args().next().unwrap_or_else(|| "train".into())
}

/// Handles Ctrl-C: the first one ends the run after the step, the second one exits at once.
fn on_interrupt(stop: Arc<AtomicBool>) -> Result<()> {
    let handler = move || {
        if stop.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\ninterrupted: finishing the step, then saving (again: quit at once)");
    };
    ctrlc::set_handler(handler).map_err(|e| Error::Config { what: "handling Ctrl-C".into(), problem: e.to_string() })
}
