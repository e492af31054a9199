//! 2-D convolution with bias and ReLU in the epilogue: any filter size, stride, padding and channel count.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod im2col;

use super::{Grad, affine};
use crate::Result;
use crate::device::{Backend, Device};
use crate::shape::ConvShape;
use crate::tape::{Tape, Var};

/// The kernels of a convolution. Images lie NHWC, weights KRSC; [`ConvShape`] names the extents.
pub trait Conv2d: Device {
    /// `y[n,p,q,k] = act(bias[k] + Σ_rsc x[n, p·stride+r−pad, q·stride+s−pad, c] · w[k,r,s,c])`, out-of-range inputs
    /// counting as zero, where `act` is ReLU if `relu`.
    fn conv2d_fprop(
        &self,
        shape: &ConvShape,
        x: &Self::Buf,
        w: &Self::Buf,
        bias: Option<&Self::Buf>,
        relu: bool,
        y: &mut Self::Buf,
    ) -> Result<()>;

    /// The gradient with respect to the input: `dx[n,h,w,c] = Σ dy[n,p,q,k] · w[k,r,s,c]` over all `(p,q,r,s,k)` whose
    /// window position is `(h,w)`; zeroed where `mask`, the input itself, is not positive.
    fn conv2d_dgrad(
        &self,
        shape: &ConvShape,
        dy: &Self::Buf,
        w: &Self::Buf,
        mask: Option<&Self::Buf>,
        dx: &mut Grad<Self::Buf>,
    ) -> Result<()>;

    /// The gradients with respect to weights, `dw[k,r,s,c] = Σ_npq dy[n,p,q,k] · x[n, p·stride+r−pad, …, c]`, and
    /// bias, `db[k] = Σ_npq dy[n,p,q,k]`; those that are wanted, and at least one is.
    fn conv2d_wgrad(
        &self,
        shape: &ConvShape,
        x: &Self::Buf,
        dy: &Self::Buf,
        dw: Option<&mut Grad<Self::Buf>>,
        db: Option<&mut Grad<Self::Buf>>,
    ) -> Result<()>;
}

impl<B: Backend> Tape<B> {
    /// Convolves images `x` `[N, C, H, W]` with weights `w` `[K, C, R, S]`, adds `bias` `[K]`, and applies ReLU if
    /// `relu` is set.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where [`ConvShape::new`] gives it, or for a bias that is not of length K.
    pub fn conv2d(
        &mut self,
        x: &Var<B>,
        w: &Var<B>,
        bias: Option<&Var<B>>,
        stride: usize,
        pad: usize,
        relu: bool,
    ) -> Result<Var<B>> {
        self.conv2d_cropped(x, w, bias, stride, pad, relu, [usize::MAX; 2])
    }

    /// [`Tape::conv2d`] as far as the first `extents` rows and columns of its output.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn conv2d_cropped(
        &mut self,
        x: &Var<B>,
        w: &Var<B>,
        bias: Option<&Var<B>>,
        stride: usize,
        pad: usize,
        relu: bool,
        [p, q]: [usize; 2],
    ) -> Result<Var<B>> {
        let shape = ConvShape::new("conv2d", x.shape(), w.shape(), stride, pad)?.cropped(p, q);
        affine::require_bias("conv2d", bias, shape.k)?;
        let backend = self.backend().clone();
        let mut y = self.room(shape.output(), affine::inputs(x, w, bias), relu)?;
        backend.conv2d_fprop(&shape, &x.data, &w.data, bias.map(|b| b.data()), relu, &mut y)?;

        let output = self.output(shape.output(), y, affine::inputs(x, w, bias), relu)?;
        affine::record(self, shape, x, w, bias, output.slot);
        Ok(output)
    }
}

impl<B: Backend> affine::Passes<B> for ConvShape {
    fn dgrad(&self, backend: &B, dy: &B::Buf, w: &B::Buf, mask: Option<&B::Buf>, dx: &mut Grad<B::Buf>) -> Result<()> {
        backend.conv2d_dgrad(self, dy, w, mask, dx)
    }

    fn wgrad(
        &self,
        backend: &B,
        x: &B::Buf,
        dy: &B::Buf,
        dw: Option<&mut Grad<B::Buf>>,
        db: Option<&mut Grad<B::Buf>>,
    ) -> Result<()> {
        backend.conv2d_wgrad(self, x, dy, dw, db)
    }
}
