//! Bulk copies and reductions without a tensor map, and stores that complete bytes of an mbarrier.

use super::*;

const INPUTS: [u64; 3] = [0x1111_2222_3333_4444, 0x5555_6666_7777_8888, 0x9999_aaaa_bbbb_cccc];

/// Lane 0 does `body`; then all lanes wait for the first phase of the mbarrier at the start of `tile` (`%r8`), which
/// expects one arrival.
fn waited(body: &str, read: &str) -> String {
    format!(
        "mov.u32 %r8, tile; mov.u32 %r12, 16; setp.eq.u32 %p0, %r0, 0;\n@!%p0 bra READY;\n\
         mbarrier.init.shared::cta.b64 [%r8], 1;\nREADY:\nbar.sync 0;\n@!%p0 bra WAIT;\n{body}\nWAIT:\n\
         mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r8], 0;\n@!%p1 bra WAIT;\n{read}"
    )
}

/// Reads word `lane % 2` of the 16 bytes at `tile + 64`.
const READ: &str = "and.b32 %r5, %r0, 1; shl.b32 %r5, %r5, 3; add.u32 %r5, %r5, %r8; ld.shared.u64 %rd1, [%r5+64];";

fn halves(lane: u64) -> u64 {
    INPUTS[lane as usize % 2]
}

fn read(body: &str, wanted: fn(u64) -> u64) -> Form {
    form(waited(body, READ), R64, INPUTS, Wanted::ByLane(Box::new(wanted)))
}

pub fn loads() -> Vec<Form> {
    let expect = "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r8], 16;\n";
    let policy = "createpolicy.fractional.L2::evict_first.b64 %rd7, 1.0;\n";
    let mut forms: Vec<Form> = [
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r8+64], [%rd9], 16, [%r8];",
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [tile+64], [%rd9+0], %r12, [tile];",
        "cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [%r8+64], [%rd9], %r12, [%r8];",
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%r8+64], [%rd9], 16, [%r8], %rd7;",
        "cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes.L2::cache_hint [%r8+64], [%rd9], 16, [%r8], %rd7;",
        // To the only block of the cluster.
        "mov.u16 %rs5, 1;\ncp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster \
         [%r8+64], [%rd9], 16, [%r8], %rs5;",
        "cp.async.bulk.prefetch.L2.global [%rd9], 16;\n\
         cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r8+64], [%rd9], 16, [%r8];",
        "cp.async.bulk.prefetch.L2.global.L2::cache_hint [%rd9], %r12, %rd7;\n\
         cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r8+64], [%rd9], 16, [%r8];",
    ]
    .iter()
    .map(|copy| read(&format!("{policy}{expect}{copy}"), halves))
    .collect();
    // The bytes come before they are expected; and in two parts.
    let copy = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes ";
    forms.push(read(&format!("{copy}[%r8+64], [%rd9], 16, [%r8];\n{expect}"), halves));
    forms.push(read(
        &format!(
            "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r8], 16;\n{copy}[%r8+64], [%rd9], 16, [%r8];\n\
             mbarrier.arrive.shared::cta.b64 _, [%r8];"
        ),
        halves,
    ));
    forms
}

