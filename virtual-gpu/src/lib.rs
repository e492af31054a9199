//! A CUDA driver that executes PTX on the CPU.
//!
//! `ptx` parses PTX. `machine` executes it and checks each access for errors. `arith` has the arithmetic of single
//! instructions. `driver` is the C interface of the CUDA driver, on top of the others.

pub mod arith;
pub mod driver;
pub mod machine;
pub mod ptx;
