//! One line for each instruction form: a body, what it is given, and what it must leave. The values were worked out by
//! hand or by Rust's own arithmetic; `arith` has tests of its own for the rest of each function.

mod common;

use common::*;

/// Runs a body on one warp of 32 threads. `%r2-4`, `%f2-4` and the lower halves `%rs2-4` hold the 32-bit inputs, `%rd2-4`
/// and `%fd2-4` the 64-bit ones; `%rd1` is stored by every lane.
fn lanes(body: &str, inputs: [u64; 3]) -> Vec<u64> {
    let mut prelude = String::new();
    for (i, input) in inputs.iter().enumerate() {
        let n = i + 2;
        prelude += &format!(
            "mov.u64 %rd{n}, {input};\ncvt.u32.u64 %r{n}, %rd{n};\nmov.b32 %f{n}, %r{n};\nmov.b64 %fd{n}, %rd{n};\n\
             cvt.u16.u32 %rs{n}, %r{n};\n"
        );
    }
    let text = kernel(&format!(
        "{prelude}mov.u64 %rd1, 0;\n{body}\nmul.wide.u32 %rd10, %r0, 8;\nadd.s64 %rd10, %rd0, %rd10;\nst.global.u64 [%rd10], %rd1;"
    ));
    let machine = machine();
    let module = machine.load(&text).unwrap_or_else(|error| panic!("{body}: {error}"));
    let out = upload(&machine, &[0u64; 64]);
    let args = Args::default().ptr(out);
    run(&machine, &module, "k", [1, 1, 1], [32, 1, 1], 0, args).unwrap_or_else(|trap| panic!("{body}: {trap}"));
    download(&machine, out, 32)
}

const F32: &str = "mov.b32 %r1, %f1; cvt.u64.u32 %rd1, %r1;";
const R32: &str = "cvt.u64.u32 %rd1, %r1;";
const R16: &str = "cvt.u64.u16 %rd1, %rs1;";
const F64: &str = "mov.b64 %rd1, %fd1;";
const P: &str = "selp.b64 %rd1, 1, 0, %p1;";
const R64: &str = "";

fn check(table: &[(&str, &str, [u64; 3], u64)]) {
    for (body, result, inputs, wanted) in table {
        let found = lanes(&format!("{body}\n{result}"), *inputs);
        assert!(found.iter().all(|found| found == wanted), "{body} {inputs:x?}: {:x}, not {wanted:x}", found[0]);
    }
}

fn f(value: f32) -> u64 {
    value.to_bits().into()
}

fn d(value: f64) -> u64 {
    value.to_bits()
}

const M1: u64 = 0xffff_ffff;

