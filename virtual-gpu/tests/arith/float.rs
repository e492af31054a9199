use super::*;
use std::cmp::Ordering;
use virtual_gpu::arith::float::*;

const FTZ: Mode = Mode { ftz: true, ..Mode::NEAREST };
const SAT: Mode = Mode { sat: true, ..Mode::NEAREST };

fn with(rounding: Rounding) -> Mode {
    Mode { rounding, ..Mode::NEAREST }
}

/// The exact sum of two f64: the rounded sum and its rounding error.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    let t = s - b;
    (s, (a - t) + (b - (s - t)))
}

/// Compares a float to `s + e`, where `s` is the rounded sum and `e` its error.
fn against(v: f64, (s, e): (f64, f64)) -> Ordering {
    v.partial_cmp(&s).unwrap().then(0f64.partial_cmp(&e).unwrap())
}

#[test]
fn rounding_to_nearest_equals_the_hosts_arithmetic() {
    let mut random = Random(1);
    let m = Mode::NEAREST;
    for _ in 0..200_000 {
        let (a, b, c) = (random.f32(), random.f32(), random.f32());
        assert!(same32(add32(a, b, m), a + b), "{a:e} {b:e}");
        assert!(same32(sub32(a, b, m), a - b), "{a:e} {b:e}");
        assert!(same32(mul32(a, b, m), a * b), "{a:e} {b:e}");
        assert!(same32(div32(a, b, m), a / b), "{a:e} {b:e}");
        assert!(same32(sqrt32(a, m), a.sqrt()), "{a:e}");
        assert!(same32(rcp32(a, m), 1.0 / a), "{a:e}");
        assert!(same32(fma32(a, b, c, m), a.mul_add(b, c)), "{a:e} {b:e} {c:e}");
        let (a, b, c) = (random.f64(), random.f64(), random.f64());
        assert!(same64(add64(a, b, m), a + b));
        assert!(same64(sub64(a, b, m), a - b));
        assert!(same64(mul64(a, b, m), a * b));
        assert!(same64(div64(a, b, m), a / b));
        assert!(same64(sqrt64(a, m), a.sqrt()));
        assert!(same64(fma64(a, b, c, m), a.mul_add(b, c)));
    }
}

/// The sum lies on or beside the midpoint of two f32, normal and subnormal.
#[test]
fn fma_near_midpoints_equals_the_hosts() {
    let mut random = Random(2);
    let check = |a: f32, b: f32, c: f32| {
        assert!(same32(fma32(a, b, c, Mode::NEAREST), a.mul_add(b, c)), "{a:e} {b:e} {c:e}");
    };
    for _ in 0..200_000 {
        let bits = random.next();
        let few = |bits: u64| ((bits & 0xfff) + 1) as f32;
        let c = f32::from_bits((bits >> 32) as u32 & 0x807f_ffff | 0x3f80_0000);
        check(few(bits), few(bits >> 12) * 2f32.powi(-36), c);
        check(1.0 + 2f32.powi(-23) * few(bits), 2f32.powi(-24), c);
        check(1.0 - 2f32.powi(-24) * few(bits), -(2f32.powi(-25)), c);
        // Subnormal results: the products have units below 2^-149.
        let tiny = f32::from_bits((bits >> 32) as u32 & 0x800f_ffff);
        check(few(bits) * 2f32.powi(-75), few(bits >> 12) * 2f32.powi(-80), tiny);
        check(few(bits) * 2f32.powi(-75), (1.0 + f32::EPSILON) * 2f32.powi(-75), tiny);
    }
    check(2f32.powi(-75), 2f32.powi(-75) * (1.0 + f32::EPSILON), 2f32.powi(-127));
}

