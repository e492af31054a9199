//! Numbers on a GPU. There are three ways to where they lie, for what one may do there: to read or change a value, it has to be
//! there, and who overwrites it says so.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::CUdeviceptr;

use super::arena::Block;
use super::parts::Parts;
use super::{Buffer, Bytes, Cuda, CudaError};
use crate::Result;
use crate::ops::Write;

/// How a buffer's numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    F32,
    Bf16,
}

impl Storage {
    pub(super) fn width(self) -> usize {
        match self {
            Storage::F32 => 4,
            Storage::Bf16 => 2,
        }
    }
}

/// Numbers on a GPU.
pub struct Buf {
    block: Block,
    len: usize,
    storage: Storage,
    /// A parameter's values once more, as activations are stored; the kernels that multiply read these. Whoever writes the
    /// parameter writes them too. There is none for parameters that were not uploaded (gradients, velocities).
    copy: Option<Box<Buf>>,
    /// Where the value is positive (`kernels/signs.cuh`), or room for that until a kernel has written the value.
    signs: Option<Bytes>,
    /// The value, if it has been left in parts that nobody has added up yet. Until then `block` holds anything.
    parts: Mutex<Option<Parts>>,
}

impl Buffer for Buf {
    fn len(&self) -> usize {
        self.len
    }
}

impl Buf {
    pub(super) fn new(block: Block, len: usize, storage: Storage) -> Self {
        Buf { block, len, storage, copy: None, signs: None, parts: Mutex::new(None) }
    }

    pub(super) fn with_copy(self, copy: Buf) -> Self {
        Buf { copy: Some(Box::new(copy)), ..self }
    }

    pub(super) fn with_signs(self, signs: Bytes) -> Buf {
        Buf { signs: Some(signs), ..self }
    }

    pub(super) fn storage(&self) -> Storage {
        self.storage
    }

    pub(crate) fn copy(&self) -> Option<&Buf> {
        self.copy.as_deref()
    }

    pub(super) fn into_block(self) -> Block {
        self.block
    }

    /// Where the signs lie; 0 if there are none.
    pub(super) fn signs(&self) -> CUdeviceptr {
        self.signs.as_ref().map_or(0, Bytes::address)
    }

    /// Where all of it is overwritten. What it held is void: parts, and a copy and signs, which would be out of date.
    pub(crate) fn overwritten(&mut self) -> CUdeviceptr {
        self.copy = None;
        self.written_with_copy().0
    }

    /// The same by a kernel that writes the signs as well, where there is room: second is where, or 0.
    pub(crate) fn overwritten_with_signs(&mut self) -> [CUdeviceptr; 2] {
        let signs = self.signs.take();
        let address = self.overwritten();
        self.signs = signs;
        [address, self.signs()]
    }

    /// The same for those who write the copy as well.
    pub(super) fn written_with_copy(&mut self) -> (CUdeviceptr, Option<&mut Buf>) {
        *self.parts.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
        self.signs = None;
        (self.block.address(), self.copy.as_deref_mut())
    }
}

impl Cuda {
    /// Where the value lies, to be read: its parts are added up before, if that has not been done.
    pub(crate) fn settled(&self, buf: &Buf) -> Result<CUdeviceptr> {
        let address = buf.block.address();
        // Nobody else finds it settled before the sum has been asked for.
        let mut parts = self.unsettled(buf)?;
        if let Some(parts) = &*parts {
            self.sum(parts, address, buf.len, Write::Overwrite)?;
        }
        *parts = None;
        Ok(address)
    }

    /// Where the value lies, to be changed. A copy would be out of date, and signs.
    pub(crate) fn changed(&self, buf: &mut Buf) -> Result<CUdeviceptr> {
        buf.copy = None;
        buf.signs = None;
        self.settled(buf)
    }

    /// Where the value is overwritten, or added to.
    pub(crate) fn written(&self, buf: &mut Buf, write: Write) -> Result<CUdeviceptr> {
        match write {
            Write::Overwrite => Ok(buf.overwritten()),
            Write::Accumulate => self.changed(buf),
        }
    }

    /// The value becomes the sum of `parts`, when somebody reads it, or has it added.
    pub(super) fn leave_in(&self, parts: Parts, buf: &mut Buf, write: Write) -> Result<()> {
        if buf.storage != Storage::F32 {
            let mut sum = self.raw(Storage::F32, buf.len)?;
            self.sum(&parts, sum.overwritten(), buf.len, Write::Overwrite)?;
            return self.cast(&sum, buf, write);
        }
        let address = self.written(buf, write)?;
        // What is there before a recording and after it may be read by work that is not recorded.
        if write == Write::Accumulate || parts.recorded() != buf.block.recorded() {
            return self.sum(&parts, address, buf.len, write);
        }
        *buf.parts.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(parts);
        Ok(())
    }

    /// The parts in which the value still lies.
    pub(crate) fn parts_of(&self, buf: &Buf) -> Result<Option<Parts>> {
        Ok(self.unsettled(buf)?.clone())
    }

    fn unsettled<'a>(&self, buf: &'a Buf) -> Result<MutexGuard<'a, Option<Parts>>> {
        // A panic elsewhere leaves the parts, or none.
        let parts = buf.parts.lock().unwrap_or_else(PoisonError::into_inner);
        match &*parts {
            // Replays would find them only as long as nobody reads the value, and before the first there would be none.
            Some(parts) if self.is_recording() && !parts.recorded() => Err(CudaError::UnsettledBeforeRecording.into()),
            _ => Ok(parts),
        }
    }
}
