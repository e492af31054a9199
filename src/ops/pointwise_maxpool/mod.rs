//! A 1×1 convolution and the max pool of its output as one op, which never stores the unpooled activation. The backward
//! pass does not need it either: the pool keeps the positions of its maxima, and its output masks the ReLU's gradient,
//! because a maximum is positive exactly where the unpooled activation is.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
mod strips;

use super::affine::{self, Affine};
use super::conv2d::{self, Conv2d};
use super::maxpool::{self, MaxPool};
use crate::device::Role;
use crate::shape::{ConvShape, PoolShape};
use crate::tape::{Tape, Var};
use crate::{Error, Result};
#[cfg(feature = "cuda")]
pub(super) use cuda::suits;

/// The kernel of a 1×1 convolution that pools.
pub trait PointwiseMaxPool: Conv2d + MaxPool {
    /// [`Conv2d::conv2d_fprop`] of `shape`, rounded to the activations' type, then [`MaxPool::maxpool_fprop`] of `pool`
    /// into `y` and `index`, with the layouts of both. The provided method runs the two kernels one after the other;
    /// every other implementation gives the same bits.
    fn pointwise_maxpool_fprop(
        &self,
        shape: &ConvShape,
        pool: &PoolShape,
        x: &Self::Buf,
        affine: Affine<'_, Self::Buf>,
        y: &mut Self::Buf,
        index: Option<&mut Self::Bytes>,
    ) -> Result<()> {
        composed(self, shape, pool, x, affine, y, index)
    }
}

/// The convolution, then the pool, with the unpooled activation in memory.
fn composed<B: Conv2d + MaxPool>(
    backend: &B,
    shape: &ConvShape,
    pool: &PoolShape,
    x: &B::Buf,
    affine: Affine<'_, B::Buf>,
    y: &mut B::Buf,
    index: Option<&mut B::Bytes>,
) -> Result<()> {
    let mut whole = backend.alloc(Role::Activation, shape.output().len())?;
    backend.conv2d_fprop(shape, x, affine, &mut whole)?;
    backend.maxpool_fprop(pool, &whole, y, index)
}

impl<B: PointwiseMaxPool> Tape<B> {
    /// [`Tape::conv2d`] of `x` `[N, C, H, W]` with weights `[K, C, 1, 1]`, then [`Tape::maxpool`], with the same
    /// results.
    ///
    /// # Errors
    /// As those two ops; [`Error::Shape`] for weights that are not 1×1.
    pub fn pointwise_maxpool(
        &mut self,
        x: &Var<B>,
        affine: Affine<'_, Var<B>>,
        window: usize,
        stride: usize,
    ) -> Result<Var<B>> {
        let shape = ConvShape::new("pointwise_maxpool", x.shape(), affine.w.shape(), Default::default())?;
        if !shape.is_gemm() {
            let problem = format!("needs weights [K, C, 1, 1], got {}", affine.w.shape());
            return Err(Error::shape("pointwise_maxpool", problem));
        }
        affine::require_bias("pointwise_maxpool", affine.bias, shape.k)?;
        let pool = PoolShape::new("maxpool", shape.output(), window, stride)?;
        let backend = self.backend().clone();
        let whole = self.unstored("pointwise_maxpool", shape.output(), affine.inputs(x), affine.relu)?;
        let (mut y, mut index) = maxpool::outputs(self, &pool, whole)?;
        backend.pointwise_maxpool_fprop(&shape, &pool, x.data(), affine.data(), &mut y, index.as_mut())?;

        conv2d::record(self, shape, x, affine, whole);
        maxpool::record(self, "pointwise_maxpool", pool, whole, y, index)
    }
}
