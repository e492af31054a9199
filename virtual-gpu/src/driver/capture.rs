//! Stream capture: operations are recorded instead of executed, and calls that would break the recording are refused.
//!
//! A capture begins on one stream and spreads to streams that wait for its events. For each of its streams it keeps the
//! nodes that the stream's next operation depends on. A call that cannot be part of a graph fails and invalidates the
//! capture. An invalidated capture records nothing more, and its end reports the error.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::thread::ThreadId;

use super::abi::Handle;
use super::boundary::Outcome;
use super::error::Code;
use super::graph::{Graph, Node};
use super::order::Stamp;
use super::state::{Event, Moment, State, find, find_mut};
use super::work::Op;

/// `CU_STREAM_NON_BLOCKING`: the stream and the legacy stream do not wait for each other.
pub const NON_BLOCKING: u32 = 1;

/// A created stream or a default stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamKey {
    /// The null stream, which is ordered with all blocking streams of the context.
    Legacy,
    PerThread(ThreadId),
    Created(Handle),
}

impl StreamKey {
    pub fn of(state: &State, context: Handle, handle: Handle) -> Outcome<StreamKey> {
        match handle {
            0 | 1 => Ok(StreamKey::Legacy),
            2 => Ok(StreamKey::PerThread(std::thread::current().id())),
            _ if find(&state.streams, handle)?.context == context => Ok(StreamKey::Created(handle)),
            // Calls that may name another context's stream have changed to that context before (`Current::of`).
            _ => Err(Code::InvalidHandle.because("the stream belongs to a context that is not current")),
        }
    }

    /// The handle by which a program names it.
    pub fn handle(self) -> Handle {
        match self {
            StreamKey::Legacy => 1,
            StreamKey::PerThread(_) => 2,
            StreamKey::Created(handle) => handle,
        }
    }

    pub fn blocking(self, state: &State) -> bool {
        match self {
            StreamKey::Legacy | StreamKey::PerThread(_) => true,
            StreamKey::Created(handle) => {
                state.streams.get(&handle).is_some_and(|stream| stream.flags & NON_BLOCKING == 0)
            }
        }
    }
}

/// The threads whose unsafe calls a capture forbids: `CUstreamCaptureMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Global,
    ThreadLocal,
    Relaxed,
}

impl Mode {
    pub fn from_number(number: i32) -> Outcome<Mode> {
        match number {
            0 => Ok(Mode::Global),
            1 => Ok(Mode::ThreadLocal),
            2 => Ok(Mode::Relaxed),
            _ => Err(Code::InvalidValue.into()),
        }
    }
}

thread_local! {
    /// The strictest mode that forbids calls of this thread (`cuThreadExchangeStreamCaptureMode`).
    static THREAD_MODE: Cell<Mode> = const { Cell::new(Mode::Global) };
}

pub fn exchange_thread_mode(mode: Mode) -> Mode {
    THREAD_MODE.replace(mode)
}

/// A capture in progress.
pub struct Capture {
    pub context: Handle,
    pub graph: Graph,
    mode: Mode,
    thread: ThreadId,
    origin: StreamKey,
    /// For each stream of the capture: the nodes that its next operation depends on.
    tails: HashMap<StreamKey, Vec<usize>>,
    broken: bool,
}

impl Capture {
    fn add(&mut self, key: StreamKey, op: Op) {
        let after = self.tails.remove(&key).unwrap_or_default();
        self.graph.nodes.push(Node { op, after });
        self.tails.insert(key, vec![self.graph.nodes.len() - 1]);
    }

    /// Whether all nodes precede the end of the stream on which the capture began.
    fn joined(&self) -> bool {
        let mut open = self.tails[&self.origin].clone();
        let mut reached: HashSet<usize> = open.iter().copied().collect();
        while let Some(node) = open.pop() {
            open.extend(self.graph.nodes[node].after.iter().filter(|before| reached.insert(**before)));
        }
        reached.len() == self.graph.nodes.len()
    }
}

/// The capture status of a stream (`CUstreamCaptureStatus`), with the capture's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    None,
    Active(u64),
    Invalidated(u64),
}

impl Status {
    pub fn number(self) -> i32 {
        match self {
            Status::None => 0,
            Status::Active(_) => 1,
            Status::Invalidated(_) => 2,
        }
    }
}

