//! Per-step scalars in device memory, so that a replayed graph reads current values.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::{self, CUdeviceptr};

use super::arena::{Arena, Block};
use super::{Cuda, CudaError};
use crate::Result;
use crate::device::StepScalars;

/// A word of the device's clock.
#[derive(Clone, Copy)]
enum Word {
    // Kernels read the first three as one struct, and the next two as another.
    Rate,
    FirstCorrection,
    SecondCorrection,
    Epoch,
    Step,
    First,
}

const WORDS: usize = 6;

/// The clock of a device.
pub(super) struct Clock {
    words: Block,
    /// What the device's words will be once all work so far is done; `None` before they are first set.
    known: Mutex<Known>,
}

impl Clock {
    pub(super) fn new(arena: &Arc<Arena>) -> Result<Self> {
        Ok(Clock { words: Arena::take(arena, WORDS * size_of::<u32>())?, known: Mutex::default() })
    }
}

/// A word that has been set, and stays as it is until this is dropped: after the launch that reads it.
pub(crate) struct Set<'a> {
    pub(crate) address: CUdeviceptr,
    _words: MutexGuard<'a, Known>,
}

type Known = [Option<u32>; WORDS];

impl Cuda {
    /// Where kernels find the learning rate, a float.
    pub(crate) fn rate(&self, rate: f32) -> Result<Set<'_>> {
        self.set([(Word::Rate, rate.to_bits())])
    }

    /// Where kernels find the learning rate and the optimiser's two corrections, three floats.
    pub(crate) fn rate_and_corrections(&self, rate: f32, [first, second]: [f32; 2]) -> Result<Set<'_>> {
        let words = [(Word::Rate, rate), (Word::FirstCorrection, first), (Word::SecondCorrection, second)];
        self.set(words.map(|(word, value)| (word, value.to_bits())))
    }

    /// Where kernels find epoch and step, two words.
    pub(crate) fn position(&self, epoch: u32, step: u32) -> Result<Set<'_>> {
        self.set([(Word::Epoch, epoch), (Word::Step, step)])
    }

    /// Where kernels find the place of a batch's first image in the order of its epoch.
    pub(crate) fn first(&self, first: u32) -> Result<Set<'_>> {
        self.set([(Word::First, first)])
    }

    /// All words, for work that is recorded or replayed.
    pub(super) fn scalars(&self, scalars: &StepScalars) -> Result<Set<'_>> {
        let StepScalars { rate, corrections, epoch, step, first } = *scalars;
        self.set([
            (Word::Rate, rate.to_bits()),
            (Word::FirstCorrection, corrections[0].to_bits()),
            (Word::SecondCorrection, corrections[1].to_bits()),
            (Word::Epoch, epoch),
            (Word::Step, step),
            (Word::First, first),
        ])
    }

    fn set<const N: usize>(&self, words: [(Word, u32); N]) -> Result<Set<'_>> {
        let clock = &self.shared.clock;
        let address = |word: Word| clock.words.address() + (word as usize * size_of::<u32>()) as u64;
        // A panic elsewhere leaves no word half known.
        let mut known = clock.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (word, value) in words {
            // Work that is being recorded finds the words as they are, so that no setting becomes part of it.
            if known[word as usize] == Some(value) {
                continue;
            }
            self.bind()?;
            // SAFETY: the word is the clock's.
            unsafe { sys::cuMemsetD32Async(address(word), value, 1, self.shared.stream.cu_stream()) }
                .result()
                .map_err(CudaError::driver("cuMemsetD32Async"))?;
            known[word as usize] = Some(value);
        }
        Ok(Set { address: address(words[0].0), _words: known })
    }
}
