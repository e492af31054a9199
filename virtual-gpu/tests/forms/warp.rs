//! Special registers, warp-wide instructions, barriers, matrix products and control flow.

use super::*;

type ByLane = fn(u64) -> u64;

fn lanes(table: &[(&str, ByLane)]) -> Vec<Form> {
    table.iter().map(|(body, wanted)| form(body, R32, [0; 3], Wanted::ByLane(Box::new(*wanted)))).collect()
}

pub fn across_lanes() -> Vec<Form> {
    lanes(&[
        ("mov.u32 %r1, %tid.x;", |i| i),
        ("mov.u32 %r5, %tid.y; mov.u32 %r6, %tid.z; or.b32 %r1, %r5, %r6;", |_| 0),
        ("mov.u32 %r1, %ntid.x;", |_| 32),
        ("mov.u32 %r5, %ntid.y; mov.u32 %r6, %ntid.z; mad.lo.u32 %r1, %r5, 10, %r6;", |_| 11),
        ("mov.u32 %r5, %ctaid.x; mov.u32 %r6, %ctaid.y; mov.u32 %r7, %ctaid.z; or.b32 %r1, %r5, %r6;", |_| 0),
        (
            "mov.u32 %r5, %nctaid.x; mov.u32 %r6, %nctaid.y; mov.u32 %r7, %nctaid.z; mad.lo.u32 %r1, %r5, %r6, %r7;",
            |_| 2,
        ),
        ("mov.u32 %r1, %laneid;", |i| i),
        ("mov.u32 %r1, %lanemask_eq;", |i| 1 << i),
        ("mov.u32 %r1, %lanemask_lt;", |i| (1 << i) - 1),
        ("mov.u32 %r1, %lanemask_le;", |i| (2 << i) - 1),
        ("mov.u32 %r1, %lanemask_gt;", |i| M1 & !((2 << i) - 1)),
        ("mov.u32 %r1, %lanemask_ge;", |i| M1 & !((1 << i) - 1)),
        ("mov.u32 %r1, %dynamic_smem_size;", |_| 0),
        // The values of these registers depend on the card; only their order is fixed.
        ("mov.u32 %r5, %warpid; mov.u32 %r6, %nwarpid; setp.lt.u32 %p1, %r5, %r6; selp.u32 %r1, 1, 0, %p1;", |_| 1),
        ("mov.u32 %r5, %smid; mov.u32 %r6, %nsmid; setp.lt.u32 %p1, %r5, %r6; selp.u32 %r1, 1, 0, %p1;", |_| 1),
        ("mov.u64 %rd5, %gridid; mov.u32 %r5, %clock; mov.u32 %r5, %clock_hi; mov.u32 %r1, 1;", |_| 1),
        (
            "st.volatile.shared.u32 [tile], 1; mov.u32 %r5, %total_smem_size;\n\
             setp.ge.u32 %p1, %r5, 1024; selp.u32 %r1, 1, 0, %p1;",
            |_| 1,
        ),
        (
            "mov.u64 %rd5, %clock64; mov.u64 %rd6, %clock64; setp.le.u64 %p1, %rd5, %rd6; selp.u32 %r1, 1, 0, %p1;",
            |_| 1,
        ),
        (
            "mov.u64 %rd5, %globaltimer; mov.u64 %rd6, %globaltimer;\n\
             setp.le.u64 %p1, %rd5, %rd6; selp.u32 %r1, 1, 0, %p1;",
            |_| 1,
        ),
        ("shfl.sync.up.b32 %r1, %r0, 1, 0, -1;", |i| i.saturating_sub(1)),
        (
            "shfl.sync.up.b32 %r1|%p1, %r0, 3, 0x1800, -1; @!%p1 mov.u32 %r1, 99;",
            |i| if i % 8 > 2 { i - 3 } else { 99 },
        ),
        ("shfl.sync.down.b32 %r1|%p1, %r0, 3, 31, -1; @!%p1 mov.u32 %r1, 99;", |i| if i < 29 { i + 3 } else { 99 }),
        ("shfl.sync.down.b32 %r1, %r0, 2, 0x181f, -1;", |i| if i % 8 < 6 { i + 2 } else { i }),
        ("shfl.sync.bfly.b32 %r1, %r0, 5, 31, -1;", |i| i ^ 5),
        (
            "shfl.sync.bfly.b32 %r1|%p1, %r0, 8, 0x181f, -1;\n\
             selp.u32 %r1, %r1, 99, %p1;",
            |i| {
                if i ^ 8 < i { i ^ 8 } else { 99 }
            },
        ),
        ("shfl.sync.idx.b32 %r1, %r0, 2, 0x1c1f, -1;", |i| (i & !3) + 2),
        ("shfl.sync.idx.b32 %r1|%p1, %r0, %r0, 31, -1; selp.u32 %r1, %r1, 99, %p1;", |i| i),
        ("setp.gt.u32 %p1, %r0, 3; vote.sync.ballot.b32 %r1, %p1, -1;", |_| 0xffff_fff0),
        ("setp.gt.u32 %p1, %r0, 3; vote.sync.any.pred %p2, %p1, -1; selp.u32 %r1, 1, 0, %p2;", |_| 1),
        ("setp.gt.u32 %p1, %r0, 3; vote.sync.all.pred %p2, !%p1, -1; selp.u32 %r1, 1, 0, %p2;", |_| 0),
        ("setp.gt.u32 %p1, %r0, 31; vote.sync.uni.pred %p2, %p1, -1; selp.u32 %r1, 1, 0, %p2;", |_| 1),
        // The set of converged lanes depends on the card, but contains the lane itself.
        ("activemask.b32 %r5; mov.u32 %r6, %lanemask_eq; and.b32 %r1, %r5, %r6;", |i| 1 << i),
        ("shr.u32 %r5, %r0, 3; match.any.sync.b32 %r1, %r5, -1;", |i| 0xff << (i / 8 * 8)),
        ("mul.wide.u32 %rd5, %r0, 0x20000000; match.any.sync.b64 %r1, %rd5, -1;", |i| 1 << i),
        ("mov.u32 %r5, 7; match.all.sync.b32 %r1|%p1, %r5, -1;", |_| M1),
        ("match.all.sync.b64 %r5|%p1, %rd2, -1; selp.u32 %r1, 1, 0, %p1;", |_| 1),
        ("match.all.sync.b32 %r5|%p1, %r0, -1; selp.u32 %r1, 1, %r5, %p1;", |_| 0),
        ("redux.sync.add.u32 %r1, %r0, -1;", |_| 496),
        ("sub.s32 %r5, 0, %r0; redux.sync.add.s32 %r1, %r5, -1;", |_| M1 - 495),
        ("redux.sync.min.u32 %r1, %r0, -1;", |_| 0),
        ("sub.s32 %r5, 0, %r0; redux.sync.min.s32 %r1, %r5, -1;", |_| M1 - 30),
        ("redux.sync.max.u32 %r1, %r0, -1;", |_| 31),
        ("sub.s32 %r5, 0, %r0; redux.sync.max.s32 %r1, %r5, -1;", |_| 0),
        ("or.b32 %r5, %r0, 0x60; redux.sync.and.b32 %r1, %r5, -1;", |_| 0x60),
        ("redux.sync.or.b32 %r1, %r0, -1;", |_| 31),
        ("shl.b32 %r5, 1, %r0; redux.sync.xor.b32 %r1, %r5, -1;", |_| M1),
        ("and.b32 %r5, %r0, 3; match.any.sync.b32 %r6, %r5, -1; redux.sync.max.u32 %r1, %r0, %r6;", |i| 28 + (i & 3)),
    ])
}

