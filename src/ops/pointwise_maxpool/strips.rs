//! Strips: the pixels of a block of the kernel that convolves and pools. A strip holds as many whole rows of windows,
//! or whole images, as fit the rows of the block's tile.

use bytemuck::NoUninit;

use crate::device::Precision;
use crate::device::cuda::divisor;
use crate::shape::PoolShape;

/// The kernels' `Strips`. A strip is several whole images, or some rows of one image. Where windows overlap,
/// neighbouring strips share rows of pixels, and each strip computes them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strips {
    image_pixels: u32,
    strip_pixels: u32,
    /// From a strip's first pixel to that of the next strip of the same image.
    step_pixels: u32,
    image_pooled: u32,
    strip_pooled: u32,
    /// Images of a strip; 1 where an image has several strips.
    images: u32,
    n: u32,
    w: u32,
    window: u32,
    stride: u32,
    /// Divisor: the strips of an image; 1 where a strip has whole images.
    strips: [u32; 3],
    /// Divisors: the pool's output extents.
    p: [u32; 3],
    q: [u32; 3],
}

// SAFETY: an array of words has no padding.
unsafe impl NoUninit for Strips {}

impl Strips {
    /// Strips of at most `rows` pixels each; `None` if one row of windows has more.
    pub(super) fn new(pool: &PoolShape, rows: usize) -> Option<Self> {
        let &PoolShape { n, h, w, p, q, window, .. } = pool;
        // Clamped for the kernels' u32: a stride beyond the image gives one window, as any larger stride does.
        let stride = pool.stride.min(h.max(w));
        let strip = |images, strips, pixels, step, pooled| Strips {
            image_pixels: (h * w) as u32,
            strip_pixels: pixels as u32,
            step_pixels: step as u32,
            image_pooled: (p * q) as u32,
            strip_pooled: pooled as u32,
            images: images as u32,
            n: n as u32,
            w: w as u32,
            window: window as u32,
            stride: stride as u32,
            strips: divisor(strips),
            p: divisor(p),
            q: divisor(q),
        };
        if h * w <= rows {
            let images = (rows / (h * w)).min(n);
            return Some(strip(images, 1, images * h * w, 0, images * p * q));
        }
        let pooled_rows = (rows / w).checked_sub(window)? / stride + 1;
        let pixels = ((pooled_rows - 1) * stride + window) * w;
        Some(strip(1, p.div_ceil(pooled_rows), pixels, pooled_rows * stride * w, pooled_rows * q))
    }

    /// The number of strips of all images.
    pub(super) fn count(&self) -> usize {
        (self.n as usize).div_ceil(self.images as usize) * self.strips[0] as usize
    }

