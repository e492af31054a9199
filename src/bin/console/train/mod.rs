//! `mlpconv train`, and `train`: trains a preset on a data set and leaves a run folder behind.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use mlpconv::data::{DataName, Loader};
use mlpconv::optim::{OptimizerKind, Schedule};
use mlpconv::train::{
    Best, Change, DataHashes, Event, Feed, OnNan, Position, Preset, Resident, Run, TrainConfig, Trainer,
};
use mlpconv::{Backend, Error, Result};

use super::data::Requested;
use super::device::{Choice, DeviceArgs, on_device};
use super::memory::Steps;
use super::saving::{SaveEvery, Saving};
use super::view::View;
use super::{grouped, metric, note, output, say, signals};

/// The options of training.
#[derive(clap::Args)]
pub struct TrainArgs {
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
    /// What to do about a step of which something is not finite (NaN or infinite): stop, or skip it and go on [default: stop]
    #[arg(long, value_name = "stop|skip")]
    on_nan: Option<OnNan>,
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
    /// precision, unless --device or --precision names another, which has to be repeated at each resume. --epochs, --lr,
    /// --schedule, --weight-decay and --on-nan change the run from there on
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "preset", "data", "batch_size", "optimizer", "momentum", "nesterov", "beta1", "beta2", "eps", "resize", "seed",
        "train_limit", "test_limit", "out",
    ])]
    resume: Option<PathBuf>,
    /// Time or steps between two saves of the run's state, besides one after each epoch: 90s, 5m, 1h, or a number of
    /// steps
    #[arg(long, value_name = "TIME|STEPS", default_value_t)]
    save_every: SaveEvery,
    /// Steps between two lines where there is no terminal to draw a bar on [default: ten lines an epoch]
    #[arg(long, value_name = "STEPS")]
    log_every: Option<usize>,
    /// Write event files for TensorBoard into the run folder. A run that has some goes on with them at each resume
    #[arg(long)]
    tensorboard: bool,
}

