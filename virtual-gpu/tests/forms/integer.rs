//! Integer arithmetic, logic and shifts.

use super::*;

pub fn arithmetic() -> Vec<Form> {
    let m1l = u64::MAX;
    rows(&[
        ("add.sat.s32 %r1, %r2, %r3;", R32, [0x7fff_ffff, 2, 0], 0x7fff_ffff),
        ("sub.sat.s32 %r1, %r2, %r3;", R32, [0x8000_0000, 2, 0], 0x8000_0000),
        ("add.cc.u32 %r5, %r2, %r3; addc.u32 %r1, %r4, 0;", R32, [M1, 1, 7], 8),
        ("add.cc.s32 %r5, %r2, %r3; addc.cc.s32 %r5, %r5, -1; addc.s32 %r1, %r4, 0;", R32, [M1, 1, 7], 8),
        ("add.cc.u64 %rd5, %rd2, %rd3; addc.u64 %rd1, %rd4, 0;", R64, [m1l, 1, 7], 8),
        ("add.cc.s64 %rd5, %rd2, %rd3; addc.cc.s64 %rd5, %rd5, 0; addc.s64 %rd1, %rd4, 0;", R64, [m1l, 2, 7], 7),
        ("sub.cc.u32 %r5, %r2, %r3; subc.u32 %r1, %r4, 0;", R32, [0, 1, 7], 6),
        ("sub.cc.s32 %r5, %r2, %r3; subc.cc.s32 %r5, %r5, -1; subc.s32 %r1, %r4, 0;", R32, [0, 1, 7], 6),
        ("sub.cc.u64 %rd5, %rd2, %rd3; subc.u64 %rd1, %rd4, 0;", R64, [0, 1, 7], 6),
        ("sub.cc.s64 %rd5, %rd2, %rd3; subc.cc.s64 %rd5, %rd5, 0; subc.s64 %rd1, %rd4, 0;", R64, [1, 1, 7], 7),
        ("mad.lo.cc.u32 %r5, %r2, %r3, 1; madc.hi.u32 %r1, %r2, %r3, %r4;", R32, [M1, M1, 1], M1),
        ("mad.lo.cc.s32 %r5, %r2, %r3, -1; madc.hi.s32 %r1, %r2, %r3, %r4;", R32, [M1 - 1, M1, 1], 2),
        ("mad.hi.cc.u32 %r5, %r2, %r3, %r4; madc.lo.u32 %r1, %r2, 0, 5;", R32, [M1, M1, 2], 6),
        ("mad.hi.cc.s32 %r5, %r2, %r3, %r4; madc.lo.cc.s32 %r5, %r2, %r3, 0; addc.u32 %r1, 0, 0;", R32, [M1, 3, 1], 0),
        ("mad.lo.cc.u64 %rd5, %rd2, %rd3, 1; madc.hi.u64 %rd1, %rd2, %rd3, %rd4;", R64, [m1l, m1l, 1], m1l),
        ("mad.hi.cc.s64 %rd5, %rd2, %rd3, %rd4; madc.lo.s64 %rd1, %rd2, %rd3, 0;", R64, [m1l, 3, 1], m1l - 1),
        ("add.cc.u32 %r5, 0, 0; madc.hi.cc.u32 %r5, %r2, %r3, %r4; addc.u32 %r1, 0, 0;", R32, [M1, M1, 3], 1),
        ("mad.hi.sat.s32 %r1, %r2, %r3, %r4;", R32, [0x7fff_ffff, 0x7fff_ffff, 0x7fff_ffff], 0x7fff_ffff),
        ("mul24.lo.u32 %r1, %r2, %r3;", R32, [0xff00_0003, 4, 0], 12),
        ("mul24.lo.s32 %r1, %r2, %r3;", R32, [0x00ff_ffff, 4, 0], M1 - 3),
        ("mul24.hi.u32 %r1, %r2, %r3;", R32, [0xff80_0000, 0x20000, 0], 0x0100_0000),
        ("mul24.hi.s32 %r1, %r2, %r3;", R32, [0x0080_0000, 0x20000, 0], 0xff00_0000),
        ("mad24.lo.u32 %r1, %r2, %r3, %r4;", R32, [0xff00_0003, 4, 5], 17),
        ("mad24.lo.s32 %r1, %r2, %r3, %r4;", R32, [0x00ff_ffff, 4, 5], 1),
        ("mad24.hi.u32 %r1, %r2, %r3, %r4;", R32, [0xff80_0000, 0x20000, 5], 0x0100_0005),
        ("mad24.hi.s32 %r1, %r2, %r3, %r4;", R32, [0x0080_0000, 0x20000, 5], 0xff00_0005),
        ("mad24.hi.sat.s32 %r1, %r2, %r3, %r4;", R32, [0x007f_ffff, 0x007f_ffff, 0x7fff_ffff], 0x7fff_ffff),
        ("dp4a.u32.u32 %r1, %r2, %r3, %r4;", R32, [0x0102_0304, 0x0101_0101, 5], 15),
        ("dp4a.s32.s32 %r1, %r2, %r3, %r4;", R32, [0xff02_0304, 0x01ff_0101, 5], 9),
        ("dp4a.u32.s32 %r1, %r2, %r3, %r4;", R32, [0xff02_0304, 0xff01_0101, 5], M1 - 240),
        ("dp4a.s32.u32 %r1, %r2, %r3, %r4;", R32, [0xff02_0304, 0xff01_0101, 5], M1 - 240),
        ("dp2a.lo.u32.u32 %r1, %r2, %r3, %r4;", R32, [0x0002_0003, 0x0000_0504, 1], 1 + 3 * 4 + 2 * 5),
        ("dp2a.hi.u32.u32 %r1, %r2, %r3, %r4;", R32, [0x0002_0003, 0x0504_0000, 1], 1 + 3 * 4 + 2 * 5),
        ("dp2a.lo.s32.s32 %r1, %r2, %r3, %r4;", R32, [0xffff_0003, 0x0000_05ff, 1], M1 - 6),
        ("dp2a.hi.s32.u32 %r1, %r2, %r3, %r4;", R32, [0xffff_0003, 0xff04_0000, 1], M1 - 241),
        ("dp2a.lo.u32.s32 %r1, %r2, %r3, %r4;", R32, [0xffff_0003, 0x0000_ff04, 1], M1 - 65521),
        ("fns.b32 %r1, %r2, %r3, 2;", R32, [0b1011_0100, 2, 0], 4),
        ("fns.b32 %r1, %r2, %r3, -1;", R32, [0b1011_0100, 3, 0], 2),
        ("fns.b32 %r1, %r2, %r3, 9;", R32, [0b1011_0100, 0, 0], M1),
        ("mov.u32 %r1, 0x10U; add.u32 %r1, %r1, 010; add.u32 %r1, %r1, 0b11;", R32, [0; 3], 27),
    ])
}

