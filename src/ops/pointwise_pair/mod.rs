//! Two 1×1 convolutions, a ReLU between them, as one op: what follows the first convolution of a network in network's
//! block, which gives the layers their numbers.
//!
//! A network's last block has as many channels as there are classes. With so few a GPU's GEMM computes little but the
//! padding of its tiles, and its launches cost more than the work; a kernel that takes both layers at once reads and
//! writes each pixel once, and computes the value between them again on the way back.

mod composed;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use super::affine;
use super::chain::{Chain, Params, Wanted};
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
}

/// The kernels of the pair. Provided are those that call the convolutions' one after the other.
pub trait PointwisePair: Pointwise {
    /// Whether this backend does better for `shape` than the two convolutions on a tape, which keep what is between them.
    fn pointwise_pair_fuses(&self, _shape: &PairShape) -> bool {
        false
    }

    /// `hidden = relu(x · w2 + b2)`, rounded as an activation is when it is stored, and `y = act(hidden · w3 + b3)`, where
    /// `act` is ReLU if `relu`.
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
    fn pointwise_pair_backward(
        &self,
        shape: &PairShape,
        x: &Self::Buf,
        params: &Params<'_, Self::Buf, 2>,
        dy: &Self::Buf,
        mask: bool,
        wanted: Wanted<'_, Self::Buf, 2>,
    ) -> Result<()> {
        composed::backward(self, shape, x, params, dy, mask, wanted)
    }
}

impl<B: Backend> Tape<B> {
    /// Mixes the channels of each pixel of `x` `[N, C, H, W]` by w2 `[K, C, 1, 1]`, adds b2 and applies ReLU; then the
    /// same with w3 and b3, and ReLU if `relu` is set. `params` are w2, b2, w3, b3.
    ///
    /// It takes `x` by value, so that in inference it is freed as soon as it has been used.
    ///
    /// # Errors
    /// [`Error::Shape`] for weights that are not 1×1 or do not fit the channels, or a bias that does not have an element
    /// for each channel.
    pub fn pointwise_pair(&mut self, x: Var<B>, params: [&Var<B>; 4], relu: bool) -> Result<Var<B>> {
        let [w2, b2, w3, b3] = params;
        let (shape, output) = shapes(x.shape(), [w2, w3].map(Var::shape))?;
        for (bias, k) in [(b2, shape.k2), (b3, shape.k3)] {
            affine::require_bias("pointwise_pair", Some(bias), k)?;
        }
        let (backend, chain) = (self.backend().clone(), Chain::new(x, [w2, w3], [b2, b3]));
        if !(chain.is_distinct() && backend.pointwise_pair_fuses(&shape)) {
            let hidden = self.pointwise(&chain.x, w2, Some(b2), true)?;
            drop(chain);
            return self.pointwise(&hidden, w3, Some(b3), relu);
        }
        let mut y = backend.alloc(Role::Activation, output.len())?;
        backend.pointwise_pair_fprop(&shape, &chain.x.data, &chain.params(), relu, &mut y)?;

        let output = self.output(output, y, chain.inputs(), relu)?;
        self.record(output.slot, || Node { shape, chain, y: output.slot });
        Ok(output)
    }
}

/// The extents, and the output's shape.
fn shapes(x: Shape, w: [Shape; 2]) -> Result<(PairShape, Shape)> {
    let second = ConvShape::new("pointwise_pair", x, w[0], 1, 0)?;
    let third = ConvShape::new("pointwise_pair", second.output(), w[1], 1, 0)?;
    match [second, third].iter().find(|conv| !conv.is_pointwise()) {
        Some(conv) => Err(Error::shape("pointwise_pair", format!("needs weights [K, C, 1, 1], got {}", conv.weight()))),
        None => Ok((PairShape { m: second.pixels(), c: second.c, k2: second.k, k3: third.k }, third.output())),
    }
}

struct Node<B: Device> {
    shape: PairShape,
    chain: Chain<B, 2>,
    y: Slot,
}

impl<B: Backend> Backward<B> for Node<B> {
    fn backward(self: Box<Self>, backend: &B, grads: &mut Grads<B>) -> Result<()> {
        let Some(dy) = grads.take(self.y) else { return Ok(()) };
        let Chain { x, .. } = &self.chain;
        self.chain.gradients(backend, grads, |wanted| {
            backend.pointwise_pair_backward(&self.shape, &x.data, &self.chain.params(), &dy, x.slot.relu, wanted)
        })
    }
}
