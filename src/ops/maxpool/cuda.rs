//! Max pooling on a GPU.

use super::MaxPool;
use crate::Result;
use crate::device::cuda::{Args, Buf, Bytes, Cuda, Geometry, channel_threads};
use crate::ops::Grad;
use crate::shape::PoolShape;

/// `struct Pool` of the kernels.
fn extents(g: &PoolShape) -> [u32; 7] {
    [g.h, g.w, g.c, g.p, g.q, g.window, g.stride].map(|extent| extent as u32)
}

impl MaxPool for Cuda {
    fn maxpool_fprop(&self, g: &PoolShape, x: &Buf, y: &mut Buf, index: Option<&mut Bytes>) -> Result<()> {
        let (threads, packs) = channel_threads(g.output().len(), g.c, self.vector());
        let kernel = if packs { "maxpool_fprop_packs" } else { "maxpool_fprop" };
        let x = self.operand(x)?;
        let args = Args::new().output(y).optional_bytes_mut(index).input(&x).value(extents(g)).int(threads);
        self.launch("maxpool", kernel, Geometry::linear(threads), args)
    }

    fn maxpool_dgrad(&self, g: &PoolShape, dy: &Buf, index: &Bytes, dx: &mut Grad<Buf>) -> Result<()> {
        let (threads, packs) = channel_threads(g.input().len(), g.c, self.vector());
        let kernel = if packs { "maxpool_dgrad_packs" } else { "maxpool_dgrad" };
        let (dy, mut dx) = (self.operand(dy)?, self.result(dx)?);
        let accumulate = dx.accumulate();
        let args = Args::new().output(dx.buf()).input(&dy).bytes(index).value(extents(g)).int(threads).flag(accumulate);
        self.launch("maxpool", kernel, Geometry::linear(threads), args)?;
        dx.finish()
    }
}
