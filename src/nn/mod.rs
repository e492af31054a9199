//! Networks: modules, which own parameters and list their layers; plans, which decide which layers run as one op; and
//! NiN's presets.

mod block;
mod build;
#[cfg(all(test, feature = "cuda"))]
mod choices;
mod layer;
mod lsuv;
mod modules;
mod nin;
mod outputs;
pub mod plan;
mod sequential;
mod summary;

pub use block::NinBlock;
pub use build::{Builder, Init, Widths};
pub use layer::{Custom, Layer, Op};
pub use lsuv::lsuv;
pub use modules::{Conv2d, Dropout, Flatten, GlobalAvgPool, MaxPool, Relu};
pub use nin::Nin;
pub use outputs::{Output, outputs};
pub use plan::Plan;
pub use sequential::Sequential;
pub use summary::{LayerSummary, Summary};

use crate::device::Role;
use crate::tape::{Mode, Param, Tape, Var};
use crate::{Backend, Result, Shape};

/// A part of a network, or a whole one.
pub trait Module<B: Backend>: Send + Sync {
    /// Appends the module's layers to `layers`, in order, under names that begin with `path`. A module that contains
    /// others appends their layers, so that a network is one flat list. A module with its own computation appends an
    /// [`Op::Custom`]. Only what is listed runs when the module is part of another: a `forward` of its own is then not called.
    fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, B>>);

    /// The parameters in order, under PyTorch's names (`0.2.weight`). None by default.
    fn params(&self) -> Vec<(String, &Param<B>)> {
        Vec::new()
    }

    /// The parameters of [`Module::params`], mutable, in the same order and under the same names.
    fn params_mut(&mut self) -> Vec<(String, &mut Param<B>)> {
        Vec::new()
    }

    /// Runs the module by its [`Plan`] for the shape of `x`. `x` is taken by value, so that inference frees each value
    /// as soon as the next layer has run.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where a layer cannot take its input, [`Error::Config`](crate::Error::Config) for a
    /// probability of dropout out of its range; those of the device.
    fn forward(&self, tape: &mut Tape<B>, x: Var<B>) -> Result<Var<B>> {
        let layers = layers(self);
        let backend = tape.backend().clone();
        Plan::new(&layers, x.shape(), &|fusion| backend.fuses(fusion))?.run(&layers, tape, x)
    }
}

/// The layers of a network, in order.
pub fn layers<B: Backend, M: Module<B> + ?Sized>(net: &M) -> Vec<Layer<'_, B>> {
    let mut layers = Vec::new();
    net.layers("", &mut layers);
    layers
}

/// The parameters of a network, to be changed.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) if [`Module::params`] and [`Module::params_mut`] do not list the same
/// parameters: a module that has one of the two methods alone would neither learn nor load anything.
pub fn params_mut<B: Backend, M: Module<B> + ?Sized>(net: &mut M) -> Result<Vec<(String, &mut Param<B>)>> {
    let listed: Vec<_> = net.params().into_iter().map(|(name, param)| (name, param.id())).collect();
    let params = net.params_mut();
    let same = listed.len() == params.len()
        && listed.iter().zip(&params).all(|((name, id), (other, param))| name == other && *id == param.id());
    if same {
        return Ok(params);
    }
    let other = |(i, (name, _)): (usize, &(String, _))| params.get(i).is_none_or(|(other, _)| other != name);
    let first = listed.iter().enumerate().find(|at| other(*at)).map(|(_, (name, _))| name);
    let name = first.or(params.get(listed.len()).map(|(name, _)| name)).map_or("a parameter", |name| name);
    let problem = format!("params and params_mut of its modules differ at {name}; let both list the same parameters");
    Err(crate::Error::config("network", problem))
}

/// The logits `[N, classes]` of a batch, without dropout, one row after the other. `images` are of shape `shape`
/// `[N, C, H, W]`, in NHWC memory order.
///
/// Network and backend are [`Sync`], so several threads may predict with the same ones at the same time.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) for shapes or lengths that do not fit the network.
pub fn predict<B: Backend, M: Module<B> + ?Sized>(
    backend: &B,
    net: &M,
    images: &[B::Scalar],
    shape: Shape,
) -> Result<Vec<B::Scalar>> {
    let mut tape = Tape::new(backend, Mode::Inference);
    let x = tape.constant(backend.upload(Role::Activation, images)?, shape)?;
    let logits = net.forward(&mut tape, x)?;
    backend.download(logits.data())
}

/// `path` and `name` joined by a dot, as in PyTorch.
fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// `params`, each name prefixed by `path`.
fn within<P>(path: &str, params: Vec<(String, P)>) -> impl Iterator<Item = (String, P)> + use<P> {
    let path = path.to_owned();
    params.into_iter().map(move |(name, param)| (join(&path, &name), param))
}
