//! The 16-bit formats as bits: conversions, and PTX ISA 9.0, "Half Precision Floating Point Instructions". A packed
//! (x2) instruction applies these functions to each half.
//!
//! Every result is rounded once. A NaN result is 0x7fff in both formats.

use super::float::{Mode, NAN32, sum_to_odd};
use super::{Rounding, exact};

/// The two 16-bit formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Half {
    F16,
    Bf16,
}

/// The NaN that instructions return, in both formats.
pub const NAN16: u16 = 0x7fff;

/// `cvt.f32.f16`: exact.
#[inline]
pub fn f16_to_f32(bits: u16) -> f32 {
    let v = widen_f16(bits);
    if v.is_nan() { NAN32 } else { v }
}

/// [`f16_to_f32`] without canonical NaN, and without branches.
#[inline(always)]
pub(super) fn widen_f16(bits: u16) -> f32 {
    let magnitude = (bits as u32 & 0x7fff) << 13;
    // As f32 bits the number is too small by 2^(127 - 15); the scaling is exact for subnormal numbers too.
    let scaled = f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23);
    let special = if magnitude >= 0x7c00 << 13 { 0x7f80_0000 } else { 0 };
    f32::from_bits(scaled.to_bits() | special | (bits as u32 & 0x8000) << 16)
}

/// `cvt.f16.f32`.
#[inline]
pub fn f32_to_f16(v: f32, r: Rounding) -> u16 {
    if r != Rounding::Nearest {
        return exact::convert::<5, 10>(v.into(), r) as u16;
    }
    let sign = (v.to_bits() >> 16 & 0x8000) as u16;
    let magnitude = v.to_bits() & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        NAN16
    } else if magnitude >= 0x477f_f000 {
        // 65520 is half-way between the greatest finite number and 2^16.
        sign | 0x7c00
    } else if magnitude >= 0x3880_0000 {
        let even = magnitude >> 13 & 1;
        sign | ((magnitude + 0xfff + even - (112 << 23)) >> 13) as u16
    } else {
        // The last place of an f32 near 0.5 is the unit of f16's subnormal numbers: the addition rounds to that unit.
        sign | ((f32::from_bits(magnitude) + 0.5).to_bits() - 0.5f32.to_bits()) as u16
    }
}

/// `cvt.f32.bf16`: exact.
#[inline]
pub fn bf16_to_f32(bits: u16) -> f32 {
    let v = f32::from_bits((bits as u32) << 16);
    if v.is_nan() { NAN32 } else { v }
}

/// `cvt.bf16.f32`.
#[inline]
pub fn f32_to_bf16(v: f32, r: Rounding) -> u16 {
    if v.is_nan() { NAN16 } else { (shorten(v.to_bits(), 16, r) >> 16) as u16 }
}

/// The bits of an `f32` that is not NaN, rounded so that its last `drop` bits are zero. The bits are rounded as an
/// integer: the next greater magnitude is the next greater integer, up to infinity.
#[inline]
pub(super) fn shorten(bits: u32, drop: u32, r: Rounding) -> u32 {
    let unit = 1 << drop;
    let negative = bits >> 31 != 0;
    let magnitude = bits & 0x7fff_ffff;
    // This addend carries into the kept bits exactly if the rounding is away from zero. Infinity has no bits to drop.
    let carry = match r {
        Rounding::Nearest => unit / 2 - 1 + (magnitude >> drop & 1),
        Rounding::NearestAway => unit / 2,
        Rounding::Down if negative => unit - 1,
        Rounding::Up if !negative => unit - 1,
        Rounding::Zero | Rounding::Down | Rounding::Up => 0,
    };
    (bits & 0x8000_0000) | ((magnitude + carry) & !(unit - 1))
}

/// `cvt.f16.f64`: rounded once, not twice by way of `f32`.
pub fn f64_to_f16(v: f64, r: Rounding) -> u16 {
    exact::convert::<5, 10>(v, r) as u16
}

/// `cvt.bf16.f64`: rounded once.
pub fn f64_to_bf16(v: f64, r: Rounding) -> u16 {
    exact::convert::<8, 7>(v, r) as u16
}

/// Either format as `f32`.
#[inline]
pub fn to_f32(kind: Half, bits: u16) -> f32 {
    match kind {
        Half::F16 => f16_to_f32(bits),
        Half::Bf16 => bf16_to_f32(bits),
    }
}

/// `f32` as either format.
#[inline]
pub fn from_f32(kind: Half, v: f32, r: Rounding) -> u16 {
    match kind {
        Half::F16 => f32_to_f16(v, r),
        Half::Bf16 => f32_to_bf16(v, r),
    }
}

fn from_f64(kind: Half, v: f64, r: Rounding) -> u16 {
    match kind {
        Half::F16 => f64_to_f16(v, r),
        Half::Bf16 => f64_to_bf16(v, r),
    }
}

/// The mask of the exponent bits: all set for infinity and NaN, none for zero and subnormal numbers.
#[inline]
fn exponent(kind: Half) -> u16 {
    match kind {
        Half::F16 => 0x7c00,
        Half::Bf16 => 0x7f80,
    }
}

