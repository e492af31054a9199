//! Work recorded as a CUDA graph: a single call replays the launches of a whole training step.

use std::sync::Arc;

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, CudaStream};

use super::arena::{Arena, Purpose, Recorded};
use super::{Cuda, CudaError};
use crate::Result;
use crate::device::{Recording, StepScalars};

/// A recorded piece of work. Its launches contain addresses, so the arena lends the blocks at those addresses to
/// recordings only.
pub struct Graph {
    graph: CudaGraph,
    _blocks: Recorded,
    /// Keeps the memory and the clock alive.
    cuda: Cuda,
}

// SAFETY: the graph has one owner, who launches it through a shared reference from one thread at a time: `Graph` is
// not Sync.
unsafe impl Send for Graph {}

impl Recording for Graph {
    fn replay(&self, scalars: &StepScalars) -> Result<()> {
        let _set = self.cuda.scalars(scalars)?;
        self.graph.launch().map_err(CudaError::driver("cuGraphLaunch"))
    }
}

/// A stream that records. Dropping this ends the recording, also after an error.
struct Capture<'a> {
    stream: &'a Arc<CudaStream>,
    ended: bool,
}

impl<'a> Capture<'a> {
    fn begin(stream: &'a Arc<CudaStream>) -> Result<Self> {
        // The relaxed mode permits allocations from the driver during the recording.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        stream.begin_capture(mode).map_err(CudaError::driver("cuStreamBeginCapture"))?;
        Ok(Capture { stream, ended: false })
    }

    fn end(mut self) -> Result<CudaGraph> {
        self.ended = true;
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0));
        let graph = graph.map_err(CudaError::driver("cuStreamEndCapture"))?;
        let empty = || CudaError::Driver { call: "cuStreamEndCapture", problem: "nothing was recorded".into() };
        Ok(graph.ok_or_else(empty)?)
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // `work` has failed and its error is returned, so the partial graph is dropped.
            let _ = self.stream.end_capture(CUgraphInstantiate_flags(0));
        }
    }
}

impl Cuda {
    /// Records the launches of `work` without running them.
    pub(super) fn capture(&self, scalars: &StepScalars, work: &mut dyn FnMut() -> Result<()>) -> Result<Graph> {
        let _alone = self.alone()?;
        // From here on: what the work has dropped is not given to others when another recording goes.
        let blocks = Recorded::new(&self.shared.arena);
        drop(self.scalars(scalars)?);
        let capture = Capture::begin(&self.shared.stream)?;
        let lent = Arena::lend(&self.shared.arena, Purpose::Recording);
        work()?;
        drop(lent);
        self.shared.arena.require_nothing_lent()?;
        let graph = capture.end()?;
        Ok(Graph { graph, _blocks: blocks, cuda: self.clone() })
    }
}
