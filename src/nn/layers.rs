//! Layers: each an op with its settings and parameters.

use super::{LayerSummary, Module, join};
use crate::device::Backend;
use crate::ops::Pool;
use crate::shape::{ConvShape, PoolShape};
use crate::tape::{Param, Tape, Var};
use crate::{Result, Shape};

/// A convolution with bias, and a ReLU after it if asked for. A 1×1 filter at stride 1 without padding runs as the
/// pointwise op.
pub struct Conv2d<B: Backend> {
    weight: Param<B>,
    bias: Param<B>,
    stride: usize,
    pad: usize,
    relu: bool,
}

impl<B: Backend> Conv2d<B> {
    /// A convolution with weights `[K, C, R, S]` and bias `[K]`; shapes that do not fit are errors of the op when it runs.
    pub fn new(weight: Param<B>, bias: Param<B>, stride: usize, pad: usize) -> Self {
        Conv2d { weight, bias, stride, pad, relu: false }
    }

    /// With a ReLU in the epilogue.
    pub fn with_relu(mut self) -> Self {
        self.relu = true;
        self
    }

    pub(super) fn set_relu(&mut self, relu: bool) {
        self.relu = relu;
    }

    pub(super) fn relu(&self) -> bool {
        self.relu
    }

    pub(super) fn stride_and_pad(&self) -> (usize, usize) {
        (self.stride, self.pad)
    }

    /// Weight and bias as variables of `tape`.
    pub(super) fn vars(&self, tape: &mut Tape<B>) -> [Var<B>; 2] {
        [tape.param(&self.weight), tape.param(&self.bias)]
    }

    /// Learns at `multiplier` times the optimiser's rate.
    pub fn with_rate(mut self, multiplier: B::Scalar) -> Self {
        self.weight.rate_multiplier = multiplier;
        self.bias.rate_multiplier = multiplier;
        self
    }

    fn shape(&self, input: Shape) -> Result<ConvShape> {
        ConvShape::new("conv2d", input, self.weight.shape(), self.stride, self.pad)
    }

    /// The rows and columns of its output, for an input of shape `input`, that `reader` reads in the end, where
    /// whatever comes between keeps them as they are.
    pub(super) fn read_by(&self, reader: &dyn Module<B>, input: Shape) -> Result<[usize; 2]> {
        let read = reader.reads(self.shape(input)?.output());
        Ok([read.h(), read.w()])
    }

    /// [`Module::forward`] as far as the first `extents` rows and columns, where that leaves something out.
    fn forward_cropped(&self, tape: &mut Tape<B>, x: Var<B>, extents: [usize; 2]) -> Result<Var<B>> {
        let whole = self.shape(x.shape())?;
        // A 1x1 convolution would first have to copy the part of its input that is read.
        if whole.is_pointwise() || extents == [whole.p, whole.q] {
            return self.forward(tape, x);
        }
        let (w, b) = (tape.param(&self.weight), tape.param(&self.bias));
        tape.conv2d_cropped(&x, &w, Some(&b), self.stride, self.pad, self.relu, extents)
    }
}

impl<B: Backend> Module<B> for Conv2d<B> {
    fn forward(&self, tape: &mut Tape<B>, x: Var<B>) -> Result<Var<B>> {
        let shape = self.shape(x.shape())?;
        let (w, b) = (tape.param(&self.weight), tape.param(&self.bias));
        if shape.is_pointwise() {
            tape.pointwise(&x, &w, Some(&b), self.relu)
        } else {
            tape.conv2d(&x, &w, Some(&b), self.stride, self.pad, self.relu)
        }
    }

    fn forward_for(&self, tape: &mut Tape<B>, x: Var<B>, reader: &dyn Module<B>) -> Result<Var<B>> {
        let extents = self.read_by(reader, x.shape())?;
        self.forward_cropped(tape, x, extents)
    }

    fn describe(&self, path: &str, input: Shape, lines: &mut Vec<LayerSummary>) -> Result<Shape> {
        let shape = self.shape(input)?;
        let mut name = format!("Conv2d {}x{}", shape.r, shape.s);
        for (what, value, usual) in [("/", shape.stride, 1), (" pad ", shape.pad, 0)] {
            if value != usual {
                name += &format!("{what}{value}");
            }
        }
        if self.relu {
            name += " + ReLU";
        }
        lines.push(LayerSummary {
            params: self.weight.shape().len() + self.bias.shape().len(),
            macs: shape.macs(),
            keeps_input: true,
            ..LayerSummary::new(path, name, input, shape.output())
        });
        Ok(shape.output())
    }

