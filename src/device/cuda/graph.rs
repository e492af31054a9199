//! Work recorded as a CUDA graph: the launches of a whole training step, asked for again by a single call.

use std::sync::Arc;

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, CudaStream};

use super::arena::{Arena, Recorded};
use super::{Cuda, CudaError};
use crate::Result;
use crate::device::{Recording, StepScalars};

/// A recorded piece of work. Its launches name addresses, so the blocks that they use are lent to recordings only.
pub struct Graph {
    graph: CudaGraph,
    _blocks: Recorded,
    /// Holds the memory, and the clock.
    cuda: Cuda,
}

// SAFETY: the graph has one owner, who launches it through a shared reference from one thread at a time: `Graph` is not Sync.
unsafe impl Send for Graph {}

impl Recording for Graph {
    fn replay(&self, scalars: &StepScalars) -> Result<()> {
        let _set = self.cuda.scalars(scalars)?;
        self.graph.launch().map_err(CudaError::driver("cuGraphLaunch"))
    }
}

/// A stream that records. It does so no longer when this is dropped, whatever has happened meanwhile.
struct Capture<'a> {
    stream: &'a Arc<CudaStream>,
    ended: bool,
}

impl<'a> Capture<'a> {
    fn begin(stream: &'a Arc<CudaStream>) -> Result<Self> {
        // Memory may be taken from the driver while it lasts.
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
            // What was recorded before the failure goes with it; the failure itself has been told.
            let _ = self.stream.end_capture(CUgraphInstantiate_flags(0));
        }
    }
}

impl Cuda {
    /// Records what `work` launches, without running any of it.
    pub(super) fn capture(&self, scalars: &StepScalars, work: &mut dyn FnMut() -> Result<()>) -> Result<Graph> {
        drop(self.scalars(scalars)?);
        let capture = Capture::begin(&self.shared.stream)?;
        let lent = Arena::lend_to_recordings(&self.shared.arena);
        work()?;
        drop(lent);
        let graph = capture.end()?;
        Ok(Graph { graph, _blocks: Recorded::new(&self.shared.arena), cuda: self.clone() })
    }
}
