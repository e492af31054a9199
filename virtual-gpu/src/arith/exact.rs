//! Exact results, rounded once: the slow path, for every rounding that the host does not offer.
//!
//! A finite result is an integer times a power of two, plus one sticky bit for a remainder below that integer. One
//! function rounds it to any binary format. Operands are `f64`, which holds `f32`, `f16` and `bf16` exactly.

use super::Rounding;

/// The constants of a binary format with `E` exponent bits and `M` fraction bits.
pub(super) struct Format<const E: u32, const M: u32>;

impl<const E: u32, const M: u32> Format<E, M> {
    const BIAS: i32 = (1 << (E - 1)) - 1;
    /// The exponent of the least normal number.
    const LEAST: i32 = 1 - Self::BIAS;
    const INFINITY: u64 = ((1 << E) - 1) << M;

    fn signed(negative: bool, magnitude: u64) -> u64 {
        (negative as u64) << (E + M) | magnitude
    }

    /// The bits of `v`, a NaN or an infinity that the host's arithmetic returned.
    fn special(v: f64) -> u64 {
        // All ones is NVIDIA's NaN in formats narrower than `f64`; `float` replaces the NaN of `f64`.
        if v.is_nan() { (1 << (E + M)) - 1 } else { Self::signed(v < 0.0, Self::INFINITY) }
    }
}

/// A finite number other than zero: `significand * 2^exponent`. If `below`, plus less than one unit of the significand
/// (a sticky bit).
#[derive(Clone, Copy)]
struct Number {
    negative: bool,
    significand: u128,
    exponent: i32,
    below: bool,
}

impl Number {
    /// A finite `f64` other than zero.
    fn of(v: f64) -> Number {
        let bits = v.to_bits();
        let field = (bits >> 52 & 0x7ff) as i32;
        let fraction = bits & ((1 << 52) - 1);
        let (significand, exponent) = if field == 0 { (fraction, -1074) } else { (fraction | 1 << 52, field - 1075) };
        Number { negative: v.is_sign_negative(), significand: significand as u128, exponent, below: false }
    }

    /// The same number with the leading bit of its significand at `top`, which must not be below its present position.
    fn with_top_at(self, top: u32) -> Number {
        let by = top - (127 - self.significand.leading_zeros());
        Number { significand: self.significand << by, exponent: self.exponent - by as i32, ..self }
    }

    /// The number in the format, rounded.
    fn round<const E: u32, const M: u32>(self, r: Rounding) -> u64 {
        let Number { negative, exponent, significand, below } = self;
        let used = 128 - significand.leading_zeros();
        if used <= 64 {
            return round::<E, M>(negative, significand as u64, exponent, below, r);
        }
        let drop = used - 64;
        let lost = significand & ((1 << drop) - 1) != 0;
        round::<E, M>(negative, (significand >> drop) as u64, exponent + drop as i32, below || lost, r)
    }
}

/// Rounds `significand * 2^exponent`, plus less than one unit if `below`, to the format. The significand is not zero;
/// if `below` is set, it has at least two bits more than the format.
fn round<const E: u32, const M: u32>(negative: bool, significand: u64, exponent: i32, below: bool, r: Rounding) -> u64 {
    let leading = exponent + 63 - significand.leading_zeros() as i32;
    let infinity = Format::<E, M>::INFINITY;
    // The exponent of the result's last bit; constant for subnormal results.
    let unit = leading.max(Format::<E, M>::LEAST) - M as i32;
    let shift = unit - exponent;
    let (kept, half, rest) = match shift {
        ..=0 => (significand << -shift, false, below),
        1..=63 => {
            let dropped = significand & ((1 << shift) - 1);
            let half = 1 << (shift - 1);
            (significand >> shift, dropped & half != 0, dropped & (half - 1) != 0 || below)
        }
        64 => (0, significand >> 63 != 0, significand << 1 != 0 || below),
        _ => (0, false, true),
    };
    let away = match r {
        Rounding::Nearest => half && (rest || kept & 1 != 0),
        Rounding::NearestAway => half,
        Rounding::Zero => false,
        Rounding::Down => negative && (half || rest),
        Rounding::Up => !negative && (half || rest),
    };
    // The leading bit of a normal number adds one to the exponent field, and so does a carry out of the fraction.
    let field = (unit + M as i32 - Format::<E, M>::LEAST) as u64;
    let magnitude = (field << M) + kept + away as u64;
    if magnitude < infinity {
        return Format::<E, M>::signed(negative, magnitude);
    }
    let to_infinity = match r {
        Rounding::Nearest | Rounding::NearestAway => true,
        Rounding::Zero => false,
        Rounding::Down => negative,
        Rounding::Up => !negative,
    };
    Format::<E, M>::signed(negative, infinity - !to_infinity as u64)
}

