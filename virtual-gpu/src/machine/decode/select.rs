//! Moves, comparisons and selections (PTX ISA 9.0, "Comparison and Selection Instructions", "mov").

use super::lanes::{Lane, compare, halves, one, three};
use super::*;
use crate::arith::float::flush32;
use crate::arith::half::{self, Half};
use Type::{B, F, S, U};

#[derive(Clone, Copy, PartialEq)]
enum Relation {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// Both operands are numbers.
    Num,
    /// An operand is NaN.
    Nan,
}

/// The comparison operator, and whether it holds for NaN operands.
fn relation(form: &mut Form) -> Option<(Relation, bool)> {
    use Relation::*;
    form.any(&[
        ("eq", (Eq, false)),
        ("ne", (Ne, false)),
        ("lt", (Lt, false)),
        ("le", (Le, false)),
        ("gt", (Gt, false)),
        ("ge", (Ge, false)),
        ("lo", (Lt, false)),
        ("ls", (Le, false)),
        ("hi", (Gt, false)),
        ("hs", (Ge, false)),
        ("equ", (Eq, true)),
        ("neu", (Ne, true)),
        ("ltu", (Lt, true)),
        ("leu", (Le, true)),
        ("gtu", (Gt, true)),
        ("geu", (Ge, true)),
        ("num", (Num, false)),
        ("nan", (Nan, false)),
    ])
}

fn ordered<T: Lane + PartialOrd>(relation: Relation, unordered: bool) -> Compare {
    use Relation::*;
    match relation {
        Eq => compare(move |a: T, b: T| a == b || unordered && a.partial_cmp(&b).is_none()),
        Ne => compare(move |a: T, b: T| a.partial_cmp(&b).map_or(unordered, |order| order.is_ne())),
        Lt => compare(move |a: T, b: T| a < b || unordered && a.partial_cmp(&b).is_none()),
        Le => compare(move |a: T, b: T| a <= b || unordered && a.partial_cmp(&b).is_none()),
        Gt => compare(move |a: T, b: T| a > b || unordered && a.partial_cmp(&b).is_none()),
        Ge => compare(move |a: T, b: T| a >= b || unordered && a.partial_cmp(&b).is_none()),
        Num => compare(|a: T, b: T| a.partial_cmp(&b).is_some()),
        Nan => compare(|a: T, b: T| a.partial_cmp(&b).is_none()),
    }
}

/// A lane converted to `f32` for comparison.
#[derive(Clone, Copy)]
struct Via<const KIND: u8>(f32);

impl<const KIND: u8> Lane for Via<KIND> {
    fn get(bits: u64) -> Self {
        Via(match KIND {
            0 => flush32(f32::from_bits(bits as u32)),
            1 => half::f16_to_f32(bits as u16),
            2 => half::bf16_to_f32(bits as u16),
            _ => half::f16_to_f32(half::flush16(Half::F16, bits as u16)),
        })
    }
    fn put(self) -> u64 {
        self.0.to_bits().into()
    }
}

impl<const KIND: u8> PartialEq for Via<KIND> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<const KIND: u8> PartialOrd for Via<KIND> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.0.partial_cmp(&other.0)
    }
}

impl Decoder {
    pub(super) fn select(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        match form.base {
            "mov" => self.mov(form, operands),
            "setp" => self.setp(form, operands),
            "set" => self.set(form, operands),
            "slct" => {
                let ftz = form.take("ftz");
                let (ty, by) = (form.ty()?, form.ty()?);
                let f = match by {
                    S(32) => three(|a: u64, b: u64, c: i32| if c >= 0 { a } else { b }),
                    // The manual's rule for `slct`: -0 counts as not negative, NaN as negative.
                    F(32) => three(move |a: u64, b: u64, c: f32| {
                        let c = if ftz { flush32(c) } else { c };
                        if c >= 0.0 { a } else { b }
                    }),
                    _ => return form.unsupported(),
                };
                if ftz && by != F(32) {
                    return form.unsupported();
                }
                self.pure(form, operands, f, ty.bits(), [ty, ty, by, by], Class::Move)
            }
            _ => {
                let ty = form.ty()?;
                let [d, a, b, p] = self.operands(form, operands)?;
                if !matches!(ty, B(16 | 32 | 64) | U(16 | 32 | 64) | S(16 | 32 | 64) | F(32 | 64)) {
                    return form.unsupported();
                }
                let d = self.target(form, d, ty.bits())?;
                let (a, b) = (self.source(form, a, ty)?, self.source(form, b, ty)?);
                let p = self.predicate(form, p)?;
                made(Op::Select { d, a, b, p }, Class::Move)
            }
        }
    }