#[test]
fn integers() {
    let m1l = u64::MAX;
    check(&[
        ("add.s32 %r1, %r2, %r3;", R32, [M1, 2, 0], 1),
        ("add.sat.s32 %r1, %r2, %r3;", R32, [0x7fff_ffff, 2, 0], 0x7fff_ffff),
        ("add.u16 %rs1, %rs2, %rs3;", R16, [0xffff, 2, 0], 1),
        ("add.s64 %rd1, %rd2, %rd3;", R64, [m1l, 2, 0], 1),
        ("sub.u32 %r1, %r2, %r3;", R32, [1, 2, 0], M1),
        ("sub.s64 %rd1, %rd2, %rd3;", R64, [1, 2, 0], m1l),
        ("add.cc.u32 %r5, %r2, %r3; addc.u32 %r1, %r4, 0;", R32, [M1, 1, 7], 8),
        ("sub.cc.u32 %r5, %r2, %r3; subc.u32 %r1, %r4, 0;", R32, [0, 1, 7], 6),
        ("mad.lo.cc.u32 %r5, %r2, %r3, 1; madc.hi.u32 %r1, %r2, %r3, %r4;", R32, [M1, M1, 1], M1),
        ("mul.lo.s32 %r1, %r2, %r3;", R32, [M1, 3, 0], M1 - 2),
        ("mul.hi.u32 %r1, %r2, %r3;", R32, [M1, M1, 0], M1 - 1),
        ("mul.hi.s32 %r1, %r2, %r3;", R32, [M1, M1, 0], 0),
        ("mul.hi.u64 %rd1, %rd2, %rd3;", R64, [m1l, 2, 0], 1),
        ("mul.wide.s32 %rd1, %r2, %r3;", R64, [M1, 3, 0], m1l - 2),
        ("mul.wide.u32 %rd1, %r2, %r3;", R64, [M1, 3, 0], 3 * M1),
        ("mul.wide.u16 %r1, %rs2, %rs3;", R32, [0xffff, 0xffff, 0], 0xffff * 0xffff),
        ("mul.wide.s16 %r1, %rs2, %rs3;", R32, [0xffff, 2, 0], M1 - 1),
        ("mul.lo.s16 %rs1, %rs2, %rs3;", R16, [300, 300, 0], 90000 & 0xffff),
        ("mad.lo.s32 %r1, %r2, %r3, %r4;", R32, [3, 4, 5], 17),
        ("mad.hi.u32 %r1, %r2, %r3, %r4;", R32, [M1, M1, 5], 3),
        ("mad.wide.u32 %rd1, %r2, %r3, %rd4;", R64, [M1, M1, 5], M1 * M1 + 5),
        ("mul24.lo.u32 %r1, %r2, %r3;", R32, [0xff00_0003, 4, 0], 12),
        ("div.s32 %r1, %r2, %r3;", R32, [M1 - 6, 2, 0], M1 - 2),
        ("div.u64 %rd1, %rd2, %rd3;", R64, [m1l, 10, 0], m1l / 10),
        ("rem.s32 %r1, %r2, %r3;", R32, [M1 - 6, 4, 0], M1 - 2),
        ("rem.u32 %r1, %r2, %r3;", R32, [17, 5, 0], 2),
        ("rem.s64 %rd1, %rd2, %rd3;", R64, [m1l - 6, 4, 0], m1l - 2),
        ("min.s32 %r1, %r2, %r3;", R32, [M1, 3, 0], M1),
        ("min.u32 %r1, %r2, %r3;", R32, [M1, 3, 0], 3),
        ("max.s64 %rd1, %rd2, %rd3;", R64, [m1l, 3, 0], 3),
        ("max.u16 %rs1, %rs2, %rs3;", R16, [0xffff, 3, 0], 0xffff),
        ("abs.s32 %r1, %r2;", R32, [M1 - 4, 0, 0], 5),
        ("neg.s32 %r1, %r2;", R32, [5, 0, 0], M1 - 4),
        ("neg.s64 %rd1, %rd2;", R64, [5, 0, 0], m1l - 4),
        ("sad.u32 %r1, %r2, %r3, %r4;", R32, [5, 9, 3], 7),
        ("dp4a.u32.u32 %r1, %r2, %r3, %r4;", R32, [0x0102_0304, 0x0101_0101, 5], 15),
        ("dp2a.lo.u32.u32 %r1, %r2, %r3, %r4;", R32, [0x0002_0003, 0x0000_0504, 1], 1 + 3 * 4 + 2 * 5),
    ]);
}

#[test]
fn logic_and_bits() {
    check(&[
        ("and.b32 %r1, %r2, %r3;", R32, [0xf0f0, 0xff00, 0], 0xf000),
        ("or.b64 %rd1, %rd2, %rd3;", R64, [0xf0f0, 0xff00, 0], 0xfff0),
        ("xor.b16 %rs1, %rs2, %rs3;", R16, [0xf0f0, 0xff00, 0], 0x0ff0),
        ("not.b32 %r1, %r2;", R32, [0xf0f0, 0, 0], 0xffff_0f0f),
        ("cnot.b32 %r1, %r2;", R32, [0, 0, 0], 1),
        ("lop3.b32 %r1, %r2, %r3, %r4, 0x96;", R32, [0xf0, 0xcc, 0xaa], 0x96),
        ("shl.b32 %r1, %r2, %r3;", R32, [1, 31, 0], 1 << 31),
        ("shl.b32 %r1, %r2, %r3;", R32, [1, 32, 0], 0),
        ("shl.b64 %rd1, %rd2, %r3;", R64, [1, 63, 0], 1 << 63),
        ("shr.u32 %r1, %r2, %r3;", R32, [1 << 31, 31, 0], 1),
        ("shr.s32 %r1, %r2, %r3;", R32, [1 << 31, 40, 0], M1),
        ("shr.s64 %rd1, %rd2, %r3;", R64, [1 << 63, 63, 0], u64::MAX),
        ("shf.l.wrap.b32 %r1, %r2, %r3, %r4;", R32, [0x8000_0000, 1, 33], 3),
        ("shf.r.clamp.b32 %r1, %r2, %r3, %r4;", R32, [0x8000_0000, 7, 40], 7),
        ("bfe.u32 %r1, %r2, 4, 8;", R32, [0xabcd, 0, 0], 0xbc),
        ("bfe.s32 %r1, %r2, 4, 8;", R32, [0xabcd, 0, 0], 0xffff_ffbc),
        ("bfi.b32 %r1, %r2, %r3, 8, 4;", R32, [0x5, 0xffff, 0], 0xf5ff),
        ("bfi.b64 %rd1, %rd2, %rd3, 32, 32;", R64, [0x5, 0xffff, 0], 0x5_0000_ffff),
        ("bfind.u32 %r1, %r2;", R32, [0x100, 0, 0], 8),
        ("bfind.shiftamt.u32 %r1, %r2;", R32, [0x100, 0, 0], 23),
        ("bfind.s32 %r1, %r2;", R32, [M1, 0, 0], M1),
        ("popc.b32 %r1, %r2;", R32, [0xf0f, 0, 0], 8),
        ("popc.b64 %r1, %rd2;", R32, [u64::MAX, 0, 0], 64),
        ("clz.b32 %r1, %r2;", R32, [0, 0, 0], 32),
        ("clz.b64 %r1, %rd2;", R32, [1, 0, 0], 63),
        ("brev.b32 %r1, %r2;", R32, [1, 0, 0], 1 << 31),
        ("prmt.b32 %r1, %r2, %r3, 0x5410;", R32, [0x1111_2222, 0x3333_4444, 0], 0x4444_2222),
        ("bmsk.clamp.b32 %r1, %r2, %r3;", R32, [4, 8, 0], 0xff0),
        ("mov.b32 %r1, {%rs2, %rs3};", R32, [0x1111, 0x2222, 0], 0x2222_1111),
        ("mov.b64 %rd1, {%r2, %r3};", R64, [1, 2, 0], 2 << 32 | 1),
        ("mov.b64 {%r5, %r1}, %rd2;", R32, [7 << 32, 0, 0], 7),
        ("{ .reg .b32 %r1; mov.b32 %r1, 5; mov.b32 %r6, %r1; }\nmov.b32 %r1, %r6;", R32, [0; 3], 5),
        ("mov.u32 %r1, 0x10U; add.u32 %r1, %r1, 010; add.u32 %r1, %r1, 0b11;", R32, [0; 3], 27),
        ("selp.b32 %r1, %r2, %r3, %p1;", R32, [1, 2, 0], 2),
        ("slct.b32.s32 %r1, %r2, %r3, %r4;", R32, [1, 2, M1], 2),
        ("slct.u64.f32 %rd1, %rd2, %rd3, %f4;", R64, [1, 2, 0x8000_0000], 1),
    ]);
}

