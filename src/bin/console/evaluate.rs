//! `mlpconv evaluate`: how well the weights of a run do on the test images.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use mlpconv::data::{DataName, Dataset, Loader};
use mlpconv::train::{Classified, Confusion, Run};
use mlpconv::{Backend, Error, Result, weights};
use serde::Serialize;

use super::chosen::WeightsArgs;
use super::data::Requested;
use super::device::{DeviceArgs, choose, on_device};
use super::exercise::findings::Table;
use super::memory::Steps;
use super::screen::printable;
use super::{emit, grouped, say};

/// The arguments of `mlpconv evaluate`.
#[derive(clap::Args)]
pub struct EvaluateArgs {
    /// The run folder
    run: PathBuf,
    #[command(flatten)]
    weights: WeightsArgs,
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
    /// Take the means of the probabilities of each image and of its mirror image
    #[arg(long)]
    tta: bool,
    /// Images a batch [default: as in the run]
    #[arg(long)]
    batch_size: Option<usize>,
    /// One line of JSON instead of text: {"images", "loss", "accuracy", "classes": [{"label", "class", "images",
    /// "precision", "recall", "taken_for": {"label", "class", "images"}}, ...], "confusion": [[images, ...], ...]}, with null
    /// where there is nothing to tell; a row of the confusion is what the images of a class were taken for
    #[arg(long)]
    json: bool,
}

/// How well the network tells the images of a class.
#[derive(Serialize)]
struct Told<'a> {
    label: usize,
    class: &'a str,
    images: usize,
    precision: Option<f64>,
    recall: Option<f64>,
    taken_for: Option<TakenFor<'a>>,
}

/// The class for which most of a class's images were mistaken.
#[derive(Serialize)]
struct TakenFor<'a> {
    label: usize,
    class: &'a str,
    images: usize,
}

/// The line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    images: usize,
    loss: f64,
    accuracy: Option<f64>,
    classes: &'a [Told<'a>],
    confusion: Vec<&'a [usize]>,
}

/// Prints loss and accuracy of a run's weights on the test images, then precision, recall and the most frequent mistake of
/// each class.
///
/// # Errors
/// [`Error`] for a folder that is no run, weights that do not fit, or a data set that is not found.
pub fn evaluate(args: EvaluateArgs) -> Result<()> {
    let EvaluateArgs { run, weights, device, data, data_dir, test_limit, tta, batch_size, json } = args;
    let run = Run::open(run)?;
    let weights = weights.of(&run)?;
    // Another data set does not lie where the run's does.
    let (data, data_dir) = match data {
        Some(data) => (data, data_dir),
        None => (run.config().data.clone(), data_dir.or_else(|| run.config().data_dir.clone())),
    };
    let data = Requested::new(&data, data_dir.as_deref(), run.config().resize)?;
    // Weights load on every device, so the device of the run does not matter.
    let device = choose(&device, None)?;
    let (dataset, classified) = on_device!(&device.backend, backend => {
        classify(&run, weights, backend, data, [test_limit, batch_size], tta)
    })?;
    tell(&dataset, &classified, json);
    Ok(())
}

/// The test images, classified by the run's network.
fn classify<B: Backend<Scalar = f32>>(
    run: &Run,
    file: PathBuf,
    backend: &B,
    data: Requested<'_>,
    [limit, batch_size]: [Option<usize>; 2],
    tta: bool,
) -> Result<(Arc<Dataset>, Classified)> {
    let mut config = run.config().clone();
    config.batch_size = batch_size.unwrap_or(config.batch_size);
    config.validate()?;
    let mut net = config.preset.net_for(backend, config.seed, data.channels, data.classes)?;
    weights::load(backend, &mut net, file)?;
    let steps = Steps::of(backend, &net, &config, data.channels, Loader::BATCHES, 0, None)?;
    let data = data.load()?;
    let limit = limit.or(config.test_limit);
    if limit == Some(0) {
        return Err(Error::Config { what: "test-limit".into(), problem: "must be at least 1".into() });
    }
    let test = config.test_loader(super::data::limited(data.test, limit))?;
    let on_batch = &mut |_| Ok(ControlFlow::Continue(()));
    let classified = match tta {
        true => Classified::of_both_sides(backend, &net, &test, on_batch),
        false => Classified::of(backend, &net, &test, on_batch),
    };
    let classified = classified.map_err(|error| steps.explain(backend, error))?;
    let Some(classified) = classified else { unreachable!("nothing breaks the evaluation off") };
    Ok((test.dataset().clone(), classified))
}

fn tell(dataset: &Dataset, classified: &Classified, json: bool) {
    let (confusion, names) = (classified.confusion(), dataset.class_names());
    let told: Vec<Told> = (0..names.len()).map(|class| of_class(&confusion, names, class)).collect();
    let (images, loss, accuracy) = (classified.len(), classified.loss(), confusion.accuracy());
    if json {
        let confusion = (0..names.len()).map(|class| confusion.row(class)).collect();
        let line = Line { images, loss, accuracy, classes: &told, confusion };
        // Strings and numbers always serialise; those that are not finite are null.
        return emit(serde_json::to_string(&line).unwrap_or_default());
    }
    let accuracy = accuracy.unwrap_or_default();
    say(format_args!("test loss {loss:.4}, test accuracy {accuracy:.4} on {images} images"));
    let mut table = Table::new(["class", "images", "precision", "recall", "mostly taken for"]);
    for told in &told {
        let share = |share: Option<f64>| share.map_or("-".into(), |share| format!("{share:.4}"));
        let mistake = told.taken_for.as_ref();
        let mistake =
            mistake.map_or("-".into(), |other| format!("{} {}", printable(other.class), grouped(other.images)));
        let (precision, recall) = (share(told.precision), share(told.recall));
        table.push([printable(told.class), grouped(told.images), precision, recall, mistake]);
    }
    say(format_args!("\n{}", table.text()));
}

fn of_class<'a>(confusion: &Confusion, names: &'a [String], class: usize) -> Told<'a> {
    let others = confusion.row(class).iter().enumerate().filter(|(other, images)| *other != class && **images > 0);
    // Of equals the first.
    let mistake = others.rev().max_by_key(|(_, images)| **images);
    Told {
        label: class,
        class: &names[class],
        images: confusion.labelled(class),
        precision: confusion.precision(class),
        recall: confusion.recall(class),
        taken_for: mistake.map(|(label, &images)| TakenFor { label, class: &names[label], images }),
    }
}