    fn mov(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let ty = form.ty()?;
        let [d, a] = self.operands(form, operands)?;
        if ty == Type::Pred {
            let (d, a) = (self.predicate_target(form, d)?, self.predicate(form, a)?);
            let b = Guard { p: FALSE, negated: false };
            return made(Op::Predicate { d, logic: Logic::Or, a, b }, Class::Move);
        }
        if ty == F(16) {
            return form.unsupported();
        }
        match (d, a) {
            // mov.b32 d, {a, b}: the first element is the lowest part.
            (_, Operand::Vector(parts)) => {
                let bits = ty.bits() / parts.len().max(1) as u32;
                if !matches!((ty, parts.len()), (B(32 | 64), 2) | (B(64), 4) | (B(32), 4)) {
                    return form.unsupported();
                }
                let mut s = [0; 4];
                for (i, part) in parts.iter().enumerate() {
                    s[i] = self.source(form, part, B(bits))?;
                }
                let d = self.target(form, d, ty.bits())?;
                let f = if parts.len() == 2 {
                    lanes::two(move |a: u64, b: u64| a | b << bits)
                } else {
                    lanes::four(move |a: u64, b: u64, c: u64, d: u64| a | b << bits | c << (2 * bits) | d << (3 * bits))
                };
                made(Op::Pure { f, d, s }, Class::Move)
            }
            // mov.b64 {a, b}, s: the whole source is read before the first part is written.
            (Operand::Vector(parts), _) => self.unpack(form, ty, parts, a),
            _ => {
                if let Operand::Name(name) = a
                    && self.find(name).is_none()
                    && let Some((special, row)) = self.special(name)
                {
                    return self.mov_special(form, ty, d, special, row);
                }
                let d = self.target(form, d, ty.bits())?;
                let a = self.source(form, a, ty)?;
                made(Op::Pure { f: one(|a: u64| a), d, s: [a; 4] }, Class::Move)
            }
        }
    }

    fn mov_special(&mut self, form: &Form, ty: Type, d: &Operand, special: Special, row: R) -> Decoded<Made> {
        let d = self.target(form, d, ty.bits())?;
        let wide = matches!(special, Special::Clock64 | Special::Timer);
        if (wide && ty.bits() != 64) || !(16..=64).contains(&ty.bits()) {
            return form.fail("the destination does not have the size of this special register");
        }
        if matches!(special, Special::Clock | Special::Clock64 | Special::Timer) {
            return made(Op::Clock { d }, Class::Move);
        }
        let mask = u64::MAX >> (64 - ty.bits());
        made(Op::Pure { f: one(move |a: u64| a & mask), d, s: [row; 4] }, Class::Move)
    }

