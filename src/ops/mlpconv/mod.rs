//! The block of a network in network: a convolution and two 1×1 convolutions, a ReLU after each, and the pool that may
//! follow, as one op.
//!
//! Early in a network, where images are large and channels few, the three are bound by memory: they write and read much
//! more than they multiply. A backend that can keeps what is between them to itself ([`MlpConv::fuses`]), and computes it
//! once more on the way back. Elsewhere the block is its three convolutions.

mod composed;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
mod pooled;

use super::Pool;
use super::affine;
use super::chain::{Chain, Params, Wanted};
use super::conv2d::Conv2d;
use super::maxpool::{self, MaxPool};
use super::pointwise::PointwiseShape;
use super::pointwise_pair::{PairShape, PointwisePair};
use crate::device::{Backend, Device, Role};
use crate::shape::{ConvShape, PoolShape};
use crate::tape::{Backward, Grads, Slot, Tape, Var};
use crate::{Error, Result, Shape};

/// The extents of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MlpConvShape {
    /// The first convolution.
    pub conv: ConvShape,
    /// Channels of the second and third convolution's outputs.
    pub k2: usize,
    pub k3: usize,
    /// The max pool of the third convolution's output.
    pub pool: Option<PoolShape>,
}

impl MlpConvShape {
    /// A block on input `x`, with weights `w`, without a pool.
    ///
    /// # Errors
    /// [`Error::Shape`] as by [`ConvShape::new`], and for second and third weights that are not 1×1 or do not fit the
    /// channels.
    pub fn new(x: Shape, w: [Shape; 3], stride: usize, pad: usize) -> Result<Self> {
        let conv = ConvShape::new("mlpconv", x, w[0], stride, pad)?;
        let second = ConvShape::new("mlpconv", conv.output(), w[1], 1, 0)?;
        let third = ConvShape::new("mlpconv", second.output(), w[2], 1, 0)?;
        match [second, third].iter().find(|conv| !conv.is_pointwise()) {
            Some(conv) => Err(Error::shape("mlpconv", format!("needs weights [K, C, 1, 1], got {}", conv.weight()))),
            None => Ok(MlpConvShape { conv, k2: second.k, k3: third.k, pool: None }),
        }
    }

    /// With a max pool at the end.
    ///
    /// # Errors
    /// [`Error::Shape`] as by [`PoolShape::new`].
    pub fn pooled(self, window: usize, stride: usize) -> Result<Self> {
        Ok(MlpConvShape { pool: Some(PoolShape::new("maxpool", self.unpooled(), window, stride)?), ..self })
    }

    /// The third convolution's output.
    pub fn unpooled(&self) -> Shape {
        let ConvShape { n, p, q, .. } = self.conv;
        Shape::image(n, self.k3, p, q)
    }

    /// The block's output.
    pub fn output(&self) -> Shape {
        self.pool.map_or(self.unpooled(), |pool| pool.output())
    }

    /// The second convolution.
    pub fn second(&self) -> PointwiseShape {
        PointwiseShape { m: self.conv.pixels(), c: self.conv.k, k: self.k2 }
    }

    /// The third.
    pub fn third(&self) -> PointwiseShape {
        PointwiseShape { m: self.conv.pixels(), c: self.k2, k: self.k3 }
    }

    /// Both.
    pub fn pair(&self) -> PairShape {
        PairShape { m: self.conv.pixels(), c: self.conv.k, k2: self.k2, k3: self.k3, mean: None }
    }
}

/// The kernels of the block. Provided are those that call its convolutions' and its pool's one after the other: what every
/// other implementation is measured by.
pub trait MlpConv: Conv2d + PointwisePair + MaxPool {
    /// Whether this backend does better for `shape`, its pool included, than the three convolutions on a tape, which keep
    /// what is between them and need not compute it again.
    fn fuses(&self, _shape: &MlpConvShape) -> bool {
        false
    }

    /// `a1 = relu(conv(x, w1) + b1)`, `a2 = relu(a1 · w2 + b2)`, `y = act(a2 · w3 + b3)`, where `act` is ReLU if `relu`;
    /// a1 and a2 are rounded as activations are when they are stored. With a pool y is rounded likewise, and the pool's output
    /// is what goes to `y`, with the positions of the maxima to `index`, if they are wanted.
    #[allow(clippy::too_many_arguments)]
    fn mlpconv_fprop(
        &self,
        shape: &MlpConvShape,
        x: &Self::Buf,
        params: &Params<'_, Self::Buf, 3>,
        relu: bool,
        y: &mut Self::Buf,
        index: Option<&mut Self::Bytes>,
    ) -> Result<()> {
        composed::fprop(self, shape, x, params, relu, y, index)
    }

