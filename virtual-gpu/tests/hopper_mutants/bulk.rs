//! Bugs of `kernels/hopper/bulk.cu`, and bulk copies with bad sizes and addresses.

use super::*;

const PTX: &str = include_str!("../kernels/hopper/bulk.ptx");
const LOAD: &str = "cp.async.bulk.shared::cluster";
const STORE: &str = "cp.async.bulk.global";

/// One block on five chunks of 512, the last a part.
fn twice(ptx: &str) -> Outcome {
    twice_of(ptx, 2100, 0, 2100)
}

/// `n` values of which `count` are there, from `skipped` bytes on.
fn twice_of(ptx: &str, n: usize, skipped: u64, count: usize) -> Outcome {
    let machine = hopper();
    let module = machine.load(ptx).unwrap_or_else(|error| panic!("{error}"));
    let x = if count == 0 { machine.alloc(4 * n).expect("memory") } else { upload(&machine, &Rng(1).floats(count)) };
    let y = machine.alloc(4 * n).expect("memory");
    run(&machine, &module, "twice", [1, 1, 1], [128, 1, 1], 0, Args::default().ptr(x + skipped).ptr(y).int(n))
}

fn add_up(ptx: &str, written: bool) -> Outcome {
    let machine = hopper();
    let module = machine.load(ptx).unwrap_or_else(|error| panic!("{error}"));
    let x = upload(&machine, &(0..4096).collect::<Vec<u32>>());
    let sums = if written { upload(&machine, &[0u32; 64]) } else { machine.alloc(256).expect("memory") };
    run(&machine, &module, "add_up", [16, 1, 1], [64, 1, 1], 0, Args::default().ptr(x).ptr(sums).int(4096))
}

fn reverse(ptx: &str) -> Outcome {
    let machine = hopper();
    let module = machine.load(ptx).unwrap_or_else(|error| panic!("{error}"));
    let x = upload(&machine, &Rng(1).floats(1024));
    let y = machine.alloc(4096).expect("memory");
    run(&machine, &module, "reverse", [1, 1, 1], [64, 1, 1], 0, Args::default().ptr(x).ptr(y).int(1024))
}

#[test]
fn bulk_kernels_without_a_bug_pass() {
    passes("twice", twice(PTX));
    passes("add_up", add_up(PTX, true));
    passes("reverse", reverse(PTX));
}

#[test]
fn dropped_fences_and_waits_of_bulk_copies_are_caught() {
    use TrapKind::*;
    let drop = |needle: &str, n: usize| without(PTX, "twice", needle, n);
    let mutant = drop("fence.proxy.async", 0);
    trapped("chunk stored without a proxy fence", &mutant, twice(&mutant), ProxyFence, STORE);
    let mutant = drop("cp.async.bulk.wait_group.read", 0);
    trapped("chunk overwritten while it is stored", &mutant, twice(&mutant), InFlight, LOAD);
    let mutant = drop("cp.async.bulk.wait_group 0", 0);
    trapped("end with a store in flight", &mutant, twice(&mutant), InFlight, STORE);
    let mutant = drop("cp.async.bulk.commit_group", 0);
    trapped("store not committed", &mutant, twice(&mutant), InFlight, LOAD);
    let mutant = instead(PTX, "twice", "mbarrier.try_wait", 0, "setp.eq.u32 done, 1, 1;");
    trapped("chunk read before it is there", &mutant, twice(&mutant), AsyncCopy, "ld.shared");
    let mutant = drop("mbarrier.arrive.expect_tx", 0);
    trapped("first chunk not expected", &mutant, twice(&mutant), Deadlock, "mbarrier.try_wait");
    let mutant = drop("bar.sync", 0);
    trapped("barriers not published", &mutant, twice(&mutant), Mbarrier, "mbarrier.try_wait");
}

