//! The 1×1 convolution that pools on the CPU: the convolution and the pool, one after the other.

use super::PointwiseMaxPool;
use crate::device::Real;
use crate::device::cpu::Cpu;

impl<T: Real> PointwiseMaxPool for Cpu<T> {}
