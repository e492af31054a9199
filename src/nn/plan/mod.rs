//! The plan of a network: which layers run as one op, and which pixels are computed.
//!
//! It is made once for a shape, from the flat list of a network's layers: forward for the shapes, backward for the rows and
//! columns that are read, and then forward again, at each layer the longest pattern of one table that the backend gains by.
//! It is plain data, and decides speed alone: every op runs on every backend, fused or not. A fused op gives the bits of its
//! layers or stays within the rounding of the values between them, and pixels left out change no other pixel, only the order in
//! which a weight's gradient is summed.

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
use crate::{Backend, Error, Result, Shape};

/// Which pixels a plan computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pixels {
    /// Those that a later layer reads.
    Read,
    /// All, to compare.
    All,
}

/// The plan of a network for inputs of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    input: Shape,
    layers: Vec<Planned>,
    steps: Vec<Step>,
}

/// A layer with its extents.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The layer's name, as in the names of its parameters.
    pub path: String,
    pub kind: Kind,
    /// Shapes of a network all of whose pixels are computed.
    pub input: Shape,
    pub output: Shape,
    /// The part of the output that is computed: so many of its first rows and columns.
    pub live: Shape,
}

/// What a layer does, without its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Conv2d {
        /// `[K, C, R, S]`.
        weight: Shape,
        window: Window,
        relu: bool,
        /// Tells the layer's parameters from others'.
        params: [ParamId; 2],
    },
    MaxPool {
        window: usize,
        stride: usize,
    },
    GlobalAvgPool,
    Relu,
    Dropout(f64),
    Flatten,
    /// By its name.
    Custom(String),
}

/// What runs at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub kernel: Kernel,
    /// The layers that it covers.
    pub layers: Range<usize>,
    /// Longer patterns that fit the layers from here on, and why each was not taken.
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
    /// The op's folder and, where that differs, its kernels' name.
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

    /// The shape of the input of the step that begins at layer `first`.
    pub fn input_of(&self, first: usize) -> Shape {
        first.checked_sub(1).map_or(self.input, |before| self.layers[before].live)
    }

    /// The plan of `layers` for an input of shape `input`, `fuses` being the backend's say ([`Fuse`](crate::ops::fusion::Fuse)).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where a layer cannot take its input.
    pub fn new<B: Backend>(layers: &[Layer<'_, B>], input: Shape, fuses: &dyn Fn(&Fusion) -> Verdict) -> Result<Self> {
        Self::with(layers, input, Pixels::Read, fuses)
    }

    /// [`Plan::new`], with a choice of pixels.
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
            Op::Relu | Op::Dropout(_) => input,
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
    fn of<B: Backend>(op: &Op<'_, B>) -> Self {
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

impl Planned {
    /// The extents of this layer, a convolution, on an input of shape `x`, as far as its output is computed.
    ///
    /// # Errors
    /// [`Error::Shape`] for a layer that is no convolution, or that cannot take such an input.
    fn conv(&self, x: Shape) -> Result<ConvShape> {
        let Kind::Conv2d { weight, window, .. } = self.kind else {
            return Err(Error::shape("plan", format!("layer {} is no convolution", self.path)));
        };
        let whole = ConvShape::new("conv2d", x, weight, window)?;
        Ok(ConvShape { p: self.live.h(), q: self.live.w(), ..whole })
    }
}
