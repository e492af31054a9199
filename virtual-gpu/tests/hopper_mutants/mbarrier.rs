//! mbarriers used against their rules.

use super::*;

const ARRIVE: &str = "@%p0 mbarrier.arrive.shared::cta.b64 %rd5, [%r1];\n";

#[test]
fn objects_used_outside_of_their_life_are_caught() {
    use TrapKind::*;
    bug("arrival before init", ARRIVE, 32, Mbarrier, "mbarrier.arrive");
    bug("wait before init", WAIT, 32, Mbarrier, "mbarrier.try_wait");
    bug("expected bytes before init", &expect(16), 32, Mbarrier, "mbarrier.arrive.expect_tx");
    bug("copy to an object that is none", COPY, 32, Mbarrier, "cp.async.bulk");
    let inval = "@%p0 mbarrier.inval.shared::cta.b64 [%r1];\n";
    bug("init of a live object", &format!("{0}{0}", init(1)), 32, Mbarrier, "mbarrier.init");
    fine("init again after inval", &format!("{0}{inval}{0}{ARRIVE}", init(1)), 32);
    bug("arrival after inval", &format!("{}{inval}{ARRIVE}", init(1)), 32, Mbarrier, "mbarrier.arrive");
    bug("inval of no object", inval, 32, Mbarrier, "mbarrier.inval");
    for (name, access, needle) in [
        ("ordinary store to an object", "@%p0 st.shared.u32 [%r1+4], %r0;", "st.shared"),
        ("ordinary load of an object", "@%p0 ld.shared.u64 %rd6, [%r1];", "ld.shared"),
        ("atomic on an object", "@%p0 atom.shared.add.u32 %r5, [%r1], 1;", "atom.shared"),
    ] {
        bug(name, &format!("{}{access}", init(1)), 32, Mbarrier, needle);
    }
    fine("ordinary accesses after inval", &format!("{}{inval}@%p0 st.shared.u64 [%r1], %rd0;", init(1)), 32);
    bug("object at no multiple of 8", "@%p0 mbarrier.init.shared::cta.b64 [%r1+4], 1;", 32, Mbarrier, "mbarrier.init");
    let beyond = "@%p0 mbarrier.init.shared::cta.b64 [%r2+65536], 1;";
    bug("object outside of shared memory", beyond, 32, SharedOutOfBounds, "mbarrier.init");
    // The first warp initialises; the second arrives with no barrier in between.
    let early =
        "@%p0 mbarrier.init.shared::cta.b64 [%r1], 1;\n@%p9 bra OUT;\nmbarrier.arrive.shared::cta.b64 _, [%r1];\nOUT:";
    bug("init not published by a barrier", early, 64, Mbarrier, "mbarrier.arrive");
}

#[test]
fn counts_of_arrivals_out_of_range_are_caught() {
    use TrapKind::*;
    bug("no arrival expected", &init(0), 32, Mbarrier, "mbarrier.init");
    bug("2^20 arrivals expected", &init(1 << 20), 32, Mbarrier, "mbarrier.init");
    fine("2^20 - 1 arrivals expected", &init((1 << 20) - 1), 32);
    let two = "@%p0 mbarrier.arrive.shared::cta.b64 _, [%r1], 2;\n";
    bug("two arrivals of one", &format!("{}{two}", init(1)), 32, Mbarrier, "mbarrier.arrive");
    fine("two arrivals of two", &format!("{}{two}", init(2)), 32);
    let all = "mbarrier.arrive.shared::cta.b64 _, [%r1];\n";
    // The bytes hold the phase, so that the second lane is one too many.
    let held = format!("{}@%p0 mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r1], 16;\n{all}", init(1));
    bug("32 arrivals of one", &held, 32, Mbarrier, "mbarrier.arrive");
    let quiet = "@%p0 mbarrier.arrive.noComplete.shared::cta.b64 %rd5, [%r1], 1;\n";
    bug("noComplete that completes", &format!("{}{quiet}", init(1)), 32, Mbarrier, "mbarrier.arrive.noComplete");
    fine("noComplete that does not", &format!("{}{quiet}", init(2)), 32);
}

