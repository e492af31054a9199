//! The pair on a GPU: launches of `kernels/pointwise_pair.cu`, for channel counts whose values fit a thread's
//! registers.

use bytemuck::NoUninit;

use super::{ChainWanted, PairShape, Params, PointwisePair, composed};
use crate::Result;
use crate::device::cuda::tiles::{PAIR_BLOCKS, PAIR_CHANNELS, PAIR_PIXELS};
use crate::device::cuda::{Args, Buf, Cuda, Geometry, divisor};
use crate::ops::Verdict;
use crate::ops::global_avgpool::cuda::inverse_pixels;

const OP: &str = "pointwise_pair";

/// The kernels' `Extents`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Extents {
    c: [u32; 3],
    k3: [u32; 3],
    image: [u32; 3],
    scale: f32,
    k2: u32,
    pixels: u32,
    tile: u32,
}

// SAFETY: an array of words has no padding.
unsafe impl NoUninit for Extents {}

impl Extents {
    fn new(shape: &PairShape) -> Self {
        let &PairShape { m, c, k2, k3, mean } = shape;
        Extents {
            c: divisor(c),
            k3: divisor(k3),
            image: mean.map_or([0; 3], divisor),
            scale: shape.averaged().map_or(0.0, inverse_pixels),
            k2: k2 as u32,
            pixels: m as u32,
            tile: tile(shape) as u32,
        }
    }
}

/// The kernels' `Layout`: the layout of one part of the gradients, which a block writes. In floats: the offset of each
/// gradient, at multiples of 16 bytes, and the stride of parts.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    dw: [u32; 2],
    db: [u32; 2],
    stride: u32,
}

// SAFETY: an array of words has no padding.
unsafe impl NoUninit for Layout {}

impl Layout {
    fn new(shape: &PairShape) -> Self {
        let mut end = 0;
        let mut next = |len: usize| {
            let start = end as u32;
            end += len.next_multiple_of(4);
            start
        };
        let (dw, db) = ([next(shape.k2 * shape.c), next(shape.k3 * shape.k2)], [next(shape.k2), next(shape.k3)]);
        Layout { dw, db, stride: end as u32 }
    }
}

/// Pixels of a tile: one for each of a block's threads; with a mean, those of as many whole images as fit, 0 if none
/// fits.
fn tile(shape: &PairShape) -> usize {
    let whole = shape.mean.unwrap_or(1);
    PAIR_PIXELS / whole * whole
}

impl PairShape {
    /// Whether the kernels support these extents; the error is the reason why not.
    pub(in crate::ops) fn suits(&self) -> Verdict {
        if let Some(channels) = [self.c, self.k2, self.k3].into_iter().find(|&channels| channels > PAIR_CHANNELS) {
            return Err(format!("{channels} channels are more than a thread has registers for, {PAIR_CHANNELS}"));
        }
        match self.mean {
            Some(pixels) if tile(self) == 0 => {
                Err(format!("images of {pixels} pixels are larger than a tile, {PAIR_PIXELS}"))
            }
            _ => Ok(()),
        }
    }

    fn fits(&self) -> bool {
        self.suits().is_ok()
    }
}

/// A block for each tile of pixels if there are at most `most` tiles; else the fewest blocks that take as many tiles
/// each as `most` blocks would.
fn geometry(shape: &PairShape, most: usize) -> Geometry {
    let tiles = shape.m.div_ceil(tile(shape));
    let blocks = tiles.div_ceil(tiles.div_ceil(most));
    Geometry { grid: [blocks, 1, 1], block: [PAIR_PIXELS, 1, 1], shared: 0 }
}

impl PointwisePair for Cuda {
    fn pointwise_pair_fprop(&self, shape: &PairShape, x: &Buf, params: Params<'_, Buf, 2>, y: &mut Buf) -> Result<()> {
        if !shape.fits() {
            return composed::fprop(self, shape, x, params, y);
        }
        let x = self.operand(x)?;
        let (w2, w3) = (self.operand(params.w[0])?, self.operand(params.w[1])?);
        let (b2, b3) = (self.operand_f32(params.b[0])?, self.operand_f32(params.b[1])?);
        let args = Args::new().output(y).input(&x).input(&w2).input(&b2).input(&w3).input(&b3);
        let args = args.value(Extents::new(shape)).flag(params.relu);
        self.launch(OP, "pointwise_pair_fprop", geometry(shape, usize::MAX), args)
    }

