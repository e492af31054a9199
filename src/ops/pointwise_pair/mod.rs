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

use super::affine;
use super::chain::{Chain, Params, Wanted};
use super::global_avgpool::GlobalAvgPool;
use super::pointwise::{Pointwise, PointwiseShape};
use crate::device::{Backend, Device, Role};
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
    pub fn second(&self) -> PointwiseShape {
        PointwiseShape { m: self.m, c: self.c, k: self.k2 }
    }

    /// The third.
    pub fn third(&self) -> PointwiseShape {
        PointwiseShape { m: self.m, c: self.k2, k: self.k3 }
    }

    /// The images whose means are wanted, if they are, each as a column of pixels.
    pub fn averaged(&self) -> Option<Shape> {
        debug_assert!(self.mean.is_none_or(|pixels| pixels > 0 && self.m.is_multiple_of(pixels)), "whole images");
        self.mean.map(|pixels| Shape::image(self.m / pixels, self.k3, pixels, 1))
    }
}

/// The kernels of the pair. Provided are those that call the convolutions' and the average's one after the other.
pub trait PointwisePair: Pointwise + GlobalAvgPool {
    /// Whether this backend does better for `shape`, its mean included, than ops one after the other on a tape, which
    /// keep what is between them.
    fn pointwise_pair_fuses(&self, _shape: &PairShape) -> bool {
        false
    }

    /// `hidden = relu(x · w2 + b2)`, rounded as an activation is when it is stored, and `y = act(hidden · w3 + b3)`, where
    /// `act` is ReLU if `relu`. With a mean y is rounded likewise, and the mean `[m / mean, k3]` is what goes to `y`.
    fn pointwise_pair_fprop(
        &self,
        shape: &PairShape,
        x: &Self::Buf,
        params: &Params<'_, Self::Buf, 2>,
        relu: bool,
        y: &mut Self::Buf,
    ) -> Result<()> {
        composed::fprop(self, shape, x, params, relu, y)
    }

    /// The gradients that are wanted, from the gradient `dy` of y before its ReLU; that of `hidden` is rounded as an
    /// activation's is. That of x is zeroed where x is not positive, if `mask` says so.
    ///
    /// Without a mean `dy` is masked by y's ReLU already, and `relu` is not read. With one, `dy` is the mean's gradient: each
    /// pixel's share of it is rounded as an activation's gradient is, and zeroed where `relu` is set and y, computed
    /// again, is not positive.
    #[allow(clippy::too_many_arguments)]
    fn pointwise_pair_backward(
        &self,
        shape: &PairShape,
        x: &Self::Buf,
        params: &Params<'_, Self::Buf, 2>,
        dy: &Self::Buf,
        relu: bool,
        mask: bool,
        wanted: Wanted<'_, Self::Buf, 2>,
    ) -> Result<()> {
        composed::backward(self, shape, x, params, dy, relu, mask, wanted)
    }
}

impl<B: Backend> Tape<B> {
    /// Mixes the channels of each pixel of `x` `[N, C, H, W]` by w2 `[K, C, 1, 1]`, adds b2 and applies ReLU; then the
    /// same with w3 and b3, and ReLU if `relu` is set. `params` are w2, b2, w3, b3. If `mean` is set, what comes out is
    /// each channel's mean `[N, K, 1, 1]`, as of [`Tape::global_avgpool`].
    ///
    /// It takes `x` by value, so that in inference it is freed as soon as it has been used.
    ///
    /// # Errors
    /// [`Error::Shape`] for weights that are not 1×1 or do not fit the channels, or a bias that does not have an element
    /// for each channel.
    pub fn pointwise_pair(&mut self, x: Var<B>, params: [&Var<B>; 4], relu: bool, mean: bool) -> Result<Var<B>> {
        let [w2, b2, w3, b3] = params;
        let (shape, output) = shapes(x.shape(), [w2, w3].map(Var::shape), mean)?;
        for (bias, k) in [(b2, shape.k2), (b3, shape.k3)] {
            affine::require_bias("pointwise_pair", Some(bias), k)?;
        }
        let (backend, chain) = (self.backend().clone(), Chain::new(x, [w2, w3], [b2, b3]));
        if !(chain.is_distinct() && backend.pointwise_pair_fuses(&shape)) {
            if mean {
                let y = self.pointwise_pair(chain.x, params, relu, false)?;
                return self.global_avgpool(&y);
            }
            let hidden = self.pointwise(&chain.x, w2, Some(b2), true)?;
            drop(chain);
            return self.pointwise(&hidden, w3, Some(b3), relu);
        }
        let mut y = backend.alloc(Role::Activation, output.len())?;
        backend.pointwise_pair_fprop(&shape, &chain.x.data, &chain.params(), relu, &mut y)?;

        let output = self.output(output, y, chain.inputs(), relu && !mean)?;
        self.record(output.slot, || Node { shape, chain, relu, y: output.slot });
        Ok(output)
    }
}

/// The extents, and the output's shape.
fn shapes(x: Shape, w: [Shape; 2], mean: bool) -> Result<(PairShape, Shape)> {
    let second = ConvShape::new("pointwise_pair", x, w[0], 1, 0)?;
    let third = ConvShape::new("pointwise_pair", second.output(), w[1], 1, 0)?;
    match [second, third].iter().find(|conv| !conv.is_pointwise()) {
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
    relu: bool,
    y: Slot,
}

impl<B: Backend> Backward<B> for Node<B> {
    fn backward(self: Box<Self>, backend: &B, grads: &mut Grads<B>) -> Result<()> {
        let Some(dy) = grads.take(self.y) else { return Ok(()) };
        let Node { shape, chain, relu, .. } = &*self;
        let (x, mask) = (chain.x.data(), chain.x.slot.relu);
        chain.gradients(backend, grads, |wanted| {
            backend.pointwise_pair_backward(shape, x, &chain.params(), &dy, *relu, mask, wanted)
        })
    }
}
