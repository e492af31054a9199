//! `mlpconv predict`: what a run's network takes pictures of the user's own for.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use mlpconv::data::{Converted, DataName, Dataset, Form, Invert, Loader, Splits};
use mlpconv::nn::Nin;
use mlpconv::train::{Classified, Run, TrainConfig};
use mlpconv::{Backend, Error, Result, weights};
use serde::Serialize;

use super::chosen::WeightsArgs;
use super::data::mosaic::Mosaic;
use super::device::{DeviceArgs, choose, on_device};
use super::memory::Steps;
use super::screen::{Screen, printable};
use super::{emit, note, output, say};

/// The arguments of `mlpconv predict`.
#[derive(clap::Args)]
pub struct PredictArgs {
    /// The run folder
    run: PathBuf,
    /// PNG or JPEG files of any size, colour and depth; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    weights: WeightsArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Negate the pictures: yes, no, or auto, which negates those on a light background where the data set's images lie
    /// on black, as the MNIST family's do. A background is light if three fifths of a picture's outermost pixels are
    /// lighter than mid grey
    #[arg(long, default_value = "auto", value_name = "auto|yes|no")]
    invert: Invert,
    /// Classes to tell of each picture, the likeliest first
    #[arg(long, default_value_t = 3)]
    top: usize,
    /// Show what the network gets to see of each picture
    #[arg(long, conflicts_with = "json")]
    show: bool,
    /// A line of JSON for each file, in their order: {"file", "label", "class", "probability", "inverted",
    /// "top": [{"label", "class", "probability"}, ...]}, or {"file", "error"}
    #[arg(long)]
    json: bool,
    /// The run's data set: a name, or a folder of images that has moved [default: the run's]
    #[arg(long, value_name = "NAME|DIR")]
    data: Option<DataName>,
    /// Folder that holds the images of the data set, if it is a folder
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// A class and the probability that the network gives it.
#[derive(Serialize)]
struct Guess<'a> {
    label: usize,
    class: &'a str,
    probability: f32,
}

/// A line of JSON.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Answer {
        file: &'a str,
        #[serde(flatten)]
        best: &'a Guess<'a>,
        inverted: bool,
        top: &'a [Guess<'a>],
    },
    Refusal {
        file: &'a str,
        error: String,
    },
}

/// How answers are told.
struct Telling {
    json: bool,
    top: usize,
    /// For `--show`.
    mosaic: Option<Mosaic>,
    screen: Screen,
}

/// A network, and how pictures become its input.
struct Predictor<'a, B: Backend> {
    backend: &'a B,
    net: Nin<B>,
    config: &'a TrainConfig,
    form: &'a Form,
}

/// The most pictures that are read before the first of them is answered.
const AT_ONCE: usize = 64;
/// Columns of an answer.
const COLUMNS: usize = 40;

/// Prints the likeliest classes of each file. A file that cannot be read is one line on standard error, and the others are
/// still answered; the exit code is 1 then.
///
/// # Errors
/// [`Error`] for a folder that is no run, weights that do not fit, or the run's folder of images if it is not found.
pub fn predict(args: PredictArgs) -> Result<ExitCode> {
    let PredictArgs { run, files, weights, device, invert, top, show, json, data, data_dir } = args;
    if top == 0 {
        return Err(Error::Config { what: "top".into(), problem: "must be at least 1".into() });
    }
    let run = Run::open(run)?;
    let file = weights.of(&run)?;
    let (data, data_dir) = match data {
        Some(data) => (data, data_dir),
        None => (run.config().data.clone(), data_dir.or_else(|| run.config().data_dir.clone())),
    };
    let form = Splits::form(&data, data_dir.as_deref(), run.config().resize)?;
    let screen = Screen::of_stdout();
    let [height, width] = form.extents;
    let mosaic = if show { Some(Mosaic::new([height, width, form.channels], 1, screen)?) } else { None };
    let telling = Telling { json, top, mosaic, screen };
    let device = choose(&device, None)?;
    on_device!(&device.backend, backend => {
        let (config, classes) = (run.config(), form.class_names.len());
        let mut net = config.preset.net_for(backend, config.seed, form.channels, classes)?;
        weights::load(backend, &mut net, &file)?;
        let predictor = Predictor { backend, net, config, form: &form };
        answer(&predictor, &files, invert, &telling)
    })
}

