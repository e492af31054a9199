//! `mlpconv exercise`: the questions of the book's chapter, each answered by a table, a picture and two sentences.
//!
//! A file for each exercise; what they share is [`lab`], where networks are trained, and [`findings`], which every exercise
//! ends in.

mod convergence;
pub mod findings;
mod heads;
mod lab;
mod linear_output;
mod measure;
mod nets;
mod one_by_one;
mod progress;
mod reduce;
mod resources;
mod spread;
mod trained;
mod tune;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Command, CommandFactory, Subcommand};
use mlpconv::train::TrainConfig;
use mlpconv::{Backend, Device as _, Result};

use super::device::{DeviceArgs, choose, on_device};
use super::{folder, output, say, signals};
use findings::Findings;
use lab::{Images, Lab};

/// The exercises of the book's chapter: each ends in a table, a report with pictures, and two sentences that say what the
/// figures show
#[derive(Args)]
pub struct ExerciseArgs {
    #[command(subcommand)]
    exercise: Option<Exercise>,
}

#[derive(Subcommand)]
enum Exercise {
    Tune(tune::Tune),
    OneByOne(one_by_one::OneByOne),
    Resources(resources::Resources),
    Reduce(reduce::Reduce),
    Heads(heads::Heads),
    Convergence(convergence::Convergence),
    LinearOutput(linear_output::LinearOutput),
}

/// The options of every exercise.
#[derive(Args)]
pub struct Options {
    /// At 224x224 with the book's network and all images, which is for a GPU, instead of small networks at 28x28
    #[arg(long)]
    pub full: bool,
    /// Folder for report.html and results.csv, which must be new or empty [default: runs/exercise-NAME-TIME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Folder that holds the files of Fashion-MNIST
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// The options of an exercise that trains networks.
#[derive(Args)]
pub struct Budget {
    /// Train on the first so many images only [default: as many as fit into ten minutes; all with --full]
    #[arg(long, value_name = "IMAGES")]
    pub images: Option<usize>,
    /// Test on the first so many images only
    #[arg(long, value_name = "IMAGES")]
    pub test_images: Option<usize>,
    /// Times that each network goes through the training images
    #[arg(long)]
    pub epochs: Option<u32>,
}

impl Budget {
    /// The epochs of a training: `by_default` unless the options say how many.
    pub fn epochs(&self, by_default: u32) -> u32 {
        self.epochs.unwrap_or(by_default)
    }
}

/// The options of an exercise that compares networks by trainings of each with the same seeds.
#[derive(Args)]
pub struct Comparison {
    #[command(flatten)]
    pub options: Options,
    #[command(flatten)]
    budget: Budget,
    /// Trainings of each network, with seeds 0, 1, 2 ...
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,
}

impl Comparison {
    /// The images and the settings of every training. Unless the options say how many: all images and ten epochs with
    /// `--full`, else so many images and epochs.
    ///
    /// # Errors
    /// As [`Lab::images`].
    fn begin<B: Backend<Scalar = f32>>(
        &self,
        lab: &Lab<B>,
        [images, epochs]: [u32; 2],
    ) -> Result<(Images, TrainConfig)> {
        let (by_default, epochs) = if self.options.full { (usize::MAX, 10) } else { (images as usize, epochs) };
        let images = lab.images(&self.budget, by_default)?;
        Ok((images, lab.config(nets::preset(self.options.full), self.budget.epochs(epochs))))
    }

    /// What every training depends on, for the report.
    fn settings(&self, config: &TrainConfig, images: &Images) -> Vec<(&'static str, String)> {
        let mut settings = lab::settings(config, images);
        settings.push(("seeds", lab::seeds_of(self.seeds)));
        settings
    }
}

/// An exercise: a question with the options of its answer.
trait Question {
    /// The exercise's name on the command line.
    const NAME: &'static str;

    fn options(&self) -> &Options;

    /// Answers the question. An interruption is no error: what has been found until then is the answer, and the lab knows
    /// what is missing.
    ///
    /// # Errors
    /// [`Error`](mlpconv::Error) for an option out of range, and as training.
    fn answer<B: Backend<Scalar = f32>>(&self, lab: &mut Lab<B>) -> Result<Findings>;
}

/// Does an exercise; without one, lists them.
///
/// # Errors
/// [`Error`](mlpconv::Error) for a device, data set or folder that cannot be used, and those of the exercise.
pub fn exercise(args: ExerciseArgs) -> Result<ExitCode> {
    match args.exercise {
        None => {
            list();
            Ok(ExitCode::SUCCESS)
        }
        Some(Exercise::Tune(question)) => ask(&question),
        Some(Exercise::OneByOne(question)) => ask(&question),
        Some(Exercise::Resources(question)) => ask(&question),
        Some(Exercise::Reduce(question)) => ask(&question),
        Some(Exercise::Heads(question)) => ask(&question),
        Some(Exercise::Convergence(question)) => ask(&question),
        Some(Exercise::LinearOutput(question)) => ask(&question),
    }
}

/// The exercises as commands, with their questions.
fn commands() -> Command {
    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        exercises: ExerciseArgs,
    }
    Alone::command()
}

/// The question of an exercise, in one line.
fn question(name: &str) -> String {
    let about = commands().find_subcommand(name).and_then(|exercise| exercise.get_about().map(ToString::to_string));
    about.unwrap_or_default()
}

fn list() {
    let commands = commands();
    let names: Vec<&str> = commands.get_subcommands().map(Command::get_name).collect();
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
    for name in names {
        say(format_args!("{name:<width$}  {}", question(name)));
    }
    say("\nmlpconv exercise NAME does one; mlpconv exercise NAME --help says how");
}

/// Answers a question on the device of its options, and tells and writes what was found.
fn ask<Q: Question>(asked: &Q) -> Result<ExitCode> {
    let began = Instant::now();
    let options = asked.options();
    let device = choose(&options.device, None)?;
    let named = options.out.clone().map(folder::empty).transpose()?;
    let question = question(Q::NAME);
    say(format_args!("exercise {}: {question}", Q::NAME));
    on_device!(&device.backend, backend => {
        say(format_args!("device   {} ({})", backend.name(), device.why));
        let mut lab = Lab::new(backend.clone(), &device, options.data_dir.clone(), Q::NAME, named);
        let mut findings = asked.answer(&mut lab)?;
        lab.close();
        findings.setting("device", backend.name());
        findings.conclude(Q::NAME, &question, &lab.folder()?, &lab.missing, began.elapsed())?;
    });
    Ok(match (signals::received(), output::failure()) {
        (Some(signal), _) => ExitCode::from(signals::code(signal) as u8),
        (None, Some(error)) => output::failed(error),
        (None, None) => ExitCode::SUCCESS,
    })
}
