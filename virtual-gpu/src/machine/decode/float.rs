//! Floating-point instructions (PTX ISA 9.0, "Floating Point Instructions" and "Half Precision ..."): selects the
//! functions of `arith` by type and modifiers.

use super::lanes::{Lane, halves, one, three, two};
use super::*;
use crate::arith::approx;
use crate::arith::float::{self, Mode};
use crate::arith::half::{self, Half};
use Type::F;

/// The NaN that 32-bit arithmetic returns.
const NAN: u32 = 0x7fff_ffff;

#[inline(always)]
fn canonical(value: f32) -> f32 {
    if value.is_nan() { f32::from_bits(NAN) } else { value }
}

/// `a * b + c` on rows, rounded once. Uses the CPU's fma where it exists; the C library's function returns the same
/// bits, but costs a call for each lane.
fn fma_rows() -> Pure {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("fma") && std::arch::is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "fma,avx2")]
        fn rows(d: &mut Row, a: &Row, b: &Row, c: &Row) {
            for i in 0..32 {
                d[i] = canonical(f32::get(a[i]).mul_add(f32::get(b[i]), f32::get(c[i]))).put();
            }
        }
        // SAFETY: the features were found on this CPU.
        return Pure::Three(Box::new(|d, a, b, c| unsafe { rows(d, a, b, c) }));
    }
    three(|a: f32, b: f32, c: f32| canonical(a.mul_add(b, c)))
}

fn half_kind(ty: Type) -> Option<(Half, bool)> {
    match ty {
        F(16) => Some((Half::F16, false)),
        Type::F16x2 => Some((Half::F16, true)),
        Type::Bf16 => Some((Half::Bf16, false)),
        Type::Bf16x2 => Some((Half::Bf16, true)),
        _ => None,
    }
}

/// Lifts a function on halves to rows of single halves or of packed pairs.
fn packed(count: usize, pairs: bool, f: impl Fn(u16, u16, u16) -> u16 + Copy + Send + Sync + 'static) -> Pure {
    match (count, pairs) {
        (1, false) => one(move |a: u16| f(a, 0, 0)),
        (1, true) => one(move |a: u32| halves(a, 0, 0, f)),
        (2, false) => two(move |a: u16, b: u16| f(a, b, 0)),
        (2, true) => two(move |a: u32, b: u32| halves(a, b, 0, f)),
        (_, false) => three(move |a: u16, b: u16, c: u16| f(a, b, c)),
        (_, true) => three(move |a: u32, b: u32, c: u32| halves(a, b, c, f)),
    }
}