    fn unpack(&mut self, form: &Form, ty: Type, parts: &[Operand], a: &Operand) -> Decoded<Made> {
        if !matches!((ty, parts.len()), (B(32 | 64), 2) | (B(64), 4) | (B(32), 4)) {
            return form.unsupported();
        }
        let bits = ty.bits() / parts.len() as u32;
        let a = self.source(form, a, ty)?;
        let mask = u64::MAX >> (64 - bits);
        let mut wanted = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            let d = self.target(form, part, bits)?;
            wanted.push((d, i as u32 * bits));
        }
        made(Op::Unpack { a, mask, parts: wanted }, Class::Move)
    }

    /// The comparison function of two operands of type `ty`.
    fn comparison(
        &mut self,
        form: &Form,
        ty: Type,
        ftz: bool,
        (relation, unordered): (Relation, bool),
    ) -> Decoded<Compare> {
        let float = matches!(ty, F(_) | Type::Bf16);
        let unsigned = form.name.split('.').any(|part| matches!(part, "lo" | "ls" | "hi" | "hs"));
        if unsigned && !matches!(ty, U(_)) {
            return form.unsupported();
        }
        if !float && (unordered || matches!(relation, Relation::Num | Relation::Nan) || ftz) {
            return form.unsupported();
        }
        if matches!(ty, B(_)) && !matches!(relation, Relation::Eq | Relation::Ne) {
            return form.unsupported();
        }
        Ok(match ty {
            U(16) | B(16) => ordered::<u16>(relation, false),
            U(32) | B(32) => ordered::<u32>(relation, false),
            U(64) | B(64) => ordered::<u64>(relation, false),
            S(16) => ordered::<i16>(relation, false),
            S(32) => ordered::<i32>(relation, false),
            S(64) => ordered::<i64>(relation, false),
            F(32) if ftz => ordered::<Via<0>>(relation, unordered),
            F(32) => ordered::<f32>(relation, unordered),
            F(64) if !ftz => ordered::<f64>(relation, unordered),
            F(16) if ftz => ordered::<Via<3>>(relation, unordered),
            F(16) => ordered::<Via<1>>(relation, unordered),
            Type::Bf16 if !ftz => ordered::<Via<2>>(relation, unordered),
            _ => return form.unsupported(),
        })
    }

    fn combination(form: &mut Form) -> Option<Logic> {
        form.any(&[("and", Logic::And), ("or", Logic::Or), ("xor", Logic::Xor)])
    }

    fn setp(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let Some(relation) = relation(form) else { return form.unsupported() };
        let logic = Self::combination(form);
        let ftz = form.take("ftz");
        let ty = form.ty()?;
        if operands.len() != if logic.is_some() { 4 } else { 3 } {
            return form.fail("a wrong number of operands");
        }
        let with = match logic {
            Some(logic) => Some((logic, self.predicate(form, &operands[3])?)),
            None => None,
        };
        if let Type::F16x2 | Type::Bf16x2 = ty {
            return self.setp_packed(form, operands, ty, ftz, relation, with);
        }
        let f = self.comparison(form, ty, ftz, relation)?;
        let (p, q) = match &operands[0] {
            Operand::Pair(p, q) => (self.predicate_target(form, p)?, self.predicate_target(form, q)?),
            p => (self.predicate_target(form, p)?, NOWHERE),
        };
        let (a, b) = (self.source(form, &operands[1], ty)?, self.source(form, &operands[2], ty)?);
        made(Op::Compare { f, g: None, a, b, p, q, with }, Class::Compare)
    }

    /// For packed halves: `p` receives the comparison of the lower halves, `q` that of the upper ones.
    fn setp_packed(
        &mut self,
        form: &Form,
        operands: &[Operand],
        ty: Type,
        ftz: bool,
        relation: (Relation, bool),
        with: Option<(Logic, Guard)>,
    ) -> Decoded<Made> {
        let narrow = if ty == Type::F16x2 { F(16) } else { Type::Bf16 };
        let f = self.comparison(form, narrow, ftz, relation)?;
        let low = self.comparison(form, narrow, ftz, relation)?;
        let upper: Compare = Box::new(move |a, b| low(&a.map(|a| a >> 16), &b.map(|b| b >> 16)));
        let Operand::Pair(p, q) = &operands[0] else { return form.fail("two predicates expected") };
        let (p, q) = (self.predicate_target(form, p)?, self.predicate_target(form, q)?);
        let (a, b) = (self.source(form, &operands[1], ty)?, self.source(form, &operands[2], ty)?);
        made(Op::Compare { f, g: Some(upper), a, b, p, q, with }, Class::Compare)
    }

    fn set(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let Some(relation) = relation(form) else { return form.unsupported() };
        let logic = Self::combination(form);
        let ftz = form.take("ftz");
        let (to, ty) = (form.ty()?, form.ty()?);
        if operands.len() != if logic.is_some() { 4 } else { 3 } {
            return form.fail("a wrong number of operands");
        }
        let with = match logic {
            Some(logic) => Some((logic, self.predicate(form, &operands[3])?)),
            None => None,
        };
        let (a, b) = (self.source(form, &operands[1], ty)?, self.source(form, &operands[2], ty)?);
        let d = self.target(form, &operands[0], to.bits())?;
        if let (Type::F16x2 | Type::Bf16x2, None) = (ty, with) {
            let narrow = if ty == Type::F16x2 { F(16) } else { Type::Bf16 };
            let f = self.comparison(form, narrow, ftz, relation)?;
            let yes: u16 = match to {
                Type::F16x2 => 0x3c00,
                Type::Bf16x2 => 0x3f80,
                U(32) | S(32) => 0xffff,
                _ => return form.unsupported(),
            };
            let f = Pure::Two(Box::new(move |d, a, b| {
                let low = f(a, b);
                let high = f(&a.map(|a| a >> 16), &b.map(|b| b >> 16));
                for (i, d) in d.iter_mut().enumerate() {
                    let bit = |mask: u32| if mask >> i & 1 == 1 { yes } else { 0 };
                    *d = halves(0x1_0000, 0, 0, |part, _, _| bit(if part == 0 { low } else { high })).into();
                }
            }));
            return made(Op::Pure { f, d, s: [a, b, 0, 0] }, Class::Compare);
        }
        let half = matches!(ty, F(16) | Type::Bf16);
        if matches!(to, U(16) | S(16)) && !half || to == F(32) && half {
            return form.unsupported();
        }
        let yes = match to {
            U(32) | S(32) => 0xffff_ffff,
            F(32) => 1f32.to_bits().into(),
            U(16) | S(16) => 0xffff,
            F(16) => 0x3c00,
            Type::Bf16 => 0x3f80,
            _ => return form.unsupported(),
        };
        let f = self.comparison(form, ty, ftz, relation)?;
        made(Op::CompareValue { f, a, b, d, yes, with }, Class::Compare)
    }
}
