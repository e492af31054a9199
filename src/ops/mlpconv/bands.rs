//! The block's kernels that pool as well, `kernels/mlpconv/pool.cuh`: how they divide images, and what that takes of shared
//! memory.

use std::cmp::Reverse;

use crate::device::cuda::divisor;
use crate::device::cuda::tiles::{MLPCONV_BACKWARD_PIXELS, MLPCONV_CHANNELS, MLPCONV_FPROP_PIXELS};
use crate::shape::PoolShape;

/// The pool that they have.
const WINDOW: usize = 3;
const STRIDE: usize = 2;

fn fuses(pool: &PoolShape) -> bool {
    (pool.window, pool.stride) == (WINDOW, STRIDE)
}

/// Forward: images in bands of pooled rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bands {
    pool: PoolShape,
    /// Pooled rows of a band, and bands of an image.
    rows: usize,
    of_image: usize,
    /// Pixels in the ring, in whole rows; an even number where it is gone round.
    ring: usize,
}

impl Bands {
    /// `None` for another pool. Neighbouring bands both compute the row that windows of both see, and a band's last tile has
    /// fewer pixels; but images alone may leave multiprocessors without work. Of all heights this is the one that is done
    /// first; of several, the highest.
    pub(super) fn new(pool: &PoolShape, multiprocessors: usize) -> Option<Self> {
        if !fuses(pool) {
            return None;
        }
        let pixels = |rows: usize| ((rows - 1) * STRIDE + WINDOW) * pool.w;
        let time = |rows: usize| {
            let bands = pool.n * pool.p.div_ceil(rows);
            bands.div_ceil(multiprocessors) * pixels(rows).div_ceil(MLPCONV_FPROP_PIXELS)
        };
        let rows = (1..=pool.p).min_by_key(|&rows| (time(rows), Reverse(rows)))?;
        // A tile, and what windows that end in it may need of the pixels before.
        let needed = MLPCONV_FPROP_PIXELS + (WINDOW - 1) * (pool.w + 1);
        // Pixels that are written together change places with each other, so tiles begin at even ones.
        let even = pool.w * (1 + pool.w % 2);
        let ring = needed.next_multiple_of(even).min(pixels(rows));
        Some(Bands { pool: *pool, rows, of_image: pool.p.div_ceil(rows), ring })
    }

    /// Of all images.
    pub(super) fn count(&self) -> usize {
        self.pool.n * self.of_image
    }

    /// Places of 64 bytes in each of the ring's planes: an odd number, so that neighbouring planes begin in different halves
    /// of the banks, and one more than pixels at least, because neighbours change places.
    fn places(&self) -> usize {
        (self.ring + 1) | 1
    }

    /// Bytes of shared memory.
    pub(super) fn shared(&self) -> usize {
        2 * MLPCONV_CHANNELS * self.places()
    }

    /// The kernel's `Bands`.
    pub(super) fn words(&self) -> [u32; 15] {
        let mut words = [0; 15];
        let extents = [self.pool.p, self.pool.q, self.rows, self.count(), self.ring, self.places()];
        words[..6].copy_from_slice(&extents.map(|extent| extent as u32));
        words[6..].copy_from_slice([self.pool.q, self.of_image, self.ring].map(divisor).as_flattened());
        words
    }
}

/// Backward: the pooled rows whose windows see pixels of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PooledRows {
    pool: PoolShape,
    rows: usize,
}

impl PooledRows {
    /// `None` for another pool.
    pub(super) fn new(pool: &PoolShape) -> Option<Self> {
        // Of the rows that a tile's pixels may lie in every other ends a window and begins one.
        let seen = (MLPCONV_BACKWARD_PIXELS - 2) / pool.w + 2;
        fuses(pool).then(|| PooledRows { pool: *pool, rows: ((seen - 1) / STRIDE + 2).min(pool.p) })
    }

    /// Bytes of shared memory, for gradients and positions.
    pub(super) fn shared(&self) -> usize {
        (3 * self.rows * self.pool.q * self.pool.c).next_multiple_of(16)
    }

