//! Behaviour that the manual leaves to the hardware or only describes: threads that return before a barrier,
//! reconvergence, shared variables of functions, subnormal numbers in atomics.

mod common;

use common::machine::*;
use common::*;
use virtual_gpu::machine::{Config, Machine, TrapKind};

/// Without checks, a barrier waits only for threads that have not returned, for every shape of the branch. With checks
/// it traps.
#[test]
fn returned_threads_are_not_waited_for_without_checks() {
    let store = "st.shared.u32 [%r2], %r0;\nbar.sync 0;\nld.shared.u32 %r3, [tile];\nst.global.u32 [%rd1], %r3;";
    let address = "shl.b32 %r1, %r0, 2;\nmov.u32 %r2, tile;\nadd.s32 %r2, %r2, %r1;\ncvt.u64.u32 %rd1, %r1;\n\
                   add.s64 %rd1, %rd0, %rd1;\nsetp.gt.u32 %p1, %r0, 40;";
    let bodies = [
        format!("@%p1 ret;\n{store}"),
        format!("@!%p1 bra STAY;\nret;\nSTAY:\n{store}"),
        format!("@!%p1 bra STAY;\nst.global.u32 [%rd1], 99;\nret;\nSTAY:\n{store}"),
        format!("@%p1 bra LEAVE;\n{store}\nret;\nLEAVE:\nst.global.u32 [%rd1], 99;"),
        format!("@!%p1 bra STAY;\nst.global.u32 [%rd1], 99;\nbra OUT;\nSTAY:\n{store}\nOUT:"),
    ];
    for (i, body) in bodies.iter().enumerate() {
        let ptx = kernel(&format!("{address}\n{body}"));
        for checks in [true, false] {
            let machine = Machine::new(Config { checks, ..Config::default() });
            let module = machine.load(&ptx).unwrap_or_else(|error| panic!("{error}\n{ptx}"));
            let out = upload(&machine, &[1u32; 256]);
            let outcome = run(&machine, &module, "k", [1, 1, 1], [96, 1, 1], 0, Args::default().ptr(out));
            // In the last body the returning threads wait behind the barrier, so it is partial with and without checks.
            if checks || i == 4 {
                assert!(outcome.is_err_and(|trap| trap.kind == TrapKind::PartialBarrier), "{body}");
                continue;
            }
            assert!(outcome.is_ok(), "{body}: {outcome:?}");
            let found: Vec<u32> = download(&machine, out, 96);
            let left = if i < 2 { 1 } else { 99 };
            assert!(found.iter().enumerate().all(|(t, v)| *v == if t <= 40 { 0 } else { left }), "{body}: {found:?}");
        }
    }
}

/// A return that no lane takes does not keep lanes apart: both sides of the branch reconverge at the shuffle.
#[test]
fn lanes_reconverge_despite_a_return_that_no_lane_takes() {
    let body = "and.b32 %r1, %r0, 1;\nsetp.eq.u32 %p1, %r1, 0;\nsetp.gt.u32 %p2, %r0, 1000;\n@%p1 bra EVEN;\n\
                add.u32 %r2, %r0, 100;\nbra JOIN;\n\
                EVEN:\n@%p2 bra BAD;\nadd.u32 %r2, %r0, 200;\n\
                JOIN:\nshfl.sync.bfly.b32 %r3, %r2, 1, 31, -1;\nshl.b32 %r4, %r0, 2;\nmov.u32 %r5, tile;\n\
                add.u32 %r5, %r5, %r4;\nst.shared.u32 [%r5], %r3;\nbar.sync 0;\nxor.b32 %r5, %r5, 128;\n\
                ld.shared.u32 %r6, [%r5];\ncvt.u64.u32 %rd1, %r4;\nadd.s64 %rd1, %rd0, %rd1;\n\
                st.global.u32 [%rd1], %r6;\nbra LAST;\n\
                BAD:\nst.global.u32 [%rd0], 7;\nLAST:";
    let ptx = kernel(body);
    let machine = machine();
    let module = machine.load(&ptx).unwrap_or_else(|error| panic!("{error}\n{ptx}"));
    let out = upload(&machine, &[0u32; 64]);
    let outcome = run(&machine, &module, "k", [1, 1, 1], [64, 1, 1], 0, Args::default().ptr(out));
    assert!(outcome.is_ok(), "{outcome:?}");
    let found: Vec<u32> = download(&machine, out, 64);
    let expected = |t: u32| (t ^ 33) + if t & 1 == 0 { 100 } else { 200 };
    assert!(found.iter().zip(0..).all(|(v, t)| *v == expected(t)), "{found:?}");
}