#[test]
fn comparisons() {
    let nan = 0x7fc0_0000;
    check(&[
        ("setp.lt.s32 %p1, %r2, %r3;", P, [M1, 0, 0], 1),
        ("setp.lt.u32 %p1, %r2, %r3;", P, [M1, 0, 0], 0),
        ("setp.hs.u32 %p1, %r2, %r3;", P, [M1, M1, 0], 1),
        ("setp.ne.s64 %p1, %rd2, %rd3;", P, [1, 2, 0], 1),
        ("setp.eq.s16 %p1, %rs2, %rs3;", P, [0x1_0001, 1, 0], 1),
        ("setp.eq.f32 %p1, %f2, %f3;", P, [nan, nan, 0], 0),
        ("setp.ne.f32 %p1, %f2, %f3;", P, [nan, 0, 0], 0),
        ("setp.neu.f32 %p1, %f2, %f3;", P, [nan, 0, 0], 1),
        ("setp.gtu.f32 %p1, %f2, %f3;", P, [nan, 0, 0], 1),
        ("setp.gtu.f32 %p1, %f2, %f3;", P, [0, f(1.0), 0], 0),
        ("setp.geu.f32 %p1, %f2, %f3;", P, [f(-0.0), 0, 0], 1),
        ("setp.num.f32 %p1, %f2, %f3;", P, [0, 0, 0], 1),
        ("setp.nan.f32 %p1, %f2, %f3;", P, [0, nan, 0], 1),
        ("setp.gt.ftz.f32 %p1, %f2, %f3;", P, [1, 0, 0], 0),
        ("setp.gt.f32 %p1, %f2, %f3;", P, [1, 0, 0], 1),
        ("setp.lt.f64 %p1, %fd2, %fd3;", P, [d(-1.0), d(1.0), 0], 1),
        ("setp.lt.f16 %p1, %rs2, %rs3;", P, [0xbc00, 0x3c00, 0], 1),
        ("setp.eq.s32 %p2|%p1, %r2, %r3;", P, [1, 2, 0], 1),
        ("setp.eq.s32 %p2, 0, 0; setp.eq.and.s32 %p1, %r2, %r3, !%p2;", P, [1, 1, 0], 0),
        ("setp.eq.s32 %p2, 0, 0; setp.eq.xor.s32 %p1, %r2, %r3, %p2;", P, [1, 2, 0], 1),
        ("setp.eq.f16x2 %p2|%p1, %r2, %r3;", P, [0x3c00_0000, 0x3c00_3c00, 0], 1),
        ("set.lt.u32.s32 %r1, %r2, %r3;", R32, [M1, 0, 0], M1),
        ("set.lt.f32.f32 %f1, %f2, %f3;", F32, [f(-1.0), 0, 0], f(1.0)),
        ("setp.eq.s32 %p2, 0, 0; not.pred %p1, %p2;", P, [0; 3], 0),
        ("setp.eq.s32 %p2, 0, 0; and.pred %p1, %p2, %p2; or.pred %p1, %p1, %p3; xor.pred %p1, %p1, %p2;", P, [0; 3], 0),
        ("mov.pred %p1, -1;", P, [0; 3], 1),
        ("testp.infinite.f32 %p1, %f2;", P, [f(f32::INFINITY), 0, 0], 1),
        ("isspacep.shared %p1, %rd2;", P, [0; 3], 0),
        (
            "mov.u32 %r1, tile; cvt.u64.u32 %rd5, %r1; cvta.shared.u64 %rd5, %rd5; isspacep.shared %p1, %rd5;",
            P,
            [0; 3],
            1,
        ),
    ]);
}

