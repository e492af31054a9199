use super::*;
use std::cmp::Ordering;
use virtual_gpu::arith::float::Mode;
use virtual_gpu::arith::half::*;

const KINDS: [Half; 2] = [Half::F16, Half::Bf16];
const ALL: [Rounding; 5] = [Rounding::Nearest, Rounding::Zero, Rounding::Down, Rounding::Up, Rounding::NearestAway];

fn infinity(kind: Half) -> u16 {
    match kind {
        Half::F16 => 0x7c00,
        Half::Bf16 => 0x7f80,
    }
}

/// The value of finite bits by the definition of the formats; infinity counts as the next greater number.
fn value(kind: Half, bits: u16) -> f64 {
    let (fraction_bits, bias) = match kind {
        Half::F16 => (10, 15),
        Half::Bf16 => (7, 127),
    };
    let exponent = (bits & 0x7fff) >> fraction_bits;
    let fraction = (bits & ((1 << fraction_bits) - 1)) as f64 / (1 << fraction_bits) as f64;
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(1 - bias),
        e => (1.0 + fraction) * 2f64.powi(e as i32 - bias),
    };
    if bits >> 15 != 0 { -magnitude } else { magnitude }
}

/// The rounding of a number strictly between the magnitudes `low` and `low + 1`. `half` compares it to their midpoint.
fn between(kind: Half, low: u16, half: Ordering, negative: bool, r: Rounding) -> u16 {
    let away = match (r, half) {
        (Rounding::Zero, _) => false,
        (Rounding::Down, _) => negative,
        (Rounding::Up, _) => !negative,
        (_, Ordering::Less) => false,
        (_, Ordering::Greater) => true,
        (Rounding::Nearest, Ordering::Equal) => low % 2 == 1,
        (Rounding::NearestAway, Ordering::Equal) => true,
    };
    assert!(low < infinity(kind));
    (low + away as u16) | (negative as u16) << 15
}

#[test]
fn widening_to_f32_is_exact_for_all_bits() {
    for bits in 0..=u16::MAX {
        let f16 = ::half::f16::from_bits(bits).to_f32();
        let bf16 = ::half::bf16::from_bits(bits).to_f32();
        for (got, wanted) in [(f16_to_f32(bits), f16), (bf16_to_f32(bits), bf16)] {
            let wanted = if wanted.is_nan() { 0x7fff_ffff } else { wanted.to_bits() };
            assert_eq!(got.to_bits(), wanted, "{bits:04x}");
        }
    }
}

#[test]
fn all_bits_survive_a_round_trip_in_every_rounding() {
    for kind in KINDS {
        for bits in 0..=u16::MAX {
            let nan = bits & 0x7fff > infinity(kind);
            for r in ALL {
                let wanted = if nan { 0x7fff } else { bits };
                assert_eq!(from_f32(kind, to_f32(kind, bits), r), wanted, "{kind:?} {bits:04x} {r:?}");
                let wide = to_f32(kind, bits) as f64;
                let got = if kind == Half::F16 { f64_to_f16(wide, r) } else { f64_to_bf16(wide, r) };
                assert_eq!(got, wanted, "{kind:?} {bits:04x} {r:?}");
            }
        }
    }
}

