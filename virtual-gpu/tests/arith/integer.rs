use super::*;
use virtual_gpu::arith::integer::*;

/// An operand: an edge value, or random bits of a random length.
fn operand(random: &mut Random) -> u64 {
    let bits = random.next();
    match bits % 8 {
        0 => [0, 1, u64::MAX, 1 << 63, 1 << 31, 0x7fff_ffff, i64::MAX as u64, 0xffff_ffff][(bits >> 8) as usize % 8],
        1..4 => random.next() >> (bits >> 8 & 63),
        _ => random.next(),
    }
}

#[test]
fn products_equal_128_bit_arithmetic() {
    let mut random = Random(31);
    for _ in 0..100_000 {
        let (a, b, c) = (operand(&mut random), operand(&mut random), operand(&mut random));
        let (x, y, z) = (a as i32, b as i32, c as i32);
        assert_eq!(mul_hi_u64(a, b), ((a as u128 * b as u128) >> 64) as u64);
        // The signed product from the unsigned one: subtract b for a negative a, and a for a negative b.
        let correction = if (a as i64) < 0 { b } else { 0 }.wrapping_add(if (b as i64) < 0 { a } else { 0 });
        assert_eq!(mul_hi_s64(a as i64, b as i64) as u64, mul_hi_u64(a, b).wrapping_sub(correction));
        assert_eq!(mul_hi_u32(a as u32, b as u32), (a as u32 as u128 * b as u32 as u128 / (1 << 32)) as u32);
        let product = x as i128 * y as i128;
        assert_eq!(mul_hi_s32(x, y) as i128, product.div_euclid(1 << 32));
        let clamp = |v: i128| v.clamp(i32::MIN as i128, i32::MAX as i128) as i32;
        assert_eq!(mad_hi_sat_s32(x, y, z), clamp(product.div_euclid(1 << 32) + z as i128));
        assert_eq!(add_sat_s32(x, y), clamp(x as i128 + y as i128));
        assert_eq!(sub_sat_s32(x, y), clamp(x as i128 - y as i128));
        let low = |v: i32| (v as i128 + (1 << 23)).rem_euclid(1 << 24) - (1 << 23);
        let product = low(x) * low(y);
        assert_eq!(mul24_lo_s32(x, y), product as i32);
        assert_eq!(mul24_hi_s32(x, y) as i128, product.div_euclid(1 << 16));
        assert_eq!(mad24_lo_s32(x, y, z), (product + z as i128) as i32);
        assert_eq!(mad24_hi_s32(x, y, z), (product.div_euclid(1 << 16) + z as i128) as i32);
        assert_eq!(mad24_hi_sat_s32(x, y, z), clamp(product.div_euclid(1 << 16) + z as i128));
        let (x, y, z) = (a as u32, b as u32, c as u32);
        let product = (x % (1 << 24)) as u128 * (y % (1 << 24)) as u128;
        assert_eq!(mul24_lo_u32(x, y), product as u32);
        assert_eq!(mul24_hi_u32(x, y) as u128, product / (1 << 16));
        assert_eq!(mad24_lo_u32(x, y, z), (product + z as u128) as u32);
        assert_eq!(mad24_hi_u32(x, y, z), (product / (1 << 16) + z as u128) as u32);
    }
}

#[test]
fn quotients_equal_128_bit_arithmetic() {
    let mut random = Random(32);
    for _ in 0..100_000 {
        let (a, b) = (operand(&mut random), operand(&mut random));
        let (x, y) = (a as i32, b as i32);
        if y != 0 {
            let (p, q) = (x as i128, y as i128);
            assert_eq!(div_s32(x, y), (p / q) as i32);
            assert_eq!(rem_s32(x, y), (p - p / q * q) as i32);
            assert_eq!(div_u32(x as u32, y as u32), (x as u32 as f64 / y as u32 as f64) as u32);
            assert_eq!(rem_u32(x as u32, y as u32) as u128, x as u32 as u128 % y as u32 as u128);
        }
        if b != 0 {
            let (p, q) = (a as i64 as i128, b as i64 as i128);
            assert_eq!(div_s64(a as i64, b as i64), (p / q) as i64);
            assert_eq!(rem_s64(a as i64, b as i64), (p - p / q * q) as i64);
            assert_eq!(div_u64(a, b) as u128, a as u128 / b as u128);
            assert_eq!(rem_u64(a, b) as u128, a as u128 % b as u128);
        }
    }
    assert_eq!((div_u32(7, 0), rem_u32(7, 0), div_s32(7, 0), rem_s32(-7, 0)), (u32::MAX, 7, -1, -7));
    assert_eq!((div_u64(7, 0), rem_u64(7, 0), div_s64(7, 0), rem_s64(-7, 0)), (u64::MAX, 7, -1, -7));
    assert_eq!((div_s32(i32::MIN, -1), rem_s32(i32::MIN, -1)), (i32::MIN, 0));
    assert_eq!((div_s64(i64::MIN, -1), rem_s64(i64::MIN, -1)), (i64::MIN, 0));
}

