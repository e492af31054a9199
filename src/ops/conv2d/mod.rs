//! 2-D convolution with bias and ReLU in the epilogue: any filter size, stride, padding and channel count.
//!
//! A 1×1 convolution at stride 1 without padding is a plain GEMM in NHWC memory ([`ConvShape::is_gemm`]). Each backend
//! routes that case to its GEMM, without index arithmetic and without im2col.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod im2col;
mod pointwise;
#[cfg(feature = "cuda")]
mod wgrad;

use super::affine::{self, Affine, Wanted};
use crate::Result;
use crate::device::{Device, Grad};
use crate::shape::{ConvShape, Window};
use crate::tape::{Backward, Grads, Slot, Tape, Var};
#[cfg(all(test, feature = "cuda"))]
pub(crate) use cuda::gemm_of;

/// The kernels of a convolution. Images lie NHWC, weights KRSC; [`ConvShape`] names the extents.
pub trait Conv2d: Device {
    /// `y[n,p,q,k] = act(bias[k] + Σ_rsc x[n, p·stride+r−pad, q·stride+s−pad, c] · w[k,r,s,c])`, inputs out of range
    /// counting as zero; `act` is ReLU if `affine.relu`.
    fn conv2d_fprop(
        &self,
        shape: &ConvShape,
        x: &Self::Buf,
        affine: Affine<'_, Self::Buf>,
        y: &mut Self::Buf,
    ) -> Result<()>;

    /// dgrad, the gradient with respect to the input: `dx[n,h,w,c] = Σ dy[n,p,q,k] · w[k,r,s,c]` over all `(p,q,r,s,k)`
    /// with `p·stride+r−pad = h` and `q·stride+s−pad = w`.
    fn conv2d_dgrad(&self, shape: &ConvShape, dy: &Self::Buf, w: &Self::Buf, dx: &mut Grad<Self::Buf>) -> Result<()>;

    /// wgrad, the gradients with respect to the weights,
    /// `dw[k,r,s,c] = Σ_npq dy[n,p,q,k] · x[n, p·stride+r−pad, q·stride+s−pad, c]`, and the bias,
    /// `db[k] = Σ_npq dy[n,p,q,k]`. At least one of the two is wanted.
    fn conv2d_wgrad(
        &self,
        shape: &ConvShape,
        x: &Self::Buf,
        dy: &Self::Buf,
        wanted: Wanted<'_, Self::Buf>,
    ) -> Result<()>;
}

impl<B: Conv2d> Tape<B> {
    /// Convolves images `x` `[N, C, H, W]` with `affine.w` `[K, C, R, S]`, adds `affine.bias` `[K]`, and applies ReLU
    /// if `affine.relu` is set. The output is `[N, K, P, Q]`, see [`ConvShape`].
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where [`ConvShape::new`] gives it, or for a bias that is not of length K.
    pub fn conv2d(&mut self, x: &Var<B>, affine: Affine<'_, Var<B>>, window: Window) -> Result<Var<B>> {
        let shape = ConvShape::new("conv2d", x.shape(), affine.w.shape(), window)?;
        self.conv2d_of(&shape, x, affine)
    }

    /// [`Tape::conv2d`] with the extents `shape`, which fit `x` and the weights: cropped to its rows and columns.
    pub(crate) fn conv2d_of(&mut self, shape: &ConvShape, x: &Var<B>, affine: Affine<'_, Var<B>>) -> Result<Var<B>> {
        affine::require_bias("conv2d", affine.bias, shape.k)?;
        let backend = self.backend().clone();
        let mut y = self.room(shape.output(), affine.inputs(x), affine.relu)?;
        backend.conv2d_fprop(shape, x.data(), affine.data(), &mut y)?;
        let output = self.output("conv2d", shape.output(), y, affine.inputs(x), affine.relu)?;
        record(self, *shape, x, affine, output.slot);
        Ok(output)
    }
}

/// Adds the backward half of a convolution with output `y` to the tape.
pub(super) fn record<B: Conv2d>(tape: &mut Tape<B>, shape: ConvShape, x: &Var<B>, affine: Affine<'_, Var<B>>, y: Slot) {
    tape.record(y, || Node { shape, x: x.clone(), w: affine.w.clone(), bias: affine.bias.cloned(), y, dy: None });
}

/// The gradients of a convolution that are wanted, its output's being `dy`: those of the parameters, then that of its input.
pub(super) fn gradients<B: Conv2d>(
    backend: &B,
    shape: &ConvShape,
    x: &B::Buf,
    w: &B::Buf,
    dy: &B::Buf,
    dx: Option<&mut Grad<B::Buf>>,
    wanted: Wanted<'_, B::Buf>,
) -> Result<()> {
    if !wanted.is_none() {
        backend.conv2d_wgrad(shape, x, dy, wanted)?;
    }
    dx.map_or(Ok(()), |dx| backend.conv2d_dgrad(shape, dy, w, dx))
}

struct Node<B: Device> {
    shape: ConvShape,
    x: Var<B>,
    w: Var<B>,
    bias: Option<Var<B>>,
    y: Slot,
    /// The output's gradient, from the parameters' gradients to the input's.
    dy: Option<B::Buf>,
}

impl<B: Conv2d> Backward<B> for Node<B> {
    fn parameters(&mut self, backend: &B, grads: &mut Grads<B>) -> Result<bool> {
        let Some(dy) = grads.take(self.y) else { return Ok(false) };
        let mut dw = grads.open(&self.w.input())?;
        let mut db = self.bias.as_ref().map(|bias| grads.open(&bias.input())).transpose()?.flatten();
        let wanted = Wanted { dw: dw.as_mut().map(|dw| &mut dw.grad), db: db.as_mut().map(|db| &mut db.grad) };
        if !wanted.is_none() {
            // Only parameters: `close` may mask another variable's gradient outside of the fork, and dgrad may write it.
            let alone = [Some(&self.w), self.bias.as_ref()].into_iter().flatten().all(|var| var.slot.is_parameter());
            let dgrad = self.x.slot.needs_grad() && !self.x.slot.is_parameter();
            let backend = if dgrad && alone { &grads.fork(&[&dy, self.x.data()])? } else { backend };
            backend.conv2d_wgrad(&self.shape, self.x.data(), &dy, wanted)?;
        }
        grads.close(dw.into_iter().chain(db))?;
        self.dy = Some(dy);
        // A parameter that is convolved has a part of its gradient from dgrad.
        Ok(!self.x.slot.is_parameter())
    }

    fn backward(self: Box<Self>, backend: &B, grads: &mut Grads<B>) -> Result<()> {
        let Some(dy) = &self.dy else { return Ok(()) };
        grads.update(&self.x.input(), |dx| backend.conv2d_dgrad(&self.shape, dy, self.w.data(), dx))
    }
}