#[test]
fn floats() {
    let (third, tiny) = (1f32 / 3.0, f32::from_bits(1));
    check(&[
        ("add.f32 %f1, %f2, %f3;", F32, [f(1.5), f(2.25), 0], f(3.75)),
        ("add.rn.ftz.f32 %f1, %f2, %f3;", F32, [f(tiny), f(tiny), 0], 0),
        ("add.rz.f32 %f1, %f2, %f3;", F32, [f(1.0), f(-1e-10), 0], f(1.0f32.next_down())),
        ("add.rp.f32 %f1, %f2, %f3;", F32, [f(1.0), f(1e-10), 0], f(1.0f32.next_up())),
        ("add.sat.f32 %f1, %f2, %f3;", F32, [f(1.0), f(1.0), 0], f(1.0)),
        ("add.f32 %f1, %f2, %f3;", F32, [f(f32::INFINITY), f(f32::NEG_INFINITY), 0], 0x7fff_ffff),
        ("sub.f32 %f1, %f2, %f3;", F32, [f(1.0), f(third), 0], f(1.0 - third)),
        ("mul.f32 %f1, %f2, 0f40000000;", F32, [f(third), 0, 0], f(2.0 * third)),
        ("fma.rn.f32 %f1, %f2, %f3, %f4;", F32, [f(third), f(3.0), f(-1.0)], f(third.mul_add(3.0, -1.0))),
        ("fma.rm.f32 %f1, %f2, %f3, %f4;", F32, [f(1.0), f(1.0), f(-1e-10)], f(1.0f32.next_down())),
        ("mad.rn.f32 %f1, %f2, %f3, %f4;", F32, [f(2.0), f(3.0), f(1.0)], f(7.0)),
        ("div.rn.f32 %f1, %f2, %f3;", F32, [f(1.0), f(3.0), 0], f(third)),
        ("div.approx.f32 %f1, %f2, %f3;", F32, [f(6.0), f(3.0), 0], f(2.0)),
        ("div.full.f32 %f1, %f2, %f3;", F32, [f(6.0), f(3.0), 0], f(2.0)),
        ("rcp.rn.f32 %f1, %f2;", F32, [f(3.0), 0, 0], f(third)),
        ("rcp.approx.ftz.f32 %f1, %f2;", F32, [f(4.0), 0, 0], f(0.25)),
        ("sqrt.rn.f32 %f1, %f2;", F32, [f(2.0), 0, 0], f(2f32.sqrt())),
        ("rsqrt.approx.f32 %f1, %f2;", F32, [f(4.0), 0, 0], f(0.5)),
        ("ex2.approx.ftz.f32 %f1, %f2;", F32, [f(3.0), 0, 0], f(8.0)),
        ("lg2.approx.f32 %f1, %f2;", F32, [f(8.0), 0, 0], f(3.0)),
        ("sin.approx.f32 %f1, %f2;", F32, [0, 0, 0], 0),
        ("cos.approx.f32 %f1, %f2;", F32, [0, 0, 0], f(1.0)),
        ("tanh.approx.f32 %f1, %f2;", F32, [0, 0, 0], 0),
        ("min.f32 %f1, %f2, %f3;", F32, [0x7fc0_0000, f(1.0), 0], f(1.0)),
        ("max.NaN.f32 %f1, %f2, %f3;", F32, [0x7fc0_0000, f(1.0), 0], 0x7fff_ffff),
        ("abs.f32 %f1, %f2;", F32, [f(-1.0), 0, 0], f(1.0)),
        ("neg.f32 %f1, %f2;", F32, [f(1.0), 0, 0], f(-1.0)),
        ("copysign.f32 %f1, %f2, %f3;", F32, [f(-0.0), f(1.0), 0], f(-1.0)),
        ("add.f64 %fd1, %fd2, %fd3;", F64, [d(0.1), d(0.2), 0], d(0.1 + 0.2)),
        ("mul.f64 %fd1, %fd2, 0d4008000000000000;", F64, [d(0.1), 0, 0], d(0.1 * 3.0)),
        ("fma.rn.f64 %fd1, %fd2, %fd3, %fd4;", F64, [d(0.1), d(10.0), d(-1.0)], d(0.1f64.mul_add(10.0, -1.0))),
        ("div.rn.f64 %fd1, %fd2, %fd3;", F64, [d(1.0), d(3.0), 0], d(1.0 / 3.0)),
        ("sqrt.rn.f64 %fd1, %fd2;", F64, [d(2.0), 0, 0], d(2f64.sqrt())),
        ("max.f64 %fd1, %fd2, %fd3;", F64, [d(1.0), d(3.0), 0], d(3.0)),
        ("neg.f64 %fd1, %fd2;", F64, [d(1.0), 0, 0], d(-1.0)),
        ("add.f16 %rs1, %rs2, %rs3;", R16, [0x3c00, 0x3c00, 0], 0x4000),
        ("fma.rn.f16x2 %r1, %r2, %r3, %r4;", R32, [0x3c00_4000, 0x4000_4000, 0x3c00_3c00], 0x4200_4500),
        ("fma.rn.bf16x2 %r1, %r2, %r3, %r4;", R32, [0x3f80_4000, 0x4000_4000, 0x3f80_3f80], 0x4040_40a0),
        ("fma.rn.relu.bf16x2 %r1, %r2, %r3, %r4;", R32, [0xbf80_4000, 0x4000_4000, 0x3f80_3f80], 0x0000_40a0),
        ("mul.f16x2 %r1, %r2, %r3;", R32, [0x3c00_4000, 0x4000_4000, 0], 0x4000_4400),
        ("max.bf16x2 %r1, %r2, %r3;", R32, [0x3f80_4000, 0x4000_3f80, 0], 0x4000_4000),
        ("min.f16 %rs1, %rs2, %rs3;", R16, [0x3c00, 0x4000, 0], 0x3c00),
        ("neg.bf16x2 %r1, %r2;", R32, [0x3f80_bf80, 0, 0], 0xbf80_3f80),
        ("abs.f16x2 %r1, %r2;", R32, [0xbc00_bc00, 0, 0], 0x3c00_3c00),
    ]);
}

