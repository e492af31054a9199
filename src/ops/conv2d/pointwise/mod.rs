//! The 1×1 convolution as a GEMM: in NHWC memory the images are a matrix `[N·H·W, C]`.

pub(super) mod cpu;
#[cfg(feature = "cuda")]
pub(super) mod cuda;

use crate::shape::ConvShape;

/// The extents of the GEMM: `m` pixels, from `c` to `k` channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gemm {
    m: usize,
    c: usize,
    k: usize,
}

impl Gemm {
    /// The GEMM of a convolution; `None` unless [`ConvShape::is_gemm`].
    pub(super) fn of(shape: &ConvShape) -> Option<Self> {
        shape.is_gemm().then(|| Gemm { m: shape.pixels(), c: shape.c, k: shape.k })
    }
}