/// A function's shared variable is allocated once for all calls, before the array that the launch sizes. A module's
/// shared variable that a kernel does not name takes no space in it.
#[test]
fn a_functions_shared_variable_is_allocated_once() {
    let ptx = ".version 9.0\n.target sm_80\n.address_size 64\n.extern .shared .align 4 .b8 rest[];\n\
               .shared .align 4 .b8 unused[40000];\n.shared .align 4 .b8 common[8];\n\
               .func (.param .b32 before) step(.param .b32 add)\n{\n.shared .align 4 .b32 total;\n.reg .b32 %r<4>;\n\
               ld.param.u32 %r0, [add];\natom.shared.add.u32 %r1, [total], %r0;\nst.shared.u32 [common], %r1;\n\
               st.param.b32 [before], %r1;\nret;\n}\n\
               .visible .entry k(.param .u64 out)\n{\n.reg .b32 %r<8>;\n.reg .b64 %rd<2>;\n.reg .pred %p<2>;\n\
               ld.param.u64 %rd0, [out];\nst.shared.u32 [rest], 77;\nst.shared.u32 [rest+4], 78;\n\
               { .param .b32 add; .param .b32 before; st.param.b32 [add], 5;\n\
               call (before), step, (add);\nld.param.b32 %r1, [before]; }\n\
               { .param .b32 add; .param .b32 before; st.param.b32 [add], 6;\n\
               call (before), step, (add);\nld.param.b32 %r2, [before]; }\n\
               ld.shared.u32 %r3, [rest];\nld.shared.u32 %r4, [common];\n\
               st.global.v4.u32 [%rd0], {%r1, %r2, %r3, %r4};\nret;\n}\n\
               .visible .entry alone()\n{\nret;\n}\n";
    // No checks: shared memory counts as unwritten at first, and `step` adds to it.
    let machine = Machine::new(Config { checks: false, ..Config::default() });
    let module = machine.load(ptx).unwrap_or_else(|error| panic!("{error}"));
    let size = |name| module.kernel(name).map(|kernel| kernel.static_shared());
    assert_eq!((size("k"), size("alone")), (Some(12), Some(0)));
    let out = upload(&machine, &[9u32; 4]);
    let outcome = run(&machine, &module, "k", [1, 1, 1], [1, 1, 1], 8, Args::default().ptr(out));
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(download(&machine, out, 4), [0, 5, 77, 5]);
}

/// An `.f32` atomic addition flushes subnormal numbers on global memory, but not on shared memory. A generic address
/// may point to either.
#[test]
fn f32_atomics_flush_subnormals_on_global_memory_only() {
    let machine = machine();
    let sum = |spelling: &str| {
        let body = format!(
            "st.shared.u32 [tile], 5;\nst.global.u32 [%rd0], 5;\nmov.u64 %rd2, tile;\ncvta.shared.u64 %rd3, %rd2;\n\
             mov.b32 %f1, 7;\natom.{spelling};\nld.shared.f32 %f3, [tile];\n\
             st.global.f32 [%rd0+4], %f3;"
        );
        let ptx = kernel(&body);
        let module = machine.load(&ptx).unwrap_or_else(|error| panic!("{error}\n{ptx}"));
        let out = upload(&machine, &[0u32; 2]);
        let outcome = run(&machine, &module, "k", [1, 1, 1], [1, 1, 1], 0, Args::default().ptr(out));
        assert!(outcome.is_ok(), "{spelling}: {outcome:?}");
        download(&machine, out, 2)
    };
    assert_eq!(sum("global.add.f32 %f2, [%rd0], %f1"), [0, 5]);
    assert_eq!(sum("add.f32 %f2, [%rd0], %f1"), [0, 5]);
    assert_eq!(sum("shared.add.f32 %f2, [tile], %f1"), [5, 12]);
    assert_eq!(sum("add.f32 %f2, [%rd3], %f1"), [5, 12]);
}
