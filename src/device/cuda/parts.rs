//! Values that lie in parts: what a kernel leaves that divides a sum over its blocks. Their sum waits until somebody reads the
//! value, because the optimiser's update, which reads each gradient once, adds them up as it goes (`kernels/parts.cuh`).
//!
//! So the parts of all of a step's gradients are there until its update: of each layer's the number of splits times the length
//! of its parameters, of which [`wgrad_splits`](super::gemm::wgrad_splits) allows 64 MiB. For d2l's NiN at batch 128 and 224×224 in
//! bf16, on 132 multiprocessors, that is 59 MB, with the first block fused or not. They come while the
//! activations, a multiple of that, go.

use std::sync::Arc;

use cudarc::driver::sys::CUdeviceptr;

use super::arena::Block;
use super::tiles::{SUM_THREADS, THREADS};
use super::{Args, Buf, Cuda, Geometry, Operand, divisor};
use crate::Result;
use crate::device::{Buffer, Device, Role};
use crate::ops::Write;

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

impl Cuda {
    /// Room for `count` parts, of `stride` elements each.
    pub(crate) fn parts(&self, count: usize, stride: usize) -> Result<Parts> {
        let stride = stride.next_multiple_of(4);
        let block = Arc::new(self.alloc(Role::Parameter, count * stride)?.into_block());
        Ok(Parts { block, start: 0, stride, count })
    }

    /// The `len` elements at `to` become the sum of `parts`, or have it added.
    pub(super) fn sum(&self, parts: &Parts, to: CUdeviceptr, len: usize, write: Write) -> Result<()> {
        let args = Args::new().address(to).address(parts.address()).int(len).int(parts.stride).int(parts.count);
        let geometry = Geometry { grid: [blocks(len, parts.count), 1, 1], block: [THREADS, 1, 1], shared: 0 };
        self.launch("sum", "sum", geometry, args.flag(write == Write::Accumulate))
    }

    /// `y`, of rows of `k`, becomes the sum of `parts`, with a bias and a ReLU where there are.
    pub(crate) fn sum_activated(
        &self,
        parts: &Parts,
        bias: Option<&Operand<'_>>,
        relu: bool,
        y: &mut Buf,
        k: usize,
    ) -> Result<()> {
        let len = y.len();
        let args = Args::new().rectified(y, relu && k.is_multiple_of(self.vector())).address(parts.address());
        let args = args.optional(bias).flag(relu).value(divisor(k)).int(len).int(parts.stride).int(parts.count);
        let geometry = Geometry { grid: [blocks(len, parts.count), 1, 1], block: [THREADS, 1, 1], shared: 0 };
        self.launch("sum", "sum_activated", geometry, args)
    }
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