    /// Whether a convolution of `pixels` pixels gains by pooling in strips. `rows` is the tile's rows.
    ///
    /// Saved: writing and reading each result, 4 bytes in bf16 and 8 otherwise. Cost: extra rows, those that strips
    /// share and those of a tile beyond its strip. Break-even: extra rows per result × input channels = bytes saved ×
    /// multiply-adds in the time of a byte (`gemm::intensity`).
    ///
    /// In bf16 and TF32 the right side is 4 · 76 and 8 · 38, both 304. The limit is a third more rows, which costs 85
    /// for 256 channels. In fp32 some GPUs have 7 multiply-adds a byte, so the right side is 56. The limit is a tenth
    /// more rows, which costs 26 for 256 channels.
    pub(super) fn gain(&self, pixels: usize, rows: usize, precision: Precision) -> bool {
        let (computed, needed) = (self.count() * rows, pixels.next_multiple_of(rows));
        let most = match precision {
            Precision::Fp32 => needed / 10,
            Precision::Tf32 | Precision::Bf16 => needed / 3,
        };
        computed <= needed + most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;

    fn pool([n, h, w]: [usize; 3], window: usize, stride: usize) -> PoolShape {
        PoolShape::new("maxpool", Shape::image(n, 8, h, w), window, stride).unwrap()
    }

    /// Strip `number`, as the kernel finds it: its first pixel and their end, its first pooled pixel and their end.
    fn strip(strips: &Strips, number: usize) -> [usize; 4] {
        let of = |word: u32| word as usize;
        let (group, part) = (number / of(strips.strips[0]), number % of(strips.strips[0]));
        let before = group * of(strips.images);
        let after = (before + of(strips.images)).min(of(strips.n));
        let range = |image: u32, strip: u32, step: u32| {
            let first = before * of(image) + part * of(step);
            [first, (first + of(strip)).min(after * of(image))]
        };
        let [first, end] = range(strips.image_pixels, strips.strip_pixels, strips.step_pixels);
        let [first_pooled, end_pooled] = range(strips.image_pooled, strips.strip_pooled, strips.strip_pooled);
        [first, end, first_pooled, end_pooled]
    }

    #[test]
    fn every_window_lies_in_a_strip() {
        let images =
            [[1, 5, 5], [7, 5, 5], [2, 11, 11], [3, 12, 12], [2, 25, 25], [1, 26, 26], [2, 20, 16], [9, 3, 42]];
        for image in images {
            for (window, stride) in [(2, 2), (3, 2), (3, 1), (3, 3), (2, 3), (1, 1), (3, usize::MAX)] {
                let g = pool(image, window, stride);
                let strips = Strips::new(&g, 128).unwrap_or_else(|| panic!("{g:?}"));
                let mut next = 0;
                for number in 0..strips.count() {
                    let [first, end, first_pooled, end_pooled] = strip(&strips, number);
                    assert!(first < end && end - first <= 128 && end <= g.n * g.h * g.w, "{g:?}");
                    assert!(first_pooled == next && first_pooled < end_pooled, "{g:?}");
                    for pooled in first_pooled..end_pooled {
                        let (image, row, column) = (pooled / (g.p * g.q), pooled / g.q % g.p, pooled % g.q);
                        let stride = strips.stride as usize;
                        let corner = (image * g.h + row * stride) * g.w + column * stride;
                        let of_strip = pooled - first_pooled;
                        let (line, column) = (of_strip / g.q, of_strip % g.q);
                        let found = line / g.p * g.h * g.w + (line % g.p * g.w + column) * stride;
                        assert_eq!(first + found, corner, "{g:?}");
                        assert!(corner + (window - 1) * (g.w + 1) < end, "{g:?}");
                    }
                    next = end_pooled;
                }
                assert_eq!(next, g.n * g.p * g.q, "{g:?}");
            }
        }
    }

    #[test]
    fn windows_that_do_not_fit_are_refused() {
        assert!(Strips::new(&pool([1, 53, 53], 3, 2), 128).is_none());
        assert!(Strips::new(&pool([1, 43, 43], 3, 2), 128).is_none());
        assert!(Strips::new(&pool([1, 42, 42], 3, 2), 128).is_some());
        assert!(Strips::new(&pool([1, 1, 1000], 1, 1), 128).is_none());
    }

    #[test]
    fn rows_in_common_are_weighed_against_memory() {
        let gain = |[n, h, w]: [usize; 3], window, stride| {
            let strips = Strips::new(&pool([n, h, w], window, stride), 128).unwrap();
            Precision::ALL.map(|precision| strips.gain(n * h * w, 128, precision))
        };
        // d2l's second block: 6 strips of 128 rows for 625 pixels. Its third: 128 for 121.
        assert_eq!(gain([128, 25, 25], 3, 2), [false, true, true]);
        assert_eq!(gain([128, 11, 11], 3, 2), [true; 3]);
        assert_eq!(gain([1, 11, 11], 3, 2), [true; 3]);
        // 2 for 144 pixels, 12 for 676, 7 for 484, and 8 for 1024, which have no rows in common.
        assert_eq!(gain([128, 12, 12], 3, 2), [false; 3]);
        assert_eq!(gain([128, 26, 26], 3, 2), [false; 3]);
        assert_eq!(gain([128, 22, 22], 3, 1), [false; 3]);
        assert_eq!(gain([128, 32, 32], 2, 2), [true; 3]);
    }
}
