//! A layer of a network: the unit that a plan is made of.

use super::{Conv2d, join};
use crate::tape::{Tape, Var};
use crate::{Backend, Result, Shape};

/// A layer under its name, as in the names of its parameters.
pub struct Layer<'a, B: Backend> {
    pub path: String,
    pub op: Op<'a, B>,
}

/// What a layer does. A plan fuses neighbours of the kinds that it knows.
pub enum Op<'a, B: Backend> {
    /// With a ReLU in the epilogue if the layer has one.
    Conv2d(&'a Conv2d<B>),
    /// The maxima of `window` × `window` squares, `stride` apart.
    MaxPool {
        window: usize,
        stride: usize,
    },
    /// The mean of each channel.
    GlobalAvgPool,
    Relu,
    /// With the probability of dropping an element.
    Dropout(f64),
    Flatten,
    /// A layer that nothing is known of: it reads all of its input, and nothing is fused across it.
    Custom(&'a dyn Custom<B>),
}

impl<'a, B: Backend> Layer<'a, B> {
    /// A layer named `name` within `path`; an empty `name` is the module's own.
    pub fn new(path: &str, name: &str, op: Op<'a, B>) -> Self {
        let path = if name.is_empty() { path.to_owned() } else { join(path, name) };
        Layer { path, op }
    }
}

/// A layer of one's own. Its [`Module`](super::Module) lists it as [`Op::Custom`], and its parameters.
pub trait Custom<B: Backend>: Send + Sync {
    /// As a summary shows it.
    fn name(&self) -> String;

    /// The shape of the output for an input of shape `input`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for an input that it cannot take.
    fn output(&self, input: Shape) -> Result<Shape>;

    /// Runs the layer.
    ///
    /// # Errors
    /// As the ops that it runs.
    fn forward(&self, tape: &mut Tape<B>, x: Var<B>) -> Result<Var<B>>;
}
