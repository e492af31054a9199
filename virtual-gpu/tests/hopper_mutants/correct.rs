//! Correct kernels that a check which is too strict would take for wrong ones, each with a twin that lacks one thing.

use super::*;

const OWN: &str = "shl.b32 %r3, %r0, 4;\nadd.u32 %r4, %r2, %r3;\ncvt.u64.u32 %rd4, %r3;\nadd.u64 %rd5, %rd0, %rd4;\n";
const WRITE: &str = "st.shared.v4.u32 [%r4], {%r0, %r0, %r0, %r0};\n";
const FENCE: &str = "fence.proxy.async;\n";

/// `body` passes; without `part` it traps.
#[track_caller]
fn needs(name: &str, body: &str, part: &str, threads: u32, kind: TrapKind, needle: &str) {
    assert!(body.contains(part), "{part}");
    fine(name, body, threads);
    bug(&format!("{name}, without {}", part.trim()), &body.replacen(part, "", 1), threads, kind, needle);
}

#[test]
fn each_lane_may_copy_what_it_wrote_itself() {
    use TrapKind::*;
    let store = "cp.async.bulk.global.shared::cta.bulk_group [%rd5], [%r4], 16;\n";
    let wait = "cp.async.bulk.commit_group;\ncp.async.bulk.wait_group 0;\n";
    let body = format!("{OWN}{WRITE}{FENCE}{store}{wait}ld.global.u32 %r5, [%rd5];\n");
    needs("own store", &body, FENCE, 128, ProxyFence, "cp.async.bulk.global");
    needs("own store", &body, "cp.async.bulk.wait_group 0;\n", 128, InFlight, "");
    // 32 copies, one a lane, to one mbarrier.
    let load = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r4], [%rd5], 16, [%r1];\n";
    let read = "xor.b32 %r5, %r4, 16;\nld.shared.u32 %r6, [%r5];\n";
    let body = format!("{OWN}{}{}{load}{WAIT}{read}", init(1), expect(512));
    needs("a copy of each lane", &body, WAIT, 32, AsyncCopy, "ld.shared");
    // Two producers, each with bytes of its own.
    let two = format!(
        "{OWN}{}and.b32 %r7, %r0, 31;\nsetp.eq.u32 %p3, %r7, 0;\n\
         @%p3 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 512;\n{load}{WAIT}xor.b32 %r5, %r4, 512;\n\
         ld.shared.u32 %r6, [%r5];\n",
        init(2)
    );
    needs("two producers", &two, WAIT, 64, Uninitialised, "ld.shared");
}

/// The order of one thread's own instructions is enough, and that of arrivals at an mbarrier also for the threads of the warp
/// that waits.
#[test]
fn a_thread_needs_no_barrier_for_its_own_accesses() {
    use TrapKind::*;
    let store = "@%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd0], [%r2], 16;\n\
        @%p0 cp.async.bulk.commit_group;\n@%p0 cp.async.bulk.wait_group 0;\n";
    let one = "@%p0 st.shared.v4.u32 [%r2], {%r0, %r0, %r0, %r0};\n";
    needs("one lane's write", &format!("{one}{FENCE}{store}"), FENCE, 32, ProxyFence, "cp.async.bulk.global");
    let all = format!("{OWN}{WRITE}{FENCE}{store}");
    needs("one lane's write of many", &all, FENCE, 32, ProxyFence, "cp.async.bulk.global");
    bug(
        "another lane's write",
        &all.replace("cta.bulk_group [%rd0], [%r2]", "cta.bulk_group [%rd0], [%r2+16]"),
        32,
        SharedRace,
        "cp.async.bulk.global",
    );

    let again = WAIT.replace("WAIT", "AGAIN").replace(", 0;", ", 1;");
    let read = "@%p0 ld.shared.u32 %r5, [%r2];\n";
    let twice = format!("{}{}{COPY}{WAIT}{read}{}{COPY}{again}", init(1), expect(16), expect(16));
    fine("a copy over what the same thread has read", &twice, 32);
    let others = twice.replace("@%p0 ld.shared", "ld.shared");
    bug("a copy over what other lanes have read", &others, 32, SharedRace, "cp.async.bulk.shared");
    fine(
        "the same after a warp's barrier",
        &others.replace("[%r2];\n@%p0 mb", "[%r2];\nbar.warp.sync -1;\n@%p0 mb"),
        32,
    );
    // All arrive at a second mbarrier, and all wait for it.
    let told = |threads: u32| {
        let told = "[%r2];\nmbarrier.arrive.shared::cta.b64 _, [%r1+8];\nTOLD:\n\
            mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1+8], 0;\n@!%p1 bra TOLD;\n@%p0 mb";
        let second = format!("@%p0 mbarrier.init.shared::cta.b64 [%r1+8], {threads};\nbar.sync 0;");
        others.replace("[%r2];\n@%p0 mb", told).replacen("bar.sync 0;", &second, 1)
    };
    fine("the same after an mbarrier of one warp", &told(32), 32);
    fine("the same after an mbarrier of two warps", &told(64), 64);
}