/// The manual's loop over bits for `bfe`.
fn extract(a: u64, msb: u32, signed: bool, b: u32, c: u32) -> u64 {
    let (pos, len) = (b & 0xff, c & 0xff);
    let bit = |i: u32| a >> i & 1;
    let sign = if !signed || len == 0 { 0 } else { bit((pos + len - 1).min(msb)) };
    (0..=msb).map(|i| if i < len && pos + i <= msb { bit(pos + i) } else { sign } << i).sum()
}

fn insert(a: u64, b: u64, msb: u32, c: u32, d: u32) -> u64 {
    let (pos, len) = (c & 0xff, d & 0xff);
    let mut f = b;
    for i in (0..len).take_while(|i| pos + i <= msb) {
        f = f & !(1 << (pos + i)) | (a >> i & 1) << (pos + i);
    }
    f
}

#[test]
fn bit_fields_equal_the_manuals_loops() {
    let mut random = Random(33);
    for pos in 0..300 {
        for len in (0..70).chain([254, 255, 256, 257, 0xffff_ff08]) {
            let (a, b) = (random.next(), random.next());
            let (x, y) = (a as u32, b as u32);
            assert_eq!(bfe_u32(x, pos, len) as u64, extract(x as u64, 31, false, pos, len), "{pos} {len}");
            assert_eq!(bfe_s32(x as i32, pos, len) as u32 as u64, extract(x as u64, 31, true, pos, len), "{pos} {len}");
            assert_eq!(bfe_u64(a, pos, len), extract(a, 63, false, pos, len), "{pos} {len}");
            assert_eq!(bfe_s64(a as i64, pos, len) as u64, extract(a, 63, true, pos, len), "{pos} {len}");
            assert_eq!(bfi_32(x, y, pos, len) as u64, insert(x as u64, y as u64, 31, pos, len), "{pos} {len}");
            assert_eq!(bfi_64(a, b, pos, len), insert(a, b, 63, pos, len), "{pos} {len}");
        }
    }
}

/// The manual's loop for `bfind`: down from the highest bit to the first that is set, or clear for negative numbers.
fn find(a: u64, msb: u32, signed: bool, shiftamt: bool) -> u32 {
    let a = if signed && a >> msb & 1 != 0 { !a } else { a };
    match (0..=msb).rev().find(|i| a >> i & 1 != 0) {
        Some(i) if shiftamt => msb - i,
        Some(i) => i,
        None => 0xffff_ffff,
    }
}

#[test]
fn bit_counts_equal_loops_over_bits() {
    let mut random = Random(34);
    for _ in 0..20_000 {
        let a = operand(&mut random);
        let x = a as u32;
        for shiftamt in [false, true] {
            assert_eq!(bfind_u32(x, shiftamt), find(x as u64, 31, false, shiftamt));
            assert_eq!(bfind_s32(x as i32, shiftamt), find(x as u64, 31, true, shiftamt));
            assert_eq!(bfind_u64(a, shiftamt), find(a, 63, false, shiftamt));
            assert_eq!(bfind_s64(a as i64, shiftamt), find(a, 63, true, shiftamt));
        }
        assert_eq!(popc_64(a) as u64, (0..64).map(|i| a >> i & 1).sum());
        assert_eq!(popc_32(x) as u64, (0..32).map(|i| x as u64 >> i & 1).sum());
        assert_eq!(clz_64(a), (0..64).take_while(|i| a >> (63 - i) & 1 == 0).count() as u32);
        assert_eq!(clz_32(x), (0..32).take_while(|i| x >> (31 - i) & 1 == 0).count() as u32);
        assert_eq!(brev_64(a), (0..64).map(|i| (a >> i & 1) << (63 - i)).sum());
        assert_eq!(brev_32(x), (0..32).map(|i| (x >> i & 1) << (31 - i)).sum());
    }
}

