//! A backend: a device that has every op's kernels.

use crate::device::Device;
use crate::ops;

/// One list of traits, from which the sum and its implementation are made.
macro_rules! backend {
    ($($op:path),* $(,)?) => {
        /// A device with kernels for every op of [`crate::ops`], and with a say in which ops are fused. Networks and training are
        /// generic over it; a single op asks for its own trait alone.
        pub trait Backend: Device $(+ $op)* {}

        impl<D: Device $(+ $op)*> Backend for D {}
    };
}

backend!(
    ops::conv2d::Conv2d,
    ops::pointwise_maxpool::PointwiseMaxPool,
    ops::pointwise_pair::PointwisePair,
    ops::mlpconv::MlpConv,
    ops::maxpool::MaxPool,
    ops::global_avgpool::GlobalAvgPool,
    ops::relu::Relu,
    ops::dropout::Dropout,
    ops::flatten::Flatten,
    ops::cross_entropy::CrossEntropy,
    ops::gather::Gather,
    ops::shards::Shards,
    ops::sgd::Sgd,
    ops::adamw::AdamW,
    ops::average::Average,
    ops::fusion::Fuse,
);
