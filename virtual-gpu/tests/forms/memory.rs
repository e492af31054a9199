//! Loads, stores, atomics and asynchronous copies. Each lane has 16 bytes of the shared tile at `%r8`, and 16 bytes of
//! global memory, behind the results, at `%rd8`.

use super::*;

const PLACES: &str = "mov.u32 %r8, tile; shl.b32 %r9, %r0, 4; add.s32 %r8, %r8, %r9;\n\
                      mul.wide.u32 %rd8, %r0, 16; add.s64 %rd8, %rd0, %rd8; add.s64 %rd8, %rd8, 256;\n";

fn placed(table: &[Row]) -> Vec<Form> {
    let mut forms = rows(table);
    forms.iter_mut().for_each(|form| form.body.insert_str(0, PLACES));
    forms
}

pub fn loads_and_stores() -> Vec<Form> {
    let top = 0x8000_0000;
    placed(&[
        ("st.shared.b32 [%r8], %r2; ld.shared.u8 %r1, [%r8+3];", R32, [top, 0, 0], 0x80),
        ("st.shared.b32 [%r8], %r2; ld.shared.s8 %r1, [%r8+3];", R32, [top, 0, 0], 0xffff_ff80),
        ("st.shared.b32 [%r8], %r2; ld.shared.b8 %rs1, [%r8+3];", R16, [top, 0, 0], 0x80),
        ("st.shared.b32 [%r8], %r2; ld.shared.u16 %rs1, [%r8+2];", R16, [top, 0, 0], 0x8000),
        ("st.shared.b32 [%r8], %r2; ld.shared.s16 %rd1, [%r8+2];", R64, [top, 0, 0], (-32768i64) as u64),
        ("st.shared.b32 [%r8], %r2; ld.shared.s32 %rd1, [%r8];", R64, [top, 0, 0], (-2147483648i64) as u64),
        ("st.shared.u64 [%r8], 0; st.shared.u8 [%r8+1], %r2; ld.shared.b16 %rs1, [%r8];", R16, [0x1ff, 0, 0], 0xff00),
        ("st.shared.u64 [%r8], 0; st.shared.s16 [%r8+2], %rs2; ld.shared.b32 %r1, [%r8];", R32, [5, 0, 0], 5 << 16),
        ("st.shared.f32 [%r8], %f2; ld.shared.f32 %f1, [%r8];", F32, [f(1.5), 0, 0], f(1.5)),
        ("st.shared.f64 [%r8], %fd2; ld.shared.f64 %fd1, [%r8];", F64, [d(1.5), 0, 0], d(1.5)),
        ("st.shared.v2.b32 [%r8+8], {%r2, %r3}; ld.shared.u64 %rd1, [%r8+8];", R64, [1, 2, 0], 2 << 32 | 1),
        ("st.shared.v4.u8 [%r8], {%rs2, %rs3, %rs4, %rs2}; ld.shared.u32 %r1, [%r8];", R32, [1, 2, 3], 0x0103_0201),
        (
            "st.shared.v4.u16 [%r8], {%rs2, %rs3, %rs4, %rs2}; ld.shared.v2.s16 {%rs5, %rs1}, [%r8+4];",
            R16,
            [1, 2, 3],
            1,
        ),
        (
            "st.shared.v4.b32 [%r8], {%r2, %r3, %r4, 9}; ld.shared.v4.b32 {%r5, %r6, %r7, %r1}, [%r8];",
            R32,
            [1, 2, 3],
            9,
        ),
        ("st.shared.v4.b32 [%r8], {%r2, %r3, %r4, 9}; ld.shared.v4.b32 {%r5, %r6, _, %r1}, [%r8];", R32, [1, 2, 3], 9),
        ("st.shared.v2.b64 [%r8], {%rd2, %rd3}; ld.shared.v2.b64 {_, %rd1}, [%r8];", R64, [1, 2, 3], 2),
        ("st.shared.v2.f64 [%r8], {%fd2, %fd3}; ld.shared.v2.f64 {%fd5, %fd1}, [%r8];", F64, [1, 2, 3], 2),
        ("st.shared::cta.u32 [%r8], %r2; ld.shared::cta.u32 %r1, [%r8];", R32, [7, 0, 0], 7),
        (
            "cvt.u64.u32 %rd5, %r8; cvta.shared.u64 %rd5, %rd5; st.u32 [%rd5], %r2; ld.shared.u32 %r1, [%r8];",
            R32,
            [7, 0, 0],
            7,
        ),
        (
            "cvt.u64.u32 %rd5, %r8; cvta.shared.u64 %rd5, %rd5; cvta.to.shared.u64 %rd5, %rd5; cvt.u32.u64 %r5, %rd5; \
             sub.u32 %r1, %r5, %r8;",
            R32,
            [0; 3],
            0,
        ),
        ("st.local.u32 [mine+4], %r2; ld.local.u32 %r1, [mine+4];", R32, [7, 0, 0], 7),
        ("mov.u64 %rd5, mine; st.local.u32 [%rd5+4], %r2; ld.local.u32 %r1, [mine+4];", R32, [7, 0, 0], 7),
        ("st.local.v4.f32 [mine], {%f2, %f3, %f4, %f2}; ld.local.v2.f32 {%f5, %f1}, [mine+8];", F32, [1, 2, 3], 1),
        (
            "mov.u64 %rd5, mine; cvta.local.u64 %rd6, %rd5; st.u32 [%rd6], %r2; cvta.to.local.u64 %rd7, %rd6; \
             ld.local.u32 %r1, [%rd7];",
            R32,
            [7, 0, 0],
            7,
        ),
        ("st.volatile.shared.u32 [%r8], %r2; ld.volatile.shared.u32 %r1, [%r8];", R32, [7, 0, 0], 7),
        ("st.volatile.u32 [%rd8], %r2; ld.volatile.u32 %r1, [%rd8];", R32, [7, 0, 0], 7),
        ("st.weak.global.u32 [%rd8], %r2; ld.weak.global.u32 %r1, [%rd8];", R32, [7, 0, 0], 7),
        ("st.relaxed.gpu.global.u32 [%rd8], %r2; ld.relaxed.gpu.global.u32 %r1, [%rd8];", R32, [7, 0, 0], 7),
        ("st.release.cta.global.u32 [%rd8], %r2; ld.acquire.sys.global.u32 %r1, [%rd8];", R32, [7, 0, 0], 7),
        ("st.global.v4.u32 [%rd8], {%r2, %r3, %r4, %r2}; ld.global.v2.u32 {%r5, %r1}, [%rd8];", R32, [1, 2, 3], 2),
        ("st.global.b8 [%rd8], %r2; ld.global.s8 %rs1, [%rd8];", R16, [0x180, 0, 0], 0xff80),
        ("st.global.cg.u32 [%rd8], %r2; ld.global.cg.u32 %r1, [%rd8];", R32, [7, 0, 0], 7),
        ("st.global.wb.u32 [%rd8], %r2; ld.global.ca.u32 %r1, [%rd8];", R32, [7, 0, 0], 7),
        ("st.global.cs.u32 [%rd8], %r2; ld.global.cs.u32 %r1, [%rd8];", R32, [7, 0, 0], 7),
        ("st.global.wt.u32 [%rd8], %r2; ld.global.cv.u32 %r1, [%rd8];", R32, [7, 0, 0], 7),
        (
            "st.global.L1::evict_last.u32 [%rd8], %r2; ld.global.L1::evict_first.L2::64B.u32 %r1, [%rd8];",
            R32,
            [7, 0, 0],
            7,
        ),
        ("st.global.u32 [%rd8], %r2; ld.global.lu.u32 %r1, [%rd8];", R32, [7, 0, 0], 7),
        ("ld.global.nc.u64 %rd1, [%rd9+8];", R64, [1, 2, 3], 2),
        ("ld.global.nc.L1::no_allocate.L2::128B.v2.u32 {%r1, %r5}, [%rd9];", R32, [8, 0, 0], 8),
        ("ldu.global.u32 %r1, [%rd9+8];", R32, [1, 2, 3], 2),
        ("ldu.global.v2.u64 {%rd5, %rd1}, [%rd9];", R64, [1, 2, 3], 2),
        ("ld.const.u32 %r1, [fixed+4];", R32, [0; 3], 22),
        ("mov.u64 %rd5, fixed; ld.const.v2.u32 {%r1, %r5}, [%rd5];", R32, [0; 3], 11),
        ("mov.u64 %rd5, fixed; cvta.const.u64 %rd6, %rd5; ld.u32 %r1, [%rd6+4];", R32, [0; 3], 22),
        (
            "mov.u64 %rd5, fixed; cvta.const.u64 %rd6, %rd5; cvta.to.const.u64 %rd7, %rd6; sub.u64 %rd1, %rd7, %rd5;",
            R64,
            [0; 3],
            0,
        ),
        ("ld.global.u32 %r1, [counter+4];", R32, [0; 3], 44),
        ("mov.u64 %rd5, counter; cvta.global.u64 %rd6, %rd5; ld.u32 %r1, [%rd6];", R32, [0; 3], 33),
        ("cvta.to.global.u64 %rd5, %rd9; ld.global.u32 %r1, [%rd5];", R32, [9, 0, 0], 9),
        ("ld.param.u64 %rd5, [out]; sub.u64 %rd1, %rd5, %rd0;", R64, [0; 3], 0),
        ("ld.param.v2.u32 {%r5, %r6}, [out]; mov.b64 %rd5, {%r5, %r6}; sub.u64 %rd1, %rd5, %rd0;", R64, [0; 3], 0),
        ("isspacep.global %p1, %rd0;", P, [0; 3], 1),
        ("isspacep.shared %p1, %rd0;", P, [0; 3], 0),
        ("cvt.u64.u32 %rd5, %r8; cvta.shared.u64 %rd5, %rd5; isspacep.shared %p1, %rd5;", P, [0; 3], 1),
        ("cvt.u64.u32 %rd5, %r8; cvta.shared.u64 %rd5, %rd5; isspacep.shared::cta %p1, %rd5;", P, [0; 3], 1),
        ("cvt.u64.u32 %rd5, %r8; cvta.shared.u64 %rd5, %rd5; isspacep.global %p1, %rd5;", P, [0; 3], 0),
        ("mov.u64 %rd5, mine; cvta.local.u64 %rd5, %rd5; isspacep.local %p1, %rd5;", P, [0; 3], 1),
        ("mov.u64 %rd5, mine; cvta.local.u64 %rd5, %rd5; isspacep.shared %p1, %rd5;", P, [0; 3], 0),
        (
            "prefetch.global.L2 [%rd0]; prefetch.global.L1 [%rd0]; prefetch.L1 [%rd0]; prefetchu.L1 [%rd0];",
            R64,
            [0; 3],
            0,
        ),
        ("prefetch.global.L2::evict_last [%rd0]; prefetch.global.L2::evict_normal [%rd0];", R64, [0; 3], 0),
        ("and.b64 %rd5, %rd0, -128; applypriority.global.L2::evict_normal [%rd5], 128;", R64, [0; 3], 0),
        ("discard.global.L2 [%rd0+512], 128;", R64, [0; 3], 0),
        ("membar.cta; membar.gl; membar.sys;", R64, [0; 3], 0),
        ("fence.acq_rel.cta; fence.acq_rel.gpu; fence.acq_rel.sys; fence.sc.gpu;", R64, [0; 3], 0),
        ("nanosleep.u32 20; nanosleep.u32 %r2; pmevent 1;", R64, [9, 0, 0], 0),
    ])
}

