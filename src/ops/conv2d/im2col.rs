//! im2col: the matrix of receptive fields. Row `m` holds the input elements under the filter at output pixel `m`, in
//! the order of the weights (r, s, c). It is made for a strip of pixels that stays in the cache, and for some filter
//! rows.

use std::ops::Range;

use crate::device::Real;
use crate::shape::ConvShape;

/// A run of `len` elements that is contiguous in the matrix, from element `cols` on, and in the image, from element
/// `image` on; `None` for a run of padding.
struct Run {
    cols: usize,
    image: Option<usize>,
    len: usize,
}

/// Visits the runs of the matrix of output pixels `pixels` (numbered through the whole batch) and filter rows `filter`,
/// row by row, left to right.
fn runs(g: &ConvShape, pixels: Range<usize>, filter: Range<usize>, mut visit: impl FnMut(Run)) {
    let (row, line) = (g.s * g.c, g.w * g.c);
    let mut cols = 0;
    let mut q = pixels.start % g.q;
    let mut p = pixels.start / g.q % g.p;
    let mut image = pixels.start / (g.q * g.p);
    for _ in pixels {
        // Columns s of the filter with 0 <= q·stride + s − pad < w.
        let left = q * g.stride;
        let begin = g.pad.saturating_sub(left).min(g.s);
        let end = (g.w + g.pad).saturating_sub(left).clamp(begin, g.s);
        for r in filter.clone() {
            let h = p * g.stride + r;
            if h < g.pad || h >= g.h + g.pad || begin == end {
                visit(Run { cols, image: None, len: row });
            } else {
                let start = (image * g.h + h - g.pad) * line + (left + begin - g.pad) * g.c;
                if begin > 0 {
                    visit(Run { cols, image: None, len: begin * g.c });
                }
                visit(Run { cols: cols + begin * g.c, image: Some(start), len: (end - begin) * g.c });
                if end < g.s {
                    visit(Run { cols: cols + end * g.c, image: None, len: (g.s - end) * g.c });
                }
            }
            cols += row;
        }
        q += 1;
        if q == g.q {
            (q, p) = (0, p + 1);
            if p == g.p {
                (p, image) = (0, image + 1);
            }
        }
    }
}

/// Fills the matrix `cols` `[pixels, filter·s·c]` from the images `x` (NHWC); padding is zero.
pub(super) fn gather<T: Real>(g: &ConvShape, x: &[T], pixels: Range<usize>, filter: Range<usize>, cols: &mut [T]) {
    runs(g, pixels, filter, |run| {
        let dst = &mut cols[run.cols..run.cols + run.len];
        match run.image {
            Some(start) => dst.copy_from_slice(&x[start..start + run.len]),
            None => dst.fill(T::zero()),
        }
    });
}

/// Adds `cols` `[pixels, filter·s·c]` back onto the images `dx`: the transpose of [`gather`].
pub(super) fn scatter_add<T: Real>(
    g: &ConvShape,
    cols: &[T],
    pixels: Range<usize>,
    filter: Range<usize>,
    dx: &mut [T],
) {
    runs(g, pixels, filter, |run| {
        let Some(start) = run.image else { return };
        let src = &cols[run.cols..run.cols + run.len];
        for (d, &s) in dx[start..start + run.len].iter_mut().zip(src) {
            *d += s;
        }
    });
}
