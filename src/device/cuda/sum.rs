//! Room for a value's parts, and the launches of `kernels/sum.cu`, which add them up.

use cudarc::driver::sys::CUdeviceptr;

use super::parts::{Parts, blocks};
use super::tiles::THREADS;
use super::{Args, Buf, Cuda, Geometry, Operand, divisor};
use crate::Result;
use crate::device::{Buffer, Device, Role, Write};

impl Cuda {
    /// Room for `count` parts of `stride` elements each.
    pub(crate) fn parts(&self, count: usize, stride: usize) -> Result<Parts> {
        let stride = stride.next_multiple_of(4);
        Ok(Parts::new(self.alloc(Role::Parameter, count * stride)?.into_block(), stride, count))
    }

    /// The `len` elements at `to` become the sum of `parts`, or have it added.
    pub(super) fn sum(&self, parts: &Parts, to: CUdeviceptr, len: usize, write: Write) -> Result<()> {
        let args = Args::new().address(to).address(parts.address()).int(len).int(parts.stride()).int(parts.count());
        let geometry = Geometry { grid: [blocks(len, parts.count()), 1, 1], block: [THREADS, 1, 1], shared: 0 };
        self.launch("sum", "sum", geometry, args.flag(write == Write::Accumulate))
    }

    /// The `len` elements at `at` become zero.
    pub(crate) fn clear_at(&self, at: CUdeviceptr, len: usize) -> Result<()> {
        self.set_bytes(at, 0, len * size_of::<f32>())
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
        let args = args.optional(bias).flag(relu).value(divisor(k)).int(len).int(parts.stride()).int(parts.count());
        let geometry = Geometry { grid: [blocks(len, parts.count()), 1, 1], block: [THREADS, 1, 1], shared: 0 };
        self.launch("sum", "sum_activated", geometry, args)
    }
}
