//! The 1×1 convolution that pools, on a GPU: launches of `kernels/pointwise.cu`.

use super::strips::Strips;
use super::{PointwiseMaxPool, composed};
use crate::Result;
use crate::device::Precision;
use crate::device::cuda::gemm::{self, geometry, tile, whole_vectors};
use crate::device::cuda::tiles::Tile;
use crate::device::cuda::{Args, Buf, Bytes, Cuda};
use crate::ops::{Affine, Verdict};
use crate::shape::{ConvShape, PoolShape};

const OP: &str = "pointwise";

/// The tile and the strips of pixels for a shape; the error is the reason why the kernel does not support it.
fn cut(g: &ConvShape, pool: &PoolShape, precision: Precision) -> Verdict<(&'static Tile, Strips)> {
    let countable = |rows| gemm::require_countable(OP, &[rows, g.c, g.k]).map_err(|error| error.to_string());
    if !g.is_gemm() {
        return Err("the convolution is not pointwise".into());
    }
    if !whole_vectors(precision, &[g.c, g.k]) {
        return Err(format!("{} to {} channels are not whole accesses of 16 bytes", g.c, g.k));
    }
    countable(g.pixels())?;
    let tile = tile(precision, true, g.k);
    let no_window = || format!("a row of windows has more pixels than a tile, {}", tile.m);
    let strips = Strips::new(pool, tile.m).ok_or_else(no_window)?;
    countable(strips.count() * tile.m)?;
    Ok((tile, strips))
}

/// Whether a GPU of this precision gains by the fused kernel; the error is the reason why not.
pub(in crate::ops) fn suits(g: &ConvShape, pool: &PoolShape, precision: Precision) -> Verdict {
    let (tile, strips) = cut(g, pool, precision)?;
    match strips.gain(g.pixels(), tile.m, precision) {
        true => Ok(()),
        false => Err("rows that neighbouring strips both compute cost more than the memory saved".into()),
    }
}

impl PointwiseMaxPool for Cuda {
    fn pointwise_maxpool_fprop(
        &self,
        g: &ConvShape,
        pool: &PoolShape,
        x: &Buf,
        affine: Affine<'_, Buf>,
        y: &mut Buf,
        index: Option<&mut Bytes>,
    ) -> Result<()> {
        let Ok((tile, strips)) = cut(g, pool, self.precision()) else {
            return composed(self, g, pool, x, affine, y, index);
        };
        let Affine { w, bias, relu } = affine;
        let (x, w) = (self.operand(x)?, self.operand(w)?);
        let bias = bias.map(|bias| self.operand_f32(bias)).transpose()?;
        let args = Args::new().rectified(y, relu).optional_bytes_mut(index).input(&x).input(&w).optional(bias.as_ref());
        let args = args.flag(relu).value(strips).int(g.c).int(g.k);
        let kernel = format!("pointwise_maxpool_fprop_{}", tile.name());
        self.launch(OP, &kernel, geometry(tile, strips.count() * tile.m, g.k, 1), args)
    }
}
