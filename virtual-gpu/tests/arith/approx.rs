use super::*;
use virtual_gpu::arith::approx::*;
use virtual_gpu::arith::half::{Half, bf16_to_f32, f16_to_f32};

const INFINITY: f32 = f32::INFINITY;
const SUBNORMAL: f32 = f32::from_bits(0x0040_0000);

/// Checks the manual's table of results for special operands bit by bit. A NaN result must be 0x7fffffff.
fn table(f: impl Fn(f32) -> f32, rows: &[(f32, f32)]) {
    for &(a, wanted) in rows {
        let wanted = if wanted.is_nan() { 0x7fff_ffff } else { wanted.to_bits() };
        assert_eq!(f(a).to_bits(), wanted, "{a:e}");
    }
    assert_eq!(f(f32::NAN).to_bits(), 0x7fff_ffff);
}

/// The unit in the last place of an f32 near this value.
fn ulp(v: f64) -> f64 {
    let exponent = (v.abs().to_bits() >> 52) as i32 - 1023;
    2f64.powi(exponent.max(-126) - 23)
}

fn positives(seed: u64) -> impl Iterator<Item = f32> {
    let mut random = Random(seed);
    (0..200_000).map(move |_| f32::from_bits(random.next() as u32 % 0x7f80_0000))
}

#[test]
fn special_operands_give_the_manuals_results() {
    for ftz in [false, true] {
        let nan = f32::NAN;
        let roots = [(-INFINITY, nan), (-1.0, nan)];
        table(|a| ex2_32(a, ftz), &[(-INFINITY, 0.0), (-0.0, 1.0), (0.0, 1.0), (INFINITY, INFINITY), (SUBNORMAL, 1.0)]);
        table(|a| ex2_32(a, ftz), &[(128.0, INFINITY), (-151.0, 0.0), (1e30, INFINITY), (-1e30, 0.0), (10.0, 1024.0)]);
        table(|a| lg2_32(a, ftz), &[(-0.0, -INFINITY), (0.0, -INFINITY), (INFINITY, INFINITY), (1.0, 0.0), (8.0, 3.0)]);
        table(|a| lg2_32(a, ftz), &roots);
        table(
            |a| rcp_32(a, ftz),
            &[(-INFINITY, -0.0), (-0.0, -INFINITY), (0.0, INFINITY), (INFINITY, 0.0), (4.0, 0.25)],
        );
        table(|a| rsqrt_32(a, ftz), &[(-0.0, -INFINITY), (0.0, INFINITY), (INFINITY, 0.0), (4.0, 0.5)]);
        table(|a| rsqrt_32(a, ftz), &roots);
        table(|a| sqrt_32(a, ftz), &[(-0.0, -0.0), (0.0, 0.0), (INFINITY, INFINITY), (9.0, 3.0)]);
        table(|a| sqrt_32(a, ftz), &roots);
        table(|a| sin_32(a, ftz), &[(-INFINITY, nan), (-0.0, -0.0), (0.0, 0.0), (INFINITY, nan)]);
        table(|a| cos_32(a, ftz), &[(-INFINITY, nan), (-0.0, 1.0), (0.0, 1.0), (INFINITY, nan)]);
    }
    table(tanh_32, &[(-INFINITY, -1.0), (-0.0, -0.0), (0.0, 0.0), (INFINITY, 1.0), (SUBNORMAL, SUBNORMAL)]);
    // Flushed operands and results are zeros of the same sign.
    assert_eq!(lg2_32(-SUBNORMAL, true), -INFINITY);
    assert!(lg2_32(-SUBNORMAL, false).is_nan());
    assert_eq!(rcp_32(-SUBNORMAL, true), -INFINITY);
    assert_eq!(rcp_32(SUBNORMAL, false), 2f32.powi(127));
    assert_eq!(rcp_32(-f32::MAX, true).to_bits(), 0x8000_0000);
    assert_eq!(rsqrt_32(-SUBNORMAL, true), -INFINITY);
    assert_eq!(sqrt_32(-SUBNORMAL, true).to_bits(), 0x8000_0000);
    assert_eq!(sin_32(-SUBNORMAL, true).to_bits(), 0x8000_0000);
    assert_eq!(ex2_32(-127.0, true), 0.0);
    assert_eq!(ex2_32(-127.0, false), 2f32.powi(-127));
    assert_eq!(ex2_32(-149.0, false).to_bits(), 1);
}

