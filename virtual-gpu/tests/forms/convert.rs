//! Conversions between types.

use super::integer::KINDS;
use super::*;

/// Each integer type to each other; with `.sat` where the source's range exceeds the destination's.
pub fn integers() -> Vec<Form> {
    let mut forms = Vec::new();
    for from in &KINDS {
        for to in &KINDS {
            let (reg, result) = to.registers();
            let (source, _) = from.registers();
            // Bits above the source type must not affect the result.
            let bits = 0x8765_4321_8765_8383u64;
            let value = from.value(bits);
            // An 8-bit result is extended to its 32-bit register.
            let stored = |value: i128| {
                let value = to.value(value as u64) as u64;
                value & u64::MAX >> (64 - to.bits.max(if to.bits == 8 { 32 } else { 0 }))
            };
            let body = |sat: &str| format!("cvt{sat}.{}.{} {reg}1, {source}2;", to.name, from.name);
            forms.push(form(body(""), result, [bits, 0, 0], Wanted::Every(stored(value))));
            let ((low, high), (from_low, from_high)) = (to.range(), from.range());
            if from_low < low || from_high > high {
                let wanted = Wanted::Every(stored(value.clamp(low, high)));
                forms.push(form(body(".sat"), result, [bits, 0, 0], wanted));
            }
        }
    }
    // To a float and back, in every rounding: an exact value, and for the wide types a tie between two floats.
    for (ty, reg, result) in [("f16", "%rs", R16), ("f32", "%f", F32), ("f64", "%fd", F64)] {
        let encode = |value: f64| match ty {
            "f16" => half::f16::from_f64(value).to_bits().into(),
            "f32" => f(value as f32),
            _ => d(value),
        };
        let last = match ty {
            "f16" => 1u64 << 11,
            "f32" => 1 << 24,
            _ => 1 << 53,
        };
        for kind in &KINDS {
            let (other, stored) = kind.registers();
            let negative = if kind.signed { -7 } else { 7 };
            for (rounding, up) in [("rn", false), ("rz", false), ("rm", kind.signed), ("rp", !kind.signed)] {
                let body = format!("cvt.{rounding}.{ty}.{} {reg}1, {other}2;", kind.name);
                let input = kind.wrap(negative);
                forms.push(form(&body, result, [input, 0, 0], Wanted::Every(encode(negative as f64))));
                if last < 1 << (kind.bits - 1) {
                    // A tie between two floats, of which the one of lesser magnitude is even.
                    let sign = if kind.signed { -1 } else { 1 };
                    let input = kind.wrap(sign * (last as i128 + 1));
                    let wanted = sign as f64 * (last + if up { 2 } else { 0 }) as f64;
                    forms.push(form(body, result, [input, 0, 0], Wanted::Every(encode(wanted))));
                }
            }
            for (rounding, to_integer) in [
                ("rni", f64::round_ties_even as fn(f64) -> f64),
                ("rzi", f64::trunc),
                ("rmi", f64::floor),
                ("rpi", f64::ceil),
            ] {
                let value = if kind.signed { -2.5 } else { 2.5 };
                let body = format!("cvt.{rounding}.{}.{ty} {other}1, {reg}2;", kind.name);
                let wanted = |value: f64| {
                    let (low, high) = kind.range();
                    let value = (to_integer(value) as i128).clamp(low, high);
                    // An 8-bit result is extended to its register.
                    if kind.bits == 8 { value as u64 & M1 } else { kind.wrap(value) }
                };
                for value in [value, 60000.0, -60000.0] {
                    forms.push(form(&body, stored, [encode(value), 0, 0], Wanted::Every(wanted(value))));
                }
            }
        }
    }
    forms
}