/// An integer type: its name, width and sign.
pub struct Kind {
    pub name: &'static str,
    pub bits: u32,
    pub signed: bool,
}

const fn kind(name: &'static str, bits: u32, signed: bool) -> Kind {
    Kind { name, bits, signed }
}

pub const KINDS: [Kind; 8] = [
    kind("u8", 8, false),
    kind("s8", 8, true),
    kind("u16", 16, false),
    kind("s16", 16, true),
    kind("u32", 32, false),
    kind("s32", 32, true),
    kind("u64", 64, false),
    kind("s64", 64, true),
];

impl Kind {
    /// The prefix of registers of this width, and the move of a result from one. Bytes are kept in 32-bit registers.
    pub fn registers(&self) -> (&'static str, &'static str) {
        match self.bits {
            16 => ("%rs", R16),
            64 => ("%rd", R64),
            _ => ("%r", R32),
        }
    }

    pub fn value(&self, bits: u64) -> i128 {
        let unused = 64 - self.bits;
        if self.signed { ((bits << unused) as i64 >> unused).into() } else { (bits << unused >> unused).into() }
    }

    pub fn wrap(&self, value: i128) -> u64 {
        value as u64 & u64::MAX >> (64 - self.bits)
    }

    pub fn range(&self) -> (i128, i128) {
        if self.signed { (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1) } else { (0, (1 << self.bits) - 1) }
    }
}

