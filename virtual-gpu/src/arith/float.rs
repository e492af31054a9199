//! Arithmetic on `f32` and `f64`: PTX ISA 9.0, "Floating Point Instructions".
//!
//! `.rn` uses the host's arithmetic; the directed roundings use `exact`. `.ftz` flushes subnormal operands and results
//! to a zero of the same sign; whether a result is subnormal is decided after rounding. `.sat` clamps to [0, 1] and
//! turns NaN into +0.
//!
//! NaN, single precision: the manual leaves the NaN unspecified; NVIDIA hardware returns 0x7fffffff, and so does this.
//! NaN, double precision: the payload of an operand is kept (here of the first NaN operand, made quiet). An invalid
//! operation on numbers returns 0xfff8000000000000, which is `CUDART_NAN`.

use super::{Rounding, exact};

/// The modifiers of a floating-point instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode {
    pub rounding: Rounding,
    pub ftz: bool,
    pub sat: bool,
}

impl Mode {
    /// `.rn` without modifiers.
    pub const NEAREST: Mode = Mode { rounding: Rounding::Nearest, ftz: false, sat: false };
}

/// The NaN that single-precision instructions return.
pub const NAN32: f32 = f32::from_bits(0x7fff_ffff);

/// The NaN that double-precision instructions return for an invalid operation on numbers.
pub const NAN64: f64 = f64::from_bits(0xfff8_0000_0000_0000);

/// Flushes a subnormal number to a zero of the same sign.
#[inline]
pub fn flush32(a: f32) -> f32 {
    if a.abs() < f32::MIN_POSITIVE { f32::from_bits(a.to_bits() & 0x8000_0000) } else { a }
}

/// `.sat`: clamps to [0, 1]; NaN and -0 become +0.
#[inline]
pub fn saturate32(a: f32) -> f32 {
    if a > 0.0 { a.min(1.0) } else { 0.0 }
}

#[inline]
fn operand32(a: f32, m: Mode) -> f32 {
    if m.ftz { flush32(a) } else { a }
}

#[inline]
fn result32(mut d: f32, m: Mode) -> f32 {
    if d.is_nan() {
        d = NAN32;
    }
    if m.ftz {
        d = flush32(d);
    }
    if m.sat { saturate32(d) } else { d }
}

#[inline]
fn narrow(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

/// `add.f32`.
#[inline]
pub fn add32(a: f32, b: f32, m: Mode) -> f32 {
    let (a, b) = (operand32(a, m), operand32(b, m));
    let d = match m.rounding {
        Rounding::Nearest => a + b,
        r => narrow(exact::add::<8, 23>(a.into(), b.into(), r)),
    };
    result32(d, m)
}

/// `sub.f32`.
#[inline]
pub fn sub32(a: f32, b: f32, m: Mode) -> f32 {
    add32(a, -b, m)
}

/// `mul.f32`.
#[inline]
pub fn mul32(a: f32, b: f32, m: Mode) -> f32 {
    let (a, b) = (operand32(a, m), operand32(b, m));
    let d = match m.rounding {
        Rounding::Nearest => a * b,
        r => narrow(exact::mul::<8, 23>(a.into(), b.into(), r)),
    };
    result32(d, m)
}

/// `fma.f32` and `mad.f32`: one rounding.
#[inline]
pub fn fma32(a: f32, b: f32, c: f32, m: Mode) -> f32 {
    let (a, b, c) = (operand32(a, m), operand32(b, m), operand32(c, m));
    let d = match m.rounding {
        Rounding::Nearest => fused(a, b, c),
        r => narrow(exact::fma::<8, 23>(a.into(), b.into(), c.into(), r)),
    };
    result32(d, m)
}

/// `a * b + c`, rounded once to the nearest. Does not use the host's fma: a build for any x86-64 cannot assume the
/// instruction, and the C library's function costs a call.
#[inline]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    // The product is exact in f64.
    sum_to_odd(a as f64 * b as f64, c as f64) as f32
}

/// Round-to-odd sum: an exact sum is returned as it is, an inexact one as the neighbour whose last bit is odd. Rounding
/// the result again, to a format at least two bits shorter, equals rounding the exact sum once.
#[inline]
pub(super) fn sum_to_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    // The rounding error of the sum, exactly (Knuth's two-sum); NaN where the sum is not finite.
    let of_a = sum - b;
    let error = (a - of_a) + (b - (sum - of_a));
    // The neighbour away from zero if the error has the sum's sign, else the neighbour towards zero.
    let neighbour = if (error > 0.0) == (sum > 0.0) { 1 } else { u64::MAX };
    let odd = sum.to_bits() & 1 != 0;
    let inexact = (error > 0.0) | (error < 0.0);
    f64::from_bits(sum.to_bits().wrapping_add(if inexact & !odd { neighbour } else { 0 }))
}

/// `div.f32` with a rounding.
#[inline]
pub fn div32(a: f32, b: f32, m: Mode) -> f32 {
    let (a, b) = (operand32(a, m), operand32(b, m));
    let d = match m.rounding {
        Rounding::Nearest => a / b,
        r => narrow(exact::div::<8, 23>(a.into(), b.into(), r)),
    };
    result32(d, m)
}

/// `rcp.f32` with a rounding.
#[inline]
pub fn rcp32(a: f32, m: Mode) -> f32 {
    div32(1.0, a, m)
}

