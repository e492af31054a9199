//! Conversions between types and between state spaces (PTX ISA 9.0, "cvt", "cvta", "isspacep").

use super::lanes::{one, two};
use super::*;
use crate::arith::half::{self, Half};
use crate::arith::{Rounding, convert, float};
use crate::machine::space::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW};
use Type::{B, F, S, U};

fn extend(value: u64, ty: Type) -> i128 {
    let unused = 64 - ty.bits();
    if ty.signed() { ((value << unused) as i64 >> unused).into() } else { (value << unused >> unused).into() }
}

impl Decoder {
    pub(super) fn convert(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        match form.base {
            "cvta" => self.cvta(form, operands),
            "isspacep" => {
                let window = form.any(&[
                    ("shared::cta", 1),
                    ("shared::cluster", 1),
                    ("shared", 1),
                    ("local", 2),
                    ("param", 3),
                    ("global", 0),
                    ("const", 0),
                ]);
                let Some(window) = window else { return form.unsupported() };
                let f = lanes::compare(move |a: u64, _: u64| {
                    let found = match a {
                        SHARED_WINDOW..LOCAL_WINDOW => 1,
                        LOCAL_WINDOW..PARAM_WINDOW => 2,
                        PARAM_WINDOW.. if a < PARAM_WINDOW + WINDOW => 3,
                        _ => 0,
                    };
                    found == window
                });
                let [p, a] = self.operands(form, operands)?;
                let (p, a) = (self.predicate_target(form, p)?, self.source(form, a, U(64))?);
                made(Op::Compare { f, g: None, a, b: a, p, q: NOWHERE, with: None }, Class::Compare)
            }
            _ => self.cvt(form, operands),
        }
    }

    /// `cvta`: adds or subtracts the window's base for shared and local memory and for parameters. Other addresses are the same in the
    /// generic space.
    fn cvta(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let to = form.take("to");
        let window = form.any(&[
            ("global", 0),
            ("const", 0),
            ("param::entry", PARAM_WINDOW),
            ("param", PARAM_WINDOW),
            ("shared::cta", SHARED_WINDOW),
            ("shared::cluster", SHARED_WINDOW),
            ("shared", SHARED_WINDOW),
            ("local", LOCAL_WINDOW),
        ]);
        let (Some(window), U(64)) = (window, form.ty()?) else { return form.unsupported() };
        let f = if to { one(move |a: u64| a.wrapping_sub(window)) } else { one(move |a: u64| a.wrapping_add(window)) };
        self.pure(form, operands, f, 64, [U(64); 4], Class::Move)
    }

    /// The row of a source operand that is at least as wide as `ty`.
    fn wide_source(&mut self, form: &Form, operand: &Operand, ty: Type) -> Decoded<R> {
        if let Operand::Name(name) = operand
            && let Some(register) = self.find(name)
        {
            return if register.ty != Type::Pred && register.ty.bits() >= ty.bits() {
                Ok(register.index)
            } else {
                form.fail(format!("`{name}` is too small"))
            };
        }
        self.source(form, operand, ty)
    }

    fn cvt(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let integral = form.any(&[
            ("rni", Rounding::Nearest),
            ("rzi", Rounding::Zero),
            ("rmi", Rounding::Down),
            ("rpi", Rounding::Up),
        ]);
        let rounding = form.rounding();
        let (ftz, sat, relu) = (form.take("ftz"), form.take("sat"), form.take("relu"));
        let (to, from) = (form.ty()?, form.ty()?);
        let Some(Some(d)) = operands.first().map(|d| self.any_target(form, d)).transpose()? else {
            return form.fail("a destination expected");
        };
        if d.ty.bits() < to.bits() {
            return form.fail("the destination is too small");
        }
        let keep = u64::MAX >> (64 - d.ty.bits());
        if let (Type::F16x2 | Type::Bf16x2, F(32)) = (to, from) {
            // The first source becomes the upper half of the result.
            let kind = if to == Type::F16x2 { Half::F16 } else { Half::Bf16 };
            let Some(r @ (Rounding::Nearest | Rounding::Zero)) = rounding else { return form.unsupported() };
            if ftz || sat || integral.is_some() {
                return form.unsupported();
            }
            let narrow = move |v: f32| {
                let bits = half::from_f32(kind, v, r);
                u32::from(if relu { half::relu16(kind, bits) } else { bits })
            };
            let f = two(move |a: f32, b: f32| narrow(a) << 16 | narrow(b));
            return self.pure(form, operands, f, 32, [F(32); 4], Class::Convert);
        }
        let [_, a] = self.operands(form, operands)?;
        let a = self.wide_source(form, a, from)?;
        let f = match self.conversion(to, from, integral, rounding, ftz, sat, relu) {
            Some(f) => f,
            None => return form.unsupported(),
        };
        let f = Pure::One(Box::new(move |d, a| {
            for i in 0..32 {
                d[i] = f(a[i]) & keep;
            }
        }));
        made(Op::Pure { f, d: d.index, s: [a; 4] }, Class::Convert)
    }

