//! ReLU as a separate op, for a ReLU that cannot run in the epilogue of a convolution before it.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use std::sync::Arc;

use crate::Result;
use crate::device::{Buffer, Device, Grad, Role};
use crate::tape::{Backward, Grads, Input, Slot, Tape, Var};

/// The kernels of ReLU.
pub trait Relu: Device {
    /// `y = max(x, 0)`; NaN stays NaN.
    fn relu_fprop(&self, x: &Self::Buf, y: &mut Self::Buf) -> Result<()>;

    /// `dx = dy` where `y > 0`, else 0. `y` does not mask earlier contributions to `dx`.
    fn relu_dgrad(&self, y: &Self::Buf, dy: &Self::Buf, dx: &mut Grad<Self::Buf>) -> Result<()>;
}

impl<B: Relu> Tape<B> {
    /// `max(x, 0)`, element by element, for `x` of any shape.
    pub fn relu(&mut self, x: &Var<B>) -> Result<Var<B>> {
        let backend = self.backend().clone();
        let mut y = backend.alloc(Role::Activation, x.data.len())?;
        backend.relu_fprop(&x.data, &mut y)?;
        let output = self.output("relu", x.shape(), y, [x.slot], true)?;
        self.record(output.slot, || Node { x: x.input(), y_data: output.data.clone(), y: output.slot });
        Ok(output)
    }
}

struct Node<B: Device> {
    x: Input<B>,
    y: Slot,
    y_data: Arc<B::Buf>,
}

impl<B: Relu> Backward<B> for Node<B> {
    fn backward(self: Box<Self>, backend: &B, grads: &mut Grads<B>) -> Result<()> {
        let Some(dy) = grads.take(self.y) else { return Ok(()) };
        grads.update(&self.x, |dx| backend.relu_dgrad(&self.y_data, &dy, dx))
    }
}
