//! The tests of the ops, in one binary. They are written from the ops' contracts, not from any backend's kernels.

/// An op with its extents, run on a tape.
mod case;
/// Fixed numbers.
mod draw;
/// Gradients against finite differences.
mod gradients;
/// Logical and memory order.
mod layout;
/// The ops' formulas as loops.
mod naive;
/// Values and gradients against those loops.
mod reference;
/// The cases.
mod table;
/// The optimiser's rule.
mod update;
