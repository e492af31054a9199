//! How communicators are made, and how that fails.

use std::io::Write;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cudarc::driver::sys;

use super::nccl::*;
use super::world::*;

#[test]
fn an_init_waits_for_a_missing_rank_and_can_be_aborted() {
    run(3, &[], |world| {
        // Rank 2 does not come.
        if world.rank == 2 {
            world.hear("seen", 1);
            return;
        }
        let (comm, result) = world.begin(3, world.id("id"), world.rank, 0);
        assert_eq!(result, IN_PROGRESS);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(150) {
            assert_eq!(world.status(comm), IN_PROGRESS);
            sleep(Duration::from_millis(10));
        }
        world.fails(INVALID_ARGUMENT, unsafe { (world.nccl.ncclCommCount)(comm, &mut 0) });
        world.say("waited", b"");
        world.hear("waited", 1);
        if world.rank == 0 {
            let begun = Instant::now();
            world.ok(unsafe { (world.nccl.ncclCommAbort)(comm) });
            assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
            world.fails(INVALID_ARGUMENT, unsafe { (world.nccl.ncclCommGetAsyncError)(comm, &mut 0) });
            world.hear("seen", 1);
        } else {
            until("the abort", || world.status(comm) != IN_PROGRESS);
            assert_eq!(world.status(comm), REMOTE_ERROR);
            assert!(world.nccl.last_error(comm).contains("rank 0"));
            world.say("seen", b"");
            world.ok(unsafe { (world.nccl.ncclCommAbort)(comm) });
        }
    });
}

#[test]
fn blocking_inits_return_when_all_have_come() {
    run(2, &[], |world| {
        let id = world.id("id");
        if world.rank == 1 {
            sleep(Duration::from_millis(100));
        }
        let (mut comm, begun) = (NULL, Instant::now());
        world.ok(unsafe { (world.nccl.ncclCommInitRank)(&mut comm, 2, id, world.rank as i32) });
        assert!(world.rank == 1 || begun.elapsed() > Duration::from_millis(50));
        assert_eq!(world.status(comm), SUCCESS);
        world.destroy(comm);
        // Within a group, the end waits.
        let id = world.id("second");
        unsafe {
            world.ok((world.nccl.ncclGroupStart)());
            world.ok((world.nccl.ncclCommInitRank)(&mut comm, 2, id, world.rank as i32));
            world.ok((world.nccl.ncclGroupEnd)());
        }
        assert_eq!(world.status(comm), SUCCESS);
        world.destroy(comm);
    });
}

#[test]
fn the_same_rank_twice_and_another_number_of_ranks_are_refused() {
    run(2, &[], |world| {
        let id = world.id("id");
        if world.rank == 0 {
            let (comm, result) = world.begin(2, id, 0, 0);
            assert_eq!(result, IN_PROGRESS);
            // Its connection was made before those of the wrong ones.
            sleep(Duration::from_millis(50));
            let (other, result) = world.begin(3, id, 1, 1);
            let text = world.fails(INVALID_USAGE, result);
            assert!(text.contains("of 3 ranks") && other.is_null(), "{text}");
            let (none, result) = world.begin(2, id, 0, 1);
            let text = world.fails(INVALID_USAGE, result);
            assert!(text.contains("there already is a rank 0 of 2"), "{text}");
            assert!(none.is_null());
            world.say("refused", b"");
            world.settle(comm, IN_PROGRESS);
            world.destroy(comm);
        } else {
            world.hear("refused", 0);
            let (comm, result) = world.begin(2, id, 1, 1);
            world.ok(result);
            world.destroy(comm);
        }
    });
}

#[test]
fn strangers_at_the_hubs_port_are_turned_away() {
    run(2, &[], |world| {
        let id = world.id("id");
        if world.rank == 0 {
            // The port is in the id.
            let port = u16::from_le_bytes([id.0[8], id.0[9]]);
            // A hello with a wrong token, a length that is none, nothing, and something else altogether.
            let mut hello = vec![0, 37, 0, 0, 0, 0, 0, 0, 0];
            hello.extend([0; 37]);
            for bytes in [&hello[..], &[0, 255, 255, 255, 255, 255, 255, 255, 255], &[], b"GET / HTTP/1.1\r\n\r\n"] {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                stream.write_all(bytes).unwrap();
            }
            world.say("strangers", b"");
        }
        world.hear("strangers", 0);
        let (comm, result) = world.begin(2, id, world.rank, 1);
        world.ok(result);
        world.destroy(comm);
    });
}

#[test]
fn a_hub_that_is_gone_is_a_system_error() {
    run_with_deaths(2, &[], Some((0, 3)), |world| {
        let id = world.id("id");
        if world.rank == 0 {
            std::process::exit(3);
        }
        // The process of rank 0 may take a moment to end.
        until("the end of rank 0", || {
            let (comm, result) = world.begin(1, id, 0, 1);
            match result {
                SUCCESS => world.destroy(comm),
                _ => assert!([SYSTEM_ERROR, REMOTE_ERROR, INVALID_USAGE].contains(&result), "{result}"),
            }
            result == SYSTEM_ERROR
        });
        assert!(world.nccl.last_error(NULL).contains("cannot be reached"));
    });
}

#[test]
fn malformed_variables_and_arguments_are_named() {
    run(1, &[("VIRTUAL_NCCL_DIE", "1:0")], |world| {
        let (comm, result) = world.begin(1, world.id("id"), 0, 0);
        let text = world.fails(INVALID_USAGE, result);
        assert!(text.starts_with("VIRTUAL_NCCL_DIE=1:0: it must be RANK:N"), "{text}");
        assert!(comm.is_null());
    });
}

#[test]
fn wrong_arguments_of_init_are_refused() {
    run(1, &[], |world| {
        let id = world.id("id");
        for (ranks, rank, id, blocking) in
            [(0, 0, id, 0), (1, 1, id, 0), (1, 0, UniqueId([0; 128]), 0), (1, 0, id, 2), (1, 0, id, -1)]
        {
            let (comm, result) = world.begin(ranks, id, rank, blocking);
            let text = world.fails(INVALID_ARGUMENT, result);
            assert!(comm.is_null() && !text.is_empty());
        }
        let (mut comm, none) = (NULL, std::ptr::null_mut());
        let init = world.nccl.ncclCommInitRankConfig;
        for wrong in [Config { magic: 0, ..Config::new(0) }, Config { size: 16, ..Config::new(0) }] {
            world.fails(INVALID_ARGUMENT, unsafe { init(&mut comm, 1, id, 0, &wrong) });
        }
        world.fails(INVALID_ARGUMENT, unsafe { init(none, 1, id, 0, &Config::new(0)) });
        world.fails(INVALID_ARGUMENT, unsafe { (world.nccl.ncclGetUniqueId)(std::ptr::null_mut()) });
        // Without a current context.
        let mut context = std::ptr::null_mut();
        ok(unsafe { sys::cuCtxPopCurrent_v2(&mut context) });
        let text = world.fails(CUDA_ERROR, unsafe { (world.nccl.ncclCommInitRank)(&mut comm, 1, id, 0) });
        assert!(text.contains("context"), "{text}");
        ok(unsafe { sys::cuCtxPushCurrent_v2(context) });
        // Defaults: blocking.
        world.ok(unsafe { init(&mut comm, 1, id, 0, std::ptr::null()) });
        world.destroy(comm);
        let mut version = 0;
        world.ok(unsafe { (world.nccl.ncclGetVersion)(&mut version) });
        assert!((22700..22900).contains(&version));
    });
}
