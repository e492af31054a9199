//! The plan of a network: which layers run as one op, and which pixels are computed.
//!
//! A plan is made once for an input shape, from the flat list of a network's layers, in three passes: forward for the
//! shapes; backward for the rows and columns that later layers read; and forward to choose the ops. At each layer it
//! takes the longest pattern of a table that fits and that the backend gains by.
//!
//! A plan is plain data and is about speed: every op runs on every backend, fused or not. A fused op gives the bits of its
//! layers, or stays within the rounding of the values between them. Pixels that are left out change no other pixel, only
//! the order in which a weight's gradient is summed.

mod patterns;
mod pixels;
mod run;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::{Layer, Op};
use crate::ops::dropout::require_probability;
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
    input: Shape,
    layers: Vec<Planned>,
    steps: Vec<Step>,
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
    /// The shape of the input.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// All layers, in order.
    pub fn layers(&self) -> &[Planned] {
        &self.layers
    }

    /// What runs, in order. Each layer is in one step.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether the plan was made of such layers: of the same kinds, settings and parameters.
    pub fn fits<B: Backend>(&self, layers: &[Layer<'_, B>]) -> bool {
        let same = |(layer, planned): (&Layer<'_, B>, &Planned)| Kind::of(&layer.op) == planned.kind;
        layers.len() == self.layers.len() && layers.iter().zip(&self.layers).all(same)
    }

    /// The shape of the input of layer `first`, of which only the computed part is there. Beyond the last layer it is the
    /// network's output.
    pub fn input_of(&self, first: usize) -> Shape {
        self.layers.iter().take(first).next_back().map_or(self.input, |before| before.live)
    }

    /// The plan of `layers` for an input of shape `input`, without dead pixels. `fuses` gives the backend's verdict on
    /// a fusion ([`Fuse`](crate::ops::fusion::Fuse)).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where a layer cannot take its input, [`Error::Config`](crate::Error::Config) for a
    /// probability of dropout out of its range.
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
        let mut plan = Plan { input, layers: planned, steps: Vec::new() };
        let mut next = 0;
        while next < plan.layers.len() {
            let step = patterns::step(&plan.layers, next, plan.input_of(next), fuses)?;
            next = step.layers.end;
            plan.steps.push(step);
        }
        Ok(plan)
    }
}

/// Forward: each layer with its shapes, all pixels computed.
pub(super) fn shapes<B: Backend>(layers: &[Layer<'_, B>], mut input: Shape) -> Result<Vec<Planned>> {
    let mut planned = Vec::with_capacity(layers.len());
    for Layer { path, op } in layers {
        let output = match *op {
            Op::Conv2d { weight, window, .. } => ConvShape::new("conv2d", input, weight.shape(), window)?.output(),
            Op::MaxPool { window, stride } => PoolShape::new("maxpool", input, window, stride)?.output(),
            Op::GlobalAvgPool => {
                input.require_image("global_avgpool")?;
                input.pooled()
            }
            Op::Relu => input,
            Op::Dropout(probability) => {
                require_probability(probability)?;
                input
            }
            Op::Flatten => {
                input.require_image("flatten")?;
                input.flattened()
            }
            Op::Custom(custom) => custom.output(input)?,
        };
        planned.push(Planned { path: path.clone(), kind: Kind::of(op), input, output, live: output });
        input = output;
    }
    Ok(planned)
}

impl Kind {
    pub(crate) fn of<B: Backend>(op: &Op<'_, B>) -> Self {
        match *op {
            Op::Conv2d { weight, bias, window, relu } => {
                Kind::Conv2d { weight: weight.shape(), window, relu, params: [weight.id(), bias.id()] }
            }
            Op::MaxPool { window, stride } => Kind::MaxPool { window, stride },
            Op::GlobalAvgPool => Kind::GlobalAvgPool,
            Op::Relu => Kind::Relu,
            Op::Dropout(probability) => Kind::Dropout(probability),
            Op::Flatten => Kind::Flatten,
            Op::Custom(custom) => Kind::Custom(custom.name()),
        }
    }
}
