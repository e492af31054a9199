//! The 1×1 convolution on a GPU: launches of `kernels/pointwise.cu`.

use super::Gemm;
use crate::Result;
use crate::device::Grad;
use crate::device::cuda::gemm::{self, Product, geometry, tile, whole_vectors};
use crate::device::cuda::{Args, Buf, Cuda};
use crate::ops::conv2d::wgrad::WeightGradient;
use crate::ops::{Affine, Wanted};

const OP: &str = "pointwise";

impl Gemm {
    /// Appends the extents to a kernel's arguments.
    fn push(&self, args: Args) -> Args {
        args.int(self.m).int(self.c).int(self.k)
    }

    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for an extent that the kernels cannot count.
    fn require_countable(&self) -> Result<()> {
        gemm::require_countable(OP, &[self.m, self.c, self.k])
    }
}

pub(in super::super) fn fprop(
    cuda: &Cuda,
    g: &Gemm,
    x: &Buf,
    Affine { w, bias, relu }: Affine<'_, Buf>,
    y: &mut Buf,
) -> Result<()> {
    g.require_countable()?;
    let (x, w) = (cuda.operand(x)?, cuda.operand(w)?);
    let bias = bias.map(|bias| cuda.operand_f32(bias)).transpose()?;
    let tile = tile(cuda.precision(), whole_vectors(cuda.precision(), &[g.c]), g.k);
    let signed = relu && whole_vectors(cuda.precision(), &[g.k]);
    let args = Args::new().rectified(y, signed).input(&x).input(&w);
    let args = g.push(args.optional(bias.as_ref()).flag(relu));
    cuda.launch(OP, &format!("pointwise_fprop_{}", tile.name()), geometry(tile, g.m, g.k, 1), args)
}

pub(in super::super) fn dgrad(cuda: &Cuda, g: &Gemm, dy: &Buf, w: &Buf, dx: &mut Grad<Buf>) -> Result<()> {
    g.require_countable()?;
    let (dy, w) = (cuda.operand(dy)?, cuda.operand(w)?);
    let value = dx.take_mask();
    let mask = cuda.masked_by(value.as_deref())?;
    let dx = cuda.result(dx)?;
    let accumulate = dx.accumulate();
    let tile = tile(cuda.precision(), whole_vectors(cuda.precision(), &[g.c, g.k]), g.c);
    let args = Args::new().destination(&dx).input(&dy).input(&w).masked_by(&mask).flag(accumulate);
    let kernel = format!("pointwise_dgrad_{}", tile.name());
    cuda.launch(OP, &kernel, geometry(tile, g.m, g.c, 1), g.push(args))?;
    dx.finish()
}

pub(in super::super) fn wgrad(cuda: &Cuda, g: &Gemm, x: &Buf, dy: &Buf, wanted: Wanted<'_, Buf>) -> Result<()> {
    g.require_countable()?;
    let aligned = whole_vectors(cuda.precision(), &[g.c, g.k]);
    let product = Product { m: g.k, n: g.c, k: g.m };
    WeightGradient { op: OP, product, aligned, rule: gemm::grouped_tile, x, dy }
        .launch(cuda, wanted, |args| g.push(args))
}
