//! The arithmetic of single PTX instructions, as pure functions on plain values: no registers, no memory, no parsing.
//!
//! The terms are those of the PTX ISA manual, version 9.0. Where the manual leaves a result open, the comment of the
//! function states the result chosen here. IEEE operations are exact to the bit in every rounding. Approximate ones are
//! more precise than the manual requires (`approx`). Matrix products are summed as a card's tensor core sums them, or in a fixed
//! order (`tensor_core`).
//! No function panics, for any operands.

pub mod approx;
pub mod convert;
mod exact;
pub mod float;
pub mod half;
pub mod integer;
pub mod mma;
pub mod tensor_core;

/// The rounding of a result that the destination format cannot represent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// `.rn`, `.rni`: to the nearest, ties to even.
    Nearest,
    /// `.rz`, `.rzi`: towards zero.
    Zero,
    /// `.rm`, `.rmi`: towards negative infinity.
    Down,
    /// `.rp`, `.rpi`: towards positive infinity.
    Up,
    /// `.rna`: to the nearest, ties away from zero.
    NearestAway,
}