#[test]
fn errors_are_within_the_manuals_bounds() {
    let mut random = Random(51);
    for _ in 0..400_000 {
        let a = (random.next() as f64 / u64::MAX as f64 * 284.0 - 152.0) as f32;
        let exact = (a as f64).exp2();
        if exact < f32::MAX as f64 {
            let error = (ex2_32(a, false) as f64 - exact).abs();
            assert!(error <= 0.501 * ulp(exact), "{a}");
        }
        let angle = random.next() as f64 / u64::MAX as f64 * 200.0 * std::f64::consts::PI;
        for angle in [angle as f32, (angle / 50.0) as f32] {
            assert!((sin_32(angle, false) as f64 - (angle as f64).sin()).abs() <= 2f64.powi(-20));
            assert!((cos_32(angle, false) as f64 - (angle as f64).cos()).abs() <= 2f64.powi(-20));
        }
    }
    for a in positives(52) {
        let x = a as f64;
        let relative = |got: f32, exact: f64| ((got as f64 - exact) / exact).abs();
        let logarithm = (lg2_32(a, false) as f64 - x.log2()).abs();
        assert!(logarithm <= 2f64.powi(-22) * if (0.5..2.0).contains(&a) { 1.0 } else { x.log2().abs() });
        assert!(relative(rsqrt_32(a, false), x.sqrt().recip()) <= 2f64.powi(-22) / 1.87);
        assert!(relative(sqrt_32(a, false), x.sqrt()) <= 2f64.powi(-23));
        assert!(relative(tanh_32(a), x.tanh()) <= 2f64.powi(-11) || a < f32::MIN_POSITIVE);
        let reciprocal = x.recip();
        if reciprocal < f32::MAX as f64 {
            assert!((rcp_32(a, false) as f64 - reciprocal).abs() <= ulp(reciprocal));
        }
    }
}

#[test]
fn quotients_are_within_2_ulp() {
    for (a, b) in positives(53).zip(positives(54)) {
        let exact = a as f64 / b as f64;
        if exact < f32::MAX as f64 {
            assert!((div_full_32(a, b, false) as f64 - exact).abs() <= 2.0 * ulp(exact));
            if (f32::MIN_POSITIVE..=2f32.powi(126)).contains(&b) {
                assert!((div_approx_32(a, b, false) as f64 - exact).abs() <= 2.0 * ulp(exact));
            }
        }
    }
    let large = 2f32.powi(126) * 1.5;
    assert_eq!(div_approx_32(large, large, false).to_bits(), 0);
    assert_eq!(div_approx_32(-1.0, large, false).to_bits(), 0x8000_0000);
    assert_eq!(div_approx_32(1.0, -f32::MAX, true).to_bits(), 0x8000_0000);
    assert_eq!(div_approx_32(INFINITY, large, false).to_bits(), 0x7fff_ffff);
    assert_eq!(div_approx_32(INFINITY, 2f32.powi(126), false), INFINITY);
    assert_eq!(div_approx_32(1.0, INFINITY, false), 0.0);
    assert_eq!(div_approx_32(1.0, 0.0, false), INFINITY);
    assert_eq!(div_full_32(large, large, false), 1.0);
    assert_eq!(div_full_32(1.0, -SUBNORMAL, true), -INFINITY);
    assert_eq!(div_full_32(SUBNORMAL, 1.0, true), 0.0);
    assert_eq!(div_full_32(0.0, 0.0, false).to_bits(), 0x7fff_ffff);
}