/// `sqrt.f32` with a rounding.
#[inline]
pub fn sqrt32(a: f32, m: Mode) -> f32 {
    let a = operand32(a, m);
    let d = match m.rounding {
        Rounding::Nearest => a.sqrt(),
        r => narrow(exact::sqrt::<8, 23>(a.into(), r)),
    };
    result32(d, m)
}

/// The NaN result of an operation on `operands`: the first NaN operand made quiet, or `NAN64` if none is a NaN.
#[cold]
fn nan64(operands: &[f64]) -> f64 {
    match operands.iter().find(|v| v.is_nan()) {
        Some(v) => f64::from_bits(v.to_bits() | 1 << 51),
        None => NAN64,
    }
}

#[inline]
fn result64(d: f64, operands: &[f64]) -> f64 {
    if d.is_nan() { nan64(operands) } else { d }
}

/// `add.f64`. `m.ftz` and `m.sat` do not exist for `.f64` and are ignored, here and in the functions below.
#[inline]
pub fn add64(a: f64, b: f64, m: Mode) -> f64 {
    let d = match m.rounding {
        Rounding::Nearest => a + b,
        r => f64::from_bits(exact::add::<11, 52>(a, b, r)),
    };
    result64(d, &[a, b])
}

/// `sub.f64`.
#[inline]
pub fn sub64(a: f64, b: f64, m: Mode) -> f64 {
    let d = match m.rounding {
        Rounding::Nearest => a - b,
        r => f64::from_bits(exact::add::<11, 52>(a, -b, r)),
    };
    result64(d, &[a, b])
}

/// `mul.f64`.
#[inline]
pub fn mul64(a: f64, b: f64, m: Mode) -> f64 {
    let d = match m.rounding {
        Rounding::Nearest => a * b,
        r => f64::from_bits(exact::mul::<11, 52>(a, b, r)),
    };
    result64(d, &[a, b])
}

/// `fma.f64` and `mad.f64`.
#[inline]
pub fn fma64(a: f64, b: f64, c: f64, m: Mode) -> f64 {
    let d = match m.rounding {
        Rounding::Nearest => a.mul_add(b, c),
        r => f64::from_bits(exact::fma::<11, 52>(a, b, c, r)),
    };
    result64(d, &[a, b, c])
}

/// `div.f64`.
#[inline]
pub fn div64(a: f64, b: f64, m: Mode) -> f64 {
    let d = match m.rounding {
        Rounding::Nearest => a / b,
        r => f64::from_bits(exact::div::<11, 52>(a, b, r)),
    };
    result64(d, &[a, b])
}

/// `rcp.f64`.
#[inline]
pub fn rcp64(a: f64, m: Mode) -> f64 {
    div64(1.0, a, m)
}

/// `sqrt.f64`.
#[inline]
pub fn sqrt64(a: f64, m: Mode) -> f64 {
    let d = match m.rounding {
        Rounding::Nearest => a.sqrt(),
        r => f64::from_bits(exact::sqrt::<11, 52>(a, r)),
    };
    result64(d, &[a])
}

/// `min.f32`: -0 is less than +0. If one operand is NaN, the other is returned; with `.NaN` the result is NaN.
#[inline]
pub fn min32(a: f32, b: f32, ftz: bool, nan: bool) -> f32 {
    let (a, b) = if ftz { (flush32(a), flush32(b)) } else { (a, b) };
    if a.is_nan() | b.is_nan() {
        return one_is_nan32(a, b, nan);
    }
    if a < b || (a == b && a.is_sign_negative()) { a } else { b }
}

/// `max.f32`; see [`min32`].
#[inline]
pub fn max32(a: f32, b: f32, ftz: bool, nan: bool) -> f32 {
    let (a, b) = if ftz { (flush32(a), flush32(b)) } else { (a, b) };
    if a.is_nan() | b.is_nan() {
        return one_is_nan32(a, b, nan);
    }
    if a > b || (a == b && a.is_sign_positive()) { a } else { b }
}

fn one_is_nan32(a: f32, b: f32, nan: bool) -> f32 {
    match (a.is_nan(), b.is_nan()) {
        (true, false) if !nan => b,
        (false, true) if !nan => a,
        _ => NAN32,
    }
}

/// `min.f64`.
#[inline]
pub fn min64(a: f64, b: f64) -> f64 {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => nan64(&[a]),
        (true, false) => b,
        (false, true) => a,
        _ if a < b || (a == b && a.is_sign_negative()) => a,
        _ => b,
    }
}

/// `max.f64`.
#[inline]
pub fn max64(a: f64, b: f64) -> f64 {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => nan64(&[a]),
        (true, false) => b,
        (false, true) => a,
        _ if a > b || (a == b && a.is_sign_positive()) => a,
        _ => b,
    }
}

/// `abs.f32`. The manual leaves the sign of a NaN open; here it is cleared.
#[inline]
pub fn abs32(a: f32, ftz: bool) -> f32 {
    let a = a.abs();
    if ftz { flush32(a) } else { a }
}

/// `neg.f32`. The manual leaves the sign of a NaN open; here it is inverted.
#[inline]
pub fn neg32(a: f32, ftz: bool) -> f32 {
    let a = -a;
    if ftz { flush32(a) } else { a }
}
