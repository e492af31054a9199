//! `cargo run --release --bin train`: trains a preset on Fashion-MNIST and leaves a run folder behind.

mod console;

use std::io::{IsTerminal, stderr};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mlpconv::device::Device;
use mlpconv::optim::Schedule;
use mlpconv::train::{EpochMetrics, Event, Health, Position, Preset, Run, TrainConfig, Trainer};
use mlpconv::{Error, Result};

use console::{grouped, metric, say};

/// Trains Network in Network on Fashion-MNIST.
///
/// Without options: preset `small` on a CPU, preset `d2l` on a GPU. The data set is found on this machine or fetched.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The network and its recipe: d2l (the book's, 224x224) or small (28x28, minutes on a CPU)
    #[arg(long)]
    preset: Option<Preset>,
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: String,
    /// Times to go through the training images
    #[arg(long)]
    epochs: Option<u32>,
    /// Images a step
    #[arg(long)]
    batch_size: Option<usize>,
    /// Learning rate
    #[arg(long, allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Momentum, from 0 to below 1
    #[arg(long, allow_negative_numbers = true)]
    momentum: Option<f64>,
    /// Nesterov momentum
    #[arg(long)]
    nesterov: bool,
    /// Weight decay (L2 penalty)
    #[arg(long, allow_negative_numbers = true)]
    weight_decay: Option<f64>,
    /// Learning rate over time: constant, step:EVERY:FACTOR, cosine or cosine:WARMUP (in epochs)
    #[arg(long)]
    schedule: Option<Schedule>,
    /// Height and width that the images are brought to
    #[arg(long, value_name = "PIXELS")]
    resize: Option<usize>,
    /// Seed of initial weights, shuffling and dropout
    #[arg(long)]
    seed: Option<u64>,
    /// Folder that holds the four files of the data set
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Train on the first so many images only
    #[arg(long, value_name = "IMAGES")]
    train_limit: Option<usize>,
    /// Test on the first so many images only
    #[arg(long, value_name = "IMAGES")]
    test_limit: Option<usize>,
    /// Threads of the CPU backend [default: all cores, or RAYON_NUM_THREADS]
    #[arg(long)]
    threads: Option<usize>,
    /// The run folder, which must be new or empty [default: runs/PRESET-TIME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the run in this folder, exactly as if it had not been interrupted
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "preset", "epochs", "batch_size", "lr", "momentum", "nesterov", "weight_decay", "schedule", "resize", "seed",
        "train_limit", "test_limit", "out",
    ])]
    resume: Option<PathBuf>,
    /// Steps between two lines where there is no terminal to draw a bar on [default: ten lines an epoch]
    #[arg(long, value_name = "STEPS")]
    log_every: Option<usize>,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(code) => code,
        Err(error) => console::fail(&error),
    }
}