#[test]
fn f64_approximations_are_within_2_to_the_minus_19() {
    let nan = 0x7fff_ffff_0000_0000;
    let subnormal = f64::from_bits(1 << 51);
    let infinity = f64::INFINITY;
    for (a, rcp, rsqrt) in [
        (-infinity, (-0f64).to_bits(), nan),
        (-subnormal, (-infinity).to_bits(), (-infinity).to_bits()),
        (-0.0, (-infinity).to_bits(), (-infinity).to_bits()),
        (0.0, infinity.to_bits(), infinity.to_bits()),
        (subnormal, infinity.to_bits(), infinity.to_bits()),
        (infinity, 0, 0),
        (f64::NAN, nan, nan),
        (f64::from_bits(0x7ff0_0000_0000_0001), nan, nan),
        (4.0, 0.25f64.to_bits(), 0.5f64.to_bits()),
    ] {
        assert_eq!(rcp_64_ftz(a).to_bits(), rcp, "{a:e}");
        assert_eq!(rsqrt_64_ftz(a).to_bits(), rsqrt, "{a:e}");
    }
    assert_eq!(rcp_64_ftz(f64::MAX).to_bits(), 0);
    assert_eq!(rsqrt_64(4.0), 0.5);
    assert_eq!(rsqrt_64(-0.0), -infinity);
    assert!(rsqrt_64(-1.0).is_nan() && rsqrt_64(f64::NAN).is_nan());
    let mut random = Random(55);
    for _ in 0..50_000 {
        let a = random.near_one(500).abs();
        for (got, exact) in [(rcp_64_ftz(a), a.recip()), (rsqrt_64_ftz(a), a.sqrt().recip())] {
            assert_eq!(got.to_bits() as u32, 0);
            assert!(((got - exact) / exact).abs() < 2f64.powi(-19));
        }
        let exact = a.sqrt().recip();
        assert!(((rsqrt_64(a) - exact) / exact).abs() < 2f64.powi(-51));
    }
}

#[test]
fn half_precision_errors_are_within_the_manuals_bounds() {
    for bits in 0..=u16::MAX {
        for (kind, a, ex2_bound, tanh_bound) in [
            (Half::F16, f16_to_f32(bits), 2f64.powi(-10), 2f64.powi(-11)),
            (Half::Bf16, bf16_to_f32(bits), 2f64.powi(-8), 2f64.powi(-8)),
        ] {
            let wide = |v: u16| if kind == Half::F16 { f16_to_f32(v) } else { bf16_to_f32(v) } as f64;
            if a.is_nan() {
                assert_eq!((ex2_16(kind, bits, false), tanh_16(kind, bits)), (0x7fff, 0x7fff));
                continue;
            }
            assert!((wide(tanh_16(kind, bits)) - (a as f64).tanh()).abs() <= tanh_bound, "{a:e}");
            let exact = (a as f64).exp2();
            let (least, greatest) = if kind == Half::F16 { (6.2e-5, 65504.0) } else { (1.2e-38, 3.38e38) };
            if exact > least && exact < greatest {
                assert!(((wide(ex2_16(kind, bits, false)) - exact) / exact).abs() <= ex2_bound, "{a:e}");
            }
        }
    }
    assert_eq!(ex2_16(Half::F16, 0xfc00, false), 0);
    assert_eq!(ex2_16(Half::F16, 0x8000, false), 0x3c00);
    assert_eq!(ex2_16(Half::F16, 0x7c00, false), 0x7c00);
    assert_eq!(ex2_16(Half::F16, 0xcc00, false), 0x0100); // 2^-16 is subnormal and kept.
    assert_eq!(ex2_16(Half::Bf16, 0xc2fe, true), 0); // 2^-127 is subnormal and flushed.
    assert_eq!((tanh_16(Half::F16, 0x8000), tanh_16(Half::F16, 0x7c00)), (0x8000, 0x3c00));
    assert_eq!((tanh_16(Half::Bf16, 0xff80), tanh_16(Half::F16, 0x0001)), (0xbf80, 0x0001));
}
