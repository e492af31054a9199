//! Floating-point arithmetic.

use super::*;

/// The NaN that 32-bit arithmetic returns.
const NAN: u64 = 0x7fff_ffff;

pub fn exact() -> Vec<Form> {
    let (third, tiny, nan) = (1f32 / 3.0, f32::from_bits(1), 0x7fc0_0000);
    let (inf, zero) = (f32::INFINITY, f(-0.0));
    let mut forms = rows(&[
        ("add.f32 %f1, %f2, %f3;", F32, [f(1.5), f(2.25), 0], f(3.75)),
        ("add.f32 %f1, %f2, %f3;", F32, [f(tiny), f(tiny), 0], 2),
        ("add.ftz.f32 %f1, %f2, %f3;", F32, [f(tiny), f(1.0), 0], f(1.0)),
        ("add.rn.ftz.f32 %f1, %f2, %f3;", F32, [f(tiny), f(tiny), 0], 0),
        ("add.sat.f32 %f1, %f2, %f3;", F32, [f(1.0), f(1.0), 0], f(1.0)),
        ("add.sat.f32 %f1, %f2, %f3;", F32, [nan, f(1.0), 0], 0),
        ("add.f32 %f1, %f2, %f3;", F32, [f(inf), f(-inf), 0], NAN),
        ("sub.f32 %f1, %f2, %f3;", F32, [f(1.0), f(third), 0], f(1.0 - third)),
        ("sub.ftz.sat.f32 %f1, %f2, %f3;", F32, [f(1.0), f(2.0), 0], 0),
        ("mul.f32 %f1, %f2, 0f40000000;", F32, [f(third), 0, 0], f(2.0 * third)),
        ("mul.ftz.f32 %f1, %f2, %f3;", F32, [f(-tiny), f(1.0), 0], zero),
        ("mul.f32 %f1, %f2, %f3;", F32, [f(inf), 0, 0], NAN),
        ("fma.rn.f32 %f1, %f2, %f3, %f4;", F32, [f(third), f(3.0), f(-1.0)], f(third.mul_add(3.0, -1.0))),
        ("fma.rn.ftz.f32 %f1, %f2, %f3, %f4;", F32, [f(tiny), f(3.0), f(-tiny)], 0),
        ("mad.rn.f32 %f1, %f2, %f3, %f4;", F32, [f(2.0), f(3.0), f(1.0)], f(7.0)),
        ("div.rn.f32 %f1, %f2, %f3;", F32, [f(1.0), 0, 0], f(inf)),
        ("div.rn.ftz.f32 %f1, %f2, %f3;", F32, [f(tiny), f(-1.0), 0], zero),
        ("rcp.rn.f32 %f1, %f2;", F32, [zero, 0, 0], f(-inf)),
        ("rcp.rn.ftz.f32 %f1, %f2;", F32, [f(tiny), 0, 0], f(inf)),
        ("sqrt.rn.f32 %f1, %f2;", F32, [f(-1.0), 0, 0], NAN),
        ("sqrt.rn.ftz.f32 %f1, %f2;", F32, [f(tiny), 0, 0], 0),
        ("min.f32 %f1, %f2, %f3;", F32, [nan, f(1.0), 0], f(1.0)),
        ("min.f32 %f1, %f2, %f3;", F32, [0, zero, 0], zero),
        ("min.ftz.f32 %f1, %f2, %f3;", F32, [f(-tiny), f(1.0), 0], zero),
        ("min.NaN.f32 %f1, %f2, %f3;", F32, [f(1.0), nan, 0], NAN),
        ("max.f32 %f1, %f2, %f3;", F32, [f(-1.0), f(-2.0), 0], f(-1.0)),
        ("max.f32 %f1, %f2, %f3;", F32, [nan, nan, 0], NAN),
        ("max.ftz.f32 %f1, %f2, %f3;", F32, [f(tiny), f(-1.0), 0], 0),
        ("max.NaN.f32 %f1, %f2, %f3;", F32, [nan, f(1.0), 0], NAN),
        ("max.NaN.f32 %f1, %f2, %f3;", F32, [zero, 0, 0], 0),
        ("max.NaN.f32 %f1, %f2, %f3;", F32, [0, zero, 0], 0),
        ("max.ftz.NaN.f32 %f1, %f2, %f3;", F32, [f(tiny), f(-1.0), 0], 0),
        ("abs.f32 %f1, %f2;", F32, [f(-1.0), 0, 0], f(1.0)),
        ("abs.ftz.f32 %f1, %f2;", F32, [f(-tiny), 0, 0], 0),
        ("neg.f32 %f1, %f2;", F32, [f(1.0), 0, 0], f(-1.0)),
        ("neg.ftz.f32 %f1, %f2;", F32, [f(tiny), 0, 0], zero),
        ("copysign.f32 %f1, %f2, %f3;", F32, [zero, f(1.0), 0], f(-1.0)),
        ("copysign.f64 %fd1, %fd2, %fd3;", F64, [d(1.0), d(-2.0), 0], d(2.0)),
        ("add.f64 %fd1, %fd2, %fd3;", F64, [d(0.1), d(0.2), 0], d(0.1 + 0.2)),
        ("sub.f64 %fd1, %fd2, %fd3;", F64, [d(0.1), d(0.2), 0], d(0.1 - 0.2)),
        ("mul.f64 %fd1, %fd2, 0d4008000000000000;", F64, [d(0.1), 0, 0], d(0.1 * 3.0)),
        ("fma.rn.f64 %fd1, %fd2, %fd3, %fd4;", F64, [d(0.1), d(10.0), d(-1.0)], d(0.1f64.mul_add(10.0, -1.0))),
        ("min.f64 %fd1, %fd2, %fd3;", F64, [d(f64::NAN), d(3.0), 0], d(3.0)),
        ("max.f64 %fd1, %fd2, %fd3;", F64, [d(1.0), d(3.0), 0], d(3.0)),
        ("abs.f64 %fd1, %fd2;", F64, [d(-1.0), 0, 0], d(1.0)),
        ("neg.f64 %fd1, %fd2;", F64, [d(1.0), 0, 0], d(-1.0)),
        ("testp.normal.f32 %p1, %f2;", P, [zero, 0, 0], 1),
        ("add.f64 %fd1, %fd2, %fd3; testp.notanumber.f64 %p1, %fd1;", P, [d(f64::INFINITY), d(-f64::INFINITY), 0], 1),
    ]);
    let (infinity, one, small) = (f(inf), f(1.0), f(tiny));
    for (test, yes, no) in [
        ("finite", small, infinity),
        ("infinite", infinity, one),
        ("number", infinity, nan),
        ("notanumber", nan, infinity),
        ("normal", one, small),
        ("subnormal", small, one),
    ] {
        for (bits, wanted) in [(yes, 1), (no, 0)] {
            let single = format!("testp.{test}.f32 %p1, %f2;");
            forms.push(form(single, P, [bits, 0, 0], Wanted::Every(wanted)));
            // The same classes in double precision; the subnormal number is not converted.
            let bits = if bits == small { 1 } else { d(f32::from_bits(bits as u32).into()) };
            let double = format!("testp.{test}.f64 %p1, %fd2;");
            forms.push(form(double, P, [bits, 0, 0], Wanted::Every(wanted)));
        }
    }
    forms
}

