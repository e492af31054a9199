//! Ranks that die, fail, differ or are slow; and that an abort frees what waits.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::nccl::{INTERNAL_ERROR, INVALID_USAGE, REMOTE_ERROR, SUCCESS};
use super::world::*;

/// How long something is watched that must not happen.
const AWHILE: Duration = Duration::from_millis(100);

/// The collective waits on, and its output is untouched when the communicator is aborted.
fn hangs_until_aborted(world: &World, comm: super::nccl::Comm, output: u64, before: &[f32]) {
    sleep(AWHILE);
    assert!(world.is_waiting());
    world.abort_and_wait(comm);
    assert_eq!(world.read::<f32>(output, before.len()), before);
}

#[test]
fn another_count_is_named_on_all_ranks() {
    run(3, &[("VIRTUAL_NCCL_MISMATCH", "1:2")], |world| {
        let comm = world.comm(true);
        let (a, b) = (world.upload(&[1.0f32; 4]), world.upload(&[5.0f32; 4]));
        for _ in 0..2 {
            world.all_reduce::<f32>(comm, a, a, 4);
        }
        world.all_reduce::<f32>(comm, a, b, 4);
        let text = world.error(comm, INVALID_USAGE);
        let expected = "collective 2: rank 1 differs in count: it has ncclAllReduce of 5 Float32, where rank 0 has \
                        ncclAllReduce of 4 Float32";
        assert_eq!(text, expected);
        hangs_until_aborted(world, comm, b, &[5.0; 4]);
        assert_eq!(world.read::<f32>(a, 4), [9.0; 4], "the collectives before have ended");
    });
}

#[test]
fn another_kind_and_another_type_are_named() {
    run(3, &[], |world| {
        let comm = world.comm(true);
        let a = world.upload(&[5.0f32; 12]);
        match world.rank {
            0 => world.all_gather::<f32>(comm, a, a, 4),
            1 => world.all_reduce::<f32>(comm, a, a, 4),
            _ => world.all_reduce::<u32>(comm, a, a, 4),
        }
        let text = world.error(comm, INVALID_USAGE);
        assert!(
            text.contains("rank 1 differs in kind: it has ncclAllReduce of 4 Float32, where rank 0 has ncclAllGather")
        );
        hangs_until_aborted(world, comm, a, &[5.0; 12]);
    });
}

/// All ranks but the one that dies at its third collective.
fn survives(world: &World) {
    let comm = world.comm(true);
    let (a, b) = (world.upload(&[1.0f32; 4]), world.upload(&[5.0f32; 4]));
    let graph = world.capture(|| world.all_reduce::<f32>(comm, a, b, 4));
    for _ in 0..2 {
        world.launch(graph);
        world.wait();
        assert_eq!(world.read::<f32>(b, 4), [3.0; 4]);
    }
    // The rank that dies may be the hub, which answers the others one after the other.
    world.meet("before");
    world.launch(graph);
    let text = world.error(comm, REMOTE_ERROR);
    assert!(text.contains("the connection"), "{text}");
    hangs_until_aborted(world, comm, b, &[3.0; 4]);
}

#[test]
fn a_rank_that_dies_is_a_remote_error_on_the_others() {
    run_with_deaths(3, &[("VIRTUAL_NCCL_DIE", "1:2")], Some((1, 70)), |world| survives(world));
}

#[test]
fn so_is_the_rank_that_made_the_id() {
    run_with_deaths(3, &[("VIRTUAL_NCCL_DIE", "0:2")], Some((0, 70)), |world| survives(world));
}

#[test]
fn an_error_is_that_ranks_until_it_aborts() {
    run(3, &[("VIRTUAL_NCCL_ERROR", "2:1")], |world| {
        let comm = world.comm(true);
        let (a, b) = (world.upload(&[1.0f32; 4]), world.upload(&[5.0f32; 4]));
        world.all_reduce::<f32>(comm, a, a, 4);
        world.all_reduce::<f32>(comm, a, b, 4);
        if world.rank == 2 {
            let text = world.error(comm, INTERNAL_ERROR);
            assert!(text.contains("VIRTUAL_NCCL_ERROR=2:1"), "{text}");
            sleep(AWHILE);
            assert!(world.is_waiting());
            world.say("failed", b"");
            world.hear("watched", 0);
            world.hear("watched", 1);
        } else {
            world.hear("failed", 2);
            assert_eq!(world.status(comm), SUCCESS);
            world.say("watched", b"");
            let text = world.error(comm, REMOTE_ERROR);
            assert!(text.contains("rank 2"), "{text}");
        }
        hangs_until_aborted(world, comm, b, &[5.0; 4]);
    });
}

#[test]
fn an_abort_frees_a_collective_that_waits_for_a_rank() {
    run(2, &[], |world| {
        let comm = world.comm(true);
        let (a, b) = (world.upload(&[1.0f32; 4]), world.upload(&[5.0f32; 4]));
        if world.rank == 0 {
            // One that waits, and two behind it.
            for _ in 0..3 {
                world.all_reduce::<f32>(comm, a, b, 4);
            }
            sleep(AWHILE);
            assert_eq!(world.status(comm), SUCCESS);
            hangs_until_aborted(world, comm, b, &[5.0; 4]);
            world.say("aborted", b"");
        } else {
            world.hear("aborted", 0);
            world.error(comm, REMOTE_ERROR);
            world.ok(unsafe { (world.nccl.ncclCommAbort)(comm) });
        }
        // Another communicator works.
        let comm = world.comm(true);
        world.all_reduce::<f32>(comm, a, b, 4);
        world.wait();
        assert_eq!(world.read::<f32>(b, 4), [2.0; 4]);
        world.destroy(comm);
    });
}

#[test]
fn an_abort_ends_a_delay() {
    run(1, &[("VIRTUAL_NCCL_DELAY", "1000000000:0")], |world| {
        let comm = world.comm(true);
        let a = world.upload(&[5.0f32; 4]);
        world.all_reduce::<f32>(comm, a, a, 4);
        hangs_until_aborted(world, comm, a, &[5.0; 4]);
    });
}

#[test]
fn a_delay_holds_up_the_stream_and_changes_nothing() {
    run(2, &[("VIRTUAL_NCCL_DELAY", "40:1")], |world| {
        let comm = world.comm(true);
        let a = world.upload(&[1.0f32; 4]);
        let begun = Instant::now();
        for _ in 0..8 {
            world.all_reduce::<f32>(comm, a, a, 4);
        }
        world.wait();
        // 160 ms on average.
        assert!(begun.elapsed() > Duration::from_millis(30), "{:?}", begun.elapsed());
        assert_eq!(world.read::<f32>(a, 4), [256.0; 4]);
        world.destroy(comm);
    });
}
