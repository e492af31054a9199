//! Kernels with one planted bug each. Every bug must be caught by its own check at its own instruction. The same
//! kernels without bugs run in `kernels.rs`, or here beside them.

mod common;

use common::machine::*;
use common::*;
use virtual_gpu::machine::{Counts, Machine, Trap, TrapKind};

type Outcome = Result<Counts, Trap>;

/// `ptx` without the `n`th line (from 0) that contains `needle`.
fn without(ptx: &str, needle: &str, n: usize) -> String {
    let at = ptx.lines().enumerate().filter(|(_, line)| line.contains(needle)).nth(n).expect("the line").0;
    let lines: Vec<&str> = ptx.lines().enumerate().map(|(i, line)| if i == at { "" } else { line }).collect();
    lines.join("\n")
}

fn trapped(name: &str, ptx: &str, outcome: Outcome, kind: TrapKind, needle: &str) {
    let Err(trap) = outcome else { panic!("{name}: nothing was found") };
    let line = ptx.lines().nth(trap.ptx_line.wrapping_sub(1)).unwrap_or_default();
    assert!(trap.kind == kind && line.contains(needle), "{name}: {trap}\nat: {line}");
    let text = trap.to_string();
    assert!(text.contains(&trap.kernel) && text.contains(kind.name()), "{text}");
}

/// Runs a hand-written body with `blocks` blocks of `threads`, on a buffer of 1024 bytes that holds ones.
fn hand(body: &str, blocks: u32, threads: u32) -> (String, Outcome) {
    let ptx = kernel(body);
    let machine = machine().instruction_limit(100_000);
    let module = machine.load(&ptx).unwrap_or_else(|error| panic!("{error}\n{ptx}"));
    let out = upload(&machine, &[1u32; 256]);
    let outcome = run(&machine, &module, "k", [blocks, 1, 1], [threads, 1, 1], 0, Args::default().ptr(out));
    (ptx, outcome)
}

fn bug(name: &str, body: &str, blocks: u32, threads: u32, kind: TrapKind, needle: &str) {
    let (ptx, outcome) = hand(body, blocks, threads);
    trapped(name, &ptx, outcome, kind, needle);
}

fn fine(name: &str, body: &str, blocks: u32, threads: u32) {
    let (_, outcome) = hand(body, blocks, threads);
    assert!(outcome.is_ok(), "{name}: {}", outcome.expect_err("a trap"));
}

fn sgemm(ptx: &str) -> Outcome {
    let machine = machine();
    let module = machine.load(ptx).expect("loads");
    let (m, n, k) = (33, 35, 70);
    let a = upload(&machine, &Rng(1).floats(m * k));
    let b = upload(&machine, &Rng(2).floats(n * k));
    let c = machine.alloc(m * n * 4).expect("memory");
    let args = Args::default().ptr(a).ptr(b).ptr(c).int(m).int(n).int(k);
    run(&machine, &module, "sgemm", [2, 2, 1], [256, 1, 1], 0, args)
}

fn mma(ptx: &str) -> Outcome {
    let machine = machine();
    let module = machine.load(ptx).expect("loads");
    let (m, n, k) = (65, 70, 104);
    let a = upload(&machine, &vec![0x3f80u16; m * k]);
    let b = upload(&machine, &vec![0x3f80u16; n * k]);
    let c = machine.alloc(m * n * 4).expect("memory");
    let args = Args::default().ptr(a).ptr(b).ptr(c).int(m).int(n).int(k);
    run(&machine, &module, "gemm_bf16", [2, 2, 1], [128, 1, 1], 0, args)
}

fn reduce(ptx: &str, name: &str, shared: usize) -> Outcome {
    let machine = machine();
    let module = machine.load(ptx).expect("loads");
    let x = upload(&machine, &Rng(1).floats(500));
    let sums = machine.alloc(4 * 4).expect("memory");
    run(&machine, &module, name, [4, 1, 1], [128, 1, 1], shared, Args::default().ptr(x).ptr(sums).int(500))
}

