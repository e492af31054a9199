//! Flatten on a GPU: launches of `kernels/flatten.cu`, which transpose each image.

use super::Flatten;
use crate::device::Grad;
use crate::device::cuda::tiles::{FLATTEN_TILE, THREADS};
use crate::device::cuda::{Args, Buf, Cuda, Geometry};
use crate::{Result, Shape};

/// A block for each square tile of each image's `[H·W, C]` matrix.
fn geometry(shape: Shape) -> Geometry {
    let tiles = (shape.h() * shape.w()).div_ceil(FLATTEN_TILE) * shape.c().div_ceil(FLATTEN_TILE);
    Geometry { grid: [shape.n() * tiles, 1, 1], block: [THREADS, 1, 1], shared: 0 }
}

impl Flatten for Cuda {
    fn flatten_fprop(&self, shape: Shape, x: &Buf, y: &mut Buf) -> Result<()> {
        let x = self.operand(x)?;
        let args = Args::new().output(y).input(&x).int(shape.c()).int(shape.h() * shape.w());
        self.launch("flatten", "flatten_fprop", geometry(shape), args)
    }

    fn flatten_dgrad(&self, shape: Shape, dy: &Buf, dx: &mut Grad<Buf>) -> Result<()> {
        let (dy, dx) = (self.operand(dy)?, self.result(dx)?);
        let accumulate = dx.accumulate();
        let args = Args::new().destination(&dx).input(&dy).int(shape.c()).int(shape.h() * shape.w()).flag(accumulate);
        self.launch("flatten", "flatten_dgrad", geometry(shape), args)?;
        dx.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_cover_each_image() {
        let blocks = |n, c, h, w| geometry(Shape::image(n, c, h, w)).grid;
        assert_eq!(blocks(1, 2, 1, 3), [1, 1, 1]);
        assert_eq!(blocks(3, FLATTEN_TILE, 1, FLATTEN_TILE), [3, 1, 1]);
        assert_eq!(blocks(3, FLATTEN_TILE + 1, 2, FLATTEN_TILE), [12, 1, 1]);
        assert_eq!(blocks(70_000, 2, 1, 2), [70_000, 1, 1]);
    }
}
