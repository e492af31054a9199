//! The ops, one folder each: `mod.rs` holds the contract (a trait of kernels that backends implement), the forward
//! half as a method of [`Tape`](crate::tape::Tape) and the backward half beside it; `cpu.rs` the CPU's kernels, `cuda.rs`
//! the launches of those in `kernels/`. `CONTRIBUTING.md` says how to add one.
//!
//! # Who writes, who adds
//! Forward kernels overwrite. Backward kernels write to a [`Grad`](crate::device::Grad), which says whether the buffer is fresh
//! (overwrite everything, whatever it held) or already holds contributions (add to them).
//!
//! # What kernels may rely on
//! The tape has checked shapes before it calls a kernel: extents are not zero, and every buffer has the length that they
//! give. Labels are below the number of classes. A kernel may be called with a [`Grad::new`](crate::device::Grad::new) of
//! one's own; then all of this is the caller's to see to.
//!
//! # The ReLU contract
//! A ReLU is part of the epilogue of the op before it, in both directions. A value that went through a ReLU carries that mark,
//! and *its gradient is zero where the value is not positive*; so the op that applied the ReLU receives a gradient that is
//! masked already. The mask belongs to the gradient: the tape opens it with the value that masks it, a kernel that can mask as it
//! writes takes the mask ([`Grad::take_mask`](crate::device::Grad::take_mask)), and the tape masks what no kernel has. A kernel that
//! adds may mask the sum: what was there is masked as well. Max pooling and dropout hand the mark on to their outputs: where the
//! output is zero so is the gradient they receive, hence the one they pass on, and they keep nothing of their inputs.
//!
//! # Fused ops
//! [`mlpconv`], [`pointwise_pair`] and [`pointwise_maxpool`] compute what several ops compute one after the other, to the bit or
//! within the rounding of what is between them. Their provided methods are those ops, and the tests' oracle. Which layers of a
//! network run as which op is decided in one place, [`nn::plan`](crate::nn::plan), by what a backend says of each
//! [`Fusion`](fusion::Fusion).

pub mod adamw;
mod affine;
mod chain;
pub mod conv2d;
pub mod cross_entropy;
pub mod dropout;
pub mod flatten;
pub mod fusion;
pub mod gather;
pub mod global_avgpool;
pub mod maxpool;
pub mod mlpconv;
pub mod pointwise_maxpool;
pub mod pointwise_pair;
pub mod relu;
pub mod sgd;
#[cfg(feature = "cuda")]
mod update;

pub use affine::{Affine, Wanted};
pub use chain::{ChainWanted, Params};
