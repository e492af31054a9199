//! Bugs of the pipelines of `kernels/hopper/gemm.cu`, `persistent.cu` and `convolution.cu`.

use super::*;

const GEMM: &str = include_str!("../kernels/hopper/gemm.ptx");
const PERSISTENT: &str = include_str!("../kernels/hopper/persistent.ptx");
const CONVOLUTION: &str = include_str!("../kernels/hopper/convolution.ptx");
const LOAD: &str = "cp.async.bulk.tensor.2d.shared::cluster";
const STORE: &str = "cp.async.bulk.tensor.2d.global";
/// For a wait: it has not waited.
const NO_WAIT: &str = "setp.eq.u32 done, 1, 1;";

/// More steps of k than twice the ring's stages, and one.
const LONG: usize = 640;
const SHORT: usize = 64;

fn gemm(ptx: &str, k: usize) -> Outcome {
    let machine = hopper();
    let module = machine.load(ptx).unwrap_or_else(|error| panic!("{error}"));
    let (m, n) = (128, 64);
    let [a, b, c] = [m * k, n * k, m * n].map(|count| upload(&machine, &vec![0x3f80u16; count]));
    let maps = [(a, m, k, 128), (b, n, k, 64), (c, m, n, 64)].map(|(at, rows, columns, tall)| {
        Tensor::tiled(Kind::Bf16, at, &[columns as u64, rows as u64], &[64, tall]).swizzled(128).on(&machine)
    });
    let args = maps.iter().fold(Args::default(), Args::map).int(k);
    run(&machine, &module, "gemm_bf16", [1, 1, 1], [384, 1, 1], 114752, args)
}

/// One block that makes four tiles.
fn persistent(ptx: &str, k: usize) -> Outcome {
    let machine = hopper();
    let module = machine.load(ptx).unwrap_or_else(|error| panic!("{error}"));
    let (m, n) = (128, 128);
    let [a, b] = [m, n].map(|rows| {
        // Values that differ, so that no tile is written twice with the same.
        let values: Vec<u16> = (0..rows * k).map(|i| 0x3f80 + (i * 7 % 127) as u16).collect();
        let at = upload(&machine, &values);
        Tensor::tiled(Kind::Bf16, at, &[k as u64, rows as u64], &[64, 64]).swizzled(128).on(&machine)
    });
    let c =
        Tensor::tiled(Kind::F32, upload(&machine, &vec![1f32; m * n]), &[n as u64, m as u64], &[64, 64]).on(&machine);
    let args = Args::default().map(&a).map(&b).map(&c).int(m).int(n).int(k);
    run(&machine, &module, "gemm_persistent", [1, 1, 1], [160, 1, 1], 81984, args)
}

/// A 3 x 3 convolution padded by 1; the kernel is told to pad by `pad`.
fn convolution(ptx: &str, pad: usize, change: impl Fn(&Machine, u64, &mut [u8; 128])) -> Outcome {
    let machine = hopper();
    let module = machine.load(ptx).unwrap_or_else(|error| panic!("{error}"));
    let (n, h, w, c, k) = (1, 8, 8, 64, 64);
    let [x, f] = [n * h * w * c, k * 9 * c].map(|count| upload(&machine, &vec![0x3f80u16; count]));
    let y = upload(&machine, &vec![1f32; n * h * w * k]);
    let images = [c, w, h, n].map(|extent| extent as u64);
    let images = Tensor::im2col(Kind::Bf16, x, &images, (&[-1, -1], &[-1, -1]), (64, 64)).swizzled(128);
    let filters = Tensor::tiled(Kind::Bf16, f, &[c as u64, 9, k as u64], &[64, 1, 64]).swizzled(128);
    let (mut images, filters) = (images.on(&machine), filters.on(&machine));
    change(&machine, x, &mut images);
    let mut args = Args::default().map(&images).map(&filters).ptr(y);
    for extent in [n * h * w, k, c, h, w, 3, 3, 1, pad, 1] {
        args = args.int(extent);
    }
    run(&machine, &module, "convolution", [1, 1, 1], [128, 1, 1], 32784, args)
}

#[test]
fn pipelines_without_a_bug_pass() {
    passes("gemm", gemm(GEMM, LONG));
    passes("gemm", gemm(GEMM, SHORT));
    passes("persistent", persistent(PERSISTENT, LONG));
    passes("persistent", persistent(PERSISTENT, SHORT));
    passes("convolution", convolution(CONVOLUTION, 1, |_, _, _| ()));
}