/// The settings of the run: the preset's, overridden by the options.
fn resolve(args: &TrainArgs, device: &Choice) -> Result<TrainConfig> {
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
    if let Some(folder) = &args.data_dir {
        let absolute = std::path::absolute(folder);
        config.data_dir =
            Some(absolute.map_err(|source| Error::Io { action: "find", path: folder.clone(), source })?);
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
    set(&mut config.on_nan, &args.on_nan);
    config.nesterov |= args.nesterov;
    config.train_limit = args.train_limit;
    config.test_limit = args.test_limit;
    config.validate()?;
    Ok(config)
}

/// Trains, from the beginning or from where a run was left.
///
/// # Errors
/// [`Error`] for a setting out of range, a run folder, device or data set that cannot be used, and as training.
pub fn train(args: TrainArgs) -> Result<ExitCode> {
    let resumed = args.resume.as_ref().map(|folder| resume(folder, &args)).transpose()?;
    let device = super::device::choose(&args.device, resumed.as_ref().map(Run::config))?;
    on_device!(device.backend.clone(), backend => train_on(args, resumed, &device, backend))
}

/// Opens the run of a folder to go on with it, with the settings that the options change.
fn resume(folder: &Path, args: &TrainArgs) -> Result<Run> {
    let mut run = Run::resume(folder)?;
    let change = Change {
        epochs: args.epochs,
        learning_rate: args.lr,
        schedule: args.schedule,
        weight_decay: args.weight_decay,
        on_nan: args.on_nan,
        data_dir: args.data_dir.clone(),
    };
    for line in run.change(&change)? {
        note(format_args!("from here on it is another run: {line}"));
    }
    Ok(run)
}

fn train_on<B: Backend<Scalar = f32>>(
    args: TrainArgs,
    resumed: Option<Run>,
    device: &Choice,
    backend: B,
) -> Result<ExitCode> {
    let config = match &resumed {
        Some(run) => run.config().clone(),
        None => resolve(&args, device)?,
    };
    let size = config.resize;
    let data = Requested::new(&config.data, config.data_dir.as_deref(), size)?;
    let (channels, classes) = (data.channels, data.classes);
    let net = config.preset.net_for(&backend, config.seed, channels, classes)?;
    let summary = super::summarize(config.preset, &net, 1, channels, size)?;
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
    let hashes = DataHashes::of(&data);
    let (train, test) = (data.train, data.test);
    let train = super::data::loader(train, config.train_limit, config.batch_size, size, Some(config.seed))?;
    let test = super::data::loader(test, config.test_limit, config.batch_size, size, None)?;

    let mut trainer = Trainer::new(&backend, net, config.optimizer(&backend), config.seed)?;
    signals::listen()?;
    let goes_on = resumed.is_some();
    let mut run = match resumed {
        Some(run) => run,
        None => create(args.out.clone(), config)?,
    };
    run.data = Some(hashes);
    if goes_on {
        run.restore(&mut trainer)?;
    }
    for warning in &run.warnings {
        note(format_args!("warning: {warning}"));
    }
    let epochs = run.config().epochs;
    let Position { epoch, step } = trainer.position;
    let place = match goes_on && epoch < epochs {
        true => format!(", from epoch {}, after step {step}", epoch + 1),
        false => String::new(),
    };
    say(format_args!("run      {}{place}", run.folder().display()));
    if epoch >= epochs {
        say(format_args!("all {epochs} epochs are done"));
        return Ok(ExitCode::SUCCESS);
    }
    // From here on the run can be resumed, with the settings that it has now.
    run.save(&trainer)?;
    let recorded = args.tensorboard || run.has_event_files()?;
    let mut events = recorded.then(|| run.event_file(train.steps())).transpose()?;

    let options = run.config().fit_options(args.log_every.unwrap_or(train.steps().div_ceil(10)));
    let mut view = View::new(run.config().preset, epochs, classes);
    let mut saving = Saving::new(args.save_every);
    let resident = |loader: &Loader| device.resident.then(|| Resident::new(&backend, loader.clone())).transpose();
    let residents = (resident(&train)?, resident(&test)?);
    let (train, test) = match &residents {
        (Some(train), Some(test)) => (Feed::from(train), Feed::from(test)),
        _ => (Feed::from(&train), Feed::from(&test)),
    };
    let ended = trainer.fit(train, test, &options, &mut |trainer, event| {
        // Before the state is saved, so that no event is missing where a run goes on. Its error is told after that, and
        // loses nothing.
        let written = events.as_mut().map_or(Ok(()), |events| events.write(&event));
        // What is shown is saved: output may block, or fail.
        match &event {
            Event::Epoch { metrics, .. } => {
                run.append(metrics)?;
                saving.save(|| run.save(trainer))?;
            }
            Event::Step { .. } if saving.is_due() || written.is_err() => saving.save(|| run.save(trainer))?,
            _ => {}
        }
        written?;
        view.show(&event);
        let stops = signals::received().is_some() || output::failure().is_some();
        Ok(if stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    view.clear();
    let (weights, Position { epoch, step }) = (run.weights(), trainer.position);
    // A signal or a failed output after the last epoch changes nothing: the run is done.
    if ended.map_err(|error| steps.explain(&backend, error))?.is_continue() || epoch >= epochs {
        let metrics = run.metrics()?;
        let seconds: f64 = metrics.iter().map(|epoch| epoch.train_seconds).sum();
        let accuracy = metrics.last().map_or(0.0, |last| last.test_accuracy);
        say(format_args!("done: test accuracy {accuracy:.4} after {seconds:.1} s of training"));
        say(format_args!("weights  {}", weights.display()));
        if let Ok(best) = run.best() {
            let (file, Best { epoch, test_accuracy }) = (run.best_weights(), best);
            say(format_args!("best     {} (of epoch {epoch}, test accuracy {test_accuracy:.4})", file.display()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    run.save(&trainer)?;
    let place = match step {
        0 => format!("after epoch {epoch}"),
        _ => format!("in epoch {}, after step {step}", epoch + 1),
    };
    say(format_args!("interrupted {place}; saved to {}", weights.display()));
    say(format_args!("go on with: {}", resumption(&args, run.folder())));
    Ok(match (signals::received(), output::failure()) {
        (Some(signal), _) => ExitCode::from(signals::code(signal) as u8),
        (None, Some(error)) => output::failed(error),
        (None, None) => unreachable!("nothing else stops a run"),
    })
}

/// Begins a run in the folder of `--out`, or in a new one: `runs/small-20260131-235959`, by the clock in UTC, with a
/// number if there is one of that second already.
fn create(out: Option<PathBuf>, config: TrainConfig) -> Result<Run> {
    if let Some(folder) = out {
        return Run::create(folder, config);
    }
    let runs = Path::new("runs");
    let io = |folder: &Path| {
        let path = folder.to_owned();
        move |source| Error::Io { action: "create", path, source }
    };
    fs::create_dir_all(runs).map_err(io(runs))?;
    let name = format!("{}-{}", config.preset, jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S"));
    let mut folder = runs.join(&name);
    for number in 2.. {
        match fs::create_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => folder = runs.join(format!("{name}-{number}")),
            made => {
                made.map_err(io(&folder))?;
                break;
            }
        }
    }
    Run::create(folder, config)
}

/// The command that goes on with the run, as a shell takes it: this program, and the options that a run folder does not
/// keep.
fn resumption(args: &TrainArgs, folder: &Path) -> String {
    let program = match std::env::var_os("CARGO") {
        Some(_) => ["cargo", "run", "--release", "--bin", "train", "--"].map(str::to_owned).to_vec(),
        None => {
            let mut words = std::env::args();
            let program = words.next().unwrap_or_else(|| "mlpconv".into());
            // `mlpconv` is followed by its command, `train` by options.
            let command = words.next().filter(|word| word == "train");
            [program].into_iter().chain(command).collect()
        }
    };
    let mut words = program;
    let mut option = |name: &str, value: Option<String>| {
        words.extend(value.into_iter().flat_map(|value| [format!("--{name}"), value]));
    };
    option("resume", Some(folder.display().to_string()));
    // Of a new run the folder keeps the device and the precision.
    if args.resume.is_some() {
        option("device", args.device.device.clone());
        option("precision", args.device.precision.map(|precision| precision.to_string()));
    }
    option("threads", args.device.threads.map(|threads| threads.to_string()));
    option("log-every", args.log_every.map(|steps| steps.to_string()));
    option(
        "save-every",
        Some(args.save_every).filter(|every| *every != SaveEvery::default()).map(|every| every.to_string()),
    );
    let quote = |word: &String| shlex::try_quote(word).map_or_else(|_| word.clone(), |quoted| quoted.into_owned());
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}
