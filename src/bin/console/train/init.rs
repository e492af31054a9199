//! The weights that a new run begins with: those of `--init`, or drawn ones, which `--lsuv` scales.

use std::path::{Path, PathBuf};

use mlpconv::data::Loader;
use mlpconv::nn::{Nin, lsuv};
use mlpconv::train::{Run, TrainConfig};
use mlpconv::weights::Tensors;
use mlpconv::{Backend, Error, Result, Shape};
use toml::Table;

use super::options::TrainArgs;
use super::settings_file::SettingsFile;
use crate::console::import::{taken, told_classes};

/// The settings that go with a run's weights: the network, and what it was shown of an image.
const OF_WEIGHTS: [&str; 3] = ["preset", "resize", "normalize"];

/// The settings that the run of the first weights has for its network and images; empty for a file, and without
/// `--init`.
///
/// # Errors
/// As [`Run::open`], for a folder that is no run's.
pub fn settings_of_weights(args: &TrainArgs, file: Option<&SettingsFile>) -> Result<Table> {
    let init = args.network.init.clone().or_else(|| file?.get("init"));
    let Some(folder) = init.filter(|path| path.is_dir()) else { return Ok(Table::new()) };
    let run = Run::open(folder)?;
    let unusable = |error: toml::ser::Error| Error::Config { what: "settings".into(), problem: error.to_string() };
    let settings = Table::try_from(run.config()).map_err(unusable)?;
    Ok(settings.into_iter().filter(|(key, _)| OF_WEIGHTS.contains(&&**key)).collect())
}

/// Gives a new run's network, whose weights are drawn, those that its settings name, if they name some, or else scales them by
/// the first batch of `train`, if the settings say so. Given weights have their scale already. Returns a line that says what
/// was taken.
///
/// # Errors
/// As [`Tensors::load`] and [`Tensors::give_to`]; [`Error::OtherClasses`] for weights of another number of classes,
/// unless the settings reset the head. As [`lsuv`].
pub fn begin_with<B: Backend<Scalar = f32>>(
    config: &TrainConfig,
    backend: &B,
    net: &mut Nin<B>,
    train: &Loader,
) -> Result<Option<String>> {
    let Some(path) = &config.init else {
        if config.lsuv
            && let Some(batch) = train.epoch(0)?.next()
        {
            let shape = Shape::image(batch.len(), train.dataset().channels(), config.resize, config.resize);
            lsuv(backend, net, &batch.images, shape)?;
        }
        return Ok(None);
    };
    let path = file_of(path);
    let tensors = Tensors::load(&path)?;
    let comparison = tensors.compare(net);
    if !config.reset_head {
        told_classes(&comparison, &path, &format!("the data set {}", config.data))?;
        tensors.give_to(backend, net, &[], &path)?;
        return Ok(Some(format!("init     {}: {}", path.display(), taken(&tensors, &comparison))));
    }
    let fresh = tensors.give_body_to(backend, net, &path)?;
    let head = match &fresh[..] {
        [] => "its head fits, and is taken too".into(),
        [first, .., last] => format!("fresh from {first} to {last}"),
        [only] => format!("fresh: {only}"),
    };
    Ok(Some(format!("init     {}: {}; {head}", path.display(), taken(&tensors, &comparison))))
}

/// The file of the weights: of a run its last ones.
fn file_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("weights.safetensors") } else { path.to_owned() }
}
