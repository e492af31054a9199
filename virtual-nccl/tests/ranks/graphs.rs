//! Collectives that are captured, and replayed with new values.

use std::ptr::null_mut;

use cudarc::driver::sys;

use super::nccl::Type;
use super::world::*;

const COUNT: usize = 33;

/// A graph of two collectives: the sums, of which each rank then gathers everyone's.
fn replays(world: &World) {
    let comm = world.comm(world.ranks.is_multiple_of(2));
    let (a, sum, all) = (world.room::<f32>(COUNT), world.room::<f32>(COUNT), world.room::<f32>(world.ranks * COUNT));
    let graph = world.capture(|| {
        world.all_reduce::<f32>(comm, a, sum, COUNT);
        world.all_reduce::<f32>(comm, sum, sum, COUNT);
        world.all_gather::<f32>(comm, sum, all, COUNT);
    });
    let ranks = world.ranks as f32;
    for replay in 0..5 {
        let own: Vec<f32> = (0..COUNT).map(|i| (i + replay * 10 + world.rank) as f32).collect();
        world.write(a, &own);
        world.launch(graph);
        // Eager ones count in the same sequence.
        if replay % 2 == 1 {
            world.all_reduce::<f32>(comm, a, a, 1);
        }
        world.wait();
        let expected = |i: usize| ranks * (0..world.ranks).map(|rank| (i + replay * 10 + rank) as f32).sum::<f32>();
        let expected: Vec<f32> = (0..COUNT).map(expected).collect();
        assert_eq!(world.read::<f32>(sum, COUNT), expected);
        assert_eq!(world.read::<f32>(all, world.ranks * COUNT), expected.repeat(world.ranks));
    }
    // Without a wait in between.
    world.write(a, &[1.0f32; COUNT]);
    let doubling = world.capture(|| world.all_reduce::<f32>(comm, a, a, COUNT));
    (0..4).for_each(|_| world.launch(doubling));
    world.wait();
    assert_eq!(world.read::<f32>(a, COUNT), [ranks.powi(4); COUNT]);
    for graph in [graph, doubling] {
        ok(unsafe { sys::cuGraphExecDestroy(graph) });
    }
    world.destroy(comm);
}

#[test]
fn one_rank() {
    run(1, &[], |world| replays(world));
}

#[test]
fn two_ranks() {
    run(2, &[], |world| replays(world));
}

#[test]
fn three_ranks() {
    run(3, &[("VIRTUAL_NCCL_DELAY", "4")], |world| replays(world));
}

#[test]
fn four_ranks() {
    run(4, &[], |world| replays(world));
}

#[test]
fn eight_ranks() {
    run(8, &[], |world| replays(world));
}

#[test]
fn a_stream_of_its_own_joined_by_events() {
    run(2, &[("VIRTUAL_NCCL_DELAY", "10")], |world| {
        let comm = world.comm(true);
        let (mut compute, mut forked, mut joined) = (null_mut(), null_mut(), null_mut());
        unsafe {
            ok(sys::cuStreamCreate(&mut compute, 1));
            ok(sys::cuEventCreate(&mut forked, 2));
            ok(sys::cuEventCreate(&mut joined, 2));
        }
        let (a, b, c) = (world.room::<u32>(8), world.room::<u32>(8), world.room::<u32>(8));
        // The collective is on the world's stream, between work of another. Work that needs no result goes on beside it.
        let enqueue = |value: u32| unsafe {
            ok(sys::cuMemsetD32Async(a, value + world.rank as u32, 8, compute));
            ok(sys::cuEventRecord(forked, compute));
            ok(sys::cuStreamWaitEvent(world.stream.cast(), forked, 0));
            world.all_reduce::<u32>(comm, a, a, 8);
            ok(sys::cuEventRecord(joined, world.stream.cast()));
            ok(sys::cuMemsetD32Async(c, 5, 8, compute));
            ok(sys::cuStreamWaitEvent(compute, joined, 0));
            ok(sys::cuMemcpyDtoDAsync_v2(b, a, 32, compute));
        };
        for value in [10, 20, 30] {
            enqueue(value);
            ok(unsafe { sys::cuStreamSynchronize(compute) });
            assert_eq!(world.read::<u32>(b, 8), [2 * value + 1; 8]);
        }
        let (mut graph, mut exec): (sys::CUgraph, sys::CUgraphExec) = (null_mut(), null_mut());
        unsafe {
            let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            ok(sys::cuStreamBeginCapture_v2(compute, mode));
            enqueue(40);
            ok(sys::cuStreamEndCapture(compute, &mut graph));
            ok(sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0));
        }
        for _ in 0..3 {
            world.write(b, &[0u32; 8]);
            ok(unsafe { sys::cuGraphLaunch(exec, compute) });
            ok(unsafe { sys::cuStreamSynchronize(compute) });
            assert_eq!(world.read::<u32>(b, 8), [81; 8]);
        }
        ok(unsafe { sys::cuGraphExecDestroy(exec) });
        world.destroy(comm);
    });
}

#[test]
fn a_captured_group_of_a_non_blocking_communicator() {
    run(2, &[], |world| {
        let comm = world.comm(false);
        let a = world.upload(&[1.0f32; 4]);
        let graph = world.capture(|| unsafe {
            world.ok((world.nccl.ncclGroupStart)());
            for _ in 0..2 {
                world.ok((world.nccl.ncclAllReduce)(a, a, 4, f32::NUMBER, 0, comm, world.stream));
            }
            world.settle(comm, (world.nccl.ncclGroupEnd)());
        });
        world.launch(graph);
        world.wait();
        assert_eq!(world.read::<f32>(a, 4), [4.0; 4]);
        ok(unsafe { sys::cuGraphExecDestroy(graph) });
        world.destroy(comm);
    });
}

#[test]
fn a_replay_after_the_communicator_leaves_the_output_untouched() {
    run(2, &[], |world| {
        for abort in [false, true] {
            let comm = world.comm(!abort);
            let (a, b) = (world.upload(&[1.0f32; 4]), world.upload(&[7.0f32; 4]));
            let graph = world.capture(|| world.all_reduce::<f32>(comm, a, b, 4));
            world.launch(graph);
            world.wait();
            assert_eq!(world.read::<f32>(b, 4), [2.0; 4]);
            world.meet(if abort { "abort" } else { "destroy" });
            world.ok(unsafe {
                if abort { (world.nccl.ncclCommAbort)(comm) } else { (world.nccl.ncclCommDestroy)(comm) }
            });
            world.write(b, &[9.0f32; 4]);
            world.launch(graph);
            world.wait();
            assert_eq!(world.read::<f32>(b, 4), [9.0; 4]);
        }
    });
}
