//! Which runs of layers a backend takes as one op. [`nn::plan`](crate::nn::plan) asks it and decides; the fused ops themselves run
//! whatever they are given, layer by layer where the backend has no kernel for it.

use super::mlpconv::MlpConvShape;
use super::pointwise_pair::PairShape;
use crate::device::Device;
use crate::shape::{ConvShape, PoolShape};

/// A run of layers that one op covers, with its extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fusion {
    /// A convolution and two 1×1 convolutions, a ReLU after the first two, and the max pool that may follow.
    MlpConv(MlpConvShape),
    /// Two 1×1 convolutions, a ReLU between them, and the global average that may follow.
    PointwisePair(PairShape),
    /// A 1×1 convolution and the max pool of its output.
    PointwiseMaxPool(ConvShape, PoolShape),
}

/// Yes, or why not, as a person would say it.
pub type Verdict<T = ()> = std::result::Result<T, String>;

/// A backend's say in what is fused.
pub trait Fuse: Device {
    /// Whether this backend gains by taking `fusion` as one op.
    fn fuses(&self, fusion: &Fusion) -> Verdict;
}

/// The CPU's strips stay in its caches as it is, and a tape that keeps what is between two layers need not compute it again.
impl<T: crate::device::Real> Fuse for crate::Cpu<T> {
    fn fuses(&self, _: &Fusion) -> Verdict {
        Err("the CPU runs layers one by one: their strips stay in its caches".into())
    }
}

#[cfg(feature = "cuda")]
impl Fuse for crate::Cuda {
    fn fuses(&self, fusion: &Fusion) -> Verdict {
        fusion.suits(&self.limits())
    }
}

#[cfg(feature = "cuda")]
impl Fusion {
    /// [`Fuse::fuses`] on a GPU of these limits.
    pub fn suits(&self, gpu: &crate::device::cuda::Limits) -> Verdict {
        match self {
            Fusion::MlpConv(shape) => shape.suits(gpu),
            Fusion::PointwisePair(shape) => shape.suits(),
            Fusion::PointwiseMaxPool(conv, pool) => super::pointwise_maxpool::suits(conv, pool, gpu.precision),
        }
    }
}
