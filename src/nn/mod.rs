//! Networks: modules that own parameters and run ops on a tape, and the two presets.

mod build;
mod layers;
mod nin;
mod sequential;
mod summary;

pub use build::{Builder, Init, Widths};
pub use layers::{Conv2d, Dropout, Flatten, GlobalAvgPool, MaxPool, Relu};
pub use nin::{Nin, NinBlock};
pub use sequential::Sequential;
pub use summary::{LayerSummary, Summary};

use crate::device::Backend;
use crate::ops::Pool;
use crate::tape::{Param, Tape, Var};
use crate::{Result, Shape};

/// A part of a network, or a whole one.
pub trait Module<B: Backend>: Send + Sync {
    /// Runs the module. It takes `x` by value, so that in inference a value is freed as soon as it has been used.
    fn forward(&self, tape: &mut Tape<B>, x: Var<B>) -> Result<Var<B>>;

    /// [`Module::forward`] for `reader`, which is all that will look at the output: what it does not read
    /// ([`Module::reads`]) need not be computed, and may be left out at the end of rows and columns.
    fn forward_for(&self, tape: &mut Tape<B>, x: Var<B>, reader: &dyn Module<B>) -> Result<Var<B>> {
        let _ = reader;
        self.forward(tape, x)
    }

    /// [`Module::forward`], and then that of `pool`, the module that follows: in one go where that is a pool
    /// ([`Module::as_pool`]) and the backend can. `dead_pixels` says whether to compute what it does not read.
    fn forward_pooled(&self, tape: &mut Tape<B>, x: Var<B>, pool: &dyn Module<B>, dead_pixels: bool) -> Result<Var<B>> {
        let y = if dead_pixels { self.forward(tape, x) } else { self.forward_for(tape, x, pool) }?;
        pool.forward(tape, y)
    }

    /// The pool that this module is, if it is one and no more: whatever comes before may do its work
    /// ([`Module::forward_pooled`]), and its `forward` is then not called.
    fn as_pool(&self) -> Option<Pool> {
        None
    }

    /// The part of an input of shape `input` that has an effect on the output, from the first row and column on.
    fn reads(&self, input: Shape) -> Shape {
        input
    }

    /// What the module does to an input of shape `input`: a line for each layer, appended to `lines` under names that
    /// begin with `path`. Returns the output's shape.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the module cannot take such an input.
    fn describe(&self, path: &str, input: Shape, lines: &mut Vec<LayerSummary>) -> Result<Shape>;

    /// The parameters in order, under PyTorch's names (`0.2.weight`).
    fn params(&self) -> Vec<(String, &Param<B>)> {
        Vec::new()
    }

    /// The parameters of [`Module::params`], to be changed.
    fn params_mut(&mut self) -> Vec<(String, &mut Param<B>)> {
        Vec::new()
    }
}

/// `name` within `path`, as PyTorch joins them.
fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
