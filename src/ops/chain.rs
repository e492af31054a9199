//! Chains: several affine layers as one op. Their parameters, their wanted gradients, and the inputs that the tape
//! keeps for the backward pass.

use super::{Affine, Wanted, affine};
use crate::device::{Device, Grad};
use crate::tape::{Grads, Input, Slot, Var};
use crate::{Error, Result};

/// The weights `[K, C, R, S]` (in memory KRSC) and biases `[K]` of `N` layers, as variables or buffers. Each layer but
/// the last ends in a ReLU; the last one does if `relu` is set.
pub struct Params<'a, T, const N: usize> {
    pub w: [&'a T; N],
    pub b: [&'a T; N],
    pub relu: bool,
}

impl<T, const N: usize> Clone for Params<'_, T, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, const N: usize> Copy for Params<'_, T, N> {}

impl<'a, T, const N: usize> Params<'a, T, N> {
    /// The parameters of layer `i` (from 0).
    pub fn layer(&self, i: usize) -> Affine<'a, T> {
        Affine { w: self.w[i], bias: Some(self.b[i]), relu: i + 1 < N || self.relu }
    }
}

/// The wanted gradients of the parameters of `N` layers, and of the first layer's input.
pub struct ChainWanted<'a, Buf, const N: usize> {
    pub dx: Option<&'a mut Grad<Buf>>,
    pub layers: [Wanted<'a, Buf>; N],
}

/// A chain on a tape: the variables of `N` layers' parameters and of the first layer's input.
pub(super) struct Chain<B: Device, const N: usize> {
    pub(super) x: Var<B>,
    w: [Var<B>; N],
    b: [Var<B>; N],
    relu: bool,
}

impl<B: Device, const N: usize> Chain<B, N> {
    /// # Errors
    /// [`Error::Shape`] for a bias that does not have one element for each of its layer's output channels `k`, or a
    /// variable that is given more than once: the kernel would write the same gradient twice at the same time.
    pub(super) fn new(op: &'static str, x: Var<B>, params: Params<'_, Var<B>, N>, k: [usize; N]) -> Result<Self> {
        for (bias, k) in params.b.into_iter().zip(k) {
            affine::require_bias(op, Some(bias), k)?;
        }
        let Params { w, b, relu } = params;
        let chain = Chain { x, w: w.map(Var::clone), b: b.map(Var::clone), relu };
        let slots: Vec<Slot> = chain.inputs().collect();
        match (1..slots.len()).find(|&i| slots[..i].iter().any(|slot| slot.is(slots[i]))) {
            Some(twice) => {
                let problem = format!(
                    "a variable of shape {} is given twice; run the layers one by one, their gradients then add up",
                    slots[twice].shape
                );
                Err(Error::shape(op, problem))
            }
            None => Ok(chain),
        }
    }

    fn vars(&self) -> impl Iterator<Item = &Var<B>> {
        [&self.x].into_iter().chain(&self.w).chain(&self.b)
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = Slot> {
        self.vars().map(|var| var.slot)
    }

    pub(super) fn params(&self) -> Params<'_, B::Buf, N> {
        Params { w: self.w.each_ref().map(Var::data), b: self.b.each_ref().map(Var::data), relu: self.relu }
    }

    /// Opens the wanted gradients, calls `passes` to write them, and closes them.
    pub(super) fn gradients(
        &self,
        grads: &mut Grads<B>,
        passes: impl FnOnce(ChainWanted<'_, B::Buf, N>) -> Result<()>,
    ) -> Result<()> {
        let inputs: Vec<Input<B>> = self.vars().map(Var::input).collect();
        let mut lent = inputs.iter().map(|input| grads.open(input)).collect::<Result<Vec<_>>>()?;
        let (dx, params) = lent.split_first_mut().expect("a chain has an input");
        let (dw, db) = params.split_at_mut(N);
        let mut layers = dw
            .iter_mut()
            .zip(db)
            .map(|(dw, db)| Wanted { dw: dw.as_mut().map(|dw| &mut dw.grad), db: db.as_mut().map(|db| &mut db.grad) });
        let layers = std::array::from_fn(|_| layers.next().expect("as many as there are layers"));
        passes(ChainWanted { dx: dx.as_mut().map(|dx| &mut dx.grad), layers })?;
        grads.close(lent.into_iter().flatten())
    }
}
