//! Networks: modules own parameters and list their layers, a plan decides which layers run as one op, and the presets.

mod build;
#[cfg(all(test, feature = "cuda"))]
mod choices;
mod layer;
mod modules;
mod nin;
pub mod plan;
mod sequential;
mod summary;

pub use build::{Builder, Init, Widths};
pub use layer::{Custom, Layer, Op};
pub use modules::{Conv2d, Dropout, Flatten, GlobalAvgPool, MaxPool, Relu};
pub use nin::{Nin, NinBlock};
pub use plan::Plan;
pub use sequential::Sequential;
pub use summary::{LayerSummary, Summary};

use crate::tape::{Param, Tape, Var};
use crate::{Backend, Result};

/// A part of a network, or a whole one.
pub trait Module<B: Backend>: Send + Sync {
    /// Appends the module's layers, in order, under names that begin with `path`. A module that contains others appends
    /// theirs, so that a network is one flat list; one that computes by itself appends an [`Op::Custom`].
    fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, B>>);

    /// The parameters in order, under PyTorch's names (`0.2.weight`).
    fn params(&self) -> Vec<(String, &Param<B>)> {
        Vec::new()
    }

    /// The parameters of [`Module::params`], to be changed.
    fn params_mut(&mut self) -> Vec<(String, &mut Param<B>)> {
        Vec::new()
    }

    /// Runs the module as its [`Plan`] for the shape of `x` says. It takes `x` by value, so that in inference a value is freed
    /// as soon as it has been used.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where a layer cannot take its input.
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

/// `name` within `path`, as PyTorch joins them.
fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// `params`, each under its name within `path`.
fn within<P>(path: &str, params: Vec<(String, P)>) -> impl Iterator<Item = (String, P)> + use<P> {
    let path = path.to_owned();
    params.into_iter().map(move |(name, param)| (join(&path, &name), param))
}
