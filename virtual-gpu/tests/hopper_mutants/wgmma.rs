//! Products with bad descriptors, registers touched in flight, and missing warps.

use super::*;

/// Ones in the tile's first 8192 bytes; `%rd5` describes them as 64 rows of 128 bytes with a swizzle of 128 bytes.
const FILL: &str = "shl.b32 %r3, %r0, 6;\nadd.u32 %r3, %r3, %r2;\nmov.b32 %r4, 0x3f803f80;\n\
    st.shared.v4.u32 [%r3], {%r4, %r4, %r4, %r4};\nst.shared.v4.u32 [%r3+16], {%r4, %r4, %r4, %r4};\n\
    st.shared.v4.u32 [%r3+32], {%r4, %r4, %r4, %r4};\nst.shared.v4.u32 [%r3+48], {%r4, %r4, %r4, %r4};\n";
const PUBLISH: &str = "fence.proxy.async;\nbar.sync 0;\n";
const DESCRIBE: &str = "shr.u32 %r5, %r2, 4;\ncvt.u64.u32 %rd5, %r5;\nmov.b64 %rd6, 0x4000004000010000;\n\
    or.b64 %rd5, %rd5, %rd6;\nmov.b32 %r10, %r4; mov.b32 %r11, %r4; mov.b32 %r12, %r4; mov.b32 %r13, %r4;\n\
    mov.f32 %f0, 0f00000000; mov.f32 %f1, %f0; mov.f32 %f2, %f0; mov.f32 %f3, %f0;\n";
const FENCE: &str = "wgmma.fence.sync.aligned;\n";
const MULTIPLY: &str =
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3}, %rd5, %rd5, 1, 1, 1, 0, 0;\n";
const FROM_REGISTERS: &str = "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3}, \
    {%r10, %r11, %r12, %r13}, %rd5, 1, 1, 1, 0;\n";
const COMMIT: &str = "wgmma.commit_group.sync.aligned;\n";
const AWAIT: &str = "wgmma.wait_group.sync.aligned 0;\n";
const USE: &str = "add.f32 %f4, %f0, %f1;\n";

/// All the parts, `change` between the product and its wait.
fn with(product: &str, change: &str) -> String {
    format!("{FILL}{PUBLISH}{DESCRIBE}{FENCE}{product}{COMMIT}{change}{AWAIT}{USE}")
}

#[test]
fn registers_touched_in_flight_are_caught() {
    use TrapKind::*;
    fine("a product", &with(MULTIPLY, ""), 128);
    fine("a product from registers", &with(FROM_REGISTERS, ""), 128);
    bug("sum read before the wait", &with(MULTIPLY, USE), 128, Wgmma, "add.f32");
    bug("sum written before the wait", &with(MULTIPLY, "mov.f32 %f2, %f4;\n"), 128, Wgmma, "mov.f32 %f2, %f4");
    let guarded = "setp.gt.u32 %p2, %r0, 1000;\n@%p2 mov.f32 %f2, %f4;\n";
    fine("a write that no lane executes", &with(MULTIPLY, guarded), 128);
    fine("other registers before the wait", &with(MULTIPLY, "add.f32 %f4, %f5, %f6; mov.b32 %r10, 0;\n"), 128);
    let change = "mov.b32 %r12, 0;\n";
    bug("operand's register written before the wait", &with(FROM_REGISTERS, change), 128, Wgmma, "mov.b32 %r12, 0");
    fine("the operand in shared memory, its registers free", &with(MULTIPLY, change), 128);
    let after = with(MULTIPLY, "").replace(AWAIT, "") + AWAIT;
    bug("sum read, then waited for", &after, 128, Wgmma, "add.f32");
    bug("end with a product in flight", &with(MULTIPLY, "").replace(AWAIT, "").replace(USE, ""), 128, Wgmma, "");
    let partly = with(MULTIPLY, "").replace("wait_group.sync.aligned 0", "wait_group.sync.aligned 1");
    bug("one group too few waited for", &partly, 128, Wgmma, "add.f32");
    let uncommitted = with(MULTIPLY, "").replace(COMMIT, "");
    bug("wait for a group that was not committed", &uncommitted, 128, Wgmma, "add.f32");
    // Two groups on different sums: the first is complete.
    let second = MULTIPLY.replace("{%f0, %f1, %f2, %f3}", "{%f10, %f11, %f12, %f13}");
    let two = format!(
        "{FILL}{PUBLISH}{DESCRIBE}{FENCE}{MULTIPLY}{COMMIT}{second}{COMMIT}wgmma.wait_group.sync.aligned 1;\n{USE}"
    );
    fine("the first of two groups", &format!("{two}{AWAIT}"), 128);
    bug("the second of two groups", &format!("{two}add.f32 %f20, %f10, %f11;\n{AWAIT}"), 128, Wgmma, "add.f32 %f20");
}

