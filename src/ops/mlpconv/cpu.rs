//! The block on the CPU is its three convolutions: their strips stay in the caches as it is.

use super::MlpConv;
use crate::device::Real;
use crate::device::cpu::Cpu;

impl<T: Real> MlpConv for Cpu<T> {}
