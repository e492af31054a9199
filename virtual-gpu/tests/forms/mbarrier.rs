//! `mbarrier` in all of its spellings: phases, parities, counts of arrivals and of bytes.

use super::*;

/// Initialises the object at the start of `tile`, whose address is in `%r8` and, as a generic one, in `%rd6`. `%p0` is true
/// for lane 0.
fn object(count: u32, body: &str) -> String {
    format!(
        "mov.u32 %r8, tile; cvt.u64.u32 %rd5, %r8; cvta.shared.u64 %rd6, %rd5; setp.eq.u32 %p0, %r0, 0;\n\
         @%p0 mbarrier.init.shared::cta.b64 [%r8], {count};\nbar.sync 0;\n{body}"
    )
}

/// Whether the phase of each parity has completed, as the bits of `%r1`: parity 0 is the lower.
const PARITIES: &str = "bar.sync 0;\nmbarrier.test_wait.parity.shared::cta.b64 %p1, [%r8], 0;\n\
    mbarrier.test_wait.parity.shared::cta.b64 %p2, [%r8], 1;\n\
    selp.u32 %r5, 1, 0, %p1; selp.u32 %r6, 2, 0, %p2; or.b32 %r1, %r5, %r6;";

const FIRST_RUNS: u64 = 2;
const FIRST_COMPLETE: u64 = 1;

fn phases(table: &[(u32, &str, u64)]) -> Vec<Form> {
    let one = |(count, body, wanted): &(u32, &str, u64)| {
        form(object(*count, &format!("{body}\n{PARITIES}")), R32, [0; 3], Wanted::Every(*wanted))
    };
    table.iter().map(one).collect()
}

pub fn objects() -> Vec<Form> {
    let mut forms = phases(&[
        (1, "", FIRST_RUNS),
        (1048575, "", FIRST_RUNS),
        (2, "@%p0 mbarrier.arrive.shared::cta.b64 %rd5, [%r8];", FIRST_RUNS),
        (32, "mbarrier.arrive.shared::cta.b64 %rd5, [%r8];", FIRST_COMPLETE),
        (33, "mbarrier.arrive.shared::cta.b64 %rd5, [%r8];", FIRST_RUNS),
        // Two phases: the second one has parity 1.
        (32, "mbarrier.arrive.shared::cta.b64 _, [%r8];\nmbarrier.arrive.shared::cta.b64 _, [%r8];", FIRST_RUNS),
        (
            32,
            "mbarrier.arrive.shared::cta.b64 _, [%r8];\nmbarrier.arrive.shared::cta.b64 _, [%r8];\n\
             mbarrier.arrive.shared::cta.b64 _, [%r8];",
            FIRST_COMPLETE,
        ),
        // An object begins anew.
        (
            1,
            "@%p0 mbarrier.arrive.shared::cta.b64 _, [%r8];\n@%p0 mbarrier.inval.shared::cta.b64 [%r8];\n\
             @%p0 mbarrier.init.shared::cta.b64 [%r8], 1;",
            FIRST_RUNS,
        ),
        // A dropped arrival counts for this phase and is not expected in the next.
        (
            3,
            "@%p0 mbarrier.arrive_drop.shared::cta.b64 _, [%r8];\n@%p0 mbarrier.arrive.shared::cta.b64 _, [%r8], 2;",
            FIRST_COMPLETE,
        ),
        (
            3,
            "@%p0 mbarrier.arrive_drop.shared::cta.b64 _, [%r8];\n@%p0 mbarrier.arrive.shared::cta.b64 _, [%r8], 2;\n\
             @%p0 mbarrier.arrive.shared::cta.b64 _, [%r8], 2;",
            FIRST_RUNS,
        ),
        (
            3,
            "@%p0 mbarrier.arrive_drop.release.cta.shared::cta.b64 %rd5, [%r8], 2;\n\
             @%p0 mbarrier.arrive.shared::cta.b64 _, [%r8];\n@%p0 mbarrier.arrive.shared::cta.b64 _, [%r8];",
            FIRST_RUNS,
        ),
        (
            3,
            "@%p0 mbarrier.arrive_drop.noComplete.shared::cta.b64 %rd5, [%r8], 2;\n\
             @%p0 mbarrier.arrive.shared::cta.b64 _, [%r8];",
            FIRST_COMPLETE,
        ),
        // Bytes: a phase is complete when all have arrived and none is expected.
        (1, "@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r8], 0;", FIRST_COMPLETE),
        (
            1,
            "@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 %rd5, [%r8], 64;\n\
             @%p0 mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%r8], 64;",
            FIRST_COMPLETE,
        ),
        (
            1,
            "@%p0 mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r8], 64;\n\
             @%p0 mbarrier.arrive.shared::cta.b64 _, [%r8];\n\
             @%p0 mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%r8], 16;\n\
             @%p0 mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%r8], 48;",
            FIRST_COMPLETE,
        ),
        // Bytes that come before they are expected.
        (
            2,
            "@%p0 mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%r8], 48;\n\
             @%p0 mbarrier.arrive.shared::cta.b64 _, [%r8];\n\
             @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r8], 48;",
            FIRST_COMPLETE,
        ),
    ]);
    // Expected bytes hold a phase although all have arrived; the bytes come afterwards, so that none are owed at the end.
    forms.push(form(
        object(
            1,
            &format!(
                "@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r8], 32;\n{PARITIES}\nbar.sync 0;\n\
                 @%p0 mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%r8], 32;"
            ),
        ),
        R32,
        [0; 3],
        Wanted::Every(FIRST_RUNS),
    ));
    // The number of arrivals that were pending before the one that returned the state.
    let pending = "@%p0 mbarrier.arrive.noComplete.shared::cta.b64 %rd5, [%r8], 2;\n\
        @%p0 mbarrier.arrive.noComplete.shared.b64 %rd7, [%r8], 1;\nmov.u32 %r5, 0; mov.u32 %r6, 0;\n\
        @%p0 mbarrier.pending_count.b64 %r5, %rd5;\n@%p0 mbarrier.pending_count.b64 %r6, %rd7;\n\
        mad.lo.u32 %r1, %r5, 100, %r6;";
    let wanted = |lane: u64| if lane == 0 { 503 } else { 0 };
    forms.push(form(object(5, pending), R32, [0; 3], Wanted::ByLane(Box::new(wanted))));
    forms
}

