//! Events: points in time on a stream, measured by the host's clock.
//!
//! An event is reached when it is recorded, unless it is recorded behind queued work. The time between two events is the
//! interpreter's, and says nothing about a card.

use std::time::Instant;

use super::abi::{Handle, Out};
use super::boundary::{Outcome, call, within};
use super::error::{CUresult, Code};
use super::order::Clock;
use super::state::{Event, Moment, find};
use super::work::Current;

const DISABLE_TIMING: u32 = 2;
const INTERPROCESS: u32 = 4;
/// `CU_EVENT_RECORD_EXTERNAL` and `CU_EVENT_WAIT_EXTERNAL`: the event becomes a node of the graph, not an edge.
pub const EXTERNAL: u32 = 1;

#[unsafe(no_mangle)]
extern "C" fn cuEventCreate(event: Out<Handle>, flags: u32) -> CUresult {
    within(|cx| {
        if event.is_null() || flags & !7 != 0 {
            return Err(Code::InvalidValue.into());
        }
        if flags & INTERPROCESS != 0 {
            return Err(Code::NotSupported.because("events between processes"));
        }
        let mut state = cx.state();
        let handle = state.handle();
        state
            .events
            .insert(handle, Event { context: cx.context, flags, state: Moment::Never, clock: Clock::default() });
        event.put(handle)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventDestroy_v2(event: Handle) -> CUresult {
    call(|driver| driver.state().events.remove(&event).map(drop).ok_or(Code::InvalidHandle.into()))
}

fn record(cx: &Current, event: Handle, stream: Handle, flags: u32) -> Outcome {
    if flags & !EXTERNAL != 0 {
        return Err(Code::InvalidValue.into());
    }
    let cx = &cx.of(stream)?;
    let key = cx.stream(stream)?;
    let mut state = cx.state();
    if flags & EXTERNAL != 0 && state.capture_status(cx.context, key).number() != 0 {
        return Err(Code::NotSupported.because("event nodes in graphs"));
    }
    state.record_event(cx.context, event, key)
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecord(event: Handle, stream: Handle) -> CUresult {
    within(|cx| record(cx, event, stream, 0))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecordWithFlags(event: Handle, stream: Handle, flags: u32) -> CUresult {
    within(|cx| record(cx, event, stream, flags))
}

/// Waits for an event, or queries it. An event that was never recorded counts as reached.
fn reached(cx: &Current, event: Handle, wait: bool) -> Outcome {
    let (state, clock) = find(&cx.state().events, event).map(|event| (event.state.clone(), event.clock.clone()))?;
    if matches!(state, Moment::Captured { .. }) {
        return Err(Code::CapturedEvent.into());
    }
    cx.unsafe_while_capturing()?;
    if let Moment::Pending(ticket) = state {
        if wait {
            cx.driver.settle(&[ticket]);
        } else if cx.state().unfinished.contains_key(&ticket) {
            return cx.report().and(Err(Code::NotReady.into()));
        }
    }
    cx.learn(&clock);
    cx.report()
}

#[unsafe(no_mangle)]
extern "C" fn cuEventQuery(event: Handle) -> CUresult {
    within(|cx| reached(cx, event, false))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventSynchronize(event: Handle) -> CUresult {
    within(|cx| reached(cx, event, true))
}

fn elapsed(milliseconds: Out<f32>, start: Handle, end: Handle) -> CUresult {
    within(|cx| {
        let state = cx.state();
        let moment = |event: Handle| -> Outcome<Instant> {
            let event = find(&state.events, event)?;
            match event.state {
                Moment::Captured { .. } => Err(Code::CapturedEvent.into()),
                Moment::At(_) | Moment::Pending(_) if event.flags & DISABLE_TIMING != 0 => {
                    Err(Code::InvalidHandle.because("the event was created without timing"))
                }
                Moment::At(instant) => Ok(instant),
                Moment::Pending(_) => Err(Code::NotReady.into()),
                Moment::Never => Err(Code::InvalidHandle.because("the event was never recorded")),
            }
        };
        let mut clock = find(&state.events, start)?.clock.clone();
        clock.join(&find(&state.events, end)?.clock);
        let (start, end) = (moment(start)?, moment(end)?);
        // The time is known only when both have been reached.
        drop(state);
        cx.learn(&clock);
        // Negative if `end` was recorded before `start`.
        let span =
            end.saturating_duration_since(start).as_secs_f64() - start.saturating_duration_since(end).as_secs_f64();
        milliseconds.put((span * 1e3) as f32)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventElapsedTime(milliseconds: Out<f32>, start: Handle, end: Handle) -> CUresult {
    elapsed(milliseconds, start, end)
}

#[unsafe(no_mangle)]
extern "C" fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle, end: Handle) -> CUresult {
    elapsed(milliseconds, start, end)
}
