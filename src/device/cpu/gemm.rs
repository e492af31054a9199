//! Matrices over slices, and their product by the `gemm` crate, on the calling thread: parallelism lies in the ops'
//! loops, where the number of threads cannot change the order of a sum.

use super::Real;
use crate::device::Write;

/// A matrix in a slice: element (i, j) at `i * row_stride + j * col_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Mat<'a, T> {
    /// Row-major, rows `stride` elements apart.
    pub(crate) fn strided(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Self {
        let mat = Mat { data, rows, cols, row_stride: stride, col_stride: 1 };
        assert_fits(data.len(), rows, cols, stride, 1);
        mat
    }

    pub(crate) fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// The transpose, without moving anything.
    pub(crate) fn t(self) -> Self {
        Mat {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }
}

/// A row-major matrix to write to.
pub(crate) struct MatMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a, T: Real> MatMut<'a, T> {
    pub(crate) fn strided(data: &'a mut [T], rows: usize, cols: usize, stride: usize) -> Self {
        assert_fits(data.len(), rows, cols, stride, 1);
        MatMut { data, rows, cols, stride }
    }

    pub(crate) fn new(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// `self = a · b`, or `self += a · b`.
    pub(crate) fn product(self, write: Write, a: Mat<'_, T>, b: Mat<'_, T>) {
        assert_eq!((self.rows, self.cols, a.cols), (a.rows, b.cols, b.rows), "matrices do not fit");
        // SAFETY: every constructor checked that its slice holds all elements that its extents and strides address,
        // and the destination is borrowed mutably, so it overlaps neither operand.
        unsafe {
            gemm::gemm(
                self.rows,
                self.cols,
                a.cols,
                self.data.as_mut_ptr(),
                1,
                self.stride as isize,
                write == Write::Accumulate,
                a.data.as_ptr(),
                a.col_stride as isize,
                a.row_stride as isize,
                b.data.as_ptr(),
                b.col_stride as isize,
                b.row_stride as isize,
                T::one(),
                T::one(),
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}

fn assert_fits(len: usize, rows: usize, cols: usize, row_stride: usize, col_stride: usize) {
    let last = |count: usize, stride: usize| count.checked_sub(1)?.checked_mul(stride);
    let end = if rows == 0 || cols == 0 {
        Some(0)
    } else {
        last(rows, row_stride).zip(last(cols, col_stride)).and_then(|(a, b)| a.checked_add(b)?.checked_add(1))
    };
    let fits = end.is_some_and(|end| end <= len);
    assert!(fits, "a {rows}x{cols} matrix needs {end:?} elements, the slice has {len}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_with_strides_and_transposes() {
        // a is 2x3 inside rows of 4; b is the transpose of a 2x3.
        let a = [1., 2., 3., f64::NAN, 4., 5., 6.];
        let b = [1., 0., 2., 0., 1., 1.];
        let mut dst = [10., 10., 7., 10., 10.];
        let (a, b) = (Mat::strided(&a, 2, 3, 4), Mat::new(&b, 2, 3).t());
        MatMut::strided(&mut dst, 2, 2, 3).product(Write::Accumulate, a, b);
        assert_eq!(dst, [17., 15., 7., 26., 21.]);
        MatMut::strided(&mut dst, 2, 2, 3).product(Write::Overwrite, a, b);
        assert_eq!(dst, [7., 5., 7., 16., 11.]);
    }

    #[test]
    #[should_panic(expected = "needs Some(7) elements")]
    fn a_slice_too_short_is_refused() {
        Mat::strided(&[0f32; 6], 2, 3, 4);
    }
}