pub fn floats() -> Vec<Form> {
    let (tiny, nan) = (1, 0x7fc0_0000);
    rows(&[
        ("cvt.rn.sat.f32.s32 %f1, %r2;", F32, [5, 0, 0], f(1.0)),
        ("cvt.rzi.s32.f32 %r1, %f2;", R32, [nan, 0, 0], 0),
        ("cvt.rzi.ftz.s32.f32 %r1, %f2;", R32, [f(-2.7), 0, 0], M1 - 1),
        ("cvt.rpi.ftz.u32.f32 %r1, %f2;", R32, [tiny, 0, 0], 0),
        ("cvt.rpi.u32.f32 %r1, %f2;", R32, [tiny, 0, 0], 1),
        ("cvt.rzi.sat.u8.f32 %r1, %f2;", R32, [f(300.0), 0, 0], 255),
        ("cvt.rni.f32.f32 %f1, %f2;", F32, [f(3.5), 0, 0], f(4.0)),
        ("cvt.rzi.f32.f32 %f1, %f2;", F32, [f(-3.5), 0, 0], f(-3.0)),
        ("cvt.rmi.f32.f32 %f1, %f2;", F32, [f(-3.5), 0, 0], f(-4.0)),
        ("cvt.rpi.f32.f32 %f1, %f2;", F32, [f(-3.5), 0, 0], f(-3.0)),
        ("cvt.rpi.ftz.f32.f32 %f1, %f2;", F32, [tiny, 0, 0], 0),
        ("cvt.rni.sat.f32.f32 %f1, %f2;", F32, [f(3.5), 0, 0], f(1.0)),
        ("cvt.sat.f32.f32 %f1, %f2;", F32, [f(3.5), 0, 0], f(1.0)),
        ("cvt.ftz.f32.f32 %f1, %f2;", F32, [tiny, 0, 0], 0),
        ("cvt.f32.f32 %f1, %f2;", F32, [tiny, 0, 0], tiny),
        ("cvt.rni.f64.f64 %fd1, %fd2;", F64, [d(2.5), 0, 0], d(2.0)),
        ("cvt.rzi.f64.f64 %fd1, %fd2;", F64, [d(-2.5), 0, 0], d(-2.0)),
        ("cvt.rmi.f64.f64 %fd1, %fd2;", F64, [d(-2.5), 0, 0], d(-3.0)),
        ("cvt.rpi.f64.f64 %fd1, %fd2;", F64, [d(2.5), 0, 0], d(3.0)),
        ("cvt.rni.f16.f16 %rs1, %rs2;", R16, [0x4100, 0, 0], 0x4000),
        ("cvt.rzi.f16.f16 %rs1, %rs2;", R16, [0xc100, 0, 0], 0xc000),
        ("cvt.rmi.f16.f16 %rs1, %rs2;", R16, [0xc100, 0, 0], 0xc200),
        ("cvt.rpi.f16.f16 %rs1, %rs2;", R16, [0x4100, 0, 0], 0x4200),
        ("cvt.sat.f16.f16 %rs1, %rs2;", R16, [0x4100, 0, 0], 0x3c00),
        ("cvt.f64.f32 %fd1, %f2;", F64, [f(0.1), 0, 0], d(f64::from(0.1f32))),
        ("cvt.ftz.f64.f32 %fd1, %f2;", F64, [tiny, 0, 0], 0),
        ("cvt.f64.f16 %fd1, %rs2;", F64, [0x3e00, 0, 0], d(1.5)),
        ("cvt.f32.f16 %f1, %rs2;", F32, [0x3c00, 0, 0], f(1.0)),
        ("cvt.ftz.f32.f16 %f1, %rs2;", F32, [0x3e00, 0, 0], f(1.5)),
        ("cvt.sat.f32.f16 %f1, %rs2;", F32, [0x4000, 0, 0], f(1.0)),
        // The nearest float to 0.1 is above it, that to -0.1 below it.
        ("cvt.rn.f32.f64 %f1, %fd2;", F32, [d(0.1), 0, 0], f(0.1)),
        ("cvt.rz.f32.f64 %f1, %fd2;", F32, [d(0.1), 0, 0], f(0.1f32.next_down())),
        ("cvt.rm.f32.f64 %f1, %fd2;", F32, [d(-0.1), 0, 0], f(-0.1)),
        ("cvt.rp.f32.f64 %f1, %fd2;", F32, [d(-0.1), 0, 0], f((-0.1f32).next_up())),
        ("cvt.rn.ftz.f32.f64 %f1, %fd2;", F32, [d(1e-40), 0, 0], 0),
        ("cvt.rn.sat.f32.f64 %f1, %fd2;", F32, [d(7.0), 0, 0], f(1.0)),
        ("cvt.rn.f16.f64 %rs1, %fd2;", R16, [d(1.0 + 2f64.powi(-11)), 0, 0], 0x3c00),
        ("cvt.rp.f16.f64 %rs1, %fd2;", R16, [d(1.0 + 2f64.powi(-30)), 0, 0], 0x3c01),
        ("cvt.rn.f16.f32 %rs1, %f2;", R16, [0x3f80_1000, 0, 0], 0x3c00),
        ("cvt.rz.f16.f32 %rs1, %f2;", R16, [0x3f80_1fff, 0, 0], 0x3c00),
        ("cvt.rm.f16.f32 %rs1, %f2;", R16, [0xbf80_0001, 0, 0], 0xbc01),
        ("cvt.rp.f16.f32 %rs1, %f2;", R16, [0x3f80_0001, 0, 0], 0x3c01),
        ("cvt.rn.ftz.f16.f32 %rs1, %f2;", R16, [tiny, 0, 0], 0),
        ("cvt.rn.sat.f16.f32 %rs1, %f2;", R16, [f(2.0), 0, 0], 0x3c00),
        ("cvt.rn.relu.f16.f32 %rs1, %f2;", R16, [f(-2.0), 0, 0], 0),
        ("cvt.rn.bf16.f32 %rs1, %f2;", R16, [0x3f80_8000, 0, 0], 0x3f80),
        ("cvt.rz.bf16.f32 %rs1, %f2;", R16, [0x3f80_ffff, 0, 0], 0x3f80),
        ("cvt.rn.relu.bf16.f32 %rs1, %f2;", R16, [f(-1.0), 0, 0], 0),
        ("cvt.rz.relu.bf16.f32 %rs1, %f2;", R16, [0x3f80_ffff, 0, 0], 0x3f80),
        ("cvt.f32.bf16 %f1, %rs2;", F32, [0x3f80, 0, 0], f(1.0)),
        ("cvt.rn.f16x2.f32 %r1, %f2, %f3;", R32, [f(1.0), f(2.0), 0], 0x3c00_4000),
        ("cvt.rz.f16x2.f32 %r1, %f2, %f3;", R32, [0x3f80_1fff, 0xbf80_1fff, 0], 0x3c00_bc00),
        ("cvt.rn.relu.f16x2.f32 %r1, %f2, %f3;", R32, [f(-1.0), f(2.0), 0], 0x0000_4000),
        ("cvt.rn.bf16x2.f32 %r1, %f2, %f3;", R32, [f(1.0), f(2.0), 0], 0x3f80_4000),
        ("cvt.rn.bf16x2.f32 %r1, %f2, %f3;", R32, [0xffc0_0000, f(2.0), 0], 0x7fff_4000),
        ("cvt.rz.bf16x2.f32 %r1, %f2, %f3;", R32, [0x3f80_ffff, 0xbf80_ffff, 0], 0x3f80_bf80),
        ("cvt.rz.relu.bf16x2.f32 %r1, %f2, %f3;", R32, [0x3f80_ffff, 0xbf80_ffff, 0], 0x3f80_0000),
        ("cvt.rna.tf32.f32 %r1, %f2;", R32, [0x3f80_1000, 0, 0], 0x3f80_2000),
    ])
}

