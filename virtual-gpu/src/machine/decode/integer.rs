//! Integer arithmetic, logic and shifts (PTX ISA 9.0, "Integer Arithmetic Instructions", "Extended-Precision
//! Integer Arithmetic Instructions", "Logic and Shift Instructions").

use super::lanes::{four, one, three, two};
use super::*;
use crate::arith::integer::{self as int, Prmt};
use Type::{B, S, U};

/// The types of an operation's source operands, in order.
type Sources = [Type; 4];

const U32: Type = U(32);

fn same(ty: Type) -> Sources {
    [ty; 4]
}

impl Decoder {
    /// Decodes a destination and as many sources as `f` has arguments.
    pub(super) fn pure(
        &mut self,
        form: &Form,
        operands: &[Operand],
        f: Pure,
        bits: u32,
        sources: Sources,
        class: Class,
    ) -> Decoded<Made> {
        let count = match f {
            Pure::One(_) => 1,
            Pure::Two(_) => 2,
            Pure::Three(_) => 3,
            Pure::Four(_) => 4,
        };
        if operands.len() != count + 1 {
            return form.fail(format!("{} operands expected, not {}", count + 1, operands.len()));
        }
        let d = self.target(form, &operands[0], bits)?;
        let mut s = [0; 4];
        for i in 0..count {
            s[i] = self.source(form, &operands[i + 1], sources[i])?;
        }
        made(Op::Pure { f, d, s }, class)
    }

    pub(super) fn integer(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let class = Class::Integer;
        match form.base {
            "and" | "or" | "xor" | "not" | "cnot" => return self.logic(form, operands),
            "add" | "sub" | "addc" | "subc" => return self.add(form, operands),
            "mul" | "mad" | "madc" | "mul24" | "mad24" => return self.multiply(form, operands),
            "shl" | "shr" | "shf" | "bfe" | "bfi" | "bfind" | "popc" | "clz" | "brev" | "prmt" | "lop3" | "bmsk" => {
                return self.bits(form, operands);
            }
            _ => {}
        }
        if form.base == "dp4a" || form.base == "dp2a" {
            let narrow = form.base == "dp2a";
            let high = narrow && form.take("hi");
            if narrow && !high && !form.take("lo") {
                return form.unsupported();
            }
            let (a, b) = (form.ty()?, form.ty()?);
            if !matches!(a, U(32) | S(32)) || !matches!(b, U(32) | S(32)) {
                return form.unsupported();
            }
            let (a, b) = (a.signed(), b.signed());
            let f = if narrow {
                three(move |x: u32, y: u32, z: u32| int::dp2a(x, a, y, b, z, high))
            } else {
                three(move |x: u32, y: u32, z: u32| int::dp4a(x, a, y, b, z))
            };
            return self.pure(form, operands, f, 32, same(U32), class);
        }
        if form.base == "fns" {
            form.ty()?;
            let f = three(|mask: u32, base: u32, offset: i32| int::fns(mask, base, offset));
            return self.pure(form, operands, f, 32, same(B(32)), class);
        }
        let ty = form.ty()?;
        let f = match (form.base, ty) {
            ("div", U(16)) => two(|a: u16, b: u16| int::div_u32(a.into(), b.into()) as u16),
            ("div", S(16)) => two(|a: i16, b: i16| int::div_s32(a.into(), b.into()) as i16),
            ("div", U(32)) => two(int::div_u32),
            ("div", S(32)) => two(int::div_s32),
            ("div", U(64)) => two(int::div_u64),
            ("div", S(64)) => two(int::div_s64),
            ("rem", U(16)) => two(|a: u16, b: u16| int::rem_u32(a.into(), b.into()) as u16),
            ("rem", S(16)) => two(|a: i16, b: i16| int::rem_s32(a.into(), b.into()) as i16),
            ("rem", U(32)) => two(int::rem_u32),
            ("rem", S(32)) => two(int::rem_s32),
            ("rem", U(64)) => two(int::rem_u64),
            ("rem", S(64)) => two(int::rem_s64),
            ("min", U(16)) => two(|a: u16, b: u16| a.min(b)),
            ("min", S(16)) => two(|a: i16, b: i16| a.min(b)),
            ("min", U(32)) => two(|a: u32, b: u32| a.min(b)),
            ("min", S(32)) => two(|a: i32, b: i32| a.min(b)),
            ("min", U(64)) => two(|a: u64, b: u64| a.min(b)),
            ("min", S(64)) => two(|a: i64, b: i64| a.min(b)),
            ("max", U(16)) => two(|a: u16, b: u16| a.max(b)),
            ("max", S(16)) => two(|a: i16, b: i16| a.max(b)),
            ("max", U(32)) => two(|a: u32, b: u32| a.max(b)),
            ("max", S(32)) => two(|a: i32, b: i32| a.max(b)),
            ("max", U(64)) => two(|a: u64, b: u64| a.max(b)),
            ("max", S(64)) => two(|a: i64, b: i64| a.max(b)),
            ("abs", S(16)) => one(i16::wrapping_abs),
            ("abs", S(32)) => one(i32::wrapping_abs),
            ("abs", S(64)) => one(i64::wrapping_abs),
            ("neg", S(16)) => one(i16::wrapping_neg),
            ("neg", S(32)) => one(i32::wrapping_neg),
            ("neg", S(64)) => one(i64::wrapping_neg),
            ("sad", U(16)) => three(int::sad_u16),
            ("sad", S(16)) => three(int::sad_s16),
            ("sad", U(32)) => three(int::sad_u32),
            ("sad", S(32)) => three(int::sad_s32),
            ("sad", U(64)) => three(int::sad_u64),
            ("sad", S(64)) => three(int::sad_s64),
            _ => return form.unsupported(),
        };
        self.pure(form, operands, f, ty.bits(), same(ty), class)
    }

