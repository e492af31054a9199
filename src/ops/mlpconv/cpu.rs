//! The block on the CPU: its convolutions and its pool, one after the other. Their strips stay in the caches anyway.

use super::MlpConv;
use crate::device::Real;
use crate::device::cpu::Cpu;

impl<T: Real> MlpConv for Cpu<T> {}
