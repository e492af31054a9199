//! Values that lie in parts: what a kernel leaves that divides a sum over its blocks. Their sum waits until somebody reads the
//! value, because the optimiser's update, which reads each gradient once, adds them up as it goes (`kernels/parts.cuh`).
//!
//! So the parts of all of a step's gradients are there until its update: of each layer's the number of splits times the length
//! of its parameters, of which `gemm::wgrad_splits` allows 64 MiB. For d2l's NiN at batch 128 and 224×224 in
//! bf16, on 132 multiprocessors, that is 59 MB, with the first block fused or not. They come while the
//! activations, a multiple of that, go.

use std::sync::Arc;

use cudarc::driver::sys::CUdeviceptr;

use super::arena::Block;
use super::tiles::{SUM_THREADS, THREADS};

/// Equally long parts of a value in fp32.
#[derive(Clone)]
pub(crate) struct Parts {
    block: Arc<Block>,
    /// Where the first begins, in elements, and from there each behind the one before.
    start: usize,
    stride: usize,
    count: usize,
}

impl Parts {
    /// Room for `count` parts in `block`, `stride` elements each.
    pub(super) fn new(block: Block, stride: usize, count: usize) -> Self {
        Parts { block: Arc::new(block), start: 0, stride, count }
    }

    /// Those of another value, which lie `elements` behind these: a multiple of four, for kernels read as many at once.
    pub(crate) fn behind(&self, elements: usize) -> Self {
        debug_assert!(elements.is_multiple_of(4));
        Parts { start: self.start + elements, ..self.clone() }
    }

    pub(crate) fn address(&self) -> CUdeviceptr {
        self.block.address() + (self.start * size_of::<f32>()) as u64
    }

    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether a recording's blocks hold them.
    pub(super) fn recorded(&self) -> bool {
        self.block.recorded()
    }
}

/// Blocks of threads that add up `count` parts of `len` elements.
pub(crate) fn blocks(len: usize, count: usize) -> usize {
    let sharers = if count > SUM_THREADS { SUM_THREADS } else { 1 };
    len.div_ceil(4 * THREADS / sharers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_parts_are_shared_among_threads() {
        let few = 4 * THREADS;
        for (len, count, wanted) in [(few, SUM_THREADS, 1), (few + 1, 1, 2), (few, SUM_THREADS + 1, SUM_THREADS)] {
            assert_eq!(blocks(len, count), wanted, "{len} in {count}");
        }
    }
}