    fn logic(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let ty = form.ty()?;
        let logic = match form.base {
            "and" => Logic::And,
            "or" => Logic::Or,
            _ => Logic::Xor,
        };
        match (form.base, ty) {
            ("not", Type::Pred) => {
                let [d, a] = self.operands(form, operands)?;
                let (d, a) = (self.predicate_target(form, d)?, self.predicate(form, a)?);
                let b = Guard { p: FALSE, negated: true };
                made(Op::Predicate { d, logic: Logic::Xor, a, b }, Class::Integer)
            }
            ("and" | "or" | "xor", Type::Pred) => {
                let [d, a, b] = self.operands(form, operands)?;
                let d = self.predicate_target(form, d)?;
                let (a, b) = (self.predicate(form, a)?, self.predicate(form, b)?);
                made(Op::Predicate { d, logic, a, b }, Class::Integer)
            }
            (base, B(bits @ (16 | 32 | 64))) => {
                let mask = u64::MAX >> (64 - bits);
                let f = match base {
                    "and" => two(|a: u64, b: u64| a & b),
                    "or" => two(|a: u64, b: u64| a | b),
                    "xor" => two(|a: u64, b: u64| a ^ b),
                    "not" => one(move |a: u64| !a & mask),
                    _ => one(|a: u64| u64::from(a == 0)),
                };
                self.pure(form, operands, f, bits, same(ty), Class::Integer)
            }
            _ => form.unsupported(),
        }
    }