pub fn of_every_type() -> Vec<Form> {
    let mut forms = Vec::new();
    for ty in &KINDS[2..] {
        let (reg, result) = ty.registers();
        for inputs in [[7, 3, 100], [ty.wrap(-7), 3, 5], [u64::MAX >> (65 - ty.bits), ty.wrap(-1), 1]] {
            let [a, b, c] = inputs.map(|input| ty.value(input));
            let high = if ty.signed { (a * b) >> ty.bits } else { ((a as u128 * b as u128) >> ty.bits) as i128 };
            let low = a.wrapping_mul(b);
            for (name, operands, wanted) in [
                ("add", 3, a + b),
                ("sub", 3, a - b),
                ("mul.lo", 3, low),
                ("mul.hi", 3, high),
                ("mad.lo", 4, low.wrapping_add(c)),
                ("mad.hi", 4, high + c),
                ("div", 3, a / b),
                ("rem", 3, a % b),
                ("min", 3, a.min(b)),
                ("max", 3, a.max(b)),
                ("sad", 4, (a - b).abs() + c),
                ("abs", 2, a.abs()),
                ("neg", 2, -a),
            ] {
                if matches!(name, "abs" | "neg") && !ty.signed {
                    continue;
                }
                let operands: Vec<String> = (1..=operands).map(|n| format!("{reg}{n}")).collect();
                let body = format!("{name}.{} {};", ty.name, operands.join(", "));
                forms.push(form(body, result, inputs, Wanted::Every(ty.wrap(wanted))));
            }
            if ty.bits < 64 {
                let wide = &KINDS[KINDS.iter().position(|kind| kind.name == ty.name).expect("listed") + 2];
                let (to, result) = wide.registers();
                let body = format!("mul.wide.{} {to}1, {reg}2, {reg}3;", ty.name);
                forms.push(form(body, result, inputs, Wanted::Every(wide.wrap(a * b))));
                let body = format!("mad.wide.{} {to}1, {reg}2, {reg}3, {to}4;", ty.name);
                forms.push(form(body, result, inputs, Wanted::Every(wide.wrap(a * b + wide.value(inputs[2])))));
            }
        }
    }
    forms
}