    /// The kernel's `PooledRows`.
    pub(super) fn words(&self) -> [u32; 3] {
        [self.pool.p, self.pool.q, self.rows].map(|extent| extent as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;

    fn pool(n: usize, h: usize, w: usize) -> PoolShape {
        PoolShape::new("maxpool", Shape::image(n, 96, h, w), WINDOW, STRIDE).unwrap()
    }

    #[test]
    fn bands_leave_few_multiprocessors_without_work() {
        let cut = |n, h, w| {
            let bands = Bands::new(&pool(n, h, w), 132).unwrap();
            (bands.rows, bands.count())
        };
        // Whole images, if there are about as many as multiprocessors: one each, or several.
        assert_eq!(cut(128, 53, 53), (26, 128));
        assert_eq!(cut(128, 54, 54), (26, 128));
        assert_eq!(cut(1280, 53, 53), (26, 1280));
        // A second image for a few takes as long as one for all; thirds are done sooner.
        assert_eq!(cut(140, 53, 53), (9, 420));
        assert_eq!(cut(64, 53, 53), (13, 128));
        assert_eq!(cut(16, 53, 53), (4, 112));
        // No less than a tile.
        assert_eq!(cut(1, 53, 53), (1, 26));
        assert_eq!(cut(1, 9, 9), (4, 1));
        assert_eq!(cut(1, 3, 3), (1, 1));
    }

    #[test]
    fn other_pools_are_not_for_them() {
        for (window, stride) in [(2, 2), (3, 1), (3, 3), (5, 2)] {
            let pool = PoolShape::new("maxpool", Shape::image(2, 96, 53, 53), window, stride).unwrap();
            assert_eq!((Bands::new(&pool, 132), PooledRows::new(&pool)), (None, None), "{window}/{stride}");
        }
    }

    /// Every pixel is in the ring until the last window over it is complete, and pixels that are there at once have places
    /// of their own.
    #[test]
    fn rings_hold_what_windows_need() {
        for (h, w) in [(53, 53), (54, 54), (3, 3), (3, 200), (200, 3), (40, 7), (9, 64), (5, 300)] {
            let bands = Bands::new(&pool(1, h, w), 1).unwrap();
            let pixels = ((bands.rows - 1) * STRIDE + WINDOW) * w;
            for first in (0..pixels).step_by(MLPCONV_FPROP_PIXELS) {
                // The first window that is not complete before this tile.
                let windows =
                    (0..bands.rows * bands.pool.q).map(|i| (i / bands.pool.q * w + i % bands.pool.q) * STRIDE);
                let oldest = windows.filter(|begin| begin + (WINDOW - 1) * (w + 1) >= first).min().unwrap();
                let end = (first + MLPCONV_FPROP_PIXELS).min(pixels);
                assert!(end - oldest.min(first) <= bands.ring, "{h}x{w}: {oldest} to {end} in {}", bands.ring);
            }
            assert!(bands.ring.is_multiple_of(w) && bands.ring >= WINDOW * w, "{h}x{w}: {}", bands.ring);
            let mut places: Vec<usize> = (0..bands.ring).map(|slot| slot ^ (slot >> 1 & 1)).collect();
            places.sort_unstable();
            places.dedup();
            assert!(places.len() == bands.ring && places[bands.ring - 1] < bands.places());
        }
    }

    #[test]
    fn a_tiles_pooled_rows_have_room() {
        for (h, w) in [(53, 53), (54, 54), (3, 3), (9, 127), (9, 128), (9, 129), (41, 63), (200, 3)] {
            let rows = PooledRows::new(&pool(1, h, w)).unwrap();
            for first in (0..h * w).step_by(MLPCONV_BACKWARD_PIXELS) {
                let [top, bottom] = [first, (first + MLPCONV_BACKWARD_PIXELS).min(h * w) - 1].map(|pixel| pixel / w);
                let seen = |p: &usize| p * STRIDE <= bottom && p * STRIDE + WINDOW > top;
                assert!((0..rows.pool.p).filter(seen).count() <= rows.rows, "{h}x{w}, pixel {first}");
            }
        }
    }
}