#[test]
fn one_lane_may_wait_for_its_warp() {
    let waiter = "setp.ne.u32 %p4, %r0, 0;\n@%p4 bra JOIN;\n";
    let body =
        format!("{}{}{COPY}{waiter}{WAIT}JOIN:\nbar.warp.sync -1;\nld.shared.u32 %r5, [%r2];\n", init(1), expect(16));
    needs("one lane's wait", &body, "bar.warp.sync -1;\n", 32, TrapKind::AsyncCopy, "ld.shared");
    let block = body.replace("bar.warp.sync -1;", "bar.sync 0;");
    fine("one lane's wait for its block", &block, 64);
    bug(
        "one lane's wait, told to nobody",
        &block.replace("JOIN:\nbar.sync 0;", "JOIN:"),
        64,
        TrapKind::AsyncCopy,
        "ld.shared",
    );
}

/// The epilogue reuses the memory of a stage.
#[test]
fn copied_memory_may_be_reused() {
    use TrapKind::*;
    let again = "shl.b32 %r3, %r0, 3;\nadd.u32 %r4, %r2, %r3;\nld.shared.v2.u32 {%r5, %r6}, [%r4];\nbar.sync 0;\n\
        add.u32 %r5, %r5, %r0;\nst.shared.v2.u32 [%r4], {%r5, %r6};\n";
    let store = "@%p0 cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd20, {%r20, %r21}], [%r2];\n\
        @%p0 cp.async.bulk.commit_group;\n@%p0 cp.async.bulk.wait_group.read 0;\n";
    let body = format!("{}{}{BOX}{WAIT}{again}{FENCE}bar.sync 0;\n{store}", init(1), expect(1024));
    needs("a box changed and stored", &body, FENCE, 128, ProxyFence, "cp.async.bulk.tensor.2d.global");
    // The mbarrier's place becomes ordinary memory.
    let inval = "bar.sync 0;\n@%p0 mbarrier.inval.shared::cta.b64 [%r1];\n";
    let ordinary = format!(
        "{}{}{COPY}{WAIT}{inval}bar.sync 0;\n@%p0 st.shared.u64 [%r1], %rd0;\n@%p0 ld.shared.u64 %rd5, [%r1];\n",
        init(1),
        expect(16)
    );
    needs(
        "an mbarrier's place reused",
        &ordinary,
        "@%p0 mbarrier.inval.shared::cta.b64 [%r1];\n",
        64,
        Mbarrier,
        "st.shared",
    );
    // A stage filled a second time, after every thread has arrived at a second mbarrier.
    let round = |n: u32, parity: u32| {
        format!(
            "{}{COPY}LOOK{n}:\nmbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1], {parity};\n@!%p1 bra LOOK{n};\n\
             ld.shared.u32 %r5, [%r2];\nmbarrier.arrive.shared::cta.b64 _, [%r1+8];\nGO{n}:\n\
             mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1+8], {parity};\n@!%p1 bra GO{n};\n",
            expect(16)
        )
    };
    let second = "@%p0 mbarrier.init.shared::cta.b64 [%r1+8], 64;\n";
    fine(
        "a stage filled three times",
        &format!("{second}{}{}{}{}", init(1), round(0, 0), round(1, 1), round(2, 0)),
        64,
    );
}

