//! Device memory that is used again: once a program has come to its steady state, it asks the driver for nothing. All work
//! goes through one stream, so a block that is given back may be lent out at once: whoever gets it comes later.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::CudaContext;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{CUdeviceptr, CUresult};

use super::{CudaError, Memory};
use crate::{Error, Result};

/// Blocks are multiples of this, which is also what 16-byte accesses need.
const GRAIN: usize = 16;

/// Device memory, taken from the driver and given back to it.
struct Allocation {
    address: CUdeviceptr,
    bytes: usize,
    context: Arc<CudaContext>,
}

impl Allocation {
    fn new(context: &Arc<CudaContext>, bytes: usize) -> std::result::Result<Self, DriverError> {
        context.bind_to_thread()?;
        // SAFETY: a context is bound.
        let address = unsafe { result::malloc_sync(bytes)? };
        Ok(Allocation { address, bytes, context: context.clone() })
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: the address came from `malloc_sync`, and its one owner goes away. `cuMemFree` waits for work that uses it.
        let freed = self.context.bind_to_thread().and_then(|()| unsafe { result::free_sync(self.address) });
        // A context that has failed frees nothing any more; the process's end does.
        let _ = freed;
    }
}

/// Blocks waiting for their next use, by size.
pub(super) struct Arena {
    context: Arc<CudaContext>,
    device: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    free: Waiting,
    /// Blocks that recorded work uses. It will use them again whenever it is replayed, so nothing else may hold them; all
    /// recordings share them, since none leaves anything in them.
    recorded: Waiting,
    recording: bool,
    /// How many recordings there are.
    recordings: usize,
    memory: Memory,
}

/// Allocations by size.
type Waiting = BTreeMap<usize, Vec<Allocation>>;

/// The smallest waiting allocation with a size in `sizes`.
fn fitting(waiting: &mut Waiting, sizes: RangeInclusive<usize>) -> Option<Allocation> {
    waiting.range_mut(sizes).find_map(|(_, allocations)| allocations.pop())
}

impl Arena {
    pub(super) fn new(context: &Arc<CudaContext>, device: String) -> Arc<Self> {
        Arc::new(Arena { context: context.clone(), device, state: Mutex::default() })
    }

    /// The smallest waiting block of at least `bytes` that does not waste more than half of itself, else a fresh one.
    /// With debug assertions a block is never larger than what was asked for, so that the virtual GPU and
    /// compute-sanitizer see an access beyond a buffer's end.
    ///
    /// # Errors
    /// [`Error::Memory`] if the device has no such block to give, even after the waiting ones were given back.
    pub(super) fn take(arena: &Arc<Self>, bytes: usize) -> Result<Block> {
        let mut state = arena.lock();
        let size = match cfg!(debug_assertions) {
            true => bytes.max(1),
            false => bytes.max(1).checked_next_multiple_of(GRAIN).unwrap_or(usize::MAX),
        };
        let largest = if cfg!(debug_assertions) { size } else { size.saturating_mul(2) };
        let recorded = state.recording;
        let used_before = if recorded { fitting(&mut state.recorded, size..=largest) } else { None };
        let waiting = used_before.or_else(|| fitting(&mut state.free, size..=largest));
        let allocation = match waiting {
            Some(allocation) => allocation,
            None => arena.fresh(&mut state, size)?,
        };
        state.memory.in_use += allocation.bytes;
        state.memory.peak = state.memory.peak.max(state.memory.in_use);
        drop(state);
        Ok(Block { allocation: Some(allocation), recorded, arena: arena.clone() })
    }

    /// Until the result is dropped, blocks are taken for work that is recorded, or that leaves nothing behind, as such
    /// work does.
    pub(super) fn lend_to_recordings(arena: &Arc<Self>) -> Lent {
        arena.lock().recording = true;
        Lent(arena.clone())
    }

    pub(super) fn is_lent_to_recordings(&self) -> bool {
        self.lock().recording
    }

    fn fresh(&self, state: &mut State, bytes: usize) -> Result<Allocation> {
        let allocation = Allocation::new(&self.context, bytes).or_else(|error| {
            if error.0 != CUresult::CUDA_ERROR_OUT_OF_MEMORY {
                return Err(error);
            }
            let mut given_back = std::mem::take(&mut state.free);
            if state.recordings == 0 {
                for (size, allocations) in std::mem::take(&mut state.recorded) {
                    given_back.entry(size).or_default().extend(allocations);
                }
            }
            let waiting: usize = given_back.values().flatten().map(|allocation| allocation.bytes).sum();
            drop(given_back);
            state.memory.reserved -= waiting;
            Allocation::new(&self.context, bytes)
        });
        match allocation {
            Ok(allocation) => {
                state.memory.allocations += 1;
                state.memory.reserved += bytes;
                Ok(allocation)
            }
            Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                let free = result::mem_get_info().map_or(0, |(free, _)| free);
                // What recordings hold is of no use to others.
                let (device, in_use) = (self.device.clone(), state.memory.reserved);
                Err(Error::Memory { device, bytes, in_use, free: Some(free) })
            }
            Err(error) => Err(CudaError::driver("cuMemAlloc")(error)),
        }
    }

    pub(super) fn memory(&self) -> Memory {
        self.lock().memory
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, and if something did, the lists would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Blocks are lent to recordings as long as this lives.
pub(super) struct Lent(Arc<Arena>);

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.lock().recording = false;
    }
}

/// A recording that uses recorded blocks. With the last of them they are free for all.
pub(super) struct Recorded(Arc<Arena>);

impl Recorded {
    pub(super) fn new(arena: &Arc<Arena>) -> Self {
        arena.lock().recordings += 1;
        Recorded(arena.clone())
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.recordings -= 1;
        if state.recordings == 0 {
            for (size, allocations) in std::mem::take(&mut state.recorded) {
                state.free.entry(size).or_default().extend(allocations);
            }
        }
    }
}

/// Device memory that goes back to its arena when it is dropped.
pub(super) struct Block {
    /// There until the block is dropped.
    allocation: Option<Allocation>,
    /// Taken while work was recorded.
    recorded: bool,
    arena: Arc<Arena>,
}

impl Block {
    pub(super) fn address(&self) -> CUdeviceptr {
        self.allocation.as_ref().map_or(0, |allocation| allocation.address)
    }

    /// Whether it was taken while work was recorded.
    pub(super) fn recorded(&self) -> bool {
        self.recorded
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let Some(allocation) = self.allocation.take() else { return };
        let mut state = self.arena.lock();
        state.memory.in_use -= allocation.bytes;
        // Where there is no recording, nothing is kept for one, but for the work that may be recorded next.
        let kept = self.recorded && (state.recordings > 0 || state.recording);
        let waiting = if kept { &mut state.recorded } else { &mut state.free };
        waiting.entry(allocation.bytes).or_default().push(allocation);
    }
}
