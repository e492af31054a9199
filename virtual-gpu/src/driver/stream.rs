//! Streams: creation, waiting, host functions, and the functions that begin and end a capture.

use super::abi::{Handle, HostFunction, Out, StreamCallback, UserData};
use super::boundary::{Outcome, call, within};
use super::capture::{Mode, NON_BLOCKING, Status, StreamKey, exchange_thread_mode};
use super::error::{CUresult, Code};
use super::event::EXTERNAL;
use super::state::{Stream, find};
use super::work::{Current, Op};

/// The highest priority (the lowest number) and the lowest.
pub const PRIORITIES: (i32, i32) = (-5, 0);

fn create(stream: Out<Handle>, flags: u32, priority: i32) -> CUresult {
    within(|cx| {
        if stream.is_null() || flags & !NON_BLOCKING != 0 {
            return Err(Code::InvalidValue.into());
        }
        let priority = priority.clamp(PRIORITIES.0, PRIORITIES.1);
        let mut state = cx.state();
        let handle = state.handle();
        state.streams.insert(handle, Stream { context: cx.context, flags, priority });
        state.stream_created(cx.context, StreamKey::Created(handle));
        stream.put(handle)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamCreate(stream: Out<Handle>, flags: u32) -> CUresult {
    create(stream, flags, 0)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamCreateWithPriority(stream: Out<Handle>, flags: u32, priority: i32) -> CUresult {
    create(stream, flags, priority)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamDestroy_v2(stream: Handle) -> CUresult {
    call(|driver| {
        let mut state = driver.state();
        let Stream { context, .. } = state.streams.remove(&stream).ok_or(Code::InvalidHandle)?;
        state.stream_destroyed(context, StreamKey::Created(stream));
        state.drop_from_captures(StreamKey::Created(stream));
        Ok(())
    })
}

fn wait(cx: &Current, stream: Handle) -> Outcome {
    let key = cx.stream(stream)?;
    let mut state = cx.state();
    state.wait_for_stream(cx.context, key)?;
    let clock = state.clock(cx.context, key);
    drop(state);
    cx.settle(key);
    cx.learn(&clock);
    cx.report()
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamSynchronize(stream: Handle) -> CUresult {
    within(|cx| wait(&cx.of(stream)?, stream))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamQuery(stream: Handle) -> CUresult {
    within(|cx| {
        let cx = &cx.of(stream)?;
        let key = cx.stream(stream)?;
        let mut state = cx.state();
        state.wait_for_stream(cx.context, key)?;
        let ready = state.before(cx.context, key).is_empty();
        let clock = state.clock(cx.context, key);
        drop(state);
        if ready {
            cx.learn(&clock);
        }
        cx.report()?;
        if ready { Ok(()) } else { Err(Code::NotReady.into()) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamWaitEvent(stream: Handle, event: Handle, flags: u32) -> CUresult {
    within(|cx| {
        if flags & !EXTERNAL != 0 {
            return Err(Code::InvalidValue.into());
        }
        let cx = &cx.of(stream)?;
        let key = cx.stream(stream)?;
        cx.state().wait_event(cx.context, key, event)
    })
}

/// The properties of a stream. Default streams are blocking and have the lowest priority.
fn described(cx: &Current, stream: Handle) -> Outcome<Stream> {
    match cx.stream(stream)? {
        StreamKey::Created(handle) => Ok(*find(&cx.state().streams, handle)?),
        _ => Ok(Stream { context: cx.context, flags: 0, priority: PRIORITIES.1 }),
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamGetFlags(stream: Handle, flags: Out<u32>) -> CUresult {
    within(|cx| flags.put(described(cx, stream)?.flags))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamGetPriority(stream: Handle, priority: Out<i32>) -> CUresult {
    within(|cx| priority.put(described(cx, stream)?.priority))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamGetCtx(stream: Handle, context: Out<Handle>) -> CUresult {
    within(|cx| context.put(described(cx, stream)?.context))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamGetDevice(stream: Handle, device: Out<i32>) -> CUresult {
    within(|cx| {
        described(cx, stream)?;
        device.put(cx.device()? as i32)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamGetId(stream: Handle, id: Out<u64>) -> CUresult {
    within(|cx| {
        described(cx, stream)?;
        // The legacy stream has two handles, 0 and 1.
        id.put(if stream == 1 { 0 } else { stream as u64 })
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLaunchHostFunc(stream: Handle, function: HostFunction, data: UserData) -> CUresult {
    within(|cx| {
        if function.is_none() {
            return Err(Code::InvalidValue.into());
        }
        cx.of(stream)?.enqueue(stream, Op::Call { function, data })
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamAddCallback(stream: Handle, function: StreamCallback, data: UserData, flags: u32) -> CUresult {
    within(|cx| {
        if function.is_none() || flags != 0 {
            return Err(Code::InvalidValue.into());
        }
        // Unlike a host function, a callback cannot be captured.
        let key = cx.stream(stream)?;
        cx.state().wait_for_stream(cx.context, key)?;
        cx.enqueue(stream, Op::CallBack { function, data, stream })
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamBeginCapture_v2(stream: Handle, mode: i32) -> CUresult {
    within(|cx| {
        let mode = Mode::from_number(mode)?;
        let key = cx.stream(stream)?;
        cx.state().begin_capture(cx.context, key, mode)
    })
}

/// The form before CUDA 10.1, which had only the global mode.
#[unsafe(no_mangle)]
extern "C" fn cuStreamBeginCapture(stream: Handle) -> CUresult {
    cuStreamBeginCapture_v2(stream, 0)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamEndCapture(stream: Handle, graph: Out<Handle>) -> CUresult {
    within(|cx| {
        if graph.is_null() {
            return Err(Code::InvalidValue.into());
        }
        graph.put(0)?;
        let key = cx.stream(stream)?;
        let mut state = cx.state();
        let captured = state.end_capture(cx.context, key)?;
        let handle = state.handle();
        state.graphs.insert(handle, captured);
        graph.put(handle)
    })
}

fn status(cx: &Current, stream: Handle) -> Outcome<Status> {
    let key = cx.stream(stream)?;
    let mut state = cx.state();
    if key == StreamKey::Legacy {
        state.use_legacy(cx.context)?;
    }
    Ok(state.capture_status(cx.context, key))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamIsCapturing(stream: Handle, to: Out<i32>) -> CUresult {
    within(|cx| to.put(status(cx, stream)?.number()))
}

/// The status and the number of a stream's capture. Editing a graph during its capture is not supported.
fn capture_info(stream: Handle, to: Out<i32>, id: Out<u64>, others_wanted: bool) -> CUresult {
    within(|cx| {
        let status = status(cx, stream)?;
        if let Status::Active(number) | Status::Invalidated(number) = status {
            id.offer(number);
            if others_wanted {
                return Err(Code::NotSupported.because("the graph of a capture in progress"));
            }
        }
        to.put(status.number())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamGetCaptureInfo(stream: Handle, to: Out<i32>, id: Out<u64>) -> CUresult {
    capture_info(stream, to, id, false)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamGetCaptureInfo_v2(
    stream: Handle,
    to: Out<i32>,
    id: Out<u64>,
    graph: Out<Handle>,
    dependencies: Out<Handle>,
    count: Out<usize>,
) -> CUresult {
    let others = [graph.is_null(), dependencies.is_null(), count.is_null()];
    capture_info(stream, to, id, others.contains(&false))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamGetCaptureInfo_v3(
    stream: Handle,
    to: Out<i32>,
    id: Out<u64>,
    graph: Out<Handle>,
    dependencies: Out<Handle>,
    edges: Out<Handle>,
    count: Out<usize>,
) -> CUresult {
    let others = [graph.is_null(), dependencies.is_null(), edges.is_null(), count.is_null()];
    capture_info(stream, to, id, others.contains(&false))
}

#[unsafe(no_mangle)]
extern "C" fn cuThreadExchangeStreamCaptureMode(mode: Out<i32>) -> CUresult {
    call(|_| {
        let before = exchange_thread_mode(Mode::from_number(mode.get()?)?);
        mode.put(before as i32)
    })
}
