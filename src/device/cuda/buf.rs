//! Numbers on a GPU. Three accessors give the address: `settled` to read (pending parts are summed first), `changed` to
//! modify, `overwritten` to replace.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::CUdeviceptr;

use super::arena::{Block, Life};
use super::parts::Parts;
use super::{Buffer, Bytes, Cuda, CudaError};
use crate::Result;
use crate::device::Write;

/// How a buffer's numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    F32,
    /// fp32 whose last 13 bits are zero.
    Tf32,
    Bf16,
}

impl Storage {
    /// Bytes of an element.
    pub(super) fn width(self) -> usize {
        match self {
            Storage::F32 | Storage::Tf32 => 4,
            Storage::Bf16 => 2,
        }
    }
}

/// Numbers on a GPU.
pub struct Buf {
    block: Block,
    len: usize,
    storage: Storage,
    beside: Beside,
}

/// What a buffer has beside its numbers: each role has one such companion, or none.
enum Beside {
    Nothing,
    /// An uploaded parameter: the same values as activations are stored, which the GEMM kernels read. Every write of the
    /// parameter writes or drops them.
    Copy(Box<Buf>),
    /// A ReLU's output: one bit an element, set where the value is positive (`kernels/signs.cuh`). Unset until a kernel has
    /// written the value.
    Signs(Bytes),
    /// A gradient that was left in parts: `None` once they have been summed. Before that, `block` holds no value.
    Parts(Mutex<Option<Parts>>),
}

impl Buffer for Buf {
    fn len(&self) -> usize {
        self.len
    }
}

impl Buf {
    pub(super) fn new(block: Block, len: usize, storage: Storage) -> Self {
        Buf { block, len, storage, beside: Beside::Nothing }
    }

    pub(super) fn with_copy(self, copy: Buf) -> Self {
        Buf { beside: Beside::Copy(Box::new(copy)), ..self }
    }

    pub(super) fn with_signs(self, signs: Bytes) -> Buf {
        Buf { beside: Beside::Signs(signs), ..self }
    }

    pub(super) fn storage(&self) -> Storage {
        self.storage
    }

    /// A parameter's values as activations are stored, if it has them.
    pub(crate) fn copy(&self) -> Option<&Buf> {
        match &self.beside {
            Beside::Copy(copy) => Some(copy),
            _ => None,
        }
    }

    pub(super) fn into_block(self) -> Block {
        self.block
    }

    /// The address of the signs; 0 if there are none.
    pub(super) fn signs(&self) -> CUdeviceptr {
        match &self.beside {
            Beside::Signs(signs) => signs.address(),
            _ => 0,
        }
    }

    /// The address, to replace the value. Parts are void then, and a copy and signs would be out of date: all are dropped.
    pub(crate) fn overwritten(&mut self) -> CUdeviceptr {
        self.beside = Beside::Nothing;
        self.block.address()
    }

    /// [`Buf::overwritten`] for a kernel that writes the signs too: second is the address of the room for them, or 0.
    pub(crate) fn overwritten_with_signs(&mut self) -> [CUdeviceptr; 2] {
        if !matches!(self.beside, Beside::Signs(_)) {
            self.beside = Beside::Nothing;
        }
        [self.block.address(), self.signs()]
    }

    /// [`Buf::overwritten`] for a writer that writes the copy too.
    pub(super) fn overwritten_with_copy(&mut self) -> (CUdeviceptr, Option<&mut Buf>) {
        if !matches!(self.beside, Beside::Copy(_)) {
            self.beside = Beside::Nothing;
        }
        let copy = match &mut self.beside {
            Beside::Copy(copy) => Some(&mut **copy),
            _ => None,
        };
        (self.block.address(), copy)
    }
}

impl Cuda {
    /// The address, to read the value. Parts that are pending are summed before.
    pub(crate) fn settled(&self, buf: &Buf) -> Result<CUdeviceptr> {
        let address = buf.block.address();
        if let Beside::Parts(parts) = &buf.beside {
            // The lock is held until the sum has been launched: no other thread finds the value settled before.
            let _turn = self.turn()?;
            let mut parts = self.pending(parts)?;
            if let Some(parts) = &*parts {
                self.sum(parts, address, buf.len, Write::Overwrite)?;
            }
            *parts = None;
        }
        Ok(address)
    }

    /// The address, to modify the value. A copy and signs would be out of date: they are dropped.
    pub(crate) fn changed(&self, buf: &mut Buf) -> Result<CUdeviceptr> {
        if !matches!(buf.beside, Beside::Parts(_)) {
            buf.beside = Beside::Nothing;
        }
        self.settled(buf)
    }

    /// The address, to replace the value or to add to it.
    pub(crate) fn written(&self, buf: &mut Buf, write: Write) -> Result<CUdeviceptr> {
        match write {
            Write::Overwrite => Ok(buf.overwritten()),
            Write::Accumulate => self.changed(buf),
        }
    }

    /// The value becomes the sum of `parts`, or has it added. A value in fp32 that is replaced keeps the parts, and they are
    /// summed when it is read.
    pub(super) fn leave_in(&self, parts: Parts, buf: &mut Buf, write: Write) -> Result<()> {
        if buf.storage != Storage::F32 {
            let mut sum = self.raw(Storage::F32, buf.len, Life::Step)?;
            self.sum(&parts, sum.overwritten(), buf.len, Write::Overwrite)?;
            return self.cast(&sum, buf, write);
        }
        let address = self.written(buf, write)?;
        // A buffer that outlives the recording may be read by work outside of it, and the parts do not outlive it.
        if write == Write::Accumulate || parts.recorded() != buf.block.recorded() {
            return self.sum(&parts, address, buf.len, write);
        }
        buf.beside = Beside::Parts(Mutex::new(Some(parts)));
        Ok(())
    }

    /// The parts of a value that are still pending.
    pub(crate) fn parts_of(&self, buf: &Buf) -> Result<Option<Parts>> {
        match &buf.beside {
            Beside::Parts(parts) => {
                let _turn = self.turn()?;
                Ok(self.pending(parts)?.clone())
            }
            _ => Ok(None),
        }
    }

    fn pending<'a>(&self, parts: &'a Mutex<Option<Parts>>) -> Result<MutexGuard<'a, Option<Parts>>> {
        // A panic elsewhere leaves the parts, or none.
        let parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
        match &*parts {
            // A replay would sum parts of the step before the recording, which are gone once the value has been read.
            Some(parts) if self.is_recording() && !parts.recorded() => Err(CudaError::UnsettledBeforeRecording.into()),
            _ => Ok(parts),
        }
    }
}
