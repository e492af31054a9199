//! A layer of a network: the unit of a plan.

use super::join;
use crate::shape::Window;
use crate::tape::{Param, Tape, Var};
use crate::{Backend, Result, Shape};

/// A layer with its name.
pub struct Layer<'a, B: Backend> {
    /// The layer's name, the prefix of its parameters' names (`0.2`).
    pub path: String,
    pub op: Op<'a, B>,
}

/// The op of a layer, with its settings. A plan may fuse neighbouring layers, but none with a custom one.
pub enum Op<'a, B: Backend> {
    /// A convolution with weights `[K, C, R, S]` and bias `[K]`, and with a ReLU in the epilogue if `relu` is set.
    Conv2d {
        weight: &'a Param<B>,
        bias: &'a Param<B>,
        window: Window,
        relu: bool,
    },
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
/// parameters, under names within the layer's.
///
/// ```
/// use mlpconv::nn::{Custom, Layer, Module, Op};
/// use mlpconv::{Backend, Result, Shape, Tape, Var};
///
/// /// Half of the rows and columns, each the largest of four pixels, none below zero.
/// struct Halves;
///
/// impl<B: Backend> Module<B> for Halves {
///     fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, B>>) {
///         layers.push(Layer::new(path, "", Op::Custom(self)));
///     }
/// }
///
/// impl<B: Backend> Custom<B> for Halves {
///     fn name(&self) -> String {
///         "Halves".into()
///     }
///
///     fn output(&self, x: Shape) -> Result<Shape> {
///         Ok(Shape::image(x.n(), x.c(), x.h() / 2, x.w() / 2))
///     }
///
///     fn forward(&self, tape: &mut Tape<B>, x: Var<B>) -> Result<Var<B>> {
///         let x = tape.relu(&x)?;
///         tape.maxpool(&x, 2, 2)
///     }
/// }
/// ```
pub trait Custom<B: Backend>: Send + Sync {
    /// The name in summaries and plans.
    fn name(&self) -> String;

    /// The shape of the output for an input of shape `input`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for an input that it cannot take.
    fn output(&self, input: Shape) -> Result<Shape>;

    /// Multiply-adds of a forward pass over an input of shape `input`, for summaries.
    fn macs(&self, _input: Shape) -> usize {
        0
    }

    /// Runs the layer on `x`. The result has the shape that [`Custom::output`] gives. On a device that records steps this is called for
    /// the first two of a kind; from then on the kernels that it has launched are replayed. So what it does may depend on the input's shape
    /// and on whether it trains, a setting that changes belongs in the [name](Custom::name), what it keeps is made by
    /// [`alloc_lasting`](crate::Device::alloc_lasting), and it may not wait for threads that use the device.
    ///
    /// # Errors
    /// As the ops that it runs.
    fn forward(&self, tape: &mut Tape<B>, x: Var<B>) -> Result<Var<B>>;
}