pub fn logic_and_bits() -> Vec<Form> {
    let top = 1 << 63;
    rows(&[
        ("and.b16 %rs1, %rs2, %rs3;", R16, [0xf0f0, 0xff00, 0], 0xf000),
        ("and.b32 %r1, %r2, %r3;", R32, [0xf0f0, 0xff00, 0], 0xf000),
        ("and.b64 %rd1, %rd2, %rd3;", R64, [top | 1, top, 0], top),
        ("or.b16 %rs1, %rs2, %rs3;", R16, [0xf0f0, 0xff00, 0], 0xfff0),
        ("or.b32 %r1, %r2, %r3;", R32, [0xf0f0, 0xff00, 0], 0xfff0),
        ("or.b64 %rd1, %rd2, %rd3;", R64, [0xf0f0, 0xff00, 0], 0xfff0),
        ("xor.b16 %rs1, %rs2, %rs3;", R16, [0xf0f0, 0xff00, 0], 0x0ff0),
        ("xor.b32 %r1, %r2, %r3;", R32, [0xf0f0, 0xff00, 0], 0x0ff0),
        ("xor.b64 %rd1, %rd2, %rd3;", R64, [top, M1, 0], top | M1),
        ("not.b16 %rs1, %rs2;", R16, [0xf0f0, 0, 0], 0x0f0f),
        ("not.b32 %r1, %r2;", R32, [0xf0f0, 0, 0], 0xffff_0f0f),
        ("not.b64 %rd1, %rd2;", R64, [0xf0f0, 0, 0], !0xf0f0),
        ("cnot.b16 %rs1, %rs2;", R16, [0x1_0000, 0, 0], 1),
        ("cnot.b32 %r1, %r2;", R32, [0, 0, 0], 1),
        ("cnot.b64 %rd1, %rd2;", R64, [top, 0, 0], 0),
        ("lop3.b32 %r1, %r2, %r3, %r4, 0x96;", R32, [0xf0, 0xcc, 0xaa], 0x96),
        ("shl.b16 %rs1, %rs2, %r3;", R16, [3, 15, 0], 1 << 15),
        ("shl.b32 %r1, %r2, %r3;", R32, [1, 31, 0], 1 << 31),
        ("shl.b32 %r1, %r2, %r3;", R32, [1, 32, 0], 0),
        ("shl.b64 %rd1, %rd2, %r3;", R64, [1, 63, 0], top),
        ("shr.b16 %rs1, %rs2, %r3;", R16, [1 << 15, 15, 0], 1),
        ("shr.b32 %r1, %r2, %r3;", R32, [1 << 31, 31, 0], 1),
        ("shr.b64 %rd1, %rd2, %r3;", R64, [top, 64, 0], 0),
        ("shr.u16 %rs1, %rs2, %r3;", R16, [1 << 15, 16, 0], 0),
        ("shr.u32 %r1, %r2, %r3;", R32, [1 << 31, 31, 0], 1),
        ("shr.u64 %rd1, %rd2, %r3;", R64, [top, 63, 0], 1),
        ("shr.s16 %rs1, %rs2, %r3;", R16, [1 << 15, 40, 0], 0xffff),
        ("shr.s32 %r1, %r2, %r3;", R32, [1 << 31, 40, 0], M1),
        ("shr.s64 %rd1, %rd2, %r3;", R64, [top, 63, 0], u64::MAX),
        ("shf.l.wrap.b32 %r1, %r2, %r3, %r4;", R32, [0x8000_0000, 1, 33], 3),
        ("shf.l.clamp.b32 %r1, %r2, %r3, %r4;", R32, [0x8000_0001, 1, 33], 0x8000_0001),
        ("shf.r.wrap.b32 %r1, %r2, %r3, %r4;", R32, [0x8000_0000, 1, 33], 0xc000_0000),
        ("shf.r.clamp.b32 %r1, %r2, %r3, %r4;", R32, [0x8000_0000, 7, 40], 7),
        ("bfe.u32 %r1, %r2, 4, 8;", R32, [0xabcd, 0, 0], 0xbc),
        ("bfe.s32 %r1, %r2, 4, 8;", R32, [0xabcd, 0, 0], 0xffff_ffbc),
        ("bfe.u64 %rd1, %rd2, %r3, %r4;", R64, [0xabcd << 32, 36, 8], 0xbc),
        ("bfe.s64 %rd1, %rd2, %r3, %r4;", R64, [0xabcd << 32, 36, 8], !0x43),
        ("bfi.b32 %r1, %r2, %r3, 8, 4;", R32, [0x5, 0xffff, 0], 0xf5ff),
        ("bfi.b64 %rd1, %rd2, %rd3, 32, 32;", R64, [0x5, 0xffff, 0], 0x5_0000_ffff),
        ("bfind.u32 %r1, %r2;", R32, [0x100, 0, 0], 8),
        ("bfind.s32 %r1, %r2;", R32, [M1, 0, 0], M1),
        ("bfind.u64 %r1, %rd2;", R32, [1 << 40, 0, 0], 40),
        ("bfind.s64 %r1, %rd2;", R32, [!(1 << 40), 0, 0], 40),
        ("bfind.shiftamt.u32 %r1, %r2;", R32, [0x100, 0, 0], 23),
        ("bfind.shiftamt.s32 %r1, %r2;", R32, [!0x100 & M1, 0, 0], 23),
        ("bfind.shiftamt.u64 %r1, %rd2;", R32, [1 << 40, 0, 0], 23),
        ("bfind.shiftamt.s64 %r1, %rd2;", R32, [0, 0, 0], M1),
        ("popc.b32 %r1, %r2;", R32, [0xf0f, 0, 0], 8),
        ("popc.b64 %r1, %rd2;", R32, [u64::MAX, 0, 0], 64),
        ("clz.b32 %r1, %r2;", R32, [0, 0, 0], 32),
        ("clz.b64 %r1, %rd2;", R32, [1, 0, 0], 63),
        ("brev.b32 %r1, %r2;", R32, [1, 0, 0], 1 << 31),
        ("brev.b64 %rd1, %rd2;", R64, [2, 0, 0], 1 << 62),
        ("prmt.b32 %r1, %r2, %r3, 0x5410;", R32, [0x1111_2222, 0x3333_4444, 0], 0x4444_2222),
        ("prmt.b32 %r1, %r2, %r3, 0x8b10;", R32, [0x1122_3380, 0x5566_7788, 0], 0xff00_3380),
        ("prmt.b32.f4e %r1, %r2, %r3, %r4;", R32, [0x3322_1100, 0x7766_5544, 1], 0x4433_2211),
        ("prmt.b32.b4e %r1, %r2, %r3, %r4;", R32, [0x3322_1100, 0x7766_5544, 1], 0x6677_0011),
        ("prmt.b32.rc8 %r1, %r2, %r3, %r4;", R32, [0x3322_1100, 0x7766_5544, 2], 0x2222_2222),
        ("prmt.b32.ecl %r1, %r2, %r3, %r4;", R32, [0x3322_1100, 0x7766_5544, 2], 0x3322_2222),
        ("prmt.b32.ecr %r1, %r2, %r3, %r4;", R32, [0x3322_1100, 0x7766_5544, 2], 0x2222_1100),
        ("prmt.b32.rc16 %r1, %r2, %r3, %r4;", R32, [0x3322_1100, 0x7766_5544, 1], 0x3322_3322),
        ("bmsk.clamp.b32 %r1, %r2, %r3;", R32, [4, 8, 0], 0xff0),
        ("bmsk.wrap.b32 %r1, %r2, %r3;", R32, [36, 40, 0], 0xff0),
    ])
}
