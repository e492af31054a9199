/// The modes of `prmt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prmt {
    /// No mode: four selectors of four bits.
    Default,
    F4e,
    B4e,
    Rc8,
    Ecl,
    Ecr,
    Rc16,
}

pub fn mul_hi_s32(a: i32, b: i32) -> i32 {
    let _ = (a, b);
    unimplemented!()
}

pub fn div_s32(a: i32, b: i32) -> i32 {
    let _ = (a, b);
    unimplemented!()
}

pub fn rem_s32(a: i32, b: i32) -> i32 {
    let _ = (a, b);
    unimplemented!()
}

pub fn bfe_s32(a: i32, pos: u32, len: u32) -> i32 {
    let _ = (a, pos, len);
    unimplemented!()
}

pub fn bfind_s32(a: i32, shiftamt: bool) -> u32 {
    let _ = (a, shiftamt);
    unimplemented!()
}

pub fn sad_s32(a: i32, b: i32, c: i32) -> i32 {
    let _ = (a, b, c);
    unimplemented!()
}

pub fn mul_hi_u32(a: u32, b: u32) -> u32 {
    let _ = (a, b);
    unimplemented!()
}

pub fn div_u32(a: u32, b: u32) -> u32 {
    let _ = (a, b);
    unimplemented!()
}

pub fn rem_u32(a: u32, b: u32) -> u32 {
    let _ = (a, b);
    unimplemented!()
}

pub fn bfe_u32(a: u32, pos: u32, len: u32) -> u32 {
    let _ = (a, pos, len);
    unimplemented!()
}

pub fn bfind_u32(a: u32, shiftamt: bool) -> u32 {
    let _ = (a, shiftamt);
    unimplemented!()
}

pub fn sad_u32(a: u32, b: u32, c: u32) -> u32 {
    let _ = (a, b, c);
    unimplemented!()
}

pub fn mul_hi_s64(a: i64, b: i64) -> i64 {
    let _ = (a, b);
    unimplemented!()
}

pub fn div_s64(a: i64, b: i64) -> i64 {
    let _ = (a, b);
    unimplemented!()
}

pub fn rem_s64(a: i64, b: i64) -> i64 {
    let _ = (a, b);
    unimplemented!()
}

pub fn bfe_s64(a: i64, pos: u32, len: u32) -> i64 {
    let _ = (a, pos, len);
    unimplemented!()
}

pub fn bfind_s64(a: i64, shiftamt: bool) -> u32 {
    let _ = (a, shiftamt);
    unimplemented!()
}

pub fn sad_s64(a: i64, b: i64, c: i64) -> i64 {
    let _ = (a, b, c);
    unimplemented!()
}

pub fn mul_hi_u64(a: u64, b: u64) -> u64 {
    let _ = (a, b);
    unimplemented!()
}

pub fn div_u64(a: u64, b: u64) -> u64 {
    let _ = (a, b);
    unimplemented!()
}

pub fn rem_u64(a: u64, b: u64) -> u64 {
    let _ = (a, b);
    unimplemented!()
}

pub fn bfe_u64(a: u64, pos: u32, len: u32) -> u64 {
    let _ = (a, pos, len);
    unimplemented!()
}

pub fn bfind_u64(a: u64, shiftamt: bool) -> u32 {
    let _ = (a, shiftamt);
    unimplemented!()
}

pub fn sad_u64(a: u64, b: u64, c: u64) -> u64 {
    let _ = (a, b, c);
    unimplemented!()
}

pub fn sad_s16(a: i16, b: i16, c: i16) -> i16 {
    let _ = (a, b, c);
    unimplemented!()
}

pub fn sad_u16(a: u16, b: u16, c: u16) -> u16 {
    let _ = (a, b, c);
    unimplemented!()
}

pub fn mul24_lo_s32(a: i32, b: i32) -> i32 {
    let _ = (a, b);
    unimplemented!()
}

pub fn mad24_lo_s32(a: i32, b: i32, c: i32) -> i32 {
    let _ = (a, b, c);
    unimplemented!()
}

pub fn mul24_hi_s32(a: i32, b: i32) -> i32 {
    let _ = (a, b);
    unimplemented!()
}

pub fn mad24_hi_s32(a: i32, b: i32, c: i32) -> i32 {
    let _ = (a, b, c);
    unimplemented!()
}

pub fn mul24_lo_u32(a: u32, b: u32) -> u32 {
    let _ = (a, b);
    unimplemented!()
}

pub fn mad24_lo_u32(a: u32, b: u32, c: u32) -> u32 {
    let _ = (a, b, c);
    unimplemented!()
}

pub fn mul24_hi_u32(a: u32, b: u32) -> u32 {
    let _ = (a, b);
    unimplemented!()
}

