//! The pair on the CPU: its two convolutions one after the other. The CPU's GEMM does not pad few channels to a tile,
//! so fusing gains nothing.

use super::PointwisePair;
use crate::device::Real;
use crate::device::cpu::Cpu;

impl<T: Real> PointwisePair for Cpu<T> {}