/// `v` in the format.
pub(super) fn convert<const E: u32, const M: u32>(v: f64, r: Rounding) -> u64 {
    if v == 0.0 {
        Format::<E, M>::signed(v.is_sign_negative(), 0)
    } else if v.is_finite() {
        let n = Number::of(v);
        round::<E, M>(n.negative, n.significand as u64, n.exponent, false, r)
    } else {
        Format::<E, M>::special(v)
    }
}

/// An integer in the format.
pub(super) fn from_integer<const E: u32, const M: u32>(v: i128, r: Rounding) -> u64 {
    if v == 0 {
        return 0;
    }
    Number { negative: v < 0, significand: v.unsigned_abs(), exponent: 0, below: false }.round::<E, M>(r)
}

/// The sign (negative: true) of a zero sum of terms with signs `a` and `b`: IEEE 754-2019, section 6.3.
fn zero_sum(a: bool, b: bool, r: Rounding) -> bool {
    if a == b { a } else { r == Rounding::Down }
}

pub(super) fn add<const E: u32, const M: u32>(a: f64, b: f64, r: Rounding) -> u64 {
    if !a.is_finite() || !b.is_finite() {
        return Format::<E, M>::special(a + b);
    }
    if a == 0.0 && b == 0.0 {
        return Format::<E, M>::signed(zero_sum(a.is_sign_negative(), b.is_sign_negative(), r), 0);
    }
    if a == 0.0 {
        return convert::<E, M>(b, r);
    }
    if b == 0.0 {
        return convert::<E, M>(a, r);
    }
    sum::<E, M>(Number::of(a), Number::of(b), r)
}

fn sum<const E: u32, const M: u32>(a: Number, b: Number, r: Rounding) -> u64 {
    // The leading bit at 125 leaves room for a carry. A product has 106 bits, so the smaller term loses bits only
    // if it lies at least 20 places lower. The difference then has at least 124 bits, and `below` suffices.
    let (a, b) = (a.with_top_at(125), b.with_top_at(125));
    let (large, small) = if (a.exponent, a.significand) >= (b.exponent, b.significand) { (a, b) } else { (b, a) };
    let distance = (large.exponent - small.exponent) as u32;
    let (aligned, below) = if distance < 126 {
        (small.significand >> distance, small.significand & ((1 << distance) - 1) != 0)
    } else {
        (0, true)
    };
    let significand = if large.negative == small.negative {
        large.significand + aligned
    } else {
        large.significand - aligned - below as u128
    };
    if significand == 0 {
        return Format::<E, M>::signed(r == Rounding::Down, 0);
    }
    Number { significand, below, ..large }.round::<E, M>(r)
}

fn product(a: f64, b: f64) -> Number {
    let (a, b) = (Number::of(a), Number::of(b));
    Number {
        negative: a.negative != b.negative,
        significand: a.significand * b.significand,
        exponent: a.exponent + b.exponent,
        below: false,
    }
}

pub(super) fn mul<const E: u32, const M: u32>(a: f64, b: f64, r: Rounding) -> u64 {
    if !a.is_finite() || !b.is_finite() {
        return Format::<E, M>::special(a * b);
    }
    if a == 0.0 || b == 0.0 {
        return Format::<E, M>::signed(a.is_sign_negative() != b.is_sign_negative(), 0);
    }
    product(a, b).round::<E, M>(r)
}

pub(super) fn fma<const E: u32, const M: u32>(a: f64, b: f64, c: f64, r: Rounding) -> u64 {
    if !a.is_finite() || !b.is_finite() {
        return Format::<E, M>::special(a * b + c);
    }
    if !c.is_finite() {
        return Format::<E, M>::special(c);
    }
    if a == 0.0 || b == 0.0 {
        let zero = if a.is_sign_negative() == b.is_sign_negative() { 0.0 } else { -0.0 };
        return add::<E, M>(zero, c, r);
    }
    let product = product(a, b);
    if c == 0.0 { product.round::<E, M>(r) } else { sum::<E, M>(product, Number::of(c), r) }
}

pub(super) fn div<const E: u32, const M: u32>(a: f64, b: f64, r: Rounding) -> u64 {
    if !a.is_finite() || b.is_nan() || b == 0.0 {
        return Format::<E, M>::special(a / b);
    }
    let negative = a.is_sign_negative() != b.is_sign_negative();
    if a == 0.0 || b.is_infinite() {
        return Format::<E, M>::signed(negative, 0);
    }
    let (a, b) = (Number::of(a).with_top_at(126), Number::of(b).with_top_at(52));
    let significand = a.significand / b.significand;
    let below = a.significand % b.significand != 0;
    Number { negative, significand, exponent: a.exponent - b.exponent, below }.round::<E, M>(r)
}