pub fn floats_of_sm_90() -> Vec<Form> {
    rows(&[
        ("cvt.ftz.f32.bf16 %f1, %rs2;", F32, [0x3f80, 0, 0], f(1.0)),
        ("cvt.f64.bf16 %fd1, %rs2;", F64, [0x3fc0, 0, 0], d(1.5)),
        ("cvt.rn.bf16.f64 %rs1, %fd2;", R16, [d(1.0 + 2f64.powi(-8)), 0, 0], 0x3f80),
        ("cvt.rn.bf16.f16 %rs1, %rs2;", R16, [0x3e00, 0, 0], 0x3fc0),
        ("cvt.rn.f16.bf16 %rs1, %rs2;", R16, [0x3fc0, 0, 0], 0x3e00),
        ("cvt.rn.bf16.s32 %rs1, %r2;", R16, [M1 - 1, 0, 0], 0xc000),
        ("cvt.rp.bf16.u64 %rs1, %rd2;", R16, [257, 0, 0], 0x4381),
        ("cvt.rzi.s32.bf16 %r1, %rs2;", R32, [0xc020, 0, 0], M1 - 1),
        ("cvt.rpi.u64.bf16 %rd1, %rs2;", R64, [0x4020, 0, 0], 3),
        ("cvt.rni.bf16.bf16 %rs1, %rs2;", R16, [0x4020, 0, 0], 0x4000),
        ("cvt.rn.tf32.f32 %r1, %f2;", R32, [0x3f80_1000, 0, 0], 0x3f80_0000),
        ("cvt.rz.tf32.f32 %r1, %f2;", R32, [0x3f80_1fff, 0, 0], 0x3f80_0000),
        ("cvt.rn.relu.tf32.f32 %r1, %f2;", R32, [f(-1.0), 0, 0], 0),
    ])
}
