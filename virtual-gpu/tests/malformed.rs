//! No text may make the parser, the decoder or the executor panic. A randomly damaged module is refused or loads; a
//! loaded one runs to its end or traps.

mod common;

use common::machine::*;
use common::tensor::{Kind, Tensor};
use common::*;
use virtual_gpu::machine::{Config, Launch, Machine, TrapKind};

const MODULES: [&str; 8] = [
    include_str!("kernels/functions.ptx"),
    include_str!("kernels/convolution.ptx"),
    include_str!("kernels/vector_add.ptx"),
    include_str!("kernels/reduce.ptx"),
    include_str!("kernels/histogram.ptx"),
    include_str!("kernels/maxpool.ptx"),
    include_str!("kernels/philox.ptx"),
    include_str!("kernels/mma.ptx"),
];

const HOPPER: [&str; 7] = [
    include_str!("kernels/hopper/bulk.ptx"),
    include_str!("kernels/hopper/convolution.ptx"),
    include_str!("kernels/hopper/dependent.ptx"),
    include_str!("kernels/hopper/gemm.ptx"),
    include_str!("kernels/hopper/gradient.ptx"),
    include_str!("kernels/hopper/persistent.ptx"),
    include_str!("kernels/hopper/stream.ptx"),
];

/// The tokens that damage inserts.
const PIECES: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "<",
    ">",
    ";",
    ",",
    ":",
    "|",
    "!",
    "@",
    "-",
    "+",
    "\"",
    "/*",
    "0",
    "1",
    "-1",
    "4294967295",
    "18446744073709551615",
    "99999999999999999999",
    "0f00000000",
    "0d7ff0000000000000",
    "0x",
    "%r1",
    "%rd1",
    "%p1",
    "%f1",
    "%tid.x",
    "_",
    ".reg",
    ".b32",
    ".v4",
    "bar.sync",
    "bra",
    "\u{e9}",
    "\0",
];

fn damage(text: &str, rng: &mut Rng) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..=rng.below(4) {
        let at = rng.below(lines.len());
        let other = lines[rng.below(lines.len())].clone();
        match rng.below(7) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, other),
            2 => lines[at] = other,
            3 => {
                let cut = lines[at].char_indices().map(|(i, _)| i).nth(rng.below(lines[at].len().max(1))).unwrap_or(0);
                lines[at].truncate(cut);
            }
            4 => {
                let cut = lines[at].char_indices().map(|(i, _)| i).nth(rng.below(lines[at].len().max(1))).unwrap_or(0);
                lines[at].insert_str(cut, PIECES[rng.below(PIECES.len())]);
            }
            // Replaces a word by one of another line; the last case replaces it by a piece.
            5 => {
                let words: Vec<&str> = lines[at].split_whitespace().collect();
                let donors: Vec<&str> = other.split_whitespace().collect();
                if !words.is_empty() && !donors.is_empty() {
                    let (from, to) = (words[rng.below(words.len())].to_owned(), donors[rng.below(donors.len())]);
                    lines[at] = lines[at].replacen(&from, to, 1);
                }
            }
            _ => {
                let words: Vec<&str> = lines[at].split_whitespace().collect();
                if !words.is_empty() {
                    let from = words[rng.below(words.len())].to_owned();
                    lines[at] = lines[at].replacen(&from, PIECES[rng.below(PIECES.len())], 1);
                }
            }
        }
    }
    lines.join("\n")
}

#[test]
fn damaged_modules_never_panic() {
    never_panic(&MODULES, (8, 0), 3000);
}

#[test]
fn damaged_modules_of_hopper_never_panic() {
    never_panic(&HOPPER, (9, 0), 1500);
}

