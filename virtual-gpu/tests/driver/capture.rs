//! Streams, events, captures and graphs.

use super::*;
use sys::CUstreamCaptureMode::*;
use sys::CUstreamCaptureStatus::{self, *};
use sys::{CUevent, CUgraph, CUgraphExec, CUstreamCaptureMode};

fn begin(stream: CUstream, mode: CUstreamCaptureMode) {
    ok(unsafe { sys::cuStreamBeginCapture_v2(stream, mode) });
}

fn end(stream: CUstream) -> Result<CUgraph, CUresult> {
    let mut graph = null_mut();
    match unsafe { sys::cuStreamEndCapture(stream, &mut graph) } {
        CUDA_SUCCESS => Ok(graph),
        error => {
            assert!(graph.is_null());
            Err(error)
        }
    }
}

fn status(stream: CUstream) -> CUstreamCaptureStatus {
    let mut status = CU_STREAM_CAPTURE_STATUS_NONE;
    ok(unsafe { sys::cuStreamIsCapturing(stream, &mut status) });
    status
}

fn instantiate(graph: CUgraph) -> CUgraphExec {
    let mut exec = null_mut();
    ok(unsafe { sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0) });
    exec
}

fn event() -> CUevent {
    let mut event = null_mut();
    ok(unsafe { sys::cuEventCreate(&mut event, 0) });
    event
}

