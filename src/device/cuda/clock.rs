//! Per-step scalars in device memory, so that a replayed graph reads current values.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::{self, CUdeviceptr};

use super::arena::{Arena, Block, Life};
use super::turn::Turn;
use super::{Cuda, CudaError};
use crate::Result;
use crate::device::StepScalars;

/// A per-step scalar, a word of the clock.
#[derive(Clone, Copy)]
enum Scalar {
    // The order matters: kernels read the first three words as one struct, and the next two as another.
    Rate,
    FirstCorrection,
    SecondCorrection,
    Epoch,
    Step,
    First,
    Keep,
}

const WORDS: usize = 7;

/// The clock of a device: its per-step scalars, in device memory.
pub(super) struct Clock {
    words: Block,
    /// The value that each word has once all work so far is done; `None` until it is first set.
    known: Mutex<Known>,
}

impl Clock {
    pub(super) fn new(arena: &Arc<Arena>) -> Result<Self> {
        Ok(Clock { words: Arena::take(arena, WORDS * size_of::<u32>(), Life::Lasting)?, known: Mutex::default() })
    }
}

/// Words that have been set. They keep their values until this is dropped, so drop it after the launch that reads them.
pub(crate) struct Set<'a> {
    pub(crate) address: CUdeviceptr,
    _words: MutexGuard<'a, Known>,
    _turn: Turn<'a>,
}

type Known = [Option<u32>; WORDS];

impl Cuda {
    /// Sets the learning rate. The address is that of one float.
    pub(crate) fn rate(&self, rate: f32) -> Result<Set<'_>> {
        self.set([(Scalar::Rate, rate.to_bits())])
    }

    /// Sets the learning rate and the optimiser's two corrections. The address is that of three floats.
    pub(crate) fn rate_and_corrections(&self, rate: f32, [first, second]: [f32; 2]) -> Result<Set<'_>> {
        let words = [(Scalar::Rate, rate), (Scalar::FirstCorrection, first), (Scalar::SecondCorrection, second)];
        self.set(words.map(|(word, value)| (word, value.to_bits())))
    }

    /// Sets epoch and step. The address is that of two `u32`.
    pub(crate) fn position(&self, epoch: u32, step: u32) -> Result<Set<'_>> {
        self.set([(Scalar::Epoch, epoch), (Scalar::Step, step)])
    }

    /// Sets the position of a batch's first image in the order of its epoch. The address is that of one `u32`.
    pub(crate) fn first(&self, first: u32) -> Result<Set<'_>> {
        self.set([(Scalar::First, first)])
    }

    /// Sets what an update keeps of an average of the weights. The address is that of one float.
    pub(crate) fn keep(&self, keep: f32) -> Result<Set<'_>> {
        self.set([(Scalar::Keep, keep.to_bits())])
    }

    /// Sets all words, before work is recorded or replayed.
    pub(super) fn scalars(&self, scalars: &StepScalars) -> Result<Set<'_>> {
        let StepScalars { rate, corrections, keep, epoch, step, first } = *scalars;
        self.set([
            (Scalar::Rate, rate.to_bits()),
            (Scalar::FirstCorrection, corrections[0].to_bits()),
            (Scalar::SecondCorrection, corrections[1].to_bits()),
            (Scalar::Epoch, epoch),
            (Scalar::Step, step),
            (Scalar::First, first),
            (Scalar::Keep, keep.to_bits()),
        ])
    }

    fn set<const N: usize>(&self, words: [(Scalar, u32); N]) -> Result<Set<'_>> {
        let clock = &self.shared.clock;
        let address = |word: Scalar| clock.words.address() + (word as usize * size_of::<u32>()) as u64;
        let turn = self.turn()?;
        // A poisoned lock is harmless: every word's value is either known or not.
        let mut known = clock.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (word, value) in words {
            // While work is recorded, every word already has its value: no memset becomes part of the graph.
            if known[word as usize] == Some(value) {
                continue;
            }
            // SAFETY: the address is that of a word in the clock's block.
            unsafe { sys::cuMemsetD32Async(address(word), value, 1, self.stream.cu_stream()) }
                .result()
                .map_err(CudaError::driver("cuMemsetD32Async"))?;
            known[word as usize] = Some(value);
        }
        Ok(Set { address: address(words[0].0), _words: known, _turn: turn })
    }
}
