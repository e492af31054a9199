//! Work recorded as a CUDA graph: the launches of a whole training step, asked for again by a single call.

use cudarc::driver::CudaGraph;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};

use super::{Cuda, CudaError};
use crate::Result;
use crate::device::{Moment, Recording};

/// A recorded piece of work. Its launches name addresses, so the blocks that they use are lent to recordings only.
pub struct Graph {
    graph: CudaGraph,
    /// Holds the memory, and the clock.
    cuda: Cuda,
}

// SAFETY: the graph has one owner, who launches it through a shared reference from one thread at a time: `Graph` is not Sync.
unsafe impl Send for Graph {}

impl Recording for Graph {
    fn replay(&self, moment: &Moment) -> Result<()> {
        let _set = self.cuda.moment(moment)?;
        self.graph.launch().map_err(CudaError::driver("cuGraphLaunch"))
    }
}

impl Cuda {
    /// Records what `work` launches, without running any of it.
    pub(super) fn capture(&self, moment: &Moment, work: &mut dyn FnMut() -> Result<()>) -> Result<Graph> {
        drop(self.moment(moment)?);
        // Another thread may allocate meanwhile, and so may this one.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        self.shared.stream.begin_capture(mode).map_err(CudaError::driver("cuStreamBeginCapture"))?;
        self.shared.pool.lend_to_recordings(true);
        let worked = work();
        self.shared.pool.lend_to_recordings(false);
        // The capture is ended whether or not the work could be asked for.
        let captured = self.shared.stream.end_capture(CUgraphInstantiate_flags(0));
        worked?;
        let graph = captured.map_err(CudaError::driver("cuStreamEndCapture"))?;
        let empty = || CudaError::Driver { call: "cuStreamEndCapture", problem: "nothing was recorded".into() };
        Ok(Graph { graph: graph.ok_or_else(empty)?, cuda: self.clone() })
    }
}
