//! How communicators end.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::nccl::*;
use super::world::*;

#[test]
fn finalizing_waits_for_the_stream_and_for_all_ranks() {
    run(2, &[], |world| {
        let comm = world.comm(false);
        let a = world.upload(&[1.0f32; 4]);
        world.all_reduce::<f32>(comm, a, a, 4);
        if world.rank == 1 {
            sleep(Duration::from_millis(100));
        }
        let begun = Instant::now();
        world.settle(comm, unsafe { (world.nccl.ncclCommFinalize)(comm) });
        assert!(world.rank == 1 || begun.elapsed() > Duration::from_millis(50));
        assert!(!world.is_waiting());
        assert_eq!(world.read::<f32>(a, 4), [2.0; 4]);
        world.fails(INVALID_ARGUMENT, unsafe { (world.nccl.ncclCommFinalize)(comm) });
        world.destroy(comm);
        world.fails(INVALID_ARGUMENT, unsafe { (world.nccl.ncclCommDestroy)(comm) });
        world.ok(unsafe { (world.nccl.ncclCommDestroy)(NULL) });
        world.ok(unsafe { (world.nccl.ncclCommAbort)(NULL) });
        world.ok(unsafe { (world.nccl.ncclCommFinalize)(NULL) });
    });
}

#[test]
fn a_collective_that_another_rank_will_not_come_to_is_invalid_usage() {
    run(2, &[], |world| {
        let comm = world.comm(true);
        let a = world.upload(&[1.0f32; 4]);
        if world.rank == 0 {
            world.all_reduce::<f32>(comm, a, a, 4);
            let text = world.error(comm, INVALID_USAGE);
            assert!(text.contains("rank 1 has finalized"), "{text}");
            let text = world.fails(INVALID_USAGE, unsafe { (world.nccl.ncclCommDestroy)(comm) });
            assert!(text.contains("rank 1 has finalized"), "{text}");
            world.abort_and_wait(comm);
        } else {
            world.fails(INVALID_USAGE, unsafe { (world.nccl.ncclCommFinalize)(comm) });
            world.ok(unsafe { (world.nccl.ncclCommAbort)(comm) });
        }
    });
}

#[test]
fn a_finalized_communicator_has_no_collectives() {
    run(1, &[], |world| {
        let comm = world.comm(true);
        let a = world.upload(&[1.0f32; 4]);
        world.ok(unsafe { (world.nccl.ncclCommFinalize)(comm) });
        let result = unsafe { (world.nccl.ncclAllReduce)(a, a, 4, f32::NUMBER, 0, comm, world.stream) };
        assert!(world.fails(INVALID_USAGE, result).contains("finalized"));
        world.destroy(comm);
    });
}
