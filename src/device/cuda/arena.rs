//! The arena: device memory that is used again. In its steady state a program asks the driver for no memory. A block
//! that is given back may be lent again at once: its next use comes later on the device's stream. While there is a fork (`fork.rs`),
//! blocks that are given back are parked until the device's stream goes on after it. (NCCL has a stream of its own; what it reads and
//! writes is kept until the device's stream has gone on after it.)

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::CudaContext;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{CUdeviceptr, CUresult};

use super::{CudaError, Memory};
use crate::{Error, Result};

/// Sizes of blocks are multiples of this many bytes; accesses of 16 bytes need that too.
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
        // A context that has failed cannot free memory; the end of the process does.
        let _ = freed;
    }
}

/// The free blocks of a device, and its statistics.
pub(super) struct Arena {
    context: Arc<CudaContext>,
    device: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    free: Waiting,
    /// Free blocks of recordings. A replay uses them again, so no other work may hold them. All recordings share them, since no
    /// recording reads what another one left in them.
    recorded: Waiting,
    /// Forks that are not joined, and the blocks that were given back since the first of them.
    forks: usize,
    parked: Vec<Returned>,
    /// What blocks are taken for now.
    purpose: Purpose,
    /// The number of live recordings.
    recordings: usize,
    /// The blocks that are held of those that were taken for recordings.
    lent_to_steps: usize,
    memory: Memory,
}

/// What blocks are taken for.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Work that is done as it is called.
    #[default]
    Call,
    /// Work that is done as it is called, from the memory of recordings.
    WarmUp,
    /// A recording. The blocks that it has dropped are waiting, and are in it: they cannot be given back to the driver.
    Recording,
}

/// How long a block is held.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// No longer than the work that takes it: recordings have such blocks from their own memory.
    Step,
    /// For longer. No replay may write to it.
    Lasting,
}

/// Free allocations by size.
type Waiting = BTreeMap<usize, Vec<Allocation>>;

/// An allocation that is given back, and whether it was taken from the blocks of recordings.
struct Returned {
    allocation: Allocation,
    recorded: bool,
}

impl State {
    fn take_back(&mut self, Returned { allocation, recorded }: Returned) {
        self.memory.in_use -= allocation.bytes;
        // Without a live recording the block is free for all, unless blocks are being taken for one now.
        let kept = recorded && (self.recordings > 0 || self.purpose != Purpose::Call);
        let waiting = if kept { &mut self.recorded } else { &mut self.free };
        waiting.entry(allocation.bytes).or_default().push(allocation);
    }
}

/// Takes the smallest free allocation with a size in `sizes`.
fn fitting(waiting: &mut Waiting, sizes: RangeInclusive<usize>) -> Option<Allocation> {
    waiting.range_mut(sizes).find_map(|(_, allocations)| allocations.pop())
}

impl Arena {
    pub(super) fn new(context: &Arc<CudaContext>, device: String) -> Arc<Self> {
        Arc::new(Arena { context: context.clone(), device, state: Mutex::default() })
    }

    /// The smallest free block of at least `bytes` bytes that is no more than twice as large, else a new one. With debug
    /// assertions a block has exactly `bytes` bytes, so that the virtual GPU and compute-sanitizer see an access beyond a
    /// buffer's end.
    ///
    /// # Errors
    /// [`Error::Memory`] if the device has no memory for a new block, even after the free ones were given back.
    pub(super) fn take(arena: &Arc<Self>, bytes: usize, life: Life) -> Result<Block> {
        let mut state = arena.lock();
        let size = match cfg!(debug_assertions) {
            true => bytes.max(1),
            false => bytes.max(1).checked_next_multiple_of(GRAIN).unwrap_or(usize::MAX),
        };
        let largest = if cfg!(debug_assertions) { size } else { size.saturating_mul(2) };
        let recorded = state.purpose != Purpose::Call && life == Life::Step;
        let used_before = if recorded { fitting(&mut state.recorded, size..=largest) } else { None };
        let waiting = used_before.or_else(|| fitting(&mut state.free, size..=largest));
        let allocation = match waiting {
            Some(allocation) => allocation,
            None => arena.fresh(&mut state, size)?,
        };
        state.memory.in_use += allocation.bytes;
        state.lent_to_steps += usize::from(recorded);
        state.memory.peak = state.memory.peak.max(state.memory.in_use);
        drop(state);
        Ok(Block { allocation: Some(allocation), recorded, arena: arena.clone() })
    }

    /// Until the result is dropped, blocks are taken for `purpose`.
    pub(super) fn lend(arena: &Arc<Self>, purpose: Purpose) -> Lent {
        arena.lock().purpose = purpose;
        Lent(arena.clone())
    }

    /// Checks that work for recordings, which has ended, holds on to none of its blocks: replays of others would write to it.
    ///
    /// # Errors
    /// [`CudaError::KeptBeyondStep`].
    pub(super) fn require_nothing_lent(&self) -> Result<()> {
        if self.lock().lent_to_steps > 0 { Err(CudaError::KeptBeyondStep.into()) } else { Ok(()) }
    }

    pub(super) fn purpose(&self) -> Purpose {
        self.lock().purpose
    }

    /// Counts a fork. Until it is joined, blocks that are given back are parked.
    pub(super) fn forked(&self) {
        self.lock().forks += 1;
    }

    /// Counts a join, after which the device's stream goes on.
    pub(super) fn joined(&self) {
        let mut state = self.lock();
        state.forks -= 1;
        if state.forks == 0 {
            for returned in std::mem::take(&mut state.parked) {
                state.take_back(returned);
            }
        }
    }

    fn fresh(&self, state: &mut State, bytes: usize) -> Result<Allocation> {
        let allocation = Allocation::new(&self.context, bytes).or_else(|error| {
            if error.0 != CUresult::CUDA_ERROR_OUT_OF_MEMORY {
                return Err(error);
            }
            let mut given_back = std::mem::take(&mut state.free);
            if state.recordings == 0 && state.purpose != Purpose::Recording {
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
                // The free blocks of recordings count as in use: other work cannot have them.
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
        // A panic while the lock is held leaves the lists whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While this lives, blocks are taken for a purpose; see [`Arena::lend`].
pub(super) struct Lent(Arc<Arena>);

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.lock().purpose = Purpose::Call;
    }
}

/// A live recording. When the last one is dropped, the recordings' free blocks become free for all work.
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

/// Device memory that returns to its arena when it is dropped.
pub(super) struct Block {
    /// `Some` until the block is dropped.
    allocation: Option<Allocation>,
    /// Taken from the blocks of recordings.
    recorded: bool,
    arena: Arc<Arena>,
}

impl Block {
    pub(super) fn address(&self) -> CUdeviceptr {
        self.allocation.as_ref().map_or(0, |allocation| allocation.address)
    }

    /// Whether it was taken from the blocks of recordings.
    pub(super) fn recorded(&self) -> bool {
        self.recorded
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let Some(allocation) = self.allocation.take() else { return };
        let returned = Returned { allocation, recorded: self.recorded };
        let mut state = self.arena.lock();
        state.lent_to_steps -= usize::from(self.recorded);
        match state.forks {
            0 => state.take_back(returned),
            _ => state.parked.push(returned),
        }
    }
}
