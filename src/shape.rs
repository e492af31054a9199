//! Shapes as pure arithmetic: the extents of an op's input and output, and its multiply-adds.
//!
//! Logical order is PyTorch's, `[N, C, H, W]`; memory order is NHWC, so that a pixel's channels are contiguous and a
//! 1×1 convolution is a plain GEMM over `[N·H·W, C]`. Weights are logically `[K, C, R, S]` and lie KRSC.

use std::fmt;

use crate::{Error, Result};

/// The logical shape of a tensor: rank 1 (a bias), 2 (logits, `[N, C]`) or 4 (images, `[N, C, H, W]`; weights,
/// `[K, C, R, S]`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; 4],
    rank: u8,
}

impl Shape {
    /// A batch of `n` images of `c` channels, `h` × `w` pixels.
    pub const fn image(n: usize, c: usize, h: usize, w: usize) -> Self {
        Shape { dims: [n, c, h, w], rank: 4 }
    }

    /// A batch of `n` rows of `c` features.
    pub const fn matrix(n: usize, c: usize) -> Self {
        Shape { dims: [n, c, 1, 1], rank: 2 }
    }

    /// A vector of `len` elements, as a bias.
    pub const fn vector(len: usize) -> Self {
        Shape { dims: [len, 1, 1, 1], rank: 1 }
    }

    /// The weights of a convolution from `c` to `k` channels with an `r` × `s` filter, logically `[k, c, r, s]`.
    pub const fn weight(k: usize, c: usize, r: usize, s: usize) -> Self {
        Shape { dims: [k, c, r, s], rank: 4 }
    }

    /// The extents in logical order, as many as the rank.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..usize::from(self.rank)]
    }

    /// The number of elements; `usize::MAX`, which no buffer has, if a `usize` cannot hold it.
    pub fn len(&self) -> usize {
        product(self.dims)
    }

    /// Whether an extent is 0.
    pub fn is_empty(&self) -> bool {
        self.dims.contains(&0)
    }

    /// The first extent: images or rows in the batch; output channels of weights.
    pub fn n(&self) -> usize {
        self.dims[0]
    }

    /// The second extent: channels or features; 1 for a vector.
    pub fn c(&self) -> usize {
        self.dims[1]
    }

    /// The third extent: height; 1 below rank 4.
    pub fn h(&self) -> usize {
        self.dims[2]
    }

    /// The fourth extent: width; 1 below rank 4.
    pub fn w(&self) -> usize {
        self.dims[3]
    }

    /// The same shape for another batch size.
    pub fn with_batch(mut self, n: usize) -> Self {
        self.dims[0] = n;
        self
    }

    /// The output of a global average pool over these images: `[N, C, 1, 1]`.
    pub fn pooled(&self) -> Self {
        Shape::image(self.n(), self.c(), 1, 1)
    }

    /// The output of flattening these images: `[N, C·H·W]`.
    pub fn flattened(&self) -> Self {
        Shape::matrix(self.n(), product([self.c(), self.h(), self.w()]))
    }

    pub(crate) fn require_image(&self, op: &'static str) -> Result<()> {
        if self.rank == 4 && !self.is_empty() {
            return Ok(());
        }
        Err(Error::shape(op, format!("needs a non-empty image batch [N, C, H, W], got {self}")))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A saturating product: an overflow gives `usize::MAX` instead of wrapping to a small size, so that it is refused as
/// too large.
fn product<const N: usize>(factors: [usize; N]) -> usize {
    factors.into_iter().fold(1, usize::saturating_mul)
}

/// A 2-D convolution (cross-correlation, as in every framework), dense, with one bias per output channel.
///
/// Input `[n, c, h, w]`, weights `[k, c, r, s]`, output `[n, k, p, q]` with `p = ⌊(h + 2·pad − r) / stride⌋ + 1` and
/// `q = ⌊(w + 2·pad − s) / stride⌋ + 1`.
/// As GEMMs (M × N × K): fprop `n·p·q × k × r·s·c`, dgrad `n·p·q × r·s·c × k`, wgrad `k × r·s·c × n·p·q`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub k: usize,
    pub r: usize,
    pub s: usize,
    pub p: usize,
    pub q: usize,
    pub stride: usize,
    pub pad: usize,
}

