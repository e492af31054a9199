//! Integer instructions: PTX ISA 9.0, "Integer Arithmetic Instructions", "Extended-Precision Integer Arithmetic
//! Instructions" and "Logic and Shift Instructions", and `prmt`.
//!
//! The manual leaves division by zero unspecified. Here the quotient is all ones and the remainder is the dividend. The
//! least signed number divided by -1 wraps around to itself, with remainder zero.

/// `mul.hi.s32`.
#[inline]
pub fn mul_hi_s32(a: i32, b: i32) -> i32 {
    ((a as i64 * b as i64) >> 32) as i32
}

/// `div.s32`.
#[inline]
pub fn div_s32(a: i32, b: i32) -> i32 {
    if b == 0 { !0 } else { a.wrapping_div(b) }
}

/// `rem.s32`: the remainder has the dividend's sign.
#[inline]
pub fn rem_s32(a: i32, b: i32) -> i32 {
    if b == 0 { a } else { a.wrapping_rem(b) }
}

/// `bfe.s32`: sign-extends the field from its highest bit, or from the number's if the field ends beyond it.
#[inline]
pub fn bfe_s32(a: i32, pos: u32, len: u32) -> i32 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    if len == 0 {
        return 0;
    }
    // An arithmetic shift fills with the number's highest bit, which is the extension of a field that ends beyond it.
    let field = a >> pos.min(31);
    let unused = 32u32.saturating_sub(len);
    field << unused >> unused
}

/// `bfind.s32`: the position of the highest bit that differs from the sign; see [`bfind_u32`].
#[inline]
pub fn bfind_s32(a: i32, shiftamt: bool) -> u32 {
    bfind_u32((if a < 0 { !a } else { a }) as u32, shiftamt)
}

/// `mul.hi.u32`.
#[inline]
pub fn mul_hi_u32(a: u32, b: u32) -> u32 {
    ((a as u64 * b as u64) >> 32) as u32
}

/// `div.u32`.
#[inline]
pub fn div_u32(a: u32, b: u32) -> u32 {
    if b == 0 { !0 } else { a.wrapping_div(b) }
}

/// `rem.u32`.
#[inline]
pub fn rem_u32(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { a.wrapping_rem(b) }
}

/// `bfe.u32`: position and length are taken modulo 256; bits beyond the number's highest are zero.
#[inline]
pub fn bfe_u32(a: u32, pos: u32, len: u32) -> u32 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    let field = a.checked_shr(pos).unwrap_or(0);
    if len > 31 { field } else { field & ((1 << len) - 1) }
}

/// `bfind.u32`: the position of the highest set bit, or with `.shiftamt` the left shift that moves it to the top. All
/// ones if no bit is set.
#[inline]
pub fn bfind_u32(a: u32, shiftamt: bool) -> u32 {
    match a.leading_zeros() {
        32 => u32::MAX,
        zeros if shiftamt => zeros,
        zeros => 31 - zeros,
    }
}

/// `mul.hi.s64`.
#[inline]
pub fn mul_hi_s64(a: i64, b: i64) -> i64 {
    ((a as i128 * b as i128) >> 64) as i64
}

/// `div.s64`.
#[inline]
pub fn div_s64(a: i64, b: i64) -> i64 {
    if b == 0 { !0 } else { a.wrapping_div(b) }
}

/// `rem.s64`: the remainder has the dividend's sign.
#[inline]
pub fn rem_s64(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { a.wrapping_rem(b) }
}

/// `bfe.s64`: sign-extends the field from its highest bit, or from the number's if the field ends beyond it.
#[inline]
pub fn bfe_s64(a: i64, pos: u32, len: u32) -> i64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    if len == 0 {
        return 0;
    }
    // An arithmetic shift fills with the number's highest bit, which is the extension of a field that ends beyond it.
    let field = a >> pos.min(63);
    let unused = 64u32.saturating_sub(len);
    field << unused >> unused
}

