//! Work that nothing orders with a collective is a trap of the virtual GPU, as if the collective were one of the stream's kernels.
//!
//! With one rank: the stream of a context that has failed runs nothing more, so the others would wait for its collective.

use std::ptr::null_mut;

use cudarc::driver::sys::{self, CUresult, CUstream};

use super::world::*;

fn another_stream() -> CUstream {
    let mut stream = null_mut();
    ok(unsafe { sys::cuStreamCreate(&mut stream, 1) });
    stream
}

/// What waiting for the device tells.
fn verdict() -> CUresult {
    unsafe { sys::cuCtxSynchronize() }
}

#[test]
fn an_output_that_is_read_without_an_event_is_a_race() {
    run(1, &[], |world| {
        let (comm, other) = (world.comm(true), another_stream());
        let (a, b, c) = (world.upload(&[1.0f32; 4]), world.room::<f32>(4), world.room::<f32>(4));
        world.all_reduce::<f32>(comm, a, b, 4);
        ok(unsafe { sys::cuMemcpyDtoDAsync_v2(c, b, 16, other) });
        assert_eq!(verdict(), CUresult::CUDA_ERROR_LAUNCH_FAILED);
    });
}

#[test]
fn an_event_or_a_synchronisation_is_enough() {
    run(2, &[("VIRTUAL_NCCL_DELAY", "10")], |world| {
        let (comm, other, mut event) = (world.comm(true), another_stream(), null_mut());
        ok(unsafe { sys::cuEventCreate(&mut event, 2) });
        let (a, b, c) = (world.upload(&[1.0f32; 4]), world.room::<f32>(4), world.room::<f32>(4));
        for _ in 0..3 {
            world.all_reduce::<f32>(comm, a, b, 4);
            unsafe {
                ok(sys::cuEventRecord(event, world.stream.cast()));
                ok(sys::cuStreamWaitEvent(other, event, 0));
                ok(sys::cuMemcpyDtoDAsync_v2(c, b, 16, other));
                ok(sys::cuEventRecord(event, other));
                ok(sys::cuStreamWaitEvent(world.stream.cast(), event, 0));
            }
        }
        ok(verdict());
        assert_eq!(world.read::<f32>(c, 4), [2.0; 4]);
        world.all_reduce::<f32>(comm, a, b, 4);
        world.wait();
        ok(unsafe { sys::cuMemsetD32Async(b, 0, 4, other) });
        ok(verdict());
        world.destroy(comm);
    });
}