pub(super) fn sqrt<const E: u32, const M: u32>(a: f64, r: Rounding) -> u64 {
    if a == 0.0 {
        return Format::<E, M>::signed(a.is_sign_negative(), 0);
    }
    if !a.is_finite() || a < 0.0 {
        return Format::<E, M>::special(a.sqrt());
    }
    let mut a = Number::of(a).with_top_at(126);
    if a.exponent % 2 != 0 {
        a = Number { significand: a.significand >> 1, exponent: a.exponent + 1, ..a };
    }
    let significand = a.significand.isqrt();
    let below = significand * significand != a.significand;
    Number { negative: false, significand, exponent: a.exponent / 2, below }.round::<E, M>(r)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAREST: Rounding = Rounding::Nearest;

    /// Random bits, one in four an edge value; in half of the triples the exponents are close to each other.
    fn operands() -> impl Iterator<Item = [f64; 3]> {
        let mut state = 1u64;
        let mut next = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state ^ state >> 33
        };
        let edges = [0.0, -0.0, 1.0, f64::MAX, f64::MIN_POSITIVE, f64::from_bits(1), f64::INFINITY, f64::NAN];
        (0..300_000).map(move |i| {
            std::array::from_fn(|_| {
                let bits = next();
                match bits >> 60 {
                    0..4 => edges[(bits % 8) as usize],
                    _ if i % 2 == 0 => f64::from_bits(bits & 0x803f_ffff_ffff_ffff | 0x3fc0_0000_0000_0000),
                    _ => f64::from_bits(next()),
                }
            })
        })
    }

    /// Rounding to the nearest equals the host's arithmetic. All roundings share the code but for the last decision.
    #[test]
    fn rounding_to_nearest_equals_the_hosts_arithmetic() {
        let same64 = |got: u64, wanted: f64| f64::from_bits(got).is_nan() && wanted.is_nan() || got == wanted.to_bits();
        let same32 = |got: u64, wanted: f32| {
            f32::from_bits(got as u32).is_nan() && wanted.is_nan() || got == wanted.to_bits() as u64
        };
        for [a, b, c] in operands() {
            assert!(same64(add::<11, 52>(a, b, NEAREST), a + b), "{a:e} {b:e}");
            assert!(same64(mul::<11, 52>(a, b, NEAREST), a * b), "{a:e} {b:e}");
            assert!(same64(div::<11, 52>(a, b, NEAREST), a / b), "{a:e} {b:e}");
            assert!(same64(sqrt::<11, 52>(a, NEAREST), a.sqrt()), "{a:e}");
            assert!(same64(fma::<11, 52>(a, b, c, NEAREST), a.mul_add(b, c)), "{a:e} {b:e} {c:e}");
            assert!(same32(convert::<8, 23>(a, NEAREST), a as f32), "{a:e}");
            let (x, y, z) = (a as f32, b as f32, c as f32);
            let (a, b, c) = (x as f64, y as f64, z as f64);
            assert!(same32(add::<8, 23>(a, b, NEAREST), x + y), "{a:e} {b:e}");
            assert!(same32(mul::<8, 23>(a, b, NEAREST), x * y), "{a:e} {b:e}");
            assert!(same32(div::<8, 23>(a, b, NEAREST), x / y), "{a:e} {b:e}");
            assert!(same32(sqrt::<8, 23>(a, NEAREST), x.sqrt()), "{a:e}");
            assert!(same32(fma::<8, 23>(a, b, c, NEAREST), x.mul_add(y, z)), "{a:e} {b:e} {c:e}");
        }
    }

    /// Down and up are equal for a representable value, else neighbours. Towards zero is one of the two.
    #[test]
    fn directed_roundings_are_equal_or_neighbours() {
        for [a, b, c] in operands() {
            let results = |f: &dyn Fn(Rounding) -> u64| {
                let [down, zero, up, nearest] =
                    [Rounding::Down, Rounding::Zero, Rounding::Up, NEAREST].map(|r| f64::from_bits(f(r)));
                if nearest.is_nan() {
                    return;
                }
                assert!(down == up || down.next_up() == up, "{a:e} {b:e} {c:e}: {down:e} {up:e}");
                assert!(nearest == down || nearest == up);
                assert_eq!(zero, if down < 0.0 { up } else { down });
            };
            results(&|r| add::<11, 52>(a, b, r));
            results(&|r| mul::<11, 52>(a, b, r));
            results(&|r| div::<11, 52>(a, b, r));
            results(&|r| sqrt::<11, 52>(a, r));
            results(&|r| fma::<11, 52>(a, b, c, r));
        }
    }
}