fn never_panic(modules: &[&str], compute_capability: (u32, u32), rounds: usize) {
    let rounds = std::env::var("VIRTUAL_GPU_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(rounds);
    let hopper = compute_capability == (9, 0);
    let mut rng = Rng(99);
    let (mut loaded, mut ran) = (0, 0);
    for round in 0..rounds {
        let text = damage(modules[round % modules.len()], &mut rng);
        let machine = Machine::new(Config {
            checks: round % 3 != 0,
            count: true,
            memory: 1 << 24,
            compute_capability,
            ..Config::default()
        })
        .instruction_limit(20_000);
        let Ok(module) = machine.load(&text) else { continue };
        loaded += 1;
        let buffers: Vec<u64> = (0..3).map(|_| upload(&machine, &vec![1u32; 2048])).collect();
        let map = Tensor::tiled(Kind::Bf16, buffers[0], &[64, 64], &[64, 64]).swizzled(128).on(&machine);
        for name in module.kernels() {
            let kernel = module.kernel(name).expect("it is listed");
            let mut params = Vec::new();
            for (i, param) in kernel.params().iter().enumerate() {
                params.resize(param.offset.min(4096), 0);
                if param.size == map.len() {
                    params.extend(map);
                    continue;
                }
                let value = if param.size == 8 { buffers[i % 3] } else { 64 };
                params.extend(&value.to_le_bytes()[..param.size.min(8)]);
            }
            params.resize(kernel.param_bytes().min(1 << 20), 0);
            // Hopper's kernels are of one, of five and of twelve warps, and have large stages.
            let threads = if hopper { [128, 160, 384][round % 3] } else { 1 + rng.below(96) as u32 };
            let dynamic_shared = if hopper { 140_000 } else { rng.below(600) };
            let launch = Launch { grid: [2, 1, 1], block: [threads, 1, 1], dynamic_shared };
            ran += usize::from(machine.launch(&kernel, &launch, &params).is_ok());
        }
    }
    // The damage is small enough that some modules load and run.
    assert!(loaded > rounds / 20 && ran > 0, "{loaded} loaded, {ran} ran");
}

#[test]
fn load_errors_name_the_unsupported_form_and_its_line() {
    let machine = machine();
    let refused = |body: &str| {
        let text = kernel(body);
        let error = machine.load(&text).err().unwrap_or_else(|| panic!("{body} loads"));
        let line = text.lines().nth(error.line - 1).unwrap_or_default();
        assert!(line.contains(body.split_whitespace().next().unwrap_or_default()), "{error}: {line}");
        error.to_string()
    };
    assert!(refused("frobnicate.s32 %r1, %r2;").contains("frobnicate.s32"));
    assert!(refused("add.s32.wild %r1, %r2, %r3;").contains("wild"));
    assert!(refused("add.sat.u32 %r1, %r2, %r3;").contains("add.sat.u32"));
    assert!(refused("shfl.down.b32 %r1, %r2, %r3, 31;").contains("shfl.down"));
    assert!(refused("wgmma.fence.sync.aligned;").contains("wgmma"));
    assert!(refused("add.s32 %r1, %r2;").contains("operands"));
    assert!(refused("add.s32 %r1, %r2, %nothing;").contains("%nothing"));
    assert!(refused("add.s32 %r1, %rd2, %r3;").contains("bits"));
    assert!(refused("add.s32 %r1, %r2, %r32;").contains("%r32"));
    assert!(refused("mov.b128 _, %tid.x;").contains("mov.b128"));
    assert!(refused("mov.u8 _, %tid.x;").contains("mov.u8"));
    assert!(refused("bra NOWHERE;").contains("NOWHERE"));
    assert!(refused("mov.u32 %r1, %tid.w;").contains("%tid.w"));
    assert!(refused("call vprintf;").contains("vprintf"));
    assert!(machine.load("").is_err());
    assert!(machine.load(&kernel("").replace(".u64 out", ".b8 out[40000]")).is_err());
    let module = machine.load(&kernel("")).unwrap_or_else(|error| panic!("{error}"));
    let huge = run(&machine, &module, "k", [1, 1, 1], [u32::MAX; 3], 0, Args::default().ptr(0));
    assert!(huge.is_err_and(|trap| trap.kind == TrapKind::InvalidLaunch));
    let newer = kernel("").replace("sm_80", "sm_90");
    assert!(machine.load(&newer).is_err());
    // Targets of one architecture (`a`) or one family (`f`).
    for (target, loads) in [("sm_75", true), ("sm_75a", false), ("sm_80a", true), ("sm_75f", false), ("sm_80f", true)] {
        assert_eq!(machine.load(&kernel("").replace("sm_80", target)).is_ok(), loads, "{target}");
    }
}

/// A chain of calls would take the host's stack, and functions that call each other twice its time.
#[test]
fn calls_are_inlined_within_limits() {
    let refused = |functions: usize, body: fn(usize) -> String| {
        let chain = (0..functions).map(|i| format!(".func f{i}() {{ {} ret; }}\n", body(i + 1)));
        let text = header("sm_80") + &chain.collect::<String>() + &format!(".func f{functions}() {{ ret; }}\n");
        machine().load(&(text + &entry("k", ".param .u64 out", "call f0;"))).err().map(|error| error.message)
    };
    assert_eq!(refused(60, |next| format!("call f{next};")), None);
    let error = refused(20_000, |next| format!("call f{next};")).expect("too deep");
    assert!(error.contains("more than 64 calls are nested"), "{error}");
    // Calls that double: the limit is the module's, so that many functions do not each use it up.
    let twice = |next| format!("call f{next}; call f{next};");
    assert_eq!(refused(15, twice), None);
    for functions in [16, 40] {
        let error = refused(functions, twice).expect("too many");
        assert!(error.contains("inline more than 1048576 statements"), "{error}");
    }
}
