//! The plan of a network: which layers run as one op, and which pixels are computed.
//!
//! A plan is made once for an input shape, from the flat list of a network's layers, in three passes: forward for the
//! shapes; backward for the rows and columns that later layers read; and forward to choose the ops. At each layer it
//! takes the longest pattern of a table that fits and that the backend gains by. A plan is plain data and changes speed
//! alone: every op runs on every backend, fused or not.

mod patterns;
mod pixels;
mod run;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::{Layer, Op};
use crate::ops::fusion::{Fusion, Verdict};
use crate::ops::mlpconv::MlpConvShape;
use crate::ops::pointwise_pair::PairShape;
use crate::shape::{ConvShape, PoolShape, Window};
use crate::tape::ParamId;
use crate::{Backend, Result, Shape};

/// Which pixels a plan computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pixels {
    /// The pixels that a later layer reads.
    Read,
    /// All pixels, for comparisons.
    All,
}

/// The plan of a network for inputs of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub input: Shape,
    /// All layers, in order.
    pub layers: Vec<Planned>,
    /// The ops, in order. Each layer is in exactly one step.
    pub steps: Vec<Step>,
}

/// A layer with its shapes.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The layer's name, the prefix of its parameters' names.
    pub path: String,
    pub kind: Kind,
    /// The input's shape, as if all pixels were computed.
    pub input: Shape,
    /// The output's shape, as if all pixels were computed.
    pub output: Shape,
    /// The shape of the computed part of the output: its first rows and columns.
    pub live: Shape,
}

/// The op of a layer with its settings, without the values of its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Conv2d {
        /// `[K, C, R, S]`.
        weight: Shape,
        window: Window,
        relu: bool,
        /// The identities of weights and bias.
        params: [ParamId; 2],
    },
    MaxPool {
        window: usize,
        stride: usize,
    },
    GlobalAvgPool,
    Relu,
    /// With the probability of dropping an element.
    Dropout(f64),
    Flatten,
    /// A custom layer, with its name.
    Custom(String),
}

/// A step of a plan: one op.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub kernel: Kernel,
    /// The layers that the op covers, as indices into [`Plan::layers`].
    pub layers: Range<usize>,
    /// The longer patterns that fit the layers from the step's first layer on, each with the reason why it was not
    /// taken.
    pub passed_over: Vec<PassedOver>,
}

/// The op of a step, with its extents.
#[derive(Clone, Debug, PartialEq)]
pub enum Kernel {
    Conv2d(ConvShape),
    MaxPool(PoolShape),
    GlobalAvgPool,
    Relu,
    Dropout(f64),
    Flatten,
    Custom,
    MlpConv(MlpConvShape),
    PointwisePair(PairShape),
    PointwiseMaxPool(ConvShape, PoolShape),
}

/// A pattern that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    pub pattern: &'static str,
    pub why: String,
}

impl Kernel {
    /// The op's name: its folder in `src/ops`, and a suffix or another name where the kernels have one (`pointwise`,
    /// `mlpconv_maxpool`).
    pub fn name(&self) -> &'static str {
        match self {
            Kernel::Conv2d(shape) if shape.is_gemm() => "pointwise",
            Kernel::Conv2d(_) => "conv2d",
            Kernel::MaxPool(_) => "maxpool",
            Kernel::GlobalAvgPool => "global_avgpool",
            Kernel::Relu => "relu",
            Kernel::Dropout(_) => "dropout",
            Kernel::Flatten => "flatten",
            Kernel::Custom => "custom",
            Kernel::MlpConv(MlpConvShape { pool: Some(_), .. }) => "mlpconv_maxpool",
            Kernel::MlpConv(_) => "mlpconv",
            Kernel::PointwisePair(PairShape { mean: Some(_), .. }) => "pointwise_pair_mean",
            Kernel::PointwisePair(_) => "pointwise_pair",
            Kernel::PointwiseMaxPool(..) => "pointwise_maxpool",
        }
    }
}

impl Plan {
    /// The plan of `layers` for an input of shape `input`, without dead pixels. `fuses` gives the backend's verdict on
    /// a fusion ([`Fuse`](crate::ops::fusion::Fuse)).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where a layer cannot take its input.
    pub fn new<B: Backend>(layers: &[Layer<'_, B>], input: Shape, fuses: &dyn Fn(&Fusion) -> Verdict) -> Result<Self> {
        Self::with(layers, input, Pixels::Read, fuses)
    }

    /// [`Plan::new`], with a choice of the computed pixels.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn with<B: Backend>(
        layers: &[Layer<'_, B>],
        input: Shape,
        pixels: Pixels,
        fuses: &dyn Fn(&Fusion) -> Verdict,
    ) -> Result<Self> {
        let mut planned = shapes(layers, input)?;
        if pixels == Pixels::Read {
            pixels::crop(&mut planned)?;
        }
        let mut steps = Vec::new();
        let mut next = 0;
        while next < planned.len() {
            let x = if next == 0 { input } else { planned[next - 1].live };
            let step = patterns::step(&planned, next, x, fuses)?;
            next = step.layers.end;
            steps.push(step);
        }
        Ok(Plan { input, layers: planned, steps })
    }
}

/// The forward pass for shapes: each layer with all pixels computed.
fn shapes<B: Backend>(layers: &[Layer<'_, B>], mut input: Shape) -> Result<Vec<Planned>> {
    let mut planned = Vec::with_capacity(layers.len());
    for Layer { path, op } in layers {
        let (kind, output) = match *op {
            Op::Conv2d(conv) => {
                let shape = conv.shape(input)?;
                let params = [conv.weight().id(), conv.bias().id()];
                let kind = Kind::Conv2d { weight: shape.weight(), window: shape.window(), relu: conv.relu(), params };
                (kind, shape.output())
            }
            Op::MaxPool { window, stride } => {
                (Kind::MaxPool { window, stride }, PoolShape::new("maxpool", input, window, stride)?.output())
            }
            Op::GlobalAvgPool => {
                input.require_image("global_avgpool")?;
                (Kind::GlobalAvgPool, input.pooled())
            }
            Op::Relu => (Kind::Relu, input),
            Op::Dropout(probability) => (Kind::Dropout(probability), input),
            Op::Flatten => {
                input.require_image("flatten")?;
                (Kind::Flatten, input.flattened())
            }
            Op::Custom(custom) => (Kind::Custom(custom.name()), custom.output(input)?),
        };
        planned.push(Planned { path: path.clone(), kind, input, output, live: output });
        input = output;
    }
    Ok(planned)
}

impl Planned {
    /// The extents of a convolution with input `x`, cropped to the computed part of its output; `None` for another
    /// layer.
    fn conv(&self, x: Shape) -> Result<Option<ConvShape>> {
        let Kind::Conv2d { weight, window, .. } = self.kind else { return Ok(None) };
        let whole = ConvShape::new("conv2d", x, weight, window)?;
        Ok(Some(ConvShape { p: self.live.h(), q: self.live.w(), ..whole }))
    }
}
