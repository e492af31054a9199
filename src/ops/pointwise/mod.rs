//! The 1×1 convolution as the GEMM it is: in NHWC the images are a matrix `[N·H·W, C]`, so there is no index arithmetic
//! and no im2col.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
mod pooled;

use super::maxpool::{self, MaxPool};
use super::{Grad, affine};
use crate::device::{Backend, Role};
use crate::shape::{ConvShape, PoolShape};
use crate::tape::{Tape, Var};
use crate::{Error, Result};

/// The extents of a pointwise convolution: `m` pixels, from `c` to `k` channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointwiseShape {
    pub m: usize,
    pub c: usize,
    pub k: usize,
}

/// The kernels of a pointwise convolution; see [`Conv2d`](super::conv2d::Conv2d), whose case r = s = stride = 1,
/// pad = 0 this is.
pub trait Pointwise: MaxPool {
    /// `y[m,k] = act(bias[k] + Σ_c x[m,c] · w[k,c])`, where `act` is ReLU if `relu`.
    fn pointwise_fprop(
        &self,
        shape: &PointwiseShape,
        x: &Self::Buf,
        w: &Self::Buf,
        bias: Option<&Self::Buf>,
        relu: bool,
        y: &mut Self::Buf,
    ) -> Result<()>;

    /// `dx[m,c] = Σ_k dy[m,k] · w[k,c]`, zeroed where `mask`, the input itself, is not positive.
    fn pointwise_dgrad(
        &self,
        shape: &PointwiseShape,
        dy: &Self::Buf,
        w: &Self::Buf,
        mask: Option<&Self::Buf>,
        dx: &mut Grad<Self::Buf>,
    ) -> Result<()>;

    /// `dw[k,c] = Σ_m dy[m,k] · x[m,c]` and `db[k] = Σ_m dy[m,k]`; those that are wanted, and at least one is.
    fn pointwise_wgrad(
        &self,
        shape: &PointwiseShape,
        x: &Self::Buf,
        dy: &Self::Buf,
        dw: Option<&mut Grad<Self::Buf>>,
        db: Option<&mut Grad<Self::Buf>>,
    ) -> Result<()>;

    /// Whether this backend does better with the convolution and the max pool of its output in one kernel.
    fn pointwise_maxpool_fuses(&self, _shape: &PointwiseShape, _pool: &PoolShape) -> bool {
        false
    }

    /// [`Pointwise::pointwise_fprop`], whose output is rounded as an activation is when it is stored, and
    /// [`MaxPool::maxpool_fprop`] of that into `y` and `index`. Provided is the one after the other: what every other
    /// implementation has to equal.
    #[allow(clippy::too_many_arguments)]
    fn pointwise_maxpool_fprop(
        &self,
        shape: &PointwiseShape,
        pool: &PoolShape,
        x: &Self::Buf,
        w: &Self::Buf,
        bias: Option<&Self::Buf>,
        relu: bool,
        y: &mut Self::Buf,
        index: Option<&mut Self::Bytes>,
    ) -> Result<()> {
        one_after_the_other(self, shape, pool, x, w, bias, relu, y, index)
    }
}

/// The convolution, then the pool.
#[allow(clippy::too_many_arguments)]
fn one_after_the_other<B: Pointwise>(
    backend: &B,
    shape: &PointwiseShape,
    pool: &PoolShape,
    x: &B::Buf,
    w: &B::Buf,
    bias: Option<&B::Buf>,
    relu: bool,
    y: &mut B::Buf,
    index: Option<&mut B::Bytes>,
) -> Result<()> {
    let mut whole = backend.alloc(Role::Activation, shape.m * shape.k)?;
    backend.pointwise_fprop(shape, x, w, bias, relu, &mut whole)?;
    backend.maxpool_fprop(pool, &whole, y, index)
}

impl<B: Backend> Tape<B> {
    /// Mixes the channels of each pixel of `x` `[N, C, H, W]` by weights `w` `[K, C, 1, 1]`, adds `bias` `[K]`, and
    /// applies ReLU if `relu` is set.
    ///
    /// # Errors
    /// [`Error::Shape`] for weights that are not 1×1 or do not fit the channels, or a bias that is not of length K.
    pub fn pointwise(&mut self, x: &Var<B>, w: &Var<B>, bias: Option<&Var<B>>, relu: bool) -> Result<Var<B>> {
        let (conv, shape) = shapes(x, w, bias)?;
        let backend = self.backend().clone();
        let mut y = self.room(conv.output(), affine::inputs(x, w, bias), relu)?;
        backend.pointwise_fprop(&shape, &x.data, &w.data, bias.map(|b| b.data()), relu, &mut y)?;

        let output = self.output(conv.output(), y, affine::inputs(x, w, bias), relu)?;
        affine::record(self, shape, x, w, bias, output.slot);
        Ok(output)
    }

    /// [`Tape::pointwise`], then [`Tape::maxpool`], with the same results: where the backend has one kernel for both, what
    /// is between them is never in memory. The way back does not miss it: the pool knows where its maxima were, and a ReLU
    /// let through whatever has a gradient there.
    ///
    /// # Errors
    /// As the two.
    pub fn pointwise_maxpool(
        &mut self,
        x: &Var<B>,
        w: &Var<B>,
        bias: Option<&Var<B>>,
        relu: bool,
        window: usize,
        stride: usize,
    ) -> Result<Var<B>> {
        let (conv, shape) = shapes(x, w, bias)?;
        let pool = PoolShape::new("maxpool", conv.output(), window, stride)?;
        let backend = self.backend().clone();
        if !backend.pointwise_maxpool_fuses(&shape, &pool) {
            let whole = self.pointwise(x, w, bias, relu)?;
            return self.maxpool(&whole, window, stride);
        }
        let whole = self.unstored(conv.output(), affine::inputs(x, w, bias), relu)?;
        let (mut y, mut index) = maxpool::outputs(self, &pool, whole)?;
        let bias_data = bias.map(|b| b.data());
        backend.pointwise_maxpool_fprop(&shape, &pool, &x.data, &w.data, bias_data, relu, &mut y, index.as_mut())?;

        affine::record(self, shape, x, w, bias, whole);
        maxpool::record(self, pool, whole, y, index)
    }
}

fn shapes<B: Backend>(x: &Var<B>, w: &Var<B>, bias: Option<&Var<B>>) -> Result<(ConvShape, PointwiseShape)> {
    let conv = ConvShape::new("pointwise", x.shape(), w.shape(), 1, 0)?;
    if !conv.is_pointwise() {
        return Err(Error::shape("pointwise", format!("needs weights [K, C, 1, 1], got {}", w.shape())));
    }
    affine::require_bias("pointwise", bias, conv.k)?;
    Ok((conv, PointwiseShape { m: conv.pixels(), c: conv.c, k: conv.k }))
}

impl<B: Backend> affine::Passes<B> for PointwiseShape {
    fn dgrad(&self, backend: &B, dy: &B::Buf, w: &B::Buf, mask: Option<&B::Buf>, dx: &mut Grad<B::Buf>) -> Result<()> {
        backend.pointwise_dgrad(self, dy, w, mask, dx)
    }

    fn wgrad(
        &self,
        backend: &B,
        x: &B::Buf,
        dy: &B::Buf,
        dw: Option<&mut Grad<B::Buf>>,
        db: Option<&mut Grad<B::Buf>>,
    ) -> Result<()> {
        backend.pointwise_wgrad(self, x, dy, dw, db)
    }
}
