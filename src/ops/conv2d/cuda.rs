//! Convolution on a GPU: launches of `kernels/conv2d.cu`.

use bytemuck::NoUninit;

use super::Conv2d;
use super::pointwise::{self, Gemm};
use super::wgrad::WeightGradient;
use crate::Result;
use crate::device::cuda::gemm::{self, Product, Split, geometry, tile, whole_vectors};
use crate::device::cuda::{Args, Buf, Cuda, Geometry, divisor};
use crate::device::{Device, Grad, Precision, Role};
use crate::ops::{Affine, Wanted};
use crate::shape::ConvShape;

const OP: &str = "conv2d";

/// The kernels' `Convolution`: extents and their divisors.
#[repr(C)]
#[derive(Clone, Copy)]
struct Convolution {
    /// n, h, w, c, k, r, s, p, q, stride, pad; r·s, r·s·c, r·s·k, n·p·q.
    extents: [i32; 15],
    /// Divisors: h, w, c, k, s, p, q, stride.
    divisors: [[u32; 3]; 8],
    /// For a convolution over space-to-depth blocks: pixels of a block's line, elements of a block's line, lines of the
    /// original filter, elements of one of its lines. Zeros otherwise.
    blocks: [i32; 4],
    /// Divisor: the elements of a block's line.
    by_block_line: [u32; 3],
}

// SAFETY: an array of words has no padding.
unsafe impl NoUninit for Convolution {}

impl Convolution {
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for extents that the kernels' ints do not hold.
    fn new(g: &ConvShape) -> Result<Self> {
        let &ConvShape { n, h, w, c, k, r, s, p, q, stride, pad } = g;
        let padded = [h, w].map(|extent| extent.saturating_add(pad.saturating_mul(2)));
        let gradient_taps = (r * s).saturating_mul(k);
        let pixels = n.saturating_mul(h).saturating_mul(w);
        // Clamped: a stride beyond the padded image gives one window, as any larger stride does.
        let stride = stride.min(padded[0].max(padded[1]));
        let all = [n, h, w, c, k, r, s, p, q, stride, pad, r * s, g.taps(), gradient_taps, g.pixels()];
        gemm::require_countable(OP, &all)?;
        gemm::require_countable(OP, &[padded[0], padded[1], pixels])?;
        Ok(Convolution {
            extents: all.map(|extent| extent as i32),
            divisors: [h, w, c, k, s, p, q, stride].map(divisor),
            blocks: [0; 4],
            by_block_line: [0; 3],
        })
    }
}

/// The kernels' `SpaceToDepth`.
#[derive(Clone, Copy)]
#[repr(C)]
struct SpaceToDepthArgument {
    /// h, w, c, r, s, stride, pad; rows and columns of blocks in the image, and in the filter.
    extents: [i32; 11],
    /// Divisors: elements of a block and of a line of it, c; rows and columns of blocks in the image, and in the filter.
    divisors: [[u32; 3]; 7],
}

// SAFETY: words have no padding.
unsafe impl NoUninit for SpaceToDepthArgument {}

/// Space-to-depth: a strided convolution of few channels as a convolution of stride 1 over blocks of stride × stride
/// pixels, whose channels are whole 16-byte accesses.
struct SpaceToDepth {
    argument: SpaceToDepthArgument,
    /// The convolution over blocks.
    shape: ConvShape,
    /// [`Convolution::blocks`].
    blocks: [usize; 4],
}

impl SpaceToDepth {
    /// `None` if `g` gains nothing: its channels are whole 16-byte accesses already; the blocks' channels or the output
    /// channels are not; or padding the filter to whole blocks makes it more than a quarter larger. `None` too for
    /// extents that the kernels cannot count.
    fn new(precision: Precision, g: &ConvShape) -> Option<Self> {
        let &ConvShape { n, h, w, c, k, r, s, p, q, stride, pad } = g;
        let (rows, columns) = (r.div_ceil(stride), s.div_ceil(stride));
        let depth = c.checked_mul(stride)?.checked_mul(stride)?;
        let worth = rows.checked_mul(columns)?.checked_mul(depth)?.checked_mul(4)? <= g.taps().checked_mul(5)?;
        if whole_vectors(precision, &[c]) || !whole_vectors(precision, &[depth, k]) || !worth {
            return None;
        }
        let (h_blocks, w_blocks) = (p + rows - 1, q + columns - 1);
        let all = [h, w, c, r, s, stride, pad, h_blocks, w_blocks, rows, columns];
        let shape =
            ConvShape { n, h: h_blocks, w: w_blocks, c: depth, k, r: rows, s: columns, p, q, stride: 1, pad: 0 };
        // For larger extents `Convolution::new` gives the error, when the convolution runs without blocks.
        let countable = gemm::require_countable(OP, &all).is_ok() && i32::try_from(shape.input().len()).is_ok();
        let blocks = [stride, stride * c, r, s * c];
        countable.then(|| {
            let extents = all.map(|extent| extent as i32);
            let divisors = [depth, stride * c, c, h_blocks, w_blocks, rows, columns].map(divisor);
            SpaceToDepth { argument: SpaceToDepthArgument { extents, divisors }, shape, blocks }
        })
    }