#[test]
fn missing_fences_are_caught() {
    use TrapKind::*;
    let needle = "wgmma.mma_async";
    let whole = with(MULTIPLY, "");
    bug("sums set, no fence", &whole.replace(FENCE, ""), 128, Wgmma, needle);
    let early = whole.replace(FENCE, "").replace("mov.f32 %f0, 0f", &format!("{FENCE}mov.f32 %f0, 0f"));
    bug("sums set after the fence", &early, 128, Wgmma, needle);
    let registers = with(FROM_REGISTERS, "").replace(FENCE, &format!("{FENCE}mov.b32 %r11, %r4;\n"));
    bug("operand's register set after the fence", &registers, 128, Wgmma, needle);
    let again = format!("{whole}mov.f32 %f0, %f4;\n{MULTIPLY}{COMMIT}{AWAIT}");
    bug("sums changed between two products", &again, 128, Wgmma, needle);
    fine("with a fence", &again.replace("mov.f32 %f0, %f4;\n", &format!("mov.f32 %f0, %f4;\n{FENCE}")), 128);
    fine("two products of one shape on the same sums", &with(&format!("{MULTIPLY}{MULTIPLY}"), ""), 128);
    let wider = "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3, %f5, %f6, %f7, %f8}, %rd5, \
        %rd5, 1, 1, 1, 0, 0;\n";
    bug("another shape on sums in flight", &with(&format!("{MULTIPLY}{wider}"), ""), 128, Wgmma, "m64n16k16");
    let shifted = MULTIPLY.replace("{%f0, %f1, %f2, %f3}", "{%f1, %f2, %f3, %f0}");
    bug("sums in flight in another order", &with(&format!("{MULTIPLY}{shifted}"), ""), 128, Wgmma, "{%f1, ");
    fine("in another order after the wait", &with(&format!("{MULTIPLY}{COMMIT}{AWAIT}{shifted}"), ""), 128);
}

/// Registers that are the sums of one product and A of another.
#[test]
fn sums_in_flight_are_no_operands() {
    use TrapKind::*;
    let other = "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f10, %f11, %f12, %f13}, {%r10, %r11, %r12, %r13}, %rd5, \
        1, 1, 1, 0;\n";
    let sums = "wgmma.mma_async.sync.aligned.m64n8k16.f16.f16.f16 {%r10, %r11}, %rd5, %rd5, 1, 1, 1, 0, 0;\n";
    let waits = format!("{COMMIT}{AWAIT}");
    bug("sums in flight as A", &with(&format!("{sums}{other}"), ""), 128, Wgmma, "{%f10, ");
    fine("sums as A after the wait", &with(&format!("{sums}{waits}{other}"), ""), 128);
    bug("A in flight as sums", &with(&format!("{other}{sums}"), ""), 128, Wgmma, "{%r10, %r11}, %rd5");
    fine("A as sums after the wait", &with(&format!("{other}{waits}{sums}"), ""), 128);
    fine("A twice", &with(&format!("{other}{FROM_REGISTERS}"), ""), 128);
}

/// scale-d is one for the warpgroup.
#[test]
fn a_predicate_that_adds_for_some_threads_only_is_caught() {
    let adds = |set: &str| {
        with(&MULTIPLY.replace("%rd5, 1, 1, 1", "%rd5, %p4, 1, 1"), "").replace(FENCE, &format!("{set}\n{FENCE}"))
    };
    fine("in all threads", &adds("setp.lt.u32 %p4, %r0, 1000;"), 128);
    fine("in none", &adds("setp.gt.u32 %p4, %r0, 1000;"), 128);
    for (name, set) in [("in one lane", "setp.eq.u32 %p4, %r0, 5;"), ("in one warp", "setp.lt.u32 %p4, %r0, 32;")] {
        bug(name, &adds(set), 128, TrapKind::Wgmma, "wgmma.mma_async");
    }
}

