//! Bugs of rings whose consumers load from shared memory: `kernels/hopper/stream.cu`.

use super::*;

const PTX: &str = include_str!("../kernels/hopper/stream.ptx");
const LOAD: &str = "cp.async.bulk.tensor.2d.shared::cluster";
const STORE: &str = "cp.async.bulk.tensor.2d.global";
const NO_WAIT: &str = "setp.eq.u32 done, 1, 1;";

fn run_on(ptx: &str, name: &str, threads: u32, sums: bool) -> Outcome {
    let machine = hopper();
    let module = machine.load(ptx).unwrap_or_else(|error| panic!("{error}"));
    let (width, height) = (32, 160);
    let x = upload(&machine, &Rng(1).floats(width * height));
    let x = Tensor::tiled(Kind::F32, x, &[width as u64, height as u64], &[32, if sums { 16 } else { 32 }]);
    let rows = if sums { 1 } else { height };
    let y = upload(&machine, &vec![0f32; width * rows]);
    let y = Tensor::tiled(Kind::F32, y, &[width as u64, rows as u64], &[32, rows.min(32) as u32]);
    let args = Args::default().map(&x.on(&machine)).map(&y.on(&machine)).int(height);
    run(&machine, &module, name, [1, 1, 1], [threads, 1, 1], 0, args)
}

fn columns(ptx: &str) -> Outcome {
    run_on(ptx, "columns", 160, true)
}

fn increment(ptx: &str) -> Outcome {
    run_on(ptx, "increment", 64, false)
}

#[test]
fn rings_without_a_bug_pass() {
    passes("columns", columns(PTX));
    passes("increment", increment(PTX));
}

#[test]
fn bugs_of_rings_with_ordinary_loads_are_caught() {
    use TrapKind::*;
    let entry = "columns";
    // Whichever wait comes first in the PTX: the producer's has its copies behind it.
    let waits = found(PTX, entry, "mbarrier.try_wait");
    let copies = found(PTX, entry, LOAD);
    let producer = usize::from(waits[0] > copies[0] || waits[1] < copies[0]);
    let mutant = instead(PTX, entry, "mbarrier.try_wait", 1 - producer, NO_WAIT);
    trapped("stage read before it is full", &mutant, columns(&mutant), Uninitialised, "ld.shared");
    let mutant = instead(PTX, entry, "mbarrier.try_wait", producer, NO_WAIT);
    trapped("stage filled before it is empty", &mutant, columns(&mutant), InFlight, LOAD);
    let mutant = without(PTX, entry, "mbarrier.arrive.shared", 0);
    trapped("stages never released", &mutant, columns(&mutant), Deadlock, "mbarrier.try_wait");
    let reduce = "cp.reduce.async.bulk.tensor";
    let mutant = without(PTX, entry, "fence.proxy.async", 0);
    trapped("sums added without a proxy fence", &mutant, columns(&mutant), ProxyFence, reduce);
    let mutant = without(PTX, entry, "bar.warp.sync", 0);
    trapped("sums added before the warp is done", &mutant, columns(&mutant), SharedRace, reduce);
    let mutant = changed(PTX, entry, "bulk.wait_group.read 0", 0, "bulk.wait_group.read 1");
    trapped("one group too few waited for", &mutant, columns(&mutant), InFlight, reduce);
}

#[test]
fn bugs_of_tiles_handed_over_by_an_mbarrier_are_caught() {
    use TrapKind::*;
    let entry = "increment";
    let drop = |needle: &str, n: usize| without(PTX, entry, needle, n);
    let mutant = drop("fence.proxy.async", 0);
    trapped("tile stored without a proxy fence", &mutant, increment(&mutant), ProxyFence, STORE);
    let mutant = instead(PTX, entry, "mbarrier.try_wait", 0, NO_WAIT);
    trapped("tile changed before it is there", &mutant, increment(&mutant), AsyncCopy, "ld.shared");
    let mutant = instead(PTX, entry, "mbarrier.try_wait", 1, NO_WAIT);
    trapped("tile stored before all have changed it", &mutant, increment(&mutant), SharedRace, STORE);
    let mutant = drop("bulk.wait_group.read", 0);
    trapped("tile filled while it is stored", &mutant, increment(&mutant), InFlight, LOAD);
    let relaxed = changed(PTX, entry, "mbarrier.arrive.shared", 0, "mbarrier.arrive.relaxed.cta.shared");
    trapped("changes not released", &relaxed, increment(&relaxed), SharedRace, STORE);
    let mutant = drop("mbarrier.arrive.shared", 0);
    let trap = trapped("changes never told", &mutant, increment(&mutant), Deadlock, "mbarrier.try_wait");
    assert!(trap.message.contains("64"), "{trap}");
}