fn histogram(ptx: &str, written: bool) -> Outcome {
    let machine = machine();
    let module = machine.load(ptx).expect("loads");
    let x = upload(&machine, &(0..1000).map(|i| i as u8).collect::<Vec<u8>>());
    let counts = if written { upload(&machine, &[0u32; 256]) } else { machine.alloc(1024).expect("memory") };
    run(&machine, &module, "histogram", [2, 1, 1], [96, 1, 1], 0, Args::default().ptr(x).ptr(counts).int(1000))
}

#[test]
fn dropped_barriers_are_caught() {
    use TrapKind::*;
    let ptx = include_str!("kernels/sgemm.ptx");
    let mutant = without(ptx, "bar.sync", 0);
    trapped("tile read before it is complete", &mutant, sgemm(&mutant), SharedRace, "ld.shared");
    let mutant = without(ptx, "bar.sync", 1);
    trapped("tile overwritten while it is read", &mutant, sgemm(&mutant), SharedRace, "st.shared");

    let ptx = include_str!("kernels/reduce.ptx");
    let mutant = without(ptx, "bar.sync", 0);
    trapped(
        "partial sums read before they are written",
        &mutant,
        reduce(&mutant, "reduce", 0),
        Uninitialised,
        "ld.shared",
    );
    let mutant = without(ptx, "bar.sync", 2);
    trapped("tree step without a barrier", &mutant, reduce(&mutant, "reduce_tree", 512), SharedRace, "ld.shared");
    let mutant = without(ptx, "bar.warp.sync", 0);
    trapped("read, then write, in a warp", &mutant, reduce(&mutant, "reduce_tree", 512), SharedRace, "st.shared");
    let mutant = without(ptx, "bar.warp.sync", 1);
    trapped("write, then read, in a warp", &mutant, reduce(&mutant, "reduce_tree", 512), SharedRace, "ld.shared");

    let ptx = include_str!("kernels/histogram.ptx");
    let mutant = without(ptx, "bar.sync", 0);
    trapped("histogram updated before it is zeroed", &mutant, histogram(&mutant, true), Uninitialised, "atom.shared");
    let mutant = without(ptx, "bar.sync", 1);
    trapped("histogram read before all updates", &mutant, histogram(&mutant, true), SharedRace, "atom.shared");
}