/// Operations with the floats below and above their exact result, in each rounding and with each modifier.
pub fn rounded() -> Vec<Form> {
    let mut forms = Vec::new();
    for single in [true, false] {
        let (ty, reg, result) = if single { ("f32", "%f", F32) } else { ("f64", "%fd", F64) };
        let bits = |value: f64| if single { f(value as f32) } else { d(value) };
        let e = if single { 2f64.powi(-23) } else { 2f64.powi(-52) };
        let (a, small) = (1.0 + e, 2f64.powi(-120));
        // 1/3 and the root of 2, rounded to nearest. One of the two is above its exact value, the other below.
        let (third, root) = if single { ((1f32 / 3.0).into(), 2f32.sqrt().into()) } else { (1.0 / 3.0, 2f64.sqrt()) };
        let (thirds, roots) = if single {
            ((third - e / 4.0, third), (root, root + e))
        } else {
            ((third, third + e / 4.0), (root - e, root))
        };
        for (name, operands, inputs, (below, above), nearest) in [
            ("add", 3, [1.0, small, 0.0], (1.0, a), 1.0),
            ("add", 3, [-1.0, -small, 0.0], (-a, -1.0), -1.0),
            ("sub", 3, [1.0, small, 0.0], (1.0 - e / 2.0, 1.0), 1.0),
            ("mul", 3, [a, a, 0.0], (1.0 + 2.0 * e, 1.0 + 3.0 * e), 1.0 + 2.0 * e),
            ("mul", 3, [-a, a, 0.0], (-1.0 - 3.0 * e, -1.0 - 2.0 * e), -1.0 - 2.0 * e),
            ("fma", 4, [a, a, small], (1.0 + 2.0 * e, 1.0 + 3.0 * e), 1.0 + 2.0 * e),
            ("mad", 4, [a, -a, small], (-1.0 - 3.0 * e, -1.0 - 2.0 * e), -1.0 - 2.0 * e),
            ("div", 3, [1.0, 3.0, 0.0], thirds, third),
            ("rcp", 2, [3.0, 0.0, 0.0], thirds, third),
            ("sqrt", 2, [2.0, 0.0, 0.0], roots, root),
        ] {
            let modifiers: &[&str] = match (single, name) {
                (false, _) => &[""],
                (_, "div" | "rcp" | "sqrt") => &["", ".ftz"],
                _ => &["", ".ftz", ".sat", ".ftz.sat"],
            };
            for (rounding, wanted) in
                [("rn", nearest), ("rz", if nearest > 0.0 { below } else { above }), ("rm", below), ("rp", above)]
            {
                for modifier in modifiers {
                    let operands: Vec<String> = (1..=operands).map(|n| format!("{reg}{n}")).collect();
                    let body = format!("{name}.{rounding}{modifier}.{ty} {};", operands.join(", "));
                    let wanted = if modifier.contains("sat") { wanted.clamp(0.0, 1.0) + 0.0 } else { wanted };
                    forms.push(form(body, result, inputs.map(bits), Wanted::Every(bits(wanted))));
                }
            }
        }
    }
    forms
}

