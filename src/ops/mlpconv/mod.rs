//! The mlpconv block of a network in network, as one op: a convolution and two 1×1 convolutions, a ReLU after each, and
//! an optional max pool.
//!
//! Early in a network images are large and channels few, so the three convolutions are bound by memory traffic. A fused
//! kernel does not store the values between them, and computes them again in the backward pass. Where a backend has no
//! fused kernel, the block runs as its convolutions and its pool.

#[cfg(feature = "cuda")]
mod bands;
mod composed;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use super::chain::{Chain, ChainWanted, Params};
use super::conv2d::Conv2d;
use super::maxpool::{self, MaxPool};
use super::pointwise_maxpool::PointwiseMaxPool;
use super::pointwise_pair::{PairShape, PointwisePair};
use crate::device::{Device, Role};
use crate::shape::{ConvShape, PoolShape, Window};
use crate::tape::{Backward, Grads, Slot, Tape, Var};
use crate::{Error, Result, Shape};

/// The extents of the block: input `[n, c, h, w]`, output of the convolutions `[n, k3, p, q]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MlpConvShape {
    /// The first convolution.
    pub conv: ConvShape,
    /// Output channels of the second convolution.
    pub k2: usize,
    /// Output channels of the third convolution.
    pub k3: usize,
    /// The max pool of the third convolution's output.
    pub pool: Option<PoolShape>,
}

impl MlpConvShape {
    /// The block without a pool, for input `x` and the weights `w` of its convolutions.
    ///
    /// # Errors
    /// [`Error::Shape`] as by [`ConvShape::new`], and for second or third weights that are not 1×1.
    pub fn new(x: Shape, w: [Shape; 3], window: Window) -> Result<Self> {
        let conv = ConvShape::new("mlpconv", x, w[0], window)?;
        let second = ConvShape::new("mlpconv", conv.output(), w[1], Window::default())?;
        let third = ConvShape::new("mlpconv", second.output(), w[2], Window::default())?;
        match [second, third].iter().find(|conv| !conv.is_gemm()) {
            Some(conv) => Err(Error::shape("mlpconv", format!("needs weights [K, C, 1, 1], got {}", conv.weight()))),
            None => Ok(MlpConvShape { conv, k2: second.k, k3: third.k, pool: None }),
        }
    }

    /// The block with a max pool at the end.
    ///
    /// # Errors
    /// [`Error::Shape`] as by [`PoolShape::new`].
    pub fn pooled(self, window: usize, stride: usize) -> Result<Self> {
        Ok(MlpConvShape { pool: Some(PoolShape::new("maxpool", self.unpooled(), window, stride)?), ..self })
    }

    /// The third convolution's output, `[n, k3, p, q]`.
    pub fn unpooled(&self) -> Shape {
        let ConvShape { n, p, q, .. } = self.conv;
        Shape::image(n, self.k3, p, q)
    }

    /// The block's output: the pool's if there is one, else the third convolution's.
    pub fn output(&self) -> Shape {
        self.pool.map_or(self.unpooled(), |pool| pool.output())
    }

    /// The extents of the second convolution.
    pub fn second(&self) -> ConvShape {
        let ConvShape { n, k, p, q, .. } = self.conv;
        ConvShape { n, h: p, w: q, c: k, k: self.k2, r: 1, s: 1, p, q, stride: 1, pad: 0 }
    }

    /// The extents of the third convolution.
    pub fn third(&self) -> ConvShape {
        ConvShape { c: self.k2, k: self.k3, ..self.second() }
    }

    /// The second and third convolution as a pair.
    pub fn pair(&self) -> PairShape {
        PairShape { m: self.conv.pixels(), c: self.conv.k, k2: self.k2, k3: self.k3, mean: None }
    }
}