/// `bfind.s64`: the position of the highest bit that differs from the sign; see [`bfind_u64`].
#[inline]
pub fn bfind_s64(a: i64, shiftamt: bool) -> u32 {
    bfind_u64((if a < 0 { !a } else { a }) as u64, shiftamt)
}

/// `mul.hi.u64`.
#[inline]
pub fn mul_hi_u64(a: u64, b: u64) -> u64 {
    ((a as u128 * b as u128) >> 64) as u64
}

/// `div.u64`.
#[inline]
pub fn div_u64(a: u64, b: u64) -> u64 {
    if b == 0 { !0 } else { a.wrapping_div(b) }
}

/// `rem.u64`.
#[inline]
pub fn rem_u64(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { a.wrapping_rem(b) }
}

/// `bfe.u64`: position and length are taken modulo 256; bits beyond the number's highest are zero.
#[inline]
pub fn bfe_u64(a: u64, pos: u32, len: u32) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    let field = a.checked_shr(pos).unwrap_or(0);
    if len > 63 { field } else { field & ((1 << len) - 1) }
}

/// `bfind.u64`: the position of the highest set bit, or with `.shiftamt` the left shift that moves it to the top. All
/// ones if no bit is set.
#[inline]
pub fn bfind_u64(a: u64, shiftamt: bool) -> u32 {
    match a.leading_zeros() {
        64 => u32::MAX,
        zeros if shiftamt => zeros,
        zeros => 63 - zeros,
    }
}

/// `sad.s16`: `c + |a - b|`.
#[inline]
pub fn sad_s16(a: i16, b: i16, c: i16) -> i16 {
    c.wrapping_add_unsigned(a.abs_diff(b))
}

/// `sad.u16`: `c + |a - b|`.
#[inline]
pub fn sad_u16(a: u16, b: u16, c: u16) -> u16 {
    c.wrapping_add(a.abs_diff(b))
}

/// `sad.s32`: `c + |a - b|`.
#[inline]
pub fn sad_s32(a: i32, b: i32, c: i32) -> i32 {
    c.wrapping_add_unsigned(a.abs_diff(b))
}

/// `sad.u32`: `c + |a - b|`.
#[inline]
pub fn sad_u32(a: u32, b: u32, c: u32) -> u32 {
    c.wrapping_add(a.abs_diff(b))
}

/// `sad.s64`: `c + |a - b|`.
#[inline]
pub fn sad_s64(a: i64, b: i64, c: i64) -> i64 {
    c.wrapping_add_unsigned(a.abs_diff(b))
}

/// `sad.u64`: `c + |a - b|`.
#[inline]
pub fn sad_u64(a: u64, b: u64, c: u64) -> u64 {
    c.wrapping_add(a.abs_diff(b))
}

/// The low 24 bits, sign-extended.
#[inline]
fn low24_s32(a: i32) -> i64 {
    (a << 8 >> 8) as i64
}

/// The low 24 bits, zero-extended.
#[inline]
fn low24_u32(a: u32) -> u64 {
    (a & 0xff_ffff) as u64
}

/// `mul24.lo.s32`: the low 32 bits of the 48-bit product.
#[inline]
pub fn mul24_lo_s32(a: i32, b: i32) -> i32 {
    (low24_s32(a) * low24_s32(b)) as i32
}

/// `mul24.hi.s32`: the high 32 bits of the 48-bit product.
#[inline]
pub fn mul24_hi_s32(a: i32, b: i32) -> i32 {
    ((low24_s32(a) * low24_s32(b)) >> 16) as i32
}

/// `mad24.lo.s32`.
#[inline]
pub fn mad24_lo_s32(a: i32, b: i32, c: i32) -> i32 {
    mul24_lo_s32(a, b).wrapping_add(c)
}

/// `mad24.hi.s32`.
#[inline]
pub fn mad24_hi_s32(a: i32, b: i32, c: i32) -> i32 {
    mul24_hi_s32(a, b).wrapping_add(c)
}

/// `mul24.lo.u32`: the low 32 bits of the 48-bit product.
#[inline]
pub fn mul24_lo_u32(a: u32, b: u32) -> u32 {
    (low24_u32(a) * low24_u32(b)) as u32
}