#[test]
fn counts_of_bytes_that_do_not_add_up_are_caught() {
    use TrapKind::*;
    let more = |bytes: u32| format!("@%p0 mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r1], {bytes};\n");
    let overflow = format!("{}{}{}", init(1), more((1 << 20) - 1), more(1));
    bug("2^20 bytes expected", &overflow, 32, Mbarrier, "mbarrier.expect_tx");
    let copy = format!("{}{}{COPY}{WAIT}", init(1), expect(16));
    fine("16 bytes expected and copied", &copy, 32);
    // Nobody waits, so that nothing but the end finds it.
    let missing = format!("{}{}", init(1), expect(16));
    bug("bytes expected that never come", &missing, 32, Mbarrier, "");
    let unexpected = format!("{}{COPY}", init(1));
    bug("bytes that nobody expected", &unexpected, 32, Mbarrier, "");
    let trap = bug(
        "32 bytes expected, 16 copied",
        &copy.replace("%r1], 16;\n@%p0 cp", "%r1], 32;\n@%p0 cp"),
        32,
        Deadlock,
        "mbarrier.try_wait",
    );
    assert!(trap.message.contains("16") && trap.message.contains("byte"), "{trap}");
}

#[test]
fn phases_and_orders_of_waits_that_are_wrong_are_caught() {
    use TrapKind::*;
    let arrive = "mbarrier.arrive.shared::cta.b64 %rd5, [%r1];\n";
    let later = "mbarrier.arrive.shared::cta.b64 _, [%r1];\n";
    let test = "mbarrier.test_wait.shared::cta.b64 %p1, [%r1], %rd5;";
    fine("wait for the phase before", &format!("{}{arrive}{later}{test}", init(32)).replace(later, ""), 32);
    let old = format!("{}{arrive}{later}{test}", init(32));
    bug("wait for a phase two behind", &old, 32, Mbarrier, "mbarrier.test_wait");

    // The first warp writes and arrives, the second waits and reads.
    let write = "shl.b32 %r3, %r0, 2;\nadd.u32 %r3, %r3, %r2;\n@%p9 st.shared.u32 [%r3], %r0;\n";
    let exchange = |release: &str, acquire: &str| {
        format!(
            "{}{write}@!%p9 bra READ;\nmbarrier.arrive{release}.shared::cta.b64 _, [%r1];\nbra OUT;\nREAD:\n\
             mbarrier.try_wait.parity{acquire}.shared::cta.b64 %p1, [%r1], 0;\n@!%p1 bra READ;\n\
             ld.shared.u32 %r4, [%r3+-128];\nOUT:",
            init(32)
        )
    };
    fine("release and acquire", &exchange("", ""), 64);
    fine("release and acquire, spelled out", &exchange(".release.cta", ".acquire.cta"), 64);
    bug("relaxed arrival", &exchange(".relaxed.cta", ""), 64, SharedRace, "ld.shared");
    bug("relaxed wait", &exchange("", ".relaxed.cta"), 64, SharedRace, "ld.shared");
    // The second warp writes; the first is ahead of it, and tests once.
    let early = exchange("", "").replace("@!%p1 bra READ;\n", "").replace("try_wait", "test_wait");
    let early = early.replace("@%p9 st", "@!%p9st").replace("@!%p9 bra", "@%p9 bra").replace("@!%p9st", "@!%p9 st");
    bug("a wait that was false", &early.replace("[%r3+-128]", "[%r3+128]"), 64, Uninitialised, "ld.shared");
    // One lane arrives for the warp, whose other lanes have written with nothing in between.
    let one =
        exchange("", "").replace("mbarrier.arrive", "@%p0 mbarrier.arrive").replace("b64 [%r1], 32", "b64 [%r1], 1");
    bug("one lane's arrival for its warp", &one, 64, SharedRace, "ld.shared");
    fine("the same after a warp's barrier", &one.replace("@!%p9 bra READ;", "@!%p9 bra READ;\nbar.warp.sync -1;"), 64);
    // The reader's turn to hand the tile back is missing.
    let again = exchange("", "").replace("\nOUT:", "\nbra END;\nOUT:\nst.shared.u32 [%r3], 7;\nEND:");
    let trap = {
        let ptx = module("", &again);
        hand(&ptx, 1, 64).expect_err("nothing was found")
    };
    assert_eq!(trap.kind, SharedRace, "{trap}");
}

#[test]
fn deadlocks_name_every_waiting_warp_and_its_mbarrier() {
    let body = format!(
        "{}{}@%p9 bra FIRST;\nbar.sync 1, 64;\nbra OUT;\nFIRST:\n{WAIT}bar.sync 1, 64;\nOUT:",
        init(3),
        expect(48)
    );
    let trap = bug("arrivals and bytes missing", &body, 64, TrapKind::Deadlock, "");
    for word in ["warp 0", "warp 1", "barrier 1", "0x4000", "phase 0", "2", "48"] {
        assert!(trap.message.contains(word), "`{word}` is missing: {trap}");
    }
}