/// The kernels of the block. The provided methods run its convolutions and its pool one after the other; they are the
/// reference for every other implementation.
pub trait MlpConv: Conv2d + PointwisePair + PointwiseMaxPool + MaxPool {
    /// `a1 = relu(conv(x, w1) + b1)`, `a2 = relu(a1 · w2 + b2)`, `y = act(a2 · w3 + b3)`; `act` is ReLU if
    /// `params.relu`. a1 and a2 are rounded to the activations' type. With a pool, y is rounded likewise; the buffer
    /// `y` takes the pool's output, and `index`, if wanted, the positions of the maxima (as
    /// [`MaxPool::maxpool_fprop`]).
    fn mlpconv_fprop(
        &self,
        shape: &MlpConvShape,
        x: &Self::Buf,
        params: Params<'_, Self::Buf, 3>,
        y: &mut Self::Buf,
        index: Option<&mut Self::Bytes>,
    ) -> Result<()> {
        composed::fprop(self, shape, x, params, y, index)
    }

    /// The wanted gradients, from the masked gradient `dy` of the block's output. With a pool, `dy` is the gradient of
    /// the pool's output, and `index` holds the positions of its maxima.
    ///
    /// # Errors
    /// [`Error::Shape`] for a pool without `index`.
    fn mlpconv_backward(
        &self,
        shape: &MlpConvShape,
        x: &Self::Buf,
        params: Params<'_, Self::Buf, 3>,
        dy: &Self::Buf,
        index: Option<&Self::Bytes>,
        wanted: ChainWanted<'_, Self::Buf, 3>,
    ) -> Result<()> {
        composed::backward(self, shape, x, params, dy, index, wanted)
    }
}

impl<B: MlpConv> Tape<B> {
    /// Three convolutions of `x` `[N, C, H, W]`, with weights `[K1, C, R, S]`, `[K2, K1, 1, 1]` and `[K3, K2, 1, 1]`
    /// and biases `[K1]`, `[K2]` and `[K3]`; a ReLU after the first two, and after the third if `params.relu` is set.
    /// The output is `[N, K3, P, Q]`.
    ///
    /// `x` is taken by value, so that inference frees it as soon as the kernel has run. The backward pass computes the
    /// values between the convolutions again.
    ///
    /// # Errors
    /// [`Error::Shape`] where [`MlpConvShape::new`] gives it, for a bias without one element for each output channel,
    /// or for a variable that is given twice.
    pub fn mlpconv(&mut self, x: Var<B>, params: Params<'_, Var<B>, 3>, window: Window) -> Result<Var<B>> {
        let shape = MlpConvShape::new(x.shape(), params.w.map(Var::shape), window)?;
        self.mlpconv_of(shape, x, params)
    }

    /// [`Tape::mlpconv`] with the extents `shape`, which fit `x` and the weights: cropped to its rows and columns, and
    /// with its pool.
    pub(crate) fn mlpconv_of(
        &mut self,
        shape: MlpConvShape,
        x: Var<B>,
        params: Params<'_, Var<B>, 3>,
    ) -> Result<Var<B>> {
        let (backend, relu) = (self.backend().clone(), params.relu);
        let chain = Chain::new("mlpconv", x, params, [shape.conv.k, shape.k2, shape.k3])?;
        let (mut y, mut index) = match &shape.pool {
            Some(pool) => {
                let whole = self.unstored("mlpconv", shape.unpooled(), chain.inputs(), relu)?;
                maxpool::outputs(self, pool, whole)?
            }
            None => (backend.alloc(Role::Activation, shape.output().len())?, None),
        };
        backend.mlpconv_fprop(&shape, chain.x.data(), chain.params(), &mut y, index.as_mut())?;

        let output = self.output("mlpconv", shape.output(), y, chain.inputs(), relu)?;
        self.record(output.slot, || Node { shape, chain, index, y: output.slot });
        Ok(output)
    }
}

struct Node<B: Device> {
    shape: MlpConvShape,
    chain: Chain<B, 3>,
    /// The positions of the pool's maxima, if there is a pool.
    index: Option<B::Bytes>,
    y: Slot,
}

impl<B: MlpConv> Backward<B> for Node<B> {
    fn backward(self: Box<Self>, backend: &B, grads: &mut Grads<B>) -> Result<()> {
        let Some(dy) = grads.take(self.y) else { return Ok(()) };
        let Node { shape, chain, index, .. } = &*self;
        chain.gradients(grads, |wanted| {
            backend.mlpconv_backward(shape, chain.x.data(), chain.params(), &dy, index.as_ref(), wanted)
        })
    }
}
