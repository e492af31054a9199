//! What changes from step to step and is no tensor: kernels read it from device memory, so that a recorded launch does, each
//! time it is replayed, what the step then needs.

use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::sys::{self, CUdeviceptr};

use super::pool::{Block, Pool};
use super::{Cuda, CudaError};
use crate::Result;
use crate::device::Moment;

/// A word of the device's clock.
#[derive(Clone, Copy)]
enum Word {
    Rate,
    Epoch,
    Step,
    First,
}

const WORDS: usize = 4;

/// The clock of a device.
pub(super) struct Clock {
    words: Block,
    /// What the device's words will be once all work so far is done; `None` before they are first set.
    known: Mutex<[Option<u32>; WORDS]>,
}

impl Clock {
    pub(super) fn new(pool: &Arc<Pool>) -> Result<Self> {
        Ok(Clock { words: Pool::take(pool, WORDS * size_of::<u32>())?, known: Mutex::default() })
    }
}

impl Cuda {
    /// Where kernels find the learning rate, a float, once it has been set to `rate`.
    pub(crate) fn rate(&self, rate: f32) -> Result<CUdeviceptr> {
        self.set_word(Word::Rate, rate.to_bits())
    }

    /// Where kernels find epoch and step, two words, once they have been set.
    pub(crate) fn position(&self, epoch: u32, step: u32) -> Result<CUdeviceptr> {
        self.set_word(Word::Step, step)?;
        self.set_word(Word::Epoch, epoch)
    }

    /// Where kernels find the place of a batch's first image in the order of its epoch, once it has been set.
    pub(crate) fn first(&self, first: u32) -> Result<CUdeviceptr> {
        self.set_word(Word::First, first)
    }

    pub(super) fn set_words(&self, moment: &Moment) -> Result<()> {
        self.rate(moment.rate)?;
        self.position(moment.epoch, moment.step)?;
        self.first(moment.first)?;
        Ok(())
    }

    fn set_word(&self, word: Word, value: u32) -> Result<CUdeviceptr> {
        let clock = &self.shared.clock;
        let address = clock.words.address() + (word as usize * size_of::<u32>()) as u64;
        let mut known = clock.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Work that is recorded finds the word as it is: `set_words` comes before, so nothing is set in its midst.
        if known[word as usize] != Some(value) {
            self.bind()?;
            // SAFETY: the word is the clock's.
            unsafe { sys::cuMemsetD32Async(address, value, 1, self.shared.stream.cu_stream()) }
                .result()
                .map_err(CudaError::driver("cuMemsetD32Async"))?;
            known[word as usize] = Some(value);
        }
        Ok(address)
    }
}