#[test]
fn directed_roundings_of_f32_are_exact() {
    let mut random = Random(3);
    for i in 0..300_000 {
        let (mut a, mut b, mut c) = (random.f32(), random.f32(), random.f32());
        if i % 2 == 0 {
            // Exponents close enough for the operands to overlap.
            (a, b, c) = (random.near_one(15) as f32, random.near_one(15) as f32, random.near_one(15) as f32);
        }
        if !(a.is_finite() && b.is_finite() && c.is_finite()) {
            continue;
        }
        let (x, y, z) = (a as f64, b as f64, c as f64);
        for r in [Rounding::Zero, Rounding::Down, Rounding::Up] {
            let m = with(r);
            let zero = |v: f32| v == 0.0; // The signs of zeros are tested separately.
            let exact = two_sum(x, y);
            let wanted = directed!(a + b, against((a + b) as f64, exact), r);
            let got = add32(a, b, m);
            assert!(got == wanted, "{a:e} + {b:e} {r:?}: {got:e} {wanted:e}");
            let wanted = directed!(a - b, against((a - b) as f64, two_sum(x, -y)), r);
            assert!(sub32(a, b, m) == wanted, "{a:e} - {b:e} {r:?}");
            let n = (x * y) as f32;
            let got = mul32(a, b, m);
            let wanted = if zero(n) && x * y != 0.0 {
                match r {
                    Rounding::Up if x * y > 0.0 => f32::from_bits(1),
                    Rounding::Down if x * y < 0.0 => -f32::from_bits(1),
                    _ => 0.0,
                }
            } else {
                directed!(n, (n as f64).partial_cmp(&(x * y)).unwrap(), r)
            };
            assert!(got == wanted, "{a:e} * {b:e} {r:?}: {got:e} {wanted:e}");
            let exact = two_sum(x * y, z);
            let n = a.mul_add(b, c);
            let got = fma32(a, b, c, m);
            if !zero(n) {
                let wanted = directed!(n, against(n as f64, exact), r);
                assert!(got == wanted, "{a:e} * {b:e} + {c:e} {r:?}: {got:e} {wanted:e}");
            }
            let n = a / b;
            if n.is_normal() {
                // Compares n to a / b by comparing n b, exact in f64, to a; reversed if b is negative.
                let order = (n as f64 * y).partial_cmp(&x).unwrap();
                let order = if b < 0.0 { order.reverse() } else { order };
                let got = div32(a, b, m);
                let wanted = directed!(n, order, r);
                assert!(got == wanted, "{a:e} / {b:e} {r:?}: {got:e} {wanted:e}");
            }
            if a > 0.0 {
                let n = a.sqrt();
                let order = (n as f64 * n as f64).partial_cmp(&x).unwrap();
                assert!(sqrt32(a, m) == directed!(n, order, r), "sqrt {a:e} {r:?}");
            }
        }
    }
}

#[test]
fn directed_roundings_of_f64_are_exact() {
    let mut random = Random(4);
    for _ in 0..200_000 {
        let (a, b) = (random.near_one(40), random.near_one(40));
        for r in [Rounding::Zero, Rounding::Down, Rounding::Up] {
            let m = with(r);
            assert_eq!(add64(a, b, m), directed!(a + b, against(a + b, two_sum(a, b)), r));
            assert_eq!(sub64(a, b, m), directed!(a - b, against(a - b, two_sum(a, -b)), r));
            // The excess of the rounded result over the exact one; an fma computes it with the right sign.
            let order = |excess: f64| excess.partial_cmp(&0.0).unwrap();
            let p = a * b;
            assert_eq!(mul64(a, b, m), directed!(p, order(-a.mul_add(b, -p)), r));
            let q = a / b;
            let excess = q.mul_add(b, -a) * b.signum();
            assert_eq!(div64(a, b, m), directed!(q, order(excess), r));
            assert_eq!(rcp64(b, m), div64(1.0, b, m));
            let s = a.abs().sqrt();
            assert_eq!(sqrt64(a.abs(), m), directed!(s, order(s.mul_add(s, -a.abs())), r));
        }
        // 53-bit integers: the exact result is a 128-bit integer.
        let integer = |bits: u64| (bits as i64) >> 11;
        let (a, b) = (integer(random.next()), integer(random.next()));
        let scale = random.next() % 70;
        let c = integer(random.next()) as i128 * (1 << scale);
        let exact = a as i128 * b as i128 + c;
        let nearest = exact as f64;
        for r in ROUNDINGS {
            let wanted = directed!(nearest, (nearest as i128).cmp(&exact), r);
            assert_eq!(fma64(a as f64, b as f64, c as f64, with(r)), wanted, "{a} * {b} + {c} {r:?}");
        }
    }
    // Overflow and underflow.
    assert_eq!(mul64(f64::MAX, 2.0, with(Rounding::Zero)), f64::MAX);
    assert_eq!(mul64(f64::MAX, 2.0, with(Rounding::Down)), f64::MAX);
    assert_eq!(mul64(f64::MAX, 2.0, with(Rounding::Up)), f64::INFINITY);
    assert_eq!(mul64(f64::MIN, 2.0, with(Rounding::Down)), f64::NEG_INFINITY);
    assert_eq!(mul64(f64::MIN, 2.0, with(Rounding::Up)), f64::MIN);
    assert_eq!(mul64(f64::from_bits(1), 0.25, with(Rounding::Up)).to_bits(), 1);
    assert_eq!(mul64(f64::from_bits(1), 0.75, with(Rounding::Zero)).to_bits(), 0);
    assert_eq!(mul64(-f64::from_bits(1), 0.25, with(Rounding::Down)).to_bits(), 1 << 63 | 1);
    assert_eq!(mul64(-f64::from_bits(1), 0.25, with(Rounding::Up)).to_bits(), 1 << 63);
    assert_eq!(div64(f64::from_bits(3), 2.0, with(Rounding::Zero)).to_bits(), 1);
    assert_eq!(div64(f64::from_bits(3), 2.0, with(Rounding::Up)).to_bits(), 2);
    assert_eq!(fma64(1.0, 1.0, f64::from_bits(1), with(Rounding::Up)), 1.0 + f64::EPSILON);
    assert_eq!(fma64(1.0, 1.0, -f64::from_bits(1), with(Rounding::Down)), 1.0 - f64::EPSILON / 2.0);
}