/// Operands that cp.async brought are written by the generic proxy.
#[test]
fn operands_of_cp_async_need_a_proxy_fence() {
    use TrapKind::*;
    let fill = "shl.b32 %r3, %r0, 6;\nadd.u32 %r4, %r2, %r3;\nand.b32 %r5, %r3, 4095;\ncvt.u64.u32 %rd4, %r5;\n\
        add.u64 %rd4, %rd0, %rd4;\ncp.async.cg.shared.global [%r4], [%rd4], 16;\n\
        cp.async.cg.shared.global [%r4+16], [%rd4+16], 16;\ncp.async.cg.shared.global [%r4+32], [%rd4+32], 16;\n\
        cp.async.cg.shared.global [%r4+48], [%rd4+48], 16;\ncp.async.commit_group;\ncp.async.wait_group 0;\n";
    let multiply = "shr.u32 %r5, %r2, 4;\ncvt.u64.u32 %rd5, %r5;\nmov.b64 %rd6, 0x4000004000010000;\n\
        or.b64 %rd5, %rd5, %rd6;\nwgmma.fence.sync.aligned;\n\
        wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3}, %rd5, %rd5, 0, 1, 1, 0, 0;\n\
        wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n";
    let body = format!("{fill}{FENCE}bar.sync 0;\n{multiply}");
    needs("cp.async, then wgmma", &body, FENCE, 128, ProxyFence, "wgmma.mma_async");
    needs("cp.async, then wgmma", &body, "cp.async.wait_group 0;\n", 128, AsyncCopy, "wgmma.mma_async");
}

/// A thread's write, handed to the thread that copies it by an mbarrier.
#[test]
fn writes_may_be_handed_over_by_an_mbarrier() {
    use TrapKind::*;
    let write = format!("{OWN}{WRITE}");
    let arrive = "mbarrier.arrive.shared::cta.b64 _, [%r1];\n";
    let wait = "@!%p0 bra OUT;\n".to_owned() + WAIT;
    let store = "cp.async.bulk.global.shared::cta.bulk_group [%rd0], [%r2], 2048;\ncp.async.bulk.commit_group;\n\
        cp.async.bulk.wait_group.read 0;\nOUT:\n";
    let body = format!("{}{write}{FENCE}{arrive}{wait}{store}", init(128));
    needs("handed over by an mbarrier", &body, FENCE, 128, ProxyFence, "cp.async.bulk.global");
    // The fence behind the wait, in the thread that copies.
    let late = body.replace(FENCE, "").replace("cp.async.bulk.global", &format!("{FENCE}cp.async.bulk.global"));
    fine("fence behind the wait", &late, 128);
    bug(
        "arrival that releases nothing",
        &body.replace("mbarrier.arrive.shared", "mbarrier.arrive.relaxed.cta.shared"),
        128,
        SharedRace,
        "cp.async.bulk.global",
    );
}

#[test]
fn copies_need_no_fence_between_each_other() {
    let store = "@%p0 cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd20, {%r20, %r21}], [%r2];\n\
        @%p0 cp.async.bulk.commit_group;\n@%p0 cp.async.bulk.wait_group.read 0;\n";
    let body = format!("{}{}{BOX}{WAIT}mov.u32 %r21, 8;\n{store}", init(1), expect(1024));
    needs("a box copied through shared memory", &body, WAIT, 32, TrapKind::AsyncCopy, "cp.async.bulk.tensor.2d.global");
}

/// The third warp fills a stage again that two others have read, of each of which one lane says so.
#[test]
fn one_lane_may_release_a_stage_for_its_warp() {
    let body = format!(
        "@%p0 mbarrier.init.shared::cta.b64 [%r1+8], 2;\n{}\
         setp.eq.u32 %p5, %r0, 64;\nsetp.ge.u32 %p6, %r0, 64;\nand.b32 %r7, %r0, 31;\nsetp.eq.u32 %p7, %r7, 0;\n\
         @%p5 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 16;\n\
         @%p5 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd0], 16, [%r1];\n\
         @%p6 bra FILL;\n{WAIT}ld.shared.u32 %r5, [%r2];\nbar.warp.sync -1;\n\
         @%p7 mbarrier.arrive.shared::cta.b64 _, [%r1+8];\nbra LAST;\nFILL:\n\
         mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1+8], 0;\n@!%p1 bra FILL;\n\
         @%p5 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 16;\n\
         @%p5 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd0+16], 16, [%r1];\nLAST:\n\
         mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1], 1;\n@!%p1 bra LAST;\n",
        init(1)
    );
    needs("one lane's release", &body, "bar.warp.sync -1;\n", 96, TrapKind::SharedRace, "cp.async.bulk.shared");
    needs(
        "one lane's release",
        &body,
        "@%p7 mbarrier.arrive.shared::cta.b64 _, [%r1+8];\n",
        96,
        TrapKind::Deadlock,
        "try_wait",
    );
}

