//! The arguments of affine layers by name: weights, bias, ReLU, and the wanted gradients.

use crate::device::{Device, Grad};
use crate::tape::{Slot, Var};
use crate::{Error, Result, Shape};

/// The parameters of an affine layer, as variables or buffers: weights `[K, C, R, S]` (in memory KRSC) and an optional
/// bias `[K]`. `relu` puts a ReLU into the epilogue.
pub struct Affine<'a, T> {
    pub w: &'a T,
    pub bias: Option<&'a T>,
    pub relu: bool,
}

impl<T> Clone for Affine<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Affine<'_, T> {}

impl<'a, B: Device> Affine<'a, Var<B>> {
    /// The parameters' data.
    pub(super) fn data(self) -> Affine<'a, B::Buf> {
        Affine { w: self.w.data(), bias: self.bias.map(Var::data), relu: self.relu }
    }

    /// The slots of `x` and the parameters.
    pub(super) fn inputs(self, x: &Var<B>) -> impl Iterator<Item = Slot> + use<'a, B> {
        [x.slot, self.w.slot].into_iter().chain(self.bias.map(|bias| bias.slot))
    }
}

/// The wanted gradients of an affine layer's parameters.
pub struct Wanted<'a, Buf> {
    pub dw: Option<&'a mut Grad<Buf>>,
    pub db: Option<&'a mut Grad<Buf>>,
}

impl<Buf> Wanted<'_, Buf> {
    /// Whether no gradient is wanted.
    pub fn is_none(&self) -> bool {
        self.dw.is_none() && self.db.is_none()
    }
}

/// # Errors
/// [`Error::Shape`] if a bias does not have one element for each of `k` output channels.
pub(super) fn require_bias<B: Device>(op: &'static str, bias: Option<&Var<B>>, k: usize) -> Result<()> {
    match bias {
        Some(bias) if bias.shape() != Shape::vector(k) => {
            Err(Error::shape(op, format!("bias has shape {}, {k} output channels need [{k}]", bias.shape())))
        }
        _ => Ok(()),
    }
}
