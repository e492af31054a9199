//! A launch that traps returns success; then every call returns the error, until the context is destroyed.

use super::*;

fn stray(address: CUdeviceptr) -> CUresult {
    let store = function(load(PTX).unwrap(), "store");
    launch(store, 1, 0, NO_STREAM, &[pointer(&address)])
}

/// Checks that the context has failed and that each call reports `code`.
fn is_lost(code: CUresult) {
    unsafe {
        assert_eq!(sys::cuCtxSynchronize(), code);
        assert_eq!(sys::cuCtxSynchronize(), code, "it sticks");
        assert_eq!(sys::cuMemAlloc_v2(&mut 0, 64), code);
        assert_eq!(sys::cuStreamCreate(&mut null_mut(), 0), code);
        assert_eq!(load(PTX), Err(code));
    }
}

#[test]
fn a_store_outside_of_allocations_fails_the_context_until_it_is_destroyed() {
    let context = context();
    let a = upload(&[1u32; 4]);
    let adder = adder();
    ok(stray(0x40));
    if !real() {
        // Before a call waits, enqueued work still returns success, but is dropped.
        ok(add(adder, NO_STREAM, a, 1, 4));
        ok(unsafe { sys::cuMemsetD8Async(a, 0, 16, NO_STREAM) });
    }
    is_lost(CUDA_ERROR_ILLEGAL_ADDRESS);
    ok(unsafe { sys::cuCtxDestroy_v2(context.handle) });
    let mut fresh = null_mut();
    ok(unsafe { sys::cuCtxCreate_v2(&mut fresh, 0, 0) });
    if !real() {
        ok(unsafe { sys::cuCtxSynchronize() });
        alloc(64);
    }
    ok(unsafe { sys::cuCtxDestroy_v2(fresh) });
}

#[test]
fn a_misaligned_store_is_reported_by_the_next_wait() {
    let _context = context();
    let a = alloc(64);
    ok(stray(a + 2));
    is_lost(CUDA_ERROR_MISALIGNED_ADDRESS);
}

#[test]
fn a_trap_instruction_is_a_launch_failure() {
    let _context = context();
    ok(launch(function(load(PTX).unwrap(), "give_up"), 1, 0, NO_STREAM, &[]));
    is_lost(CUDA_ERROR_LAUNCH_FAILED);
}

#[test]
fn each_waiting_call_reports_a_trap() {
    if real() {
        return;
    }
    let calls: [fn(CUdeviceptr) -> CUresult; 5] = [
        |_| unsafe { sys::cuStreamSynchronize(NO_STREAM) },
        |_| unsafe { sys::cuStreamQuery(NO_STREAM) },
        |a| unsafe { sys::cuMemcpyDtoH_v2([0u8; 8].as_mut_ptr().cast(), a, 8) },
        |a| unsafe { sys::cuMemFree_v2(a) },
        |_| unsafe {
            let mut event = null_mut();
            ok(sys::cuEventCreate(&mut event, 0));
            ok(sys::cuEventRecord(event, NO_STREAM));
            sys::cuEventSynchronize(event)
        },
    ];
    for call in calls {
        let _context = context();
        let a = alloc(64);
        ok(stray(0x40));
        assert_eq!(call(a), CUDA_ERROR_ILLEGAL_ADDRESS);
    }
}

#[test]
fn a_trap_in_a_graph_is_reported_by_the_next_wait() {
    let _context = context();
    let (stream, store, address) = (stream(NON_BLOCKING), function(load(PTX).unwrap(), "store"), 0x40u64);
    let (mut graph, mut exec) = (null_mut(), null_mut());
    unsafe {
        ok(sys::cuStreamBeginCapture_v2(stream, sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED));
        ok(launch(store, 1, 0, stream, &[pointer(&address)]));
        ok(sys::cuStreamEndCapture(stream, &mut graph));
        ok(sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0));
        ok(sys::cuGraphLaunch(exec, stream));
        assert_eq!(sys::cuStreamSynchronize(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
    }
}
