//! A backend's verdict on each fusion: whether it gains by running consecutive layers as one op.
//! [`nn::plan`](crate::nn::plan) asks for it and decides. The fused ops themselves take any extents; where the backend
//! has no kernel for them, they run layer by layer.

pub use super::Verdict;
use super::mlpconv::MlpConvShape;
use super::pointwise_pair::PairShape;
use crate::device::Device;
use crate::shape::{ConvShape, PoolShape};

/// Consecutive layers that one op covers, with their extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fusion {
    /// A convolution and two 1×1 convolutions, a ReLU after the first two, optionally one after the third and a max
    /// pool.
    MlpConv {
        shape: MlpConvShape,
        /// Whether a ReLU follows the third convolution.
        relu: bool,
    },
    /// Two 1×1 convolutions, a ReLU between them, optionally one after the second and a global average pool.
    PointwisePair(PairShape),
    /// A 1×1 convolution and the max pool of its output.
    PointwiseMaxPool(ConvShape, PoolShape),
}

/// A backend's verdicts on fusions.
pub trait Fuse: Device {
    /// Whether this backend gains by running `fusion` as one op; the error is the reason why not.
    fn fuses(&self, fusion: &Fusion) -> Verdict;
}

/// The CPU fuses nothing: each layer's strips stay in its caches anyway, and the tape keeps the values between layers,
/// which a fused op would compute again in its backward pass.
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
    /// [`Fuse::fuses`] on a GPU with these limits.
    pub fn suits(&self, gpu: &crate::device::cuda::Limits) -> Verdict {
        match self {
            Fusion::MlpConv { shape, relu } => shape.suits(*relu, gpu),
            Fusion::PointwisePair(shape) => shape.suits(),
            Fusion::PointwiseMaxPool(conv, pool) => super::pointwise_maxpool::suits(conv, pool, gpu.precision),
        }
    }
}
