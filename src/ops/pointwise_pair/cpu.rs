//! The pair on the CPU is its two convolutions: few channels cost its GEMM nothing but what they are.

use super::PointwisePair;
use crate::device::Real;
use crate::device::cpu::Cpu;

impl<T: Real> PointwisePair for Cpu<T> {}