    /// The conversion of one value, sign-extended if its new type is signed. `None`: there is no such form.
    #[allow(clippy::too_many_arguments, clippy::type_complexity)]
    fn conversion(
        &self,
        to: Type,
        from: Type,
        integral: Option<Rounding>,
        rounding: Option<Rounding>,
        ftz: bool,
        sat: bool,
        relu: bool,
    ) -> Option<Box<dyn Fn(u64) -> u64 + Send + Sync>> {
        let integer = |ty| matches!(ty, U(_) | S(_) | B(_));
        let nearest = rounding.unwrap_or(Rounding::Nearest);
        if rounding == Some(Rounding::NearestAway) && to != Type::Tf32 {
            return None;
        }
        // Widens an `.f16`, `.bf16` or `.f32` value, exactly.
        let widen = move |value: u64| match from {
            F(16) => half::f16_to_f32(value as u16),
            Type::Bf16 => half::bf16_to_f32(value as u16),
            _ if ftz => float::flush32(f32::from_bits(value as u32)),
            _ => f32::from_bits(value as u32),
        };
        let narrow_source = matches!(from, F(16 | 32) | Type::Bf16);
        let positive = matches!(to, F(16) | Type::Bf16 | Type::Tf32);
        if relu && !(positive && matches!(rounding, Some(Rounding::Nearest | Rounding::Zero))) {
            return None;
        }
        if ftz && to != F(32) && from != F(32) || sat && (to == Type::Bf16 || from == Type::Bf16) {
            return None;
        }
        Some(match (to, from) {
            (B(_), _) | (_, B(_)) => return None,
            _ if integer(to) && integer(from) => {
                if integral.or(rounding).is_some() || ftz {
                    return None;
                }
                let (fb, fs, tb, ts) = (from.bits(), from.signed(), to.bits(), to.signed());
                let all_fit = fs == ts && fb <= tb || !fs && ts && fb < tb;
                if sat && all_fit {
                    return None;
                }
                Box::new(move |v| convert::int_to_int(v, fb, fs, tb, ts, sat))
            }
            // Conversions to integers always clamp, with or without `.sat`.
            (U(bits) | S(bits), F(64)) => {
                let (r, signed) = (integral?, to.signed());
                Box::new(move |v| convert::f64_to_int(f64::from_bits(v), bits, signed, r))
            }
            (U(bits) | S(bits), _) if narrow_source => {
                let (r, signed) = (integral?, to.signed());
                Box::new(move |v| convert::float_to_int(widen(v).into(), bits, signed, r))
            }
            (F(32), U(_) | S(_)) => {
                let r = rounding?;
                Box::new(move |v| {
                    let value = convert::int_to_f32(extend(v, from), r);
                    u64::from(if sat { float::saturate32(value) } else { value }.to_bits())
                })
            }
            (F(64), U(_) | S(_)) => {
                let r = rounding?;
                if sat {
                    return None;
                }
                Box::new(move |v| convert::int_to_f64(extend(v, from), r).to_bits())
            }
            (F(16), U(_) | S(_)) => {
                let r = rounding?;
                if sat {
                    return None;
                }
                Box::new(move |v| convert::int_to_f16(extend(v, from), r).into())
            }
            (Type::Bf16, U(_) | S(_)) => {
                let r = rounding?;
                if sat {
                    return None;
                }
                Box::new(move |v| convert::int_to_bf16(extend(v, from), r).into())
            }
            (F(32), F(64)) => {
                let r = rounding?;
                Box::new(move |v| convert::f64_to_f32(f64::from_bits(v), r, ftz, sat).to_bits().into())
            }
            (F(64), F(64)) => {
                let round = integral;
                if sat || rounding.is_some() {
                    return None;
                }
                Box::new(move |v| {
                    let value = f64::from_bits(v);
                    round.map_or(value, |r| convert::round_to_integer64(value, r)).to_bits()
                })
            }
            (F(64), _) if narrow_source => {
                if integral.or(rounding).is_some() || sat {
                    return None;
                }
                Box::new(move |v| f64::from(widen(v)).to_bits())
            }
            (F(32), _) if narrow_source => {
                let round = integral;
                if rounding.is_some() || (round.is_some() && from != F(32)) {
                    return None;
                }
                Box::new(move |v| {
                    let value = widen(v);
                    let value = round.map_or(value, |r| convert::round_to_integer32(value, r));
                    u64::from(if sat { float::saturate32(value) } else { value }.to_bits())
                })
            }
            (Type::Tf32, F(32)) => {
                let r = rounding?;
                if sat || ftz || matches!(r, Rounding::Down | Rounding::Up) {
                    return None;
                }
                Box::new(move |v| {
                    let value = f32::from_bits(v as u32);
                    convert::f32_to_tf32(if relu && value < 0.0 { 0.0 } else { value }, r).into()
                })
            }
            (F(16) | Type::Bf16, F(64)) => {
                rounding?;
                if sat || relu {
                    return None;
                }
                let bf = to == Type::Bf16;
                Box::new(move |v| {
                    let value = f64::from_bits(v);
                    u64::from(if bf { half::f64_to_bf16(value, nearest) } else { half::f64_to_f16(value, nearest) })
                })
            }
            (F(16) | Type::Bf16, _) if narrow_source => {
                let kind = if to == Type::Bf16 { Half::Bf16 } else { Half::F16 };
                if integral.is_some() && from != to || (from != to && integral.is_none()) != rounding.is_some() {
                    return None;
                }
                Box::new(move |v| {
                    let value = widen(v);
                    let value = integral.map_or(value, |r| convert::round_to_integer32(value, r));
                    let value = if sat { float::saturate32(value) } else { value };
                    let bits = half::from_f32(kind, value, nearest);
                    u64::from(if relu { half::relu16(kind, bits) } else { bits })
                })
            }
            _ => return None,
        })
    }
}
