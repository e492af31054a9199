//! Values in parts: a kernel that divides a sum over its blocks leaves one part for each. The parts are summed when the
//! value is read, because the optimiser, which reads each gradient once, adds them up on the way (`kernels/parts.cuh`).
//!
//! So the parts of all gradients of a step live until its update. Those of a layer take the number of splits times the
//! length of its parameters, of which `gemm::wgrad_splits` allows 64 MiB. For d2l's NiN at batch 128 and 224×224 in
//! bf16, on 132 multiprocessors, all parts take 59 MB, with the first block fused or not, and by Hopper's kernels 94 MB. They are
//! allocated while the activations, which take a multiple of that, are freed.

use std::sync::Arc;

use cudarc::driver::sys::CUdeviceptr;

use super::arena::Block;
use super::tiles::{SUM_THREADS, THREADS};

/// Equally long parts of a value in fp32.
#[derive(Clone)]
pub(crate) struct Parts {
    block: Arc<Block>,
    /// The first part begins at element `start` of `block`, each of the others `stride` elements after the one before it.
    start: usize,
    stride: usize,
    count: usize,
}

impl Parts {
    /// Room for `count` parts in `block`, `stride` elements each.
    pub(super) fn new(block: Block, stride: usize, count: usize) -> Self {
        Parts { block: Arc::new(block), start: 0, stride, count }
    }

    /// The parts of another value, `elements` after these: a multiple of four, because kernels read four at once.
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

    /// Whether they lie in a recording's blocks.
    pub(super) fn recorded(&self) -> bool {
        self.block.recorded()
    }
}

/// The grid of a kernel that adds up `count` parts of `len` elements: blocks of [`THREADS`].
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