/// Barriers of one warp and of two. None of them waits forever.
pub fn barriers() -> Vec<Form> {
    let mut forms = lanes(&[
        (
            "bar.sync 0; bar.sync 0, 32; mov.u32 %r5, 3; bar.sync %r5; bar.cta.sync 1;\n\
             bar.warp.sync -1; mov.u32 %r1, 1;",
            |_| 1,
        ),
        ("barrier.sync 0; barrier.sync.aligned 0, 32; barrier.cta.sync 2; mov.u32 %r1, 1;", |_| 1),
        ("setp.gt.u32 %p1, %r0, 99; bar.red.popc.u32 %r1, 0, %p1;", |_| 0),
        ("setp.lt.u32 %p1, %r0, 5; bar.red.popc.u32 %r1, 0, %p1;", |_| 5),
        ("setp.lt.u32 %p1, %r0, 5; bar.red.popc.u32 %r1, 0, 32, !%p1;", |_| 27),
        ("setp.lt.u32 %p1, %r0, 5; bar.red.or.pred %p2, 0, %p1; selp.u32 %r1, 1, 0, %p2;", |_| 1),
        ("setp.lt.u32 %p1, %r0, 5; bar.red.and.pred %p2, 0, %p1; selp.u32 %r1, 1, 0, %p2;", |_| 0),
        ("setp.lt.u32 %p1, %r0, 5; barrier.red.aligned.popc.u32 %r1, 0, %p1;", |_| 5),
        ("setp.lt.u32 %p1, %r0, 5; barrier.cta.red.or.pred %p2, 0, !%p1; selp.u32 %r1, 1, 0, %p2;", |_| 1),
    ]);
    // The first warp writes and arrives, the second waits and reads.
    let produced = |arrive: &str, sync: &str| {
        format!(
            "setp.lt.u32 %p1, %r0, 32; mov.u32 %r8, tile; and.b32 %r9, %r0, 31; shl.b32 %r9, %r9, 2;\n\
             add.s32 %r8, %r8, %r9; mov.u32 %r1, 7;\n\
             @%p1 st.shared.u32 [%r8], %r0;\n@%p1 {arrive} 1, 64;\n@!%p1 {sync} 1, 64;\n\
             @!%p1 ld.shared.u32 %r1, [%r8];"
        )
    };
    for (arrive, sync) in [("bar.arrive", "bar.sync"), ("barrier.cta.arrive.aligned", "barrier.cta.sync.aligned")] {
        let wanted = Wanted::ByLane(Box::new(|i| if i < 32 { 7 } else { i - 32 }));
        forms.push(Form { threads: 64, ..form(produced(arrive, sync), R32, [0; 3], wanted) });
    }
    forms
}

