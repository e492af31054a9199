use super::*;
use virtual_gpu::arith::convert::*;

const ALL: [Rounding; 5] = [Rounding::Nearest, Rounding::Zero, Rounding::Down, Rounding::Up, Rounding::NearestAway];

#[test]
fn tf32_rounds_correctly_in_every_mode() {
    let mut random = Random(21);
    for i in 0..1_000_000u64 {
        let mut v = random.f32();
        if i % 4 == 0 {
            // A midpoint, or a neighbour of one.
            v = f32::from_bits((v.to_bits() & 0xffff_f000 | 0x1000).wrapping_add((i / 4 % 3) as u32).wrapping_sub(1));
        }
        for r in ALL {
            let got = f32_to_tf32(v, r);
            assert_eq!(got & 0x1fff, 0);
            if v.is_nan() {
                assert!(f32::from_bits(got).is_nan());
                continue;
            }
            let low = v.to_bits() & !0x1fff;
            let high = low.wrapping_add(0x2000); // away from zero
            if low == v.to_bits() {
                assert_eq!(got, low);
                continue;
            }
            let left = v.to_bits() & 0x1fff;
            let away = match r {
                Rounding::Nearest => left > 0x1000 || (left == 0x1000 && low & 0x2000 != 0),
                Rounding::NearestAway => left >= 0x1000,
                Rounding::Zero => false,
                Rounding::Down => v < 0.0,
                Rounding::Up => v > 0.0,
            };
            assert_eq!(got, if away { high } else { low }, "{v:e} {r:?}");
        }
    }
    assert_eq!(f32_to_tf32(f32::MAX, Rounding::NearestAway), f32::INFINITY.to_bits());
    assert_eq!(f32_to_tf32(f32::MAX, Rounding::Zero), 0x7f7f_e000);
}

/// The value rounded to an integer, from its integral part and its exact fraction.
fn rounded(v: f64, r: Rounding) -> i128 {
    let (whole, left) = (v.trunc() as i128, v.fract().abs());
    let away = match r {
        Rounding::Nearest => left > 0.5 || (left == 0.5 && whole % 2 != 0),
        Rounding::NearestAway => left >= 0.5,
        Rounding::Zero => false,
        Rounding::Down => left > 0.0 && v < 0.0,
        Rounding::Up => left > 0.0 && v > 0.0,
    };
    if away { whole + if v < 0.0 { -1 } else { 1 } } else { whole }
}

#[test]
fn floats_to_integers_round_and_clamp() {
    let mut random = Random(22);
    for bits in [8, 16, 32, 64] {
        for signed in [false, true] {
            let (least, greatest) =
                if signed { (-1i128 << (bits - 1), (1i128 << (bits - 1)) - 1) } else { (0, (1i128 << bits) - 1) };
            let mut values = vec![0.0, -0.0, 1e300, -1e300, f64::from_bits(1), -f64::from_bits(1)];
            for bound in [least, greatest, greatest + 1, 0] {
                let bound = bound as f64;
                for step in [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5] {
                    values.extend([bound + step, bound - step]);
                }
                values.extend([bound.next_up(), bound.next_down(), (bound + 0.5).next_down(), (bound - 0.5).next_up()]);
            }
            values.extend((0..20_000).map(|_| random.near_one(66)));
            for v in values {
                for r in ALL {
                    let wanted = rounded(v, r).clamp(least, greatest) as u64;
                    assert_eq!(float_to_int(v, bits, signed, r), wanted, "{v:e} {bits} {signed} {r:?}");
                    assert_eq!(f64_to_int(v, bits, signed, r), wanted, "{v:e} {bits} {signed} {r:?}");
                }
            }
            for r in ALL {
                assert_eq!(float_to_int(f64::INFINITY, bits, signed, r), greatest as u64);
                assert_eq!(float_to_int(f64::NEG_INFINITY, bits, signed, r), least as u64);
                let highest = 1u64 << (bits - 1);
                let of_nan = if signed { highest.wrapping_neg() } else { highest };
                assert_eq!(f64_to_int(f64::NAN, bits, signed, r), of_nan);
                assert_eq!(float_to_int(f64::NAN, bits, signed, r), if bits == 64 { 1 << 63 } else { 0 });
            }
        }
    }
}

#[test]
fn integers_to_floats_round_correctly_in_every_mode() {
    let mut random = Random(23);
    let mut values = vec![0, 1, -1, i64::MIN as i128, i64::MAX as i128, u64::MAX as i128, 1 << 63, 16777217, -16777219];
    for _ in 0..100_000 {
        let bits = random.next();
        let shift = random.next() % 64;
        values.extend([(bits >> shift) as i128, (bits as i64 >> shift) as i128]);
        // Midpoints of f32 and their neighbours.
        let middle = (bits >> 39 | 1 << 24 | 1) as i128;
        values.extend([middle << (shift % 39), (middle << (shift % 39)) + 1, -(middle << (shift % 39)) - 1]);
    }
    for v in values {
        let (n32, n64) = (v as f32, v as f64);
        for r in ROUNDINGS {
            assert_eq!(int_to_f32(v, r), directed!(n32, (n32 as i128).cmp(&v), r), "{v} {r:?}");
            assert_eq!(int_to_f64(v, r), directed!(n64, (n64 as i128).cmp(&v), r), "{v} {r:?}");
        }
        assert_eq!(int_to_f32(v, Rounding::Nearest).to_bits(), n32.to_bits());
        // Exact in f64, whose conversions to 16 bits are tested in `half`.
        if v.abs() < 1 << 53 {
            for r in ALL {
                assert_eq!(int_to_f16(v, r), virtual_gpu::arith::half::f64_to_f16(v as f64, r), "{v} {r:?}");
                assert_eq!(int_to_bf16(v, r), virtual_gpu::arith::half::f64_to_bf16(v as f64, r), "{v} {r:?}");
            }
        }
    }
    assert_eq!(int_to_f16(65519, Rounding::Nearest), 0x7bff);
    assert_eq!(int_to_f16(65520, Rounding::Nearest), 0x7c00);
    assert_eq!(int_to_f16(-70000, Rounding::Zero), 0xfbff);
}

