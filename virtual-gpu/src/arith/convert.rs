//! Conversions: PTX ISA 9.0, "cvt". Those to and from the 16-bit formats are in `half`.

use super::float::{NAN32, flush32, saturate32};
use super::half::shorten;
use super::{Rounding, exact};

/// `cvt.rna.tf32.f32` and its other roundings: the TF32 in the upper 19 bits of a register, zeros below. NaN gives
/// 0x7fffe000.
#[inline]
pub fn f32_to_tf32(v: f32, r: Rounding) -> u32 {
    if v.is_nan() { 0x7fff_e000 } else { shorten(v.to_bits(), 13, r) }
}

/// An `.f16`, `.bf16` or `.f32` value to an integer of `bits` bits, clamped to the integer's range, and sign- or
/// zero-extended to 64 bits.
///
/// NaN gives zero; for a 64-bit destination 2^63. See [`f64_to_int`] for `.f64` sources.
#[inline]
pub fn float_to_int(v: f64, bits: u32, signed: bool, r: Rounding) -> u64 {
    if v.is_nan() {
        return if bits == 64 { 1 << 63 } else { 0 };
    }
    clamp_to_int(v, bits, signed, r)
}

/// An `.f64` to an integer of `bits` bits. NaN gives only the highest bit of the destination, for every width.
#[inline]
pub fn f64_to_int(v: f64, bits: u32, signed: bool, r: Rounding) -> u64 {
    if v.is_nan() {
        let highest = 1u64 << (bits - 1);
        return if signed { highest.wrapping_neg() } else { highest };
    }
    clamp_to_int(v, bits, signed, r)
}

#[inline]
fn clamp_to_int(v: f64, bits: u32, signed: bool, r: Rounding) -> u64 {
    let v = match r {
        Rounding::Zero => v, // the casts below truncate
        Rounding::Nearest => v.round_ties_even(),
        Rounding::Down => v.floor(),
        Rounding::Up => v.ceil(),
        Rounding::NearestAway => v.round(),
    };
    match (signed, bits) {
        (true, 8) => v as i8 as u64,
        (true, 16) => v as i16 as u64,
        (true, 32) => v as i32 as u64,
        (true, _) => v as i64 as u64,
        (false, 8) => v as u8 as u64,
        (false, 16) => v as u16 as u64,
        (false, 32) => v as u32 as u64,
        (false, _) => v as u64,
    }
}

/// An integer to `.f32`. `v` must be in the range of `i64` or `u64`.
#[inline]
pub fn int_to_f32(v: i128, r: Rounding) -> f32 {
    match (r, i64::try_from(v)) {
        (Rounding::Nearest, Ok(v)) => v as f32,
        _ => f32::from_bits(exact::from_integer::<8, 23>(v, r) as u32),
    }
}

/// An integer to `.f64`.
#[inline]
pub fn int_to_f64(v: i128, r: Rounding) -> f64 {
    match (r, i64::try_from(v)) {
        (Rounding::Nearest, Ok(v)) => v as f64,
        _ => f64::from_bits(exact::from_integer::<11, 52>(v, r)),
    }
}

/// An integer to `.f16`.
pub fn int_to_f16(v: i128, r: Rounding) -> u16 {
    exact::from_integer::<5, 10>(v, r) as u16
}

/// An integer to `.bf16`.
pub fn int_to_bf16(v: i128, r: Rounding) -> u16 {
    exact::from_integer::<8, 7>(v, r) as u16
}

/// `cvt.f32.f64`.
#[inline]
pub fn f64_to_f32(v: f64, r: Rounding, ftz: bool, sat: bool) -> f32 {
    let mut d = match r {
        _ if v.is_nan() => NAN32,
        Rounding::Nearest => v as f32,
        r => f32::from_bits(exact::convert::<8, 23>(v, r) as u32),
    };
    if ftz {
        d = flush32(d);
    }
    if sat { saturate32(d) } else { d }
}

/// `cvt.rni.f32.f32` and its other roundings: to an integral value. A zero keeps the operand's sign.
#[inline]
pub fn round_to_integer32(v: f32, r: Rounding) -> f32 {
    if v.is_nan() {
        return NAN32;
    }
    match r {
        Rounding::Nearest => v.round_ties_even(),
        Rounding::NearestAway => v.round(),
        Rounding::Zero => v.trunc(),
        Rounding::Down => v.floor(),
        Rounding::Up => v.ceil(),
    }
}

/// `cvt.rni.f64.f64` and its other roundings. A NaN keeps its payload and is made quiet.
#[inline]
pub fn round_to_integer64(v: f64, r: Rounding) -> f64 {
    if v.is_nan() {
        return f64::from_bits(v.to_bits() | 1 << 51);
    }
    match r {
        Rounding::Nearest => v.round_ties_even(),
        Rounding::NearestAway => v.round(),
        Rounding::Zero => v.trunc(),
        Rounding::Down => v.floor(),
        Rounding::Up => v.ceil(),
    }
}

/// An integer to another. The low `from_bits` bits of `v` are sign- or zero-extended, then clamped to the destination's
/// range if `sat`, else truncated. The result is sign- or zero-extended to 64 bits as `to_signed` says.
#[inline]
pub fn int_to_int(v: u64, from_bits: u32, from_signed: bool, to_bits: u32, to_signed: bool, sat: bool) -> u64 {
    let mut v = extend(v, from_bits, from_signed);
    if sat {
        let (least, greatest) = if to_signed {
            (-1i128 << (to_bits - 1), (1i128 << (to_bits - 1)) - 1)
        } else {
            (0, (1i128 << to_bits) - 1)
        };
        let value = if from_signed { v as i64 as i128 } else { v as i128 };
        v = value.clamp(least, greatest) as u64;
    }
    extend(v, to_bits, to_signed)
}

/// The low `bits` bits, sign- or zero-extended to 64.
#[inline]
fn extend(v: u64, bits: u32, signed: bool) -> u64 {
    let unused = 64 - bits;
    if signed { ((v << unused) as i64 >> unused) as u64 } else { v << unused >> unused }
}