fn single(bits: u64) -> f64 {
    f32::from_bits(bits as u32).into()
}

pub fn half(bits: u64) -> f64 {
    half::f16::from_bits(bits as u16).to_f64()
}

fn brain(bits: u64) -> f64 {
    f32::from_bits((bits as u32) << 16).into()
}

/// Results within the manual's bounds, and the results for special operands that the manual lists.
pub fn approximate() -> Vec<Form> {
    let (inf, tiny, zero) = (f(f32::INFINITY), 1, f(-0.0));
    let mut forms = rows(&[
        ("div.approx.ftz.f32 %f1, %f2, %f3;", F32, [tiny, f(1.0), 0], 0),
        ("div.full.ftz.f32 %f1, %f2, %f3;", F32, [tiny, f(1.0), 0], 0),
        ("rcp.approx.f32 %f1, %f2;", F32, [zero, 0, 0], f(-f32::INFINITY)),
        ("rcp.approx.ftz.f32 %f1, %f2;", F32, [tiny, 0, 0], inf),
        ("sqrt.approx.f32 %f1, %f2;", F32, [zero, 0, 0], zero),
        ("sqrt.approx.ftz.f32 %f1, %f2;", F32, [tiny, 0, 0], 0),
        ("rsqrt.approx.f32 %f1, %f2;", F32, [inf, 0, 0], 0),
        ("rsqrt.approx.ftz.f32 %f1, %f2;", F32, [tiny, 0, 0], inf),
        ("ex2.approx.f32 %f1, %f2;", F32, [zero, 0, 0], f(1.0)),
        ("ex2.approx.ftz.f32 %f1, %f2;", F32, [f(-f32::INFINITY), 0, 0], 0),
        ("lg2.approx.f32 %f1, %f2;", F32, [inf, 0, 0], inf),
        ("lg2.approx.ftz.f32 %f1, %f2;", F32, [tiny, 0, 0], f(-f32::INFINITY)),
        ("sin.approx.f32 %f1, %f2;", F32, [0, 0, 0], 0),
        ("sin.approx.ftz.f32 %f1, %f2;", F32, [tiny, 0, 0], 0),
        ("cos.approx.f32 %f1, %f2;", F32, [0, 0, 0], f(1.0)),
        ("cos.approx.ftz.f32 %f1, %f2;", F32, [tiny, 0, 0], f(1.0)),
        ("tanh.approx.f32 %f1, %f2;", F32, [0, 0, 0], 0),
        ("tanh.approx.f32 %f1, %f2;", F32, [inf, 0, 0], f(1.0)),
        ("rcp.approx.ftz.f64 %fd1, %fd2;", F64, [d(f64::INFINITY), 0, 0], 0),
        ("rsqrt.approx.f64 %fd1, %fd2;", F64, [d(f64::INFINITY), 0, 0], 0),
        ("rsqrt.approx.ftz.f64 %fd1, %fd2;", F64, [1, 0, 0], d(f64::INFINITY)),
    ]);
    let (a, b) = (2.7f32, 0.3f32);
    let (x, y) = (f64::from(a), f64::from(b));
    let ulp = |value: f64| 2f64.powi(value.abs().log2().floor() as i32 - 23);
    for (body, wanted, bound) in [
        ("div.approx.f32 %f1, %f2, %f3;", x / y, 2.0 * ulp(x / y)),
        ("div.approx.ftz.f32 %f1, %f2, %f3;", x / y, 2.0 * ulp(x / y)),
        ("div.full.f32 %f1, %f2, %f3;", x / y, 2.0 * ulp(x / y)),
        ("div.full.ftz.f32 %f1, %f2, %f3;", x / y, 2.0 * ulp(x / y)),
        ("rcp.approx.f32 %f1, %f2;", 1.0 / x, ulp(1.0 / x)),
        ("rcp.approx.ftz.f32 %f1, %f2;", 1.0 / x, ulp(1.0 / x)),
        ("sqrt.approx.f32 %f1, %f2;", x.sqrt(), x.sqrt() * 2f64.powi(-23)),
        ("sqrt.approx.ftz.f32 %f1, %f2;", x.sqrt(), x.sqrt() * 2f64.powi(-23)),
        ("rsqrt.approx.f32 %f1, %f2;", x.sqrt().recip(), x.sqrt().recip() * 2f64.powf(-22.9)),
        ("rsqrt.approx.ftz.f32 %f1, %f2;", x.sqrt().recip(), x.sqrt().recip() * 2f64.powf(-22.9)),
        ("ex2.approx.f32 %f1, %f2;", x.exp2(), 2.0 * ulp(x.exp2())),
        ("ex2.approx.ftz.f32 %f1, %f2;", x.exp2(), 2.0 * ulp(x.exp2())),
        ("lg2.approx.f32 %f1, %f2;", x.log2(), x.log2() * 2f64.powi(-22)),
        ("lg2.approx.ftz.f32 %f1, %f2;", x.log2(), x.log2() * 2f64.powi(-22)),
        ("sin.approx.f32 %f1, %f2;", x.sin(), 2f64.powf(-20.5)),
        ("sin.approx.ftz.f32 %f1, %f2;", x.sin(), 2f64.powf(-20.5)),
        ("cos.approx.f32 %f1, %f2;", x.cos(), 2f64.powf(-20.5)),
        ("cos.approx.ftz.f32 %f1, %f2;", x.cos(), 2f64.powf(-20.5)),
        ("tanh.approx.f32 %f1, %f2;", x.tanh(), x.tanh() * 2f64.powi(-11)),
    ] {
        forms.push(form(body, F32, [f(a), f(b), 0], Wanted::Near(single, wanted, bound)));
    }
    for (body, wanted, bound) in [
        ("rcp.approx.ftz.f64 %fd1, %fd2;", 1.0 / x, 2f64.powi(-19)),
        ("rsqrt.approx.ftz.f64 %fd1, %fd2;", x.sqrt().recip(), 2f64.powi(-19)),
        // The manual gives no bound. NVIDIA's library refines this to a square root.
        ("rsqrt.approx.f64 %fd1, %fd2;", x.sqrt().recip(), 2f64.powi(-19)),
    ] {
        forms.push(form(body, F64, [d(x), 0, 0], Wanted::Near(f64::from_bits, wanted, bound)));
    }
    // 1.5 and half of it as a pair; both functions of 1.5 are well within the range of halves.
    let (value, pair) = (1.5f64, 0x3e00_3a00);
    let upper = "shr.u32 %r1, %r1, 16; cvt.u64.u32 %rd1, %r1;";
    for (body, wanted, bound) in [
        ("ex2.approx", value.exp2(), value.exp2() * 2f64.powf(-9.9)),
        ("tanh.approx", value.tanh(), 2f64.powf(-10.987)),
    ] {
        let near = || Wanted::Near(half, wanted, bound);
        forms.push(form(format!("{body}.f16 %rs1, %rs2;"), R16, [0x3e00, 0, 0], near()));
        forms.push(form(format!("{body}.f16x2 %r1, %r2;"), upper, [pair, 0, 0], near()));
    }
    forms
}