/// Each operation in shared and global memory: with `atom`, whose result is the old value, and with `red`.
pub fn atomics() -> Vec<Form> {
    let mut forms = placed(&[
        ("atom.global.add.u32 %r5, [%rd0+512], 1; bar.sync 0; ld.global.u32 %r1, [%rd0+512];", R32, [0; 3], 32),
        (
            "red.relaxed.gpu.global.or.b64 [%rd0+512], %rd2; bar.sync 0; ld.global.u64 %rd1, [%rd0+512];",
            R64,
            [6, 0, 0],
            6,
        ),
        (
            "red.global.add.f64 [%rd0+512], %fd2; bar.sync 0; ld.global.u64 %rd1, [%rd0+512];",
            R64,
            [d(0.5), 0, 0],
            d(16.0),
        ),
        ("st.global.f32 [%rd8], %f2; red.global.add.f32 [%rd8], %f2; ld.global.u32 %r1, [%rd8];", R32, [1, 0, 0], 0),
        ("st.shared.f32 [%r8], %f2; red.shared.add.f32 [%r8], %f2; ld.shared.u32 %r1, [%r8];", R32, [1, 0, 0], 2),
        ("st.global.u32 [%rd8], %r2; atom.add.u32 %r1, [%rd8], %r3;", R32, [7, 5, 0], 7),
        ("st.global.u32 [%rd8], %r2; atom.acq_rel.gpu.global.add.u32 %r1, [%rd8], %r3;", R32, [7, 5, 0], 7),
        ("st.global.u32 [%rd8], %r2; atom.acquire.cta.global.exch.b32 %r1, [%rd8], %r3;", R32, [7, 5, 0], 7),
        ("st.global.u32 [%rd8], %r2; atom.release.sys.global.max.u32 %r1, [%rd8], %r3;", R32, [7, 5, 0], 7),
        ("st.shared.u32 [%r8], %r2; atom.shared::cta.add.u32 %r1, [%r8], %r3;", R32, [7, 5, 0], 7),
        (
            "st.shared.u16 [%r8], %rs2; atom.shared.cas.b16 %rs5, [%r8], %rs2, %rs3; ld.shared.u16 %rs1, [%r8];",
            R16,
            [7, 5, 0],
            5,
        ),
    ]);
    for (op, ty, a, b, wanted) in [
        ("add", "u32", M1, 2, 1),
        ("add", "s32", M1, 2, 1),
        ("add", "u64", M1, 2, M1 + 2),
        ("add", "f32", f(0.5), f(2.0), f(2.5)),
        ("add", "f64", d(0.5), d(2.0), d(2.5)),
        ("min", "u32", 5, M1, 5),
        ("min", "s32", 5, M1, M1),
        ("min", "u64", 5, u64::MAX, 5),
        ("min", "s64", 5, u64::MAX, u64::MAX),
        ("max", "u32", 5, M1, M1),
        ("max", "s32", 5, M1, 5),
        ("max", "u64", 5, u64::MAX, u64::MAX),
        ("max", "s64", 5, u64::MAX, 5),
        ("and", "b32", 6, 3, 2),
        ("and", "b64", 6 << 40, 3 << 40, 2 << 40),
        ("or", "b32", 6, 3, 7),
        ("or", "b64", 6 << 40, 3, 6 << 40 | 3),
        ("xor", "b32", 6, 3, 5),
        ("xor", "b64", 6 << 40, 3 << 40, 5 << 40),
        ("inc", "u32", 5, 5, 0),
        ("inc", "u32", 4, 5, 5),
        ("dec", "u32", 0, 5, 5),
        ("dec", "u32", 5, 5, 4),
        ("exch", "b32", 7, 5, 5),
        ("exch", "b64", 7, 5 << 40, 5 << 40),
        ("cas", "b32", 7, 7, 9),
        ("cas", "b32", 7, 5, 7),
        ("cas", "b64", 7 << 40, 7 << 40, 9),
    ] {
        let bits = if ty.ends_with("64") { 64 } else { 32 };
        let reg = match ty {
            "f32" => "%f",
            "f64" => "%fd",
            _ if bits == 64 => "%rd",
            _ => "%r",
        };
        for (space, address) in [("shared", "%r8"), ("global", "%rd8")] {
            let (word, result) = if bits == 64 { ("%rd", R64) } else { ("%r", R32) };
            let last = if op == "cas" { format!(", {reg}4") } else { String::new() };
            let put = format!("{PLACES}st.{space}.b{bits} [{address}], {word}2;");
            let get = format!("ld.{space}.b{bits} {word}1, [{address}];");
            let atom = format!("{put} atom.{space}.{op}.{ty} {reg}5, [{address}], {reg}3{last};");
            forms.push(form(format!("{atom} {get}"), result, [a, b, 9], Wanted::Every(wanted)));
            let old = format!("{atom} mov.b{bits} {word}1, {reg}5;");
            forms.push(form(old, result, [a, b, 9], Wanted::Every(a)));
            if op != "cas" && op != "exch" {
                let red = format!("{put} red.{space}.{op}.{ty} [{address}], {reg}3; {get}");
                forms.push(form(red, result, [a, b, 9], Wanted::Every(wanted)));
            }
        }
    }
    let two = |name: &str| format!("{PLACES}st.global.u32 [%rd8], %r2; {name} ld.global.u32 %r1, [%rd8];");
    for (name, a, b, wanted) in [
        ("atom.global.add.noftz.f16 %rs5, [%rd8], %rs3;", 0x3c00, 0x4000, 0x4200),
        ("red.global.add.noftz.f16 [%rd8], %rs3;", 0x3c00, 0x4000, 0x4200),
        ("atom.global.add.noftz.f16x2 %r5, [%rd8], %r3;", 0x3c00_4000, 0x4000_4000, 0x4200_4400),
        ("red.global.add.noftz.f16x2 [%rd8], %r3;", 0x3c00_4000, 0x4000_4000, 0x4200_4400),
    ] {
        forms.push(form(two(name), R32, [a, b, 0], Wanted::Every(wanted)));
    }
    forms
}