#[test]
fn conversions() {
    check(&[
        ("cvt.u64.u32 %rd1, %r2;", R64, [M1, 0, 0], M1),
        ("cvt.s64.s32 %rd1, %r2;", R64, [M1, 0, 0], u64::MAX),
        ("cvt.s32.s8 %r1, %r2;", R32, [0x80, 0, 0], 0xffff_ff80),
        ("cvt.u32.u8 %r1, %r2;", R32, [0x180, 0, 0], 0x80),
        ("cvt.sat.u8.s32 %r1, %r2;", R32, [300, 0, 0], 255),
        ("cvt.sat.s16.s32 %rs1, %r2;", R16, [0xffff_0000, 0, 0], 0x8000),
        ("cvt.rn.f32.s32 %f1, %r2;", F32, [M1, 0, 0], f(-1.0)),
        ("cvt.rz.f32.u32 %f1, %r2;", F32, [M1, 0, 0], f(4294967040.0)),
        ("cvt.rn.f64.s64 %fd1, %rd2;", F64, [u64::MAX, 0, 0], d(-1.0)),
        ("cvt.rzi.s32.f32 %r1, %f2;", R32, [f(-2.7), 0, 0], M1 - 1),
        ("cvt.rni.s32.f32 %r1, %f2;", R32, [f(2.5), 0, 0], 2),
        ("cvt.rmi.s32.f32 %r1, %f2;", R32, [f(-2.5), 0, 0], M1 - 2),
        ("cvt.rpi.u32.f32 %r1, %f2;", R32, [f(2.1), 0, 0], 3),
        ("cvt.rzi.u8.f32 %r1, %f2;", R32, [f(300.0), 0, 0], 255),
        ("cvt.rzi.s64.f64 %rd1, %fd2;", R64, [d(-1.5), 0, 0], u64::MAX),
        ("cvt.rni.f32.f32 %f1, %f2;", F32, [f(3.5), 0, 0], f(4.0)),
        ("cvt.sat.f32.f32 %f1, %f2;", F32, [f(3.5), 0, 0], f(1.0)),
        ("cvt.ftz.f32.f32 %f1, %f2;", F32, [1, 0, 0], 0),
        ("cvt.f64.f32 %fd1, %f2;", F64, [f(0.1), 0, 0], d(f64::from(0.1f32))),
        ("cvt.rn.f32.f64 %f1, %fd2;", F32, [d(0.1), 0, 0], f(0.1)),
        ("cvt.rz.f32.f64 %f1, %fd2;", F32, [d(0.1), 0, 0], f(0.1f32.next_down())),
        ("cvt.rn.f16.f32 %rs1, %f2;", R16, [f(1.0), 0, 0], 0x3c00),
        ("cvt.f32.f16 %f1, %rs2;", F32, [0x3c00, 0, 0], f(1.0)),
        ("cvt.rn.bf16.f32 %rs1, %f2;", R16, [0x3f80_8000, 0, 0], 0x3f80),
        ("cvt.rz.bf16.f32 %rs1, %f2;", R16, [0x3f80_ffff, 0, 0], 0x3f80),
        ("cvt.rn.relu.bf16.f32 %rs1, %f2;", R16, [f(-1.0), 0, 0], 0),
        ("cvt.f32.bf16 %f1, %rs2;", F32, [0x3f80, 0, 0], f(1.0)),
        ("cvt.rn.bf16x2.f32 %r1, %f2, %f3;", R32, [f(1.0), f(2.0), 0], 0x3f80_4000),
        ("cvt.rn.f16x2.f32 %r1, %f2, %f3;", R32, [f(1.0), f(2.0), 0], 0x3c00_4000),
        ("cvt.rna.tf32.f32 %r1, %f2;", R32, [0x3f80_1000, 0, 0], 0x3f80_2000),
        ("cvt.rn.f16.s32 %rs1, %r2;", R16, [2, 0, 0], 0x4000),
        ("cvt.rzi.s32.f16 %r1, %rs2;", R32, [0xc000, 0, 0], M1 - 1),
    ]);
}