/// Arrivals by lane 0 of an object that expects one, or two.
pub fn arrivals() -> Vec<Form> {
    let mut forms = Vec::new();
    for (order, address) in [
        ("", "%r8"),
        (".shared", "%r8"),
        (".shared::cta", "%r8"),
        (".shared::cta", "tile"),
        (".release.cta", "%rd6"),
        (".release.cta.shared::cta", "%r8+0"),
        (".release.cluster.shared::cta", "%r8"),
        (".relaxed.cta.shared::cta", "%r8"),
        (".relaxed.cluster.shared::cta", "%r8"),
    ] {
        let address = if order.is_empty() { "%rd6" } else { address };
        for (count, operand) in [(1, ""), (2, ", 2"), (1, ", %r9")] {
            for state in ["%rd7", "_"] {
                let arrive = format!("mov.u32 %r9, 1;\n@%p0 mbarrier.arrive{order}.b64 {state}, [{address}]{operand};");
                forms.extend(phases(&[(count, &arrive, FIRST_COMPLETE)]));
            }
        }
        for name in ["arrive_drop", "arrive.expect_tx"] {
            let arrive = format!("@%p0 mbarrier.{name}{order}.b64 _, [{address}]");
            let text = if name == "arrive_drop" { format!("{arrive};") } else { format!("{arrive}, 0;") };
            // A drop of the only arrival would leave an object that expects none.
            let count = if name == "arrive_drop" { 2 } else { 1 };
            let text = if count == 2 { text + "\n@%p0 mbarrier.arrive.shared.b64 _, [%r8];" } else { text };
            forms.extend(phases(&[(count, &text, FIRST_COMPLETE)]));
        }
    }
    // The address in the cluster of the block's own object.
    let remote = "mapa.shared::cluster.u32 %r9, %r8, 0;\n@%p0 mbarrier.";
    for arrive in [
        "arrive.shared::cluster.b64 _, [%r9];",
        "arrive.release.cluster.shared::cluster.b64 _, [%r9];",
        "arrive.relaxed.cluster.shared::cluster.b64 _, [%r9], 1;",
        "arrive.expect_tx.release.cluster.shared::cluster.b64 _, [%r9], 0;",
    ] {
        forms.extend(phases(&[(1, &format!("{remote}{arrive}"), FIRST_COMPLETE)]));
    }
    forms
}