/// Lanes of one warp wait for each other: they take turns, as on every card since Volta.
#[test]
fn lanes_of_one_warp_may_wait_for_each_other() {
    let body = format!(
        "{}@%p0 bra WAIT;\nmbarrier.arrive.shared::cta.b64 _, [%r1];\nbra JOIN;\n{WAIT}JOIN:\nbar.warp.sync -1;\n",
        init(31)
    );
    fine("lane 0 waits for the others", &body, 32);
    let other = format!(
        "{}@!%p0 bra WAIT;\nmbarrier.arrive.shared::cta.b64 _, [%r1];\nbra JOIN;\n{WAIT}JOIN:\nbar.warp.sync -1;\n",
        init(1)
    );
    fine("the others wait for lane 0", &other, 32);
}

/// Two lanes wait for two mbarriers in loops of their own, whichever completes first.
#[test]
fn lanes_of_one_warp_may_wait_for_different_mbarriers() {
    let loop_of = |name: &str, at: u32| {
        format!("{name}:\nmbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1+{at}], 0;\n@!%p1 bra {name};\n")
    };
    for (first, second) in [(0, 8), (8, 0)] {
        let arrive = |at: u32| format!("@%p4 mbarrier.arrive.shared::cta.b64 _, [%r1+{at}];\n");
        // The second warp arrives at one, and at the other only when lane 0 or 1 of the first has seen that.
        let body = format!(
            "@%p0 mbarrier.init.shared::cta.b64 [%r1+8], 1;\n@%p0 mbarrier.init.shared::cta.b64 [%r1+16], 1;\n{}\
             setp.eq.u32 %p3, %r0, 1;\nsetp.eq.u32 %p4, %r0, 32;\n@!%p9 bra OTHER;\n@%p0 bra ZERO;\n@%p3 bra ONE;\nbra JOIN;\n\
             ZERO:\n{}@%p5 mbarrier.arrive.shared::cta.b64 _, [%r1+16];\nbra JOIN;\nONE:\n{}\
             @!%p5 mbarrier.arrive.shared::cta.b64 _, [%r1+16];\nJOIN:\nbar.warp.sync -1;\nret;\nOTHER:\n{}{}{}",
            init(1),
            loop_of("WAIT0", 0),
            loop_of("WAIT1", 8),
            arrive(first),
            loop_of("SEEN", 16),
            arrive(second),
        );
        let told = format!("setp.{}.u32 %p5, %r0, %r0;\n", if first == 0 { "eq" } else { "ne" });
        fine(&format!("{first} first"), &format!("{told}{body}"), 64);
        let never = body.replace(&arrive(second), "");
        bug("the second never arrives", &format!("{told}{never}"), 64, TrapKind::Deadlock, "try_wait");
    }
}

/// Who looks at a flag in global memory between two tries waits for another block, however often.
#[test]
fn a_wait_may_be_interrupted_by_looks_at_another_block() {
    let spin = "mov.u32 %r8, 0;\nSPIN:\nadd.u32 %r8, %r8, 1;\nsetp.lt.u32 %p10, %r8, 100000;\n@%p10 bra SPIN;\n";
    let body = format!(
        "mov.u32 %r9, %ctaid.x;\nsetp.eq.u32 %p5, %r9, 1;\n@%p5 bra LATE;\n{}LOOK:\n\
         mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1], 0;\n@%p1 bra OUT;\nld.acquire.gpu.global.u32 %r5, [%rd0];\n\
         setp.eq.u32 %p2, %r5, 7;\nand.pred %p2, %p2, %p0;\n@%p2 mbarrier.arrive.shared::cta.b64 _, [%r1];\nbra LOOK;\n\
         LATE:\n{spin}mov.u32 %r6, 7;\n@%p0 st.release.gpu.global.u32 [%rd0], %r6;\nOUT:\n",
        init(1)
    );
    passes("a flag of a later block", hand(&module("", &body), 2, 32));
    let config = Config { compute_capability: (9, 0), checks: false, ..Config::default() };
    passes("the same without checks", hand_with(&Machine::new(config), &module("", &body), &[0; 128], 2, 32));
    let alone = body.replace("ld.acquire.gpu.global.u32 %r5, [%rd0];", "mov.u32 %r5, 0;");
    bug("nobody arrives, and nothing is looked at", &alone, 32, TrapKind::Deadlock, "try_wait");
}