#[test]
fn cp_async_bugs_are_caught_and_correct_pipelines_pass() {
    use TrapKind::*;
    let ptx = include_str!("kernels/mma.ptx");
    let mutant = ptx.replace("cp.async.wait_group 1;", "");
    trapped("wait dropped", &mutant, mma(&mutant), AsyncCopy, "ldmatrix");
    let mutant = ptx.replace("cp.async.wait_group 0;", "");
    trapped("last wait dropped", &mutant, mma(&mutant), AsyncCopy, "ldmatrix");
    let mutant = ptx.replace("cp.async.wait_group 1;", "cp.async.wait_group 2;");
    trapped("one group too few waited for", &mutant, mma(&mutant), AsyncCopy, "ldmatrix");
    let mutant = without(ptx, "bar.sync", 0);
    trapped("copies not published by a barrier", &mutant, mma(&mutant), AsyncCopy, "ldmatrix");
    let mutant = without(ptx, "bar.sync", 1);
    trapped("stage refilled while it is read", &mutant, mma(&mutant), SharedRace, "cp.async");
    let mutant = ptx.replacen("cp.async.commit_group;", "", 1);
    trapped("group not committed", &mutant, mma(&mutant), AsyncCopy, "ldmatrix");

    // The epilogue's tile reuses the memory of the pipeline's stages.
    let own = "shl.b32 %r1, %r0, 4; mov.u32 %r2, tile; add.s32 %r2, %r2, %r1;";
    let fill = format!("{own}\ncp.async.ca.shared.global [%r2], [%rd0], 16;\ncp.async.commit_group;");
    let drained = "cp.async.wait_group 0;\nbar.sync 0;\nxor.b32 %r3, %r2, 512;\nld.shared.u32 %r4, [%r3];";
    bug(
        "epilogue overwrites the target of a pending cp.async",
        &format!("{fill}\nbar.sync 0;\nst.shared.u32 [%r2], %r0;"),
        1,
        64,
        AsyncCopy,
        "st.shared",
    );
    bug(
        "epilogue while others still read the last stage",
        &format!("{fill}\n{drained}\nst.shared.u32 [%r2], %r0;"),
        1,
        64,
        SharedRace,
        // The first warp runs ahead: the second one reads what the first has overwritten.
        "ld.shared",
    );
    fine("epilogue after a barrier", &format!("{fill}\n{drained}\nbar.sync 0;\nst.shared.u32 [%r2], %r0;"), 1, 64);
    bug(
        "read of a stage whose cp.async group is pending",
        &format!(
            "{fill}\ncp.async.ca.shared.global [%r2+512], [%rd0+16], 16;\ncp.async.commit_group;\n\
                 cp.async.wait_group 1;\nbar.sync 0;\nld.shared.u32 %r4, [%r2+512];"
        ),
        1,
        32,
        AsyncCopy,
        "ld.shared",
    );
    fine(
        "cp.async of zero source bytes from an invalid address",
        &format!("{own}\nmov.u64 %rd1, -8;\ncp.async.ca.shared.global [%r2], [%rd1], 16, 0;\ncp.async.wait_all;"),
        1,
        32,
    );
    let rows = "and.b32 %r1, %r0, 7; shl.b32 %r1, %r1, 4; mov.u32 %r2, tile; add.s32 %r2, %r2, %r1;
setp.lt.u32 %p1, %r0, 8;\n@%p1 st.shared.v4.u32 [%r2], {%r0, %r0, %r0, %r0};";
    let load = "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r3}, [%r2];";
    bug("rows not published to their warp", &format!("{rows}\n{load}"), 1, 32, SharedRace, "ldmatrix");
    fine("rows published to their warp", &format!("{rows}\nbar.warp.sync -1;\n{load}"), 1, 32);
    let body = "and.b32 %r1, %r0, 3; shl.b32 %r1, %r1, 4; mov.u32 %r2, tile; add.s32 %r2, %r2, %r1;";
    bug(
        "cp.async to a misaligned address",
        &format!("{body}\ncp.async.ca.shared.global [%r2+8], [%rd0], 16;"),
        1,
        1,
        MisalignedAddress,
        "cp.async",
    );
}

