//! The tests of the ops, in one binary. They are written from the ops' contracts, not from any backend's kernels.

/// Kernels overwrite or add, as they are told.
mod accumulate;
/// An op with its extents, run on a tape.
mod case;
/// The same bits, always.
mod determinism;
/// Fixed numbers.
mod draw;
/// Dropout's masks.
mod dropout;
/// Pointwise is a convolution.
mod equivalence;
/// What is refused.
mod errors;
/// Batches of a data set.
mod gather;
/// Gradients against finite differences.
mod gradients;
/// Logical and memory order.
mod layout;
/// The loss and its meter.
mod loss;
/// A steady state of memory.
mod memory;
/// The ops' formulas as loops.
mod naive;
/// What becomes of NaN.
mod nan;
/// The ReLU contract.
mod rectified;
/// Values and gradients against the naive loops.
mod reference;
/// The cases.
mod table;
/// Kinks.
mod ties;
/// The optimiser's rule.
mod update;
