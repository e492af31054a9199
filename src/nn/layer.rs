//! A layer of a network: the unit of a plan.

use super::{Conv2d, join};
use crate::tape::{Tape, Var};
use crate::{Backend, Result, Shape};

/// A layer with its name.
pub struct Layer<'a, B: Backend> {
    /// The layer's name, the prefix of its parameters' names (`0.2`).
    pub path: String,
    pub op: Op<'a, B>,
}

/// The op of a layer, with its settings. A plan may fuse neighbouring layers, but none with a custom one.
pub enum Op<'a, B: Backend> {
    /// A convolution with bias, and with a ReLU in the epilogue if the layer has one.
    Conv2d(&'a Conv2d<B>),
    /// The maxima of `window` × `window` squares, `stride` pixels apart.
    MaxPool {
        window: usize,
        stride: usize,
    },
    /// The mean of each channel.
    GlobalAvgPool,
    Relu,
    /// Dropout with this probability of dropping an element.
    Dropout(f64),
    Flatten,
    /// A layer that the crate does not know. A plan takes it to read all of its input, and fuses nothing with it.
    Custom(&'a dyn Custom<B>),
}

impl<'a, B: Backend> Layer<'a, B> {
    /// The layer named `name` within module `path`. With an empty `name` it has the module's name.
    pub fn new(path: &str, name: &str, op: Op<'a, B>) -> Self {
        let path = if name.is_empty() { path.to_owned() } else { join(path, name) };
        Layer { path, op }
    }
}

/// A layer defined outside the crate. Its [`Module`](super::Module) lists it as [`Op::Custom`], and lists its
/// parameters.
pub trait Custom<B: Backend>: Send + Sync {
    /// The name in summaries and plans.
    fn name(&self) -> String;

    /// The shape of the output for an input of shape `input`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for an input that it cannot take.
    fn output(&self, input: Shape) -> Result<Shape>;

    /// Runs the layer on `x`. The result has the shape that [`Custom::output`] gives.
    ///
    /// # Errors
    /// As the ops that it runs.
    fn forward(&self, tape: &mut Tape<B>, x: Var<B>) -> Result<Var<B>>;
}