    fn pointwise_pair_backward(
        &self,
        shape: &PairShape,
        x: &Buf,
        params: Params<'_, Buf, 2>,
        dy: &Buf,
        wanted: ChainWanted<'_, Buf, 2>,
    ) -> Result<()> {
        if !shape.fits() {
            return composed::backward(self, shape, x, params, dy, wanted);
        }
        let ChainWanted { mut dx, layers: [second, third] } = wanted;
        // The kernel masks dx by x, which it reads anyway: the mask's value is this op's input.
        let mask = dx.as_mut().and_then(|dx| dx.take_mask()).is_some();
        let (geometry, layout) = (geometry(shape, PAIR_BLOCKS), Layout::new(shape));
        let parts = self.parts(geometry.grid[0], layout.stride as usize)?;
        let (x, dy) = (self.operand(x)?, self.operand(dy)?);
        let (w2, w3) = (self.operand(params.w[0])?, self.operand(params.w[1])?);
        let (b2, b3) = (self.operand_f32(params.b[0])?, self.operand_f32(params.b[1])?);
        let dx = dx.map(|dx| self.result(dx)).transpose()?;
        let accumulate = dx.as_ref().is_some_and(|dx| dx.accumulate());
        let args = Args::new().address(dx.as_ref().map_or(0, |dx| dx.address())).address(parts.address());
        let args = args.input(&x).input(&dy).input(&w2).input(&b2).input(&w3).input(&b3);
        let args = args.value(Extents::new(shape)).value(layout).flag(params.relu).flag(mask).flag(accumulate);
        self.launch(OP, "pointwise_pair_backward", geometry, args)?;
        let [dw, db] = [[second.dw, third.dw], [second.db, third.db]];
        let grads = dw.into_iter().zip(layout.dw).chain(db.into_iter().zip(layout.db));
        for (grad, start) in grads {
            if let Some(grad) = grad {
                self.result_in(grad, parts.behind(start as usize)).finish()?;
            }
        }
        dx.map_or(Ok(()), |dx| dx.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_the_pixels_and_leave_no_more_parts_than_allowed() {
        let blocks = |m| geometry(&PairShape { m, c: 10, k2: 10, k3: 10, mean: None }, PAIR_BLOCKS).grid[0];
        let most = PAIR_BLOCKS * PAIR_PIXELS;
        for (m, wanted) in
            [(1, 1), (128, 1), (129, 2), (3200, 25), (most, PAIR_BLOCKS), (most + 1, PAIR_BLOCKS / 2 + 1)]
        {
            assert_eq!(blocks(m), wanted, "{m}");
        }
    }

    #[test]
    fn means_are_of_images_that_are_whole_in_a_tile() {
        let shape = |images: usize, pixels| PairShape { m: images * pixels, c: 10, k2: 10, k3: 10, mean: Some(pixels) };
        let cut = |images, pixels| {
            let shape = shape(images, pixels);
            (tile(&shape), geometry(&shape, usize::MAX).grid[0], geometry(&shape, PAIR_BLOCKS).grid[0])
        };
        assert_eq!(cut(128, 25), (125, 26, 26));
        assert_eq!(cut(130, 25), (125, 26, 26));
        assert_eq!(cut(131, 25), (125, 27, 27));
        assert_eq!(cut(129, 1), (128, 2, 2));
        assert_eq!(cut(3, 49), (98, 2, 2));
        assert_eq!(cut(300, 65), (65, 300, 150));
        assert_eq!(cut(PAIR_BLOCKS, 128), (128, PAIR_BLOCKS, PAIR_BLOCKS));
        assert!(shape(3, 128).fits() && !shape(3, 129).fits() && !shape(1, 1000).fits());
    }

    #[test]
    fn gradients_in_a_part_begin_where_they_are_read_by_fours() {
        let layout = Layout::new(&PairShape { m: 1, c: 10, k2: 7, k3: 3, mean: None });
        assert_eq!(layout, Layout { dw: [0, 72], db: [96, 104], stride: 108 });
    }
}