/// `mul24.hi.u32`: the high 32 bits of the 48-bit product.
#[inline]
pub fn mul24_hi_u32(a: u32, b: u32) -> u32 {
    ((low24_u32(a) * low24_u32(b)) >> 16) as u32
}

/// `mad24.lo.u32`.
#[inline]
pub fn mad24_lo_u32(a: u32, b: u32, c: u32) -> u32 {
    mul24_lo_u32(a, b).wrapping_add(c)
}

/// `mad24.hi.u32`.
#[inline]
pub fn mad24_hi_u32(a: u32, b: u32, c: u32) -> u32 {
    mul24_hi_u32(a, b).wrapping_add(c)
}

/// `mad24.hi.sat.s32`.
#[inline]
pub fn mad24_hi_sat_s32(a: i32, b: i32, c: i32) -> i32 {
    mul24_hi_s32(a, b).saturating_add(c)
}

/// `mad.hi.sat.s32`.
#[inline]
pub fn mad_hi_sat_s32(a: i32, b: i32, c: i32) -> i32 {
    mul_hi_s32(a, b).saturating_add(c)
}

/// `add.sat.s32`.
#[inline]
pub fn add_sat_s32(a: i32, b: i32) -> i32 {
    a.saturating_add(b)
}

/// `sub.sat.s32`.
#[inline]
pub fn sub_sat_s32(a: i32, b: i32) -> i32 {
    a.saturating_sub(b)
}

/// `bfi.b32`: writes the low `len` bits of `insert` into `base` at bit `pos`; bits beyond the top are dropped. Position
/// and length are taken modulo 256.
#[inline]
pub fn bfi_32(insert: u32, base: u32, pos: u32, len: u32) -> u32 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    let field = if len >= 32 { u32::MAX } else { (1 << len) - 1 };
    let mask = field.checked_shl(pos).unwrap_or(0);
    base & !mask | insert.checked_shl(pos).unwrap_or(0) & mask
}

/// `popc.b32`.
#[inline]
pub fn popc_32(a: u32) -> u32 {
    a.count_ones()
}

/// `clz.b32`: 32 for zero.
#[inline]
pub fn clz_32(a: u32) -> u32 {
    a.leading_zeros()
}

/// `brev.b32`.
#[inline]
pub fn brev_32(a: u32) -> u32 {
    a.reverse_bits()
}

/// `add.cc` (with `carry` false), `addc` and `addc.cc` of 32 bits: the sum and the carry-out.
#[inline]
pub fn add_carry_32(a: u32, b: u32, carry: bool) -> (u32, bool) {
    let (sum, over) = a.overflowing_add(b);
    let (sum, over_again) = sum.overflowing_add(carry as u32);
    (sum, over | over_again)
}

/// `sub.cc` (with `borrow` false), `subc` and `subc.cc` of 32 bits: the difference and the borrow-out.
#[inline]
pub fn sub_borrow_32(a: u32, b: u32, borrow: bool) -> (u32, bool) {
    let (difference, under) = a.overflowing_sub(b);
    let (difference, under_again) = difference.overflowing_sub(borrow as u32);
    (difference, under | under_again)
}

/// `bfi.b64`: writes the low `len` bits of `insert` into `base` at bit `pos`; bits beyond the top are dropped. Position
/// and length are taken modulo 256.
#[inline]
pub fn bfi_64(insert: u64, base: u64, pos: u32, len: u32) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    let field = if len >= 64 { u64::MAX } else { (1 << len) - 1 };
    let mask = field.checked_shl(pos).unwrap_or(0);
    base & !mask | insert.checked_shl(pos).unwrap_or(0) & mask
}

/// `popc.b64`.
#[inline]
pub fn popc_64(a: u64) -> u32 {
    a.count_ones()
}

/// `clz.b64`: 64 for zero.
#[inline]
pub fn clz_64(a: u64) -> u32 {
    a.leading_zeros()
}

/// `brev.b64`.
#[inline]
pub fn brev_64(a: u64) -> u64 {
    a.reverse_bits()
}

