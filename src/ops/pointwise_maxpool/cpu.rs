//! On the CPU the convolution and the pool run one after the other.

use super::PointwiseMaxPool;
use crate::device::Real;
use crate::device::cpu::Cpu;

impl<T: Real> PointwiseMaxPool for Cpu<T> {}