    /// The images `x` `[n, h, w, c]` as blocks, zeros in the padding.
    fn image(&self, cuda: &Cuda, x: &Buf) -> Result<Buf> {
        let (x, len) = (cuda.operand(x)?, self.shape.input().len());
        let mut blocks = cuda.alloc(Role::Activation, len)?;
        let packs = len / cuda.vector();
        let args = Args::new().output(&mut blocks).input(&x).value(self.argument).int(packs);
        cuda.launch(OP, "conv2d_space_to_depth", Geometry::linear(packs), args)?;
        Ok(blocks)
    }

    /// The weights `w` `[k, r, s, c]` as blocks, zeros beyond the filter.
    fn filters(&self, cuda: &Cuda, w: &Buf) -> Result<Buf> {
        let (w, len) = (cuda.operand(w)?, self.shape.weight().len());
        let mut blocks = cuda.alloc(Role::Activation, len)?;
        let args = Args::new().output(&mut blocks).input(&w).value(self.argument).int(len);
        cuda.launch(OP, "conv2d_filters_to_depth", Geometry::linear(len), args)?;
        Ok(blocks)
    }

    /// The convolution for wgrad, whose kernel writes the gradient in the layout of the original filter.
    fn convolution(&self) -> Result<Convolution> {
        let by_block_line = divisor(self.blocks[1]);
        let blocks = self.blocks.map(|extent| extent as i32);
        Ok(Convolution { blocks, by_block_line, ..Convolution::new(&self.shape)? })
    }
}

/// The convolution that the GEMM kernels run for `g`: over blocks, or `g` itself.
#[cfg(test)]
pub(crate) fn gemm_of(precision: Precision, g: &ConvShape) -> ConvShape {
    SpaceToDepth::new(precision, g).map_or(*g, |blocks| blocks.shape)
}

impl Cuda {
    /// fprop of `g`. K is split as for `pixels` pixels, those of the uncropped output, so cropping never changes a
    /// pixel's bits.
    fn fprop(&self, g: &ConvShape, pixels: usize, x: &Buf, affine: Affine<'_, Buf>, y: &mut Buf) -> Result<()> {
        let Affine { w, bias, relu } = affine;
        let extents = Convolution::new(g)?;
        let (x, w) = (self.operand(x)?, self.operand(w)?);
        let bias = bias.map(|bias| self.operand_f32(bias)).transpose()?;
        let (precision, product) = (self.precision(), Product { m: g.pixels(), n: g.k, k: g.taps() });
        let (aligned, len) = (whole_vectors(precision, &[g.c]), product.m * product.n);
        let (whole, whole_len) = (Product { m: pixels, ..product }, pixels.saturating_mul(product.n));
        let (rule, tile) = (gemm::fprop_splits, tile(precision, aligned, product.n));
        let splits = gemm::division(rule, &self.limits(), tile, whole, whole_len);
        if splits.count == 1 {
            let tile = gemm::enlarged(tile, product, &self.limits());
            let geometry = geometry(tile, product.m, product.n, 1);
            let args = Args::new().rectified(y, relu && whole_vectors(precision, &[g.k])).input(&x).input(&w);
            let args = args.optional(bias.as_ref()).flag(relu).value(extents);
            return self.launch(OP, &format!("conv2d_fprop_{}", tile.name()), geometry, args);
        }
        let geometry = geometry(tile, product.m, product.n, splits.count);
        let parts = self.parts(splits.count, len)?;
        let args = Args::new().address(parts.address()).value(Split::new(splits, Some(&parts))).input(&x).input(&w);
        self.launch(OP, &format!("conv2d_fprop_parts_{}", tile.name()), geometry, args.value(extents))?;
        self.sum_activated(&parts, bias.as_ref(), relu, y, g.k)
    }
}