#[inline]
fn is_nan(kind: Half, a: u16) -> bool {
    a & 0x7fff > exponent(kind)
}

/// Flushes a subnormal number to a zero of the same sign.
#[inline]
pub fn flush16(kind: Half, a: u16) -> u16 {
    if a & exponent(kind) == 0 { a & 0x8000 } else { a }
}

/// `.relu`: a negative number becomes +0, a NaN becomes `NAN16`.
#[inline]
pub fn relu16(kind: Half, a: u16) -> u16 {
    if is_nan(kind, a) {
        NAN16
    } else if a & 0x8000 != 0 {
        0
    } else {
        a
    }
}

/// `.sat`: clamps to [0, 1]; NaN becomes +0.
#[inline]
pub fn saturate16(kind: Half, a: u16) -> u16 {
    let one = match kind {
        Half::F16 => 0x3c00,
        Half::Bf16 => 0x3f80,
    };
    if a & 0x8000 != 0 || is_nan(kind, a) { 0 } else { a.min(one) }
}

#[inline]
fn operand(kind: Half, a: u16, m: Mode) -> f32 {
    to_f32(kind, if m.ftz { flush16(kind, a) } else { a })
}

#[inline]
fn result(kind: Half, mut d: u16, m: Mode) -> u16 {
    if m.ftz {
        d = flush16(kind, d);
    }
    if m.sat { saturate16(kind, d) } else { d }
}

/// Rounds a round-to-odd `f64` to the format.
#[inline]
fn round_odd(kind: Half, v: f64, r: Rounding) -> u16 {
    // The conversion from f32 is faster. If `short` is exact, there is still only one rounding.
    let short = v as f32;
    if short as f64 == v || v.is_nan() { from_f32(kind, short, r) } else { from_f64(kind, v, r) }
}

/// `add`.
#[inline]
pub fn add16(kind: Half, a: u16, b: u16, m: Mode) -> u16 {
    fused(kind, operand(kind, a, m), 1.0, operand(kind, b, m), m)
}

/// `sub`.
#[inline]
pub fn sub16(kind: Half, a: u16, b: u16, m: Mode) -> u16 {
    fused(kind, operand(kind, a, m), 1.0, -operand(kind, b, m), m)
}

/// `mul`.
#[inline]
pub fn mul16(kind: Half, a: u16, b: u16, m: Mode) -> u16 {
    // Exact in f64.
    let product = operand(kind, a, m) as f64 * operand(kind, b, m) as f64;
    result(kind, round_odd(kind, product, m.rounding), m)
}

/// `fma`: one rounding.
#[inline]
pub fn fma16(kind: Half, a: u16, b: u16, c: u16, m: Mode) -> u16 {
    fused(kind, operand(kind, a, m), operand(kind, b, m), operand(kind, c, m), m)
}

#[inline]
fn fused(kind: Half, a: f32, b: f32, c: f32, m: Mode) -> u16 {
    let mut sum = sum_to_odd(a as f64 * b as f64, c as f64);
    if sum == 0.0 && m.rounding == Rounding::Down && (a * b).is_sign_negative() != c.is_sign_negative() {
        sum = -0.0;
    }
    result(kind, round_odd(kind, sum, m.rounding), m)
}

/// `min`: -0 is less than +0. If one operand is NaN, the other is returned; with `.NaN` the result is NaN.
#[inline]
pub fn min16(kind: Half, a: u16, b: u16, ftz: bool, nan: bool) -> u16 {
    let (a, b) = if ftz { (flush16(kind, a), flush16(kind, b)) } else { (a, b) };
    match (is_nan(kind, a), is_nan(kind, b)) {
        (false, false) => {
            if order(a) < order(b) {
                a
            } else {
                b
            }
        }
        (true, false) if !nan => b,
        (false, true) if !nan => a,
        _ => NAN16,
    }
}

/// `max`; see [`min16`].
#[inline]
pub fn max16(kind: Half, a: u16, b: u16, ftz: bool, nan: bool) -> u16 {
    let (a, b) = if ftz { (flush16(kind, a), flush16(kind, b)) } else { (a, b) };
    match (is_nan(kind, a), is_nan(kind, b)) {
        (false, false) => {
            if order(a) > order(b) {
                a
            } else {
                b
            }
        }
        (true, false) if !nan => b,
        (false, true) if !nan => a,
        _ => NAN16,
    }
}

/// An integer with the order of the numbers' values, -0 below +0.
#[inline]
fn order(a: u16) -> i16 {
    let a = a as i16;
    if a < 0 { !(a & 0x7fff) } else { a }
}

/// `neg`. The manual leaves the sign of a NaN open; here it is inverted.
#[inline]
pub fn neg16(kind: Half, a: u16, ftz: bool) -> u16 {
    let a = a ^ 0x8000;
    if ftz { flush16(kind, a) } else { a }
}

/// `abs`.
#[inline]
pub fn abs16(kind: Half, a: u16, ftz: bool) -> u16 {
    let a = a & 0x7fff;
    if ftz { flush16(kind, a) } else { a }
}
