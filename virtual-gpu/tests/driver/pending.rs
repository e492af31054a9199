//! Host functions do not block the caller; what streams and events order behind them waits, and queries say so.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::*;

extern "C" fn hold(data: *mut c_void) {
    let released = unsafe { Box::from_raw(data.cast::<Receiver<()>>()) };
    let _ = released.recv_timeout(Duration::from_secs(60));
}

/// Enqueues a host function that ends when the sender is used or dropped.
pub fn held(stream: CUstream) -> Sender<()> {
    let (sender, receiver) = channel();
    let data = Box::into_raw(Box::new(receiver)).cast();
    ok(unsafe { sys::cuLaunchHostFunc(stream, Some(hold), data) });
    sender
}

fn event(flags: u32) -> sys::CUevent {
    let mut event = null_mut();
    ok(unsafe { sys::cuEventCreate(&mut event, flags) });
    event
}

#[test]
fn work_behind_a_host_function_waits_and_queries_say_so() {
    let _context = context();
    let (own, other, adder) = (stream(NON_BLOCKING), stream(NON_BLOCKING), adder());
    let (a, b, start, end) = (upload(&[0u32; 4]), upload(&[0u32; 4]), event(0), event(0));
    let mut pinned = null_mut();
    ok(unsafe { sys::cuMemHostAlloc(&mut pinned, 16, 0) });
    let result = || unsafe { std::slice::from_raw_parts(pinned.cast::<u32>(), 4) };
    ok(unsafe { sys::cuMemsetD32Async(a, 1, 4, own) });
    ok(unsafe { sys::cuEventRecord(start, own) });
    let release = held(own);
    ok(add(adder, own, a, 10, 4));
    ok(unsafe { sys::cuMemcpyDtoHAsync_v2(pinned, a, 16, own) });
    ok(unsafe { sys::cuEventRecord(end, own) });
    unsafe {
        assert_eq!(sys::cuStreamQuery(own), CUDA_ERROR_NOT_READY);
        assert_eq!(sys::cuEventQuery(end), CUDA_ERROR_NOT_READY);
        assert_eq!(sys::cuEventElapsedTime(&mut 0.0, start, end), CUDA_ERROR_NOT_READY);
        ok(sys::cuEventQuery(start));
    }
    // Another stream goes on.
    ok(add(adder, other, b, 5, 4));
    ok(unsafe { sys::cuStreamSynchronize(other) });
    ok(unsafe { sys::cuStreamQuery(other) });
    std::thread::sleep(Duration::from_millis(20));
    release.send(()).unwrap();
    ok(unsafe { sys::cuEventSynchronize(end) });
    ok(unsafe { sys::cuEventQuery(end) });
    assert_eq!(result(), [11; 4]);
    let mut milliseconds = 0.0;
    ok(unsafe { sys::cuEventElapsedTime(&mut milliseconds, start, end) });
    assert!(milliseconds >= 15.0, "{milliseconds} ms, of which the host function took 20");
    ok(unsafe { sys::cuStreamSynchronize(own) });
    ok(unsafe { sys::cuStreamQuery(own) });
    assert_eq!(download::<u32>(b, 4), [5; 4]);
    ok(unsafe { sys::cuMemFreeHost(pinned) });
}

#[test]
fn an_event_behind_a_host_function_holds_another_stream() {
    let _context = context();
    let (first, second, adder) = (stream(NON_BLOCKING), stream(NON_BLOCKING), adder());
    let (a, reached, last) = (upload(&[1u32; 4]), event(2), event(2));
    let release = held(first);
    ok(unsafe { sys::cuMemsetD32Async(a, 100, 4, first) });
    ok(unsafe { sys::cuEventRecord(reached, first) });
    ok(unsafe { sys::cuStreamWaitEvent(second, reached, 0) });
    ok(add(adder, second, a, 1, 4));
    ok(unsafe { sys::cuEventRecord(last, second) });
    assert_eq!(unsafe { sys::cuStreamQuery(second) }, CUDA_ERROR_NOT_READY);
    drop(release);
    ok(unsafe { sys::cuEventSynchronize(last) });
    ok(unsafe { sys::cuStreamSynchronize(second) });
    assert_eq!(download::<u32>(a, 4), [101; 4]);
}