#[test]
fn memory() {
    let tile = "mov.u32 %r8, tile; shl.b32 %r9, %r0, 4; add.s32 %r8, %r8, %r9;";
    let shared = |body: &str| format!("{tile}\n{body}");
    for (body, result, inputs, wanted) in [
        ("st.shared.b32 [%r8], %r2; ld.shared.u8 %r1, [%r8+3];", R32, [0x8000_0000, 0, 0], 0x80),
        ("st.shared.b32 [%r8], %r2; ld.shared.s8 %r1, [%r8+3];", R32, [0x8000_0000, 0, 0], 0xffff_ff80),
        ("st.shared.b32 [%r8], %r2; ld.shared.s16 %rd1, [%r8+2];", R64, [0x8000_0000, 0, 0], (-32768i64) as u64),
        ("st.shared.v2.b32 [%r8+8], {%r2, %r3}; ld.shared.u64 %rd1, [%r8+8];", R64, [1, 2, 0], 2 << 32 | 1),
        ("st.shared.v4.b32 [%r8], {%r2, %r3, %r4, 9}; ld.shared.v4.b32 {%r5, %r6, _, %r1}, [%r8];", R32, [1, 2, 3], 9),
        ("st.shared.v2.b64 [%r8], {%rd2, %rd3}; ld.shared.v2.b64 {_, %rd1}, [%r8];", R64, [1, 2, 3], 2),
        (
            "cvt.u64.u32 %rd5, %r8; cvta.shared.u64 %rd5, %rd5; st.u32 [%rd5], %r2; ld.shared.u32 %r1, [%r8];",
            R32,
            [7, 0, 0],
            7,
        ),
        ("mov.u64 %rd5, mine; st.local.u32 [%rd5+4], %r2; ld.local.u32 %r1, [mine+4];", R32, [7, 0, 0], 7),
        (
            "mov.u64 %rd5, mine; cvta.local.u64 %rd6, %rd5; st.u32 [%rd6], %r2; ld.local.u32 %r1, [%rd5];",
            R32,
            [7, 0, 0],
            7,
        ),
        ("st.volatile.shared.u32 [%r8], %r2; ld.volatile.shared.u32 %r1, [%r8];", R32, [7, 0, 0], 7),
        ("ld.global.nc.L1::no_allocate.L2::128B.v2.u32 {%r1, %r5}, [%rd0];", R32, [0; 3], 0),
        (
            "ld.global.cg.u32 %r1, [%rd0+256]; st.global.wt.u32 [%rd0+256], 0; prefetch.global.L2 [%rd0];",
            R32,
            [0; 3],
            0,
        ),
        (
            "st.shared.u32 [%r8], %r2; atom.shared.add.u32 %r5, [%r8], %r3; ld.shared.u32 %r1, [%r8];",
            R32,
            [7, 5, 0],
            12,
        ),
        (
            "st.shared.u32 [%r8], %r2; atom.shared.cas.b32 %r5, [%r8], %r2, %r3; ld.shared.u32 %r1, [%r8];",
            R32,
            [7, 5, 0],
            5,
        ),
        ("st.shared.u32 [%r8], %r2; atom.shared.exch.b32 %r1, [%r8], %r3;", R32, [7, 5, 0], 7),
        ("st.shared.u32 [%r8], %r2; atom.shared.inc.u32 %r5, [%r8], %r3; ld.shared.u32 %r1, [%r8];", R32, [5, 5, 0], 0),
        ("st.shared.u32 [%r8], %r2; atom.shared.dec.u32 %r5, [%r8], %r3; ld.shared.u32 %r1, [%r8];", R32, [0, 5, 0], 5),
        ("st.shared.u32 [%r8], %r2; red.shared.min.s32 [%r8], %r3; ld.shared.u32 %r1, [%r8];", R32, [5, M1, 0], M1),
        ("st.shared.u32 [%r8], %r2; red.shared.max.u32 [%r8], %r3; ld.shared.u32 %r1, [%r8];", R32, [5, M1, 0], M1),
        (
            "st.shared.f32 [%r8], %f2; red.shared.add.f32 [%r8], %f3; ld.shared.u32 %r1, [%r8];",
            R32,
            [f(0.5), f(2.0), 0],
            f(2.5),
        ),
        ("atom.global.add.u32 %r5, [%rd0+504], 1; bar.sync 0; ld.global.u32 %r1, [%rd0+504];", R32, [0; 3], 32),
        (
            "red.relaxed.gpu.global.or.b64 [%rd0+504], %rd2; bar.sync 0; ld.global.u64 %rd1, [%rd0+504];",
            R64,
            [6, 0, 0],
            6,
        ),
        (
            "red.global.add.f64 [%rd0+504], %fd2; bar.sync 0; ld.global.u64 %rd1, [%rd0+504];",
            R64,
            [d(0.5), 0, 0],
            d(16.0),
        ),
        (
            "st.global.f32 [%rd0+504], 0f00000001; red.global.add.f32 [%rd0+504], 0f00000001; ld.global.u32 %r1, [%rd0+504];",
            R32,
            [0; 3],
            0,
        ),
        (
            "st.shared.f32 [%r8], 0f00000001; red.shared.add.f32 [%r8], 0f00000001; ld.shared.u32 %r1, [%r8];",
            R32,
            [0; 3],
            2,
        ),
        ("membar.gl; fence.acq_rel.gpu; membar.cta;", R64, [0; 3], 0),
        (
            "cp.async.ca.shared.global [%r8], [%rd0], 8, 4; cp.async.commit_group; cp.async.wait_all; ld.shared.u64 %rd1, [%r8];",
            R64,
            [0; 3],
            0,
        ),
        ("ld.param.u64 %rd5, [out]; sub.u64 %rd1, %rd5, %rd0;", R64, [0; 3], 0),
        ("cvta.to.global.u64 %rd5, %rd0; ld.global.u32 %r1, [%rd5]; @!%p1 mov.u32 %r1, 3;", R32, [0; 3], 3),
    ] {
        check(&[(shared(body).as_str(), result, inputs, wanted)]);
    }
}