    /// `add` and `sub`; with `.cc`, and `addc` and `subc`, through the carry flag (`Warp::carry`).
    fn add(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let class = Class::Integer;
        let output = form.take("cc");
        let sat = form.take("sat");
        let ty = form.ty()?;
        if form.base.ends_with('c') || output {
            let input = form.base.ends_with('c');
            let subtract = form.base.starts_with("sub");
            if sat || !matches!(ty, U(32 | 64) | S(32 | 64)) {
                return form.unsupported();
            }
            let [d, a, b] = self.operands(form, operands)?;
            let d = self.target(form, d, ty.bits())?;
            let s = [self.source(form, a, ty)?, self.source(form, b, ty)?, self.constant(0)];
            let wide = ty.bits() == 64;
            let f = move |a: u64, b: u64, _: u64, carry: bool| match (subtract, wide) {
                (false, true) => int::add_carry_64(a, b, carry),
                (true, true) => int::sub_borrow_64(a, b, carry),
                (false, false) => {
                    let (value, carry) = int::add_carry_32(a as u32, b as u32, carry);
                    (value.into(), carry)
                }
                (true, false) => {
                    let (value, carry) = int::sub_borrow_32(a as u32, b as u32, carry);
                    (value.into(), carry)
                }
            };
            return made(Op::Carry { f: Box::new(f), d, s, input, output }, class);
        }
        let f = match (form.base, ty, sat) {
            ("add", S(32), true) => two(int::add_sat_s32),
            ("sub", S(32), true) => two(int::sub_sat_s32),
            (_, _, true) => return form.unsupported(),
            ("add", U(16) | S(16), _) => two(u16::wrapping_add),
            ("add", U(32) | S(32), _) => two(u32::wrapping_add),
            ("add", U(64) | S(64), _) => two(u64::wrapping_add),
            ("sub", U(16) | S(16), _) => two(u16::wrapping_sub),
            ("sub", U(32) | S(32), _) => two(u32::wrapping_sub),
            ("sub", U(64) | S(64), _) => two(u64::wrapping_sub),
            _ => return form.unsupported(),
        };
        self.pure(form, operands, f, ty.bits(), same(ty), class)
    }

    fn multiply(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let class = Class::Integer;
        let part = form.any(&[("lo", "lo"), ("hi", "hi"), ("wide", "wide")]);
        let (sat, output) = (form.take("sat"), form.take("cc"));
        let ty = form.ty()?;
        let Some(part) = part else { return form.unsupported() };
        if form.base == "madc" || output {
            return self.multiply_carry(form, operands, part, ty, output);
        }
        if form.base.ends_with("24") {
            let f = match (form.base, part, ty, sat) {
                ("mul24", "lo", U(32), false) => two(int::mul24_lo_u32),
                ("mul24", "lo", S(32), false) => two(int::mul24_lo_s32),
                ("mul24", "hi", U(32), false) => two(int::mul24_hi_u32),
                ("mul24", "hi", S(32), false) => two(int::mul24_hi_s32),
                ("mad24", "lo", U(32), false) => three(int::mad24_lo_u32),
                ("mad24", "lo", S(32), false) => three(int::mad24_lo_s32),
                ("mad24", "hi", U(32), false) => three(int::mad24_hi_u32),
                ("mad24", "hi", S(32), false) => three(int::mad24_hi_s32),
                ("mad24", "hi", S(32), true) => three(int::mad24_hi_sat_s32),
                _ => return form.unsupported(),
            };
            return self.pure(form, operands, f, 32, same(ty), class);
        }
        if sat {
            if (form.base, part, ty) != ("mad", "hi", S(32)) {
                return form.unsupported();
            }
            return self.pure(form, operands, three(int::mad_hi_sat_s32), 32, same(ty), class);
        }
        let add = form.base == "mad";
        // The product, for `mad` plus the addend.
        macro_rules! product {
            ($t:ty, $r:ty, |$a:ident, $b:ident| $e:expr) => {
                if add {
                    three(|$a: $t, $b: $t, c: $r| <$r>::wrapping_add($e, c))
                } else {
                    two(|$a: $t, $b: $t| -> $r { $e })
                }
            };
        }
        let f = match (part, ty) {
            ("lo", U(16) | S(16)) => product!(u16, u16, |a, b| a.wrapping_mul(b)),
            ("lo", U(32) | S(32)) => product!(u32, u32, |a, b| a.wrapping_mul(b)),
            ("lo", U(64) | S(64)) => product!(u64, u64, |a, b| a.wrapping_mul(b)),
            ("hi", U(16)) => product!(u16, u16, |a, b| ((u32::from(a) * u32::from(b)) >> 16) as u16),
            ("hi", S(16)) => product!(i16, i16, |a, b| ((i32::from(a) * i32::from(b)) >> 16) as i16),
            ("hi", U(32)) => product!(u32, u32, |a, b| int::mul_hi_u32(a, b)),
            ("hi", S(32)) => product!(i32, i32, |a, b| int::mul_hi_s32(a, b)),
            ("hi", U(64)) => product!(u64, u64, |a, b| int::mul_hi_u64(a, b)),
            ("hi", S(64)) => product!(i64, i64, |a, b| int::mul_hi_s64(a, b)),
            ("wide", U(16)) => product!(u16, u32, |a, b| u32::from(a) * u32::from(b)),
            ("wide", S(16)) => product!(i16, i32, |a, b| i32::from(a) * i32::from(b)),
            ("wide", U(32)) => product!(u32, u64, |a, b| u64::from(a) * u64::from(b)),
            ("wide", S(32)) => product!(i32, i64, |a, b| i64::from(a) * i64::from(b)),
            _ => return form.unsupported(),
        };
        let bits = if part == "wide" { 2 * ty.bits() } else { ty.bits() };
        self.pure(form, operands, f, bits, [ty, ty, B(bits), ty], class)
    }