/// `.f16` and `.bf16`, single and in pairs. The exact results are representable, or a tie.
pub fn halves() -> Vec<Form> {
    rows(&[
        ("add.f16 %rs1, %rs2, %rs3;", R16, [0x3c00, 0x3c00, 0], 0x4000),
        ("add.rn.f16 %rs1, %rs2, %rs3;", R16, [0x3c00, 0x1000, 0], 0x3c00),
        ("add.rn.ftz.f16 %rs1, %rs2, %rs3;", R16, [0x0001, 0x0001, 0], 0),
        ("add.f16 %rs1, %rs2, %rs3;", R16, [0x0001, 0x0001, 0], 2),
        ("add.sat.f16 %rs1, %rs2, %rs3;", R16, [0x3c00, 0x3c00, 0], 0x3c00),
        ("add.f16x2 %r1, %r2, %r3;", R32, [0x3c00_4000, 0x4000_4000, 0], 0x4200_4400),
        ("add.ftz.sat.f16x2 %r1, %r2, %r3;", R32, [0x3c00_0001, 0x4000_0001, 0], 0x3c00_0000),
        ("sub.f16 %rs1, %rs2, %rs3;", R16, [0x3c00, 0x4000, 0], 0xbc00),
        ("sub.rn.ftz.sat.f16 %rs1, %rs2, %rs3;", R16, [0x3c00, 0x4000, 0], 0),
        ("sub.f16x2 %r1, %r2, %r3;", R32, [0x3c00_4000, 0x4000_4000, 0], 0xbc00_0000),
        ("mul.f16 %rs1, %rs2, %rs3;", R16, [0x4000, 0x4200, 0], 0x4600),
        ("mul.rn.ftz.f16 %rs1, %rs2, %rs3;", R16, [0x0001, 0x3c00, 0], 0),
        ("mul.f16x2 %r1, %r2, %r3;", R32, [0x3c00_4000, 0x4000_4000, 0], 0x4000_4400),
        ("fma.rn.f16 %rs1, %rs2, %rs3, %rs4;", R16, [0x4000, 0x4200, 0x3c00], 0x4700),
        ("fma.rn.ftz.f16 %rs1, %rs2, %rs3, %rs4;", R16, [0x0001, 0x4200, 0x3c00], 0x3c00),
        ("fma.rn.sat.f16 %rs1, %rs2, %rs3, %rs4;", R16, [0x4000, 0x4200, 0x3c00], 0x3c00),
        ("fma.rn.relu.f16 %rs1, %rs2, %rs3, %rs4;", R16, [0xc000, 0x4200, 0x3c00], 0),
        ("fma.rn.ftz.relu.f16 %rs1, %rs2, %rs3, %rs4;", R16, [0x4000, 0x4200, 0x3c00], 0x4700),
        ("fma.rn.f16x2 %r1, %r2, %r3, %r4;", R32, [0x3c00_4000, 0x4000_4000, 0x3c00_3c00], 0x4200_4500),
        ("fma.rn.relu.f16x2 %r1, %r2, %r3, %r4;", R32, [0xbc00_4000, 0x4000_4000, 0x3c00_3c00], 0x0000_4500),
        ("fma.rn.bf16 %rs1, %rs2, %rs3, %rs4;", R16, [0x4000, 0x4040, 0x3f80], 0x40e0),
        ("fma.rn.relu.bf16 %rs1, %rs2, %rs3, %rs4;", R16, [0xc000, 0x4040, 0x3f80], 0),
        ("fma.rn.bf16x2 %r1, %r2, %r3, %r4;", R32, [0x3f80_4000, 0x4000_4000, 0x3f80_3f80], 0x4040_40a0),
        ("fma.rn.relu.bf16x2 %r1, %r2, %r3, %r4;", R32, [0xbf80_4000, 0x4000_4000, 0x3f80_3f80], 0x0000_40a0),
        ("min.f16 %rs1, %rs2, %rs3;", R16, [0x3c00, 0x4000, 0], 0x3c00),
        ("min.NaN.f16 %rs1, %rs2, %rs3;", R16, [0x3c00, 0x7e00, 0], 0x7fff),
        ("min.ftz.f16 %rs1, %rs2, %rs3;", R16, [0x0001, 0x4000, 0], 0),
        ("min.f16x2 %r1, %r2, %r3;", R32, [0x3c00_7e00, 0x4000_3c00, 0], 0x3c00_3c00),
        ("min.bf16 %rs1, %rs2, %rs3;", R16, [0x3f80, 0x4000, 0], 0x3f80),
        ("min.NaN.bf16x2 %r1, %r2, %r3;", R32, [0x3f80_4000, 0x7fc0_3f80, 0], 0x7fff_3f80),
        ("max.f16 %rs1, %rs2, %rs3;", R16, [0x3c00, 0x4000, 0], 0x4000),
        ("max.ftz.NaN.f16x2 %r1, %r2, %r3;", R32, [0x7e00_0001, 0x4000_8001, 0], 0x7fff_0000),
        ("max.NaN.bf16 %rs1, %rs2, %rs3;", R16, [0x7fc0, 0x4000, 0], 0x7fff),
        ("max.bf16x2 %r1, %r2, %r3;", R32, [0x3f80_4000, 0x4000_3f80, 0], 0x4000_4000),
        ("abs.f16 %rs1, %rs2;", R16, [0xbc00, 0, 0], 0x3c00),
        ("abs.f16x2 %r1, %r2;", R32, [0xbc00_bc00, 0, 0], 0x3c00_3c00),
        ("abs.ftz.f16x2 %r1, %r2;", R32, [0x8001_bc00, 0, 0], 0x3c00),
        ("abs.bf16 %rs1, %rs2;", R16, [0xbf80, 0, 0], 0x3f80),
        ("abs.bf16x2 %r1, %r2;", R32, [0xbf80_3f80, 0, 0], 0x3f80_3f80),
        ("neg.f16 %rs1, %rs2;", R16, [0x3c00, 0, 0], 0xbc00),
        ("neg.ftz.f16 %rs1, %rs2;", R16, [0x0001, 0, 0], 0x8000),
        ("neg.f16x2 %r1, %r2;", R32, [0x3c00_bc00, 0, 0], 0xbc00_3c00),
        ("neg.bf16 %rs1, %rs2;", R16, [0x3f80, 0, 0], 0xbf80),
        ("neg.bf16x2 %r1, %r2;", R32, [0x3f80_bf80, 0, 0], 0xbf80_3f80),
    ])
}