/// A warp's 16 rows of A are read by this warp alone: what it wrote itself needs its own fence and no barrier of the warpgroup, as
/// in attention, where the probabilities go through shared memory.
#[test]
fn a_warp_may_write_its_own_rows_of_a() {
    use TrapKind::*;
    // A lies behind B: each thread writes half a row of its warp, with a pitch of 128 bytes.
    let body = |row: &str| {
        format!(
            "{FILL}{PUBLISH}{DESCRIBE}add.u64 %rd7, %rd5, 512;\nand.b32 %r20, %r0, 31;\nshr.u32 %r21, %r0, 5;\n{row}\
             shl.b32 %r21, %r21, 4;\nshr.u32 %r22, %r20, 1;\nadd.u32 %r21, %r21, %r22;\nshl.b32 %r21, %r21, 7;\n\
             and.b32 %r20, %r20, 1;\nshl.b32 %r20, %r20, 6;\nadd.u32 %r21, %r21, %r20;\nadd.u32 %r21, %r21, %r2;\n\
             st.shared.v4.u32 [%r21+8192], {{%r4, %r4, %r4, %r4}};\nst.shared.v4.u32 [%r21+8208], {{%r4, %r4, %r4, %r4}};\n\
             st.shared.v4.u32 [%r21+8224], {{%r4, %r4, %r4, %r4}};\nst.shared.v4.u32 [%r21+8240], {{%r4, %r4, %r4, %r4}};\n\
             fence.proxy.async;\nbar.warp.sync -1;\n{FENCE}{}{COMMIT}{AWAIT}{USE}",
            MULTIPLY.replace("%rd5, %rd5", "%rd7, %rd5")
        )
    };
    let own = body("");
    fine("own rows", &own, 128);
    let at = own.rfind("bar.warp.sync -1;\n").expect("it is there");
    let apart = format!("{}{}", &own[..at], &own[at + 18..]);
    bug("own rows, the warp's lanes not in step", &apart, 128, SharedRace, "wgmma.mma_async");
    let at = own.rfind("fence.proxy.async;\n").expect("it is there");
    let unfenced = format!("{}{}", &own[..at], &own[at + 19..]);
    bug("own rows, not fenced", &unfenced, 128, ProxyFence, "wgmma.mma_async");
    let others = body("xor.b32 %r21, %r21, 1;\n");
    bug("rows of the warp beside", &others, 128, SharedRace, "wgmma.mma_async");
    let barrier = others.replace("bar.warp.sync -1;", "bar.sync 1;");
    fine("rows of the warp beside, behind a barrier", &barrier, 128);
}

#[test]
fn operands_that_are_not_there_yet_or_change_are_caught() {
    use TrapKind::*;
    let needle = "wgmma.mma_async";
    let whole = with(MULTIPLY, "");
    bug("no proxy fence", &whole.replace("fence.proxy.async;\n", ""), 128, ProxyFence, needle);
    let one = whole.replace("fence.proxy.async;", "@%p9 fence.proxy.async;");
    bug("a proxy fence of one warp of four", &one, 128, ProxyFence, needle);
    let after = whole.replace(PUBLISH, "bar.sync 0;\nfence.proxy.async;\n");
    fine("a proxy fence behind the barrier, by those that multiply", &after, 128);
    // A product waits for the whole warpgroup, so that all have written; but nothing orders the writes.
    bug("no barrier", &whole.replace("bar.sync 0;\n", ""), 128, SharedRace, needle);
    bug(
        "half of the operand never written",
        &whole.replace("st.shared.v4.u32 [%r3+16]", "@%p9 st.shared.v4.u32 [%r3+16]"),
        128,
        Uninitialised,
        needle,
    );
    let written = with(MULTIPLY, "st.shared.u32 [%r3], %r0;\n");
    bug("operand overwritten while it is read", &written, 128, InFlight, "st.shared.u32");
    fine("elsewhere in the tile", &written.replace("st.shared.u32 [%r3]", "st.shared.u32 [%r3+8192]"), 128);
    let after = format!("{}bar.sync 0;\nst.shared.u32 [%r3], %r4;\n", with(MULTIPLY, ""));
    fine("operand overwritten after the wait", &after, 128);
    let loaded = with(MULTIPLY, &format!("{}{BOX}", expect(1024)));
    let loaded = loaded.replacen(FILL, &format!("{}{FILL}", init(1)), 1);
    bug("operand overwritten by a copy", &loaded, 128, InFlight, "cp.async.bulk.tensor");
}