#[test]
fn carries_chain_two_words_exactly() {
    let mut random = Random(35);
    for _ in 0..50_000 {
        let (a, b) = (operand(&mut random), operand(&mut random));
        for carry in [false, true] {
            let (low, out) = add_carry_32(a as u32, b as u32, carry);
            let (high, out) = add_carry_32((a >> 32) as u32, (b >> 32) as u32, out);
            let wanted = a as u128 + b as u128 + carry as u128;
            assert_eq!(((high as u64) << 32 | low as u64, out), (wanted as u64, wanted >> 64 != 0));
            assert_eq!(add_carry_64(a, b, carry), (wanted as u64, wanted >> 64 != 0));
            let (low, out) = sub_borrow_32(a as u32, b as u32, carry);
            let (high, out) = sub_borrow_32((a >> 32) as u32, (b >> 32) as u32, out);
            let wanted = a as i128 - b as i128 - carry as i128;
            assert_eq!(((high as u64) << 32 | low as u64, out), (wanted as u64, wanted < 0));
            assert_eq!(sub_borrow_64(a, b, carry), (wanted as u64, wanted < 0));
        }
    }
}

#[test]
fn sad_adds_the_absolute_difference() {
    let mut random = Random(36);
    for _ in 0..50_000 {
        let (a, b, c) = (operand(&mut random), operand(&mut random), operand(&mut random));
        macro_rules! check {
            ($($sad:ident $t:ty),*) => {
                $({
                    let (a, b, c) = (a as $t, b as $t, c as $t);
                    let distance = (a as i128 - b as i128).abs();
                    assert_eq!($sad(a, b, c), (c as i128 + distance) as $t);
                })*
            };
        }
        check!(sad_s16 i16, sad_u16 u16, sad_s32 i32, sad_u32 u32, sad_s64 i64, sad_u64 u64);
    }
}

#[test]
fn shifts_equal_repeated_shifts_by_one() {
    let mut random = Random(37);
    for amount in (0..70).chain([128, 255, 256, 0x8000_0000, u32::MAX]) {
        for _ in 0..100 {
            let a = random.next();
            // One position at a time.
            let times = amount.min(70);
            let left = (0..times).fold(a, |a, _| a << 1);
            let right = (0..times).fold(a, |a, _| a >> 1);
            let signed = (0..times).fold(a as i64, |a, _| a >> 1);
            assert_eq!((shl_64(a, amount), shr_u64(a, amount), shr_s64(a as i64, amount)), (left, right, signed));
            let x = a as u32;
            assert_eq!(shl_32(x, amount), (0..times).fold(x, |a, _| a << 1));
            assert_eq!(shr_u32(x, amount), (0..times).fold(x, |a, _| a >> 1));
            assert_eq!(shr_s32(x as i32, amount), (0..times).fold(x as i32, |a, _| a >> 1));
            let x = a as u16;
            assert_eq!(shl_16(x, amount), (0..times).fold(x, |a, _| a << 1));
            assert_eq!(shr_u16(x, amount), (0..times).fold(x, |a, _| a >> 1));
            assert_eq!(shr_s16(x as i16, amount), (0..times).fold(x as i16, |a, _| a >> 1));
            let (low, high) = (a as u32, (a >> 32) as u32);
            for wrap in [false, true] {
                let n = if wrap { amount % 32 } else { amount.min(32) };
                assert_eq!(shf_l(low, high, amount, wrap), shl_32(high, n) | shr_u32(low, 32 - n));
                assert_eq!(shf_r(low, high, amount, wrap), shl_32(high, 32 - n) | shr_u32(low, n));
            }
        }
    }
}

