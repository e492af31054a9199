//! `mlpconv export`: a run's network as files for other programs.

use std::fs;
use std::path::{Path, PathBuf};

use mlpconv::data::Splits;
use mlpconv::export::{self, Meta};
use mlpconv::nn::Nin;
use mlpconv::train::{Run, TrainConfig};
use mlpconv::weights::{Tensors, write_whole};
use mlpconv::{Cpu, Error, Result, Shape};

use super::chosen::WeightsArgs;
use super::{bytes, note, say};

/// The arguments of `mlpconv export`.
#[derive(clap::Args)]
pub struct ExportArgs {
    /// The run folder
    run: PathBuf,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    weights: WeightsArgs,
}

/// The files to write, one of them at least.
#[derive(clap::Args)]
#[group(required = true, multiple = true)]
struct Outputs {
    /// The network as ONNX: images, normalised, to logits, with an open batch dimension; mean, deviation and class
    /// names are in the metadata
    #[arg(long, value_name = "FILE")]
    onnx: Option<PathBuf>,
    /// The weights as safetensors, under PyTorch's names
    #[arg(long, value_name = "FILE")]
    safetensors: Option<PathBuf>,
    /// Each parameter as NumPy's .npy, in this folder, which must be new or empty
    #[arg(long, value_name = "DIR")]
    npy: Option<PathBuf>,
    /// The network as a PyTorch module, a Python file whose class takes the weights of --safetensors
    #[arg(long, value_name = "FILE")]
    torch_py: Option<PathBuf>,
}

/// Writes the files, each whole or not at all, and a line for each with its size.
///
/// # Errors
/// [`Error`] for a folder that is no run, weights that do not fit, a build without ONNX, a path that is asked for
/// twice, a folder for arrays that is not empty, and a file that cannot be written.
pub fn export(args: ExportArgs) -> Result<()> {
    let ExportArgs { run, outputs, weights } = args;
    let Outputs { onnx, safetensors, npy, torch_py } = outputs;
    distinct([&onnx, &safetensors, &npy, &torch_py])?;
    let run = Run::open(run)?;
    let file = weights.of(&run)?;
    let config = run.config();
    let backend = Cpu::<f32>::new();
    let tensors = Tensors::load(&file)?;
    let (channels, classes, class_names) = ends(config, &tensors)?;
    let mut net = config.preset.net_for(&backend, config.seed, channels, classes)?;
    tensors.give_to(&backend, &mut net, &[], &file)?;

    let input = Shape::image(1, channels, config.resize, config.resize);
    let (preset, normalization) = (Some(config.preset.to_string()), config.normalize.clone());
    let meta = Meta { preset, classes: class_names, normalization };
    // What can be refused is refused before anything is written.
    let onnx = onnx.map(|path| model(&backend, &net, input, &meta).map(|model| (path, model))).transpose()?;
    let module = torch_py.map(|path| export::torch_py(&net, input, &meta).map(|module| (path, module))).transpose()?;
    if let Some(folder) = npy {
        let files = export::npy(&backend, &net, &folder)?;
        let size = files.iter().map(|file| size(file)).sum::<Result<usize>>()?;
        say(format_args!("npy          {}: {} files, {}", folder.display(), files.len(), bytes(size)));
    }
    if let Some((path, model)) = onnx {
        write_whole(&path, &model)?;
        told("onnx", &path)?;
    }
    if let Some(path) = safetensors {
        Tensors::of(&backend, &net)?.save(&path)?;
        told("safetensors", &path)?;
    }
    if let Some((path, module)) = module {
        write_whole(&path, module.as_bytes())?;
        told("torch-py", &path)?;
    }
    Ok(())
}

/// Refuses two outputs of one path: the second would replace the first.
fn distinct(outputs: [&Option<PathBuf>; 4]) -> Result<()> {
    let paths: Vec<&PathBuf> = outputs.into_iter().flatten().collect();
    match paths.iter().enumerate().find(|(at, path)| paths[..*at].contains(path)) {
        None => Ok(()),
        Some((_, path)) => Err(Error::Config {
            what: path.display().to_string(),
            problem: "two outputs would be written there; name a path for each".into(),
        }),
    }
}

#[cfg(feature = "onnx")]
fn model(backend: &Cpu<f32>, net: &Nin<Cpu<f32>>, input: Shape, meta: &Meta) -> Result<Vec<u8>> {
    export::onnx(backend, net, input, meta)
}

#[cfg(not(feature = "onnx"))]
fn model(_: &Cpu<f32>, _: &Nin<Cpu<f32>>, _: Shape, _: &Meta) -> Result<Vec<u8>> {
    let problem = "this build has no ONNX; build it with the cargo feature onnx, which is on by default";
    Err(Error::Config { what: "onnx".into(), problem: problem.into() })
}

/// Channels, number of classes and their names, by the run's data set. Where its folder is not there, the weights tell
/// the numbers, and the classes have no names.
fn ends(config: &TrainConfig, tensors: &Tensors) -> Result<(usize, usize, Vec<String>)> {
    let error = match Splits::form(&config.data, config.data_dir.as_deref(), config.resize) {
        Ok(form) => return Ok((form.channels, form.class_names.len(), form.class_names)),
        Err(error) => error,
    };
    let Some([channels, classes]) = extents(tensors) else { return Err(error) };
    note(format_args!("classes are named by their numbers: {error}"));
    Ok((channels, classes, Vec::new()))
}

/// The channels that the first convolution reads, and those that the last one writes.
fn extents(tensors: &Tensors) -> Option<[usize; 2]> {
    // Numbers in names count as numbers: 10 comes after 9.
    let place = |name: &str| name.split('.').map(|part| part.parse().ok()).collect::<Vec<Option<usize>>>();
    let convolutions = || tensors.iter().filter(|(_, dims, _)| dims.len() == 4);
    let (_, first, _) = convolutions().min_by_key(|(name, ..)| place(name))?;
    let (_, last, _) = convolutions().max_by_key(|(name, ..)| place(name))?;
    Some([first[1], last[0]])
}

fn told(what: &str, path: &Path) -> Result<()> {
    say(format_args!("{what:11}  {}: {}", path.display(), bytes(size(path)?)));
    Ok(())
}

fn size(path: &Path) -> Result<usize> {
    let found = fs::metadata(path).map_err(|source| Error::Io { action: "read", path: path.into(), source })?;
    Ok(usize::try_from(found.len()).unwrap_or(usize::MAX))
}
