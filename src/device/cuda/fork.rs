//! Forks: a second stream, for kernels that may run at the same time as those of the device's stream. wgrad and dgrad of a
//! convolution are two such kernels: neither fills its last round of blocks, and blocks of the other take the room.
//!
//! Events order the two streams: a fork begins after all that the device has been given before, and after `wait_for` the device's
//! stream goes on after the fork. A recording takes both in. The arena parks blocks that are given back in between, since either
//! stream may still use them.

use cudarc::driver::{CudaEvent, CudaStream};

use super::{Cuda, CudaError};
use crate::Result;

impl Cuda {
    /// This device with the second stream, whose work begins after what this one has by now.
    pub(super) fn forked(&self) -> Result<Self> {
        let turn = self.turn()?;
        let beside = match self.shared.beside.get() {
            Some(stream) => stream,
            None => {
                let stream = self.shared.context.new_stream().map_err(CudaError::driver("cuStreamCreate"))?;
                self.shared.beside.get_or_init(|| stream)
            }
        };
        // From here on, so that no block is lent to the fork that another thread gives back after the event.
        self.shared.arena.forked();
        let ordered = end(&self.stream).and_then(|event| after(beside, &event));
        if let Err(error) = ordered {
            self.shared.arena.joined();
            return Err(error);
        }
        // Kept: a thread that has the device to itself finds no block parked.
        Ok(Cuda { shared: self.shared.clone(), stream: beside.clone(), forked_by: Some(turn.keep()) })
    }

    /// Has this one go on after what `fork` has by now.
    pub(super) fn joined(&self, fork: &Cuda) -> Result<()> {
        let _turn = self.turn()?;
        let done = end(&fork.stream).and_then(|end| after(&self.stream, &end));
        self.shared.arena.joined();
        if let Some(of) = fork.forked_by {
            self.shared.turns.end(of);
        }
        done
    }
}

/// The present end of a stream's work.
pub(super) fn end(stream: &CudaStream) -> Result<CudaEvent> {
    stream.record_event(None).map_err(CudaError::driver("cuEventRecord"))
}

/// What `stream` gets from now on comes after `event`.
pub(super) fn after(stream: &CudaStream, event: &CudaEvent) -> Result<()> {
    stream.wait(event).map_err(CudaError::driver("cuStreamWaitEvent"))
}
