//! Bugs with `setmaxnreg`, elections and the cluster's barrier.

use super::*;

const GEMM: &str = include_str!("../kernels/hopper/gemm.ptx");

fn gemm(ptx: &str) -> Outcome {
    let machine = hopper();
    let module = machine.load(ptx).unwrap_or_else(|error| panic!("{error}"));
    let (m, n, k) = (128, 64, 64);
    let [a, b, c] = [m * k, n * k, m * n].map(|count| upload(&machine, &vec![0x3f80u16; count]));
    let maps = [(a, m, k, 128), (b, n, k, 64), (c, m, n, 64)].map(|(at, rows, columns, tall)| {
        Tensor::tiled(Kind::Bf16, at, &[columns as u64, rows as u64], &[64, tall]).swizzled(128).on(&machine)
    });
    let args = maps.iter().fold(Args::default(), Args::map).int(k);
    run(&machine, &module, "gemm_bf16", [1, 1, 1], [384, 1, 1], 114752, args)
}

/// Of 384 threads with at most 232 registers ptxas gives each 168: three warpgroups have 504 of a thread.
#[test]
fn register_counts_beyond_the_pool_are_caught() {
    use TrapKind::*;
    let entry = "gemm_bf16";
    let inc = "setmaxnreg.inc.sync.aligned.u32 ";
    let dec = "setmaxnreg.dec.sync.aligned.u32 ";
    let with = |old: &str, new: &str| changed(GEMM, entry, old, 0, new);
    passes(
        "24 + 2 x 240",
        gemm(&with(&format!("{dec}40"), &format!("{dec}24")).replacen(&format!("{inc}232"), &format!("{inc}240"), 1)),
    );
    let mutant = with(&format!("{inc}232"), &format!("{inc}240"));
    trapped("40 + 2 x 240", &mutant, gemm(&mutant), RegisterPool, "setmaxnreg.inc");
    let mutant = without(GEMM, entry, "setmaxnreg.dec", 0);
    trapped("nothing given back", &mutant, gemm(&mutant), RegisterPool, "setmaxnreg.inc");
    let mutant = with(&format!("{dec}40"), &format!("{dec}176"));
    trapped("decrease to more than the current number", &mutant, gemm(&mutant), RegisterPool, "setmaxnreg.dec");
    // 128 threads have the largest number that the kernel names.
    let less = module(".maxntid 128, 1, 1 .minnctapersm 1", &format!("{inc}104;\nbar.sync 0;\n{inc}232;"));
    trapped("increase to less than the current number", &less, hand(&less, 1, 128), RegisterPool, "setmaxnreg.inc");
    let mutant = without(GEMM, entry, ".minnctapersm", 0);
    trapped("no number of registers at entry", &mutant, gemm(&mutant), RegisterPool, "setmaxnreg");
}

#[test]
fn register_counts_of_a_part_of_a_warpgroup_are_caught() {
    let bounds = ".maxntid 128, 1, 1 .minnctapersm 1";
    let body = "setmaxnreg.dec.sync.aligned.u32 40;\nbar.sync 0;\nsetmaxnreg.inc.sync.aligned.u32 104;";
    passes("whole warpgroup", hand(&module(bounds, body), 1, 128));
    let ptx = module(bounds, "@!%p9 bra OUT;\nsetmaxnreg.dec.sync.aligned.u32 40;\nOUT:");
    trapped("one warp of four", &ptx, hand(&ptx, 1, 128), TrapKind::RegisterPool, "");
    let ptx = module(
        bounds,
        "@%p9 bra FIRST;\nsetmaxnreg.dec.sync.aligned.u32 40;\nbra OUT;\nFIRST:\nsetmaxnreg.dec.sync.aligned.u32 48;\nOUT:",
    );
    trapped("different numbers", &ptx, hand(&ptx, 1, 128), TrapKind::RegisterPool, "");
    let ptx = module(bounds, "@!%p0 bra OUT;\nsetmaxnreg.dec.sync.aligned.u32 40;\nOUT:");
    trapped("one lane", &ptx, hand(&ptx, 1, 128), TrapKind::MissingLanes, "setmaxnreg");
    let ptx = module(".maxntid 192, 1, 1 .minnctapersm 1", "setmaxnreg.dec.sync.aligned.u32 40;");
    trapped("half a warpgroup at the end", &ptx, hand(&ptx, 1, 192), TrapKind::RegisterPool, "");
}