#[test]
fn bad_sizes_and_addresses_of_bulk_copies_are_caught() {
    use TrapKind::*;
    trapped("size of 20 bytes", PTX, twice_of(PTX, 5, 0, 8), TensorCopy, LOAD);
    trapped("source at no multiple of 16", PTX, twice_of(PTX, 512, 4, 513), TensorCopy, LOAD);
    trapped("source too short", PTX, twice_of(PTX, 512, 0, 500), IllegalAddress, LOAD);
    trapped("source never written", PTX, twice_of(PTX, 512, 0, 0), Uninitialised, LOAD);
    let whole = format!("{}{}{COPY}{WAIT}", init(1), expect(16));
    fine("a copy", &whole, 32);
    bug("destination at no multiple of 16", &whole.replace("[%r2], [%rd0]", "[%r2+8], [%rd0]"), 32, TensorCopy, LOAD);
    bug(
        "destination beyond shared memory",
        &whole.replace("[%r2], [%rd0]", "[%r2+131072], [%rd0]"),
        32,
        SharedOutOfBounds,
        LOAD,
    );
    bug("null pointer", &whole.replace("@%p0 cp", "mov.u64 %rd0, 0;\n@%p0 cp"), 32, IllegalAddress, LOAD);
    // Another block's result as a source.
    let own = "mov.u32 %r3, %ctaid.x;\nmul.wide.u32 %rd4, %r3, 16;\nadd.u64 %rd5, %rd0, %rd4;\nadd.u32 %r4, %r3, 5;\n\
        @%p0 st.global.v4.u32 [%rd5], {%r4, %r4, %r4, %r4};\nfence.proxy.async;\n";
    let other = "setp.lt.u32 %p2, %r3, 8;\n@%p2 ret;\nadd.u64 %rd0, %rd5, -128;\n";
    let ptx = module("", &format!("{own}{other}{whole}"));
    trapped("source that another block writes", &ptx, hand(&ptx, 64, 32), GlobalRace, LOAD);
    let ptx = module("", &format!("{own}mov.u64 %rd0, %rd5;\n{whole}"));
    passes("source that the block wrote itself", hand(&ptx, 64, 32));
}

#[test]
fn bugs_of_reductions_are_caught() {
    use TrapKind::*;
    let reduce = "cp.reduce.async.bulk";
    trapped("sums never zeroed", PTX, add_up(PTX, false), Uninitialised, reduce);
    let mutant = without(PTX, "add_up", "fence.proxy.async", 0);
    trapped("sums added without a proxy fence", &mutant, add_up(&mutant, true), ProxyFence, reduce);
    let mutant = changed(
        PTX,
        "add_up",
        "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32",
        0,
        "cp.async.bulk.global.shared::cta.bulk_group",
    );
    trapped("blocks overwrite each other's sums", &mutant, add_up(&mutant, true), GlobalRace, STORE);
    let mutant = without(PTX, "add_up", "bar.sync", 0);
    trapped("sums added before all are there", &mutant, add_up(&mutant, true), SharedRace, reduce);
    let mutant = without(PTX, "add_up", "cp.async.bulk.wait_group.read", 0);
    trapped("end before the sums are read", &mutant, add_up(&mutant, true), InFlight, reduce);
}

#[test]
fn bugs_of_cp_async_that_arrives_are_caught() {
    use TrapKind::*;
    let entry = "reverse";
    let mutant = changed(PTX, entry, ".noinc", 0, "");
    trapped("arrivals that expect another", &mutant, reverse(&mutant), Deadlock, "mbarrier.try_wait");
    let mutant = without(PTX, entry, "cp.async.mbarrier.arrive", 0);
    trapped("no arrivals", &mutant, reverse(&mutant), Deadlock, "mbarrier.try_wait");
    let mutant = instead(PTX, entry, "mbarrier.try_wait", 0, "setp.eq.u32 done, 1, 1;");
    // The first warp is ahead of the second's copies.
    trapped("chunk read before it is there", &mutant, reverse(&mutant), Uninitialised, "ld.shared");
    // The copies follow the arrival that is to tell of them.
    let arrive = PTX.lines().nth(found(PTX, entry, "cp.async.mbarrier.arrive")[0]).expect("it is there");
    let copy = PTX.lines().nth(found(PTX, entry, "cp.async.cg")[0]).expect("it is there");
    let mutant = instead(PTX, entry, "cp.async.mbarrier.arrive", 0, &format!("{arrive} {copy}"));
    let mutant = without(&mutant, entry, "cp.async.cg", 0);
    trapped("copies behind their arrival", &mutant, reverse(&mutant), AsyncCopy, "ld.shared");
    let at = *found(PTX, entry, "bar.sync").last().expect("it is there");
    let lines: Vec<&str> = PTX.lines().enumerate().map(|(i, line)| if i == at { "" } else { line }).collect();
    let mutant = lines.join("\n");
    trapped("chunk overwritten while others read it", &mutant, reverse(&mutant), SharedRace, "");
}