#[test]
fn f64_to_f32_rounds_correctly_in_every_mode() {
    let mut random = Random(24);
    for i in 0..300_000 {
        let v = if i % 2 == 0 { random.near_one(160) } else { random.f64() };
        if v.is_nan() {
            assert_eq!(f64_to_f32(v, Rounding::Up, false, false).to_bits(), 0x7fff_ffff);
            continue;
        }
        let nearest = v as f32;
        for r in ROUNDINGS {
            let got = f64_to_f32(v, r, false, false);
            let wanted = if nearest == 0.0 && v != 0.0 {
                match r {
                    Rounding::Up if v > 0.0 => f32::from_bits(1),
                    Rounding::Down if v < 0.0 => f32::from_bits(0x8000_0001),
                    _ => nearest,
                }
            } else {
                directed!(nearest, (nearest as f64).partial_cmp(&v).unwrap(), r)
            };
            assert_eq!(got.to_bits(), wanted.to_bits(), "{v:e} {r:?}");
        }
    }
    let tie = 1.0 + 2f64.powi(-24);
    assert_eq!(f64_to_f32(tie, Rounding::Nearest, false, false), 1.0);
    assert_eq!(f64_to_f32(tie.next_up(), Rounding::Nearest, false, false), 1.0 + f32::EPSILON);
    assert_eq!(f64_to_f32(-1e-40, Rounding::Nearest, true, false).to_bits(), 0x8000_0000);
    assert_eq!(f64_to_f32(2.0, Rounding::Nearest, false, true), 1.0);
    assert_eq!(f64_to_f32(f64::NAN, Rounding::Nearest, false, true).to_bits(), 0);
}

#[test]
fn rounding_to_integral_values_is_exact() {
    let mut random = Random(25);
    for _ in 0..200_000 {
        let v = random.near_one(60);
        for r in ALL {
            assert_eq!(round_to_integer64(v, r), rounded(v, r) as f64, "{v:e} {r:?}");
            let v = v as f32;
            assert_eq!(round_to_integer32(v, r), rounded(v as f64, r) as f32, "{v:e} {r:?}");
        }
    }
    assert_eq!(round_to_integer32(-0.25, Rounding::Nearest).to_bits(), 0x8000_0000);
    assert_eq!(round_to_integer32(-0.25, Rounding::Up).to_bits(), 0x8000_0000);
    assert_eq!(round_to_integer32(f32::NEG_INFINITY, Rounding::Zero), f32::NEG_INFINITY);
    assert_eq!(round_to_integer32(f32::NAN, Rounding::Zero).to_bits(), 0x7fff_ffff);
    assert_eq!(
        round_to_integer64(f64::from_bits(0x7ff0_0000_0000_0001), Rounding::Up).to_bits(),
        0x7ff8_0000_0000_0001
    );
}

#[test]
fn integers_to_integers_extend_truncate_and_saturate() {
    let mut random = Random(26);
    macro_rules! check {
        ($($from:ty => $($to:ty),*;)*) => {
            $($(for _ in 0..2000 {
                let bits = random.next();
                // Small magnitudes too, and any bits above the source's width.
                let v = if bits & 1 == 0 { bits } else { (bits as i64 >> (bits >> 1 & 63)) as u64 };
                let source = v as $from;
                let (from, to) = (<$from>::BITS, <$to>::BITS);
                let (from_signed, to_signed) = (<$from>::MIN != 0, <$to>::MIN != 0);
                let cut = source as $to as i128 as u64;
                assert_eq!(int_to_int(v, from, from_signed, to, to_signed, false), cut);
                let limited = if source as i128 > <$to>::MAX as i128 {
                    <$to>::MAX
                } else if (source as i128) < <$to>::MIN as i128 {
                    <$to>::MIN
                } else {
                    source as $to
                };
                assert_eq!(int_to_int(v, from, from_signed, to, to_signed, true), limited as i128 as u64);
            })*)*
        };
    }
    check! {
        i8 => i8, u8, i16, u16, i32, u32, i64, u64;
        u8 => i8, u8, i16, u16, i32, u32, i64, u64;
        i16 => i8, u8, i16, u16, i32, u32, i64, u64;
        u16 => i8, u8, i16, u16, i32, u32, i64, u64;
        i32 => i8, u8, i16, u16, i32, u32, i64, u64;
        u32 => i8, u8, i16, u16, i32, u32, i64, u64;
        i64 => i8, u8, i16, u16, i32, u32, i64, u64;
        u64 => i8, u8, i16, u16, i32, u32, i64, u64;
    }
}
