//! `mlpconv train`, and `train`: trains a preset on a data set and leaves a run folder behind.

mod folder;
mod going_on;
mod options;
mod settings;

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use mlpconv::data::Loader;
use mlpconv::train::{Change, DataHashes, Event, Feed, Position, Resident, Run, TrainConfig, Trainer};
use mlpconv::{Backend, Result};

use super::data::Requested;
use super::device::{Choice, on_device};
use super::memory::Steps;
use super::saving::Saving;
use super::view::View;
use super::{grouped, metric, note, output, say, signals};
use folder::create;
use going_on::resumption;
pub use options::TrainArgs;
use settings::resolve;

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
        // What is shown is saved: output may block, or fail.
        match &event {
            Event::Epoch { metrics, .. } => {
                run.append(metrics)?;
                saving.save(|| run.save(trainer))?;
            }
            Event::Step { .. } if saving.is_due() => saving.save(|| run.save(trainer))?,
            _ => {}
        }
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