/// Forms whose lanes end up with values of their own.
#[test]
fn across_lanes() {
    type ByLane = fn(u64) -> u64;
    let table: [(&str, ByLane); 22] = [
        ("and.b32 %r5, %r0, 3; match.any.sync.b32 %r6, %r5, -1; redux.sync.max.u32 %r1, %r0, %r6;", |i| 28 + (i & 3)),
        ("mov.u32 %r1, %laneid;", |i| i),
        ("mov.u32 %r1, %lanemask_lt;", |i| (1 << i) - 1),
        ("mov.u32 %r1, %lanemask_ge;", |i| M1 & !((1 << i) - 1)),
        ("mov.u32 %r1, %ntid.x;", |_| 32),
        ("mov.u32 %r1, %warpid;", |_| 0),
        ("shfl.sync.up.b32 %r1, %r0, 1, 0, -1;", |i| i.saturating_sub(1)),
        ("shfl.sync.down.b32 %r1|%p1, %r0, 3, 31, -1;\n@!%p1 mov.u32 %r1, 99;", |i| if i < 29 { i + 3 } else { 99 }),
        ("shfl.sync.bfly.b32 %r1, %r0, 5, 31, -1;", |i| i ^ 5),
        ("shfl.sync.idx.b32 %r1, %r0, 2, 0x1c1f, -1;", |i| (i & !3) + 2),
        ("shfl.sync.down.b32 %r1, %r0, 2, 0x181f, -1;", |i| if i % 8 < 6 { i + 2 } else { i }),
        ("setp.gt.u32 %p1, %r0, 3; vote.sync.ballot.b32 %r1, %p1, -1;", |_| 0xffff_fff0),
        ("setp.gt.u32 %p1, %r0, 3; vote.sync.any.pred %p2, %p1, -1; selp.u32 %r1, 1, 0, %p2;", |_| 1),
        ("setp.gt.u32 %p1, %r0, 3; vote.sync.all.pred %p2, !%p1, -1; selp.u32 %r1, 1, 0, %p2;", |_| 0),
        ("activemask.b32 %r1;", |_| M1),
        ("shr.u32 %r5, %r0, 3; match.any.sync.b32 %r1, %r5, -1;", |i| 0xff << (i / 8 * 8)),
        ("mov.u32 %r5, 7; match.all.sync.b32 %r1|%p1, %r5, -1;", |_| M1),
        ("redux.sync.add.u32 %r1, %r0, -1;", |_| 496),
        ("redux.sync.max.s32 %r1, %r0, -1;", |_| 31),
        ("bar.warp.sync -1; bar.red.popc.u32 %r1, 0, %p1;", |_| 0),
        ("setp.lt.u32 %p1, %r0, 5; bar.red.popc.u32 %r1, 0, %p1;", |_| 5),
        ("setp.lt.u32 %p1, %r0, 5; bar.red.or.pred %p2, 0, %p1; selp.u32 %r1, 1, 0, %p2;", |_| 1),
    ];
    for (body, wanted) in table {
        let found = lanes(&format!("{body}\n{R32}"), [0; 3]);
        assert!((0..32).all(|i| found[i] == wanted(i as u64)), "{body}: {found:x?}");
    }
}