/// Operands that a copy brought: every warp that multiplies has to know that they are there.
#[test]
fn copied_operands_that_a_warp_has_not_waited_for_are_caught() {
    let copy = format!("{}{}{BOX}", init(1), expect(1024));
    // The box has 8 rows: with a stride of 0 they are all of the 64.
    let describe = DESCRIBE.replace("0x4000004000010000", "0x4000000000010000");
    let rest = format!("mov.b32 %r4, 0;\n{describe}{FENCE}{MULTIPLY}{COMMIT}{AWAIT}{USE}");
    fine("all have waited", &format!("{copy}{WAIT}{rest}"), 128);
    bug("nobody has waited", &format!("{copy}{rest}{WAIT}"), 128, TrapKind::AsyncCopy, "wgmma.mma_async");
    let one = format!("@!%p9 bra OVER;\n{WAIT}OVER:\n");
    fine("one warp has waited, then a barrier", &format!("{copy}{one}bar.sync 0;\n{rest}"), 128);
    bug("one warp of four has waited", &format!("{copy}{one}{rest}"), 128, TrapKind::AsyncCopy, "wgmma.mma_async");
    // A value that a thread has changed since is its own: a fence is owed again.
    let changed = "@%p0 st.shared.u32 [%r2], 0;\n";
    let fenced = format!("{copy}{WAIT}bar.sync 0;\n{changed}fence.proxy.async;\nbar.sync 0;\n{rest}");
    fine("changed, then fenced", &fenced, 128);
    bug(
        "changed, not fenced",
        &fenced.replace("fence.proxy.async;\n", ""),
        128,
        TrapKind::ProxyFence,
        "wgmma.mma_async",
    );
}

#[test]
fn bad_descriptors_are_caught() {
    use TrapKind::*;
    let needle = "wgmma.mma_async";
    let with_bits = |bits: &str| with(MULTIPLY, "").replace("0x4000004000010000", bits);
    fine("32 bytes further: the next step of k", &with_bits("0x4000004000010002"), 128);
    bug("base offset", &with_bits("0x4002004000010000"), 128, Wgmma, needle);
    bug("a reserved bit", &with_bits("0x5000004000010000"), 128, Wgmma, needle);
    bug("pattern that starts within an atom", &with_bits("0x4000004000010008"), 128, Wgmma, needle);
    bug("start beyond shared memory", &with_bits("0x4000004000012000"), 128, Wgmma, needle);
    bug("stride beyond shared memory", &with_bits("0x4000100000010000"), 128, Wgmma, needle);
    let own =
        with(MULTIPLY, "").replace("or.b64 %rd5, %rd5, %rd6;", "or.b64 %rd5, %rd5, %rd6;\n@%p9 add.u64 %rd5, %rd5, 2;");
    bug("another descriptor in one warp", &own, 128, Wgmma, needle);
    let lane =
        with(MULTIPLY, "").replace("or.b64 %rd5, %rd5, %rd6;", "or.b64 %rd5, %rd5, %rd6;\n@%p0 add.u64 %rd5, %rd5, 2;");
    bug("another descriptor in one lane", &lane, 128, Wgmma, needle);
}

#[test]
fn products_of_a_part_of_a_warpgroup_are_caught() {
    use TrapKind::*;
    let branch = |skip: &str, product: &str| {
        format!(
            "{FILL}{PUBLISH}{DESCRIBE}setp.lt.u32 %p3, %r0, 96;\n{skip} bra OUT;\n{FENCE}{product}{COMMIT}{AWAIT}OUT:\n"
        )
    };
    bug("three warps of four", &branch("@!%p3", MULTIPLY), 128, Wgmma, "wgmma");
    bug("one lane missing", &branch("@%p0", MULTIPLY), 128, MissingLanes, "wgmma");
    let ptx = module("", &with(MULTIPLY, ""));
    trapped("a block of three warps", &ptx, hand(&ptx, 1, 96), Wgmma, "wgmma");
    // The fourth warp is at a product of its own.
    let apart = format!(
        "{FILL}{PUBLISH}{DESCRIBE}setp.lt.u32 %p3, %r0, 96;\n{FENCE}@!%p3 bra LAST;\n{MULTIPLY}bra OUT;\nLAST:\n{MULTIPLY}OUT:\n{COMMIT}{AWAIT}"
    );
    bug("warps at two products", &apart, 128, Wgmma, "wgmma.mma_async");
    let predicated = with(&format!("@%p9 {MULTIPLY}"), "");
    bug("a predicate that one warp has", &predicated, 128, Wgmma, "wgmma");
    fine("a predicate that all have", &with(&format!("setp.lt.u32 %p4, %r0, 1000;\n@%p4 {MULTIPLY}"), ""), 128);
}