fn answer<B: Backend<Scalar = f32>>(
    predictor: &Predictor<'_, B>,
    files: &[PathBuf],
    invert: Invert,
    telling: &Telling,
) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for files in files.chunks(predictor.config.batch_size.clamp(1, AT_ONCE)) {
        // Nobody reads on after a closed pipe.
        if output::failure().is_some() {
            break;
        }
        let pictures: Vec<Result<Converted>> = files.iter().map(|file| read(predictor.form, file, invert)).collect();
        let classified = predictor.classified(&pictures)?;
        let mut places = 0..;
        for (file, picture) in files.iter().zip(pictures) {
            let name = file.to_string_lossy();
            let answer = picture.and_then(|picture| {
                let probabilities = places.next().zip(classified.as_ref()).map(|(i, all)| all.probabilities(i));
                match probabilities.filter(|probabilities| probabilities.iter().all(|p| p.is_finite())) {
                    Some(probabilities) => Ok((picture, probabilities)),
                    None => {
                        Err(Error::Data { what: name.to_string(), problem: "the network's output overflows".into() })
                    }
                }
            });
            match answer {
                Ok((picture, probabilities)) => {
                    telling.answer(&name, &picture, &predictor.form.class_names, probabilities)?;
                }
                Err(error) => {
                    telling.refusal(&name, &error);
                    code = ExitCode::FAILURE;
                }
            }
        }
    }
    Ok(code)
}

fn read(form: &Form, file: &Path, invert: Invert) -> Result<Converted> {
    match file.as_os_str() == "-" {
        true => form.read("standard input", std::io::stdin().lock(), invert),
        false => form.open(file, invert),
    }
}

impl<B: Backend<Scalar = f32>> Predictor<'_, B> {
    /// The classes' probabilities for the pictures that could be read, in order; `None` if there are none. The pictures go the
    /// way that test images go, so that the same pixels get the same answer.
    fn classified(&self, pictures: &[Result<Converted>]) -> Result<Option<Classified>> {
        let read: Vec<&Converted> = pictures.iter().flatten().collect();
        if read.is_empty() {
            return Ok(None);
        }
        let Form { extents: [height, width], channels, class_names, .. } = self.form;
        let pixels = read.iter().flat_map(|picture| &picture.pixels).copied().collect();
        // Nothing looks at the labels.
        let labels = vec![0; read.len()];
        let images = Dataset::with_channels(pixels, labels, [*height, *width, *channels], class_names.clone())?;
        let config = TrainConfig { batch_size: read.len(), ..self.config.clone() };
        let test = config.test_loader(Arc::new(images))?;
        Classified::of(self.backend, &self.net, &test, &mut |_| Ok(ControlFlow::Continue(())))
            .map_err(|error| self.explain(error))
    }

    /// The error of a batch that found no memory names one that fits.
    fn explain(&self, error: Error) -> Error {
        match Steps::of(self.backend, &self.net, self.config, self.form.channels, Loader::BATCHES, 0, None) {
            Ok(steps) => steps.explain(self.backend, error),
            Err(_) => error,
        }
    }
}

impl Telling {
    fn answer(&self, file: &str, picture: &Converted, classes: &[String], probabilities: &[f32]) -> Result<()> {
        let mut guesses: Vec<Guess<'_>> = classes
            .iter()
            .zip(probabilities)
            .enumerate()
            .map(|(label, (class, &probability))| Guess { label, class, probability })
            .collect();
        // Of equals the first is the answer, as accuracy counts it.
        guesses.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        guesses.truncate(self.top);
        let Some(best) = guesses.first() else { return Ok(()) };
        if self.json {
            self.line(&Line::Answer { file, best, inverted: picture.inverted, top: &guesses });
            return Ok(());
        }
        say(format_args!("{}{}", printable(file), if picture.inverted { " (inverted)" } else { "" }));
        if let Some(mosaic) = &self.mosaic {
            mosaic.lines(&[&picture.pixels])?.iter().for_each(say);
        }
        let names: Vec<String> = guesses.iter().map(|guess| printable(guess.class)).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let room = COLUMNS.saturating_sub(width + 11).max(8);
        for (guess, name) in guesses.iter().zip(names) {
            let bar = self.screen.bar(f64::from(guess.probability), room);
            let line = format!("  {name:width$}  {:5.1}% {bar}", 100.0 * guess.probability);
            say(line.trim_end());
        }
        Ok(())
    }

    fn refusal(&self, file: &str, error: &Error) {
        note(format_args!("error: {error}"));
        if self.json {
            self.line(&Line::Refusal { file, error: error.to_string() });
        }
    }

    fn line(&self, line: &Line<'_>) {
        // Strings and finite numbers always serialise.
        emit(serde_json::to_string(line).unwrap_or_default());
    }
}
