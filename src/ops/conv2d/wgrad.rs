//! The launch of wgrad on a GPU, for `kernels/conv2d.cu` and `kernels/pointwise.cu`: a GEMM whose sum over pixels is
//! divided among blocks (split-K) if the product has few tiles.

use crate::Result;
use crate::device::Buffer;
use crate::device::cuda::gemm::{self, GradientSplit, Product, Split, TileRule, geometry};
use crate::device::cuda::{Args, Buf, Cuda, Destination};
use crate::ops::Wanted;

/// wgrad of a convolution as a GEMM.
pub(super) struct WeightGradient<'a> {
    /// The module's name, and the first part of the kernel's.
    pub(super) op: &'static str,
    /// m is k, n is r·s·c, k is the number of pixels.
    pub(super) product: Product,
    /// Whether operands are read in 16-byte accesses.
    pub(super) aligned: bool,
    /// Which tiles the module has.
    pub(super) rule: TileRule,
    pub(super) x: &'a Buf,
    pub(super) dy: &'a Buf,
}

impl WeightGradient<'_> {
    /// Launches the kernel. With more than one split, the gradients are left in parts. `extents` appends the arguments
    /// after x and dy.
    pub(super) fn launch(self, cuda: &Cuda, wanted: Wanted<'_, Buf>, extents: impl FnOnce(Args) -> Args) -> Result<()> {
        let (WeightGradient { op, product, aligned, rule, .. }, Wanted { dw, db }) = (&self, wanted);
        let (x, dy) = (cuda.operand(self.x)?, cuda.operand(self.dy)?);
        // For db alone, one column of blocks is enough.
        let product = Product { n: if dw.is_some() { product.n } else { 1 }, ..*product };
        // A part holds dw, then db.
        let [dw_len, db_len] = [&dw, &db].map(|grad| grad.as_ref().map_or(0, |grad| grad.buf.len()));
        let db_start = dw_len.next_multiple_of(4);
        let len = db_start + db_len;
        let tile = rule(*aligned, product, &cuda.limits());
        let splits = gemm::division(gemm::wgrad_splits, &cuda.limits(), &tile, product, len);
        let Product { m, n, .. } = product;

        let parts = if splits.count > 1 { Some(cuda.parts(splits.count, len)?) } else { None };
        let result = |grad: Option<_>, start| {
            let to = |grad| match &parts {
                Some(parts) => Ok(cuda.result_in(grad, parts.behind(start))),
                None => cuda.result_f32(grad),
            };
            grad.map(to).transpose()
        };
        let (dw, db) = (result(dw, 0)?, result(db, db_start)?);
        let split = GradientSplit::new(Split::new(splits, parts.as_ref()), [dw.as_ref(), db.as_ref()]);
        let args = extents(Args::new().value(split).input(&x).input(&dy));
        cuda.launch(op, &format!("{op}_wgrad_{}", tile.name()), geometry(&tile, m, n, splits.count), args)?;
        dw.map_or(Ok(()), Destination::finish)?;
        db.map_or(Ok(()), Destination::finish)
    }
}
