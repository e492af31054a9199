//! `mlpconv train`, and `train`: trains a preset on a data set and leaves a run folder behind.

mod dry_run;
mod ending;
mod going_on;
mod images;
mod init;
mod options;
mod overfit;
mod prepared;
mod ranks;
mod scores;
mod settings;
mod settings_file;
mod stop;

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use mlpconv::ranks::{Group, Place};
use mlpconv::train::{Change, DataHashes, Event, Position, Run, TrainConfig};
use mlpconv::{Backend, Error, Result};

use super::data::limited;
use super::device::{Choice, Earlier, Share, on_device};
use super::report::Renewal;
use super::saving::Saving;
use super::view::{About, End, Progress, View};
use super::{folder, note, say, signals};
use dry_run::dry_run;
use ending::Ending;
use images::Images;
use init::begin_with;
pub use options::TrainArgs;
use overfit::overfit;
use prepared::Prepared;
pub use ranks::meet;
use settings::{locate, resolve};
use settings_file::SettingsFile;
use stop::{Limits, Stalled, Stop};

/// Trains, from the beginning or from where a run was left.
///
/// # Errors
/// [`Error`] for a setting out of range, a run folder, device or data set that cannot be used, and as training.
pub fn train(args: TrainArgs) -> Result<ExitCode> {
    let alone = args.run.dry_run || args.run.overfit_batch.is_some();
    let group = if alone { None } else { ranks::meet()? };
    let ended = train_as_rank(args, group.as_ref());
    if let Some(group) = group {
        group.leave(ended.as_ref().err().map(ToString::to_string).as_deref());
    }
    ended
}

fn train_as_rank(args: TrainArgs, group: Option<&Arc<Group>>) -> Result<ExitCode> {
    let first = group.is_none_or(|group| group.rank() == 0);
    // One rank is enough to tell of the training that is common to all.
    let progress = if first { args.process.progress } else { Progress::None };
    let progress = progress.settle();
    let resumed = args.run.resume.as_ref().filter(|_| first);
    let resumed = resumed.map(|folder| resume(folder, &args)).transpose()?;
    let known = match group {
        Some(group) => ranks::share_settings(group, resumed.as_ref().map(Run::config), args.network.data_dir.clone())?,
        None => resumed.as_ref().map(|run| run.config().clone()),
    };
    let file = args.run.config.as_deref().map(SettingsFile::read).transpose()?;
    let earlier = match &known {
        Some(config) => Some(Earlier::of_run(config)),
        None => file.as_ref().map(SettingsFile::device),
    };
    let share = group.map_or_else(Share::default, |group| Share::of(group.place()));
    let device = super::device::choose_within(share, &args.device, earlier.as_ref())?;
    let from = From { resumed, known, file: file.as_ref() };
    on_device!(device.backend.clone(), backend => train_on(args, progress, from, group, &device, backend))
}

/// What the settings of a run come from besides the options.
struct From<'a> {
    /// The run that goes on, on the rank that has its folder.
    resumed: Option<Run>,
    /// The settings of that run, on all ranks.
    known: Option<TrainConfig>,
    file: Option<&'a SettingsFile>,
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

/// The parts of a batch in words, behind its images; nothing for a whole one.
fn in_shards(shards: usize) -> String {
    if shards == 1 { String::new() } else { format!(" in {shards} shards") }
}