pub fn atomics_of_sm_90() -> Vec<Form> {
    placed(&[
        (
            "st.global.u32 [%rd8], %r2; atom.global.add.noftz.bf16 %rs5, [%rd8], %rs3; ld.global.u32 %r1, [%rd8];",
            R32,
            [0x3f80, 0x4000, 0],
            0x4040,
        ),
        (
            "st.global.u32 [%rd8], %r2; red.global.add.noftz.bf16 [%rd8], %rs3; ld.global.u32 %r1, [%rd8];",
            R32,
            [0x3f80, 0x4000, 0],
            0x4040,
        ),
        (
            "st.global.u32 [%rd8], %r2; atom.global.add.noftz.bf16x2 %r5, [%rd8], %r3; ld.global.u32 %r1, [%rd8];",
            R32,
            [0x3f80_4000, 0x4000_4000, 0],
            0x4040_4080,
        ),
        (
            "st.global.u32 [%rd8], %r2; red.global.add.noftz.bf16x2 [%rd8], %r3; ld.global.u32 %r1, [%rd8];",
            R32,
            [0x3f80_4000, 0x4000_4000, 0],
            0x4040_4080,
        ),
    ])
}

pub fn copies() -> Vec<Form> {
    let all = "cp.async.commit_group; cp.async.wait_all;";
    let mut forms = Vec::new();
    for (copy, wanted) in [
        ("cp.async.ca.shared.global [%r8], [%rd9], 4;", [2, 0]),
        ("cp.async.ca.shared.global [%r8], [%rd9], 8;", [2 | 1 << 40, 0]),
        ("cp.async.ca.shared.global [%r8], [%rd9], 16;", [2 | 1 << 40, 3]),
        ("cp.async.cg.shared.global [%r8], [%rd9], 16;", [2 | 1 << 40, 3]),
        ("cp.async.cg.shared::cta.global [%r8], [%rd9], 16;", [2 | 1 << 40, 3]),
        ("cp.async.ca.shared.global.L2::128B [%r8], [%rd9], 16;", [2 | 1 << 40, 3]),
        ("cp.async.cg.shared.global.L2::64B [%r8], [%rd9], 16;", [2 | 1 << 40, 3]),
        ("cp.async.cg.shared.global.L2::256B [%r8], [%rd9], 16;", [2 | 1 << 40, 3]),
        // The rest of the target is zeroed.
        ("cp.async.ca.shared.global [%r8], [%rd9], 8, 4;", [2, 0]),
        ("cp.async.cg.shared.global [%r8], [%rd9], 16, %r4;", [2 | 1 << 40, 0]),
        ("setp.ne.s32 %p1, %r4, 0; cp.async.ca.shared.global [%r8], [%rd9], 4, %p1;", [0, 0]),
    ] {
        // The tile is zeroed first.
        let zero = "st.shared.v2.b64 [%r8], {0, 0};";
        for (at, wanted) in [(0, wanted[0]), (8, wanted[1])] {
            let body = format!("{PLACES}{zero} {copy} {all} ld.shared.u64 %rd1, [%r8+{at}];");
            forms.push(form(body, R64, [2 | 1 << 40, 3, 8], Wanted::Every(wanted)));
        }
    }
    forms.extend(placed(&[(
        "cp.async.ca.shared.global [%r8], [%rd9], 8; cp.async.commit_group; \
         cp.async.ca.shared.global [%r8+8], [%rd9+8], 8; cp.async.commit_group; \
         cp.async.wait_group 1; ld.shared.u64 %rd5, [%r8]; \
         cp.async.wait_group 0; ld.shared.u64 %rd6, [%r8+8]; add.u64 %rd1, %rd5, %rd6;",
        R64,
        [5, 6, 0],
        11,
    )]));
    forms
}