#[test]
fn prmt_equals_the_manuals_table() {
    let (a, b) = (0x3322_1100, 0x7766_5544);
    // The manual's table of modes, for bytes equal to their index. A row for each value of the selector's low two bits.
    let modes = [
        (Prmt::F4e, [0x33221100, 0x44332211, 0x55443322, 0x66554433]),
        (Prmt::B4e, [0x55667700, 0x66770011, 0x77001122, 0x00112233]),
        (Prmt::Rc8, [0x00000000, 0x11111111, 0x22222222, 0x33333333]),
        (Prmt::Ecl, [0x33221100, 0x33221111, 0x33222222, 0x33333333]),
        (Prmt::Ecr, [0x00000000, 0x11111100, 0x22221100, 0x33221100]),
        (Prmt::Rc16, [0x11001100, 0x33223322, 0x11001100, 0x33223322]),
    ];
    for (mode, wanted) in modes {
        for (selector, wanted) in wanted.into_iter().enumerate() {
            for above in [0, 4, 0xffff_fffc] {
                assert_eq!(prmt(a, b, selector as u32 | above, mode), wanted, "{mode:?} {selector}");
            }
        }
    }
    let mut random = Random(38);
    for selector in 0..=0xffffu32 {
        let bytes = random.next();
        let got = prmt(bytes as u32, (bytes >> 32) as u32, selector | 0xabcd_0000, Prmt::Default);
        for i in 0..4 {
            let s = selector >> (4 * i) & 15;
            let byte = bytes.to_le_bytes()[s as usize & 7];
            let wanted = if s < 8 {
                byte
            } else if byte > 127 {
                0xff
            } else {
                0
            };
            assert_eq!(got.to_le_bytes()[i], wanted, "{selector:04x}");
        }
    }
}

#[test]
fn lop3_applies_its_table_to_every_bit() {
    let mut random = Random(39);
    for lut in 0..=255u8 {
        let (a, b, c) = (random.next() as u32, random.next() as u32, random.next() as u32);
        let d = lop3(a, b, c, lut);
        for i in 0..32 {
            let index = (a >> i & 1) * 4 + (b >> i & 1) * 2 + (c >> i & 1);
            assert_eq!(d >> i & 1, (lut >> index & 1) as u32);
        }
        // The manual's rule for the table: apply the function to these three constants.
        let (ta, tb, tc) = (0xf0, 0xcc, 0xaa);
        assert_eq!(lop3(a, b, c, ta & tb & tc), a & b & c);
        assert_eq!(lop3(a, b, c, ta | tb | tc), a | b | c);
        assert_eq!(lop3(a, b, c, ta & tb & !tc), a & b & !c);
        assert_eq!(lop3(a, b, c, ta & tb | !tc), a & b | !c);
        assert_eq!(lop3(a, b, c, ta ^ tb ^ tc), a ^ b ^ c);
    }
}

#[test]
fn dp4a_and_dp2a_equal_64_bit_sums() {
    let mut random = Random(40);
    for _ in 0..20_000 {
        let (a, b, c) = (random.next() as u32, random.next() as u32, operand(&mut random) as u32);
        for (a_signed, b_signed) in [(false, false), (false, true), (true, false), (true, true)] {
            let byte = |v: u32, i: usize, signed: bool| {
                if signed { v.to_le_bytes()[i] as i8 as i64 } else { v.to_le_bytes()[i] as i64 }
            };
            let sum: i64 = (0..4).map(|i| byte(a, i, a_signed) * byte(b, i, b_signed)).sum();
            assert_eq!(dp4a(a, a_signed, b, b_signed, c), (sum + c as i64) as u32);
            let half = |i: usize| {
                let v = [a as u16, (a >> 16) as u16][i];
                if a_signed { v as i16 as i64 } else { v as i64 }
            };
            let low = half(0) * byte(b, 0, b_signed) + half(1) * byte(b, 1, b_signed);
            let high = half(0) * byte(b, 2, b_signed) + half(1) * byte(b, 3, b_signed);
            assert_eq!(dp2a(a, a_signed, b, b_signed, c, false), (low + c as i64) as u32);
            assert_eq!(dp2a(a, a_signed, b, b_signed, c, true), (high + c as i64) as u32);
        }
    }
}

#[test]
fn fns_equals_the_manuals_loop() {
    // The manual's loop for `fns`.
    let reference = |mask: u32, base: u32, offset: i32| {
        if offset == 0 {
            return if mask >> base & 1 != 0 { base } else { u32::MAX };
        }
        let (mut pos, mut count) = (base as i32, offset.abs() - 1);
        while (0..32).contains(&pos) {
            if mask >> pos & 1 != 0 {
                if count == 0 {
                    return pos as u32;
                }
                count -= 1;
            }
            pos += offset.signum();
        }
        u32::MAX
    };
    let mut random = Random(41);
    for base in 0..32 {
        for offset in -33..34 {
            for _ in 0..20 {
                let mask = (random.next() & random.next()) as u32;
                assert_eq!(fns(mask, base, offset), reference(mask, base, offset), "{mask:08x} {base} {offset}");
            }
        }
    }
}