/// `add.cc` (with `carry` false), `addc` and `addc.cc` of 64 bits: the sum and the carry-out.
#[inline]
pub fn add_carry_64(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let (sum, over) = a.overflowing_add(b);
    let (sum, over_again) = sum.overflowing_add(carry as u64);
    (sum, over | over_again)
}

/// `sub.cc` (with `borrow` false), `subc` and `subc.cc` of 64 bits: the difference and the borrow-out.
#[inline]
pub fn sub_borrow_64(a: u64, b: u64, borrow: bool) -> (u64, bool) {
    let (difference, under) = a.overflowing_sub(b);
    let (difference, under_again) = difference.overflowing_sub(borrow as u64);
    (difference, under | under_again)
}

/// `shl.b16`: an amount beyond the width shifts every bit out.
#[inline]
pub fn shl_16(a: u16, amount: u32) -> u16 {
    a.checked_shl(amount).unwrap_or(0)
}

/// `shr.u16` and `shr.b16`.
#[inline]
pub fn shr_u16(a: u16, amount: u32) -> u16 {
    a.checked_shr(amount).unwrap_or(0)
}

/// `shr.s16`: an arithmetic shift; an amount beyond the width leaves only the sign.
#[inline]
pub fn shr_s16(a: i16, amount: u32) -> i16 {
    a >> amount.min(15)
}

/// `shl.b32`: an amount beyond the width shifts every bit out.
#[inline]
pub fn shl_32(a: u32, amount: u32) -> u32 {
    a.checked_shl(amount).unwrap_or(0)
}

/// `shr.u32` and `shr.b32`.
#[inline]
pub fn shr_u32(a: u32, amount: u32) -> u32 {
    a.checked_shr(amount).unwrap_or(0)
}

/// `shr.s32`: an arithmetic shift; an amount beyond the width leaves only the sign.
#[inline]
pub fn shr_s32(a: i32, amount: u32) -> i32 {
    a >> amount.min(31)
}

/// `shl.b64`: an amount beyond the width shifts every bit out.
#[inline]
pub fn shl_64(a: u64, amount: u32) -> u64 {
    a.checked_shl(amount).unwrap_or(0)
}

/// `shr.u64` and `shr.b64`.
#[inline]
pub fn shr_u64(a: u64, amount: u32) -> u64 {
    a.checked_shr(amount).unwrap_or(0)
}

/// `shr.s64`: an arithmetic shift; an amount beyond the width leaves only the sign.
#[inline]
pub fn shr_s64(a: i64, amount: u32) -> i64 {
    a >> amount.min(63)
}

/// The amount of a funnel shift: its low five bits with `.wrap`, at most 32 with `.clamp`.
#[inline]
fn funnel_amount(amount: u32, wrap: bool) -> u32 {
    if wrap { amount & 31 } else { amount.min(32) }
}

/// `shf.l`: the upper half of `high:low` shifted left.
#[inline]
pub fn shf_l(low: u32, high: u32, amount: u32, wrap: bool) -> u32 {
    let both = (high as u64) << 32 | low as u64;
    ((both << funnel_amount(amount, wrap)) >> 32) as u32
}

/// `shf.r`: the lower half of `high:low` shifted right.
#[inline]
pub fn shf_r(low: u32, high: u32, amount: u32, wrap: bool) -> u32 {
    let both = (high as u64) << 32 | low as u64;
    (both >> funnel_amount(amount, wrap)) as u32
}

/// The modes of `prmt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prmt {
    /// No mode: four selectors of four bits.
    Default,
    /// `.f4e`: four consecutive bytes, upwards from the selected one.
    F4e,
    /// `.b4e`: four consecutive bytes, downwards from the selected one.
    B4e,
    /// `.rc8`: the selected byte in all four places.
    Rc8,
    /// `.ecl`: edge clamp left. Byte `i` of the result is source byte `max(i, selector)`.
    Ecl,
    /// `.ecr`: edge clamp right. Byte `i` of the result is source byte `min(i, selector)`.
    Ecr,
    /// `.rc16`: the selected half-word in both halves.
    Rc16,
}

