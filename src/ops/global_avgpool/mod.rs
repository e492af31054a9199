//! Global average pooling: each channel's mean over all pixels, which replaces the dense layer in a NiN.

mod cpu;
#[cfg(feature = "cuda")]
pub(super) mod cuda;

use crate::device::{Device, Grad, Role};
use crate::tape::{Backward, Grads, Input, Slot, Tape, Var};
use crate::{Result, Shape};

/// The kernels of global average pooling, on NHWC images of logical shape `[N, C, H, W]`.
pub trait GlobalAvgPool: Device {
    /// `y[n,c] = Σ_hw x[n,h,w,c] / (H·W)`; y is `[N, C, 1, 1]`.
    fn global_avgpool_fprop(&self, shape: Shape, x: &Self::Buf, y: &mut Self::Buf) -> Result<()>;

    /// `dx[n,h,w,c] = dy[n,c] / (H·W)`.
    fn global_avgpool_dgrad(&self, shape: Shape, dy: &Self::Buf, dx: &mut Grad<Self::Buf>) -> Result<()>;
}

impl<B: GlobalAvgPool> Tape<B> {
    /// The mean of each channel of `x` `[N, C, H, W]`, as `[N, C, 1, 1]`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `x` is not a non-empty image batch.
    pub fn global_avgpool(&mut self, x: &Var<B>) -> Result<Var<B>> {
        let shape = x.shape();
        shape.require_image("global_avgpool")?;
        let output = shape.pooled();
        let backend = self.backend().clone();
        let mut y = backend.alloc(Role::Activation, output.len())?;
        backend.global_avgpool_fprop(shape, &x.data, &mut y)?;
        let output = self.output("global_avgpool", output, y, [x.slot], false)?;
        self.record(output.slot, || Node { shape, x: x.input(), y: output.slot });
        Ok(output)
    }
}

struct Node<B: Device> {
    shape: Shape,
    x: Input<B>,
    y: Slot,
}

impl<B: GlobalAvgPool> Backward<B> for Node<B> {
    fn backward(self: Box<Self>, backend: &B, grads: &mut Grads<B>) -> Result<()> {
        let Some(dy) = grads.take(self.y) else { return Ok(()) };
        grads.update(&self.x, |dx| backend.global_avgpool_dgrad(self.shape, &dy, dx))
    }
}