#[test]
fn zero_results_have_the_ieee_sign() {
    for r in ROUNDINGS {
        let m = with(r);
        let cancelled = if r == Rounding::Down { 0x8000_0000 } else { 0 };
        assert_eq!(add32(1.5, -1.5, m).to_bits(), cancelled);
        assert_eq!(sub32(1.5, 1.5, m).to_bits(), cancelled);
        assert_eq!(add32(0.0, -0.0, m).to_bits(), cancelled);
        assert_eq!(add32(-0.0, -0.0, m).to_bits(), 0x8000_0000);
        assert_eq!(sub32(-0.0, 0.0, m).to_bits(), 0x8000_0000);
        assert_eq!(fma32(2.0, 3.0, -6.0, m).to_bits(), cancelled);
        assert_eq!(fma32(-0.0, 3.0, -0.0, m).to_bits(), 0x8000_0000);
        assert_eq!(fma32(-0.0, 3.0, 0.0, m).to_bits(), cancelled);
        assert_eq!(mul32(-0.0, 3.0, m).to_bits(), 0x8000_0000);
        assert_eq!(div32(0.0, -3.0, m).to_bits(), 0x8000_0000);
        assert_eq!(div32(1.0, f32::NEG_INFINITY, m).to_bits(), 0x8000_0000);
        assert_eq!(div32(1.0, -0.0, m), f32::NEG_INFINITY);
        assert_eq!(sqrt32(-0.0, m).to_bits(), 0x8000_0000);
        assert_eq!(add64(1.5, -1.5, m).to_bits(), (cancelled as u64) << 32);
        assert_eq!(fma64(2.0, 3.0, -6.0, m).to_bits(), (cancelled as u64) << 32);
    }
}

#[test]
fn infinities_propagate_and_nans_are_canonical() {
    let infinity = f32::INFINITY;
    let quiet = |v: f32| v.to_bits() == 0x7fff_ffff;
    let odd = f32::from_bits(0xff80_0123);
    for r in ROUNDINGS {
        let m = with(r);
        assert_eq!(add32(infinity, f32::MIN, m), infinity);
        assert_eq!(fma32(f32::MAX, f32::MAX, f32::NEG_INFINITY, m), f32::NEG_INFINITY);
        assert_eq!(mul32(infinity, -2.0, m), f32::NEG_INFINITY);
        assert_eq!(sqrt32(infinity, m), infinity);
        assert!(quiet(add32(infinity, -infinity, m)));
        assert!(quiet(mul32(infinity, 0.0, m)));
        assert!(quiet(fma32(infinity, 0.0, 1.0, m)));
        assert!(quiet(fma32(infinity, 1.0, -infinity, m)));
        assert!(quiet(div32(0.0, 0.0, m)));
        assert!(quiet(div32(infinity, infinity, m)));
        assert!(quiet(sqrt32(-1.0, m)));
        assert!(quiet(add32(odd, 1.0, m)) && quiet(mul32(1.0, odd, m)) && quiet(fma32(1.0, 1.0, odd, m)));
        // Double precision: the operand's payload is kept and made quiet.
        let payload = f64::from_bits(0xfff0_0000_0000_1234);
        assert_eq!(add64(1.0, payload, m).to_bits(), 0xfff8_0000_0000_1234);
        assert_eq!(fma64(1.0, 2.0, payload, m).to_bits(), 0xfff8_0000_0000_1234);
        assert_eq!(sqrt64(payload, m).to_bits(), 0xfff8_0000_0000_1234);
        assert_eq!(sub64(f64::INFINITY, f64::INFINITY, m).to_bits(), 0xfff8_0000_0000_0000);
        assert_eq!(sqrt64(-1.0, m).to_bits(), 0xfff8_0000_0000_0000);
    }
}