pub fn halves_of_sm_90() -> Vec<Form> {
    let mut forms = rows(&[
        ("add.bf16 %rs1, %rs2, %rs3;", R16, [0x3f80, 0x3f80, 0], 0x4000),
        ("add.rn.bf16x2 %r1, %r2, %r3;", R32, [0x3f80_4000, 0x4000_4000, 0], 0x4040_4080),
        ("sub.bf16 %rs1, %rs2, %rs3;", R16, [0x3f80, 0x4000, 0], 0xbf80),
        ("sub.bf16x2 %r1, %r2, %r3;", R32, [0x3f80_4000, 0x4000_4000, 0], 0xbf80_0000),
        ("mul.rn.bf16 %rs1, %rs2, %rs3;", R16, [0x4000, 0x4040, 0], 0x40c0),
        ("mul.bf16x2 %r1, %r2, %r3;", R32, [0x3f80_4000, 0x4000_4000, 0], 0x4000_4080),
    ]);
    let value = 1.5f64;
    for (body, wanted, bound) in
        [("ex2.approx.ftz", value.exp2(), value.exp2() * 2f64.powi(-7)), ("tanh.approx", value.tanh(), 2f64.powi(-8))]
    {
        let near = || Wanted::Near(brain, wanted, bound);
        forms.push(form(format!("{body}.bf16 %rs1, %rs2;"), R16, [0x3fc0, 0, 0], near()));
        let upper = "shr.u32 %r1, %r1, 16; cvt.u64.u32 %rd1, %r1;";
        forms.push(form(format!("{body}.bf16x2 %r1, %r2;"), upper, [0x3fc0_3f80, 0, 0], near()));
    }
    forms
}