/// Threads that arrive one by one publish for themselves, and all of a warp for the warp: also what they have read.
#[test]
fn threads_may_release_what_they_have_read_one_by_one() {
    let one_by_one = "mov.u32 %r8, 0;\nNEXT:\nsetp.eq.u32 %p3, %r7, %r8;\n\
        @%p3 mbarrier.arrive.shared::cta.b64 _, [%r1];\nadd.u32 %r8, %r8, 1;\nsetp.lt.u32 %p4, %r8, 32;\n@%p4 bra NEXT;\n";
    let body = |one_by_one: &str, count: u32| {
        format!(
            "@%p0 st.shared.u32 [%r2], %r0;\n{}and.b32 %r7, %r0, 31;\n@!%p9 bra FILL;\nld.shared.u32 %r5, [%r2];\n{one_by_one}\
             bra OUT;\nFILL:\n{WAIT}mov.u32 %r6, 5;\nst.shared.u32 [%r2], %r6;\nOUT:\n",
            init(count)
        )
    };
    fine("each by itself", &body(one_by_one, 32), 64);
    let some = one_by_one.replace("%r8, 32;", "%r8, 31;");
    bug("all but one", &body(&some, 31), 64, TrapKind::SharedRace, "st.shared.u32 [%r2], %r6");
}

/// The threads that a block's last warp lacks have nothing to publish, nor have those that returned before they read.
#[test]
fn a_part_of_a_warp_may_release_what_it_has_read() {
    let fill = format!("{WAIT}mov.u32 %r6, 5;\nst.shared.u32 [%r2], %r6;\nOUT:\n");
    let begin = format!("@%p0 st.shared.u32 [%r2], %r0;\n{}and.b32 %r7, %r0, 31;\n", init(16));
    let one_by_one = "mov.u32 %r8, 0;\nNEXT:\nsetp.eq.u32 %p3, %r7, %r8;\n\
        @%p3 mbarrier.arrive.shared::cta.b64 _, [%r1];\nadd.u32 %r8, %r8, 1;\nsetp.lt.u32 %p4, %r8, 32;\n@%p4 bra NEXT;\n";
    let last = format!("{begin}@%p9 bra FILL;\nld.shared.u32 %r5, [%r2];\n{one_by_one}bra OUT;\nFILL:\n{fill}");
    fine("a warp of 16 threads", &last, 48);
    let arrive = "mbarrier.arrive.shared::cta.b64 _, [%r1];\nbra OUT;\nFILL:\n";
    let early = format!(
        "{begin}@!%p9 bra FILL;\nsetp.ge.u32 %p3, %r7, 16;\n@%p3 ret;\nld.shared.u32 %r5, [%r2];\n{arrive}{fill}"
    );
    fine("half of the warp has returned before", &early, 64);
    let late = format!(
        "{begin}@!%p9 bra FILL;\nsetp.ge.u32 %p3, %r7, 16;\nld.shared.u32 %r5, [%r2];\n@%p3 ret;\n{arrive}{fill}"
    );
    bug("half of the warp has returned since", &late, 64, TrapKind::SharedRace, "st.shared.u32 [%r2], %r6");
}