    /// The gradients that are wanted, from the gradient `dy` of y before its ReLU; with a pool, from that of the pool's output,
    /// and the positions of its maxima. That of x is zeroed where `mask`, the input itself, is not positive.
    #[allow(clippy::too_many_arguments)]
    fn mlpconv_backward(
        &self,
        shape: &MlpConvShape,
        x: &Self::Buf,
        params: &Params<'_, Self::Buf, 3>,
        dy: &Self::Buf,
        index: Option<&Self::Bytes>,
        mask: Option<&Self::Buf>,
        wanted: Wanted<'_, Self::Buf, 3>,
    ) -> Result<()> {
        composed::backward(self, shape, x, params, dy, index, mask, wanted)
    }
}

impl<B: Backend> Tape<B> {
    /// Convolves images `x` with `w1` `[K, C, R, S]`, then pixel by pixel with `w2` and `w3` `[K, C, 1, 1]`, each with a
    /// bias and a ReLU, after the last if `relu` is set. `params` are w1, b1, w2, b2, w3, b3.
    ///
    /// It takes `x` by value, so that in inference it is freed as soon as it has been used.
    ///
    /// # Errors
    /// [`Error::Shape`] where [`MlpConvShape::new`] gives it, or for a bias that does not have an element for each channel.
    pub fn mlpconv(
        &mut self,
        x: Var<B>,
        params: [&Var<B>; 6],
        stride: usize,
        pad: usize,
        relu: bool,
    ) -> Result<Var<B>> {
        self.mlpconv_cropped(x, params, stride, pad, relu, [usize::MAX; 2], None)
    }

    /// [`Tape::mlpconv`] as far as the first `extents` rows and columns of its third convolution's output, and with a
    /// `pool` of that. A first convolution of 1×1 is not cropped: it would have to copy the part of its input that is
    /// read.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn mlpconv_cropped(
        &mut self,
        x: Var<B>,
        params: [&Var<B>; 6],
        stride: usize,
        pad: usize,
        relu: bool,
        [p, q]: [usize; 2],
        pool: Option<Pool>,
    ) -> Result<Var<B>> {
        let [w1, b1, w2, b2, w3, b3] = params;
        let mut shape = MlpConvShape::new(x.shape(), [w1, w2, w3].map(Var::shape), stride, pad)?;
        if !shape.conv.is_pointwise() {
            shape.conv = shape.conv.cropped(p, q);
        }
        let mean = match pool {
            Some(Pool::Max { window, stride }) => {
                shape = shape.pooled(window, stride)?;
                false
            }
            Some(Pool::GlobalAverage) => true,
            None => false,
        };
        for (bias, k) in [(b1, shape.conv.k), (b2, shape.k2), (b3, shape.k3)] {
            affine::require_bias("mlpconv", Some(bias), k)?;
        }
        let chain = Chain::new(x, [w1, w2, w3], [b1, b2, b3]);
        if chain.is_distinct() && self.backend().fuses(&shape) {
            let y = self.fused(shape, chain, relu)?;
            return if mean { self.global_avgpool(&y) } else { Ok(y) };
        }
        let a1 = if shape.conv.is_pointwise() {
            self.pointwise(&chain.x, w1, Some(b1), true)?
        } else {
            self.conv2d_cropped(&chain.x, w1, Some(b1), stride, pad, true, [p, q])?
        };
        drop(chain);
        let Some(Pool::Max { window, stride }) = pool else {
            return self.pointwise_pair(a1, [w2, b2, w3, b3], relu, mean);
        };
        let a2 = self.pointwise(&a1, w2, Some(b2), true)?;
        drop(a1);
        self.pointwise_maxpool(&a2, w3, Some(b3), relu, window, stride)
    }

    fn fused(&mut self, shape: MlpConvShape, chain: Chain<B, 3>, relu: bool) -> Result<Var<B>> {
        let backend = self.backend().clone();
        let (mut y, mut index) = match &shape.pool {
            Some(pool) => {
                let whole = self.unstored(shape.unpooled(), chain.inputs(), relu)?;
                maxpool::outputs(self, pool, whole)?
            }
            None => (backend.alloc(Role::Activation, shape.output().len())?, None),
        };
        backend.mlpconv_fprop(&shape, chain.x.data(), &chain.params(), relu, &mut y, index.as_mut())?;

        let output = self.output(shape.output(), y, chain.inputs(), relu)?;
        self.record(output.slot, || Node { shape, chain, index, y: output.slot });
        Ok(output)
    }
}

struct Node<B: Device> {
    shape: MlpConvShape,
    chain: Chain<B, 3>,
    /// Of the pool, if there is one.
    index: Option<B::Bytes>,
    y: Slot,
}

impl<B: Backend> Backward<B> for Node<B> {
    fn backward(self: Box<Self>, backend: &B, grads: &mut Grads<B>) -> Result<()> {
        let Some(dy) = grads.take(self.y) else { return Ok(()) };
        let Chain { x, .. } = &self.chain;
        let (params, index) = (self.chain.params(), self.index.as_ref());
        let mask = x.slot.relu.then_some(x.data());
        self.chain.gradients(backend, grads, |wanted| {
            backend.mlpconv_backward(&self.shape, x.data(), &params, &dy, index, mask, wanted)
        })
    }
}