/// Waits for the phase that all lanes have completed, in a loop as every program has to write it.
pub fn waits() -> Vec<Form> {
    let mut forms = Vec::new();
    let arrived = "mbarrier.arrive.shared::cta.b64 %rd7, [%r8];\nmov.u32 %r9, 0; mov.u32 %r10, 1000;\n";
    for (order, address) in [
        ("", "%rd6"),
        (".shared", "%r8"),
        (".shared::cta", "%r8"),
        (".acquire.cta", "%rd6"),
        (".acquire.cta.shared::cta", "tile"),
        (".acquire.cluster.shared::cta", "%r8"),
        (".relaxed.cta.shared::cta", "%r8"),
        (".relaxed.cluster.shared::cta", "%r8"),
    ] {
        for (name, operands) in [
            ("test_wait", "%rd7"),
            ("test_wait.parity", "0"),
            ("test_wait.parity", "%r9"),
            ("try_wait", "%rd7"),
            ("try_wait", "%rd7, 1000"),
            ("try_wait", "%rd7, %r10"),
            ("try_wait.parity", "0"),
            ("try_wait.parity", "%r9"),
            ("try_wait.parity", "0, 1000"),
            ("try_wait.parity", "%r9, %r10"),
        ] {
            let wait = format!("mbarrier.{name}{order}.b64 %p1, [{address}], {operands};");
            let body = format!("{arrived}AGAIN:\n{wait}\n@!%p1 bra AGAIN;\nmov.u32 %r1, 7;");
            forms.push(form(object(32, &body), R32, [0; 3], Wanted::Every(7)));
            // A phase that is not complete: a test fails at once, a try after its time.
            let wait = wait.replace("%rd7", "%rd5");
            let body = format!(
                "mov.u32 %r9, 0; mov.u32 %r10, 1000;\nmbarrier.arrive.noComplete.shared::cta.b64 %rd5, [%r8], 1;\n{wait}"
            );
            if !order.contains("cluster") {
                forms.push(form(object(100, &body), P, [0; 3], Wanted::Every(0)));
            }
        }
    }
    forms
}

/// `cp.async` that arrives when its copies are done. The copies are of 16 bytes of the inputs.
pub fn of_cp_async() -> Vec<Form> {
    let mut forms = Vec::new();
    let copy = "shl.b32 %r9, %r0, 4; add.u32 %r9, %r9, %r8;\ncp.async.ca.shared.global [%r9+64], [%rd9], 16;\n";
    let read = "AGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 %p1, [%r8], 0;\n@!%p1 bra AGAIN;\n\
        xor.b32 %r10, %r9, 16; ld.shared.u64 %rd1, [%r10+64];";
    for space in ["", ".shared", ".shared::cta"] {
        let address = if space.is_empty() { "%rd6" } else { "%r8" };
        // The address of lane i's copy is a multiple of 32 for even i: the lanes exchange in pairs.
        let noinc = format!("{copy}cp.async.mbarrier.arrive.noinc{space}.b64 [{address}];\n{read}");
        forms.push(form(object(32, &noinc), R64, [0xfeed_f00d, 2, 3], Wanted::Every(0xfeed_f00d)));
        // Without `.noinc` the pending count grows by one first, so that the thread has to arrive as well.
        let inc = format!(
            "{copy}cp.async.mbarrier.arrive{space}.b64 [{address}];\nmbarrier.arrive.shared::cta.b64 _, [%r8];\n{read}"
        );
        forms.push(form(object(32, &inc), R64, [0xfeed_f00d, 2, 3], Wanted::Every(0xfeed_f00d)));
    }
    forms
}