impl Conv2d for Cuda {
    fn conv2d_fprop(&self, g: &ConvShape, x: &Buf, affine: Affine<'_, Buf>, y: &mut Buf) -> Result<()> {
        if let Some(gemm) = Gemm::of(g) {
            return pointwise::cuda::fprop(self, &gemm, x, affine, y);
        }
        let pixels = g.whole().pixels();
        if let Some(blocks) = SpaceToDepth::new(self.precision(), g) {
            let (x, w) = (blocks.image(self, x)?, blocks.filters(self, affine.w)?);
            return self.fprop(&blocks.shape, pixels, &x, Affine { w: &w, ..affine }, y);
        }
        self.fprop(g, pixels, x, affine, y)
    }

    fn conv2d_dgrad(&self, g: &ConvShape, dy: &Buf, w: &Buf, dx: &mut Grad<Buf>) -> Result<()> {
        if let Some(gemm) = Gemm::of(g) {
            return pointwise::cuda::dgrad(self, &gemm, dy, w, dx);
        }
        let extents = Convolution::new(g)?;
        let (dy, w) = (self.operand(dy)?, self.operand(w)?);
        let value = dx.take_mask();
        let mask = self.masked_by(value.as_deref())?;
        let dx = self.result(dx)?;
        let accumulate = dx.accumulate();
        let (precision, product) = (self.precision(), Product { m: g.n * g.h * g.w, n: g.c, k: g.r * g.s * g.k });
        let tile = tile(precision, whole_vectors(precision, &[g.c, g.k]), product.n);
        let tile = gemm::enlarged(tile, product, &self.limits());
        let args = Args::new().destination(&dx).input(&dy).input(&w).masked_by(&mask).flag(accumulate);
        let geometry = geometry(tile, product.m, product.n, 1);
        self.launch(OP, &format!("conv2d_dgrad_{}", tile.name()), geometry, args.value(extents))?;
        dx.finish()
    }

    fn conv2d_wgrad(&self, g: &ConvShape, x: &Buf, dy: &Buf, wanted: Wanted<'_, Buf>) -> Result<()> {
        if let Some(gemm) = Gemm::of(g) {
            return pointwise::cuda::wgrad(self, &gemm, x, dy, wanted);
        }
        // The kernel does not read x for db alone.
        let blocks = if wanted.dw.is_some() { SpaceToDepth::new(self.precision(), g) } else { None };
        let (g, extents, in_blocks) = match &blocks {
            Some(blocks) => (&blocks.shape, blocks.convolution()?, Some(blocks.image(self, x)?)),
            None => (g, Convolution::new(g)?, None),
        };
        // The aligned kernels pack a row and a column of the padded image into one word.
        let small = g.h.max(g.w) + 2 * g.pad < 1 << 15;
        let aligned = small && whole_vectors(self.precision(), &[g.c, g.k]);
        let product = Product { m: g.k, n: g.taps(), k: g.pixels() };
        let x = in_blocks.as_ref().unwrap_or(x);
        WeightGradient { op: OP, product, aligned, rule: gemm::wgrad_tile, x, dy }
            .launch(self, wanted, |args| args.value(extents))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;
    use crate::shape::Window;

    #[test]
    fn space_to_depth_needs_few_channels_and_a_stride() {
        let of = |x, w, stride, pad| {
            let g = ConvShape::new("test", x, w, Window { stride, pad }).unwrap();
            Precision::ALL.map(|precision| SpaceToDepth::new(precision, &g).map(|blocks| blocks.shape.input()))
        };
        let first = of(Shape::image(2, 1, 224, 224), Shape::weight(96, 1, 11, 11), 4, 0);
        assert_eq!(first, [Some(Shape::image(2, 16, 56, 56)); 3]);
        // 3×3 blocks of 2×2 pixels: 36 taps for 25.
        assert_eq!(of(Shape::image(2, 1, 28, 28), Shape::weight(48, 1, 5, 5), 2, 2), [None; 3]);
        // Four channels are a whole 16-byte access in f32, and half of one in bf16.
        let four = of(Shape::image(1, 4, 9, 9), Shape::weight(8, 4, 2, 2), 2, 0);
        assert_eq!(four, [None, None, Some(Shape::image(1, 16, 4, 4))]);
        assert_eq!(of(Shape::image(1, 3, 9, 9), Shape::weight(10, 3, 4, 4), 4, 1), [None; 3]);
    }
}
