//! A backend: a device that has every op's kernels.

use crate::device::Device;
use crate::ops;

/// A device with kernels for every op of [`crate::ops`] and a verdict on every [`Fusion`](ops::fusion::Fusion).
/// Networks and training are generic over it; a single op requires only its own trait.
pub trait Backend:
    Device
    + ops::conv2d::Conv2d
    + ops::pointwise_maxpool::PointwiseMaxPool
    + ops::pointwise_pair::PointwisePair
    + ops::mlpconv::MlpConv
    + ops::maxpool::MaxPool
    + ops::global_avgpool::GlobalAvgPool
    + ops::relu::Relu
    + ops::dropout::Dropout
    + ops::flatten::Flatten
    + ops::cross_entropy::CrossEntropy
    + ops::gather::Gather
    + ops::sgd::Sgd
    + ops::adamw::AdamW
    + ops::fusion::Fuse
{
}

impl<D> Backend for D where
    D: Device
        + ops::conv2d::Conv2d
        + ops::pointwise_maxpool::PointwiseMaxPool
        + ops::pointwise_pair::PointwisePair
        + ops::mlpconv::MlpConv
        + ops::maxpool::MaxPool
        + ops::global_avgpool::GlobalAvgPool
        + ops::relu::Relu
        + ops::dropout::Dropout
        + ops::flatten::Flatten
        + ops::cross_entropy::CrossEntropy
        + ops::gather::Gather
        + ops::sgd::Sgd
        + ops::adamw::AdamW
        + ops::fusion::Fuse
{
}
