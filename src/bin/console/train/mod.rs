//! `mlpconv train`, and `train`: trains a preset on a data set and leaves a run folder behind.

mod dry_run;
mod going_on;
mod images;
mod init;
mod options;
mod overfit;
mod prepared;
pub mod scores;
mod settings;
mod settings_file;
mod stop;

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use mlpconv::data::{Dataset, Loader};
use mlpconv::nn::{Nin, lsuv};
use mlpconv::train::{Change, DataHashes, EpochMetrics, Event, Position, Run, Score};
use mlpconv::{Backend, Result, Shape};

use super::data::limited;
use super::device::{Choice, Earlier, on_device};
use super::report::Renewal;
use super::saving::Saving;
use super::view::{About, End, Progress, View};
use super::{folder, note, output, say, say_in_one, signals};
use dry_run::dry_run;
use going_on::resumption;
use images::Images;
use init::begin_with;
pub use options::TrainArgs;
use overfit::overfit;
use prepared::Prepared;
use settings::{locate, resolve};
use settings_file::SettingsFile;
use stop::{Limits, Stalled, Stop};

/// Trains, from the beginning or from where a run was left.
///
/// # Errors
/// [`Error`](mlpconv::Error) for a setting out of range, a run folder, device or data set that cannot be used, and as training.
pub fn train(args: TrainArgs) -> Result<ExitCode> {
    let progress = args.process.progress.settle();
    let resumed = args.run.resume.as_ref().map(|folder| resume(folder, &args)).transpose()?;
    let file = args.run.config.as_deref().map(SettingsFile::read).transpose()?;
    let earlier = match &resumed {
        Some(run) => Some(Earlier::of_run(run.config())),
        None => file.as_ref().map(SettingsFile::device),
    };
    let device = super::device::choose(&args.device, earlier.as_ref())?;
    on_device!(device.backend.clone(), backend => {
        train_on(args, progress, resumed, file.as_ref(), &device, backend)
    })
}

/// Opens the run of a folder to go on with it, with the settings that the options change.
fn resume(folder: &Path, args: &TrainArgs) -> Result<Run> {
    let mut run = Run::resume(folder)?;
    let change = Change {
        epochs: args.course.epochs,
        learning_rate: args.optimizer.lr,
        schedule: args.optimizer.schedule,
        weight_decay: args.optimizer.weight_decay,
        on_nan: args.course.on_nan,
        patience: args.course.patience,
        data_dir: args.network.data_dir.clone(),
    };
    for line in run.change(&change)? {
        note(format_args!("from here on it is another run: {line}"));
    }
    Ok(run)
}