impl State {
    pub fn capture_status(&self, context: Handle, key: StreamKey) -> Status {
        let found = self.captures.iter().find(|(_, c)| c.context == context && c.tails.contains_key(&key));
        match found {
            None => Status::None,
            Some((id, capture)) if capture.broken => Status::Invalidated(*id),
            Some((id, _)) => Status::Active(*id),
        }
    }

    /// The active capture of a stream, if any; an error if it is invalidated.
    fn capturing(&mut self, context: Handle, key: StreamKey) -> Outcome<Option<&mut Capture>> {
        match self.capture_status(context, key) {
            Status::None => Ok(None),
            Status::Invalidated(_) => Err(Code::CaptureInvalidated.into()),
            Status::Active(id) => Ok(self.captures.get_mut(&id)),
        }
    }

    /// If `which` selects any captures, invalidates them and fails with `code`.
    fn forbid(&mut self, code: Code, which: impl Fn(&State, &Capture) -> bool) -> Outcome {
        let picked: Vec<u64> = self.captures.iter().filter(|(_, c)| which(self, c)).map(|(id, _)| *id).collect();
        for id in &picked {
            self.captures.entry(*id).and_modify(|capture| capture.broken = true);
        }
        if picked.is_empty() { Ok(()) } else { Err(code.into()) }
    }

    /// Records an operation if its stream is being captured. Returns whether it was recorded.
    pub fn record(&mut self, context: Handle, key: StreamKey, op: &Op) -> Outcome<bool> {
        if key == StreamKey::Legacy {
            self.use_legacy(context)?;
            return Ok(false);
        }
        let Some(capture) = self.capturing(context, key)? else { return Ok(false) };
        capture.add(key, op.clone());
        Ok(true)
    }

    /// The check for uses of the legacy stream, which waits for all blocking streams: none of them may be capturing.
    pub fn use_legacy(&mut self, context: Handle) -> Outcome {
        self.forbid(Code::CaptureImplicit, |state, capture| {
            capture.context == context && capture.tails.keys().any(|key| key.blocking(state))
        })
    }

    /// The check for calls that may wait for the device. A global capture forbids them to all threads, a thread-local
    /// one to its own thread, within the calling thread's mode.
    pub fn unsafe_call(&mut self) -> Outcome {
        let (this, own) = (std::thread::current().id(), THREAD_MODE.get());
        self.forbid(Code::CaptureUnsupported, |_, capture| match own {
            Mode::Relaxed => false,
            Mode::ThreadLocal => capture.mode != Mode::Relaxed && capture.thread == this,
            Mode::Global => {
                capture.mode == Mode::Global || (capture.mode == Mode::ThreadLocal && capture.thread == this)
            }
        })
    }

    /// The check for waiting for a context: none of its streams may be capturing.
    pub fn wait_for_context(&mut self, context: Handle) -> Outcome {
        self.forbid(Code::CaptureUnsupported, |_, capture| capture.context == context)
    }

    /// The check for waiting for or querying one stream.
    pub fn wait_for_stream(&mut self, context: Handle, key: StreamKey) -> Outcome {
        if key == StreamKey::Legacy {
            return self.use_legacy(context);
        }
        self.forbid(Code::CaptureUnsupported, |_, c| c.context == context && c.tails.contains_key(&key))
    }

    pub fn begin_capture(&mut self, context: Handle, key: StreamKey, mode: Mode) -> Outcome {
        if key == StreamKey::Legacy {
            return Err(Code::CaptureUnsupported.because("the legacy stream cannot be captured"));
        }
        if self.capture_status(context, key) != Status::None {
            return Err(Code::IllegalState.because("the stream is already being captured"));
        }
        self.captures_begun += 1;
        let capture = Capture {
            context,
            graph: Graph::default(),
            mode,
            thread: std::thread::current().id(),
            origin: key,
            tails: HashMap::from([(key, Vec::new())]),
            broken: false,
        };
        self.captures.insert(self.captures_begun, capture);
        Ok(())
    }

    pub fn end_capture(&mut self, context: Handle, key: StreamKey) -> Outcome<Graph> {
        let (Status::Active(id) | Status::Invalidated(id)) = self.capture_status(context, key) else {
            return Err(Code::IllegalState.because("the stream is not being captured"));
        };
        let capture = &self.captures[&id];
        if capture.mode != Mode::Relaxed && capture.thread != std::thread::current().id() {
            return Err(Code::CaptureWrongThread.into());
        }
        if capture.origin != key {
            let _ = self.forbid(Code::CaptureUnmatched, |_, c| c.context == context && c.tails.contains_key(&key));
            return Err(Code::CaptureUnmatched.into());
        }
        let (broken, joined) = (capture.broken, capture.joined());
        let ended = self.captures.remove(&id).map(|capture| capture.graph).unwrap_or_default();
        if broken {
            return Err(Code::CaptureInvalidated.into());
        }
        if !joined { Err(Code::CaptureUnjoined.into()) } else { Ok(ended) }
    }

