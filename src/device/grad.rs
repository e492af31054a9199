//! A gradient while kernels write it: whether they overwrite or add, and the ReLU that masks it.

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
    /// The first contributor overwrites a fresh buffer, later ones add.
    pub write: Write,
    mask: Option<Arc<Buf>>,
}

impl<Buf> Grad<Buf> {
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

    /// The value that masks this gradient, if a ReLU made it. Taking it is a promise: the kernel zeroes the gradient where the
    /// value is not positive, the sum where it adds. A mask that no kernel takes is applied by [`Grad::finish`].
    pub fn take_mask(&mut self) -> Option<Arc<Buf>> {
        self.mask.take()
    }

    /// The gradient, masked by a pass of its own where no kernel has taken the mask.
    pub fn finish<D: Device<Buf = Buf>>(mut self, device: &D) -> Result<Buf> {
        if let Some(value) = self.mask {
            device.relu_mask(&value, &mut self.buf)?;
        }
        Ok(self.buf)
    }
}