fn train_on<B: Backend<Scalar = f32>>(
    args: TrainArgs,
    progress: Progress,
    resumed: Option<Run>,
    file: Option<&SettingsFile>,
    device: &Choice,
    backend: B,
) -> Result<ExitCode> {
    let config = match &resumed {
        Some(run) => run.config().clone(),
        None => resolve(&args, file, device).map_err(|error| locate(error, &args, file))?,
    };
    let why = match (&resumed, args.network.preset, file.filter(|file| file.settings.contains_key("preset"))) {
        (Some(_), ..) => "as the run began".into(),
        (_, Some(_), _) => "as --preset says".into(),
        (.., Some(file)) => file.why(),
        _ if args.network.init.as_ref().is_some_and(|init| init.is_dir()) => "that of the weights".into(),
        _ => device.why_preset.to_owned(),
    };
    let prepared = Prepared::new(&config, device, &backend).map_err(|error| locate(error, &args, file))?;
    if args.run.dry_run {
        return dry_run(&config, prepared, device, &backend, &why);
    }
    prepared.lines(&config, device, &backend, &why).iter().for_each(say);
    if let Some(steps) = args.run.overfit_batch {
        return overfit(&args, &config, prepared, &backend, steps);
    }
    let Prepared { data, mut net, summary, steps } = prepared;
    let classes = data.classes;
    let data = data.load()?;
    say(format_args!("data     {} in {}", data.title, data.source));
    let hashes = DataHashes::of(&data);
    let (title, train, test) = (data.title, data.train, data.test);
    let finally = limited(test, config.test_limit);
    let [train, test] = config.divided(train, finally.clone())?;
    let (train, test) = (config.train_loader(train)?, config.test_loader(test)?);

    // Weights that are restored replace them; a run that was never saved begins again. Given weights have their scale already.
    if config.lsuv && config.init.is_none() {
        scale(&backend, &mut net, &train)?;
    }
    // A run that goes on has them in its state, and does not need the file any more.
    if resumed.as_ref().is_none_or(|run| !run.has_state()) {
        begin_with(&config, &backend, &mut net)?.iter().for_each(say);
    }
    let mut trainer = config.trainer(&backend, net)?;
    signals::listen()?;
    let goes_on = resumed.is_some();
    let mut run = match resumed {
        Some(run) => run,
        None => {
            let out = args.run.out.clone();
            let folder = out.map_or_else(|| folder::timed(&config.preset.to_string()), Ok)?;
            Run::create(folder, config.clone())?
        }
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
    let done: Vec<_> = run.metrics()?.into_iter().take(epoch as usize).collect();
    let stalled = Stalled::of(&done, run.config().patience).filter(|_| step == 0);
    let place = match goes_on && epoch < epochs && stalled.is_none() {
        true => format!(", from epoch {}, after step {step}", epoch + 1),
        false => String::new(),
    };
    say(format_args!("run      {}{place}", run.folder().display()));
    let about = About {
        config: run.config(),
        folder: run.folder(),
        device: backend.name(),
        precision: device.precision,
        steps: train.steps(),
        images: train.dataset().len(),
        test_images: test.dataset().len(),
        classes,
        position: trainer.position,
        done: &done,
    };
    let mut view = View::new(progress, &about);
    // Whatever ends it, the view has its end.
    let course = || -> Result<ExitCode> {
        // From here on the run can be resumed with the settings that it has now, which may be new ones even where it is done.
        run.save(&trainer)?;
        let recorded = args.process.tensorboard || run.has_event_files()?;
        let mut events = recorded.then(|| run.event_file(&trainer, train.steps())).transpose()?;
        let ended = match stalled {
            Some(stalled) => Some(format!("{stalled}; a larger --patience goes on")),
            None => (epoch >= epochs).then(|| format!("all {epochs} epochs are done")),
        };
        if let Some(ended) = ended {
            // A run that was killed at its end has none.
            let scores = match run.scores()? {
                scores if scores.is_empty() => score(&mut run, &backend, &finally)?,
                scores => scores,
            };
            say(ended);
            let (test_accuracy, train_seconds) = outcome(&done, &scores);
            view.end(&End::Done { test_accuracy, train_seconds, weights: &run.weights() });
            return Ok(ExitCode::SUCCESS);
        }
        run.discard_scores()?;

        let options =
            run.config().fit_options(args.process.log_every.unwrap_or(progress.readings_every(train.steps())));
        let mut saving = Saving::new(args.process.save_every);
        let mut report = Renewal::new(test.clone(), title, summary);
        let train = Images::new(train, device, &backend)?;
        let test = Images::new(test, device, &backend)?;
        let patience = run.config().patience;
        let limits = Limits::new(&args, patience);
        let mut stop = None;
        let ended = trainer.fit(train.feed(), test.feed(), &options, &mut |trainer, event| {
            // Before the state is saved, so that no event is missing where a run goes on. Its error is told after that: whoever
            // goes on writes the events at the state's position again.
            let written = events.as_mut().map_or(Ok(()), |events| events.write(&event));
            // What is shown is saved: output may block, or fail.
            match &event {
                Event::Epoch { metrics, .. } => {
                    run.append(metrics)?;
                    saving.save(|| run.save(trainer))?;
                    let ends = metrics.epoch >= epochs || Stalled::of(&run.metrics()?, patience).is_some();
                    report.renew(&run, trainer, ends);
                }
                Event::Step { .. } if saving.is_due() || written.is_err() => saving.save(|| run.save(trainer))?,
                _ => {}
            }
            written?;
            view.show(&event);
            stop = limits.reached(&event, || run.metrics())?;
            Ok(if stop.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        let (weights, Position { epoch, step }) = (run.weights(), trainer.position);
        // A signal or a failed output after the last epoch changes nothing: the run is done.
        let stop = match ended.map_err(|error| steps.explain(&backend, error))? {
            ControlFlow::Break(()) if epoch < epochs => stop,
            _ => None,
        };
        if let None | Some(Stop::Patience(_)) = stop {
            if let Some(Stop::Patience(stalled)) = stop {
                say(stalled);
            }
            let scores = score(&mut run, &backend, &finally)?;
            let (test_accuracy, train_seconds) = outcome(&run.metrics()?, &scores);
            view.end(&End::Done { test_accuracy, train_seconds, weights: &weights });
            say(format_args!("done: test accuracy {test_accuracy:.4} after {train_seconds:.1} s of training"));
            scores.iter().for_each(|score| say(format_args!("score    {score}")));
            say(format_args!("weights  {}", weights.display()));
            if let Ok(best) = run.best() {
                say(format_args!("best     {} ({best})", run.best_weights().display()));
            }
            return Ok(ExitCode::SUCCESS);
        }
        run.save(&trainer)?;
        let place = match step {
            0 => format!("after epoch {epoch}"),
            _ => format!("in epoch {}, after step {step}", epoch + 1),
        };
        let what = match stop {
            Some(Stop::Time(limit)) => format!("time limit of {limit} reached"),
            _ => "interrupted".into(),
        };
        let resume = resumption(&args, run.folder());
        view.end(&End::Interrupted { position: trainer.position, weights: &weights, resume: &resume });
        say(format_args!("{what} {place}; saved to {}", weights.display()));
        say_in_one(format_args!("go on with: {resume}"));
        Ok(match stop {
            Some(Stop::Signal(signal)) => ExitCode::from(signals::code(signal) as u8),
            Some(Stop::Output(error)) => output::failed(error),
            _ => ExitCode::SUCCESS,
        })
    };
    course().inspect_err(|error| view.end(&End::Failed(error)))
}

/// Scales the initial weights by the first batch of the first epoch.
fn scale<B: Backend<Scalar = f32>>(backend: &B, net: &mut Nin<B>, train: &Loader) -> Result<()> {
    let Some(batch) = train.epoch(0)?.next() else { return Ok(()) };
    let config = train.config();
    let shape = Shape::image(batch.len(), train.dataset().channels(), config.height, config.width);
    lsuv(backend, net, &batch.images, shape)
}

/// The scores of a run that is done, saved; none where the last epoch says it all, or where a signal breaks them off.
fn score<B: Backend<Scalar = f32>>(run: &mut Run, backend: &B, test: &Arc<Dataset>) -> Result<Vec<Score>> {
    if !scores::are_wanted(run.config()) {
        return Ok(Vec::new());
    }
    let Some(scores) = scores::scores(run, backend, test)? else { return Ok(Vec::new()) };
    run.save_scores(&scores)?;
    Ok(scores)
}

/// The test accuracy, of the last score or else of the last epoch, and the seconds of training in all.
fn outcome(epochs: &[EpochMetrics], scores: &[Score]) -> (f64, f64) {
    let of_epoch = epochs.last().map_or(0.0, |last| last.test_accuracy);
    let accuracy = scores.last().map_or(of_epoch, |score| score.accuracy);
    (accuracy, epochs.iter().map(|epoch| epoch.train_seconds).sum())
}
