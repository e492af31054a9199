//! Two 1×1 convolutions, a ReLU between them, and the global average that may follow, as one op: what comes after the
//! first convolution of a network in network's block, which gives the layers their numbers.
//!
//! A network's last block has as many channels as there are classes. With so few a GPU's GEMM computes little but the
//! padding of its tiles, and its launches cost more than the work; a kernel that takes both layers at once reads and
//! writes each pixel once, and computes the value between them again on the way back. With the average it writes no
//! pixels, only a number for each class of an image.

mod composed;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use super::chain::{Chain, ChainWanted, Params};
use super::conv2d::Conv2d;
use super::global_avgpool::GlobalAvgPool;
use crate::device::{Device, Role};
use crate::shape::ConvShape;
use crate::tape::{Backward, Grads, Slot, Tape, Var};
use crate::{Error, Result, Shape};

/// The extents of the pair: `m` pixels, from `c` to `k2` to `k3` channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairShape {
    pub m: usize,
    pub c: usize,
    pub k2: usize,
    pub k3: usize,
    /// Pixels of an image, of which `m` is a multiple, if all that is wanted of y is each image's mean over its pixels.
    pub mean: Option<usize>,
}

impl PairShape {
    /// The second layer of a block, the first of the pair.
    pub fn second(&self) -> ConvShape {
        ConvShape::pointwise(self.m, self.c, self.k2)
    }

    /// The third.
    pub fn third(&self) -> ConvShape {
        ConvShape::pointwise(self.m, self.k2, self.k3)
    }

    /// The images whose means are wanted, if they are, each as a column of pixels.
    pub fn averaged(&self) -> Option<Shape> {
        debug_assert!(self.mean.is_none_or(|pixels| pixels > 0 && self.m.is_multiple_of(pixels)), "whole images");
        self.mean.map(|pixels| Shape::image(self.m / pixels, self.k3, pixels, 1))
    }
}

/// The kernels of the pair. Provided are those that call the convolutions' and the average's one after the other.
pub trait PointwisePair: Conv2d + GlobalAvgPool {
    /// `hidden = relu(x · w2 + b2)`, rounded as an activation is when it is stored, and `y = act(hidden · w3 + b3)`; `act` is
    /// ReLU if `params.relu`. With a mean y is rounded likewise, and the mean `[m / mean, k3]` is what goes to `y`.
    fn pointwise_pair_fprop(
        &self,
        shape: &PairShape,
        x: &Self::Buf,
        params: Params<'_, Self::Buf, 2>,
        y: &mut Self::Buf,
    ) -> Result<()> {
        composed::fprop(self, shape, x, params, y)
    }

    /// The gradients that are wanted, from the gradient `dy` of y before its ReLU; that of `hidden` is rounded as an
    /// activation's is.
    ///
    /// Without a mean `dy` is masked by y's ReLU already, and `params.relu` is not read. With one, `dy` is the mean's gradient:
    /// each pixel's share of it is rounded as an activation's gradient is, and zeroed where `params.relu` is set and y,
    /// computed again, is not positive.
    fn pointwise_pair_backward(
        &self,
        shape: &PairShape,
        x: &Self::Buf,
        params: Params<'_, Self::Buf, 2>,
        dy: &Self::Buf,
        wanted: ChainWanted<'_, Self::Buf, 2>,
    ) -> Result<()> {
        composed::backward(self, shape, x, params, dy, wanted)
    }
}

impl<B: PointwisePair> Tape<B> {
    /// Mixes the channels of each pixel of `x` `[N, C, H, W]` by the first weights `[K, C, 1, 1]`, adds the first bias and
    /// applies ReLU; then the same with the second ones, and ReLU if `params.relu` is set. If `mean` is set, the output is
    /// each channel's mean `[N, K, 1, 1]`, as of [`Tape::global_avgpool`].
    ///
    /// It takes `x` by value, so that in inference it is freed as soon as it has been used.
    ///
    /// # Errors
    /// [`Error::Shape`] for weights that are not 1×1 or do not fit the channels, a bias that does not have an element for
    /// each channel, or a variable that is given twice.
    pub fn pointwise_pair(&mut self, x: Var<B>, params: Params<'_, Var<B>, 2>, mean: bool) -> Result<Var<B>> {
        let (shape, output) = shapes(x.shape(), params.w.map(Var::shape), mean)?;
        let (backend, relu) = (self.backend().clone(), params.relu);
        let chain = Chain::new("pointwise_pair", x, params, [shape.k2, shape.k3])?;
        let mut y = backend.alloc(Role::Activation, output.len())?;
        backend.pointwise_pair_fprop(&shape, chain.x.data(), chain.params(), &mut y)?;

        let output = self.output(output, y, chain.inputs(), relu && !mean)?;
        self.record(output.slot, || Node { shape, chain, y: output.slot });
        Ok(output)
    }
}

/// The extents, and the output's shape.
fn shapes(x: Shape, w: [Shape; 2], mean: bool) -> Result<(PairShape, Shape)> {
    let second = ConvShape::new("pointwise_pair", x, w[0], Default::default())?;
    let third = ConvShape::new("pointwise_pair", second.output(), w[1], Default::default())?;
    match [second, third].iter().find(|conv| !conv.is_gemm()) {
        Some(conv) => Err(Error::shape("pointwise_pair", format!("needs weights [K, C, 1, 1], got {}", conv.weight()))),
        None => {
            let (whole, pixels) = (third.output(), mean.then_some(x.h() * x.w()));
            let shape = PairShape { m: second.pixels(), c: second.c, k2: second.k, k3: third.k, mean: pixels };
            Ok((shape, if mean { whole.pooled() } else { whole }))
        }
    }
}

struct Node<B: Device> {
    shape: PairShape,
    chain: Chain<B, 2>,
    y: Slot,
}

impl<B: PointwisePair> Backward<B> for Node<B> {
    fn backward(self: Box<Self>, backend: &B, grads: &mut Grads<B>) -> Result<()> {
        let Some(dy) = grads.take(self.y) else { return Ok(()) };
        let Node { shape, chain, .. } = &*self;
        chain.gradients(grads, |wanted| {
            backend.pointwise_pair_backward(shape, chain.x.data(), chain.params(), &dy, wanted)
        })
    }
}