/// Stores and copies to another block's shared memory that complete bytes of its mbarrier; here the cluster has one block.
pub fn stores_that_complete_bytes() -> Vec<Form> {
    type ByLane = fn(u64) -> u64;
    let table: [(&str, &str, u32, ByLane); 7] = [
        ("b64", "%rd2", 8, |_| INPUTS[0]),
        ("u64", "%rd3", 8, |_| INPUTS[1]),
        ("v2.b64", "{%rd2, %rd3}", 16, halves),
        ("v2.b32", "{%r2, %r3}", 8, |_| 0x7777_8888_3333_4444),
        ("v4.b32", "{%r2, %r3, %r3, %r4}", 16, |lane| {
            if lane % 2 == 0 { 0x7777_8888_3333_4444 } else { 0xbbbb_cccc_7777_8888 }
        }),
        ("v4.f32", "{%f2, %f2, %f2, %f2}", 16, |_| 0x3333_4444_3333_4444),
        ("s64", "%rd2", 8, |_| INPUTS[0]),
    ];
    let one = |(kind, value, bytes, wanted): &(&str, &str, u32, ByLane)| {
        let read = if *bytes == 16 { READ } else { "ld.shared.u64 %rd1, [%r8+64];" };
        let body = format!(
            "mapa.shared::cluster.u32 %r9, %r8, 0;\nmbarrier.arrive.expect_tx.shared::cta.b64 _, [%r8], {bytes};\n\
             st.async.shared::cluster.mbarrier::complete_tx::bytes.{kind} [%r9+64], {value}, [%r9];"
        );
        form(waited(&body, read), R64, INPUTS, Wanted::ByLane(Box::new(*wanted)))
    };
    let mut forms: Vec<Form> = table.iter().map(one).collect();
    // From shared memory to shared memory of a block of the cluster, here the only one.
    forms.push(read(
        "mov.u64 %rd5, 11; st.shared.v2.u64 [%r8+128], {%rd5, %rd5};\nfence.proxy.async.shared::cta;\n\
         mapa.shared::cluster.u32 %r9, %r8, 0;\n\
         mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r8], 16;\n\
         cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r9+64], [%r8+128], 16, [%r9];",
        |_| 11,
    ));
    forms
}

/// Lane 0 does `body` between shared memory at `tile` (`%r8`) that holds the first two inputs, and global memory at
/// `%rd7`, which holds the second and the third. All lanes read 16 bytes of that afterwards.
fn stored(body: &str, wanted: [u64; 2]) -> Form {
    let body = format!(
        "mov.u32 %r8, tile; mov.u32 %r12, 16; add.u64 %rd7, %rd0, 512; setp.ne.u32 %p0, %r0, 0;\n@%p0 bra OVER;\n\
         st.shared.v2.u64 [%r8], {{%rd2, %rd3}};\nst.global.v2.u64 [%rd7], {{%rd3, %rd4}};\nfence.proxy.async;\n\
         {body}\nOVER:\nbar.sync 0;\nand.b32 %r5, %r0, 1; mad.wide.u32 %rd5, %r5, 8, %rd7; ld.global.u64 %rd1, [%rd5];"
    );
    form(body, R64, INPUTS, Wanted::ByLane(Box::new(move |lane| wanted[lane as usize % 2])))
}

pub fn stores() -> Vec<Form> {
    let done = "\ncp.async.bulk.commit_group;\ncp.async.bulk.wait_group 0;";
    let policy = "createpolicy.fractional.L2::evict_last.b64 %rd6;\n";
    let copied = [INPUTS[0], INPUTS[1]];
    vec![
        stored(&format!("cp.async.bulk.global.shared::cta.bulk_group [%rd7], [%r8], 16;{done}"), copied),
        stored(&format!("cp.async.bulk.global.shared::cta.bulk_group [%rd7+0], [tile], %r12;{done}"), copied),
        stored(
            &format!(
                "{policy}cp.async.bulk.global.shared::cta.bulk_group.L2::cache_hint [%rd7], [%r8], 16, %rd6;{done}"
            ),
            copied,
        ),
        // Groups complete in order; an empty one is complete.
        stored(
            "cp.async.bulk.global.shared::cta.bulk_group [%rd7], [%r8], 16;\ncp.async.bulk.commit_group;\n\
             cp.async.bulk.commit_group;\ncp.async.bulk.wait_group.read 1;\ncp.async.bulk.wait_group 1;",
            copied,
        ),
        // The source may be overwritten once it has been read.
        stored(
            &format!(
                "cp.async.bulk.global.shared::cta.bulk_group [%rd7], [%r8], 16;\ncp.async.bulk.commit_group;\n\
                 cp.async.bulk.wait_group.read 0;\nst.shared.v2.u64 [%r8], {{%rd4, %rd4}};{done}"
            ),
            copied,
        ),
    ]
}

