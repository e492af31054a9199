//! The approximate instructions: PTX ISA 9.0, "Floating Point Instructions" and "Half Precision Floating Point
//! Instructions".
//!
//! The manual bounds the errors and lists the results for special operands; hardware generations differ within the
//! bounds. Here each result is computed in double precision (or by an IEEE operation) and rounded once. Its error is
//! little more than half a unit in the last place, well within every bound. A kernel's results therefore differ from a
//! card's, within those bounds.

use super::Rounding;
use super::float::{NAN32, NAN64, flush32};
use super::half::{Half, flush16, from_f32, to_f32};

/// Applies `f` to `a`; `ftz` flushes the operand and the result. A NaN result is `NAN32`.
#[inline]
fn unary(a: f32, ftz: bool, f: impl Fn(f32) -> f32) -> f32 {
    let d = f(if ftz { flush32(a) } else { a });
    if d.is_nan() {
        NAN32
    } else if ftz {
        flush32(d)
    } else {
        d
    }
}

/// 2^x in double precision with a relative error below 2^-36, for results in the range of `f32`; far outside, a value
/// that rounds to zero or infinity in `f32`.
///
/// A polynomial rather than the C library's function: the same on every host, inlined, and as accurate as needed.
#[inline]
fn exp2(x: f64) -> f64 {
    // Adding 1.5 * 2^52 rounds to an integer and leaves the integer in the low bits.
    const ROUND: f64 = 6755399441055744.0;
    let x = x.clamp(-300.0, 300.0);
    let rounded = x + ROUND;
    let z = (x - (rounded - ROUND)) * std::f64::consts::LN_2;
    // Taylor series of e^z, |z| <= ln(2) / 2: the first omitted term is below 2^-37.
    let mut p = 1.0 / 362880.0;
    for factor in [1.0 / 40320.0, 1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * z + factor;
    }
    let exponent = (rounded.to_bits() as i64) << 12 >> 12;
    p * f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// `ex2.approx.f32`: 2 ulp.
#[inline]
pub fn ex2_32(a: f32, ftz: bool) -> f32 {
    // NaN bypasses `exp2`: there it would reach the integer arithmetic on the exponent.
    unary(a, ftz, |a| if a.is_nan() { a } else { exp2(a as f64) as f32 })
}

/// `lg2.approx.f32`: absolute error 2^-22 between 0.5 and 2, relative error 2^-22 elsewhere. Negative: NaN; ±0: -inf.
#[inline]
pub fn lg2_32(a: f32, ftz: bool) -> f32 {
    unary(a, ftz, |a| (a as f64).log2() as f32)
}

/// `rcp.approx.f32`: 1 ulp. ±0: ±inf; ±inf: ±0.
#[inline]
pub fn rcp_32(a: f32, ftz: bool) -> f32 {
    unary(a, ftz, |a| 1.0 / a)
}

/// `rsqrt.approx.f32`: relative error 2^-22.9. ±0: ±inf; negative: NaN; +inf: +0.
#[inline]
pub fn rsqrt_32(a: f32, ftz: bool) -> f32 {
    unary(a, ftz, |a| (1.0 / (a as f64).sqrt()) as f32)
}

/// `sqrt.approx.f32`: relative error 2^-23. -0: -0; negative: NaN.
#[inline]
pub fn sqrt_32(a: f32, ftz: bool) -> f32 {
    unary(a, ftz, |a| a.sqrt())
}

/// `sin.approx.f32`: absolute error 2^-20.5 up to 2 pi, 2^-14.7 up to 100 pi. ±inf: NaN.
#[inline]
pub fn sin_32(a: f32, ftz: bool) -> f32 {
    unary(a, ftz, |a| (a as f64).sin() as f32)
}

/// `cos.approx.f32`: the bounds of [`sin_32`].
#[inline]
pub fn cos_32(a: f32, ftz: bool) -> f32 {
    unary(a, ftz, |a| (a as f64).cos() as f32)
}

/// `tanh.approx.f32`: relative error 2^-11. A subnormal operand is returned unchanged.
#[inline]
pub fn tanh_32(a: f32) -> f32 {
    unary(a, false, |a| (a as f64).tanh() as f32)
}

/// `div.approx.f32`: 2 ulp for |b| between 2^-126 and 2^126. For a larger |b| the manual computes `a * (1 / b)` with a
/// flushed reciprocal: the result is a zero with the quotient's sign, or NaN for infinite `a`.
#[inline]
pub fn div_approx_32(a: f32, b: f32, ftz: bool) -> f32 {
    let (a, b) = if ftz { (flush32(a), flush32(b)) } else { (a, b) };
    let b = if b.is_finite() && b.abs() > f32::from_bits((127 + 126) << 23) { f32::INFINITY.copysign(b) } else { b };
    unary(a, ftz, |a| a / b)
}

/// `div.full.f32`: 2 ulp for all operands.
#[inline]
pub fn div_full_32(a: f32, b: f32, ftz: bool) -> f32 {
    let b = if ftz { flush32(b) } else { b };
    unary(a, ftz, |a| a / b)
}

/// `rsqrt.approx.f64`. The manual gives no bound; the error here is 1 ulp or a little more.
#[inline]
pub fn rsqrt_64(a: f64) -> f64 {
    if a.is_nan() {
        return f64::from_bits(a.to_bits() | 1 << 51);
    }
    let d = 1.0 / a.sqrt();
    if d.is_nan() { NAN64 } else { d }
}

/// Applies `f` as the two `.approx.ftz.f64` instructions do, on the upper word. The operand's lower word is ignored,
/// that of the result is zero, subnormal numbers are flushed, and NaN is 0x7fffffff00000000.
fn on_upper_word(a: f64, f: impl Fn(f64) -> f64) -> f64 {
    const UPPER: u64 = 0xffff_ffff_0000_0000;
    let flush = |v: f64| if v.abs() < f64::MIN_POSITIVE { 0f64.copysign(v) } else { v };
    // A NaN whose payload lies in the lower word only stays a NaN: test before the word is cut.
    let d = if a.is_nan() { a } else { f(flush(f64::from_bits(a.to_bits() & UPPER))) };
    if d.is_nan() {
        return f64::from_bits(0x7fff_ffff_0000_0000);
    }
    // Rounds to the nearest upper word. An infinity has a zero lower word, and no finite result is close to infinity.
    flush(f64::from_bits((d.to_bits() + 0x8000_0000) & UPPER))
}

/// `rsqrt.approx.ftz.f64`.
pub fn rsqrt_64_ftz(a: f64) -> f64 {
    on_upper_word(a, |a| 1.0 / a.sqrt())
}

/// `rcp.approx.ftz.f64`.
pub fn rcp_64_ftz(a: f64) -> f64 {
    on_upper_word(a, |a| 1.0 / a)
}

/// `ex2.approx.f16` and `ex2.approx.ftz.bf16`: relative errors 2^-9.9 and 2^-7.
#[inline]
pub fn ex2_16(kind: Half, a: u16, ftz: bool) -> u16 {
    let a = if ftz { flush16(kind, a) } else { a };
    let d = from_f32(kind, ex2_32(to_f32(kind, a), false), Rounding::Nearest);
    if ftz { flush16(kind, d) } else { d }
}

/// `tanh.approx.f16` and `.bf16`: absolute errors 2^-10.987 and 2^-8.
#[inline]
pub fn tanh_16(kind: Half, a: u16) -> u16 {
    from_f32(kind, tanh_32(to_f32(kind, a)), Rounding::Nearest)
}
