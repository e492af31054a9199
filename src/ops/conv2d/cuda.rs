//! Convolution on a GPU: launches of `kernels/conv2d.cu`.

use bytemuck::NoUninit;

use super::Conv2d;
use crate::Result;
use crate::device::cuda::gemm::{self, Product, geometry, tile, whole_vectors};
use crate::device::cuda::{Args, Buf, Cuda, divisor};
use crate::ops::Grad;
use crate::shape::ConvShape;

const OP: &str = "conv2d";

/// The kernels' `Convolution`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Convolution {
    /// n, h, w, c, k, r, s, p, q, stride, pad; r·s, r·s·c, r·s·k, n·p·q.
    extents: [i32; 15],
    /// By h, w, c, k, s, p, q, stride.
    divisors: [[u32; 3]; 8],
}

// SAFETY: words.
unsafe impl NoUninit for Convolution {}

impl Convolution {
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for extents that the kernels' ints do not hold.
    fn new(g: &ConvShape) -> Result<Self> {
        let &ConvShape { n, h, w, c, k, r, s, p, q, stride, pad } = g;
        let padded = [h, w].map(|extent| extent.saturating_add(pad.saturating_mul(2)));
        let gradient_taps = (r * s).saturating_mul(k);
        let pixels = n.saturating_mul(h).saturating_mul(w);
        // A filter that is never moved may have any stride.
        let stride = stride.min(padded[0].max(padded[1]));
        let all = [n, h, w, c, k, r, s, p, q, stride, pad, r * s, g.taps(), gradient_taps, g.pixels()];
        gemm::require_countable(OP, &all)?;
        gemm::require_countable(OP, &[padded[0], padded[1], pixels])?;
        Ok(Convolution {
            extents: all.map(|extent| extent as i32),
            divisors: [h, w, c, k, s, p, q, stride].map(divisor),
        })
    }
}

impl Conv2d for Cuda {
    fn conv2d_fprop(&self, g: &ConvShape, x: &Buf, w: &Buf, bias: Option<&Buf>, relu: bool, y: &mut Buf) -> Result<()> {
        let extents = Convolution::new(g)?;
        let (x, w) = (self.operand(x)?, self.operand(w)?);
        let bias = bias.map(|bias| self.operand_f32(bias)).transpose()?;
        let tile = tile(self.precision(), whole_vectors(self.precision(), &[g.c]), g.k);
        let args = Args::new().output(y).input(&x).input(&w).optional(bias.as_deref()).flag(relu).value(extents);
        self.launch(OP, &format!("conv2d_fprop_{}", tile.name()), geometry(tile, g.pixels(), g.k, 1), args)
    }

    fn conv2d_dgrad(&self, g: &ConvShape, dy: &Buf, w: &Buf, mask: Option<&Buf>, dx: &mut Grad<Buf>) -> Result<()> {
        let extents = Convolution::new(g)?;
        let (dy, w) = (self.operand(dy)?, self.operand(w)?);
        let mask = mask.map(|mask| self.operand(mask)).transpose()?;
        let mut dx = self.result(dx)?;
        let accumulate = dx.accumulate();
        let tile = tile(self.precision(), whole_vectors(self.precision(), &[g.c, g.k]), g.c);
        let args = Args::new().output(dx.buf()).input(&dy).input(&w).optional(mask.as_deref()).flag(accumulate);
        let geometry = geometry(tile, g.n * g.h * g.w, g.c, 1);
        self.launch(OP, &format!("conv2d_dgrad_{}", tile.name()), geometry, args.value(extents))?;
        dx.finish()
    }

    fn conv2d_wgrad(
        &self,
        g: &ConvShape,
        x: &Buf,
        dy: &Buf,
        dw: Option<&mut Grad<Buf>>,
        db: Option<&mut Grad<Buf>>,
    ) -> Result<()> {
        let extents = Convolution::new(g)?;
        // The aligned kernels keep a row and a column of the padded image in one word.
        let small = g.h.max(g.w) + 2 * g.pad < 1 << 15;
        let aligned = small && whole_vectors(self.precision(), &[g.c, g.k]);
        let product = Product { m: g.k, n: g.taps(), k: g.pixels() };
        gemm::weight_gradient(self, OP, product, aligned, x, dy, dw, db, |args| args.value(extents))
    }
}
