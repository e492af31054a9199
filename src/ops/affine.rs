//! What conv2d and pointwise share: weights, a bias, an optional ReLU, and the order of the backward passes.

use std::sync::Arc;

use super::Grad;
use crate::device::{Backend, Device};
use crate::tape::{Backward, Grads, Slot, Tape, Var};
use crate::{Error, Result, Shape};

/// The backward passes of an affine op, for the extents that `Self` holds.
pub(super) trait Passes<B: Backend>: Send + 'static {
    fn dgrad(&self, backend: &B, dy: &B::Buf, w: &B::Buf, mask: Option<&B::Buf>, dx: &mut Grad<B::Buf>) -> Result<()>;

    fn wgrad(
        &self,
        backend: &B,
        x: &B::Buf,
        dy: &B::Buf,
        dw: Option<&mut Grad<B::Buf>>,
        db: Option<&mut Grad<B::Buf>>,
    ) -> Result<()>;
}

/// A bias has one element for each of `k` output channels.
pub(super) fn require_bias<B: Device>(op: &'static str, bias: Option<&Var<B>>, k: usize) -> Result<()> {
    match bias {
        Some(bias) if bias.shape() != Shape::vector(k) => {
            Err(Error::shape(op, format!("bias has shape {}, {k} output channels need [{k}]", bias.shape())))
        }
        _ => Ok(()),
    }
}

/// The inputs of an affine op.
pub(super) fn inputs<B: Device>(x: &Var<B>, w: &Var<B>, bias: Option<&Var<B>>) -> impl Iterator<Item = Slot> {
    [x.slot, w.slot].into_iter().chain(bias.map(|bias| bias.slot))
}

/// Puts the backward half of an affine op on the tape, `y` being its result.
pub(super) fn record<B: Backend>(
    tape: &mut Tape<B>,
    passes: impl Passes<B>,
    x: &Var<B>,
    w: &Var<B>,
    bias: Option<&Var<B>>,
    y: Slot,
) {
    let bias = bias.map(|bias| bias.slot);
    tape.record(y, || Node { passes, x: x.clone(), w: w.slot, w_data: w.data.clone(), bias, y });
}

struct Node<B: Device, P> {
    passes: P,
    x: Var<B>,
    w: Slot,
    w_data: Arc<B::Buf>,
    bias: Option<Slot>,
    y: Slot,
}

impl<B: Backend, P: Passes<B>> Backward<B> for Node<B, P> {
    fn backward(self: Box<Self>, backend: &B, grads: &mut Grads<B>) -> Result<()> {
        let Some(dy) = grads.take(self.y) else { return Ok(()) };
        let mut dw = grads.open(self.w)?;
        let mut db = self.bias.map(|bias| grads.open(bias)).transpose()?.flatten();
        if dw.is_some() || db.is_some() {
            self.passes.wgrad(backend, &self.x.data, &dy, dw.as_mut(), db.as_mut())?;
        }
        // Weights are seldom another op's output, so their kernels have no mask of their own.
        if let Some(dw) = dw.as_mut().filter(|_| self.w.relu) {
            backend.relu_mask(&self.w_data, &mut dw.buf)?;
        }
        grads.close(dw.into_iter().chain(db));
        if let Some(mut dx) = grads.open(self.x.slot)? {
            let mask = self.x.slot.relu.then_some(&*self.x.data);
            self.passes.dgrad(backend, &dy, &self.w_data, mask, &mut dx)?;
            grads.close([dx]);
        }
        Ok(())
    }
}
