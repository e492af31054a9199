//! Bands and pooled rows: how the fused block's kernels with a pool, `kernels/mlpconv/pool.cuh`, divide images, and the
//! shared memory that this takes.

use std::cmp::Reverse;

use crate::device::cuda::divisor;
use crate::device::cuda::tiles::{MLPCONV_BACKWARD_PIXELS, MLPCONV_CHANNELS, MLPCONV_FPROP_PIXELS};
use crate::shape::PoolShape;

/// The only pool that the kernels support: 3×3 at stride 2.
const WINDOW: usize = 3;
const STRIDE: usize = 2;

fn fuses(pool: &PoolShape) -> bool {
    (pool.window, pool.stride) == (WINDOW, STRIDE)
}

/// fprop's division of images into bands of consecutive pooled rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bands {
    pool: PoolShape,
    /// Pooled rows of a band.
    rows: usize,
    /// Bands of an image.
    of_image: usize,
    /// Pixels in the ring, in whole rows; an even number if a band has more pixels than the ring, so that it wraps.
    ring: usize,
}

impl Bands {
    /// The bands for a pool; `None` for a pool that the kernels do not support.
    ///
    /// The height of a band is the one with the least time, counted in tiles of the busiest multiprocessor; of equal
    /// ones the highest. Low bands cost more: neighbouring bands both compute the row that they share, and a band's
    /// last tile has fewer pixels. High bands may leave multiprocessors without work.
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
        // The pixels of a tile, and the earlier ones that windows that end in the tile may need.
        let needed = MLPCONV_FPROP_PIXELS + (WINDOW - 1) * (pool.w + 1);
        // `Ring::at` in pool.cuh swaps the places of neighbouring pixels, so tiles have to begin at an even place: a
        // ring that wraps has an even number of pixels.
        let even = pool.w * (1 + pool.w % 2);
        let ring = needed.next_multiple_of(even).min(pixels(rows));
        Some(Bands { pool: *pool, rows, of_image: pool.p.div_ceil(rows), ring })
    }

    /// The number of bands of all images.
    pub(super) fn count(&self) -> usize {
        self.pool.n * self.of_image
    }

    /// Places of 64 bytes in each of the ring's planes. Their number is odd, so that neighbouring planes begin in
    /// different halves of the banks. It is at least one more than the pixels, because neighbours swap places.
    fn places(&self) -> usize {
        (self.ring + 1) | 1
    }

    /// Bytes of shared memory for the ring, in bf16.
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

/// The backward kernel's pooled rows: those whose windows cover pixels of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PooledRows {
    pool: PoolShape,
    rows: usize,
}

impl PooledRows {
    /// The most pooled rows of any tile; `None` for a pool that the kernels do not support.
    pub(super) fn new(pool: &PoolShape) -> Option<Self> {
        // A tile's pixels lie in at most `seen` rows; at stride 2, windows begin at every other row.
        let seen = (MLPCONV_BACKWARD_PIXELS - 2) / pool.w + 2;
        fuses(pool).then(|| PooledRows { pool: *pool, rows: ((seen - 1) / STRIDE + 2).min(pool.p) })
    }

    /// Bytes of shared memory: a bf16 gradient and a one-byte position for each channel of each pooled pixel.
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
        // About as many images as multiprocessors, or several times as many: a band is a whole image.
        assert_eq!(cut(128, 53, 53), (26, 128));
        assert_eq!(cut(128, 54, 54), (26, 128));
        assert_eq!(cut(1280, 53, 53), (26, 1280));
        // A few images more than multiprocessors: whole images would take two rounds, and bands of a third take less.
        assert_eq!(cut(140, 53, 53), (9, 420));
        assert_eq!(cut(64, 53, 53), (13, 128));
        assert_eq!(cut(16, 53, 53), (4, 112));
        // One image: the highest bands whose pixels fit one tile.
        assert_eq!(cut(1, 53, 53), (1, 26));
        assert_eq!(cut(1, 9, 9), (4, 1));
        assert_eq!(cut(1, 3, 3), (1, 1));
    }

    #[test]
    fn other_pools_are_refused() {
        for (window, stride) in [(2, 2), (3, 1), (3, 3), (5, 2)] {
            let pool = PoolShape::new("maxpool", Shape::image(2, 96, 53, 53), window, stride).unwrap();
            assert_eq!((Bands::new(&pool, 132), PooledRows::new(&pool)), (None, None), "{window}/{stride}");
        }
    }

    /// A pixel stays in the ring until the last window over it is complete, and pixels in the ring have different
    /// places.
    #[test]
    fn rings_hold_what_windows_need() {
        for (h, w) in [(53, 53), (54, 54), (3, 3), (3, 200), (200, 3), (40, 7), (9, 64), (5, 300)] {
            let bands = Bands::new(&pool(1, h, w), 1).unwrap();
            let pixels = ((bands.rows - 1) * STRIDE + WINDOW) * w;
            for first in (0..pixels).step_by(MLPCONV_FPROP_PIXELS) {
                // The first window that no earlier tile completes.
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