/// What a thread has at the start follows from the bounds that ptxas sees, not from the threads of the launch.
#[test]
fn the_pool_follows_the_bounds() {
    let body = "setmaxnreg.inc.sync.aligned.u32 240;";
    let of = |bounds: &str| module(bounds, body);
    passes("240 registers fit from the start", hand(&of(".maxntid 256, 1, 1 .minnctapersm 1"), 1, 128));
    for bounds in [".maxntid 384, 1, 1 .minnctapersm 1", ".maxntid 128, 1, 1 .minnctapersm 4"] {
        let ptx = of(bounds);
        trapped(bounds, &ptx, hand(&ptx, 1, 128), TrapKind::RegisterPool, "setmaxnreg");
    }
}

const SPIN: &str = "mov.u32 %r8, 0;\nSPIN:\nadd.u32 %r8, %r8, 1;\nsetp.lt.u32 %p10, %r8, 30000;\n@%p10 bra SPIN;\n";

#[test]
fn elections_and_cluster_barriers_of_too_few_are_caught() {
    use TrapKind::*;
    fine("election", "elect.sync %r3|%p1, -1;", 64);
    bug("election by one lane of its mask", "@!%p0 bra OUT;\nelect.sync %r3|%p1, -1;\nOUT:", 32, MissingLanes, "elect");
    bug("election outside of the mask", "elect.sync %r3|%p1, 0xffff;", 32, MissingLanes, "elect");
    let write = "shl.b32 %r3, %r0, 2;\nadd.u32 %r3, %r3, %r2;\nst.shared.u32 [%r3], %r0;\n";
    let read = "xor.b32 %r3, %r3, 252;\nld.shared.u32 %r4, [%r3];";
    let whole = "barrier.cluster.arrive;\nbarrier.cluster.wait;\n";
    fine("cluster barrier", &format!("{write}{whole}{read}"), 64);
    let relaxed = "barrier.cluster.arrive.relaxed;\nbarrier.cluster.wait;\n";
    bug("relaxed arrival publishes nothing", &format!("{write}{relaxed}{read}"), 64, SharedRace, "ld.shared");
    bug(
        "cluster's barrier waited for without an arrival",
        "barrier.cluster.wait;",
        64,
        LaunchFailed,
        "barrier.cluster",
    );
    let part = "@%p9 bra OUT;\nbarrier.cluster.arrive;\nbarrier.cluster.wait;\nOUT:\nbar.sync 0;";
    bug("cluster's barrier that a warp has not reached", part, 64, Deadlock, "");
    let gone =
        "@%p9 barrier.cluster.arrive;\n@%p9 ret;\nbar.arrive 1, 64;\nbarrier.cluster.arrive;\nbarrier.cluster.wait;";
    fine("cluster's barrier at which a warp has arrived before it returned", gone, 96);
    // Two arrivals before a return are no substitute for those who are on their way.
    let late = format!(
        "setp.lt.u32 %p3, %r0, 64;\n@%p9 barrier.cluster.arrive;\n@%p9 ret;\n@!%p3 bra LATE;\nbarrier.cluster.arrive;\n\
         barrier.cluster.wait;\n{read}\nret;\nLATE:\n{SPIN}{write}barrier.cluster.arrive;\nbarrier.cluster.wait;\n"
    )
    .replace("xor.b32 %r3, %r3, 252;", "shl.b32 %r3, %r0, 2;\nadd.u32 %r3, %r3, %r2;\nadd.u32 %r3, %r3, 128;");
    fine("a late arrival is waited for", &late, 96);
    bug("one lane at the cluster's barrier", "@%p0 barrier.cluster.arrive;", 64, PartialBarrier, "barrier.cluster");
    fine(
        "cluster's barrier after a warp has returned",
        "@%p9 ret;\nbarrier.cluster.arrive;\nbarrier.cluster.wait;",
        64,
    );
}