fn train_on<B: Backend<Scalar = f32>>(
    args: TrainArgs,
    progress: Progress,
    From { resumed, known, file }: From<'_>,
    group: Option<&Arc<Group>>,
    device: &Choice,
    backend: B,
) -> Result<ExitCode> {
    let ranks = group.map_or(1, |group| group.ranks());
    let goes_on = known.is_some();
    let config = match known {
        Some(config) => config,
        None => resolve(&args, file, device, ranks).map_err(|error| locate(error, &args, file))?,
    };
    if let Some(group) = group {
        ranks::agree_on_settings(group, &config, &backend)?;
    }
    let why =
        match (goes_on.then_some(()), args.network.preset, file.filter(|file| file.settings.contains_key("preset"))) {
            (Some(_), ..) => "as the run began".into(),
            (_, Some(_), _) => "as --preset says".into(),
            (.., Some(file)) => file.why(),
            _ if args.network.init.as_ref().is_some_and(|init| init.is_dir()) => "that of the weights".into(),
            _ => device.why_preset.to_owned(),
        };
    let prepared = Prepared::new(&config, device, &backend, group).map_err(|error| locate(error, &args, file))?;
    if args.run.dry_run {
        return dry_run(&config, prepared, device, &backend, &why);
    }
    prepared.lines(&config, device, &backend, &why).iter().for_each(say);
    if let Some(group) = group {
        let Place { launcher, address, .. } = group.place();
        say(format_args!("ranks    {ranks} by {launcher}, joined at {address}; {} shards a step", config.shards));
    }
    if config.erasing > 0.0 && config.erasing_rest >= config.epochs {
        let (rest, epochs) = (config.erasing_rest, config.epochs);
        note(format_args!(
            "warning: nothing is erased, because --erasing-rest {rest} leaves none of the {epochs} epochs"
        ));
    }
    if config.lsuv && config.init.is_some() && !goes_on {
        note("warning: --lsuv scales nothing, because the weights of --init have their scale");
    }
    if let Some(steps) = args.run.overfit_batch {
        return overfit(&args, &config, prepared, &backend, steps);
    }
    let Prepared { data, mut net, summary, steps } = prepared;
    let classes = data.classes;
    let data = data.load()?;
    say(format_args!("data     {} in {}", data.title, data.source));
    let hashes = DataHashes::of(&data);
    if let Some(group) = group {
        ranks::agree_on_data(group, &hashes)?;
    }
    let (title, train, test) = (data.title, data.train, data.test);
    let finally = limited(test, config.test_limit);
    let [train, test] = config.divided(train, finally.clone())?;
    let (train, test) = (config.train_loader(train)?, config.test_loader(test)?);

    if let Some(group) = group.filter(|group| group.rank() > 0) {
        return ranks::follow(
            group,
            &config,
            [ranks::own_part(train, &config, Some(group))?, test],
            net,
            (device, &backend),
            &steps,
        );
    }

    // A run that goes on has its weights in its state; one that was never saved begins again.
    if resumed.as_ref().is_none_or(|run| !run.has_state()) {
        begin_with(&config, &backend, &mut net, &train)?.iter().for_each(say);
    }
    let mut trainer = config.trainer(&backend, net)?;
    signals::listen()?;
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
    let stalled = Stalled::of(&done, run.config()).filter(|_| step == 0);
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
        let mut report = Renewal::new(test.clone(), title, summary);
        let ending = Ending { args: &args, test: &finally, steps: &steps };
        let ended = match stalled {
            Some(stalled) => Some(format!("{stalled}; a larger --patience goes on")),
            None => (epoch >= epochs).then(|| format!("all {epochs} epochs are done")),
        };
        if let Some(ended) = ended {
            if let Some(group) = group {
                ranks::share_start(group, None)?;
            }
            say(ended);
            return ending.done(&mut run, &trainer, &mut report, &mut view);
        }
        run.discard_scores()?;

        let config = run.config().clone();
        let options = config.fit_options(args.process.log_every.unwrap_or(progress.readings_every(train.steps())));
        if let Some(group) = group {
            let state = run.state_bytes()?.unwrap_or_default();
            ranks::share_start(group, Some((state, options.report_every)))?;
        }
        trainer.divide(&config.division(), group)?;
        let mut saving = Saving::new(args.process.save_every);
        let loaders = [ranks::own_part(train, &config, group)?, test];
        let [train, test] = Images::of_run(loaders, device, &backend, &steps)?;
        let limits = Limits::new(&args, &config);
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
                    // Of the last epoch the report comes with the scores.
                    if metrics.epoch < epochs && Stalled::of(&run.metrics()?, &config).is_none() {
                        report.renew(&run, trainer, false);
                    }
                }
                Event::Step { .. } if saving.is_due() || written.is_err() => saving.save(|| run.save(trainer))?,
                _ => {}
            }
            written?;
            view.show(&event);
            stop = limits.reached(&event, || run.metrics())?;
            Ok(if stop.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        if let Err(Error::Ranks(_)) = &ended {
            run.save(&trainer)?;
            ending.lost(&run, trainer.position);
        }
        // A signal or a failed output after the last epoch changes nothing about the training, which is done.
        let stop = match ended.map_err(|error| steps.explain(&backend, error))? {
            // Another rank's reason is no less a reason.
            ControlFlow::Break(()) if trainer.position.epoch < epochs => stop.or(group.map(|_| Stop::Rank)),
            _ => None,
        };
        if let None | Some(Stop::Patience(_)) = stop {
            if let Some(Stop::Patience(stalled)) = stop {
                say(stalled);
            }
            return ending.done(&mut run, &trainer, &mut report, &mut view);
        }
        run.save(&trainer)?;
        Ok(ending.interrupted(&run, trainer.position, stop, &mut view))
    };
    course().inspect_err(|error| view.end(&End::Failed(error)))
}
