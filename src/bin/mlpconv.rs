//! `mlpconv`: what a network costs, how well trained weights do, and how fast this machine is.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod console;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mlpconv::data::{DataName, Loader};
use mlpconv::optim::OptimizerKind;
use mlpconv::train::{Preset, Run, TrainConfig, Trainer};
use mlpconv::{Backend, Cpu, Error, Result, weights};

use console::data::Requested;
use console::device::{DeviceArgs, choose, on_device};
use console::doctor::doctor;
use console::memory::Steps;
use console::plan::plan;
use console::time::{Timing, time};
use console::{bytes, grouped, metric, output, say};

/// Looks at Network in Network: its costs, its accuracy, its speed.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
    /// Loss and accuracy of a run's weights on the test images
    Evaluate {
        /// The run folder
        run: PathBuf,
        /// Weights to use instead of the run's own
        #[arg(long, value_name = "FILE")]
        weights: Option<PathBuf>,
        #[command(flatten)]
        device: DeviceArgs,
        /// fashion-mnist, mnist, kmnist, cifar10, or a folder of images [default: the run's]
        #[arg(long, value_name = "NAME|DIR")]
        data: Option<DataName>,
        /// Folder that holds the files of the data set
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// Test on the first so many images only [default: as in the run]
        #[arg(long, value_name = "IMAGES")]
        test_limit: Option<usize>,
        /// Images a batch [default: as in the run]
        #[arg(long)]
        batch_size: Option<usize>,
    },
    /// Finds a data set on this machine, or else fetches it, and says where it lies and what it holds
    Data(DataArgs),
    /// Looks at this machine and this build: driver, GPUs, kernels, data set, CPU; with a remedy for what is missing
    Doctor(DataArgs),
    /// Times training steps and inference on random images: on a GPU from a data set that lies there, as `train` does
    Time {
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
        #[command(flatten)]
        device: DeviceArgs,
        /// One line of JSON instead of text
        #[arg(long)]
        json: bool,
    },
}

