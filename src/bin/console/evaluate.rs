//! `mlpconv evaluate`: how well the weights of a run do on the test images.

use std::ops::ControlFlow;
use std::path::PathBuf;

use mlpconv::data::{DataName, Loader};
use mlpconv::train::{Best, Run, Trainer};
use mlpconv::{Backend, Error, Result, weights};

use super::data::Requested;
use super::device::{DeviceArgs, choose, on_device};
use super::memory::Steps;
use super::say;

/// The arguments of `mlpconv evaluate`.
#[derive(clap::Args)]
pub struct EvaluateArgs {
    /// The run folder
    run: PathBuf,
    /// Weights to use instead of the run's own
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Use the weights of the run's best epoch, best.safetensors, not the last ones
    #[arg(long, conflicts_with = "weights")]
    best: bool,
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
}

/// Prints loss and accuracy of a run's weights on the test images.
///
/// # Errors
/// [`Error`] for a folder that is no run, weights that do not fit, or a data set that is not found.
pub fn evaluate(args: EvaluateArgs) -> Result<()> {
    let EvaluateArgs { run, weights, best, device, data, data_dir, test_limit, batch_size } = args;
    let run = Run::open(run)?;
    let weights = if best { Some(best_of(&run)?) } else { weights };
    // Another data set does not lie where the run's does.
    let (data, data_dir) = match data {
        Some(data) => (data, data_dir),
        None => (run.config().data.clone(), data_dir.or_else(|| run.config().data_dir.clone())),
    };
    let data = Requested::new(&data, data_dir.as_deref(), run.config().resize)?;
    // Weights load on every device, so the device of the run does not matter.
    let device = choose(&device, None)?;
    on_device!(&device.backend, backend => score(&run, weights, backend, data, [test_limit, batch_size]))
}

/// The best weights of a run, after a line that says which they are.
fn best_of(run: &Run) -> Result<PathBuf> {
    let Best { epoch, test_accuracy } = run.best()?;
    say(format_args!(
        "best     epoch {epoch}, chosen by its test accuracy of {test_accuracy:.4}, which is optimistic for that"
    ));
    Ok(run.best_weights())
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
    let test = super::data::loader(data.test, limit, config.batch_size, config.resize, None)?;
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