/// Each interval between two neighbours, in each rounding: the midpoint, and values just beside it and beside the ends.
#[test]
fn every_interval_rounds_correctly_in_every_mode() {
    for kind in KINDS {
        for low in 0..infinity(kind) {
            let (from, to) = (value(kind, low), value(kind, low + 1));
            let middle = (from + to) / 2.0;
            for (v, half) in [
                (from.next_up(), Ordering::Less),
                ((from + middle) / 2.0, Ordering::Less),
                (middle.next_down(), Ordering::Less),
                (middle, Ordering::Equal),
                (middle.next_up(), Ordering::Greater),
                (to.next_down(), Ordering::Greater),
            ] {
                for r in ALL {
                    for negative in [false, true] {
                        let v = if negative { -v } else { v };
                        let wanted = between(kind, low, half, negative, r);
                        let got = if kind == Half::F16 { f64_to_f16(v, r) } else { f64_to_bf16(v, r) };
                        assert_eq!(got, wanted, "{kind:?} {v:e} {r:?}");
                    }
                }
            }
            let middle = middle as f32; // Exact: it has one bit more than the format.
            let (from, to) = (from as f32, if to > f32::MAX as f64 { f32::INFINITY } else { to as f32 });
            for (v, half) in [
                (from.next_up(), Ordering::Less),
                (middle.next_down(), Ordering::Less),
                (middle, Ordering::Equal),
                (middle.next_up(), Ordering::Greater),
                (to.next_down(), Ordering::Greater),
            ] {
                // The smallest intervals of bf16 contain no f32 but the midpoint, so these steps leave them.
                if v == from || v == to || v.partial_cmp(&middle) != Some(half) {
                    continue;
                }
                for r in ALL {
                    for negative in [false, true] {
                        let v = if negative { -v } else { v };
                        let wanted = between(kind, low, half, negative, r);
                        assert_eq!(from_f32(kind, v, r), wanted, "{kind:?} {v:e} {r:?}");
                    }
                }
            }
        }
    }
}

/// All exponents and leading bits, rounded to nearest, compared with another implementation.
#[test]
fn nearest_agrees_with_the_half_crate() {
    for upper in 0..1u32 << 20 {
        for lower in [0, 1, 0x7ff, 0x800, 0x801, 0xfff] {
            let v = f32::from_bits(upper << 12 | lower);
            if v.is_nan() {
                assert_eq!((f32_to_f16(v, Rounding::Nearest), f32_to_bf16(v, Rounding::Nearest)), (0x7fff, 0x7fff));
                continue;
            }
            assert_eq!(f32_to_f16(v, Rounding::Nearest), ::half::f16::from_f32(v).to_bits(), "{v:e}");
            assert_eq!(f32_to_bf16(v, Rounding::Nearest), ::half::bf16::from_f32(v).to_bits(), "{v:e}");
        }
    }
}

#[test]
fn f64_to_16_bits_rounds_once() {
    // Just above the midpoint of 1 and its successor. Rounded to f32 it is the midpoint.
    let v = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
    assert_eq!(f32_to_f16(v as f32, Rounding::Nearest), 0x3c00);
    assert_eq!(f64_to_f16(v, Rounding::Nearest), 0x3c01);
    // The smallest power of two that rounds away from zero, and overflow.
    assert_eq!(f64_to_f16(2f64.powi(-25), Rounding::Nearest), 0);
    assert_eq!(f64_to_f16(2f64.powi(-25).next_up(), Rounding::Nearest), 1);
    assert_eq!(f64_to_f16(f64::from_bits(1), Rounding::Up), 1);
    assert_eq!(f64_to_f16(1e300, Rounding::Nearest), 0x7c00);
    assert_eq!(f64_to_f16(1e300, Rounding::Zero), 0x7bff);
    assert_eq!(f64_to_f16(-1e300, Rounding::Up), 0xfbff);
    assert_eq!(f64_to_f16(-1e300, Rounding::Down), 0xfc00);
    assert_eq!(f32_to_bf16(f32::MAX, Rounding::Zero), 0x7f7f);
    assert_eq!(f32_to_bf16(f32::MAX, Rounding::Nearest), 0x7f80);
}

/// The rounding of `n * 2^-unit`, found by bisection over the magnitudes of the format.
fn round(kind: Half, n: i128, unit: i32, r: Rounding) -> u16 {
    let scaled = |v: f64| v * 2f64.powi(unit);
    // Compares a float to an integer exactly: first its integral part, then its fraction.
    let compare = |v: f64, n: i128| (v.floor() as i128).cmp(&n).then(v.fract().partial_cmp(&0.0).unwrap());
    let (negative, n) = (n < 0, n.abs());
    let (mut low, mut high) = (0, infinity(kind));
    assert!(compare(scaled(value(kind, high)), n) == Ordering::Greater);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if compare(scaled(value(kind, middle)), n) == Ordering::Greater {
            high = middle;
        } else {
            low = middle;
        }
    }
    if compare(scaled(value(kind, low)), n) == Ordering::Equal {
        return low | (negative as u16) << 15;
    }
    let middle = (value(kind, low) + value(kind, low + 1)) / 2.0;
    between(kind, low, compare(scaled(middle), n).reverse(), negative, r)
}

