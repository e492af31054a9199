//! The ops, one folder each: `mod.rs` holds the contract (a trait of kernels that backends implement), the forward
//! half as a method of [`Tape`](crate::tape::Tape) and the backward half beside it; `cpu.rs` the CPU's kernels, `cuda.rs`
//! the launches of those in `kernels/`.
//!
//! # To add an op
//! Give it one word and use that word everywhere. Write the trait, the forward, the `Backward` impl and the CPU
//! kernels in its folder, `kernels/WORD.cu` and its launches in `cuda.rs`, add the trait to [`Backend`](crate::device::Backend)
//! (and to the impl below it), and add its cases to the table of `tests/ops/table.rs`; `tests/ops/gradients.rs` fails for an
//! op that is missing. A method whose default calls other ops' kernels gives a backend time to have its own.
//!
//! # Who writes, who adds
//! Forward kernels overwrite. Backward kernels write to a [`Grad`], which says whether the buffer
//! is fresh (overwrite everything, whatever it held) or already holds contributions (add to them).
//!
//! # What kernels may rely on
//! The tape has checked shapes before it calls a kernel: extents are not zero, and every buffer has the length that they
//! give. Labels are below the number of classes. A kernel may be called with a [`Grad`] of one's own
//! ([`Grad::new`]); then all of this is the caller's to see to.
//!
//! # The ReLU contract
//! A ReLU is part of the epilogue of the op before it, in both directions. A value that went through a ReLU carries
//! that mark ([`Slot::relu`](crate::tape::Slot)), and *whoever produces a gradient for a marked value zeroes it where
//! the value is not positive*; so the op that applied the ReLU receives a gradient that is masked already. A
//! kernel that adds may mask the sum: what was there is masked as well. Max pooling
//! and dropout hand the mark on to their outputs: where the output is zero so is the gradient they receive, hence
//! the one they pass on, and they need not look at their inputs again.

pub mod adamw;
mod affine;
mod chain;
pub mod conv2d;
pub mod cross_entropy;
pub mod dropout;
pub mod flatten;
pub mod gather;
pub mod global_avgpool;
pub mod maxpool;
pub mod mlpconv;
pub mod pointwise;
pub mod pointwise_pair;
pub mod relu;
pub mod sgd;
#[cfg(feature = "cuda")]
mod update;

pub use crate::tape::Grad;
pub use chain::{Params, Wanted};

use crate::device::Real;

/// A pool of an op's output that the op may do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// The maxima of `window` × `window` squares, `stride` apart.
    Max { window: usize, stride: usize },
    /// The mean of each channel of an image.
    GlobalAverage,
}

/// Whether a kernel overwrites its destination or adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    Overwrite,
    Accumulate,
}

impl Write {
    /// What a destination that holds `old` holds after `value` was written to it.
    #[inline]
    pub(crate) fn onto<T: Real>(self, old: T, value: T) -> T {
        match self {
            Write::Overwrite => value,
            Write::Accumulate => old + value,
        }
    }
}
