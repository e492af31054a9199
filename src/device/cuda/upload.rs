//! Uploads: pieces of page-locked memory, from which the driver copies while the host fills the next one.
//!
//! A copy from the caller's own memory may still read it after the call, where a GPU uses the host's page tables, and elsewhere the
//! driver copies it twice.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytemuck::Pod;
use cudarc::driver::sys::{CUdeviceptr, CUevent_flags};
use cudarc::driver::{CudaContext, CudaEvent, result};

use super::arena::Purpose;
use super::page::Page;
use super::{Cuda, CudaError};
use crate::Result;

/// The most bytes of a piece: a copy of some tens of microseconds, beside which its launch is little.
const PIECE: usize = 1 << 20;

/// Pieces: one that the host fills, and two that wait or are copied.
const PIECES: usize = 3;

/// Pieces that have been sent, the oldest first.
#[derive(Default)]
pub(super) struct Pieces(Mutex<VecDeque<Piece>>);

struct Piece {
    page: Page,
    copied: CudaEvent,
}

impl Piece {
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) where the host has none to lock.
    fn new(context: &Arc<CudaContext>) -> Result<Self> {
        let copied = context.new_event(Some(CUevent_flags::CU_EVENT_DISABLE_TIMING));
        Ok(Piece { page: Page::new(context, PIECE)?, copied: copied.map_err(CudaError::driver("cuEventCreate"))? })
    }

    fn is_copied(&self) -> Result<bool> {
        self.copied.try_is_complete().map_err(CudaError::driver("cuEventQuery"))
    }
}

impl Cuda {
    /// Copies `len` numbers to the device. `fill` gets the place of a piece's first and the piece, all of which it writes.
    pub(super) fn send_by<T: Pod>(&self, to: CUdeviceptr, len: usize, fill: impl Fn(usize, &mut [T])) -> Result<()> {
        let most = PIECE / size_of::<T>();
        for from in (0..len).step_by(most) {
            let count = most.min(len - from);
            self.send_piece(to + (from * size_of::<T>()) as u64, count, |room| fill(from, room))?;
        }
        Ok(())
    }

    fn send_piece<T: Pod>(&self, to: CUdeviceptr, len: usize, fill: impl FnOnce(&mut [T])) -> Result<()> {
        let _turn = self.turn()?;
        let (context, stream) = (&self.shared.context, &self.stream);
        if self.shared.arena.purpose() == Purpose::Recording {
            // A replay would copy what the piece has by then.
            let problem = "an upload cannot be recorded; upload before the recording begins".into();
            return Err(CudaError::Driver { call: "cuMemcpyHtoDAsync", problem }.into());
        }
        // The lock is held until the copy has been launched: pieces are in the order of their copies. A panic leaves them whole.
        let mut sent = self.shared.pieces.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = match sent.front() {
            Some(piece) if sent.len() == PIECES || piece.is_copied()? => sent.pop_front(),
            _ => None,
        };
        let Piece { mut page, copied } = match oldest {
            Some(piece) => piece,
            None => Piece::new(context)?,
        };
        // Of a new piece, whose event nothing has recorded yet, this returns at once.
        copied.synchronize().map_err(CudaError::driver("cuEventSynchronize"))?;
        let room = page.room(len);
        fill(room);
        // SAFETY: the caller's buffer has as many numbers, and the page is neither written nor freed before `copied`.
        let copying = unsafe { result::memcpy_htod_async(to, room, stream.cu_stream()) };
        copying.map_err(CudaError::driver("cuMemcpyHtoDAsync"))?;
        copied.record(stream).map_err(CudaError::driver("cuEventRecord"))?;
        sent.push_back(Piece { page, copied });
        Ok(())
    }

    /// Copies a slice to the device.
    pub(super) fn send<T: Pod>(&self, to: CUdeviceptr, host: &[T]) -> Result<()> {
        self.send_by(to, host.len(), |from, room| room.copy_from_slice(&host[from..][..room.len()]))
    }
}
