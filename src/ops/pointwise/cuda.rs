//! The 1×1 convolution on a GPU: launches of `kernels/pointwise.cu`.

use super::{Pointwise, PointwiseShape};
use crate::Result;
use crate::device::cuda::gemm::{self, Product, geometry, tile, whole_vectors};
use crate::device::cuda::{Args, Buf, Cuda};
use crate::ops::Grad;

const OP: &str = "pointwise";

impl PointwiseShape {
    fn push(&self, args: Args) -> Args {
        args.int(self.m).int(self.c).int(self.k)
    }
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
        let args = g.push(Args::new().output(y).input(&x).input(&w).optional(bias.as_ref()).flag(relu));
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
        let mask = mask.map(|mask| self.operand(mask)).transpose()?;
        let dx = self.result(dx)?;
        let accumulate = dx.accumulate();
        let tile = tile(self.precision(), whole_vectors(self.precision(), &[g.c, g.k]), g.c);
        let args = Args::new().destination(&dx).input(&dy).input(&w).optional(mask.as_ref()).flag(accumulate);
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
}