/// A lane's bulk store, and another warp's reads, order nothing between the lanes of a warp.
#[test]
fn what_is_known_of_one_lane_says_nothing_of_the_next() {
    use TrapKind::*;
    let store = "@%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd0], [%r2], 512;\n\
        @%p0 cp.async.bulk.commit_group;\n@%p0 cp.async.bulk.wait_group.read 0;\nmov.u32 %r6, 77;\n";
    let begin = format!("{OWN}{WRITE}{FENCE}bar.sync 0;\nld.shared.u32 %r5, [%r4];\n");
    let body = format!("{begin}bar.warp.sync -1;\n{store}@%p0 st.shared.u32 [%r2+16], %r6;\n");
    needs("lane 1's word, stored by lane 0", &body, "bar.warp.sync -1;\n", 32, SharedRace, "st.shared.u32 [%r2+16]");
    fine("lane 0's own word", &format!("{begin}{store}@%p0 st.shared.u32 [%r2], %r6;\n"), 32);
    // Lanes 0 and 1 have read each other's words.
    let crossed = format!("{OWN}{WRITE}{FENCE}bar.sync 0;\nxor.b32 %r8, %r4, 16;\nld.shared.u32 %r5, [%r8];\n{store}");
    fine("a word that lane 0 alone has read", &format!("{crossed}@%p0 st.shared.u32 [%r2+16], %r6;\n"), 32);
    bug(
        "lane 1 has read it",
        &format!("{crossed}@%p0 st.shared.u32 [%r2], %r6;\n"),
        32,
        SharedRace,
        "st.shared.u32 [%r2]",
    );
    // The second warp reads the first one's words, of which lane 0 has released its own, and overwrites them.
    let body = format!(
        "{OWN}{WRITE}{}@!%p9 bra SECOND;\nld.shared.u32 %r5, [%r4];\nbar.warp.sync -1;\n\
         @%p0 mbarrier.arrive.shared::cta.b64 _, [%r1];\nbra OUT;\nSECOND:\n{WAIT}sub.u32 %r8, %r4, 512;\n\
         ld.shared.u32 %r5, [%r8];\nmov.u32 %r6, 77;\nst.shared.u32 [%r8], %r6;\nOUT:\n",
        init(1)
    );
    needs("released by lane 0", &body, "bar.warp.sync -1;\n", 64, SharedRace, "st.shared.u32 [%r8]");
}

/// A barrier with a thread count counts whole warps, and votes by the threads that there are.
#[test]
fn all_threads_of_a_part_of_a_warp_can_vote() {
    let body = "setp.lt.u32 %p4, %r0, 1000;\nbar.red.and.pred %p3, 1, 64, %p4;\n@!%p3 trap;\n";
    fine("48 threads", body, 48);
    fine("64 threads", body, 64);
    bug("one votes against it", &body.replace("1000", "47"), 48, TrapKind::LaunchFailed, "trap");
}

/// What threads have read that returned, nobody has published.
#[test]
fn a_thread_publishes_nothing_for_others_that_have_returned() {
    let body = |leave: &str| {
        format!(
            "@%p0 st.shared.u32 [%r2], %r0;\n{}@!%p9 bra FILL;\nld.shared.u32 %r5, [%r2];\n{leave}\
             @%p0 mbarrier.arrive.shared::cta.b64 _, [%r1];\nbra OUT;\nFILL:\n{WAIT}mov.u32 %r6, 5;\n\
             st.shared.u32 [%r2], %r6;\nOUT:\n",
            init(1)
        )
    };
    fine("in step, then returned", &body("bar.warp.sync -1;\n@!%p0 ret;\n"), 64);
    bug("returned", &body("@!%p0 ret;\n"), 64, TrapKind::SharedRace, "st.shared.u32 [%r2], %r6");
}

/// `fence.mbarrier_init` publishes mbarriers through a cluster's barrier that publishes nothing else.
#[test]
fn initialisations_may_be_published_by_a_relaxed_arrival() {
    let body = format!(
        "@%p0 mbarrier.init.shared::cta.b64 [%r1], 64;\nfence.mbarrier_init.release.cluster;\n\
         barrier.cluster.arrive.relaxed;\nbarrier.cluster.wait;\nmbarrier.arrive.shared::cta.b64 _, [%r1];\n{WAIT}"
    );
    let fence = "fence.mbarrier_init.release.cluster;\n";
    needs("a fence of inits", &body, fence, 64, TrapKind::Mbarrier, "mbarrier.arrive");
    let early =
        body.replacen("barrier.cluster.wait;\n", "", 1).replace(WAIT, &format!("barrier.cluster.wait;\n{WAIT}"));
    bug("used before the wait", &early, 64, TrapKind::Mbarrier, "mbarrier.arrive");
}