#[test]
fn captured_work_is_replayed_with_current_host_buffers() {
    let _context = context();
    let (adder, stream) = (adder(), stream(NON_BLOCKING));
    let (a, b) = (upload(&[1u32; 32]), upload(&[0u32; 32]));
    let mut host = [100u32; 32];
    begin(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
    assert_eq!(status(stream), CU_STREAM_CAPTURE_STATUS_ACTIVE);
    ok(unsafe { sys::cuMemcpyHtoDAsync_v2(a, host.as_ptr().cast(), 128, stream) });
    ok(add(adder, stream, a, 5, 32));
    ok(unsafe { sys::cuMemcpyDtoDAsync_v2(b, a, 128, stream) });
    ok(unsafe { sys::cuMemsetD32Async(a, 7, 32, stream) });
    let graph = end(stream).unwrap();
    assert_eq!(status(stream), CU_STREAM_CAPTURE_STATUS_NONE);
    assert_eq!(download::<u32>(a, 32), [1; 32], "recorded, not executed");

    let mut count = 0;
    ok(unsafe { sys::cuGraphGetNodes(graph, null_mut(), &mut count) });
    assert_eq!(count, 4);
    let (mut nodes, mut kind) = (vec![null_mut(); 4], sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_EMPTY);
    ok(unsafe { sys::cuGraphGetNodes(graph, nodes.as_mut_ptr(), &mut count) });
    ok(unsafe { sys::cuGraphNodeGetType(nodes[1], &mut kind) });
    assert_eq!(kind, sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_KERNEL);

    let exec = instantiate(graph);
    ok(unsafe { sys::cuGraphDestroy(graph) });
    ok(unsafe { sys::cuGraphUpload(exec, stream) });
    for round in 0..3 {
        // The host buffer is read when the graph runs.
        host.fill(round);
        std::hint::black_box(&mut host);
        ok(unsafe { sys::cuGraphLaunch(exec, stream) });
        ok(unsafe { sys::cuStreamSynchronize(stream) });
        assert_eq!(download::<u32>(b, 32), [round + 5; 32]);
        assert_eq!(download::<u32>(a, 32), [7; 32]);
    }
    ok(unsafe { sys::cuGraphExecDestroy(exec) });
}

#[test]
fn a_capture_spreads_by_events_and_must_be_joined() {
    let _context = context();
    let (adder, first, second) = (adder(), stream(NON_BLOCKING), stream(NON_BLOCKING));
    let (fork, join, a) = (event(), event(), upload(&[0u32; 1]));
    begin(first, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    ok(add(adder, first, a, 1, 1));
    ok(unsafe { sys::cuEventRecord(fork, first) });
    ok(unsafe { sys::cuStreamWaitEvent(second, fork, 0) });
    assert_eq!(status(second), CU_STREAM_CAPTURE_STATUS_ACTIVE);
    ok(add(adder, second, a, 10, 1));
    ok(unsafe { sys::cuEventRecord(join, second) });
    ok(unsafe { sys::cuStreamWaitEvent(first, join, 0) });
    ok(add(adder, first, a, 100, 1));
    assert_eq!(unsafe { sys::cuEventQuery(fork) }, CUDA_ERROR_CAPTURED_EVENT);
    let exec = instantiate(end(first).unwrap());
    assert_eq!(status(second), CU_STREAM_CAPTURE_STATUS_NONE);
    ok(unsafe { sys::cuGraphLaunch(exec, first) });
    ok(unsafe { sys::cuStreamSynchronize(first) });
    assert_eq!(download::<u32>(a, 1), [111]);

    begin(first, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    ok(unsafe { sys::cuEventRecord(fork, first) });
    ok(unsafe { sys::cuStreamWaitEvent(second, fork, 0) });
    ok(add(adder, second, a, 10, 1));
    assert_eq!(end(first), Err(CUDA_ERROR_STREAM_CAPTURE_UNJOINED));
}

/// Checks that a call on a capturing `stream` fails with `error` and invalidates the capture.
fn invalidates(flags: u32, mode: CUstreamCaptureMode, error: CUresult, forbidden: impl FnOnce(CUstream) -> CUresult) {
    let stream = stream(flags);
    begin(stream, mode);
    assert_eq!(forbidden(stream), error);
    if error != CUDA_ERROR_STREAM_CAPTURE_IMPLICIT {
        assert_eq!(status(stream), CU_STREAM_CAPTURE_STATUS_INVALIDATED);
    }
    assert_eq!(end(stream), Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
    assert_eq!(status(stream), CU_STREAM_CAPTURE_STATUS_NONE);
    ok(unsafe { sys::cuStreamDestroy_v2(stream) });
}

#[test]
fn forbidden_calls_fail_and_invalidate_the_capture() {
    let _context = context();
    let a = alloc(64);
    let host = [0u8; 64];
    let from = host.as_ptr().cast();
    let (global, relaxed) = (CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_RELAXED);
    let unsupported = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    let implicit = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    unsafe {
        invalidates(NON_BLOCKING, relaxed, unsupported, |stream| sys::cuStreamSynchronize(stream));
        invalidates(NON_BLOCKING, relaxed, unsupported, |stream| sys::cuStreamQuery(stream));
        invalidates(NON_BLOCKING, relaxed, unsupported, |_| sys::cuCtxSynchronize());
        invalidates(NON_BLOCKING, global, unsupported, |_| sys::cuMemAlloc_v2(&mut 0, 64));
        invalidates(NON_BLOCKING, global, unsupported, |_| sys::cuMemFree_v2(a));
        invalidates(NON_BLOCKING, global, unsupported, |_| sys::cuMemHostAlloc(&mut null_mut(), 64, 0));
        // The legacy stream would have to wait for a blocking stream that is only recording.
        invalidates(0, global, implicit, |_| sys::cuMemcpyHtoD_v2(a, from, 64));
        invalidates(0, relaxed, implicit, |_| sys::cuMemsetD8Async(a, 0, 64, NO_STREAM));
        // A dependency on work outside of the capture.
        let outside = event();
        ok(sys::cuEventRecord(outside, NO_STREAM));
        invalidates(NON_BLOCKING, relaxed, CUDA_ERROR_STREAM_CAPTURE_ISOLATION, |stream| {
            sys::cuStreamWaitEvent(stream, outside, 0)
        });
    }
}

#[test]
fn each_capture_mode_allows_its_unsafe_calls() {
    let _context = context();
    let (stream, mut address) = (stream(NON_BLOCKING), 0);
    // Relaxed mode allows allocations, and the legacy stream does not concern a non-blocking one.
    begin(stream, CU_STREAM_CAPTURE_MODE_RELAXED);
    ok(unsafe { sys::cuMemAlloc_v2(&mut address, 64) });
    ok(unsafe { sys::cuMemsetD8Async(address, 1, 64, NO_STREAM) });
    end(stream).unwrap();
    // Thread-local mode allows unsafe calls in other threads.
    begin(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    let context = _context.handle as usize;
    std::thread::spawn(move || {
        ok(unsafe { sys::cuCtxSetCurrent(context as _) });
        alloc(64);
    })
    .join()
    .unwrap();
    end(stream).unwrap();
    // Global mode allows unsafe calls in a thread that has made its own mode relaxed.
    begin(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
    let mut mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    ok(unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut mode) });
    alloc(64);
    ok(unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut mode) });
    assert_eq!(mode, CU_STREAM_CAPTURE_MODE_RELAXED);
    end(stream).unwrap();
}

#[test]
fn misplaced_capture_calls_are_refused() {
    let _context = context();
    let (first, second, shared) = (stream(NON_BLOCKING), stream(NON_BLOCKING), event());
    let mode = CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    assert_eq!(
        unsafe { sys::cuStreamBeginCapture_v2(NO_STREAM, mode) },
        CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
        "the legacy stream"
    );
    assert_eq!(end(first), Err(CUDA_ERROR_ILLEGAL_STATE), "never begun");
    begin(first, mode);
    assert_eq!(unsafe { sys::cuStreamBeginCapture_v2(first, mode) }, CUDA_ERROR_ILLEGAL_STATE, "begun twice");
    let (context, number) = (_context.handle as usize, first as usize);
    let elsewhere = std::thread::spawn(move || {
        ok(unsafe { sys::cuCtxSetCurrent(context as _) });
        end(number as _).err()
    });
    assert_eq!(elsewhere.join().unwrap(), Some(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD));
    end(first).unwrap();

    begin(first, mode);
    begin(second, mode);
    ok(unsafe { sys::cuEventRecord(shared, first) });
    assert_eq!(unsafe { sys::cuStreamWaitEvent(second, shared, 0) }, CUDA_ERROR_STREAM_CAPTURE_MERGE);
    assert_eq!(end(first), Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
    assert_eq!(end(second), Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
}

#[test]
fn memory_allocated_in_a_capture_works_at_every_replay() {
    let _context = context();
    let (stream, adder, result, mut address) = (stream(NON_BLOCKING), adder(), upload(&[0u32; 4]), 0);
    let foreign = alloc(16);
    begin(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    ok(unsafe { sys::cuMemAllocAsync(&mut address, 16, stream) });
    ok(unsafe { sys::cuMemsetD32Async(address, 3, 4, stream) });
    ok(add(adder, stream, address, 4, 4));
    ok(unsafe { sys::cuMemcpyDtoDAsync_v2(result, address, 16, stream) });
    ok(unsafe { sys::cuMemFreeAsync(address, stream) });
    assert_eq!(unsafe { sys::cuMemFreeAsync(foreign, stream) }, CUDA_ERROR_INVALID_VALUE, "not the graph's");
    let graph = end(stream).unwrap();
    let exec = instantiate(graph);
    for _ in 0..2 {
        ok(unsafe { sys::cuGraphLaunch(exec, stream) });
    }
    ok(unsafe { sys::cuStreamSynchronize(stream) });
    assert_eq!(download::<u32>(result, 4), [7; 4]);
    ok(unsafe { sys::cuGraphExecDestroy(exec) });
    ok(unsafe { sys::cuGraphDestroy(graph) });
}

#[test]
fn events_measure_time_unless_created_without_timing() {
    let _context = context();
    let (start, stop, mut ms) = (event(), event(), -1.0f32);
    let mut silent = null_mut();
    ok(unsafe { sys::cuEventCreate(&mut silent, 2) });
    ok(unsafe { sys::cuEventQuery(start) });
    assert_eq!(unsafe { sys::cuEventElapsedTime(&mut ms, start, stop) }, CUDA_ERROR_INVALID_HANDLE, "not recorded");
    for event in [start, silent, stop] {
        ok(unsafe { sys::cuEventRecord(event, NO_STREAM) });
    }
    ok(unsafe { sys::cuEventSynchronize(stop) });
    ok(unsafe { sys::cuEventElapsedTime(&mut ms, start, stop) });
    assert!((0.0..1000.0).contains(&ms), "{ms} ms");
    assert_eq!(unsafe { sys::cuEventElapsedTime(&mut ms, silent, stop) }, CUDA_ERROR_INVALID_HANDLE, "no timing");
}

#[test]
fn host_functions_run_once_a_launch_and_may_not_call_the_driver() {
    extern "C" fn note(data: *mut c_void) {
        let seen = unsafe { &mut *data.cast::<(u32, i32)>() };
        let mut version = 0;
        let nested = unsafe { sys::cuDeviceGetCount(&mut version) };
        *seen = (seen.0 + 1, nested as i32);
    }
    let _context = context();
    let (stream, mut seen) = (stream(NON_BLOCKING), (0u32, 0i32));
    let data = (&raw mut seen).cast();
    ok(unsafe { sys::cuLaunchHostFunc(stream, Some(note), data) });
    ok(unsafe { sys::cuStreamSynchronize(stream) });
    begin(stream, CU_STREAM_CAPTURE_MODE_RELAXED);
    ok(unsafe { sys::cuLaunchHostFunc(stream, Some(note), data) });
    let exec = instantiate(end(stream).unwrap());
    ok(unsafe { sys::cuGraphLaunch(exec, stream) });
    ok(unsafe { sys::cuGraphLaunch(exec, stream) });
    ok(unsafe { sys::cuStreamSynchronize(stream) });
    let calls = unsafe { std::ptr::read_volatile(&raw const seen) };
    assert_eq!(calls.0, 3);
    if !real() {
        assert_eq!(calls.1, CUDA_ERROR_NOT_PERMITTED as i32, "a host function must not call the driver");
    }
}