/// A preset's network and its input.
#[derive(clap::Args)]
struct NetworkArgs {
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

fn main() -> ExitCode {
    let command = Args::parse().command;
    let done = console::limits::respect().and_then(|()| match command {
        Command::Summary { network, optimizer, momentum } => {
            let momentum = if momentum { 0.9 } else { 0.0 };
            summary(&TrainConfig { momentum, ..network.config(optimizer) })
        }
        Command::Plan { network, device } => plan(&network.config(OptimizerKind::default()), &device),
        Command::Evaluate { run, weights, device, data, data_dir, test_limit, batch_size } => {
            evaluate(run, weights, &device, data, data_dir, [test_limit, batch_size])
        }
        Command::Data(DataArgs { data: name, data_dir }) => data(&name, data_dir),
        Command::Doctor(DataArgs { data, data_dir }) => doctor(&data, data_dir),
        Command::Time { preset, batch_size: batch, steps, rounds, device, json } => {
            let timing = Timing { preset, batch, steps, rounds, json };
            choose(&device, None)
                .and_then(|device| on_device!(&device.backend, backend => time(&timing, &device, backend)))
        }
    });
    match (done, output::failure()) {
        (Ok(()), None) => ExitCode::SUCCESS,
        (Ok(()), Some(error)) => output::failed(error),
        (Err(error), _) => console::fail(&error),
    }
}

fn summary(config: &TrainConfig) -> Result<()> {
    config.validate()?;
    let (preset, backend) = (config.preset, Cpu::<f32>::new());
    let net = preset.net(&backend, 0)?;
    let channels = config.data.spec().map_or(1, |spec| spec.channels);
    let summary = console::summarize(preset, &net, config.batch_size, channels, config.resize)?;
    const WIDTH: usize = size_of::<f32>();

    say(format_args!("{preset}, input {}", summary.input));
    say("\nblock by block");
    let module = |path: &str| path.split('.').next().map(str::to_owned);
    for layers in summary.layers.chunk_by(|a, b| module(&a.path) == module(&b.path)) {
        let name = match layers {
            [only] => &only.name,
            _ => "NinBlock",
        };
        let output = layers[layers.len() - 1].output;
        say(format_args!("  {name:<16} output shape  {output}"));
    }

    say("\nlayer by layer (multiply-adds of the whole batch; kept: bytes that wait for the backward pass)");
    let row = |cells: [&str; 7]| {
        let [path, name, output, params, forward, training, kept] = cells;
        format!("  {path:<4} {name:<27} {output:<21} {params:>10} {forward:>10} {training:>10} {kept:>10}")
    };
    say(row(["", "layer", "output", "parameters", "forward", "training", "kept"]));
    for layer in &summary.layers {
        say(row([
            &layer.path,
            &layer.name,
            &layer.output.to_string(),
            &grouped(layer.params),
            &metric(layer.macs),
            &metric(layer.training_macs()),
            &bytes(layer.kept(WIDTH)),
        ]));
    }
    say(row([
        "",
        "in all",
        "",
        &grouped(summary.params()),
        &metric(summary.forward_macs()),
        &metric(summary.training_macs()),
        &bytes(summary.kept_bytes(WIDTH)),
    ]));

    let state = config.optimizer(&backend).tensor_names();
    let each = [&["parameters", "gradients"], state].concat().join(", ");
    let parameters = bytes(summary.params() * WIDTH);
    say(format_args!("\nmemory in fp32, without a device's working memory"));
    say(format_args!(
        "  training   {:>10}  ({each}: {parameters} each; the rest activations and their gradients)",
        bytes(summary.training_bytes(WIDTH, state.len()))
    ));
    say(format_args!(
        "  inference  {:>10}  (parameters: {parameters}; the rest a layer's input and output)",
        bytes(summary.inference_bytes(WIDTH))
    ));
    Ok(())
}

fn evaluate(
    folder: PathBuf,
    file: Option<PathBuf>,
    device: &DeviceArgs,
    data: Option<DataName>,
    data_dir: Option<PathBuf>,
    sizes: [Option<usize>; 2],
) -> Result<()> {
    let run = Run::open(folder)?;
    // Another data set does not lie where the run's does.
    let (data, data_dir) = match data {
        Some(data) => (data, data_dir),
        None => (run.config().data.clone(), data_dir.or_else(|| run.config().data_dir.clone())),
    };
    let data = Requested::new(&data, data_dir.as_deref(), run.config().resize)?;
    // Weights load on every device, so the device of the run does not matter.
    let device = choose(device, None)?;
    on_device!(&device.backend, backend => score(&run, file, backend, data, sizes))
}

fn score<B: Backend<Scalar = f32>>(
    run: &Run,
    file: Option<PathBuf>,
    backend: &B,
    data: Requested<'_>,
    [limit, batch_size]: [Option<usize>; 2],
) -> Result<()> {
    let mut config = run.config().clone();
    config.batch_size = batch_size.unwrap_or(config.batch_size);
    config.validate()?;
    let mut net = config.preset.net_for(backend, config.seed, data.channels, data.classes)?;
    weights::load(backend, &mut net, file.unwrap_or_else(|| run.weights()))?;
    let steps = Steps::of(backend, &net, &config, data.channels, Loader::BATCHES, 0)?;
    let data = data.load()?;
    let limit = limit.or(config.test_limit);
    if limit == Some(0) {
        return Err(Error::Config { what: "test-limit".into(), problem: "must be at least 1".into() });
    }
    let test = console::data::loader(data.test, limit, config.batch_size, config.resize, None)?;
    let trainer = Trainer::new(backend, net, config.optimizer(backend), config.seed)?;
    let reading = trainer.evaluate(&test, &mut |_, _| Ok(ControlFlow::Continue(())));
    let reading = reading.map_err(|error| steps.explain(backend, error))?;
    let Some(reading) = reading else { unreachable!("nothing breaks the evaluation off") };
    say(format_args!(
        "test loss {:.4}, test accuracy {:.4} on {} images",
        reading.loss, reading.accuracy, reading.samples
    ));
    Ok(())
}

fn data(name: &DataName, folder: Option<PathBuf>) -> Result<()> {
    // Images of several sizes are resized to one. It does not matter which, as they are only counted.
    let data = console::data::load(name, folder.as_deref(), 32)?;
    let (train, test) = (grouped(data.train.len()), grouped(data.test.len()));
    say(format_args!("{}: {train} training and {test} test images in {}", data.title, data.source));
    let channels = match data.train.channels() {
        1 => "grey".into(),
        3 => "RGB".into(),
        channels => format!("{channels} channels"),
    };
    let (height, width, classes) = (data.train.height(), data.train.width(), data.train.class_names());
    say(format_args!("{height}x{width}, {channels}; {} classes: {}", classes.len(), classes.join(", ")));
    Ok(())
}
