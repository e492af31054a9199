//! What single PTX instructions compute, as pure functions on plain values: no registers, no memory, no parsing.
//!
//! The words are those of the PTX ISA manual, version 9.0. Where it leaves a result open, the
//! function's comment says what is returned. IEEE operations are exact to the bit in every rounding; approximate ones
//! are computed more precisely than they need to be (`approx`); matrix products sum in a fixed order (`mma`).
//! No function panics, whatever its operands.

pub mod approx;
pub mod convert;
mod exact;
pub mod float;
pub mod half;
pub mod integer;
pub mod mma;

/// How a result that the destination cannot hold is rounded.
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