#[test]
fn global_memory_bugs_are_caught_and_correct_kernels_pass() {
    use TrapKind::*;
    let ptx = include_str!("kernels/vector_add.ptx");
    let n = 100;
    let launch = |ptx: &str, machine: &Machine, a: u64, b: u64, c: u64| {
        let module = machine.load(ptx).expect("loads");
        run(machine, &module, "vector_add", [1, 1, 1], [128, 1, 1], 0, Args::default().ptr(a).ptr(b).ptr(c).int(n))
    };
    let machine = machine();
    let (a, b) = (upload(&machine, &vec![1f32; n]), upload(&machine, &vec![2f32; n]));
    let c = machine.alloc(n * 4).expect("memory");
    assert!(launch(ptx, &machine, a, b, c).is_ok());

    let mutant = ptx.replacen("setp.ge.s32", "setp.gt.s32", 1);
    assert_ne!(mutant, ptx);
    trapped("bound off by one", &mutant, launch(&mutant, &machine, a, b, c), IllegalAddress, "ld.global");
    let short = machine.alloc(n * 4 - 4).expect("memory");
    trapped("output too short", ptx, launch(ptx, &machine, a, b, short), IllegalAddress, "st.global");
    trapped("null pointer", ptx, launch(ptx, &machine, a, 0, c), IllegalAddress, "ld.global");
    trapped("misaligned pointer", ptx, launch(ptx, &machine, a, b, c + 2), MisalignedAddress, "st.global");
    let fresh = machine.alloc(n * 4).expect("memory");
    trapped("input never written", ptx, launch(ptx, &machine, a, fresh, c), Uninitialised, "ld.global");
    machine.free(b).expect("alive");
    let outcome = launch(ptx, &machine, a, b, c);
    assert!(outcome.as_ref().is_err_and(|trap| trap.message.contains("freed")));
    assert!(outcome.as_ref().is_err_and(|trap| trap.source.as_deref() == Some("vector_add.cu:4")));
    trapped("use after free", ptx, outcome, IllegalAddress, "ld.global");

    let module = machine.load(ptx).expect("loads");
    let args = Args::default().ptr(a + 4).ptr(c).int(4);
    let outcome = run(&machine, &module, "copy4", [1, 1, 1], [32, 1, 1], 0, args);
    trapped("unaligned vector", ptx, outcome, MisalignedAddress, "ld.global.v4");

    let ptx = include_str!("kernels/histogram.ptx");
    trapped("counts never zeroed", ptx, histogram(ptx, false), Uninitialised, "global.add");

    let write = "mov.u32 %r1, %ctaid.x;\nadd.s32 %r1, %r1, %r0;\nst.global.u32 [%rd0], ";
    bug("blocks write different values", &format!("{write}%r1;"), 2, 1, GlobalRace, "st.global");
    fine("blocks write the same value", &format!("{write}7;"), 8, 1);
    fine("one block writes", &format!("{write}%r1;"), 1, 1);
    // `%rd1` is the address of the block's own element.
    let own = "mov.u32 %r1, %ctaid.x;\nmul.wide.u32 %rd2, %r1, 4;\nadd.s64 %rd1, %rd0, %rd2;\nadd.s32 %r2, %r1, 5;";
    let write = "st.global.u32 [%rd1], %r2;";
    let other = "setp.lt.u32 %p1, %r1, 8;\n@%p1 ret;\nld.global.u32 %r3, [%rd1+-32];";
    bug("read of another block's write", &format!("{own}\n{write}\n{other}"), 64, 1, GlobalRace, "ld.global");
    bug(
        "cp.async of another block's write",
        &format!(
            "{own}\n{write}\nsetp.lt.u32 %p1, %r1, 8;\n@%p1 ret;\ncp.async.ca.shared.global [tile], [%rd1+-32], 4;"
        ),
        64,
        1,
        GlobalRace,
        "cp.async",
    );
    bug(
        "one block zeroes a counter that all blocks add to",
        "mov.u32 %r1, %ctaid.x;\nsetp.eq.u32 %p1, %r1, 0;\n@%p1 st.global.u32 [%rd0], 0;\n\
             red.global.add.u32 [%rd0], 1;",
        64,
        1,
        GlobalRace,
        "red.global",
    );
    bug(
        "ld.global.nc of data that the launch wrote",
        &format!("{own}\n{write}\nld.global.nc.u32 %r3, [%rd1];"),
        1,
        1,
        GlobalRace,
        "ld.global.nc",
    );
    fine("ld.global.nc before the write", &format!("{own}\nld.global.nc.u32 %r3, [%rd1];\n{write}"), 1, 1);
    fine("each block reads its own element", &format!("{own}\n{write}\nld.global.u32 %r3, [%rd1];"), 64, 1);
    fine("another block's write of the same value", &format!("{own}\nst.global.u32 [%rd1], 1;\n{other}"), 64, 1);
    fine(
        "blocks write different halves of a word",
        "mov.u32 %r1, %ctaid.x;\nmul.wide.u32 %rd2, %r1, 2;\nadd.s64 %rd1, %rd0, %rd2;\ncvt.u16.u32 %rs1, %r1;\n\
             st.global.u16 [%rd1], %rs1;\nld.global.u16 %rs2, [%rd1];",
        64,
        1,
    );
    fine(
        "the last block reads what all blocks have written",
        &format!(
            "{own}\n{write}\nmembar.gl;\natom.global.add.u32 %r3, [%rd0+1020], 1;\nsetp.ne.u32 %p1, %r3, 64;\n\
                 @%p1 ret;\nld.global.u32 %r4, [%rd0+64];\nst.global.u32 [%rd0+64], 1000;\n\
                 ld.global.v4.u32 {{%r5,%r6,%r7,%r8}}, [%rd0];"
        ),
        64,
        1,
    );
    fine(
        "a chain of blocks with volatile flags",
        &format!(
            "{own}\nsetp.eq.u32 %p1, %r1, 0;\n@%p1 bra WRITE;\nWAIT:\nld.volatile.global.u32 %r3, [%rd1+508];\n\
                 setp.ne.u32 %p2, %r3, 7;\n@%p2 bra WAIT;\nld.global.u32 %r4, [%rd1+-4];\nWRITE:\n{write}\n\
                 membar.gl;\nst.volatile.global.u32 [%rd1+512], 7;"
        ),
        64,
        1,
    );
    bug("atomic past the end", "atom.global.add.u32 %r1, [%rd0+1024], 1;", 1, 1, IllegalAddress, "atom.global");
}