/// Of 64 x 64 x 16, by the four warps of each of two warpgroups.
#[test]
fn products_are_counted_once_for_each_warp() {
    let counts = gemm(GEMM, LONG).unwrap_or_else(|trap| panic!("{trap}"));
    assert_eq!(counts.mma, 2 * 4 * (LONG / 16) as u64);
    assert_eq!(counts.flops, 2 * 128 * 64 * LONG as u64);
}

#[test]
fn waits_dropped_from_a_ring_are_caught() {
    use TrapKind::*;
    let entry = "gemm_bf16";
    // The producer's wait comes first.
    let mutant = instead(GEMM, entry, "mbarrier.try_wait", 1, NO_WAIT);
    trapped("stage read before it is full", &mutant, gemm(&mutant, SHORT), AsyncCopy, "wgmma.mma_async");
    let mutant = instead(GEMM, entry, "mbarrier.try_wait", 0, NO_WAIT);
    trapped("stage filled before it is empty", &mutant, gemm(&mutant, LONG), InFlight, LOAD);
    let mutant = without(GEMM, entry, "mbarrier.arrive.shared", 0);
    let trap = trapped("stages never released", &mutant, gemm(&mutant, LONG), Deadlock, "mbarrier.try_wait");
    for word in ["warp 0", "warp 4", "warp 11", "phase", "8"] {
        assert!(trap.message.contains(word), "`{word}` is missing: {trap}");
    }
    let mutant = without(GEMM, entry, "mbarrier.arrive.expect_tx", 0);
    trapped("no bytes expected", &mutant, gemm(&mutant, SHORT), Deadlock, "mbarrier.try_wait");
    let mutant = changed(GEMM, entry, "24576;", 0, "24592;");
    trapped("16 bytes too many expected", &mutant, gemm(&mutant, SHORT), Deadlock, "mbarrier.try_wait");
    let mutant = changed(GEMM, entry, "24576;", 0, "24560;");
    trapped("16 bytes too few expected", &mutant, gemm(&mutant, SHORT), Deadlock, "mbarrier.try_wait");
    let mutant = without(GEMM, entry, LOAD, 1);
    trapped("one of two copies missing", &mutant, gemm(&mutant, SHORT), Deadlock, "mbarrier.try_wait");

    let entry = "gemm_persistent";
    let stale = "mbarrier.test_wait.parity.acquire.cta.shared::cta.b64 p, [%r1], 0;";
    let lines = found(PERSISTENT, entry, "mbarrier.test_wait");
    let line = PERSISTENT.lines().nth(lines[0]).expect("it is there");
    let address = &line[line.find('[').expect("an address")..=line.find(']').expect("its end")];
    let mutant = instead(PERSISTENT, entry, "mbarrier.test_wait", 0, &stale.replace("[%r1]", address));
    // The wait for the second round's phase is one for the third, whose copies wait for this warpgroup.
    trapped("parity that does not alternate", &mutant, persistent(&mutant, LONG), Deadlock, "");
}

#[test]
fn products_in_flight_when_their_stage_is_released_are_caught() {
    use TrapKind::*;
    let mutant = without(GEMM, "gemm_bf16", "wgmma.wait_group", 0);
    trapped("stage released before the product", &mutant, gemm(&mutant, LONG), InFlight, LOAD);
    trapped("sums read before the product", &mutant, gemm(&mutant, SHORT), Wgmma, "cvt.rn.bf16x2");
    let entry = "gemm_persistent";
    let mutant = changed(PERSISTENT, entry, "wgmma.wait_group.sync.aligned 1", 0, "wgmma.wait_group.sync.aligned 2");
    trapped("two products in flight, one stage held", &mutant, persistent(&mutant, LONG), InFlight, LOAD);
    let mutant = without(PERSISTENT, entry, "wgmma.wait_group.sync.aligned 1", 0);
    trapped("products never waited for", &mutant, persistent(&mutant, LONG), InFlight, LOAD);
    let mutant = without(PERSISTENT, entry, "wgmma.wait_group.sync.aligned 0", 0);
    trapped("last product not waited for", &mutant, persistent(&mutant, SHORT), Wgmma, "st.shared");
    let mutant = without(GEMM, "gemm_bf16", "wgmma.fence", 0);
    trapped("sums set without a fence", &mutant, gemm(&mutant, SHORT), Wgmma, "wgmma.mma_async");
    let mutant = without(GEMM, "gemm_bf16", "wgmma.commit_group", 0);
    trapped("product not committed", &mutant, gemm(&mutant, SHORT), Wgmma, "cvt.rn.bf16x2");
}