fn arithmetic(kind: Half, unit: i32, mut operand: impl FnMut() -> u16) {
    let integer = |bits: u16, unit: i32| (value(kind, bits) * 2f64.powi(unit)) as i128;
    for _ in 0..200_000 {
        let (a, b, c) = (operand(), operand(), operand());
        let (x, y, z) = (integer(a, unit), integer(b, unit), integer(c, 2 * unit));
        for r in ROUNDINGS {
            let m = Mode { rounding: r, ..Mode::NEAREST };
            let check = |name: &str, got: u16, exact: i128, unit: i32| {
                // The signs of zeros are tested separately.
                let limit = value(kind, infinity(kind)) * 2f64.powi(unit);
                if exact != 0 && (exact.abs() as f64) < limit {
                    assert_eq!(got, round(kind, exact, unit, r), "{kind:?} {name} {a:04x} {b:04x} {c:04x} {r:?}");
                }
            };
            check("add", add16(kind, a, b, m), x + y, unit);
            check("sub", sub16(kind, a, b, m), x - y, unit);
            check("mul", mul16(kind, a, b, m), x * y, 2 * unit);
            check("fma", fma16(kind, a, b, c, m), x * y + z, 2 * unit);
        }
    }
}

#[test]
fn arithmetic_rounds_once() {
    let mut random = Random(11);
    arithmetic(Half::F16, 24, || {
        loop {
            let bits = random.next() as u16;
            if bits & 0x7c00 != 0x7c00 {
                return bits;
            }
        }
    });
    // Units of 2^-27: exponents from -20 to 19.
    let mut random = Random(12);
    arithmetic(Half::Bf16, 27, || {
        let bits = random.next();
        (bits as u16 & 0x807f) | (107 + (bits >> 16) as u16 % 40) << 7
    });
}

#[test]
fn fma_rounds_once_where_two_roundings_would_err() {
    let m = Mode::NEAREST;
    // 1 + 2^-11 is the midpoint of 1 and its successor.
    let (one, half_ulp) = (0x3c00, 0x1000);
    assert_eq!(fma16(Half::F16, half_ulp, one, one, m), one);
    // The product 2^-11 (1 + 2^-10) and the sum lie above the midpoint by 2^-21, which f16 alone would lose.
    assert_eq!(fma16(Half::F16, half_ulp, one + 1, one, m), one + 1);
    // A difference of 2^-26 from the midpoint 32 + 2^-6, below the precision of f32; it comes from the product:
    // (2^-3 + 2^-13) (2^-3 - 2^-13) = 2^-6 - 2^-26.
    assert_eq!(fma16(Half::F16, 0x3001, 0x2ffe, 0x5000, m), 0x5000);
    assert_eq!(fma16(Half::F16, 0x3001, 0x3001, 0x5000, m), 0x5001);
    // 16 + 65504 is the smallest sum that rounds to infinity.
    assert_eq!(fma16(Half::F16, 0x4c00, one, 0x7bff, m), 0x7c00);
    assert_eq!(fma16(Half::F16, 0x4bff, one, 0x7bff, m), 0x7bff);
    // bf16: 2^100 + 2^-100, in every rounding.
    let (large, small) = ((127 + 100) << 7, (127 - 100) << 7);
    let mode = |rounding| Mode { rounding, ..m };
    assert_eq!(fma16(Half::Bf16, small, 0x3f80, large, m), large);
    assert_eq!(fma16(Half::Bf16, small, 0x3f80, large, mode(Rounding::Up)), large + 1);
    assert_eq!(fma16(Half::Bf16, small | 0x8000, 0x3f80, large, mode(Rounding::Zero)), large - 1);
    // A tie in bf16, decided by a term smaller by far than the precision.
    let tie = (127 + 92) << 7;
    assert_eq!(add16(Half::Bf16, large, tie, m), large);
    assert_eq!(fma16(Half::Bf16, tie, 0x3f81, large, m), large + 1);
}

