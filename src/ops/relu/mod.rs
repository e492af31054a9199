//! ReLU as an op of its own, for networks where no convolution comes before it to take it into its epilogue.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use std::sync::Arc;

use super::Grad;
use crate::Result;
use crate::device::{Backend, Buffer, Device, Role};
use crate::tape::{Backward, Grads, Slot, Tape, Var};

/// The kernels of ReLU.
pub trait Relu: Device {
    /// `y = max(x, 0)`; NaN stays NaN.
    fn relu_fprop(&self, x: &Self::Buf, y: &mut Self::Buf) -> Result<()>;

    /// `dx = dy where y > 0, else 0`.
    fn relu_dgrad(&self, y: &Self::Buf, dy: &Self::Buf, dx: &mut Grad<Self::Buf>) -> Result<()>;

    /// [`Relu::relu_dgrad`] in place: zeroes `dy` where `y` is not positive.
    fn relu_mask(&self, y: &Self::Buf, dy: &mut Self::Buf) -> Result<()>;
}

impl<B: Backend> Tape<B> {
    /// The positive part of `x`, of any shape.
    pub fn relu(&mut self, x: &Var<B>) -> Result<Var<B>> {
        let backend = self.backend().clone();
        let mut y = backend.alloc(Role::Activation, x.data.len())?;
        backend.relu_fprop(&x.data, &mut y)?;
        let output = self.output(x.shape(), y, [x.slot], true)?;
        self.record(output.slot, || Node::<B> { x: x.slot, y_data: output.data.clone(), y: output.slot });
        Ok(output)
    }
}

struct Node<B: Device> {
    x: Slot,
    y: Slot,
    y_data: Arc<B::Buf>,
}

impl<B: Backend> Backward<B> for Node<B> {
    fn backward(self: Box<Self>, backend: &B, grads: &mut Grads<B>) -> Result<()> {
        let Some(dy) = grads.take(self.y) else { return Ok(()) };
        if let Some(mut dx) = grads.open(self.x)? {
            backend.relu_dgrad(&self.y_data, &dy, &mut dx)?;
            grads.close([dx]);
        }
        Ok(())
    }
}
