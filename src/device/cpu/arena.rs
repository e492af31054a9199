//! The arena: buffers that are used again. In its steady state a program asks the system for no memory. The arena keeps its
//! blocks until the device is dropped.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Memory;
use crate::system::allocation::zeroed;
use crate::{Error, Result};

/// The free blocks of a device, by length, and its statistics.
pub(crate) struct Arena<E> {
    state: Mutex<State<E>>,
}

struct State<E> {
    free: BTreeMap<usize, Vec<Box<[E]>>>,
    memory: Memory,
}

impl<E: bytemuck::Zeroable> Arena<E> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Arena { state: Mutex::new(State { free: BTreeMap::new(), memory: Memory::default() }) })
    }

    /// The smallest free block of at least `len` elements that is no more than twice as large, else a new one. So a short last
    /// batch runs in the blocks of full batches.
    ///
    /// # Errors
    /// [`Error::Memory`] if the system has no memory for a new block and `headroom` bytes besides.
    pub(crate) fn take(arena: &Arc<Self>, len: usize, headroom: usize) -> Result<Buf<E>> {
        let mut state = arena.lock();
        let fits =
            state.free.range(len..=len.saturating_mul(2)).find(|(_, blocks)| !blocks.is_empty()).map(|(&size, _)| size);
        let waiting = fits.and_then(|size| state.free.get_mut(&size)?.pop());
        let block = match waiting {
            Some(block) => block,
            None => {
                let (bytes, in_use) = (len.saturating_mul(size_of::<E>()), state.memory.in_use);
                let refused = |bytes| Error::Memory { device: "cpu".into(), bytes, in_use, free: None };
                let block = zeroed(len).ok_or_else(|| refused(bytes))?;
                // The compiler may leave out an allocation that nothing looks at, and take it for granted.
                drop(black_box(zeroed::<u8>(headroom).ok_or_else(|| refused(bytes + headroom))?));
                state.memory.allocations += 1;
                state.memory.reserved += bytes;
                block
            }
        };
        state.memory.in_use += block.len() * size_of::<E>();
        state.memory.peak = state.memory.peak.max(state.memory.in_use);
        drop(state);
        Ok(Buf { block, len, arena: arena.clone() })
    }
}

impl<E> Arena<E> {
    pub(crate) fn memory(&self) -> Memory {
        self.lock().memory
    }

    fn lock(&self) -> MutexGuard<'_, State<E>> {
        // A panic while the lock is held leaves the lists whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer of the CPU backend: a slice that returns to its arena when it is dropped.
pub struct Buf<E> {
    block: Box<[E]>,
    len: usize,
    arena: Arc<Arena<E>>,
}

impl<E> Deref for Buf<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        &self.block[..self.len]
    }
}

impl<E> DerefMut for Buf<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        &mut self.block[..self.len]
    }
}

impl<E> Drop for Buf<E> {
    fn drop(&mut self) {
        let block = std::mem::take(&mut self.block);
        let mut state = self.arena.lock();
        state.memory.in_use -= block.len() * size_of::<E>();
        state.free.entry(block.len()).or_default().push(block);
    }
}

/// Working memory for a parallel loop: one buffer for each thread. All are taken before the loop starts, so the memory that a
/// loop takes does not depend on the scheduling of its threads.
pub(crate) struct Scratch<E> {
    per_thread: Vec<Mutex<Buf<E>>>,
}

impl<E> Scratch<E> {
    /// A buffer by `take` for each of `threads` threads.
    pub(crate) fn new(threads: usize, take: impl Fn() -> Result<Buf<E>>) -> Result<Self> {
        Ok(Scratch { per_thread: (0..threads).map(|_| take().map(Mutex::new)).collect::<Result<_>>()? })
    }

    /// This thread's buffer; its contents are unspecified.
    pub(crate) fn get(&self) -> MutexGuard<'_, Buf<E>> {
        let thread = rayon::current_thread_index().unwrap_or(0) % self.per_thread.len();
        self.per_thread[thread].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_used_again() {
        let arena = Arena::<f32>::new();
        for len in [100, 100, 60] {
            drop(Arena::take(&arena, len, 0).unwrap());
        }
        assert_eq!(arena.memory(), Memory { in_use: 0, peak: 400, reserved: 400, allocations: 1 });
        let (a, b) = (Arena::take(&arena, 100, 0).unwrap(), Arena::take(&arena, 49, 0).unwrap());
        assert_eq!((a.len(), b.len()), (100, 49));
        assert_eq!(arena.memory(), Memory { in_use: 596, peak: 596, reserved: 596, allocations: 2 });
    }

    #[test]
    fn what_no_machine_has_is_refused() {
        let arena = Arena::<f32>::new();
        for (len, headroom) in [(usize::MAX, 0), (usize::MAX / 4, 0), (1 << 60, 0), (1, 1 << 62)] {
            let error = Arena::take(&arena, len, headroom).err().expect("an error").to_string();
            assert!(error.contains("make the batch smaller"), "{error}");
        }
        assert_eq!(arena.memory(), Memory::default());
    }
}
