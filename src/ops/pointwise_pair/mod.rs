//! The pointwise pair: two 1×1 convolutions, a ReLU between them, and an optional global average pool, as one op. They
//! are the second and third convolution of an mlpconv block, hence the numbers in names (`w2`, `k3`).
//!
//! A network's last block has as many channels as there are classes. With so few channels a GPU's GEMM computes mostly
//! the padding of its tiles, and its launches cost more than the work. The fused kernel reads and writes each pixel
//! once, and computes the hidden value again in the backward pass. With the average it writes no pixels, only one
//! number for each class of an image.

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

/// The extents of the pair: `m` pixels of the whole batch, from `c` to `k2` to `k3` channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairShape {
    pub m: usize,
    pub c: usize,
    pub k2: usize,
    pub k3: usize,
    /// With a global average pool: the pixels of an image, which divide `m`.
    pub mean: Option<usize>,
}

impl PairShape {
    /// The pair's first convolution, the second of an mlpconv block.
    pub fn second(&self) -> ConvShape {
        ConvShape::pointwise(self.m, self.c, self.k2)
    }

    /// The pair's second convolution, the third of an mlpconv block.
    pub fn third(&self) -> ConvShape {
        ConvShape::pointwise(self.m, self.k2, self.k3)
    }

    /// With a global average pool: its input, each image as a column of pixels, `[m / mean, k3, mean, 1]`.
    pub fn averaged(&self) -> Option<Shape> {
        debug_assert!(self.mean.is_none_or(|pixels| pixels > 0 && self.m.is_multiple_of(pixels)), "whole images");
        self.mean.map(|pixels| Shape::image(self.m / pixels, self.k3, pixels, 1))
    }
}

/// The kernels of the pair. The provided methods run the convolutions and the average pool one after the other.
pub trait PointwisePair: Conv2d + GlobalAvgPool {
    /// `hidden = relu(x · w2 + b2)` `[m, k2]` and `y = act(hidden · w3 + b3)` `[m, k3]`, of `x` `[m, c]`; `act` is ReLU
    /// if `params.relu`. `hidden` is rounded to the activations' type. With a mean, the pixels of y are rounded
    /// likewise, and the buffer `y` takes their means, `[m / mean, k3]`.
    fn pointwise_pair_fprop(
        &self,
        shape: &PairShape,
        x: &Self::Buf,
        params: Params<'_, Self::Buf, 2>,
        y: &mut Self::Buf,
    ) -> Result<()> {
        composed::fprop(self, shape, x, params, y)
    }

    /// The wanted gradients, from the gradient `dy` of the output. The gradient of `hidden` is rounded to the
    /// activations' type.
    ///
    /// Without a mean, `dy` `[m, k3]` is masked by y's ReLU already, and `params.relu` is not read. With a mean, `dy`
    /// `[m / mean, k3]` is the means' gradient: each pixel's share `dy / mean` is rounded to the activations' type. If
    /// `params.relu` is set, y is computed again, and the share is zeroed where y is not positive.
    ///
    /// A mask of dx has to be x itself, which the kernel reads anyway.
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
    /// Two 1×1 convolutions of `x` `[N, C, H, W]`, with weights `[K2, C, 1, 1]` and `[K3, K2, 1, 1]` and biases `[K2]`
    /// and `[K3]`, a ReLU after the first, and one after the second if `params.relu` is set. The output is
    /// `[N, K3, H, W]`, or with `mean` each channel's mean `[N, K3, 1, 1]`, as by [`Tape::global_avgpool`].
    ///
    /// `x` is taken by value, so that inference frees it as soon as the kernel has run.
    ///
    /// # Errors
    /// [`Error::Shape`] for weights that are not 1×1 or do not fit the channels, a bias without one element for each
    /// output channel, or a variable that is given twice.
    pub fn pointwise_pair(&mut self, x: Var<B>, params: Params<'_, Var<B>, 2>, mean: bool) -> Result<Var<B>> {
        let (shape, output) = shapes(x.shape(), params.w.map(Var::shape), mean)?;
        let (backend, relu) = (self.backend().clone(), params.relu);
        let chain = Chain::new("pointwise_pair", x, params, [shape.k2, shape.k3])?;
        let mut y = backend.alloc(Role::Activation, output.len())?;
        backend.pointwise_pair_fprop(&shape, chain.x.data(), chain.params(), &mut y)?;

        let output = self.output("pointwise_pair", output, y, chain.inputs(), relu && !mean)?;
        self.record(output.slot, || Node { shape, chain, y: output.slot });
        Ok(output)
    }
}

/// The pair's extents, and the output's shape.
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
