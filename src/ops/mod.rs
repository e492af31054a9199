//! The ops, one folder each. `mod.rs` holds the contract (a trait of kernels that backends implement), the forward half
//! as a method of [`Tape`](crate::tape::Tape), and the backward half. `cpu.rs` holds the CPU's kernels, `cuda.rs` the
//! launches of the GPU kernels in `kernels/`. `CONTRIBUTING.md` says how to add an op.
//!
//! # Overwrite or accumulate
//! Forward kernels overwrite. Backward kernels write to a [`Grad`](crate::device::Grad), whose `write` says whether to
//! overwrite every element of a fresh buffer or to add to earlier contributions.
//!
//! # Preconditions of kernels
//! The tape checks shapes before it calls a kernel: extents are not zero, and each buffer has the length that they
//! give. The trainer checks that labels are below the number of classes. A program that calls a kernel directly, with a
//! [`Grad::new`](crate::device::Grad::new), has to check both itself.
//!
//! # Errors of kernels
//! A kernel fails as its device does ([`Device`](crate::device::Device)): memory for its workspace, and on a GPU the
//! driver. An op on a tape fails besides with [`Error::Shape`](crate::Error::Shape) for shapes that do not go together.
//!
//! # The ReLU contract
//! A ReLU runs in the epilogue of the op before it, in both directions. A ReLU's output carries a mark, and *its
//! gradient is zero where the value is not positive*; so the op that applied the ReLU receives a masked gradient.
//!
//! The mask belongs to the gradient. The tape lends the gradient together with the value that masks it. A kernel that
//! can mask as it writes takes the mask ([`Grad::take_mask`](crate::device::Grad::take_mask)); the tape applies a mask
//! that no kernel took. A kernel that accumulates may mask the sum, because the earlier contributions are masked too.
//!
//! Max pooling, dropout and flatten pass the mark on to their outputs. Where the output is zero, so is the gradient
//! that they receive, and hence the one that they write; so they keep no data of their inputs.
//!
//! # Fused ops
//! [`mlpconv`], [`pointwise_pair`] and [`pointwise_maxpool`] compute several ops in one: with the same bits as the ops
//! one after the other, or within the rounding of the values between them. Their provided methods run those ops, and
//! are the tests' oracle. [`nn::plan`](crate::nn::plan) alone decides which layers of a network run fused, by the
//! backend's verdict on each [`Fusion`](fusion::Fusion).

pub mod adamw;
mod affine;
pub mod average;
mod chain;
pub mod conv2d;
pub mod cross_entropy;
pub mod dropout;
mod finite;
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
pub mod shards;
#[cfg(feature = "cuda")]
mod update;

pub use affine::{Affine, Wanted};
pub use chain::{ChainWanted, Params};

/// Yes, or the reason why not, in words.
pub type Verdict<T = ()> = std::result::Result<T, String>;