/// The name of an element type, its bits, and the number of elements in a register.
type Element = (&'static str, fn(f32) -> u32, usize);

const ELEMENTS: [Element; 3] = [
    ("f16", |value| half::f16::from_f32(value).to_bits().into(), 2),
    ("bf16", |value| half::bf16::from_f32(value).to_bits().into(), 2),
    ("tf32", f32::to_bits, 1),
];

/// `ldmatrix`, and `mma` on integers so small that every order of summation is exact.
pub fn matrix_products() -> Vec<Form> {
    // Four 8x8 matrices of 16-bit elements. Each element is its index; lane i supplies the address of row i.
    let stored = "mov.u32 %r8, tile; shl.b32 %r9, %r0, 4; add.s32 %r8, %r8, %r9;\n\
                  mad.lo.u32 %r10, %r0, 0x80008, 0x10000; add.u32 %r11, %r10, 0x20002;\n\
                  add.u32 %r12, %r11, 0x20002; add.u32 %r13, %r12, 0x20002;\n\
                  st.shared.v4.b32 [%r8], {%r10, %r11, %r12, %r13}; bar.warp.sync -1;\n";
    let mut forms = Vec::new();
    for (load, matrix, transposed) in [
        ("x1.shared.b16 {%r1}", 0, false),
        ("x2.shared.b16 {%r5, %r1}", 1, false),
        ("x4.shared::cta.b16 {%r5, %r6, %r7, %r1}", 3, false),
        ("x1.trans.shared.b16 {%r1}", 0, true),
        ("x2.trans.shared.b16 {%r5, %r1}", 1, true),
        ("x4.trans.shared.b16 {%r5, %r6, %r1, %r7}", 2, true),
    ] {
        let body = format!("{stored}ldmatrix.sync.aligned.m8n8.{load}, [%r8];");
        let wanted = move |lane: u64| {
            let (row, column) = (lane / 4, lane % 4 * 2);
            let at = |column| 64 * matrix + if transposed { 8 * column + row } else { 8 * row + column };
            at(column) | at(column + 1) << 16
        };
        forms.push(form(body, R32, [0; 3], Wanted::ByLane(Box::new(wanted))));
    }
    let [half, brain, tf32] = ELEMENTS;
    for (k, element, half_sums) in [
        (16, half, false),
        (16, brain, false),
        (8, half, false),
        (8, brain, false),
        (8, tf32, false),
        (4, tf32, false),
        (16, half, true),
        (8, half, true),
    ] {
        forms.extend(product(k, element, half_sums));
    }
    forms
}

fn a(row: usize, k: usize) -> f32 {
    ((3 * row + 5 * k) % 7) as f32 - 3.0
}

fn b(k: usize, column: usize) -> f32 {
    ((2 * k + 3 * column) % 5) as f32 - 2.0
}

fn c(row: usize, column: usize) -> f32 {
    row as f32 - column as f32
}

/// A lane's words of A, B, C and D, by the figures of the manual's chapter on `mma`.
fn words(lane: usize, k: usize, (_, bits, each): Element, half_sums: bool) -> [[u32; 4]; 4] {
    let (group, thread) = (lane / 4, lane % 4);
    // Successive registers of A and B are 4 or 8 columns (of B: rows) apart.
    let pack = |at: &dyn Fn(usize) -> f32| (0..each).map(|part| bits(at(part)) << (16 * part)).sum::<u32>();
    let along = |register: usize, part: usize| each * thread + part + 4 * each * register;
    let registers = k / (4 * each);
    let (mut of_a, mut of_b) = ([0; 4], [0; 4]);
    for i in 0..registers {
        of_b[i] = pack(&|part| b(along(i, part), group));
        for low in 0..2 {
            of_a[2 * i + low] = pack(&|part| a(group + 8 * low, along(i, part)));
        }
    }
    let d = |row: usize, column: usize| (0..k).map(|k| a(row, k) * b(k, column)).sum::<f32>() + c(row, column);
    let sums = |of: &dyn Fn(usize, usize) -> f32| {
        let at = |i: usize| of(group + i / 2 * 8, 2 * thread + i % 2);
        if half_sums {
            let pair = |i| bits(at(i)) | bits(at(i + 1)) << 16;
            [pair(0), pair(2), 0, 0]
        } else {
            std::array::from_fn(|i| at(i).to_bits())
        }
    };
    [of_a, of_b, sums(&c), sums(&d)]
}

fn product(k: usize, element: Element, half_sums: bool) -> Vec<Form> {
    let (name, _, each) = element;
    let registers = k / (4 * each);
    let list = |reg: &str, first: usize, count: usize| {
        let names: Vec<String> = (first..first + count).map(|n| format!("{reg}{n}")).collect();
        format!("{{{}}}", names.join(", "))
    };
    let (sum, d, c) = if half_sums {
        ("f16", list("%r", 20, 2), list("%r", 16, 2))
    } else {
        ("f32", list("%f", 5, 4), list("%f", 10, 4))
    };
    let (a, b) = (list("%r", 10, 2 * registers), list("%r", 14, registers));
    let text = format!(
        "mul.wide.u32 %rd5, %r0, 48; add.s64 %rd5, %rd5, %rd9;\n\
         ld.global.v4.u32 {{%r10, %r11, %r12, %r13}}, [%rd5+32]; ld.global.v2.u32 {{%r14, %r15}}, [%rd5+48];\n\
         ld.global.v4.f32 {{%f10, %f11, %f12, %f13}}, [%rd5+64]; ld.global.v2.u32 {{%r16, %r17}}, [%rd5+64];\n\
         mma.sync.aligned.m16n8k{k}.row.col.{sum}.{name}.{name}.{sum} {d}, {a}, {b}, {c};"
    );
    let mut inputs = vec![0; 4];
    for lane in 0..32 {
        let [a, b, c, _] = words(lane, k, element, half_sums);
        inputs.extend(
            [a, b, c]
                .iter()
                .flatten()
                .collect::<Vec<_>>()
                .chunks(2)
                .map(|pair| u64::from(*pair[0]) | u64::from(*pair[1]) << 32),
        );
    }
    let parts: &[(&str, usize)] = if half_sums {
        &[("mov.b64 %rd1, {%r20, %r21};", 0)]
    } else {
        &[("mov.b64 %rd1, {%f5, %f6};", 0), ("mov.b64 %rd1, {%f7, %f8};", 2)]
    };
    let made = |(result, first): &(&str, usize)| {
        let first = *first;
        let wanted = move |lane: u64| {
            let d = words(lane as usize, k, element, half_sums)[3];
            u64::from(d[first]) | u64::from(d[first + 1]) << 32
        };
        Form { inputs: inputs.clone(), ..form(&text, result, [0; 3], Wanted::ByLane(Box::new(wanted))) }
    };
    parts.iter().map(made).collect()
}

pub fn control_flow() -> Vec<Form> {
    lanes(&[
        // Collatz sequences: lanes leave the loop at different times and reconverge.
        (
            "add.u32 %r5, %r0, 1;\nmov.u32 %r1, 0;\nLOOP:\nsetp.eq.u32 %p1, %r5, 1;\n@%p1 bra DONE;\n\
             and.b32 %r6, %r5, 1;\nsetp.eq.u32 %p2, %r6, 0;\n@%p2 bra EVEN;\nmad.lo.u32 %r5, %r5, 3, 1;\nbra NEXT;\n\
             EVEN:\nshr.u32 %r5, %r5, 1;\nNEXT:\nadd.u32 %r1, %r1, 1;\nbra LOOP;\n\
             DONE:\nvote.sync.ballot.b32 %r7, %p1, -1;",
            |i| {
                let (mut n, mut steps) = (i + 1, 0);
                while n != 1 {
                    n = if n % 2 == 0 { n / 2 } else { 3 * n + 1 };
                    steps += 1;
                }
                steps
            },
        ),
        // Lanes that return inside a branch are not waited for at its reconvergence point.
        (
            "setp.lt.u32 %p1, %r0, 16;\n@%p1 bra LOW;\nsetp.lt.u32 %p2, %r0, 24;\n@%p2 ret;\nLOW:\n\
             setp.lt.u32 %p1, %r0, 32;\nvote.sync.ballot.b32 %r1, %p1, 0xff00ffff;",
            |i| if (16..24).contains(&i) { 0 } else { 0xff00_ffff },
        ),
        ("mov.u32 %r1, 5; bra.uni OVER; mov.u32 %r1, 6; OVER:", |_| 5),
        ("setp.gt.u32 %p1, %r0, 3; @%p1 exit; mov.u32 %r1, 5;", |i| if i > 3 { 0 } else { 5 }),
        (
            "{ .param .b32 value; .param .b32 result; st.param.b32 [value], %r0; call.uni (result), twice, (value);\n\
             ld.param.b32 %r1, [result]; }",
            |i| 2 * i,
        ),
    ])
}
