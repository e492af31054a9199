//! What the operating system may refuse: memory and threads. The library asks for its buffers and its threads here, so that a
//! refusal is an [`Error`](crate::Error).
//!
//! What is small (a name, a list of layers) is taken as Rust's collections take it, and so is the memory in which the CPU's
//! GEMM library packs its panels: without it the process ends. A new buffer of the CPU is therefore granted only if there is
//! memory for these as well.

pub(crate) mod allocation;
pub(crate) mod free;
pub(crate) mod threads;

pub use allocation::is_asking;