    /// Removes a destroyed stream. A capture that began there can no longer end, and is dropped.
    pub fn drop_from_captures(&mut self, key: StreamKey) {
        self.captures.retain(|_, capture| capture.origin != key);
        for capture in self.captures.values_mut() {
            capture.broken |= capture.tails.remove(&key).is_some();
        }
    }

    /// `cuEventRecord`: records the current time, or the current nodes of the capture.
    pub fn record_event(&mut self, context: Handle, event: Handle, key: StreamKey) -> Outcome {
        let owner = find(&self.events, event)?.context;
        if owner != context {
            return Err(Code::InvalidHandle.because("the event belongs to another context"));
        }
        if key == StreamKey::Legacy {
            self.use_legacy(context)?;
        }
        let state = match self.capture_status(context, key) {
            Status::None if self.before(context, key).is_empty() => Moment::At(std::time::Instant::now()),
            Status::None => {
                let stamp = Stamp { context, ..Stamp::default() };
                Moment::Pending(self.defer(key, [], stamp, |ticket| Op::Record { event, ticket })?)
            }
            Status::Invalidated(_) => return Err(Code::CaptureInvalidated.into()),
            Status::Active(capture) => Moment::Captured { capture, after: self.captures[&capture].tails[&key].clone() },
        };
        if !matches!(state, Moment::Captured { .. }) {
            let clock = self.clock(context, key);
            find_mut(&mut self.events, event)?.clock = clock;
        }
        find_mut(&mut self.events, event)?.state = state;
        Ok(())
    }

    /// `cuStreamWaitEvent`: adds a stream to a capture, or joins two streams of one capture.
    pub fn wait_event(&mut self, context: Handle, key: StreamKey, event: Handle) -> Outcome {
        let Event { state, clock, .. } = find(&self.events, event)?;
        let (state, clock) = (state.clone(), clock.clone());
        if key == StreamKey::Legacy {
            self.use_legacy(context)?;
        }
        let own = self.capture_status(context, key);
        let (from, after) = match (state, own) {
            (_, Status::Invalidated(_)) => return Err(Code::CaptureInvalidated.into()),
            (Moment::Never, _) => return Ok(()),
            // The event's work is already done, so there is nothing to wait for. On a card there may be.
            (Moment::At(_), Status::None) => {
                self.after_event(context, key, &clock);
                return Ok(());
            }
            (Moment::Pending(ticket), Status::None) => {
                self.after_event(context, key, &clock);
                let stamp = Stamp { context, ..Stamp::default() };
                return self.defer(key, [ticket], stamp, |_| Op::Wait).map(drop);
            }
            (Moment::At(_) | Moment::Pending(_), Status::Active(_)) => {
                return self.forbid(Code::CaptureIsolation, |_, c| c.context == context && c.tails.contains_key(&key));
            }
            (Moment::Captured { capture, after }, _) => (capture, after),
        };
        match self.captures.get(&from) {
            None => return Err(Code::CapturedEvent.because("the event was recorded in a capture that has ended")),
            Some(capture) if capture.broken => return Err(Code::CaptureInvalidated.into()),
            Some(capture) if capture.context != context || key == StreamKey::Legacy => {
                return Err(Code::CaptureUnsupported.because("this stream cannot become part of the capture"));
            }
            Some(_) => {}
        }
        if let Status::Active(id) = own
            && id != from
        {
            for capture in [id, from] {
                self.captures.entry(capture).and_modify(|capture| capture.broken = true);
            }
            return Err(Code::CaptureMerge.into());
        }
        self.captures.entry(from).and_modify(|capture| {
            let tail = capture.tails.entry(key).or_default();
            tail.extend(after);
            tail.sort_unstable();
            tail.dedup();
        });
        Ok(())
    }

    /// Whether `address` was allocated by a capture still in progress on this stream.
    pub fn captures_own(&self, context: Handle, key: StreamKey, address: u64) -> bool {
        let Status::Active(id) = self.capture_status(context, key) else { return false };
        self.captures[&id].graph.nodes.iter().any(|node| matches!(&node.op, Op::Alloc(m) if m.address == address))
    }
}