/// `prmt.b32`: each byte of the result is one of the eight bytes of `b:a`. In the default mode the highest bit of a
/// selector replicates the byte's sign over all eight bits instead.
#[inline]
pub fn prmt(a: u32, b: u32, selector: u32, mode: Prmt) -> u32 {
    // Row n: the selectors for mode value n (the low two bits of the operand), most significant first. From the manual.
    let table: [u32; 4] = match mode {
        Prmt::Default => [selector; 4],
        Prmt::F4e => [0x3210, 0x4321, 0x5432, 0x6543],
        Prmt::B4e => [0x5670, 0x6701, 0x7012, 0x0123],
        Prmt::Rc8 => [0x0000, 0x1111, 0x2222, 0x3333],
        Prmt::Ecl => [0x3210, 0x3211, 0x3222, 0x3333],
        Prmt::Ecr => [0x0000, 0x1110, 0x2210, 0x3210],
        Prmt::Rc16 => [0x1010, 0x3232, 0x1010, 0x3232],
    };
    let selectors = table[selector as usize & 3];
    let bytes = (b as u64) << 32 | a as u64;
    let mut d = 0;
    for i in 0..4 {
        let s = selectors >> (4 * i);
        let byte = (bytes >> (8 * (s & 7))) as u8;
        let byte = if s & 8 != 0 { (byte as i8 >> 7) as u8 } else { byte };
        d |= (byte as u32) << (8 * i);
    }
    d
}

/// `lop3.b32`: for each bit position, bit `4a + 2b + c` of the look-up table.
#[inline]
pub fn lop3(a: u32, b: u32, c: u32, lut: u8) -> u32 {
    // `entry` is one table bit in every position. Shannon's expansion: by c, then b, then a.
    let entry = |i: u32| 0u32.wrapping_sub(lut as u32 >> i & 1);
    let by_c = |i: u32| entry(i) & !c | entry(i + 1) & c;
    let by_b = |i: u32| by_c(i) & !b | by_c(i + 2) & b;
    by_b(0) & !a | by_b(4) & a
}

#[inline]
fn byte(v: u32, i: u32, signed: bool) -> i32 {
    let byte = (v >> (8 * i)) as u8;
    if signed { byte as i8 as i32 } else { byte as i32 }
}

/// `dp4a`: `c` plus the four products of corresponding bytes; the sum wraps around.
#[inline]
pub fn dp4a(a: u32, a_signed: bool, b: u32, b_signed: bool, c: u32) -> u32 {
    let products = (0..4).map(|i| byte(a, i, a_signed) * byte(b, i, b_signed));
    c.wrapping_add(products.sum::<i32>() as u32)
}

/// `dp2a`: `c` plus the products of the two halves of `a` and two bytes of `b`, the low ones (`.lo`) or the high ones
/// (`.hi`); the sum wraps around.
#[inline]
pub fn dp2a(a: u32, a_signed: bool, b: u32, b_signed: bool, c: u32, high: bool) -> u32 {
    let half = |i: u32| {
        let half = (a >> (16 * i)) as u16;
        if a_signed { half as i16 as i32 } else { half as i32 }
    };
    let first = if high { 2 } else { 0 };
    let products = (0..2).map(|i| half(i) * byte(b, first + i, b_signed));
    c.wrapping_add(products.sum::<i32>() as u32)
}

/// `fns.b32`: the position of the n-th set bit counted from `base`, `base` included; upwards for a positive offset n,
/// downwards for a negative one. Offset zero gives `base` if it is set. All ones if no bit qualifies.
pub fn fns(mask: u32, base: u32, offset: i32) -> u32 {
    let set = |i: &u32| mask >> i & 1 != 0;
    // The manual leaves a base beyond 31 undefined.
    let base = base & 31;
    let n = offset.unsigned_abs() as usize;
    let found = match offset {
        0 => Some(base).filter(set),
        1.. => (base..32).filter(set).nth(n - 1),
        _ => (0..=base).rev().filter(set).nth(n - 1),
    };
    found.unwrap_or(u32::MAX)
}
