//! Hopper's kernels with one planted bug each: every bug must be caught by its own check at its own instruction. The kernels
//! of `tests/kernels/hopper` run without a bug in `tests/hopper`; a hand-written body has a correct twin beside it.

mod bulk;
mod correct;
mod grid;
mod mbarrier;
mod pipeline;
mod registers;
mod stream;
mod tensor;
mod wgmma;

#[path = "../common/mod.rs"]
mod common;

use common::machine::*;
use common::tensor::{Kind, Tensor};
use common::{Args, Rng};
use virtual_gpu::machine::{Config, Counts, Machine, Trap, TrapKind};

type Outcome = Result<Counts, Trap>;

fn hopper() -> Machine {
    let config = Config { compute_capability: (9, 0), count: true, ..Config::default() };
    Machine::new(config).instruction_limit(10_000_000)
}

/// The numbers of the lines of a kernel that contain `needle`.
fn found(ptx: &str, entry: &str, needle: &str) -> Vec<usize> {
    let mut inside = false;
    let mut all = Vec::new();
    for (i, line) in ptx.lines().enumerate() {
        if line.contains(".entry ") {
            inside = line.contains(&format!(".entry {entry}("));
        }
        if inside && line.contains(needle) {
            all.push(i);
        }
    }
    all
}

/// `ptx` with another text for the `n`th line (from 0) of a kernel that contains `needle`.
#[track_caller]
fn instead(ptx: &str, entry: &str, needle: &str, n: usize, text: &str) -> String {
    let at = *found(ptx, entry, needle).get(n).expect("the line");
    let lines: Vec<&str> = ptx.lines().enumerate().map(|(i, line)| if i == at { text } else { line }).collect();
    lines.join("\n")
}

/// `ptx` without the `n`th line (from 0) of a kernel that contains `needle`.
#[track_caller]
fn without(ptx: &str, entry: &str, needle: &str, n: usize) -> String {
    instead(ptx, entry, needle, n, "")
}

/// `ptx` with another text for a part of the `n`th line (from 0) of a kernel that contains it.
#[track_caller]
fn changed(ptx: &str, entry: &str, part: &str, n: usize, text: &str) -> String {
    let at = *found(ptx, entry, part).get(n).expect("the line");
    instead(ptx, entry, part, n, &ptx.lines().nth(at).expect("it is there").replace(part, text))
}

/// Checks that the launch trapped with this kind, at a line that contains `needle`.
#[track_caller]
fn trapped(name: &str, ptx: &str, outcome: Outcome, kind: TrapKind, needle: &str) -> Trap {
    let Err(trap) = outcome else { panic!("{name}: nothing was found") };
    let line = ptx.lines().nth(trap.ptx_line.wrapping_sub(1)).unwrap_or_default();
    assert!(trap.kind == kind && line.contains(needle), "{name}: {trap}\nat: {line}");
    trap
}

#[track_caller]
fn passes(name: &str, outcome: Outcome) {
    if let Err(trap) = outcome {
        panic!("{name}: {trap}");
    }
}

/// A module with one kernel `k` of a tensor map and a pointer. Its body may use the registers declared here: `%rd0` holds the
/// pointer, `%rd20` the map's address, `%r0` the thread, `%r1` the address of four words for mbarriers, and `%r2` that of a
/// tile. `%p0` is true for thread 0, `%p9` for the first warp.
fn module(bounds: &str, body: &str) -> String {
    format!(
        ".version 8.6\n.target sm_90a\n.address_size 64\n\
         .visible .entry k(.param .align 128 .b8 map[128], .param .u64 out) {bounds}\n{{\n\
         .reg .pred %p<12>;\n.reg .b16 %rs<4>;\n.reg .b32 %r<32>;\n.reg .b64 %rd<24>;\n.reg .f32 %f<64>;\n\
         .shared .align 1024 .b8 tile[16384];\n.shared .align 8 .b64 bar[4];\n\
         ld.param.u64 %rd0, [out];\nmov.b64 %rd20, map;\ncvta.param.u64 %rd20, %rd20;\nmov.u32 %r0, %tid.x;\n\
         mov.u32 %r1, bar;\nmov.u32 %r2, tile;\nsetp.eq.u32 %p0, %r0, 0;\nsetp.lt.u32 %p9, %r0, 32;\n{body}\nret;\n}}\n"
    )
}

/// Runs a module's kernel `k`. The pointer is to 4096 bytes that hold ones; the map is of 64 x 64 bf16 numbers, in boxes of 8
/// rows with a swizzle of 128 bytes.
fn hand(ptx: &str, blocks: u32, threads: u32) -> Outcome {
    let machine = hopper();
    let numbers = upload(&machine, &[0x3f80u16; 64 * 64]);
    let tensor = Tensor::tiled(Kind::Bf16, numbers, &[64, 64], &[64, 8]).swizzled(128);
    hand_with(&machine, ptx, &tensor.on(&machine), blocks, threads)
}

fn hand_with(machine: &Machine, ptx: &str, map: &[u8; 128], blocks: u32, threads: u32) -> Outcome {
    let module = machine.load(ptx).unwrap_or_else(|error| panic!("{error}\n{ptx}"));
    let out = upload(machine, &[1u32; 1024]);
    run(machine, &module, "k", [blocks, 1, 1], [threads, 1, 1], 0, Args::default().map(map).ptr(out))
}

#[track_caller]
fn bug(name: &str, body: &str, threads: u32, kind: TrapKind, needle: &str) -> Trap {
    let ptx = module("", body);
    trapped(name, &ptx, hand(&ptx, 1, threads), kind, needle)
}

#[track_caller]
fn fine(name: &str, body: &str, threads: u32) {
    passes(name, hand(&module("", body), 1, threads));
}

/// Thread 0 initialises the first mbarrier.
fn init(count: u32) -> String {
    format!("@%p0 mbarrier.init.shared::cta.b64 [%r1], {count};\nbar.sync 0;\n")
}

/// Thread 0 arrives and expects bytes.
fn expect(bytes: u32) -> String {
    format!("@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], {bytes};\n")
}

/// Thread 0 copies 16 bytes to the tile.
const COPY: &str = "@%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd0], 16, [%r1];\n";

/// Thread 0 copies the map's first box to the tile.
const BOX: &str = "mov.u32 %r20, 0; mov.u32 %r21, 0;\n\
    @%p0 cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd20, {%r20, %r21}], [%r1];\n";

/// All wait for the first phase.
const WAIT: &str = "WAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1], 0;\n@!%p1 bra WAIT;\n";