/// Reductions of the first two inputs (in shared memory) into the second and the third (in global memory).
pub fn reductions() -> Vec<Form> {
    fn words(a: [u64; 2], b: [u64; 2], combine: impl Fn(u32, u32) -> u32) -> [u64; 2] {
        let half = |a: u64, b: u64, shift: u32| u64::from(combine((a >> shift) as u32, (b >> shift) as u32)) << shift;
        [0, 1].map(|i| half(a[i], b[i], 0) | half(a[i], b[i], 32))
    }
    let (old, new) = ([INPUTS[1], INPUTS[2]], [INPUTS[0], INPUTS[1]]);
    let doubles = |combine: fn(u64, u64) -> u64| [0, 1].map(|i| combine(old[i], new[i]));
    let signed = |combine: fn(i32, i32) -> i32| words(old, new, |a, b| combine(a as i32, b as i32) as u32);
    let table = [
        ("add.u32", words(old, new, u32::wrapping_add)),
        ("add.s32", words(old, new, u32::wrapping_add)),
        ("add.u64", doubles(u64::wrapping_add)),
        ("min.u32", words(old, new, u32::min)),
        ("max.u32", words(old, new, u32::max)),
        ("min.s32", signed(i32::min)),
        ("max.s32", signed(i32::max)),
        ("min.u64", doubles(u64::min)),
        ("max.u64", doubles(u64::max)),
        ("min.s64", doubles(|a, b| (a as i64).min(b as i64) as u64)),
        ("max.s64", doubles(|a, b| (a as i64).max(b as i64) as u64)),
        ("inc.u32", words(old, new, |a, b| if a >= b { 0 } else { a + 1 })),
        ("dec.u32", words(old, new, |a, b| if a == 0 || a > b { b } else { a - 1 })),
        ("and.b32", words(old, new, |a, b| a & b)),
        ("or.b32", words(old, new, |a, b| a | b)),
        ("xor.b32", words(old, new, |a, b| a ^ b)),
        ("and.b64", doubles(|a, b| a & b)),
        ("or.b64", doubles(|a, b| a | b)),
        ("xor.b64", doubles(|a, b| a ^ b)),
    ];
    let mut forms: Vec<Form> = table.iter().map(|(name, wanted)| stored(&reduction(name), *wanted)).collect();
    forms.extend(of_floats(&[
        ("add.f32", f(1.5) * 0x1_0000_0001, f(2.25) * 0x1_0000_0001, f(3.75) * 0x1_0000_0001),
        ("add.f64", d(1.5), d(2.25), d(3.75)),
        ("add.noftz.f16", 0x3e00_3e00_3e00_3e00, 0x4080_4080_4080_4080, 0x4380_4380_4380_4380),
        ("add.noftz.bf16", 0x3fc0_3fc0_3fc0_3fc0, 0x4010_4010_4010_4010, 0x4070_4070_4070_4070),
    ]));
    forms
}

pub fn minima_of_halves() -> Vec<Form> {
    of_floats(&[
        ("min.f16", 0x3e00_3e00_3e00_3e00, 0x4080_4080_4080_4080, 0x3e00_3e00_3e00_3e00),
        ("max.f16", 0x3e00_3e00_3e00_3e00, 0x4080_4080_4080_4080, 0x4080_4080_4080_4080),
        ("min.bf16", 0x3fc0_3fc0_3fc0_3fc0, 0x4010_4010_4010_4010, 0x3fc0_3fc0_3fc0_3fc0),
        ("max.bf16", 0x3fc0_3fc0_3fc0_3fc0, 0x4010_4010_4010_4010, 0x4010_4010_4010_4010),
    ])
}

fn reduction(name: &str) -> String {
    format!(
        "cp.reduce.async.bulk.global.shared::cta.bulk_group.{name} [%rd7], [%r8], 16;\n\
         cp.async.bulk.commit_group;\ncp.async.bulk.wait_group 0;"
    )
}

/// An operation, the values in shared memory (1.5 in every place) and in global memory (2.25), and the result.
fn of_floats(table: &[(&str, u64, u64, u64)]) -> Vec<Form> {
    let one = |(name, new, old, result): &(&str, u64, u64, u64)| {
        let form = stored(&reduction(name), [*result, *result]);
        // The first input goes to both places of shared memory, the third to both of global memory.
        let body = form.body.replace("{%rd3, %rd4}", "{%rd4, %rd4}").replace("{%rd2, %rd3}", "{%rd2, %rd2}");
        Form { body, inputs: vec![*new, 0, *old], ..form }
    };
    table.iter().map(one).collect()
}
