//! Reads of what the launch before wrote, ahead of `griddepcontrol.wait`: `kernels/hopper/dependent.cu`.

use super::*;
use virtual_gpu::machine::{Launch, Operation, Reach, launch_number};

const PTX: &str = include_str!("../kernels/hopper/dependent.ptx");

/// Runs `first`, then `second` as a programmatic dependent launch or not.
fn pair(ptx: &str, programmatic: bool) -> Outcome {
    let machine = hopper();
    let module = machine.load(ptx).unwrap_or_else(|error| panic!("{error}"));
    let n = 200;
    let [x, bias, y] = [0, 1, 2].map(|_| upload(&machine, &vec![1f32; n]));
    let shape = Launch { grid: [4, 1, 1], block: [64, 1, 1], dynamic_shared: 0 };
    let before = launch_number();
    let [first, second] = ["first", "second"].map(|name| module.kernel(name).expect("the kernel"));
    let reach = Reach::default();
    machine.launch_as(&Operation::numbered(before), &reach, &first, &shape, &Args::default().ptr(x).int(n).0)?;
    let args = Args::default().ptr(x).ptr(bias).ptr(y).int(n);
    let operation = Operation { ahead: programmatic.then_some(before), ..Operation::numbered(launch_number()) };
    machine.launch_as(&operation, &reach, &second, &shape, &args.0)
}

/// One warp waits for the launch before, and a barrier tells the others.
#[test]
fn one_warp_may_wait_for_its_block() {
    let second = |one: &str, barrier: &str| {
        module("", &format!("{one}griddepcontrol.wait;\n{barrier}ld.global.u32 %r3, [%rd0];\n"))
    };
    let first = module("", "@%p0 st.global.u32 [%rd0], 7;\n").replace(", 7;", ", %r0;");
    let run = |second: &str| -> Outcome {
        let machine = hopper();
        let out = upload(&machine, &[1u32; 1024]);
        let numbers = upload(&machine, &[0x3f80u16; 64 * 64]);
        let map = Tensor::tiled(Kind::Bf16, numbers, &[64, 64], &[64, 8]).swizzled(128).on(&machine);
        let args = Args::default().map(&map).ptr(out).0;
        let shape = Launch { grid: [1, 1, 1], block: [64, 1, 1], dynamic_shared: 0 };
        let (before, reach) = (launch_number(), Reach::default());
        let of = |ptx: &str| machine.load(ptx).expect("loads").kernel("k").expect("the kernel");
        machine.launch_as(&Operation::numbered(before), &reach, &of(&first), &shape, &args)?;
        let operation = Operation { ahead: Some(before), ..Operation::numbered(launch_number()) };
        machine.launch_as(&operation, &reach, &of(second), &shape, &args)
    };
    passes("all wait", run(&second("", "")));
    for one in ["@%p9 ", "@%p0 "] {
        passes("one waits, then a barrier", run(&second(one, "bar.sync 0;\n")));
        let alone = second(one, "");
        trapped("one waits", &alone, run(&alone), TrapKind::GridDependency, "ld.global");
    }
}

#[test]
fn reads_ahead_of_the_wait_are_caught() {
    passes("waits", pair(PTX, true));
    let mutant = without(PTX, "second", "griddepcontrol.wait", 0);
    passes("no wait, but an ordinary launch", pair(&mutant, false));
    let trap = trapped("no wait", &mutant, pair(&mutant, true), TrapKind::GridDependency, "ld.global");
    assert!(trap.source.is_some_and(|source| source.starts_with("dependent.cu:")));
    // The wait stands behind the read of `bias` in the source: before the read of `x` is enough, after it is not.
    let read = found(PTX, "second", "ld.global").pop().expect("two reads");
    let lines: Vec<String> = PTX
        .lines()
        .enumerate()
        .map(|(i, line)| match line.trim() {
            "griddepcontrol.wait;" => String::new(),
            _ if i == read => format!("{line} griddepcontrol.wait;"),
            _ => line.to_owned(),
        })
        .collect();
    let mutant = lines.join("\n");
    trapped("wait after the read", &mutant, pair(&mutant, true), TrapKind::GridDependency, "ld.global");
}
