//! Moves, comparisons and selections.

use super::*;

pub fn moves() -> Vec<Form> {
    let mut forms = rows(&[
        ("mov.b16 %rs1, %rs2;", R16, [0x1_2345, 0, 0], 0x2345),
        ("mov.u16 %rs1, 7;", R16, [0; 3], 7),
        ("mov.s16 %rs1, -1;", R16, [0; 3], 0xffff),
        ("mov.b32 %r1, %f2;", R32, [f(1.0), 0, 0], f(1.0)),
        ("mov.s32 %r1, %r2;", R32, [M1, 0, 0], M1),
        ("mov.u64 %rd1, %rd2;", R64, [u64::MAX, 0, 0], u64::MAX),
        ("mov.s64 %rd1, -2;", R64, [0; 3], u64::MAX - 1),
        ("mov.f32 %f1, 0f3F800000;", F32, [0; 3], f(1.0)),
        ("mov.f64 %fd1, 0d3FF0000000000000;", F64, [0; 3], d(1.0)),
        ("mov.pred %p1, 1;", P, [0; 3], 1),
        ("setp.eq.s32 %p2, %r2, 0; mov.pred %p1, %p2;", P, [0; 3], 1),
        ("mov.b32 %r1, {%rs2, %rs3};", R32, [0x1111, 0x2222, 0], 0x2222_1111),
        ("mov.b32 {%rs5, %rs1}, %r2;", R16, [0x2222_1111, 0, 0], 0x2222),
        ("mov.b64 %rd1, {%r2, %r3};", R64, [1, 2, 0], 2 << 32 | 1),
        ("mov.b64 %rd1, {%rs2, %rs3, %rs4, %rs2};", R64, [1, 2, 3], 1 << 48 | 3 << 32 | 2 << 16 | 1),
        ("mov.b64 {%r5, %r1}, %rd2;", R32, [7 << 32, 0, 0], 7),
        ("mov.b64 {_, %r1}, %rd2;", R32, [7 << 32, 0, 0], 7),
        ("mov.b64 {%rs5, %rs6, %rs1, %rs7}, %rd2;", R16, [7 << 32, 0, 0], 7),
        ("{ .reg .b32 %r1; mov.b32 %r1, 5; mov.b32 %r6, %r1; }\nmov.b32 %r1, %r6;", R32, [0; 3], 5),
        ("mov.u64 %rd5, counter; ld.global.u32 %r1, [%rd5];", R32, [0; 3], 33),
        ("mov.u64 %rd5, counter+4; ld.global.u32 %r1, [%rd5];", R32, [0; 3], 44),
        ("slct.b32.s32 %r1, %r2, %r3, %r4;", R32, [1, 2, M1], 2),
        ("slct.u32.s32 %r1, %r2, %r3, %r4;", R32, [1, 2, 0], 1),
        ("slct.f32.s32 %f1, %f2, %f3, %r4;", F32, [f(1.0), f(2.0), 5], f(1.0)),
        ("slct.b16.s32 %rs1, %rs2, %rs3, %r4;", R16, [1, 2, M1], 2),
        ("slct.s64.s32 %rd1, %rd2, %rd3, %r4;", R64, [1, 2, M1], 2),
        ("slct.u64.f32 %rd1, %rd2, %rd3, %f4;", R64, [1, 2, 0x8000_0000], 1),
        ("slct.ftz.s32.f32 %r1, %r2, %r3, %f4;", R32, [1, 2, 0x8000_0001], 1),
        ("slct.s32.f32 %r1, %r2, %r3, %f4;", R32, [1, 2, 0x8000_0001], 2),
        ("slct.f64.f32 %fd1, %fd2, %fd3, %f4;", F64, [d(1.0), d(2.0), 0x7fc0_0000], d(2.0)),
    ]);
    let true_and_false = "setp.eq.s32 %p2, %r4, 0; setp.ne.s32 %p3, %r4, 0;";
    for (ty, reg, result) in [
        ("b16", "%rs", R16),
        ("u16", "%rs", R16),
        ("s16", "%rs", R16),
        ("b32", "%r", R32),
        ("u32", "%r", R32),
        ("s32", "%r", R32),
        ("b64", "%rd", R64),
        ("u64", "%rd", R64),
        ("s64", "%rd", R64),
        ("f32", "%f", F32),
        ("f64", "%fd", F64),
    ] {
        for (p, wanted) in [("%p2", 1), ("%p3", 2)] {
            let body = format!("{true_and_false} selp.{ty} {reg}1, {reg}2, {reg}3, {p};");
            forms.push(form(body, result, [1, 2, 0], Wanted::Every(wanted)));
        }
    }
    forms
}

