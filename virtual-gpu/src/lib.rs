//! A CUDA driver that executes PTX on the CPU.
//!
//! `ptx` parses PTX. `machine` executes it and checks each access for errors. `arith` has the arithmetic of single
//! instructions. `tensor_map` describes the boxes of tensors that TMA copies. `driver` is the C interface of the CUDA
//! driver, on top of the others.

pub mod arith;
pub mod driver;
pub mod machine;
pub mod ptx;
pub mod tensor_map;
