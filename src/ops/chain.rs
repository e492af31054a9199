//! What ops of several affine layers, one after the other, have in common: their parameters, the gradients that are wanted
//! of them, and what the tape keeps for the way back.

use super::Grad;
use crate::Result;
use crate::device::{Backend, Device};
use crate::tape::{Grads, Slot, Var};

/// The weights and biases of `N` layers.
pub struct Params<'a, Buf, const N: usize> {
    pub w: [&'a Buf; N],
    pub b: [&'a Buf; N],
}

/// The gradients that are wanted of `N` layers, and of the first one's input.
pub struct Wanted<'a, Buf, const N: usize> {
    pub dx: Option<&'a mut Grad<Buf>>,
    pub dw: [Option<&'a mut Grad<Buf>>; N],
    pub db: [Option<&'a mut Grad<Buf>>; N],
}

/// The input and the parameters of `N` layers on a tape.
pub(super) struct Chain<B: Device, const N: usize> {
    pub(super) x: Var<B>,
    w: [Var<B>; N],
    b: [Var<B>; N],
}

impl<B: Backend, const N: usize> Chain<B, N> {
    pub(super) fn new(x: Var<B>, w: [&Var<B>; N], b: [&Var<B>; N]) -> Self {
        Chain { x, w: w.map(Var::clone), b: b.map(Var::clone) }
    }

    fn params_in_order(&self) -> impl Iterator<Item = &Var<B>> {
        self.w.iter().chain(&self.b)
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = Slot> {
        [&self.x].into_iter().chain(self.params_in_order()).map(|var| var.slot)
    }

    /// Whether no variable is there more than once: it would get its gradients from one kernel at the same time.
    pub(super) fn is_distinct(&self) -> bool {
        let slots: Vec<Slot> = self.inputs().collect();
        (1..slots.len()).all(|i| !slots[..i].iter().any(|slot| slot.is(slots[i])))
    }

    pub(super) fn params(&self) -> Params<'_, B::Buf, N> {
        Params { w: self.w.each_ref().map(Var::data), b: self.b.each_ref().map(Var::data) }
    }

    /// Has `passes` write the gradients that are wanted.
    pub(super) fn gradients(
        &self,
        backend: &B,
        grads: &mut Grads<B>,
        passes: impl FnOnce(Wanted<'_, B::Buf, N>) -> Result<()>,
    ) -> Result<()> {
        let mut given = self.inputs().map(|slot| grads.open(slot)).collect::<Result<Vec<_>>>()?;
        let mut lent = given.iter_mut().map(Option::as_mut);
        let mut next = || lent.next().expect("a gradient, or none, for each input");
        let dx = next();
        passes(Wanted { dx, dw: std::array::from_fn(|_| next()), db: std::array::from_fn(|_| next()) })?;
        // Parameters are seldom another op's output, so the kernels have no mask for them.
        for (param, grad) in self.params_in_order().zip(&mut given[1..]) {
            if let Some(grad) = grad.as_mut().filter(|_| param.slot.relu) {
                backend.relu_mask(&param.data, &mut grad.buf)?;
            }
        }
        grads.close(given.into_iter().flatten());
        Ok(())
    }
}
