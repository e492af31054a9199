//! The 1×1 convolution on a GPU: launches of `kernels/pointwise.cu`.

use super::pooled::Strips;
use super::{Pointwise, PointwiseShape, one_after_the_other};
use crate::Result;
use crate::device::Precision;
use crate::device::cuda::gemm::{self, Product, geometry, tile, whole_vectors};
use crate::device::cuda::tiles::Tile;
use crate::device::cuda::{Args, Buf, Bytes, Cuda};
use crate::ops::Grad;
use crate::shape::PoolShape;

const OP: &str = "pointwise";

impl PointwiseShape {
    fn push(&self, args: Args) -> Args {
        args.int(self.m).int(self.c).int(self.k)
    }
}

/// How the kernel that also pools takes a shape; `None` if it does not.
fn pooled(g: &PointwiseShape, pool: &PoolShape, precision: Precision) -> Option<(&'static Tile, Strips)> {
    let countable = |rows| gemm::require_countable(OP, &[rows, g.c, g.k]).is_ok();
    if !whole_vectors(precision, &[g.c, g.k]) || !countable(g.m) {
        return None;
    }
    let tile = tile(precision, true, g.k);
    let strips = Strips::new(pool, tile.m)?;
    countable(strips.count() * tile.m).then_some((tile, strips))
}

impl Pointwise for Cuda {
    fn pointwise_fprop(
        &self,
        g: &PointwiseShape,
        x: &Buf,
        w: &Buf,
        bias: Option<&Buf>,
        relu: bool,
        y: &mut Buf,
    ) -> Result<()> {
        gemm::require_countable(OP, &[g.m, g.c, g.k])?;
        let (x, w) = (self.operand(x)?, self.operand(w)?);
        let bias = bias.map(|bias| self.operand_f32(bias)).transpose()?;
        let tile = tile(self.precision(), whole_vectors(self.precision(), &[g.c]), g.k);
        let signed = relu && whole_vectors(self.precision(), &[g.k]);
        let args = Args::new().rectified(y, signed).input(&x).input(&w);
        let args = g.push(args.optional(bias.as_ref()).flag(relu));
        self.launch(OP, &format!("pointwise_fprop_{}", tile.name()), geometry(tile, g.m, g.k, 1), args)
    }

    fn pointwise_dgrad(
        &self,
        g: &PointwiseShape,
        dy: &Buf,
        w: &Buf,
        mask: Option<&Buf>,
        dx: &mut Grad<Buf>,
    ) -> Result<()> {
        gemm::require_countable(OP, &[g.m, g.c, g.k])?;
        let (dy, w) = (self.operand(dy)?, self.operand(w)?);
        let mask = self.masked_by(mask)?;
        let dx = self.result(dx)?;
        let accumulate = dx.accumulate();
        let tile = tile(self.precision(), whole_vectors(self.precision(), &[g.c, g.k]), g.c);
        let args = Args::new().destination(&dx).input(&dy).input(&w).masked_by(&mask).flag(accumulate);
        let kernel = format!("pointwise_dgrad_{}", tile.name());
        self.launch(OP, &kernel, geometry(tile, g.m, g.c, 1), g.push(args))?;
        dx.finish()
    }

    fn pointwise_wgrad(
        &self,
        g: &PointwiseShape,
        x: &Buf,
        dy: &Buf,
        dw: Option<&mut Grad<Buf>>,
        db: Option<&mut Grad<Buf>>,
    ) -> Result<()> {
        gemm::require_countable(OP, &[g.m, g.c, g.k])?;
        let aligned = whole_vectors(self.precision(), &[g.c, g.k]);
        let product = Product { m: g.k, n: g.c, k: g.m };
        gemm::weight_gradient(self, OP, product, aligned, x, dy, dw, db, |args| g.push(args))
    }

    fn pointwise_maxpool_fuses(&self, g: &PointwiseShape, pool: &PoolShape) -> bool {
        let plan = pooled(g, pool, self.precision());
        plan.is_some_and(|(tile, strips)| strips.gain(g.m, tile.m, self.precision()))
    }

    fn pointwise_maxpool_fprop(
        &self,
        g: &PointwiseShape,
        pool: &PoolShape,
        x: &Buf,
        w: &Buf,
        bias: Option<&Buf>,
        relu: bool,
        y: &mut Buf,
        index: Option<&mut Bytes>,
    ) -> Result<()> {
        let Some((tile, strips)) = pooled(g, pool, self.precision()) else {
            return one_after_the_other(self, g, pool, x, w, bias, relu, y, index);
        };
        let (x, w) = (self.operand(x)?, self.operand(w)?);
        let bias = bias.map(|bias| self.operand_f32(bias)).transpose()?;
        let args = Args::new().rectified(y, relu).optional_bytes_mut(index).input(&x).input(&w).optional(bias.as_ref());
        let args = args.flag(relu).value(strips).int(g.c).int(g.k);
        let kernel = format!("pointwise_maxpool_fprop_{}", tile.name());
        self.launch(OP, &kernel, geometry(tile, strips.count() * tile.m, g.k, 1), args)
    }
}
