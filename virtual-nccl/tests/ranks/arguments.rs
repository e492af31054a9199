//! Wrong arguments of collectives, and what a non-blocking communicator asks of its caller.

use std::ffi::CStr;
use std::thread;

use cudarc::driver::sys;

use super::nccl::*;
use super::world::*;

#[test]
fn wrong_arguments_are_refused_with_a_text() {
    run(1, &[], |world| {
        let comm = world.comm(true);
        let (a, b) = (world.room::<f32>(8), world.room::<f32>(8));
        let Nccl { ncclAllReduce: reduce, ncclAllGather: gather, .. } = world.nccl;
        let text = |result: i32| world.fails(INVALID_ARGUMENT, result);
        unsafe {
            let stream = world.stream;
            assert!(text(reduce(a, b, 8, 7, 1, comm, stream)).contains("reduction 1"));
            assert!(text(reduce(a, b, 8, 9, 0, comm, stream)).contains("Bfloat16"));
            assert!(text(reduce(a, b, 8, 12, 0, comm, stream)).contains("12"));
            assert!(text(gather(a, b, 8, -1, comm, stream)).contains("-1"));
            assert!(text(reduce(0, b, 8, 7, 0, comm, stream)).contains("sendbuff is null"));
            assert!(text(gather(a, 0, 8, 7, comm, stream)).contains("recvbuff is null"));
            assert!(text(reduce(a, a + 4, 4, 7, 0, comm, stream)).contains("overlap"));
            assert!(text(gather(a, b, usize::MAX, 7, comm, stream)).contains("bytes"));
            assert!(text(reduce(a, b, 8, 7, 0, NULL, stream)).contains("null"));
            assert!(text(reduce(a, b, 8, 7, 0, 0x5000 as Comm, stream)).contains("0x5000"));
            assert!(text((world.nccl.ncclCommGetAsyncError)(comm, std::ptr::null_mut())).contains("null"));
            assert!(text((world.nccl.ncclCommCount)(comm, std::ptr::null_mut())).contains("null"));
            assert!(text((world.nccl.ncclCommUserRank)(comm, std::ptr::null_mut())).contains("null"));
            // What the driver refuses.
            let refused = world.fails(CUDA_ERROR, reduce(a, b, 9, 7, 0, comm, stream));
            assert!(refused.contains("CUDA_ERROR_INVALID_VALUE"), "{refused}");
            world.fails(CUDA_ERROR, reduce(a, b, 8, 7, 0, comm, 0x77 as Stream));
            // An error within a group is that of its end, which does nothing.
            world.ok((world.nccl.ncclGroupStart)());
            world.ok(reduce(a, b, 8, 7, 0, comm, stream));
            world.fails(INVALID_ARGUMENT, reduce(a, b, 8, 7, 3, comm, stream));
            world.fails(INVALID_ARGUMENT, (world.nccl.ncclGroupEnd)());
            assert!(world.fails(INVALID_USAGE, (world.nccl.ncclGroupEnd)()).contains("ncclGroupEnd"));
            // Nothing at all, of nothing.
            world.ok(reduce(0, 0, 0, 7, 0, comm, stream));
        }
        // The communicator is as good as before.
        world.write(a, &[2.0f32; 8]);
        world.all_reduce::<f32>(comm, a, b, 8);
        world.wait();
        assert_eq!(world.read::<f32>(b, 8), [2.0; 8]);
        world.destroy(comm);
        for (code, text) in [(0, "no error"), (6, "remote process"), (77, "unknown")] {
            let found = unsafe { CStr::from_ptr((world.nccl.ncclGetErrorString)(code)) }.to_str().unwrap();
            assert!(found.contains(text), "{found}");
        }
    });
}

#[test]
fn a_non_blocking_collective_is_on_its_stream_once_the_status_says_success() {
    run(2, &[], |world| {
        let comm = world.comm(false);
        let a = world.upload(&[1.0f32; 4]);
        unsafe {
            let reduce = || (world.nccl.ncclAllReduce)(a, a, 4, f32::NUMBER, 0, comm, world.stream);
            assert_eq!(reduce(), IN_PROGRESS);
            // What did not wait for the status overtakes it.
            ok(sys::cuMemsetD32Async(a, 2.0f32.to_bits(), 4, world.stream.cast()));
            world.settle(comm, IN_PROGRESS);
            world.wait();
            assert_eq!(world.read::<f32>(a, 4), [4.0; 4]);
            // A second call spoils the communicator.
            assert_eq!(reduce(), IN_PROGRESS);
            assert!(world.fails(INVALID_ARGUMENT, reduce()).contains("before the previous operation"));
            assert_eq!(world.status(comm), INVALID_ARGUMENT);
            world.meet("spoilt");
            world.ok((world.nccl.ncclCommAbort)(comm));
        }
    });
}

#[test]
fn calls_need_no_current_context() {
    run(2, &[], |world| {
        let comm = world.comm(true);
        let a = world.upload(&[1.0f32; 4]);
        let (comm_number, stream, reduce) = (comm as usize, world.stream as usize, world.nccl.ncclAllReduce);
        let call = move || unsafe { reduce(a, a, 4, f32::NUMBER, 0, comm_number as Comm, stream as Stream) };
        assert_eq!(thread::spawn(call).join().unwrap(), SUCCESS);
        world.wait();
        assert_eq!(world.read::<f32>(a, 4), [2.0; 4]);
        world.destroy(comm);
    });
}