#[test]
fn epilogues_without_their_fence_barrier_or_wait_are_caught() {
    use TrapKind::*;
    let mutant = without(GEMM, "gemm_bf16", "fence.proxy.async", 0);
    trapped("tile stored without a proxy fence", &mutant, gemm(&mutant, SHORT), ProxyFence, STORE);
    let mutant = without(GEMM, "gemm_bf16", "bar.sync", 1);
    trapped("tile stored before all have written", &mutant, gemm(&mutant, SHORT), SharedRace, STORE);
    let mutant = without(GEMM, "gemm_bf16", "cp.async.bulk.wait_group.read", 0);
    trapped("end before the store has read", &mutant, gemm(&mutant, SHORT), InFlight, STORE);
    let mutant = without(GEMM, "gemm_bf16", "cp.async.bulk.commit_group", 0);
    trapped("store not committed", &mutant, gemm(&mutant, SHORT), InFlight, STORE);

    let entry = "gemm_persistent";
    let mutant = without(PERSISTENT, entry, "cp.async.bulk.wait_group.read", 0);
    trapped("tile overwritten while it is stored", &mutant, persistent(&mutant, SHORT), InFlight, "st.shared");
    let mutant = without(PERSISTENT, entry, "bar.sync", 1);
    trapped(
        "tile overwritten before all know it is stored",
        &mutant,
        persistent(&mutant, SHORT),
        InFlight,
        "st.shared",
    );
    let mutant = without(PERSISTENT, entry, "fence.proxy.async", 0);
    trapped("tile stored without a proxy fence", &mutant, persistent(&mutant, SHORT), ProxyFence, STORE);
}

#[test]
fn wrong_mbarriers_of_a_ring_are_caught() {
    use TrapKind::*;
    let entry = "gemm_bf16";
    let mutant = without(GEMM, entry, "mbarrier.init", 0);
    trapped("first stage's barrier not initialised", &mutant, gemm(&mutant, SHORT), Mbarrier, "mbarrier.");
    let mutant = without(GEMM, entry, "bar.sync", 0);
    trapped("barriers not published", &mutant, gemm(&mutant, SHORT), Mbarrier, "mbarrier.try_wait");
    // The branch of the lanes that are not elected.
    let elect = found(GEMM, entry, "elect.sync")[0];
    let branch = GEMM.lines().skip(elect).position(|line| line.contains("bra")).expect("the branch") + elect;
    let lines: Vec<&str> = GEMM.lines().enumerate().map(|(i, line)| if i == branch { "" } else { line }).collect();
    let mutant = lines.join("\n");
    trapped(
        "all lanes arrive where one is expected",
        &mutant,
        gemm(&mutant, SHORT),
        Mbarrier,
        "mbarrier.arrive.expect_tx",
    );
    let mutant = changed(GEMM, entry, ", 8;", 0, ", 9;");
    trapped("more arrivals expected than come", &mutant, gemm(&mutant, LONG), Deadlock, "mbarrier.try_wait");
    let mutant = changed(GEMM, entry, ", 8;", 0, ", 0;");
    trapped("no arrivals expected", &mutant, gemm(&mutant, SHORT), Mbarrier, "mbarrier.init");
}

#[test]
fn wrong_images_and_maps_of_a_convolution_are_caught() {
    use TrapKind::*;
    let load = "cp.async.bulk.tensor.4d";
    let outcome = convolution(CONVOLUTION, 2, |_, _, _| ());
    trapped("base pixel outside of the map's box", CONVOLUTION, outcome, TensorCopy, load);
    let outcome = convolution(CONVOLUTION, 1, |machine, x, _| machine.free(x).expect("it is alive"));
    trapped("images freed", CONVOLUTION, outcome, TensorCopy, load);
    let outcome = convolution(CONVOLUTION, 1, |_, _, map| map.fill(0));
    trapped("a map of zeros", CONVOLUTION, outcome, TensorCopy, load);
    let outcome = convolution(CONVOLUTION, 1, |_, _, map| map[40] ^= 1);
    trapped("a map with a changed bit", CONVOLUTION, outcome, TensorCopy, load);
    let outcome = convolution(CONVOLUTION, 1, |machine, _, map| {
        // The same images, of which nothing was ever written.
        let fresh = machine.alloc(8 * 8 * 64 * 2).expect("memory");
        let images = Tensor::im2col(Kind::Bf16, fresh, &[64, 8, 8, 1], (&[-1, -1], &[-1, -1]), (64, 64));
        *map = images.swizzled(128).on(machine);
    });
    trapped("images never written", CONVOLUTION, outcome, Uninitialised, load);
}
