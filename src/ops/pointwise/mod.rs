//! The 1×1 convolution as the GEMM it is: in NHWC the images are a matrix `[N·H·W, C]`, so there is no index arithmetic
//! and no im2col.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use super::{Grad, affine};
use crate::device::{Backend, Device, Role};
use crate::shape::ConvShape;
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
pub trait Pointwise: Device {
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
}

impl<B: Backend> Tape<B> {
    /// Mixes the channels of each pixel of `x` `[N, C, H, W]` by weights `w` `[K, C, 1, 1]`, adds `bias` `[K]`, and
    /// applies ReLU if `relu` is set.
    ///
    /// # Errors
    /// [`Error::Shape`] for weights that are not 1×1 or do not fit the channels, or a bias that is not of length K.
    pub fn pointwise(&mut self, x: &Var<B>, w: &Var<B>, bias: Option<&Var<B>>, relu: bool) -> Result<Var<B>> {
        let conv = ConvShape::new("pointwise", x.shape(), w.shape(), 1, 0)?;
        if !conv.is_pointwise() {
            return Err(Error::shape("pointwise", format!("needs weights [K, C, 1, 1], got {}", w.shape())));
        }
        affine::require_bias("pointwise", bias, conv.k)?;
        let shape = PointwiseShape { m: conv.pixels(), c: conv.c, k: conv.k };
        let backend = self.backend().clone();
        let mut y = backend.alloc(Role::Activation, conv.output().len())?;
        backend.pointwise_fprop(&shape, &x.data, &w.data, bias.map(|b| b.data()), relu, &mut y)?;

        affine::record(self, shape, x, w, bias, conv.output(), y, relu)
    }
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
