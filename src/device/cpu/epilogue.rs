//! Epilogues: bias, ReLU and mask of a strip of a GEMM's result while it is in the cache, and the sum of partial results.

use std::ops::Range;

use super::Real;
use crate::device::Write;

/// Adds `bias` `[k]` to each row of `y` `[m, k]`, then clamps below at zero if `relu`. NaN stays NaN.
pub(crate) fn bias_relu<T: Real>(y: &mut [T], bias: Option<&[T]>, k: usize, relu: bool) {
    let clamp = |v: T| if relu && v < T::zero() { T::zero() } else { v };
    match bias {
        Some(bias) => {
            for row in y.chunks_exact_mut(k) {
                for (y, &b) in row.iter_mut().zip(bias) {
                    *y = clamp(*y + b);
                }
            }
        }
        None if relu => y.iter_mut().for_each(|y| *y = clamp(*y)),
        None => {}
    }
}

/// Zeroes `dx` where `x`, a ReLU's output, is not positive.
pub(crate) fn mask<T: Real>(dx: &mut [T], x: &[T]) {
    for (dx, &x) in dx.iter_mut().zip(x) {
        *dx = if x > T::zero() { *dx } else { T::zero() };
    }
}

/// Adds each row of `rows` `[m, sum.len()]` to `sum`.
pub(crate) fn add_rows<T: Real>(sum: &mut [T], rows: &[T]) {
    for row in rows.chunks_exact(sum.len()) {
        for (s, &v) in sum.iter_mut().zip(row) {
            *s += v;
        }
    }
}

/// A long sum divided into parts, which are computed in parallel and added up in order. Their number depends on the
/// shape alone, so the bits of the result do not depend on the number of threads.
pub(crate) struct Parts {
    total: usize,
    pub(crate) count: usize,
}

impl Parts {
    /// Parts of a sum over `total` GEMM rows whose result has `result` elements: at most 16, each of at least 256
    /// rows, and together no more than 64 MiB of f32.
    pub(crate) fn new(total: usize, result: usize) -> Self {
        let affordable = ((1 << 24) / result.max(1)).max(1);
        Parts { total, count: total.div_ceil(256).min(affordable).min(16) }
    }

    /// The GEMM rows of part `i`.
    pub(crate) fn range(&self, i: usize) -> Range<usize> {
        i * self.total / self.count..(i + 1) * self.total / self.count
    }

    /// Adds up `dst.len()` elements at `start` of each part's block; blocks lie `stride` apart.
    pub(crate) fn reduce<T: Real>(&self, blocks: &[T], stride: usize, start: usize, write: Write, dst: &mut [T]) {
        if write == Write::Overwrite {
            dst.fill(T::zero());
        }
        for part in 0..self.count {
            let block = &blocks[part * stride + start..][..dst.len()];
            for (d, &b) in dst.iter_mut().zip(block) {
                *d += b;
            }
        }
    }
}