    /// `mad.cc` and `madc` of 32 and 64 bits.
    fn multiply_carry(
        &mut self,
        form: &mut Form,
        operands: &[Operand],
        part: &str,
        ty: Type,
        output: bool,
    ) -> Decoded<Made> {
        if part == "wide" || form.base == "mul" || !matches!(ty, U(32 | 64) | S(32 | 64)) {
            return form.unsupported();
        }
        let [d, a, b, c] = self.operands(form, operands)?;
        let d = self.target(form, d, ty.bits())?;
        let s = [self.source(form, a, ty)?, self.source(form, b, ty)?, self.source(form, c, ty)?];
        let high = part == "hi";
        let f = move |a: u64, b: u64, c: u64, carry: bool| match ty {
            U(64) | S(64) => {
                let product = match (high, ty) {
                    (false, _) => a.wrapping_mul(b),
                    (true, U(_)) => int::mul_hi_u64(a, b),
                    (true, _) => int::mul_hi_s64(a as i64, b as i64) as u64,
                };
                int::add_carry_64(product, c, carry)
            }
            _ => {
                let (a, b) = (a as u32, b as u32);
                let product = match (high, ty) {
                    (false, _) => a.wrapping_mul(b),
                    (true, U(_)) => int::mul_hi_u32(a, b),
                    (true, _) => int::mul_hi_s32(a as i32, b as i32) as u32,
                };
                let (value, carry) = int::add_carry_32(product, c as u32, carry);
                (value.into(), carry)
            }
        };
        made(Op::Carry { f: Box::new(f), d, s, input: form.base == "madc", output }, Class::Integer)
    }

