//! Gradients on their way: each slot's, handed from one backward half to the next.

use std::collections::HashMap;

use super::checks::Written;
use super::{Input, Param, ParamId, Slot, TapeId, Used, Var, unique};
use crate::Result;
use crate::device::{Device, Grad, Guard, Role, Write};

/// Gradients by slot. Each has one owner: `take` and `open` move it out, so no two kernels write to the same buffer.
pub struct Grads<B: Device> {
    pub(super) tape: TapeId,
    pub(super) backend: B,
    pub(super) slots: Vec<Option<B::Buf>>,
    pub(super) params: HashMap<ParamId, Used>,
    /// Backward halves that have not yet written the gradients of their parameters.
    pub(super) left: usize,
    pub(super) guard: Option<Guard<B>>,
    /// The gradients that the backward half under way has written; `None` unless the tape is checked.
    pub(super) written: Option<Vec<Written>>,
    /// The fork of the backward half under way.
    pub(super) beside: Option<Fork<B>>,
}

impl<B: Device> Grads<B> {
    /// Gradients of parameters that were computed elsewhere, such as the sums over the shards of a batch.
    pub(crate) fn of_params(backend: &B, gradients: Vec<(&Param<B>, B::Buf)>, guard: Guard<B>) -> Self {
        let tape = TapeId(unique());
        let slot = |(id, param): (usize, &Param<B>)| {
            let (shape, role) = (param.shape, Role::Parameter);
            (param.id, Used { slot: Slot { tape, id, shape, role, needs_grad: true, relu: false }, before: 0 })
        };
        let params = gradients.iter().map(|(param, _)| *param).enumerate().map(slot).collect();
        let slots = gradients.into_iter().map(|(_, gradient)| Some(gradient)).collect();
        Grads {
            tape,
            backend: backend.clone(),
            slots,
            params,
            left: 0,
            guard: Some(guard),
            written: None,
            beside: None,
        }
    }

    /// The gradients of [`Grads::of_params`], in that order.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut B::Buf> {
        self.slots.iter_mut().flatten()
    }

    /// The guard of the loss that these are the gradients of, which the update heeds; `None` for those of
    /// [`Tape::backward_from`](super::Tape::backward_from).
    pub fn guard(&self) -> Option<&Guard<B>> {
        self.guard.as_ref()
    }

    /// For ops: moves the output's gradient out; `None` if no op contributed to it.
    pub(crate) fn take(&mut self, slot: Slot) -> Option<B::Buf> {
        self.slots[slot.id].take()
    }

    /// The gradient with respect to a leaf made by [`Tape::variable`](super::Tape::variable), in memory order; `None` if the loss does not
    /// depend on it. Gradients of ops' outputs are not kept: the backward pass consumes them.
    pub fn of(&self, var: &Var<B>) -> Option<&B::Buf> {
        if var.slot.tape == self.tape { self.slots[var.slot.id].as_ref() } else { None }
    }

    /// The gradient with respect to a parameter, in memory order; `None` if the loss does not depend on it.
    pub fn of_param(&self, param: &Param<B>) -> Option<&B::Buf> {
        self.slots[self.params.get(&param.id)?.slot.id].as_ref()
    }

    /// Whether no backward half that is still to run adds to the gradient of a parameter that the tape has.
    pub(crate) fn is_complete(&self, param: &Param<B>) -> bool {
        self.params.get(&param.id).is_some_and(|used| self.left <= used.before)
    }

    /// For ops: lends an input's gradient with its mask; `None` if no gradient is wanted. The first contributor gets a
    /// new buffer to overwrite, later ones add. [`Grads::close`] takes it back.
    pub(crate) fn open(&mut self, input: &Input<B>) -> Result<Option<Lent<B>>> {
        let slot = input.slot;
        if !slot.needs_grad {
            return Ok(None);
        }
        let grad = match self.slots[slot.id].take() {
            Some(buf) => Grad::new(buf, Write::Accumulate),
            None => Grad::new(self.backend.alloc(slot.role, slot.shape.len())?, Write::Overwrite),
        };
        let grad = match &input.mask {
            Some(value) => grad.masked_by(value.clone()),
            None => grad,
        };
        Ok(Some(Lent { slot, grad }))
    }

    /// For ops: the backend for kernels beside those of the rest of the backward half. They may write only gradients that were opened
    /// before. `read` are the buffers that both sides read.
    pub(crate) fn fork(&mut self, read: &[&B::Buf]) -> Result<B> {
        self.join()?;
        read.iter().try_for_each(|buf| self.backend.settle(buf))?;
        let fork = Fork::new(&self.backend)?;
        let backend = fork.handle.clone();
        self.beside = Some(fork);
        Ok(backend)
    }

    /// The backend for kernels that read the gradients so far: the fork's handle while there is a fork.
    pub(crate) fn backend(&self) -> &B {
        self.beside.as_ref().map_or(&self.backend, |fork| &fork.handle)
    }

    /// Orders later work after the fork, whose gradients may be read from then on.
    pub(crate) fn join(&mut self) -> Result<()> {
        self.beside.take().map_or(Ok(()), Fork::join)
    }

    /// For ops: takes back the gradients that [`Grads::open`] lent. A mask that the kernel did not take is applied now,
    /// so an op that ignores masks costs an extra pass and is still right.
    pub(crate) fn close(&mut self, lent: impl IntoIterator<Item = Lent<B>>) -> Result<()> {
        for Lent { slot: Slot { id, shape, role, .. }, grad } in lent {
            self.slots[id] = Some(grad.finish(&self.backend)?);
            if let Some(written) = &mut self.written {
                written.push(Written { id, shape, role });
            }
        }
        Ok(())
    }

    /// For ops: opens the gradient of one input, calls `write` with it, and closes it. Without a wanted gradient
    /// `write` is not called.
    pub(crate) fn update(
        &mut self,
        input: &Input<B>,
        write: impl FnOnce(&mut Grad<B::Buf>) -> Result<()>,
    ) -> Result<()> {
        let Some(mut lent) = self.open(input)? else { return Ok(()) };
        write(&mut lent.grad)?;
        self.close([lent])
    }
}

/// A gradient that [`Grads`] has lent to an op.
pub(crate) struct Lent<B: Device> {
    slot: Slot,
    pub(crate) grad: Grad<B::Buf>,
}

/// A fork of a device, which the device waits for at the latest when this is dropped, as after an error.
pub(super) struct Fork<B: Device> {
    device: B,
    handle: B,
    joined: bool,
}

impl<B: Device> Fork<B> {
    fn new(device: &B) -> Result<Self> {
        Ok(Fork { device: device.clone(), handle: device.fork()?, joined: false })
    }

    fn join(mut self) -> Result<()> {
        self.joined = true;
        self.device.wait_for(&self.handle)
    }
}

impl<B: Device> Drop for Fork<B> {
    fn drop(&mut self) {
        if !self.joined {
            // An error is on its way already.
            let _ = self.device.wait_for(&self.handle);
        }
    }
}
