//! The rules for initial values, and the builder that makes initialised layers.

use rand::RngExt;

use super::{Conv2d, NinBlock};
use crate::Backend;
use crate::device::Real;
use crate::rng::{Purpose, Stream};
use crate::shape::Window;
use crate::system::allocation::reserve;
use crate::tape::Param;
use crate::{Result, Shape};

/// The rule for a parameter's initial values. `fan_in` is the number of inputs of one output (r·s·c), `fan_out` the
/// number of outputs of one input (r·s·k). A bias has the fans of its convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    Zeros,
    /// Uniform within ±√(6 / (fan_in + fan_out)): Glorot and Bengio, "Understanding the difficulty of training deep
    /// feedforward neural networks", 2010. d2l's choice for weights.
    Xavier,
    /// Uniform within ±√(6 / fan_in), for layers with ReLU: He et al., "Delving deep into rectifiers", 2015.
    He,
    /// Uniform within ±√(1 / fan_in): PyTorch's rule for the biases of a convolution.
    FanIn,
}

impl Init {
    /// The largest absolute value.
    fn bound(self, fan_in: [usize; 3], fan_out: [usize; 3]) -> f64 {
        let [fan_in, fan_out] =
            [fan_in, fan_out].map(|extents| extents.map(|extent| extent as f64).iter().product::<f64>());
        match self {
            Init::Zeros => 0.0,
            Init::Xavier => (6.0 / (fan_in + fan_out)).sqrt(),
            Init::He => (6.0 / fan_in).sqrt(),
            Init::FanIn => (1.0 / fan_in).sqrt(),
        }
    }
}

/// Output channels of an mlpconv block's convolutions, one of a filter and then the 1×1 convolutions: `96.into()` for the
/// paper's three, all equal, `[192, 160, 96].into()`, or as many as there are numbers: `[96].into()` has no 1×1 convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Widths(Vec<usize>);

impl From<usize> for Widths {
    fn from(width: usize) -> Self {
        [width; 3].into()
    }
}

impl<const N: usize> From<[usize; N]> for Widths {
    fn from(widths: [usize; N]) -> Self {
        widths.to_vec().into()
    }
}

impl From<Vec<usize>> for Widths {
    fn from(widths: Vec<usize>) -> Self {
        Widths(widths)
    }
}

/// A builder of layers with initialised parameters. Each parameter draws from its own stream of random numbers, so its
/// values depend only on the seed and on how many parameters the builder made before it.
pub struct Builder<B: Backend> {
    backend: B,
    weight: Init,
    bias: Init,
    seed: u64,
    made: u32,
}

impl<B: Backend> Builder<B> {
    /// A builder with rule `weight` for weights; biases are zero.
    pub fn new(backend: &B, weight: Init, seed: u64) -> Self {
        Builder { backend: backend.clone(), weight, bias: Init::Zeros, seed, made: 0 }
    }

    /// Sets the rule for biases.
    pub fn with_bias(mut self, bias: Init) -> Self {
        self.bias = bias;
        self
    }

    /// A convolution from `inputs` to `outputs` channels with a square filter of `filter` × `filter` pixels and a bias,
    /// without a ReLU.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for no channels, an empty filter, a stride of 0, or weights that no memory
    /// holds.
    pub fn conv2d(
        &mut self,
        inputs: usize,
        outputs: usize,
        filter: usize,
        stride: usize,
        pad: usize,
    ) -> Result<Conv2d<B>> {
        let shape = Shape::weight(outputs, inputs, filter, filter);
        if shape.is_empty() || stride == 0 {
            let problem = format!("cannot have weights {shape} and stride {stride}");
            return Err(crate::Error::shape("conv2d", problem));
        }
        let weight = self.param(shape, self.weight, shape)?;
        let bias = self.param(Shape::vector(outputs), self.bias, shape)?;
        Ok(Conv2d::new(weight, bias, Window { stride, pad }))
    }

    /// The paper's mlpconv layer: a convolution and 1×1 convolutions, two in the paper, a ReLU after each. `outputs` has the
    /// channels of each convolution, see [`Widths`]; `filter`, `stride` and `pad` are the first convolution's.
    ///
    /// # Errors
    /// As [`Builder::conv2d`]; [`Error::Shape`](crate::Error::Shape) for no convolution.
    pub fn nin_block(
        &mut self,
        inputs: usize,
        outputs: impl Into<Widths>,
        filter: usize,
        stride: usize,
        pad: usize,
    ) -> Result<NinBlock<B>> {
        let Widths(outputs) = outputs.into();
        let Some((&first, pointwise)) = outputs.split_first() else {
            return Err(crate::Error::shape("nin_block", "needs the channels of one convolution at least"));
        };
        let mut convs = vec![self.conv2d(inputs, first, filter, stride, pad)?];
        let mut inputs = first;
        for &outputs in pointwise {
            convs.push(self.conv2d(inputs, outputs, 1, 1, 0)?);
            inputs = outputs;
        }
        Ok(NinBlock::new(convs))
    }

    /// A parameter of shape `shape`, of a convolution with weights of shape `conv`.
    fn param(&mut self, shape: Shape, init: Init, conv: Shape) -> Result<Param<B>> {
        let &[k, c, r, s] = conv.dims() else { unreachable!("weights have rank 4") };
        let bound = init.bound([c, r, s], [k, r, s]);
        let mut rng = Stream::new(self.seed, Purpose::Init { index: self.made }, 0, 0).rng();
        self.made += 1;
        // Uniform in [-1, 1), in steps of 2^-23. The product with the bound is computed in f64 and rounded to the
        // scalar.
        let mut uniform = || f64::from(rng.random::<u32>() >> 8) / f64::from(1u32 << 23) - 1.0;
        let mut values = Vec::new();
        reserve(&mut values, shape.len()).map_err(|_| {
            let bytes = shape.len().saturating_mul(size_of::<B::Scalar>());
            crate::Error::shape(
                "conv2d",
                format!("no memory for a parameter {shape} of {bytes} bytes; make it smaller"),
            )
        })?;
        values.extend((0..shape.len()).map(|_| B::Scalar::from_f64(bound * uniform())));
        Param::new(&self.backend, shape, &values)
    }
}