#[test]
fn the_legacy_stream_waits_for_blocking_streams_and_they_for_it() {
    let _context = context();
    let (blocking, adder, a) = (stream(0), adder(), upload(&[1u32; 4]));
    let release = held(blocking);
    ok(unsafe { sys::cuMemsetD32Async(a, 50, 4, blocking) });
    ok(add(adder, NO_STREAM, a, 1, 4));
    ok(unsafe { sys::cuMemsetD32Async(a + 4, 7, 1, blocking) });
    assert_eq!(unsafe { sys::cuStreamQuery(NO_STREAM) }, CUDA_ERROR_NOT_READY);
    release.send(()).unwrap();
    // A blocking copy is on the legacy stream.
    assert_eq!(download::<u32>(a, 4), [51, 7, 51, 51]);
}

#[test]
fn a_destroyed_stream_ends_its_work_in_order() {
    let _context = context();
    let (blocking, a) = (stream(0), upload(&[1u32; 4]));
    let release = held(blocking);
    ok(unsafe { sys::cuMemsetD32Async(a, 50, 4, blocking) });
    ok(unsafe { sys::cuStreamDestroy_v2(blocking) });
    ok(unsafe { sys::cuMemsetD32Async(a, 7, 1, NO_STREAM) });
    release.send(()).unwrap();
    assert_eq!(download::<u32>(a, 4), [7, 50, 50, 50]);
}

#[test]
fn pageable_memory_is_free_when_the_copy_from_it_returns() {
    let _context = context();
    let (own, a) = (stream(NON_BLOCKING), upload(&[1u32; 4]));
    let release = held(own);
    let mut values = [9u32, 8, 7, 6];
    ok(unsafe { sys::cuMemcpyHtoDAsync_v2(a, values.as_ptr().cast(), 16, own) });
    values.fill(0);
    release.send(()).unwrap();
    ok(unsafe { sys::cuMemcpyDtoHAsync_v2(values.as_mut_ptr().cast(), a, 16, own) });
    ok(unsafe { sys::cuStreamSynchronize(own) });
    assert_eq!(values, [9, 8, 7, 6]);
}

#[test]
fn memory_freed_behind_a_host_function_is_used_until_then() {
    let _context = context();
    let (own, adder, mut a) = (stream(NON_BLOCKING), adder(), 0);
    ok(unsafe { sys::cuMemAllocAsync(&mut a, 16, own) });
    ok(unsafe { sys::cuMemsetD32Async(a, 1, 4, own) });
    let release = held(own);
    ok(add(adder, own, a, 1, 4));
    ok(unsafe { sys::cuMemFreeAsync(a, own) });
    if !real() {
        assert_eq!(unsafe { sys::cuMemFreeAsync(a, own) }, CUDA_ERROR_INVALID_VALUE, "freed twice");
    }
    release.send(()).unwrap();
    ok(unsafe { sys::cuStreamSynchronize(own) });
    assert_ne!(unsafe { sys::cuMemcpyDtoH_v2([0u8; 4].as_mut_ptr().cast(), a, 4) }, CUDA_SUCCESS);
}

#[test]
fn a_graph_with_a_host_function_does_not_block_its_launch() {
    let _context = context();
    let (own, adder, a) = (stream(NON_BLOCKING), adder(), upload(&[1u32; 4]));
    let (sender, receiver) = channel();
    let data = Box::into_raw(Box::new(receiver)).cast();
    let (mut graph, mut exec) = (null_mut(), null_mut());
    unsafe {
        ok(sys::cuStreamBeginCapture_v2(own, sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED));
        ok(sys::cuLaunchHostFunc(own, Some(hold), data));
        ok(add(adder, own, a, 1, 4));
        ok(sys::cuStreamEndCapture(own, &mut graph));
        ok(sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0));
        ok(sys::cuGraphLaunch(exec, own));
        assert_eq!(sys::cuStreamQuery(own), CUDA_ERROR_NOT_READY);
        sender.send(()).unwrap();
        ok(sys::cuStreamSynchronize(own));
    }
    assert_eq!(download::<u32>(a, 4), [2; 4]);
}