impl ConvShape {
    /// The convolution of input `x` with weights `w`.
    ///
    /// # Errors
    /// [`Error::Shape`] for an empty tensor, differing channel counts, a stride of 0, or a filter larger than the
    /// padded input.
    pub fn new(op: &'static str, x: Shape, w: Shape, window: Window) -> Result<Self> {
        let Window { stride, pad } = window;
        x.require_image(op)?;
        let [k, c, r, s] = w.dims;
        if w.rank != 4 || w.is_empty() {
            return Err(Error::shape(op, format!("needs non-empty weights [K, C, R, S], got {w}")));
        }
        if c != x.c() {
            return Err(Error::shape(op, format!("input {x} has {} channels, weights {w} expect {c}", x.c())));
        }
        if stride == 0 {
            return Err(Error::shape(op, format!("stride is 0 (input {x}, weights {w})")));
        }
        let extent = |len: usize, filter: usize| {
            let padded = pad.checked_mul(2)?.checked_add(len)?;
            (padded.checked_sub(filter)? / stride).checked_add(1)
        };
        let (Some(p), Some(q)) = (extent(x.h(), r), extent(x.w(), s)) else {
            return Err(Error::shape(op, format!("filter {r}x{s} is larger than input {x} padded by {pad}")));
        };
        Ok(ConvShape { n: x.n(), h: x.h(), w: x.w(), c, k, r, s, p, q, stride, pad })
    }

    /// The convolution cropped to the first `p` rows and `q` columns of its output: at least 1 each, at most those it
    /// has.
    pub fn cropped(self, p: usize, q: usize) -> Self {
        ConvShape { p: self.p.min(p).max(1), q: self.q.min(q).max(1), ..self }
    }

    /// The convolution without cropping: all rows and columns of the output. For extents that [`ConvShape::new`] refuses,
    /// a filter larger than the input or a stride of 0, it is as if they were the nearest that it takes.
    pub fn whole(self) -> Self {
        let padded = |len: usize| len.saturating_add(self.pad.saturating_mul(2));
        let extent =
            |len: usize, filter: usize| (padded(len).saturating_sub(filter) / self.stride.max(1)).saturating_add(1);
        ConvShape { p: extent(self.h, self.r), q: extent(self.w, self.s), ..self }
    }

    /// `[n, c, h, w]`.
    pub fn input(&self) -> Shape {
        Shape::image(self.n, self.c, self.h, self.w)
    }

    /// `[k, c, r, s]`.
    pub fn weight(&self) -> Shape {
        Shape::weight(self.k, self.c, self.r, self.s)
    }

    /// `[n, k, p, q]`.
    pub fn output(&self) -> Shape {
        Shape::image(self.n, self.k, self.p, self.q)
    }

    /// Output pixels of the whole batch, n·p·q: the GEMM's M of fprop and dgrad, its K of wgrad (see [`ConvShape`]).
    pub fn pixels(&self) -> usize {
        product([self.n, self.p, self.q])
    }

    /// Elements of one filter: r·s·c.
    pub fn taps(&self) -> usize {
        product([self.r, self.s, self.c])
    }

    /// Multiply-adds of one pass (fprop, dgrad and wgrad take the same number).
    pub fn macs(&self) -> usize {
        product([self.pixels(), self.k, self.taps()])
    }

    /// A 1×1 convolution of `m` pixels, each counted as an image, from `c` to `k` channels.
    pub const fn pointwise(m: usize, c: usize, k: usize) -> Self {
        ConvShape { n: m, h: 1, w: 1, c, k, r: 1, s: 1, p: 1, q: 1, stride: 1, pad: 0 }
    }

    /// Whether each output pixel is computed from the input pixel at the same place alone: 1×1, stride 1, no padding.
    pub fn is_pointwise(&self) -> bool {
        self.r == 1 && self.s == 1 && self.stride == 1 && self.pad == 0
    }

    /// Whether the convolution is a plain GEMM of `[n·h·w, c]` and `[c, k]`: pointwise and not cropped.
    pub fn is_gemm(&self) -> bool {
        self.is_pointwise() && (self.p, self.q) == (self.h, self.w)
    }

    /// Stride and padding.
    pub fn window(&self) -> Window {
        Window { stride: self.stride, pad: self.pad }
    }
}

/// Stride and padding of a filter: it moves `stride` pixels at a time over an image with `pad` zeros on each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    pub stride: usize,
    pub pad: usize,
}

impl Default for Window {
    /// Stride 1, no padding.
    fn default() -> Self {
        Window { stride: 1, pad: 0 }
    }
}

/// A max pool: square window, no padding, floor mode (windows that do not fit are dropped, as in PyTorch).
///
/// Input `[n, c, h, w]`, output `[n, c, p, q]` with `p = ⌊(h − window) / stride⌋ + 1` and
/// `q = ⌊(w − window) / stride⌋ + 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolShape {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub p: usize,
    pub q: usize,
    pub window: usize,
    pub stride: usize,
}

