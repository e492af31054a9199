//! Work beside other work: a second stream. Neither of two kernels that do not depend on each other fills the last round of its
//! blocks, and a GPU runs those of the one in the other's room.
//!
//! Events order the two streams, and a recording takes both in: what is forked begins after what the device was given by then, and the
//! device's stream goes on after it where it is waited for. Memory that is given back in between may be in use on either stream, so
//! the arena keeps it until then.

use cudarc::driver::{CudaEvent, CudaStream};

use super::{Cuda, CudaError};
use crate::Result;

impl Cuda {
    /// This device with the second stream, whose work begins after what this one has by now.
    pub(super) fn forked(&self) -> Result<Self> {
        let beside = match self.shared.beside.get() {
            Some(stream) => stream,
            None => {
                let stream = self.shared.context.new_stream().map_err(CudaError::driver("cuStreamCreate"))?;
                self.shared.beside.get_or_init(|| stream)
            }
        };
        after(beside, &end(&self.stream)?)?;
        self.shared.arena.forked();
        Ok(Cuda { shared: self.shared.clone(), stream: beside.clone() })
    }

    /// Has this one go on after what `fork` has by now.
    pub(super) fn joined(&self, fork: &Cuda) -> Result<()> {
        let done = end(&fork.stream).and_then(|end| after(&self.stream, &end));
        self.shared.arena.joined();
        done
    }
}

/// The present end of a stream's work.
pub(super) fn end(stream: &CudaStream) -> Result<CudaEvent> {
    Ok(stream.record_event(None).map_err(CudaError::driver("cuEventRecord"))?)
}

/// What `stream` gets from now on comes after `event`.
pub(super) fn after(stream: &CudaStream, event: &CudaEvent) -> Result<()> {
    Ok(stream.wait(event).map_err(CudaError::driver("cuStreamWaitEvent"))?)
}
