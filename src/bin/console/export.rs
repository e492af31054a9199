//! `mlpconv export`: a run's network as files for other programs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mlpconv::data::{DataName, Splits};
use mlpconv::export::{self, Meta, Output, together};
use mlpconv::nn::Nin;
use mlpconv::train::{Run, TrainConfig};
use mlpconv::weights::{self, Tensors, write_whole};
use mlpconv::{Cpu, Error, Result, Shape};

use super::chosen::WeightsArgs;
use super::{bytes, note, say};

/// The arguments of `mlpconv export`.
#[derive(clap::Args)]
pub struct ExportArgs {
    /// The run folder
    run: PathBuf,
    #[command(flatten)]
    formats: Formats,
    #[command(flatten)]
    weights: WeightsArgs,
    /// The run's data set, which names the classes: a name, or a folder of images that has moved [default: the run's]
    #[arg(long, value_name = "NAME|DIR")]
    data: Option<DataName>,
    /// Folder that holds the images of the data set, if it is a folder
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// The files to write, one of them at least. None of them may be there yet.
#[derive(clap::Args)]
#[group(required = true, multiple = true)]
struct Formats {
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

/// Writes the files, all of them or none, and a line for each with its size.
///
/// # Errors
/// [`Error`] for a folder that is no run, weights that do not fit, a data set that is named and does not fit them, a build
/// without ONNX, and a file that cannot be written; as [`together`] for paths.
pub fn export(args: ExportArgs) -> Result<()> {
    let ExportArgs { run, formats, weights, data, data_dir } = args;
    let Formats { onnx, safetensors, npy, torch_py } = formats;
    let run = Run::open(run)?;
    let file = weights.of(&run)?;
    let config = run.config();
    let backend = &Cpu::<f32>::new();
    let tensors = Tensors::load(&file)?;
    let (channels, classes, class_names) = ends(config, data, data_dir, &tensors)?;
    let mut net = config.preset.net_for(backend, config.seed, channels, classes)?;
    tensors.give_to(backend, &mut net, &[], &file)?;

    let (net, input) = (&net, Shape::image(1, channels, config.resize, config.resize));
    let (preset, normalization) = (Some(config.preset.to_string()), config.normalize.clone());
    let meta = &Meta { preset, classes: class_names, normalization };
    let mut outputs = Vec::new();
    if let Some(folder) = &npy {
        outputs.push(Output::folder(folder, move |folder| export::npy(backend, net, folder).map(drop)));
    }
    if let Some(path) = &onnx {
        let model = model(backend, net, input, meta)?;
        outputs.push(Output::file(path, move |path| write_whole(path, &model)));
    }
    if let Some(path) = &safetensors {
        outputs.push(Output::file(path, move |path| weights::save(backend, net, path)));
    }
    if let Some(path) = &torch_py {
        let module = export::torch_py(net, input, meta)?;
        outputs.push(Output::file(path, move |path| write_whole(path, module.as_bytes())));
    }
    together(outputs)?;
    for (what, path) in [("npy", npy), ("onnx", onnx), ("safetensors", safetensors), ("torch-py", torch_py)] {
        if let Some(path) = path {
            say(format_args!("{what:11}  {}: {}", path.display(), size(&path)?));
        }
    }
    Ok(())
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

/// Channels and number of classes, by the weights, and the names of the classes, by the data set. Where the run's own data
/// set is not there, or has other classes by now, the classes have no names.
fn ends(
    config: &TrainConfig,
    data: Option<DataName>,
    data_dir: Option<PathBuf>,
    tensors: &Tensors,
) -> Result<(usize, usize, Vec<String>)> {
    let is_named = data.is_some() || data_dir.is_some();
    let (data, data_dir) = match data {
        Some(data) => (data, data_dir),
        None => (config.data.clone(), data_dir.or_else(|| config.data_dir.clone())),
    };
    let form = Splits::form(&data, data_dir.as_deref(), config.resize);
    let Some([channels, classes]) = extents(tensors) else {
        return form.map(|form| (form.channels, form.class_names.len(), form.class_names));
    };
    let error = match form {
        Ok(form) if form.class_names.len() == classes => return Ok((channels, classes, form.class_names)),
        Ok(form) => {
            let found = form.class_names.len();
            let problem = format!("has {found} classes, but the weights tell {classes}; name their data set");
            Error::Data { what: data.to_string(), problem }
        }
        Err(error) => error,
    };
    if is_named {
        return Err(error);
    }
    note(format_args!("classes are named by their numbers, unless --data names the data set: {error}"));
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

/// The size of a file, or of a folder and the number of files in it.
fn size(path: &Path) -> Result<String> {
    let read = |source| Error::Io { action: "read", path: path.into(), source };
    let length = |found: fs::Metadata| usize::try_from(found.len()).unwrap_or(usize::MAX);
    let found = fs::metadata(path).map_err(read)?;
    if found.is_file() {
        return Ok(bytes(length(found)));
    }
    let files = fs::read_dir(path).map_err(read)?.map(|entry| entry?.metadata().map(length));
    let files = files.collect::<io::Result<Vec<usize>>>().map_err(read)?;
    Ok(format!("{} files, {}", files.len(), bytes(files.iter().sum())))
}