#[test]
fn ftz_flushes_operands_and_results_and_sat_clamps() {
    let subnormal = f32::from_bits(0x007f_ffff);
    assert_eq!(flush32(-subnormal).to_bits(), 0x8000_0000);
    assert_eq!(flush32(f32::MIN_POSITIVE), f32::MIN_POSITIVE);
    assert_eq!(add32(subnormal, f32::MIN_POSITIVE, FTZ), f32::MIN_POSITIVE);
    assert_eq!(add32(subnormal, subnormal, FTZ).to_bits(), 0);
    assert_eq!(sub32(f32::MIN_POSITIVE, f32::MIN_POSITIVE * 1.5, FTZ).to_bits(), 0x8000_0000);
    assert_eq!(mul32(subnormal, f32::MAX, FTZ), 0.0);
    assert_eq!(mul32(-f32::MIN_POSITIVE, 0.5, FTZ).to_bits(), 0x8000_0000);
    assert_eq!(fma32(subnormal, 1e30, 1.0, FTZ), 1.0);
    assert_eq!(div32(1.0, subnormal, FTZ), f32::INFINITY);
    assert_eq!(rcp32(-subnormal, FTZ), f32::NEG_INFINITY);
    assert_eq!(rcp32(f32::MAX, FTZ), 0.0);
    assert_eq!(sqrt32(subnormal, FTZ), 0.0);
    assert_eq!(add32(0.75, 0.5, SAT), 1.0);
    assert_eq!(add32(0.25, 0.5, SAT), 0.75);
    assert_eq!(add32(-0.75, 0.5, SAT).to_bits(), 0);
    assert_eq!(mul32(-0.0, 1.0, SAT).to_bits(), 0);
    assert_eq!(mul32(f32::INFINITY, 0.0, SAT).to_bits(), 0);
    assert_eq!(fma32(f32::INFINITY, 1.0, 0.0, SAT), 1.0);
    assert_eq!(saturate32(f32::NAN).to_bits(), 0);
}

#[test]
fn minima_and_maxima_order_signed_zeros_and_skip_nan() {
    let nan = f32::from_bits(0xffc0_0001);
    for nan_modifier in [false, true] {
        assert_eq!(min32(-0.0, 0.0, false, nan_modifier).to_bits(), 0x8000_0000);
        assert_eq!(min32(0.0, -0.0, false, nan_modifier).to_bits(), 0x8000_0000);
        assert_eq!(max32(-0.0, 0.0, false, nan_modifier).to_bits(), 0);
        assert_eq!(max32(0.0, -0.0, false, nan_modifier).to_bits(), 0);
        assert_eq!(min32(1.0, f32::NEG_INFINITY, false, nan_modifier), f32::NEG_INFINITY);
        assert_eq!(max32(2.0, 3.0, false, nan_modifier), 3.0);
        assert_eq!(min32(nan, nan, false, nan_modifier).to_bits(), 0x7fff_ffff);
        for (a, b) in [(nan, 5.0), (5.0, nan)] {
            let wanted = if nan_modifier { 0x7fff_ffff } else { 5f32.to_bits() };
            assert_eq!(min32(a, b, false, nan_modifier).to_bits(), wanted);
            assert_eq!(max32(a, b, false, nan_modifier).to_bits(), wanted);
        }
    }
    let tiny = f32::from_bits(5);
    assert_eq!(max32(tiny, -1.0, true, false).to_bits(), 0);
    assert_eq!(min32(-tiny, 1.0, true, false).to_bits(), 0x8000_0000);
    assert_eq!(max32(tiny, -1.0, false, false), tiny);
    assert_eq!(min64(f64::NAN, 2.0), 2.0);
    assert_eq!(max64(2.0, f64::NAN), 2.0);
    assert!(min64(f64::NAN, f64::NAN).is_nan() && max64(f64::NAN, f64::NAN).is_nan());
    assert_eq!(min64(0.0, -0.0).to_bits(), 1 << 63);
    assert_eq!(max64(-0.0, 0.0).to_bits(), 0);
    assert_eq!((min64(1.0, 2.0), max64(1.0, 2.0)), (1.0, 2.0));
    assert_eq!(abs32(-tiny, false), tiny);
    assert_eq!(abs32(-tiny, true).to_bits(), 0);
    assert_eq!(neg32(tiny, true).to_bits(), 0x8000_0000);
    assert_eq!(neg32(-2.0, false), 2.0);
}
