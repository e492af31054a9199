//! A CUDA driver that executes PTX on the CPU.
//!
//! `ptx` reads PTX, `machine` executes it and checks what it does, `arith` is what single instructions compute, and
//! `driver` is the C interface of CUDA's driver on top.

pub mod arith;
pub mod driver;
pub mod machine;
pub mod ptx;