impl PoolShape {
    /// The pool of input `x`.
    ///
    /// # Errors
    /// [`Error::Shape`] for an empty tensor, a window or stride of 0, a window larger than the input, or a window
    /// larger than 16 (the position of the maximum among its 256 elements is kept in one byte).
    pub fn new(op: &'static str, x: Shape, window: usize, stride: usize) -> Result<Self> {
        x.require_image(op)?;
        if window == 0 || stride == 0 {
            return Err(Error::shape(op, format!("window {window} and stride {stride} must be at least 1")));
        }
        if window > 16 {
            return Err(Error::shape(op, format!("window {window} is larger than 16, the largest supported")));
        }
        if window > x.h() || window > x.w() {
            return Err(Error::shape(op, format!("window {window}x{window} is larger than input {x}")));
        }
        // A window has a pixel at least, so nothing overflows.
        let extent = |len: usize| (len - window) / stride + 1;
        Ok(PoolShape { n: x.n(), h: x.h(), w: x.w(), c: x.c(), p: extent(x.h()), q: extent(x.w()), window, stride })
    }

    /// `[n, c, h, w]`.
    pub fn input(&self) -> Shape {
        Shape::image(self.n, self.c, self.h, self.w)
    }

    /// The part of the input that windows cover: its first rows and columns. Floor mode never reads the rest.
    pub fn read(&self) -> Shape {
        // Saturating, because the fields are public.
        let reach = |outputs: usize| outputs.saturating_sub(1).saturating_mul(self.stride).saturating_add(self.window);
        Shape::image(self.n, self.c, reach(self.p), reach(self.q))
    }

    /// `[n, c, p, q]`.
    pub fn output(&self) -> Shape {
        Shape::image(self.n, self.c, self.p, self.q)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn convolution_extents_follow_the_floor_rule() {
        let conv = |x, w, stride, pad| ConvShape::new("conv2d", x, w, Window { stride, pad }).map(|g| g.output());
        let d2l = conv(Shape::image(2, 1, 224, 224), Shape::weight(96, 1, 11, 11), 4, 0).unwrap();
        assert_eq!(d2l, Shape::image(2, 96, 54, 54));
        let same = conv(Shape::image(1, 96, 26, 26), Shape::weight(256, 96, 5, 5), 1, 2).unwrap();
        assert_eq!(same, Shape::image(1, 256, 26, 26));
        let beyond = conv(Shape::image(1, 3, 1, 1), Shape::weight(4, 3, 3, 3), 5, 4).unwrap();
        assert_eq!(beyond, Shape::image(1, 4, 2, 2), "padding and stride larger than the filter");
        let g = ConvShape::new(
            "conv2d",
            Shape::image(2, 1, 224, 224),
            Shape::weight(96, 1, 11, 11),
            Window { stride: 4, pad: 3 },
        )
        .unwrap();
        assert_eq!(g.cropped(53, 7).whole(), g);
    }

    #[test]
    fn bad_convolutions_are_named() {
        let x = Shape::image(2, 3, 8, 8);
        let message =
            |x, w, stride, pad| ConvShape::new("conv2d", x, w, Window { stride, pad }).unwrap_err().to_string();
        assert_eq!(
            message(x, Shape::weight(4, 5, 3, 3), 1, 0),
            "conv2d: input [2, 3, 8, 8] has 3 channels, weights [4, 5, 3, 3] expect 5"
        );
        assert!(message(x, Shape::weight(4, 3, 9, 9), 1, 0).contains("larger than input [2, 3, 8, 8] padded by 0"));
        assert!(message(x, Shape::weight(4, 3, 3, 3), 0, 0).contains("stride is 0"));
        assert!(message(Shape::image(0, 3, 8, 8), Shape::weight(4, 3, 3, 3), 1, 0).contains("non-empty"));
        assert!(message(Shape::matrix(2, 3), Shape::weight(4, 3, 3, 3), 1, 0).contains("image batch"));
        assert!(message(x, Shape::weight(4, 3, 3, 3), 1, usize::MAX).contains("larger than"));
    }

    #[test]
    fn bad_pools_are_named() {
        let x = Shape::image(1, 2, 3, 8);
        for (window, stride) in [(0, 1), (1, 0), (4, 1), (17, 1)] {
            assert!(PoolShape::new("maxpool", x, window, stride).is_err(), "{window}/{stride}");
        }
        assert_eq!(PoolShape::new("maxpool", x, 3, 2).unwrap().output(), Shape::image(1, 2, 1, 3));
    }
}