pub fn mad24_hi_u32(a: u32, b: u32, c: u32) -> u32 {
    let _ = (a, b, c);
    unimplemented!()
}

pub fn mad24_hi_sat_s32(a: i32, b: i32, c: i32) -> i32 {
    let _ = (a, b, c);
    unimplemented!()
}

pub fn mad_hi_sat_s32(a: i32, b: i32, c: i32) -> i32 {
    let _ = (a, b, c);
    unimplemented!()
}

pub fn add_sat_s32(a: i32, b: i32) -> i32 {
    let _ = (a, b);
    unimplemented!()
}

pub fn sub_sat_s32(a: i32, b: i32) -> i32 {
    let _ = (a, b);
    unimplemented!()
}

pub fn bfi_32(insert: u32, base: u32, pos: u32, len: u32) -> u32 {
    let _ = (insert, base, pos, len);
    unimplemented!()
}

pub fn popc_32(a: u32) -> u32 {
    let _ = (a,);
    unimplemented!()
}

pub fn clz_32(a: u32) -> u32 {
    let _ = (a,);
    unimplemented!()
}

pub fn brev_32(a: u32) -> u32 {
    let _ = (a,);
    unimplemented!()
}

pub fn add_carry_32(a: u32, b: u32, carry: bool) -> (u32, bool) {
    let _ = (a, b, carry);
    unimplemented!()
}

pub fn sub_borrow_32(a: u32, b: u32, borrow: bool) -> (u32, bool) {
    let _ = (a, b, borrow);
    unimplemented!()
}

pub fn bfi_64(insert: u64, base: u64, pos: u32, len: u32) -> u64 {
    let _ = (insert, base, pos, len);
    unimplemented!()
}

pub fn popc_64(a: u64) -> u32 {
    let _ = (a,);
    unimplemented!()
}

pub fn clz_64(a: u64) -> u32 {
    let _ = (a,);
    unimplemented!()
}

pub fn brev_64(a: u64) -> u64 {
    let _ = (a,);
    unimplemented!()
}

pub fn add_carry_64(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let _ = (a, b, carry);
    unimplemented!()
}

pub fn sub_borrow_64(a: u64, b: u64, borrow: bool) -> (u64, bool) {
    let _ = (a, b, borrow);
    unimplemented!()
}

pub fn shl_16(a: u16, amount: u32) -> u16 {
    let _ = (a, amount);
    unimplemented!()
}

pub fn shr_u16(a: u16, amount: u32) -> u16 {
    let _ = (a, amount);
    unimplemented!()
}

pub fn shr_s16(a: i16, amount: u32) -> i16 {
    let _ = (a, amount);
    unimplemented!()
}

pub fn shl_32(a: u32, amount: u32) -> u32 {
    let _ = (a, amount);
    unimplemented!()
}

pub fn shr_u32(a: u32, amount: u32) -> u32 {
    let _ = (a, amount);
    unimplemented!()
}

pub fn shr_s32(a: i32, amount: u32) -> i32 {
    let _ = (a, amount);
    unimplemented!()
}

pub fn shl_64(a: u64, amount: u32) -> u64 {
    let _ = (a, amount);
    unimplemented!()
}

pub fn shr_u64(a: u64, amount: u32) -> u64 {
    let _ = (a, amount);
    unimplemented!()
}

pub fn shr_s64(a: i64, amount: u32) -> i64 {
    let _ = (a, amount);
    unimplemented!()
}

pub fn shf_l(low: u32, high: u32, amount: u32, wrap: bool) -> u32 {
    let _ = (low, high, amount, wrap);
    unimplemented!()
}

pub fn shf_r(low: u32, high: u32, amount: u32, wrap: bool) -> u32 {
    let _ = (low, high, amount, wrap);
    unimplemented!()
}

pub fn prmt(a: u32, b: u32, selector: u32, mode: Prmt) -> u32 {
    let _ = (a, b, selector, mode);
    unimplemented!()
}

pub fn lop3(a: u32, b: u32, c: u32, lut: u8) -> u32 {
    let _ = (a, b, c, lut);
    unimplemented!()
}

pub fn dp4a(a: u32, a_signed: bool, b: u32, b_signed: bool, c: u32) -> u32 {
    let _ = (a, a_signed, b, b_signed, c);
    unimplemented!()
}

pub fn dp2a(a: u32, a_signed: bool, b: u32, b_signed: bool, c: u32, high: bool) -> u32 {
    let _ = (a, a_signed, b, b_signed, c, high);
    unimplemented!()
}

pub fn fns(mask: u32, base: u32, offset: i32) -> u32 {
    let _ = (mask, base, offset);
    unimplemented!()
}