#[test]
fn shared_and_local_memory_bugs_are_caught_and_correct_kernels_pass() {
    use TrapKind::*;
    let ptx = include_str!("kernels/reduce.ptx");
    trapped("too little dynamic shared memory", ptx, reduce(ptx, "reduce_tree", 256), SharedOutOfBounds, "st.shared");
    let address = "shl.b32 %r1, %r0, 4; mov.u32 %r2, tile; add.s32 %r2, %r2, %r1;";
    bug(
        "past the tile",
        &format!("{address}\nst.shared.v4.b32 [%r2], {{%r0,%r0,%r0,%r0}};"),
        1,
        96,
        SharedOutOfBounds,
        "st.shared",
    );
    bug(
        "misaligned vector store",
        &format!("{address}\nst.shared.v4.b32 [%r2+4], {{%r0,%r0,%r0,%r0}};"),
        1,
        32,
        MisalignedAddress,
        "st.shared",
    );
    bug("tile never written", &format!("{address}\nld.shared.u32 %r3, [%r2];"), 1, 32, Uninitialised, "ld.shared");
    bug(
        "two lanes write different values to one address",
        "st.shared.u32 [tile], %r0;",
        1,
        32,
        SharedRace,
        "st.shared",
    );
    fine("two warps write the same value to one address", "st.shared.u32 [tile], 5;", 1, 64);
    let half = "shl.b32 %r1, %r0, 1; mov.u32 %r2, tile; add.s32 %r2, %r2, %r1; cvt.u16.u32 %rs1, %r0;\n\
         st.shared.u16 [%r2], %rs1;";
    fine(
        "lanes write different halves of a word",
        &format!("{half}\nbar.sync 0;\nxor.b32 %r2, %r2, 2;\nld.shared.u16 %rs2, [%r2];"),
        1,
        32,
    );
    bug(
        "read of another lane's half without a barrier",
        &format!("{half}\nxor.b32 %r2, %r2, 2;\nld.shared.u16 %rs2, [%r2];"),
        1,
        32,
        SharedRace,
        "ld.shared",
    );
    bug(
        "past the local array",
        "mov.u64 %rd1, mine;\nst.local.u32 [%rd1+64], %r0;",
        1,
        32,
        LocalOutOfBounds,
        "st.local",
    );
    bug("local memory never written", "ld.local.u32 %r1, [mine+4];", 1, 32, Uninitialised, "ld.local");
    let branch = "setp.lt.u32 %p1, %r0, 9;\n@%p1 st.local.v2.u32 [mine], {%r0, %r0};";
    bug(
        "local memory that only other threads wrote",
        &format!("{branch}\nld.local.v2.u32 {{%r1, %r2}}, [mine];"),
        1,
        32,
        Uninitialised,
        "ld.local",
    );
    fine("a field copied together with its padding", "st.local.u8 [mine], 1;\nld.local.u32 %r1, [mine];", 1, 32);
}