/// What a launch of one warp counts.
#[test]
fn counters() {
    let count = |body: &str| {
        let machine = machine();
        let module = machine.load(&kernel(body)).unwrap_or_else(|error| panic!("{error}"));
        let out = upload(&machine, &[0u32; 1024]);
        run(&machine, &module, "k", [1, 1, 1], [32, 1, 1], 0, Args::default().ptr(out))
            .unwrap_or_else(|trap| panic!("{trap}"))
    };
    let address = |stride: u32| format!("mul.wide.u32 %rd1, %r0, {stride};\nadd.s64 %rd1, %rd0, %rd1;");
    for (stride, sectors) in [(0, 1), (4, 4), (8, 8), (32, 32), (128, 32)] {
        let counts = count(&format!("{}\nld.global.u32 %r1, [%rd1];", address(stride)));
        assert_eq!((counts.global_load_bytes, counts.global_load_sectors), (128, sectors), "stride {stride}");
    }
    let counts = count(&format!("{}\nst.global.v4.u32 [%rd1], {{%r0, %r0, %r0, %r0}};", address(16)));
    assert_eq!((counts.global_store_bytes, counts.global_store_sectors), (512, 16));
    // Words of one bank take a pass each; one word for all is no conflict.
    for (stride, conflicts) in [(0, 0), (4, 0), (8, 1), (12, 0), (16, 3), (32, 7)] {
        let body = format!("mov.u32 %r2, tile;\nmad.lo.u32 %r2, %r0, {stride}, %r2;\nst.shared.u32 [%r2], 1;");
        assert_eq!(count(&body).shared_bank_conflicts, conflicts, "stride {stride}");
    }
    let wide = "mov.u32 %r2, tile;\nmad.lo.u32 %r2, %r0, 16, %r2;\nst.shared.v4.u32 [%r2], {1, 1, 1, 1};";
    assert_eq!(count(wide).shared_bank_conflicts, 0);
    let counts = count(
        "mov.f32 %f1, 0f3F800000;\nfma.rn.f32 %f2, %f1, %f1, %f1;\nsetp.lt.u32 %p1, %r0, 8;\n@%p1 add.f32 %f2, %f2, %f1;\nbar.sync 0;",
    );
    assert_eq!((counts.flops, counts.barriers), (72, 1));
    assert_eq!(counts.warp_instructions, 8);
    assert_eq!(counts.thread_instructions, 7 * 32 + 8);
    assert!(counts.to_json().contains("\"flops\":72"));
}

#[test]
fn control_flow() {
    // Collatz: lanes leave the loop at different times, and meet again.
    let collatz = "add.u32 %r5, %r0, 1;\nmov.u32 %r1, 0;\nLOOP:\nsetp.eq.u32 %p1, %r5, 1;\n@%p1 bra DONE;\n\
         and.b32 %r6, %r5, 1;\nsetp.eq.u32 %p2, %r6, 0;\n@%p2 bra EVEN;\nmad.lo.u32 %r5, %r5, 3, 1;\nbra.uni NEXT;\n\
         EVEN:\nshr.u32 %r5, %r5, 1;\nNEXT:\nadd.u32 %r1, %r1, 1;\nbra LOOP;\nDONE:\nvote.sync.ballot.b32 %r7, %p1, -1;";
    let found = lanes(&format!("{collatz}\n{R32}"), [0; 3]);
    for (i, steps) in found.iter().enumerate() {
        let (mut n, mut wanted) = (i as u64 + 1, 0);
        while n != 1 {
            n = if n % 2 == 0 { n / 2 } else { 3 * n + 1 };
            wanted += 1;
        }
        assert_eq!(*steps, wanted);
    }
    // Lanes that return inside of a branch are not waited for at its end.
    let body =
        "setp.lt.u32 %p1, %r0, 16;\n@%p1 bra LOW;\nsetp.lt.u32 %p2, %r0, 24;\n@%p2 ret;\nLOW:\nactivemask.b32 %r1;";
    let found = lanes(&format!("{body}\n{R32}"), [0; 3]);
    assert!((0..32).all(|i| found[i] == if (16..24).contains(&i) { 0 } else { 0xff00_ffff }), "{found:x?}");
}
