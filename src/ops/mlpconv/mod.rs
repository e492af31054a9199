//! The block of a network in network: a convolution and two 1×1 convolutions, a ReLU after each, and the pool that may
//! follow, as one op.
//!
//! Early in a network, where images are large and channels few, the three are bound by memory: they write and read much
//! more than they multiply. A backend with a kernel for the block keeps what is between them to itself, and computes it
//! once more on the way back. Elsewhere the block is its three convolutions.

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
    pub fn new(x: Shape, w: [Shape; 3], window: Window) -> Result<Self> {
        let conv = ConvShape::new("mlpconv", x, w[0], window)?;
        let second = ConvShape::new("mlpconv", conv.output(), w[1], Window::default())?;
        let third = ConvShape::new("mlpconv", second.output(), w[2], Window::default())?;
        match [second, third].iter().find(|conv| !conv.is_gemm()) {
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
    pub fn second(&self) -> ConvShape {
        let ConvShape { n, k, p, q, .. } = self.conv;
        ConvShape { n, h: p, w: q, c: k, k: self.k2, r: 1, s: 1, p, q, stride: 1, pad: 0 }
    }

    /// The third.
    pub fn third(&self) -> ConvShape {
        ConvShape { c: self.k2, k: self.k3, ..self.second() }
    }

    /// Both.
    pub fn pair(&self) -> PairShape {
        PairShape { m: self.conv.pixels(), c: self.conv.k, k2: self.k2, k3: self.k3, mean: None }
    }
}

/// The kernels of the block. Provided are those that call its convolutions' and its pool's one after the other, which every
/// other implementation is measured by.
pub trait MlpConv: Conv2d + PointwisePair + PointwiseMaxPool + MaxPool {
    /// `a1 = relu(conv(x, w1) + b1)`, `a2 = relu(a1 · w2 + b2)`, `y = act(a2 · w3 + b3)`; `act` is ReLU if `params.relu`.
    /// a1 and a2 are rounded as activations are when they are stored. With a pool y is rounded likewise, and the pool's output
    /// is what goes to `y`, with the positions of the maxima to `index`, if they are wanted.
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

    /// The gradients that are wanted, from the gradient `dy` of y before its ReLU; with a pool, from that of the pool's output,
    /// and the positions of its maxima.
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
    /// Convolves images `x` with the first weights `[K, C, R, S]`, then pixel by pixel with the second and third
    /// `[K, C, 1, 1]`, each with a bias and a ReLU, after the last if `params.relu` is set.
    ///
    /// It takes `x` by value, so that in inference it is freed as soon as it has been used. What is between the
    /// convolutions is computed again on the way back.
    ///
    /// # Errors
    /// [`Error::Shape`] where [`MlpConvShape::new`] gives it, for a bias that does not have an element for each channel, or
    /// for a variable that is given twice.
    pub fn mlpconv(&mut self, x: Var<B>, params: Params<'_, Var<B>, 3>, window: Window) -> Result<Var<B>> {
        let shape = MlpConvShape::new(x.shape(), params.w.map(Var::shape), window)?;
        self.mlpconv_of(shape, x, params)
    }

    /// [`Tape::mlpconv`] for extents that fit `x` and the weights: those rows and columns that `shape` has, and its pool.
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
                let whole = self.unstored(shape.unpooled(), chain.inputs(), relu)?;
                maxpool::outputs(self, pool, whole)?
            }
            None => (backend.alloc(Role::Activation, shape.output().len())?, None),
        };
        backend.mlpconv_fprop(&shape, chain.x.data(), chain.params(), &mut y, index.as_mut())?;

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

impl<B: MlpConv> Backward<B> for Node<B> {
    fn backward(self: Box<Self>, backend: &B, grads: &mut Grads<B>) -> Result<()> {
        let Some(dy) = grads.take(self.y) else { return Ok(()) };
        let Node { shape, chain, index, .. } = &*self;
        chain.gradients(grads, |wanted| {
            backend.mlpconv_backward(shape, chain.x.data(), chain.params(), &dy, index.as_ref(), wanted)
        })
    }
}
