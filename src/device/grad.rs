//! A gradient that kernels write: whether they overwrite or add, and the ReLU output that masks it.

use std::sync::Arc;

use super::{Device, Real};
use crate::Result;

/// Whether a kernel overwrites its destination or adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    Overwrite,
    Accumulate,
}

impl Write {
    /// The new content of a destination that held `old`, after `value` was written to it.
    #[inline]
    pub(crate) fn onto<T: Real>(self, old: T, value: T) -> T {
        match self {
            Write::Overwrite => value,
            Write::Accumulate => old + value,
        }
    }
}

/// The gradient of a value, lent to a kernel.
pub struct Grad<Buf> {
    pub buf: Buf,
    /// The first contributor overwrites the fresh buffer; later ones add.
    pub write: Write,
    mask: Option<Arc<Buf>>,
}

impl<Buf> Grad<Buf> {
    /// A gradient in `buf` without a mask.
    pub fn new(buf: Buf, write: Write) -> Self {
        Grad { buf, write, mask: None }
    }

    /// The gradient of `value`, the output of a ReLU: it is zero where `value` is not positive.
    pub fn masked_by(mut self, value: Arc<Buf>) -> Self {
        self.set_mask(value);
        self
    }

    /// [`Grad::masked_by`], in place.
    pub fn set_mask(&mut self, value: Arc<Buf>) {
        self.mask = Some(value);
    }

    /// The ReLU output that masks this gradient, if there is one. A kernel that takes it must zero the gradient where
    /// the output is not positive; with [`Write::Accumulate`], it must zero the sum. [`Grad::finish`] applies a mask
    /// that no kernel took.
    pub fn take_mask(&mut self) -> Option<Arc<Buf>> {
        self.mask.take()
    }

    /// The finished gradient. If no kernel took the mask, a separate pass applies it.
    ///
    /// # Errors
    /// As [`Device::relu_mask`].
    pub fn finish<D: Device<Buf = Buf>>(mut self, device: &D) -> Result<Buf> {
        if let Some(value) = self.mask {
            device.relu_mask(&value, &mut self.buf)?;
        }
        Ok(self.buf)
    }
}
