//! Max pooling: square windows, overlapping or not, in floor mode (windows that do not fit are dropped).

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::Result;
use crate::device::{Device, Grad};
use crate::shape::PoolShape;
use crate::tape::{Backward, Grads, Input, Slot, Tape, Var};

/// The kernels of max pooling, on NHWC images.
pub trait MaxPool: Device {
    /// `y[n,p,q,c] = max x[n, p·stride+i, q·stride+j, c]` over `0 ≤ i, j < window`. `index`, if wanted, has y's shape
    /// and takes the position `i·window + j` of the maximum in one byte: the first of equal maxima in row-major order,
    /// as in PyTorch. A NaN counts as the maximum; of several NaNs, the last.
    fn maxpool_fprop(
        &self,
        shape: &PoolShape,
        x: &Self::Buf,
        y: &mut Self::Buf,
        index: Option<&mut Self::Bytes>,
    ) -> Result<()>;

    /// `dx[n,h,w,c] = Σ dy[n,p,q,c]` over the windows `(p,q)` whose maximum, by `index`, is at `(h,w)`.
    fn maxpool_dgrad(
        &self,
        shape: &PoolShape,
        dy: &Self::Buf,
        index: &Self::Bytes,
        dx: &mut Grad<Self::Buf>,
    ) -> Result<()>;
}

impl<B: MaxPool> Tape<B> {
    /// The maximum over each `window` × `window` square of `x` `[N, C, H, W]`, the squares `stride` pixels apart. The
    /// output is `[N, C, P, Q]` with `P = ⌊(H − window) / stride⌋ + 1`, and Q likewise.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where [`PoolShape::new`] gives it.
    pub fn maxpool(&mut self, x: &Var<B>, window: usize, stride: usize) -> Result<Var<B>> {
        let shape = PoolShape::new("maxpool", x.shape(), window, stride)?;
        let backend = self.backend().clone();
        let (mut y, mut index) = outputs(self, &shape, x.slot)?;
        backend.maxpool_fprop(&shape, &x.data, &mut y, index.as_mut())?;
        record(self, "maxpool", shape, x.slot, y, index)
    }
}

/// Buffers for the pool's output, and for the positions of the maxima if `x` needs a gradient.
pub(super) fn outputs<B: MaxPool>(tape: &Tape<B>, shape: &PoolShape, x: Slot) -> Result<(B::Buf, Option<B::Bytes>)> {
    let index = x.needs_grad().then(|| tape.backend().alloc_bytes(shape.output().len())).transpose()?;
    Ok((tape.room(shape.output(), [x], x.relu)?, index))
}

/// Adds the pool's output `y`, which `op` has computed, to the tape, and its backward half if there is an `index`.
pub(super) fn record<B: MaxPool>(
    tape: &mut Tape<B>,
    op: &'static str,
    shape: PoolShape,
    x: Slot,
    y: B::Buf,
    index: Option<B::Bytes>,
) -> Result<Var<B>> {
    let output = tape.output(op, shape.output(), y, [x], x.relu)?;
    if let Some(index) = index {
        tape.record(output.slot, || Node { shape, x: Input::masked(x), index, y: output.slot });
    }
    Ok(output)
}

struct Node<B: Device> {
    shape: PoolShape,
    x: Input<B>,
    index: B::Bytes,
    y: Slot,
}

impl<B: MaxPool> Backward<B> for Node<B> {
    fn backward(self: Box<Self>, backend: &B, grads: &mut Grads<B>) -> Result<()> {
        let Some(dy) = grads.take(self.y) else { return Ok(()) };
        grads.update(&self.x, |dx| backend.maxpool_dgrad(&self.shape, &dy, &self.index, dx))
    }
}