/// Two warpgroups multiply by one stage, the second long after the first has released it; then it is filled again.
#[test]
fn warpgroups_may_release_a_stage_at_different_times() {
    let load = "@%p5 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 1024;\n\
        @%p5 cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd20, {%r20, %r21}], [%r1];\n";
    let multiply = "wgmma.fence.sync.aligned;\n\
        wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3}, %rd5, %rd5, 0, 1, 1, 0, 0;\n\
        wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n";
    let release = "@%p7 mbarrier.arrive.shared::cta.b64 _, [%r1+8];\n";
    // The first warpgroup tells the second that it is done by a named barrier.
    let body = format!(
        "@%p0 mbarrier.init.shared::cta.b64 [%r1+8], 2;\n{}shr.u32 %r5, %r2, 4;\ncvt.u64.u32 %rd5, %r5;\n\
         mov.b64 %rd6, 0x4000000000010000;\nor.b64 %rd5, %rd5, %rd6;\nmov.u32 %r20, 0;\nmov.u32 %r21, 0;\n\
         setp.eq.u32 %p5, %r0, 256;\nsetp.ge.u32 %p6, %r0, 256;\nsetp.ge.u32 %p8, %r0, 128;\nand.b32 %r7, %r0, 127;\n\
         setp.eq.u32 %p7, %r7, 0;\n{load}@%p6 bra FILL;\n{WAIT}@%p8 bra SECOND;\n{multiply}{release}bar.arrive 1, 256;\n\
         bra OUT;\nSECOND:\nbar.sync 1, 256;\n{multiply}{release}bra OUT;\nFILL:\n\
         mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1+8], 0;\n@!%p1 bra FILL;\n{load}LAST:\n\
         mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1], 1;\n@!%p1 bra LAST;\nOUT:\n",
        init(1)
    );
    fine("two releases", &body, 288);
    let early = body.replace("[%r1+8], 2;", "[%r1+8], 1;");
    bug("one release of two waited for", &early, 288, TrapKind::AsyncCopy, "wgmma.mma_async");
    // The second is late by itself: nothing tells it of the first.
    let spin = "mov.u32 %r8, 0;\nSPIN:\nadd.u32 %r8, %r8, 1;\nsetp.lt.u32 %p10, %r8, 30000;\n@%p10 bra SPIN;\n";
    let late = body.replace("bar.arrive 1, 256;\n", "").replace("bar.sync 1, 256;\n", spin);
    fine("two releases of warpgroups that know nothing of each other", &late, 288);
}

/// Bulk groups are a thread's own: its wait says nothing of another lane's.
#[test]
fn lanes_wait_for_their_own_stores_only() {
    let store = "cp.async.bulk.global.shared::cta.bulk_group [%rd5], [%r4], 16;\n";
    let body = format!(
        "{OWN}{WRITE}{FENCE}bar.sync 0;\nsetp.lt.u32 %p3, %r0, 2;\nsetp.eq.u32 %p5, %r0, 2;\n@%p3 {store}\
         @%p3 cp.async.bulk.commit_group;\n@%p3 cp.async.bulk.wait_group.read 0;\nbar.warp.sync -1;\n\
         @%p5 st.shared.u32 [%r2+16], 77;\n@%p3 cp.async.bulk.wait_group.read 0;\n"
    );
    fine("both lanes wait", &body, 32);
    let one = body.replacen("@%p3 cp.async.bulk.wait", "@%p0 cp.async.bulk.wait", 1);
    bug("one of two lanes waits", &one, 32, TrapKind::InFlight, "st.shared.u32");
}

#[test]
fn fences_are_of_one_space() {
    let body = format!(
        "{OWN}{WRITE}fence.proxy.async.shared::cta;\nbar.sync 0;\n\
         @%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd0], [%r2], 512;\n@%p0 cp.async.bulk.commit_group;\n\
         @%p0 cp.async.bulk.wait_group.read 0;\n"
    );
    fine("a fence of shared memory", &body, 32);
    let global = body.replace("async.shared::cta;", "async.global;");
    bug("a fence of global memory", &global, 32, TrapKind::ProxyFence, "cp.async.bulk.global");
}

#[test]
fn the_thread_that_copies_may_return_before_others_wait() {
    let body = format!("{}{}{COPY}@%p0 ret;\n{WAIT}ld.shared.u32 %r5, [%r2];\n", init(1), expect(16));
    fine("others wait", &body, 64);
    let relaxed = body.replace("wait.parity.shared", "wait.parity.relaxed.cta.shared");
    bug("a relaxed wait", &relaxed, 64, TrapKind::AsyncCopy, "ld.shared");
    let invalid = format!("{}{}{COPY}@%p0 mbarrier.inval.shared::cta.b64 [%r1];\n", init(1), expect(16));
    bug("an mbarrier invalidated before its copy is waited for", &invalid, 32, TrapKind::InFlight, "");
}
