//! Flatten: `[N, C, H, W]` to `[N, C·H·W]` in PyTorch's order. With one pixel or one channel, as after a global pool,
//! it is a view. With several of both, it transposes NHWC memory into NCHW order.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::device::{Device, Grad, Role};
use crate::tape::{Backward, Grads, Input, Slot, Tape, Var};
use crate::{Result, Shape};

/// The kernels of flatten, for images of several pixels and channels. `shape` is the images' `[N, C, H, W]`.
pub trait Flatten: Device {
    /// `y[n, (c·H + h)·W + w] = x[n,h,w,c]`.
    fn flatten_fprop(&self, shape: Shape, x: &Self::Buf, y: &mut Self::Buf) -> Result<()>;

    /// `dx[n,h,w,c] = dy[n, (c·H + h)·W + w]`.
    fn flatten_dgrad(&self, shape: Shape, dy: &Self::Buf, dx: &mut Grad<Self::Buf>) -> Result<()>;
}

impl<B: Flatten> Tape<B> {
    /// The images of `x` `[N, C, H, W]` as rows `[N, C·H·W]`, elements in the order of (c, h, w).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `x` is not a non-empty image batch.
    pub fn flatten(&mut self, x: &Var<B>) -> Result<Var<B>> {
        let shape = x.shape();
        shape.require_image("flatten")?;
        let rows = shape.flattened();
        if shape.c() == 1 || shape.h() * shape.w() == 1 {
            return Ok(self.view(x, rows));
        }
        let backend = self.backend().clone();
        let mut y = backend.alloc(Role::Activation, shape.len())?;
        backend.flatten_fprop(shape, &x.data, &mut y)?;
        let output = self.output("flatten", rows, y, [x.slot], x.slot.relu)?;
        self.record(output.slot, || Node { shape, x: Input::masked(x.slot), y: output.slot });
        Ok(output)
    }
}

struct Node<B: Device> {
    shape: Shape,
    x: Input<B>,
    y: Slot,
}

impl<B: Flatten> Backward<B> for Node<B> {
    fn backward(self: Box<Self>, backend: &B, grads: &mut Grads<B>) -> Result<()> {
        let Some(dy) = grads.take(self.y) else { return Ok(()) };
        grads.update(&self.x, |dx| backend.flatten_dgrad(self.shape, &dy, dx))
    }
}
