//! `mlpconv import`: a run folder of weights that were trained elsewhere.

use std::path::{Path, PathBuf};

use mlpconv::data::{DataName, Normalization};
use mlpconv::optim::Average;
use mlpconv::train::{Preset, Run, TrainConfig};
use mlpconv::weights::{Comparison, Tensors};
use mlpconv::{Cpu, Error, Result};

use super::data::Requested;
use super::screen::printable;
use super::{grouped, note, say, summarize};

/// The arguments of `mlpconv import`.
#[derive(clap::Args)]
pub struct ImportArgs {
    /// The weights: a safetensors file, or what torch.save wrote of a state dict (.pt, .pth). Nothing in it is run
    #[arg(value_name = "WEIGHTS")]
    weights: PathBuf,
    /// The network: d2l, d2l-gluon, stable, small, tuned or cifar
    #[arg(long)]
    preset: Preset,
    /// The run folder, which must be new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What the weights were trained on: fashion-mnist, mnist, kmnist, cifar10, or a folder of images [default: the
    /// preset's]
    #[arg(long, value_name = "NAME|DIR")]
    data: Option<DataName>,
    /// Folder that holds the files of the data set
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Height and width that the images are brought to [default: the preset's]
    #[arg(long, value_name = "PIXELS")]
    resize: Option<usize>,
    /// The normalisation that the weights were trained with, (value / 255 - MEAN) / DEVIATION, by a number each for all
    /// channels or one for each [default: the preset's]
    #[arg(long, value_name = "MEAN:DEVIATION")]
    normalize: Option<Normalization>,
}

/// Makes the run folder, and says what was taken.
///
/// # Errors
/// [`Error`] for a file that cannot be read, weights that do not fit the network (all that differ are listed before), a
/// setting out of its range, and a folder that cannot be made.
pub fn import(args: ImportArgs) -> Result<()> {
    let ImportArgs { weights: path, preset, out, data, data_dir, resize, normalize } = args;
    let absolute =
        |path: PathBuf| std::path::absolute(&path).map_err(|source| Error::Io { action: "find", path, source });
    let recipe = preset.config();
    let config = TrainConfig {
        data: data.map_or(Ok(recipe.data), DataName::absolute)?,
        data_dir: data_dir.map(absolute).transpose()?,
        resize: resize.unwrap_or(recipe.resize),
        normalize: normalize.unwrap_or(recipe.normalize),
        imported: Some(absolute(path.clone())?),
        // Nothing was averaged here.
        average: Average::None,
        ..preset.config()
    };
    config.validate()?;
    let tensors = Tensors::load(&path)?;
    let data = Requested::new(&config.data, config.data_dir.as_deref(), config.resize)?;
    config.normalize.require(data.channels)?;
    let backend = Cpu::<f32>::new();
    let mut net = preset.net_for(&backend, config.seed, data.channels, data.classes)?;
    summarize(preset, &net, 1, data.channels, config.resize)?;

    let comparison = tensors.compare(&net);
    told_classes(&comparison, &path, &format!("the data set {}", config.data))?;
    if !comparison.fits() {
        return Err(misfit(&comparison, &path, preset));
    }
    tensors.give_to(&backend, &mut net, &[], &path)?;
    let run = Run::import(out, config, &backend, &net)?;
    say(format_args!("weights  {}: {}", path.display(), taken(&tensors, &comparison)));
    say(format_args!("run      {}: for evaluate, predict, report and train --init", run.folder().display()));
    Ok(())
}

/// What was taken of a file: the format, where in it the tensors were, how many they are, and what became of their
/// types.
pub fn taken(tensors: &Tensors, comparison: &Comparison) -> String {
    let origin = tensors.origin();
    let mut parts = vec![format!("{}", origin.format)];
    parts.extend(origin.wrapper.map(|wrapper| format!("under {wrapper}")));
    if !comparison.prefix.is_empty() {
        parts.push(format!("without the prefix {}", printable(&comparison.prefix)));
    }
    parts.push(format!("{} tensors of {} parameters", tensors.len(), grouped(tensors.elements())));
    for (kind, count) in &origin.types {
        match &**kind {
            "F32" => {}
            "F64" => parts.push(format!("{count} rounded from F64")),
            _ => parts.push(format!("{count} widened from {kind}")),
        }
    }
    parts.join(", ")
}

/// Refuses weights whose head is of another size than `whose`.
///
/// # Errors
/// [`Error::OtherClasses`] with both numbers.
pub fn told_classes(comparison: &Comparison, path: &Path, whose: &str) -> Result<()> {
    match comparison.classes {
        Some([found, classes]) if comparison.missing.is_empty() && comparison.unexpected.is_empty() => {
            Err(Error::OtherClasses { path: path.into(), found, whose: whose.into(), classes })
        }
        _ => Ok(()),
    }
}

/// The error for weights that do not fit, after a line on standard error for each name that does not.
fn misfit(comparison: &Comparison, path: &Path, preset: Preset) -> Error {
    let Comparison { prefix, missing, unexpected, reshaped, .. } = comparison;
    for name in missing {
        note(format_args!("missing     {}{name}", printable(prefix)));
    }
    for name in unexpected {
        note(format_args!("unexpected  {}", printable(name)));
    }
    for (name, found, shape) in reshaped {
        note(format_args!("reshaped    {}{name} is {found:?} instead of {shape}", printable(prefix)));
    }
    let counts = [(missing.len(), "missing"), (unexpected.len(), "unexpected"), (reshaped.len(), "of another shape")];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let counts = counts.collect::<Vec<_>>().join(", ");
    let problem = format!(
        "its tensors are not those of preset {preset}: {counts}, all listed above; name the preset of these weights"
    );
    Error::Weights { path: path.into(), problem }
}