impl Decoder {
    pub(super) fn float(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let exact = form.rounding();
        let (approx, full) = (form.take("approx"), form.take("full"));
        let (ftz, sat) = (form.take("ftz"), form.take("sat"));
        let (nan, relu) = (form.take("NaN"), form.take("relu"));
        if form.base == "testp" {
            if exact.is_some() || approx || full || ftz || sat || nan || relu {
                return form.unsupported();
            }
            return self.testp(form, operands);
        }
        let ty = form.ty()?;
        let m = Mode { rounding: exact.unwrap_or(crate::arith::Rounding::Nearest), ftz, sat };
        let special = matches!(form.base, "ex2" | "lg2" | "sin" | "cos" | "tanh" | "rsqrt") || approx || full;
        // Refuse the modifiers that the instruction does not have.
        let rounds = matches!(form.base, "add" | "sub" | "mul" | "fma" | "mad" | "div" | "rcp" | "sqrt");
        let saturates = matches!(form.base, "add" | "sub" | "mul" | "fma" | "mad")
            && !relu
            && !matches!(ty, F(64) | Type::Bf16 | Type::Bf16x2);
        let compares = matches!(form.base, "min" | "max");
        if (exact.is_some() && (!rounds || special))
            || (exact.is_none() && !special && matches!(form.base, "fma" | "mad" | "div" | "rcp" | "sqrt"))
            || exact == Some(crate::arith::Rounding::NearestAway)
            || (sat && !saturates)
            || (nan && (!compares || ty == F(64)))
            || (relu && (form.base != "fma" || half_kind(ty).is_none()))
            || (ftz && matches!(ty, F(64) | Type::Bf16 | Type::Bf16x2) && !special)
            || (special && !approx && !full)
            || (full && form.base != "div")
            || (ftz && form.base == "copysign")
        {
            return form.unsupported();
        }
        if let Some((kind, pairs)) = half_kind(ty) {
            return self.half(form, operands, ty, kind, pairs, m, nan, relu);
        }
        let plain = m == Mode::NEAREST;
        let f = match (form.base, ty, special) {
            ("add", F(32), _) if plain => two(|a: f32, b: f32| canonical(a + b)),
            ("sub", F(32), _) if plain => two(|a: f32, b: f32| canonical(a - b)),
            ("mul", F(32), _) if plain => two(|a: f32, b: f32| canonical(a * b)),
            ("fma" | "mad", F(32), _) if plain => fma_rows(),
            ("add", F(32), _) => two(move |a, b| float::add32(a, b, m)),
            ("sub", F(32), _) => two(move |a, b| float::sub32(a, b, m)),
            ("mul", F(32), _) => two(move |a, b| float::mul32(a, b, m)),
            ("fma" | "mad", F(32), _) => three(move |a, b, c| float::fma32(a, b, c, m)),
            ("add", F(64), _) => two(move |a, b| float::add64(a, b, m)),
            ("sub", F(64), _) => two(move |a, b| float::sub64(a, b, m)),
            ("mul", F(64), _) => two(move |a, b| float::mul64(a, b, m)),
            ("fma" | "mad", F(64), _) => three(move |a, b, c| float::fma64(a, b, c, m)),
            ("div", F(32), false) => two(move |a, b| float::div32(a, b, m)),
            ("div", F(32), true) if full => two(move |a, b| approx::div_full_32(a, b, ftz)),
            ("div", F(32), true) => two(move |a, b| approx::div_approx_32(a, b, ftz)),
            ("div", F(64), false) => two(move |a, b| float::div64(a, b, m)),
            ("rcp", F(32), false) => one(move |a| float::rcp32(a, m)),
            ("rcp", F(32), true) => one(move |a| approx::rcp_32(a, ftz)),
            ("rcp", F(64), false) => one(move |a| float::rcp64(a, m)),
            ("rcp", F(64), true) if ftz => one(approx::rcp_64_ftz),
            ("sqrt", F(32), false) => one(move |a| float::sqrt32(a, m)),
            ("sqrt", F(32), true) => one(move |a| approx::sqrt_32(a, ftz)),
            ("sqrt", F(64), false) => one(move |a| float::sqrt64(a, m)),
            ("rsqrt", F(32), _) => one(move |a| approx::rsqrt_32(a, ftz)),
            ("rsqrt", F(64), _) if ftz => one(approx::rsqrt_64_ftz),
            ("rsqrt", F(64), _) => one(approx::rsqrt_64),
            ("ex2", F(32), _) => one(move |a| approx::ex2_32(a, ftz)),
            ("lg2", F(32), _) => one(move |a| approx::lg2_32(a, ftz)),
            ("sin", F(32), _) => one(move |a| approx::sin_32(a, ftz)),
            ("cos", F(32), _) => one(move |a| approx::cos_32(a, ftz)),
            ("tanh", F(32), _) if !ftz => one(approx::tanh_32),
            ("min", F(32), _) => two(move |a, b| float::min32(a, b, ftz, nan)),
            ("max", F(32), _) => two(move |a, b| float::max32(a, b, ftz, nan)),
            ("min", F(64), _) => two(float::min64),
            ("max", F(64), _) => two(float::max64),
            ("abs", F(32), _) => one(move |a| float::abs32(a, ftz)),
            ("neg", F(32), _) => one(move |a| float::neg32(a, ftz)),
            ("abs", F(64), _) => one(|a: u64| a & !(1 << 63)),
            ("neg", F(64), _) => one(|a: u64| a ^ 1 << 63),
            ("copysign", F(32), _) => two(|a: u32, b: u32| b & !(1 << 31) | a & 1 << 31),
            ("copysign", F(64), _) => two(|a: u64, b: u64| b & !(1 << 63) | a & 1 << 63),
            _ => return form.unsupported(),
        };
        let class = match (special, ty) {
            (true, _) => Class::Special,
            (_, F(64)) => Class::Double,
            _ => Class::Float,
        };
        self.counted(form, operands, f, ty, class)
    }