/// The settings that the options ask for: the preset's, but for what is said otherwise.
fn resolve(args: &Args, device: &str) -> Result<TrainConfig> {
    let mut config = args.preset.unwrap_or(Preset::Small).config();
    fn set<T: Clone>(setting: &mut T, option: &Option<T>) {
        if let Some(value) = option {
            setting.clone_from(value);
        }
    }
    config.device = device.into();
    set(&mut config.epochs, &args.epochs);
    set(&mut config.batch_size, &args.batch_size);
    set(&mut config.learning_rate, &args.lr);
    set(&mut config.momentum, &args.momentum);
    set(&mut config.weight_decay, &args.weight_decay);
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
    let device = console::device::choose(&args.device, args.threads)?;
    let resumed = args.resume.as_ref().map(Run::open).transpose()?;
    let config = match &resumed {
        Some(run) => run.config.clone(),
        None => resolve(&args, device.name)?,
    };
    let backend = device.backend;
    let size = config.resize;
    let net = config.preset.net(&backend, config.seed)?;
    let summary = console::summarize(config.preset, &net, 1, size)?;

    let (params, macs) = (grouped(summary.params()), metric(summary.forward_macs()));
    let why = match (&resumed, args.preset) {
        (Some(_), _) => "as the run began",
        (_, Some(_)) => "as --preset says",
        _ => "the default on a CPU; --preset d2l is the book's network",
    };
    say(format_args!("device   {} ({})", backend.name(), device.why));
    say(format_args!("preset   {} at {size}x{size} ({why})", config.preset));
    say(format_args!("network  {params} parameters, {macs} multiply-adds an image"));

    let data = console::data::load(args.data_dir.as_deref())?;
    say(format_args!("data     {}", data.source));
    let (train, test) = (data.train, data.test);
    let train = console::data::loader(train, config.train_limit, config.batch_size, size, Some(config.seed))?;
    let test = console::data::loader(test, config.test_limit, config.batch_size, size, None)?;

    let mut trainer = Trainer::new(&backend, net, config.optimizer(&backend), config.seed)?;
    let run = match resumed {
        Some(run) => {
            run.restore(&mut trainer)?;
            run
        }
        None => Run::create(args.out.unwrap_or_else(|| default_folder(config.preset)), config)?,
    };
    let Position { epoch, step } = trainer.position;
    let place =
        if args.resume.is_some() { format!(", from epoch {}, step {}", epoch + 1, step + 1) } else { "".into() };
    say(format_args!("run      {}{place}", run.folder().display()));
    if epoch >= run.config.epochs {
        say(format_args!("all {} epochs are done", run.config.epochs));
        return Ok(ExitCode::SUCCESS);
    }

    let stop = Arc::new(AtomicBool::new(false));
    on_interrupt(stop.clone())?;
    let plan = run.config.plan(args.log_every.unwrap_or(train.steps().div_ceil(10)));
    let mut report = Report::new(run.config.epochs);
    let mut seconds = 0.0;
    let ended = trainer.fit(&train, &test, &plan, &mut |trainer, event| {
        report.show(&event);
        if let Event::Epoch { metrics, .. } = &event {
            seconds += metrics.train_seconds;
            run.append(metrics)?;
            run.save(trainer)?;
        }
        Ok(if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    report.clear();
    let weights = run.weights();
    match ended {
        Ok(ControlFlow::Continue(())) => {
            let accuracy = run.metrics()?.last().map_or(0.0, |last| last.test_accuracy);
            say(format_args!("done: test accuracy {accuracy:.4} after {seconds:.1} s of training"));
            say(format_args!("weights  {}", weights.display()));
            Ok(ExitCode::SUCCESS)
        }
        Ok(ControlFlow::Break(())) => {
            run.save(&trainer)?;
            let Position { epoch, step } = trainer.position;
            say(format_args!("interrupted in epoch {}, after step {step}; saved to {}", epoch + 1, weights.display()));
            say(format_args!("go on with: train --resume {}", run.folder().display()));
            Ok(ExitCode::from(130))
        }
        Err(error) => Err(error),
    }
}

/// `runs/small-20260131-235959`, by the clock in UTC.
fn default_folder(preset: Preset) -> PathBuf {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days to a date of the proleptic Gregorian calendar, counted from 1 March of year 0 so that leap days come last.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    PathBuf::from(format!("runs/{preset}-{year}{month:02}{day:02}-{hour:02}{minute:02}{second:02}"))
}

/// The first Ctrl-C asks for an end after the step; the second one ends at once.
fn on_interrupt(stop: Arc<AtomicBool>) -> Result<()> {
    let handler = move || {
        if stop.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\ninterrupted: finishing the step, then saving (again: quit at once)");
    };
    ctrlc::set_handler(handler).map_err(|e| Error::Device { device: "cpu".into(), problem: e.to_string() })
}

/// Tells a person how training goes: a bar on a terminal, plain lines elsewhere.
struct Report {
    epochs: u32,
    bar: ProgressBar,
    /// When the epoch began, or the run where it goes on in the middle of one.
    began: Instant,
    /// Images since then, for the rate that is shown.
    images: usize,
}

impl Report {
    fn new(epochs: u32) -> Self {
        let bar = if stderr().is_terminal() { ProgressBar::no_length() } else { ProgressBar::hidden() };
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let template = "{prefix} {bar:24} {pos}/{len} {msg}, {eta} left";
        bar.set_style(ProgressStyle::with_template(template).expect("a constant template"));
        Report { epochs, bar, began: Instant::now(), images: 0 }
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn show(&mut self, event: &Event) {
        match *event {
            Event::Step { position, steps, images, reading } => {
                if self.images == 0 {
                    // The first step of an epoch, or of a run that goes on in the middle of one.
                    self.bar.reset();
                    self.bar.set_length(steps as u64);
                    self.bar.set_position(u64::from(position.step) - 1);
                    self.bar.reset_eta();
                    self.bar.set_prefix(format!("epoch {}/{}", position.epoch + 1, self.epochs));
                }
                self.images += images;
                self.bar.set_position(u64::from(position.step));
                let Some(reading) = reading else { return };
                let rate = self.images as f64 / self.began.elapsed().as_secs_f64().max(1e-9);
                let progress =
                    format!("loss {:.3}, train acc {:.3}, {rate:.0} images/s", reading.loss, reading.accuracy);
                if stderr().is_terminal() {
                    self.bar.set_message(progress);
                } else {
                    let (epoch, epochs) = (position.epoch + 1, self.epochs);
                    say(format_args!("epoch {epoch}/{epochs}, step {}/{steps}: {progress}", position.step));
                }
            }
            Event::Evaluation { done, of } => {
                self.bar.set_length(of as u64);
                self.bar.set_position(done as u64);
                self.bar.set_message("images tested");
            }
            Event::Epoch { metrics, health } => {
                self.bar.suspend(|| self.epoch(&metrics, health));
                (self.began, self.images) = (Instant::now(), 0);
            }
        }
    }

    /// A line for an epoch, as the book prints it, and a warning if the network is dead.
    fn epoch(&self, metrics: &EpochMetrics, health: Health) {
        say(format_args!(
            "epoch {}/{}: loss {:.3}, train acc {:.3}, test acc {:.3}, {:.1} examples/s",
            metrics.epoch,
            self.epochs,
            metrics.loss,
            metrics.train_accuracy,
            metrics.test_accuracy,
            metrics.examples_per_second
        ));
        let remedies = "try another --seed, a lower --lr, or --preset small, which has no ReLU before the average";
        match health {
            Health::Alive => {}
            Health::Stuck => eprintln!(
                "warning: loss is still ln 10 = 2.303 and accuracy that of guessing; if it stays so, {remedies}"
            ),
            Health::Dead => eprintln!(
                "warning: the network is dead: every logit is 0 for every image (loss ln 10 = 2.303, accuracy that of \
                 guessing), because its last ReLU lets nothing through, and no gradient will ever come back; {remedies}"
            ),
        }
    }
}