#[test]
fn special_values_and_modifiers_follow_the_manual() {
    let m = Mode::NEAREST;
    let (ftz, sat) = (Mode { ftz: true, ..m }, Mode { sat: true, ..m });
    for kind in KINDS {
        let infinity = infinity(kind);
        let one = if kind == Half::F16 { 0x3c00 } else { 0x3f80 };
        let minus = 0x8000;
        assert_eq!(add16(kind, infinity, infinity | minus, m), 0x7fff);
        assert_eq!(mul16(kind, infinity, 0, m), 0x7fff);
        assert_eq!(fma16(kind, infinity, one, infinity | minus, m), 0x7fff);
        assert_eq!(add16(kind, infinity, one | minus, m), infinity);
        assert_eq!(add16(kind, 0xffff, one, m), 0x7fff);
        assert_eq!(add16(kind, infinity - 1, infinity - 1, m), infinity);
        assert_eq!(add16(kind, one, one | minus, m), 0);
        assert_eq!(add16(kind, minus, minus, m), minus);
        assert_eq!(sub16(kind, minus, 0, m), minus);
        assert_eq!(sub16(kind, 0, 0, m), 0);
        assert_eq!(mul16(kind, minus, one, m), minus);
        assert_eq!(add16(kind, 1, 1, m), 2);
        assert_eq!(add16(kind, 1, 1, ftz), 0);
        assert_eq!(mul16(kind, 1 | minus, one, ftz), minus);
        assert_eq!(add16(kind, one, one, sat), one);
        assert_eq!(add16(kind, one | minus, 0, sat), 0);
        assert_eq!(mul16(kind, infinity, 0, sat), 0);
        assert_eq!([minus, one - 1, infinity, 0xffff].map(|a| saturate16(kind, a)), [0, one - 1, one, 0]);
        assert_eq!((relu16(kind, minus), relu16(kind, one | minus), relu16(kind, one)), (0, 0, one));
        assert_eq!(relu16(kind, 0xffff), 0x7fff);
        assert_eq!((neg16(kind, one, false), neg16(kind, 1, true)), (one | minus, minus));
        assert_eq!((abs16(kind, one | minus, false), abs16(kind, 1, true)), (one, 0));
        assert_eq!((flush16(kind, 3 | minus), flush16(kind, one)), (minus, one));
    }
}

#[test]
fn minima_and_maxima_order_signed_zeros_and_skip_nan() {
    let mut random = Random(13);
    for kind in KINDS {
        for i in 0..200_000u64 {
            let (a, b) =
                (random.next() as u16, if i % 4 == 0 { random.next() as u16 & 0x8000 } else { random.next() as u16 });
            let (x, y) = (to_f32(kind, a), to_f32(kind, b));
            let (least, greatest) = (min16(kind, a, b, false, false), max16(kind, a, b, false, false));
            if x.is_nan() || y.is_nan() {
                let wanted = if x.is_nan() && y.is_nan() {
                    0x7fff
                } else if x.is_nan() {
                    b
                } else {
                    a
                };
                assert_eq!((least, greatest), (wanted, wanted));
                assert_eq!(min16(kind, a, b, false, true), 0x7fff);
                assert_eq!(max16(kind, a, b, false, true), 0x7fff);
            } else {
                let (low, high) = if x.total_cmp(&y) == Ordering::Greater { (b, a) } else { (a, b) };
                assert_eq!((least, greatest), (low, high), "{a:04x} {b:04x}");
            }
        }
        assert_eq!(max16(kind, 3, 0x8000, true, false), 0);
        assert_eq!(min16(kind, 0x8003, 0, true, false), 0x8000);
    }
}
