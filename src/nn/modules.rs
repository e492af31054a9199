//! Modules of a single layer: an op with its settings and parameters.

use super::{Layer, Module, Op};
use crate::Backend;
use crate::shape::Window;
use crate::tape::Param;

/// A convolution with bias, and with a ReLU if [`Conv2d::with_relu`] is called.
pub struct Conv2d<B: Backend> {
    weight: Param<B>,
    bias: Param<B>,
    window: Window,
    relu: bool,
}

impl<B: Backend> Conv2d<B> {
    /// A convolution with weights `[K, C, R, S]` and bias `[K]`. Shapes are checked when a plan is made.
    pub fn new(weight: Param<B>, bias: Param<B>, window: Window) -> Self {
        Conv2d { weight, bias, window, relu: false }
    }

    /// Adds a ReLU in the epilogue.
    pub fn with_relu(mut self) -> Self {
        self.relu = true;
        self
    }

    pub(super) fn set_relu(&mut self, relu: bool) {
        self.relu = relu;
    }

    /// The weights, `[K, C, R, S]`, in memory KRSC.
    pub fn weight(&self) -> &Param<B> {
        &self.weight
    }

    /// The bias, `[K]`.
    pub fn bias(&self) -> &Param<B> {
        &self.bias
    }
}

impl<B: Backend> Module<B> for Conv2d<B> {
    fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, B>>) {
        let Conv2d { weight, bias, window, relu } = self;
        layers.push(Layer::new(path, "", Op::Conv2d { weight, bias, window: *window, relu: *relu }));
    }

    fn params(&self) -> Vec<(String, &Param<B>)> {
        vec![("weight".into(), &self.weight), ("bias".into(), &self.bias)]
    }

    fn params_mut(&mut self) -> Vec<(String, &mut Param<B>)> {
        vec![("weight".into(), &mut self.weight), ("bias".into(), &mut self.bias)]
    }
}

/// Max pooling over `window` × `window` squares, `stride` pixels apart, in floor mode.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool {
    pub window: usize,
    pub stride: usize,
}

impl<B: Backend> Module<B> for MaxPool {
    fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, B>>) {
        let MaxPool { window, stride } = *self;
        layers.push(Layer::new(path, "", Op::MaxPool { window, stride }));
    }
}

/// Global average pooling: the mean of each channel, `[N, C, H, W]` to `[N, C, 1, 1]`.
#[derive(Clone, Copy, Debug)]
pub struct GlobalAvgPool;

impl<B: Backend> Module<B> for GlobalAvgPool {
    fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, B>>) {
        layers.push(Layer::new(path, "", Op::GlobalAvgPool));
    }
}

/// ReLU as a separate layer.
#[derive(Clone, Copy, Debug)]
pub struct Relu;

impl<B: Backend> Module<B> for Relu {
    fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, B>>) {
        layers.push(Layer::new(path, "", Op::Relu));
    }
}

/// Dropout with the given probability of dropping an element.
#[derive(Clone, Copy, Debug)]
pub struct Dropout(pub f64);

impl<B: Backend> Module<B> for Dropout {
    fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, B>>) {
        layers.push(Layer::new(path, "", Op::Dropout(self.0)));
    }
}

/// Flatten: images `[N, C, H, W]` to rows `[N, C·H·W]`.
#[derive(Clone, Copy, Debug)]
pub struct Flatten;

impl<B: Backend> Module<B> for Flatten {
    fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, B>>) {
        layers.push(Layer::new(path, "", Op::Flatten));
    }
}