pub fn comparisons() -> Vec<Form> {
    let nan = 0x7fc0_0000;
    let mut forms = rows(&[
        ("setp.lo.u16 %p1, %rs2, %rs3;", P, [1, 0xffff, 0], 1),
        ("setp.ls.u32 %p1, %r2, %r3;", P, [M1, M1, 0], 1),
        ("setp.hi.u64 %p1, %rd2, %rd3;", P, [1 << 63, 1, 0], 1),
        ("setp.hs.u32 %p1, %r2, %r3;", P, [M1, M1, 0], 1),
        ("setp.lt.s32 %p1, %r2, %r3;", P, [M1, 0, 0], 1),
        ("setp.lt.u32 %p1, %r2, %r3;", P, [M1, 0, 0], 0),
        ("setp.le.u16 %p1, %rs2, %rs3;", P, [0xffff, 0, 0], 0),
        ("setp.gt.s64 %p1, %rd2, %rd3;", P, [u64::MAX, 0, 0], 0),
        ("setp.ge.u64 %p1, %rd2, %rd3;", P, [u64::MAX, 0, 0], 1),
        ("setp.ne.s64 %p1, %rd2, %rd3;", P, [1, 2, 0], 1),
        ("setp.eq.s16 %p1, %rs2, %rs3;", P, [0x1_0001, 1, 0], 1),
        ("setp.eq.b16 %p1, %rs2, %rs3;", P, [1, 2, 0], 0),
        ("setp.ne.b32 %p1, %r2, %r3;", P, [1, 2, 0], 1),
        ("setp.eq.b64 %p1, %rd2, %rd3;", P, [1 << 32, 2 << 32, 0], 0),
        ("setp.gt.ftz.f32 %p1, %f2, %f3;", P, [1, 0, 0], 0),
        ("setp.gt.f32 %p1, %f2, %f3;", P, [1, 0, 0], 1),
        ("setp.lt.f16 %p1, %rs2, %rs3;", P, [0xbc00, 0x3c00, 0], 1),
        ("setp.gt.ftz.f16 %p1, %rs2, %rs3;", P, [1, 0, 0], 0),
        ("setp.eq.f16x2 %p2|%p1, %r2, %r3;", P, [0x3c00_0000, 0x3c00_3c00, 0], 1),
        ("setp.gt.ftz.f16x2 %p2|%p1, %r2, %r3;", P, [0x0001_3c00, 0, 0], 0),
        ("setp.eq.s32 %p2|%p1, %r2, %r3;", P, [1, 2, 0], 1),
        ("setp.eq.s32 %p2, %r4, 0; setp.eq.and.s32 %p1, %r2, %r3, !%p2;", P, [1, 1, 0], 0),
        ("setp.eq.s32 %p2, %r4, 0; setp.eq.or.f32 %p1, %f2, %f3, %p2;", P, [1, 2, 0], 1),
        ("setp.eq.s32 %p2, %r4, 0; setp.eq.xor.s32 %p1, %r2, %r3, %p2;", P, [1, 2, 0], 1),
        ("setp.eq.s32 %p2, %r4, 0; setp.lt.and.u64 %p3|%p1, %rd2, %rd3, %p2;", P, [1, 2, 0], 0),
        ("set.lt.u32.s32 %r1, %r2, %r3;", R32, [M1, 0, 0], M1),
        ("set.ge.s32.u16 %r1, %rs2, %rs3;", R32, [2, 1, 0], M1),
        ("set.gt.u32.f64 %r1, %fd2, %fd3;", R32, [d(2.0), d(1.0), 0], M1),
        ("set.eq.s32.b64 %r1, %rd2, %rd3;", R32, [1, 2, 0], 0),
        ("set.lt.f32.f32 %f1, %f2, %f3;", F32, [f(-1.0), 0, 0], f(1.0)),
        ("set.gt.ftz.f32.f32 %f1, %f2, %f3;", F32, [1, 0, 0], 0),
        ("set.nan.f32.f64 %f1, %fd2, %fd3;", F32, [d(f64::NAN), 0, 0], f(1.0)),
        ("setp.eq.s32 %p2, %r4, 0; set.lt.and.u32.s32 %r1, %r2, %r3, !%p2;", R32, [M1, 0, 0], 0),
        ("setp.eq.s32 %p2, %r4, 0; set.gt.or.f32.u32 %f1, %r2, %r3, %p2;", F32, [0, 1, 0], f(1.0)),
        ("setp.eq.s32 %p2, %r4, 0; set.gt.xor.f32.u32 %f1, %r2, %r3, %p2;", F32, [2, 1, 0], 0),
        ("set.lt.f16.f16 %rs1, %rs2, %rs3;", R16, [0xbc00, 0x3c00, 0], 0x3c00),
        ("set.lt.u16.f16 %rs1, %rs2, %rs3;", R16, [0xbc00, 0x3c00, 0], 0xffff),
        ("set.lt.u32.f16 %r1, %rs2, %rs3;", R32, [0xbc00, 0x3c00, 0], M1),
        ("set.lt.f16x2.f16x2 %r1, %r2, %r3;", R32, [0xbc00_3c00, 0x3c00_3c00, 0], 0x3c00_0000),
        ("set.gt.ftz.f16x2.f16x2 %r1, %r2, %r3;", R32, [0x0001_3c00, 0, 0], 0x3c00),
        ("setp.eq.s32 %p2, %r4, 0; not.pred %p1, %p2;", P, [0; 3], 0),
        ("setp.eq.s32 %p2, %r4, 0; setp.ne.s32 %p3, %r4, 0; and.pred %p1, %p2, %p3;", P, [0; 3], 0),
        ("setp.eq.s32 %p2, %r4, 0; setp.ne.s32 %p3, %r4, 0; or.pred %p1, %p2, %p3;", P, [0; 3], 1),
        ("setp.eq.s32 %p2, %r4, 0; xor.pred %p1, %p2, %p2;", P, [0; 3], 0),
        ("setp.eq.s32 %p1, %r4, 0; @%p1 mov.u32 %r2, 7; @!%p1 mov.u32 %r2, 8; mov.u32 %r1, %r2;", R32, [0; 3], 7),
    ]);
    // The relations for both orders, equality, and unordered operands.
    use std::cmp::Ordering::{self, Equal, Greater, Less};
    let relations: [(&str, &[Option<Ordering>]); 14] = [
        ("eq", &[Some(Equal)]),
        ("ne", &[Some(Less), Some(Greater)]),
        ("lt", &[Some(Less)]),
        ("le", &[Some(Less), Some(Equal)]),
        ("gt", &[Some(Greater)]),
        ("ge", &[Some(Greater), Some(Equal)]),
        ("equ", &[Some(Equal), None]),
        ("neu", &[Some(Less), Some(Greater), None]),
        ("ltu", &[Some(Less), None]),
        ("leu", &[Some(Less), Some(Equal), None]),
        ("gtu", &[Some(Greater), None]),
        ("geu", &[Some(Greater), Some(Equal), None]),
        ("num", &[Some(Less), Some(Equal), Some(Greater)]),
        ("nan", &[None]),
    ];
    for (name, holds_for) in relations {
        for (a, b, order) in [
            (f(-1.0), f(1.0), Some(Less)),
            (f(1.0), f(-1.0), Some(Greater)),
            (f(0.0), f(-0.0), Some(Equal)),
            (nan, f(1.0), None),
            (f(1.0), nan, None),
        ] {
            let wanted = || Wanted::Every(holds_for.contains(&order).into());
            forms.push(form(format!("setp.{name}.f32 %p1, %f2, %f3;"), P, [a, b, 0], wanted()));
            let [a, b] = [a, b].map(|bits| d(f32::from_bits(bits as u32).into()));
            forms.push(form(format!("setp.{name}.f64 %p1, %fd2, %fd3;"), P, [a, b, 0], wanted()));
        }
    }
    forms
}

pub fn comparisons_of_sm_90() -> Vec<Form> {
    rows(&[
        ("setp.lt.bf16 %p1, %rs2, %rs3;", P, [0xbf80, 0x3f80, 0], 1),
        ("setp.gt.bf16x2 %p2|%p1, %r2, %r3;", P, [0x3f80_0000, 0, 0], 1),
        ("set.lt.bf16.bf16 %rs1, %rs2, %rs3;", R16, [0xbf80, 0x3f80, 0], 0x3f80),
        ("set.lt.u32.bf16 %r1, %rs2, %rs3;", R32, [0xbf80, 0x3f80, 0], M1),
        ("set.lt.bf16x2.bf16x2 %r1, %r2, %r3;", R32, [0xbf80_3f80, 0x3f80_3f80, 0], 0x3f80_0000),
    ])
}