    fn bits(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let class = Class::Integer;
        match form.base {
            "shf" => {
                let left = form.any(&[("l", true), ("r", false)]);
                let wrap = form.any(&[("wrap", true), ("clamp", false)]);
                let (Some(left), Some(wrap), B(32)) = (left, wrap, form.ty()?) else { return form.unsupported() };
                let f = if left {
                    three(move |low: u32, high: u32, by: u32| int::shf_l(low, high, by, wrap))
                } else {
                    three(move |low: u32, high: u32, by: u32| int::shf_r(low, high, by, wrap))
                };
                return self.pure(form, operands, f, 32, [B(32), B(32), U32, U32], class);
            }
            "prmt" => {
                if form.ty()? != B(32) {
                    return form.unsupported();
                }
                let mode = form.any(&[
                    ("f4e", Prmt::F4e),
                    ("b4e", Prmt::B4e),
                    ("rc8", Prmt::Rc8),
                    ("ecl", Prmt::Ecl),
                    ("ecr", Prmt::Ecr),
                    ("rc16", Prmt::Rc16),
                ]);
                let mode = mode.unwrap_or(Prmt::Default);
                let f = three(move |a: u32, b: u32, c: u32| int::prmt(a, b, c, mode));
                return self.pure(form, operands, f, 32, same(B(32)), class);
            }
            "lop3" => {
                if form.ty()? != B(32) {
                    return form.unsupported();
                }
                let [rest @ .., table] = operands else { return form.fail("operands are missing") };
                let table = self.number(form, table)? as u8;
                let f = three(move |a: u32, b: u32, c: u32| int::lop3(a, b, c, table));
                return self.pure(form, rest, f, 32, same(B(32)), class);
            }
            "bfind" => {
                let shift = form.take("shiftamt");
                let ty = form.ty()?;
                let f = match ty {
                    U(32) => one(move |a: u32| int::bfind_u32(a, shift)),
                    S(32) => one(move |a: i32| int::bfind_s32(a, shift)),
                    U(64) => one(move |a: u64| int::bfind_u64(a, shift)),
                    S(64) => one(move |a: i64| int::bfind_s64(a, shift)),
                    _ => return form.unsupported(),
                };
                return self.pure(form, operands, f, 32, same(ty), class);
            }
            "bmsk" => {
                let wrap = form.any(&[("wrap", true), ("clamp", false)]);
                let (Some(wrap), B(32)) = (wrap, form.ty()?) else { return form.unsupported() };
                let f = two(move |at: u32, width: u32| {
                    let (at, width) = if wrap { (at & 31, width & 31) } else { (at, width.min(32)) };
                    (((1u64 << width) - 1).checked_shl(at).unwrap_or(0)) as u32
                });
                return self.pure(form, operands, f, 32, same(B(32)), class);
            }
            _ => {}
        }
        let ty = form.ty()?;
        let (f, sources) = match (form.base, ty) {
            ("shl", B(16)) => (two(int::shl_16), [ty, U32, U32, U32]),
            ("shl", B(32)) => (two(int::shl_32), [ty, U32, U32, U32]),
            ("shl", B(64)) => (two(int::shl_64), [ty, U32, U32, U32]),
            ("shr", B(16) | U(16)) => (two(int::shr_u16), [ty, U32, U32, U32]),
            ("shr", B(32) | U(32)) => (two(int::shr_u32), [ty, U32, U32, U32]),
            ("shr", B(64) | U(64)) => (two(int::shr_u64), [ty, U32, U32, U32]),
            ("shr", S(16)) => (two(int::shr_s16), [ty, U32, U32, U32]),
            ("shr", S(32)) => (two(int::shr_s32), [ty, U32, U32, U32]),
            ("shr", S(64)) => (two(int::shr_s64), [ty, U32, U32, U32]),
            ("bfe", U(32)) => (three(int::bfe_u32), [ty, U32, U32, U32]),
            ("bfe", S(32)) => (three(int::bfe_s32), [ty, U32, U32, U32]),
            ("bfe", U(64)) => (three(int::bfe_u64), [ty, U32, U32, U32]),
            ("bfe", S(64)) => (three(int::bfe_s64), [ty, U32, U32, U32]),
            ("bfi", B(32)) => (four(int::bfi_32), [ty, ty, U32, U32]),
            ("bfi", B(64)) => (four(int::bfi_64), [ty, ty, U32, U32]),
            ("popc", B(32)) => (one(int::popc_32), same(ty)),
            ("popc", B(64)) => (one(int::popc_64), same(ty)),
            ("clz", B(32)) => (one(int::clz_32), same(ty)),
            ("clz", B(64)) => (one(int::clz_64), same(ty)),
            ("brev", B(32)) => (one(int::brev_32), same(ty)),
            ("brev", B(64)) => (one(int::brev_64), same(ty)),
            _ => return form.unsupported(),
        };
        let bits = if matches!(form.base, "popc" | "clz") { 32 } else { ty.bits() };
        self.pure(form, operands, f, bits, sources, class)
    }
}
