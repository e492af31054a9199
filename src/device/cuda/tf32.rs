//! TF32 on the host: 8 bits of exponent and 10 of fraction, stored as fp32 whose last 13 bits are zero.

/// The nearest TF32 number, of two equally near ones the one away from zero: the bits of `cvt.rna.tf32.f32`, so that what is
/// uploaded equals what a kernel stores.
pub(super) fn round(value: f32) -> f32 {
    if value.is_nan() {
        return f32::from_bits(0x7fff_e000);
    }
    if value.is_infinite() {
        return value;
    }
    // A carry into the exponent gives the right result, infinity too.
    f32::from_bits((value.to_bits() + 0x1000) & !0x1fff)
}

#[test]
fn rounding_is_to_nearest_and_ties_go_away_from_zero() {
    let ulp = 2f32.powi(-10);
    for sign in [1.0, -1.0] {
        assert_eq!(round(sign), sign);
        assert_eq!(round(sign * (1.0 + 0.5 * ulp)), sign * (1.0 + ulp));
        assert_eq!(round(sign * (1.0 + 0.499 * ulp)), sign);
        assert_eq!(round(sign * (1.0 + 1.5 * ulp)), sign * (1.0 + 2.0 * ulp));
        assert_eq!(round(sign * (2.0 - 0.25 * ulp)), sign * 2.0);
        assert_eq!(round(sign * f32::MAX), sign * f32::INFINITY);
        assert_eq!(round(sign * f32::INFINITY), sign * f32::INFINITY);
    }
    // A payload in the last 13 bits alone is no reason to become infinity.
    for nan in [f32::NAN, f32::from_bits(0x7f80_0001), f32::from_bits(0xffff_ffff)] {
        assert!(round(nan).is_nan() && round(nan).to_bits() & 0x1fff == 0);
    }
    assert_eq!(round(-0.0).to_bits(), (-0f32).to_bits());
}
