//! A launch that traps returns success; then every call returns the error, until the context is destroyed.
//!
//! On a card a trap ends more: every later call of the process may return the error, in new contexts too. So all tests
//! in which a card traps are here, and on a card each has a process of its own (`--exact`). The others run with
//! `--skip traps::`; `benches/day.sh` does both.

use cudarc::driver::{CudaContext, CudaStream, PushKernelArg, result, safe};
use cudarc::nvrtc::Ptx;
use safe::DriverError;

use super::cudarc_safe::one_block;
use super::pending::held;
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
    if real() {
        return;
    }
    ok(unsafe { sys::cuCtxDestroy_v2(context.handle) });
    let mut fresh = null_mut();
    ok(unsafe { sys::cuCtxCreate_v2(&mut fresh, 0, 0) });
    ok(unsafe { sys::cuCtxSynchronize() });
    alloc(64);
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

#[test]
fn a_trap_behind_a_host_function_is_reported_by_the_next_wait() {
    let _context = context();
    let (own, store, address) = (stream(NON_BLOCKING), function(load(PTX).unwrap(), "store"), 0x40u64);
    let release = held(own);
    ok(launch(store, 1, 0, own, &[pointer(&address)]));
    assert_eq!(unsafe { sys::cuStreamQuery(own) }, CUDA_ERROR_NOT_READY);
    release.send(()).unwrap();
    assert_eq!(unsafe { sys::cuStreamSynchronize(own) }, CUDA_ERROR_ILLEGAL_ADDRESS);
}

#[test]
fn a_trap_is_an_error_and_a_reset_context_works() {
    let _alone = context();
    let store = |stream: &std::sync::Arc<CudaStream>, address: u64| {
        let module = stream.context().load_module(Ptx::from_src(PTX)).unwrap();
        let store = module.load_function("store").unwrap();
        unsafe { stream.launch_builder(&store).arg(&address).launch(one_block(1)) }.unwrap();
        // Never unloaded: unloading waits, and would report the error before the test does.
        std::mem::forget((module, store));
    };
    let device = CudaContext::new(0).unwrap();
    let stream = device.new_stream().unwrap();
    store(&stream, 0x40);
    assert_eq!(stream.synchronize(), Err(DriverError(CUDA_ERROR_ILLEGAL_ADDRESS)));
    assert_eq!(device.synchronize(), Err(DriverError(CUDA_ERROR_ILLEGAL_ADDRESS)));
    if real() {
        return;
    }
    // The leaked module keeps cudarc's reference to the primary context, so the context is reset instead.
    drop(stream);
    ok(unsafe { sys::cuDevicePrimaryCtxReset_v2(0) });
    let _ = device.check_err();
    result::ctx::synchronize().unwrap();
    let (stream, address) = (device.new_stream().unwrap(), alloc(4));
    store(&stream, address);
    stream.synchronize().unwrap();
    assert_eq!(download::<u32>(address, 1), [7]);
    // cudarc counts the references; the last release is for the one that the leaked module holds.
    ok(unsafe { sys::cuDevicePrimaryCtxReset_v2(0) });
    drop(stream);
    drop(device);
    ok(unsafe { sys::cuDevicePrimaryCtxRelease_v2(0) });
}