    fn counted(&mut self, form: &Form, operands: &[Operand], f: Pure, ty: Type, class: Class) -> Decoded<Made> {
        let each = match form.base {
            "fma" | "mad" => 2,
            "add" | "sub" | "mul" | "div" | "rcp" | "sqrt" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" => 1,
            _ => 0,
        };
        let pair = matches!(ty, Type::F16x2 | Type::Bf16x2);
        let made = self.pure(form, operands, f, ty.bits(), [ty; 4], class)?;
        Ok(Made { flops: each * if pair { 2 } else { 1 }, ..made })
    }

    #[allow(clippy::too_many_arguments)]
    fn half(
        &mut self,
        form: &Form,
        operands: &[Operand],
        ty: Type,
        kind: Half,
        pairs: bool,
        m: Mode,
        nan: bool,
        relu: bool,
    ) -> Decoded<Made> {
        let ftz = m.ftz;
        if m.rounding != crate::arith::Rounding::Nearest {
            return form.unsupported();
        }
        let f = match form.base {
            "add" => packed(2, pairs, move |a, b, _| half::add16(kind, a, b, m)),
            "sub" => packed(2, pairs, move |a, b, _| half::sub16(kind, a, b, m)),
            "mul" => packed(2, pairs, move |a, b, _| half::mul16(kind, a, b, m)),
            "fma" if relu => packed(3, pairs, move |a, b, c| half::relu16(kind, half::fma16(kind, a, b, c, m))),
            "fma" => packed(3, pairs, move |a, b, c| half::fma16(kind, a, b, c, m)),
            "min" => packed(2, pairs, move |a, b, _| half::min16(kind, a, b, ftz, nan)),
            "max" => packed(2, pairs, move |a, b, _| half::max16(kind, a, b, ftz, nan)),
            "abs" => packed(1, pairs, move |a, _, _| half::abs16(kind, a, ftz)),
            "neg" => packed(1, pairs, move |a, _, _| half::neg16(kind, a, ftz)),
            "ex2" if ftz == (kind == Half::Bf16) => packed(1, pairs, move |a, _, _| approx::ex2_16(kind, a, ftz)),
            "tanh" => packed(1, pairs, move |a, _, _| approx::tanh_16(kind, a)),
            _ => return form.unsupported(),
        };
        self.counted(form, operands, f, ty, Class::Half)
    }

    fn testp(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        use std::num::FpCategory::*;
        let test = form.any(&[
            ("finite", 0),
            ("infinite", 1),
            ("number", 2),
            ("notanumber", 3),
            ("normal", 4),
            ("subnormal", 5),
        ]);
        let (Some(test), ty) = (test, form.ty()?) else { return form.unsupported() };
        let holds = move |category| match test {
            0 => !matches!(category, Nan | Infinite),
            1 => category == Infinite,
            2 => category != Nan,
            3 => category == Nan,
            4 => matches!(category, Normal | Zero),
            _ => category == Subnormal,
        };
        let f = match ty {
            F(32) => lanes::compare(move |a: f32, _: f32| holds(a.classify())),
            F(64) => lanes::compare(move |a: f64, _: f64| holds(a.classify())),
            _ => return form.unsupported(),
        };
        let [p, a] = self.operands(form, operands)?;
        let (p, a) = (self.predicate_target(form, p)?, self.source(form, a, ty)?);
        made(Op::Compare { f, g: None, a, b: a, p, q: NOWHERE, with: None }, Class::Compare)
    }
}
