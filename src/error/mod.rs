//! The crate's error type, [`enum@Error`], and the nested types for GPUs, ranks and IDX files. Each variant names the thing
//! that failed (op, file, option), the value found, and the remedy if there is one.

#[cfg(feature = "cuda")]
mod cuda;
mod idx;
mod not_finite;
mod ranks;

use std::path::PathBuf;

#[cfg(feature = "cuda")]
pub use cuda::CudaError;
#[cfg(feature = "cuda")]
pub(crate) use cuda::describe;
pub use idx::IdxError;
pub use not_finite::{NotFinite, Place};
pub use ranks::RanksError;

/// A result whose error is [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Shapes or lengths that do not fit an op. `problem` states them.
    #[error("{op}: {problem}")]
    Shape { op: &'static str, problem: String },

    /// An option or argument that is out of its range.
    #[error("{what}: {problem}")]
    Config { what: String, problem: String },

    /// A label that is not below the number of classes. `position` is its index in the batch or the data set.
    #[error("{op}: label {label} at position {position}, but there are {classes} classes (labels go from 0)")]
    Label { op: &'static str, label: u8, position: usize, classes: usize },

    /// A device that does not exist, or that this build does not support.
    #[error("device {device}: {problem}")]
    Device { device: String, problem: String },

    /// A device, or the host, has too little memory for a buffer. All numbers are in bytes; `in_use` is by buffers of
    /// the same device, and `free` is `None` if the device cannot tell it.
    #[error("{device}: no memory for a buffer of {bytes} bytes{}; make the batch smaller", used(*in_use, *free))]
    Memory { device: String, bytes: usize, in_use: usize, free: Option<usize> },

    /// A GPU that cannot be used, or that has failed.
    #[cfg(feature = "cuda")]
    #[error("cuda: {0}")]
    Cuda(#[from] CudaError),

    /// Ranks that do not meet, or a group of ranks that cannot go on.
    #[error(transparent)]
    Ranks(#[from] RanksError),

    /// A parameter cannot be written while a variable of some tape shares its data.
    #[error("{op}: parameter {name} is still borrowed by a live Var; drop the tape's variables before the update")]
    ParameterInUse { op: &'static str, name: String },

    /// A layer of one's own in a network that is to be written as `format`, which has no word for it.
    #[error(
        "layer {layer} is {name}, a custom layer, which {format} cannot hold; save the weights alone, or make the network of \
         known layers"
    )]
    CustomLayer { layer: String, name: String, format: &'static str },

    /// A file or folder that cannot be made: something is there already, or the folder for it is not.
    #[error("output {}: {problem}", path.display())]
    Output { path: PathBuf, problem: String },

    /// A weights or state file that cannot be read, or that does not fit the network.
    #[error("weights {}: {problem}", path.display())]
    Weights { path: PathBuf, problem: String },

    /// Weights whose last layer tells another number of classes than is asked for by `whose`: a network or a data set.
    #[error(
        "weights {}: their last layer tells {found} classes, but {whose} has {classes}; use weights for as many, or keep the last \
         layer's fresh values",
        path.display()
    )]
    OtherClasses { path: PathBuf, found: usize, whose: String, classes: usize },

    /// A run's state file that another optimiser saved.
    #[error(
        "weights {}: the state is of optimiser {saved}, not of {present}; go on with {saved}, or begin a new run with {present}",
        path.display()
    )]
    OtherOptimizer { path: PathBuf, saved: String, present: &'static str },

    /// A folder for a new run that has something in it already.
    #[error("run {}: the folder is not empty (it has {holds}); name a new or empty one", path.display())]
    RunNotEmpty { path: PathBuf, holds: String },

    /// A run folder in which another process trains.
    #[error("run {}: {process} trains in this folder; wait until it ends", path.display())]
    RunLocked { path: PathBuf, process: String },

    /// A run folder that has imported weights and no training to go on with.
    #[error(
        "run {}: its weights were imported from {}, and there is no training to go on with; begin a new run with them",
        path.display(), from.display()
    )]
    RunImported { path: PathBuf, from: PathBuf },

    /// A run folder that cannot be opened or resumed.
    #[error("run {}: {problem}", path.display())]
    Run { path: PathBuf, problem: String },

    /// Values of a checked tape that are not finite ([`Tape::checked`](crate::Tape::checked)).
    #[error(transparent)]
    NotFinite(#[from] NotFinite),

    /// Training whose numbers are no longer finite. `epoch` and `step`, both from 1, are those of the first step at which
    /// they were not; in an evaluation `step` is the epoch's last.
    #[error("epoch {epoch}, step {step}: {found}; {}", found.place.remedy())]
    Diverged { epoch: u32, step: usize, found: NotFinite },

    /// A file that is not a valid IDX file.
    #[error("{name}: {source}")]
    Idx { name: String, source: IdxError },

    /// A data set whose images and labels do not fit together, or whose contents do not fit its name.
    #[error("{what}: {problem}")]
    Data { what: String, problem: String },

    /// A folder for the data set `data` lacks a file: it has it neither under its usual name nor under another known
    /// one.
    #[error(
        "{place} has neither {usual} nor {other}; put the files of {data} there, or name another folder, as \
         $MLPCONV_DATA does"
    )]
    DataFileMissing { data: String, place: String, usual: String, other: String },

    /// The data set `data` is not on this machine, and no source could be fetched from. `tried` has one line for each
    /// place and source.
    #[error("{data} was not found and could not be fetched\n  {}\n{remedy}", tried.join("\n  "))]
    DataNotFound { data: String, tried: Vec<String>, remedy: String },

    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
}

fn used(in_use: usize, free: Option<usize>) -> String {
    match (in_use, free) {
        (0, None) => String::new(),
        (in_use, None) => format!(" ({in_use} in use)"),
        (in_use, Some(free)) => format!(" ({in_use} in use, {free} free)"),
    }
}

impl Error {
    pub(crate) fn shape(op: &'static str, problem: impl Into<String>) -> Self {
        Error::Shape { op, problem: problem.into() }
    }

    pub(crate) fn config(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Config { what: what.into(), problem: problem.into() }
    }

    /// For `map_err`: names the file that has the problem.
    pub(crate) fn weights(path: impl Into<PathBuf>) -> impl FnOnce(String) -> Self {
        let path = path.into();
        move |problem| Error::Weights { path, problem }
    }

    pub(crate) fn run(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Error::Run { path: path.into(), problem: problem.into() }
    }

    /// No memory of the host for `bytes` bytes.
    pub(crate) fn memory(bytes: usize) -> Self {
        Error::Memory { device: "host".into(), bytes, in_use: 0, free: None }
    }

    pub(crate) fn data(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Data { what: what.into(), problem: problem.into() }
    }

    /// For `map_err`: `fs::read(path).map_err(Error::io("read", path))`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }
}
