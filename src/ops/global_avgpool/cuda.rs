//! Global average pooling on a GPU: launches of `kernels/global_avgpool.cu`.

use super::GlobalAvgPool;
use crate::device::Grad;
use crate::device::cuda::tiles::{AVGPOOL_CHANNELS, THREADS};
use crate::device::cuda::{Args, Buf, Cuda, Geometry, channel_threads};
use crate::{Result, Shape};

/// 1 / (H·W): the factor of the sum over an image's pixels.
pub(in crate::ops) fn inverse_pixels(shape: Shape) -> f32 {
    (1.0 / (shape.h() * shape.w()) as f64) as f32
}

/// A block for every `AVGPOOL_CHANNELS` channels of each image.
fn fprop_geometry(shape: Shape) -> Geometry {
    Geometry { grid: [shape.n() * shape.c().div_ceil(AVGPOOL_CHANNELS), 1, 1], block: [THREADS, 1, 1], shared: 0 }
}

impl GlobalAvgPool for Cuda {
    fn global_avgpool_fprop(&self, shape: Shape, x: &Buf, y: &mut Buf) -> Result<()> {
        let (x, pixels) = (self.operand(x)?, shape.h() * shape.w());
        let args = Args::new().output(y).input(&x).int(shape.c()).int(pixels).float(inverse_pixels(shape));
        self.launch("global_avgpool", "global_avgpool_fprop", fprop_geometry(shape), args)
    }

    fn global_avgpool_dgrad(&self, shape: Shape, dy: &Buf, dx: &mut Grad<Buf>) -> Result<()> {
        let value = dx.take_mask();
        let (threads, packs) = channel_threads(shape.len(), shape.c(), self.vector());
        let kernel = if packs { "global_avgpool_dgrad_packs" } else { "global_avgpool_dgrad" };
        let mask = value.as_deref().map(|x| self.operand(x)).transpose()?;
        let (dy, dx) = (self.operand(dy)?, self.result(dx)?);
        let accumulate = dx.accumulate();
        let args = Args::new().destination(&dx).input(&dy).optional(mask.as_ref());
        let args = args.int(shape.c()).int(shape.h() * shape.w()).float(inverse_pixels(shape));
        self.launch("global_avgpool", kernel, Geometry::linear(threads), args.int(threads).flag(accumulate))?;
        dx.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_of_every_image_has_its_block() {
        let blocks = |n, c| fprop_geometry(Shape::image(n, c, 5, 5)).grid;
        assert_eq!(blocks(128, 10), [128, 1, 1]);
        assert_eq!(blocks(3, AVGPOOL_CHANNELS), [3, 1, 1]);
        assert_eq!(blocks(3, AVGPOOL_CHANNELS + 1), [6, 1, 1]);
        assert_eq!(blocks(70_000, 1), [70_000, 1, 1]);
    }
}