#[test]
fn barrier_and_warp_bugs_are_caught_and_correct_kernels_pass() {
    use TrapKind::*;
    let branch = |limit: usize, inside: &str| format!("setp.lt.u32 %p1, %r0, {limit};\n@!%p1 bra OUT;\n{inside}\nOUT:");
    bug("barrier in a divergent branch", &branch(16, "bar.sync 0;"), 1, 32, PartialBarrier, "bar.sync");
    bug("barrier of one warp only", &branch(32, "bar.sync 0;"), 1, 64, PartialBarrier, "bar.sync");
    bug(
        "early return before a barrier",
        "setp.gt.u32 %p1, %r0, 20;\n@%p1 ret;\nbar.sync 0;",
        1,
        32,
        PartialBarrier,
        "bar.sync",
    );
    let early = "setp.gt.u32 %p1, %r0, 40;\n@%p1 ret;\nbar.sync 0;";
    bug("early return of a warp before a barrier", early, 1, 96, PartialBarrier, "bar.sync");
    let (_, outcome) = hand(early, 1, 96);
    assert!(outcome.is_err_and(|trap| trap.message.contains("55 threads have returned")));
    bug(
        "warps wait at two different barriers",
        "setp.lt.u32 %p1, %r0, 32;\n@%p1 bar.sync 1;\n@!%p1 bar.sync 2;",
        1,
        64,
        Deadlock,
        "bar.sync",
    );
    bug("barrier count above the number of threads", "bar.sync 1, 96;", 1, 64, Deadlock, "bar.sync");
    bug("endless loop", "AGAIN:\nbra AGAIN;", 1, 32, Deadlock, "bra");
    bug(
        "shuffle with lanes missing",
        &branch(16, "shfl.sync.down.b32 %r1, %r0, 1, 31, -1;"),
        1,
        32,
        MissingLanes,
        "shfl",
    );
    bug(
        "shuffle from a lane beyond the end of the block",
        "shfl.sync.down.b32 %r1, %r0, 1, 31, -1;",
        1,
        20,
        MissingLanes,
        "shfl",
    );
    bug("vote with lanes missing", &branch(16, "vote.sync.ballot.b32 %r1, %p1, -1;"), 1, 32, MissingLanes, "vote");
    bug("vote of lanes outside of its mask", "vote.sync.ballot.b32 %r1, %p1, 0xffff;", 1, 32, MissingLanes, "vote");
    bug("warp barrier with lanes missing", &branch(16, "bar.warp.sync -1;"), 1, 32, MissingLanes, "bar.warp");
    let product =
        "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%f0,%f1,%f2,%f3}, {%r1,%r2}, {%r3}, {%f0,%f1,%f2,%f3};";
    bug("mma in a divergent branch", &branch(16, product), 1, 32, MissingLanes, "mma");
    bug("mma in a warp that is not full", product, 1, 31, MissingLanes, "mma");
    let early = "setp.gt.u32 %p1, %r0, 20;\n@%p1 ret;";
    bug(
        "vote with returned lanes in its mask",
        &format!("{early}\nvote.sync.any.pred %p1, %p2, -1;"),
        1,
        32,
        MissingLanes,
        "vote",
    );
    bug("mma after some lanes have returned", &format!("{early}\n{product}"), 1, 32, MissingLanes, "mma");
    fine(
        "vote of the lanes that have not returned",
        &format!("{early}\nvote.sync.any.pred %p1, %p2, 0x1fffff;"),
        1,
        32,
    );
    fine("shuffle of the active lanes only", &branch(16, "shfl.sync.bfly.b32 %r1, %r0, 1, 31, 0xffff;"), 1, 32);
    fine("named barriers", "shr.u32 %r1, %r0, 6;\nadd.s32 %r1, %r1, 1;\nbar.sync %r1, 64;", 1, 128);
    fine(
        "producer and consumer",
        "setp.lt.u32 %p1, %r0, 32;\nmov.u32 %r2, tile;\nand.b32 %r1, %r0, 31;\nshl.b32 %r1, %r1, 2;\n\
             add.s32 %r2, %r2, %r1;\n@%p1 st.shared.u32 [%r2], %r0;\n@%p1 bar.arrive 1, 64;\n@!%p1 bar.sync 1, 64;\n\
             @!%p1 ld.shared.u32 %r3, [%r2];",
        1,
        64,
    );
    bug("a trap", "trap;", 1, 32, LaunchFailed, "trap");
    bug(
        "a failed assertion",
        "setp.eq.u32 %p1, %r0, 9;\n@!%p1 bra FINE;\ncall.uni __assertfail;\nFINE:",
        1,
        32,
        LaunchFailed,
        "__assertfail",
    );
}