    fn params(&self) -> Vec<(String, &Param<B>)> {
        vec![("weight".into(), &self.weight), ("bias".into(), &self.bias)]
    }

    fn params_mut(&mut self) -> Vec<(String, &mut Param<B>)> {
        vec![("weight".into(), &mut self.weight), ("bias".into(), &mut self.bias)]
    }
}

/// Max pooling over `window` × `window` squares, `stride` apart.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool {
    pub window: usize,
    pub stride: usize,
}

impl<B: Backend> Module<B> for MaxPool {
    fn forward(&self, tape: &mut Tape<B>, x: Var<B>) -> Result<Var<B>> {
        tape.maxpool(&x, self.window, self.stride)
    }

    fn as_pool(&self) -> Option<Pool> {
        Some(Pool::Max { window: self.window, stride: self.stride })
    }

    fn reads(&self, input: Shape) -> Shape {
        // Where the pool does not fit, it says so itself when it runs.
        PoolShape::new("maxpool", input, self.window, self.stride).map_or(input, |shape| shape.read())
    }

    fn describe(&self, path: &str, input: Shape, lines: &mut Vec<LayerSummary>) -> Result<Shape> {
        let output = PoolShape::new("maxpool", input, self.window, self.stride)?.output();
        let name = format!("MaxPool {0}x{0}/{1}", self.window, self.stride);
        // The position of each maximum, in one byte.
        lines.push(LayerSummary { kept_bytes: output.len(), ..LayerSummary::new(path, name, input, output) });
        Ok(output)
    }
}

/// The mean of each channel.
#[derive(Clone, Copy, Debug)]
pub struct GlobalAvgPool;

impl<B: Backend> Module<B> for GlobalAvgPool {
    fn forward(&self, tape: &mut Tape<B>, x: Var<B>) -> Result<Var<B>> {
        tape.global_avgpool(&x)
    }

    fn as_pool(&self) -> Option<Pool> {
        Some(Pool::GlobalAverage)
    }

    fn describe(&self, path: &str, input: Shape, lines: &mut Vec<LayerSummary>) -> Result<Shape> {
        input.require_image("global_avgpool")?;
        let output = input.pooled();
        lines.push(LayerSummary::new(path, "GlobalAvgPool".into(), input, output));
        Ok(output)
    }
}

/// ReLU as a layer of its own.
#[derive(Clone, Copy, Debug)]
pub struct Relu;

impl<B: Backend> Module<B> for Relu {
    fn forward(&self, tape: &mut Tape<B>, x: Var<B>) -> Result<Var<B>> {
        tape.relu(&x)
    }

    fn describe(&self, path: &str, input: Shape, lines: &mut Vec<LayerSummary>) -> Result<Shape> {
        lines.push(LayerSummary::new(path, "ReLU".into(), input, input));
        Ok(input)
    }
}

/// Dropout with the given probability of dropping an element.
#[derive(Clone, Copy, Debug)]
pub struct Dropout(pub f64);

impl<B: Backend> Module<B> for Dropout {
    fn forward(&self, tape: &mut Tape<B>, x: Var<B>) -> Result<Var<B>> {
        tape.dropout(&x, self.0)
    }

    fn describe(&self, path: &str, input: Shape, lines: &mut Vec<LayerSummary>) -> Result<Shape> {
        lines.push(LayerSummary::new(path, format!("Dropout {}", self.0), input, input));
        Ok(input)
    }
}

/// Images as rows.
#[derive(Clone, Copy, Debug)]
pub struct Flatten;

impl<B: Backend> Module<B> for Flatten {
    fn forward(&self, tape: &mut Tape<B>, x: Var<B>) -> Result<Var<B>> {
        tape.flatten(&x)
    }

    fn describe(&self, path: &str, input: Shape, lines: &mut Vec<LayerSummary>) -> Result<Shape> {
        input.require_image("flatten")?;
        let output = input.flattened();
        lines.push(LayerSummary::new(path, "Flatten".into(), input, output));
        Ok(output)
    }
}

/// `params`, each under its name within `path`.
pub(super) fn within<P>(path: &str, params: Vec<(String, P)>) -> impl Iterator<Item = (String, P)> + use<P> {
    let path = path.to_owned();
    params.into_iter().map(move |(name, param)| (join(&path, &name), param))
}
