//! The order of operations: which of them happened before which, by vector clocks.
//!
//! Every stream counts its operations, and has a clock: for each stream, how many of its operations have happened before the next
//! one here. An event carries the clock of its stream away; who waits for the event takes it over. The host has a clock too, one for
//! all its threads: what it has waited for happened before everything that it enqueues later. An operation's own clock is taken when
//! it is enqueued, so the verdict depends on what the program ordered, and not on when anything was executed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use super::abi::Handle;
use super::capture::StreamKey;
use super::rewrite::{Buffers, Changed};
use super::state::State;
use crate::machine::{Kernel, NUMBER, launch_number};

/// For each stream, by its index: how many of its operations happened before.
#[derive(Clone, Debug, Default)]
pub struct Clock(Vec<u64>);

impl Clock {
    pub fn join(&mut self, other: &Clock) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(own, other)| *own = (*own).max(*other));
    }

    /// Whether the operation at this place happened before.
    pub fn covers(&self, stream: usize, count: u64) -> bool {
        self.0.get(stream).is_some_and(|own| *own >= count)
    }

    fn set(&mut self, stream: usize, count: u64) {
        if self.0.len() <= stream {
            self.0.resize(stream + 1, 0);
        }
        self.0[stream] = count;
    }
}

/// Where an operation was enqueued, in words.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin {
    /// `None`: the host itself.
    stream: Option<StreamKey>,
    /// Present if several contexts have streams.
    context: Option<Handle>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.stream {
            None => f.write_str("the host"),
            Some(StreamKey::Legacy) => f.write_str("the legacy stream"),
            Some(StreamKey::PerThread(_)) => f.write_str("a per-thread default stream"),
            Some(StreamKey::Created(handle)) => write!(f, "stream {handle:#x}"),
        }?;
        self.context.map_or(Ok(()), |context| write!(f, " of context {context:#x}"))
    }
}

/// What an operation is, in words. Thousands are remembered, none of which takes memory of its own.
#[derive(Clone)]
pub enum What {
    Kernel(Arc<Kernel>),
    Other(&'static str),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            What::Kernel(kernel) => write!(f, "kernel `{}`", kernel.name()),
            What::Other(name) => f.write_str(name),
        }
    }
}

/// An operation's place in its stream, and its past.
#[derive(Clone, Debug, Default)]
pub struct Stamp {
    pub context: Handle,
    pub stream: usize,
    pub count: u64,
    pub clock: Clock,
    pub place: Origin,
    /// Whether races are looked for: with checks, if its context has streams that nothing orders.
    pub watched: bool,
    /// Whether the call that enqueues it waits for it.
    pub waited: bool,
}

/// A stream as the checker sees it. It stays after the stream was destroyed, until the host knows that its work is done.
struct Line {
    stream: usize,
    clock: Clock,
    blocking: bool,
    destroyed: bool,
}

struct Operation {
    number: u64,
    stream: usize,
    count: u64,
    what: What,
    place: Origin,
}

/// How many operations are remembered that the host has not waited for. Older ones count as having happened before.
const MOST: usize = 1 << 14;

#[derive(Default)]
pub struct Order {
    checks: bool,
    lines: HashMap<(Handle, StreamKey), Line>,
    /// The operations of each stream so far, by the stream's index.
    counts: Vec<u64>,
    /// Indices of streams that are gone. Their counts go on, so that clocks which know the former stream stay right.
    spare: Vec<usize>,
    host: Clock,
    /// The host's clock when the last host function ended. What was queued behind one may have been let go by the host.
    released: Clock,
    /// The contexts that have had a stream beside another, in no order.
    several: HashSet<Handle>,
    /// How many are executed now. Their questions need the operations before them.
    pub executing: usize,
    /// By number.
    operations: VecDeque<Operation>,
    pub buffers: Buffers,
    /// For each executable graph: its last launch and what that happened after.
    graphs: HashMap<Handle, Clock>,
}

impl Order {
    pub fn new(checks: bool) -> Order {
        Order { checks, ..Order::default() }
    }

    fn line(&mut self, context: Handle, key: StreamKey, blocking: bool) -> &mut Line {
        let Order { lines, spare, counts, .. } = self;
        lines.entry((context, key)).or_insert_with(|| {
            let stream = spare.pop().unwrap_or(counts.len());
            if stream == counts.len() {
                counts.push(0);
            }
            Line { stream, clock: Clock::default(), blocking, destroyed: false }
        })
    }

    /// Whether streams that nothing orders have existed beside this context's. The legacy stream and a single blocking one of the
    /// same context are always in order, so a program with these pays nothing. Another context's work may be on the same memory, by
    /// peer access or a copy between devices.
    fn watches(&mut self, context: Handle) -> bool {
        if self.several.contains(&context) {
            return true;
        }
        let (mut legacy, mut others, mut apart) = (false, 0, false);
        for ((owner, key), line) in &self.lines {
            legacy |= *key == StreamKey::Legacy;
            others += usize::from(*key != StreamKey::Legacy);
            apart |= !line.blocking || *owner != context;
        }
        let several = others > 1 || legacy && apart;
        if several {
            self.several.insert(context);
        }
        several
    }

    fn place(&self, context: Handle, key: StreamKey) -> Origin {
        let alone = self.lines.keys().all(|(owner, _)| *owner == context);
        Origin { stream: Some(key), context: (!alone).then_some(context) }
    }

    /// The clock of what happens next on a stream: after its own work, what the host knows, and by the legacy stream's rules.
    fn reach(&mut self, context: Handle, key: StreamKey, blocking: bool) -> Clock {
        self.line(context, key, blocking);
        let mut clock = self.host.clone();
        for ((owner, other), line) in &self.lines {
            let own = *other == key;
            let legacy = blocking && *other == StreamKey::Legacy || key == StreamKey::Legacy && line.blocking;
            if *owner == context && (own || legacy) {
                clock.join(&line.clock);
            }
        }
        self.line(context, key, blocking).clock = clock.clone();
        clock
    }

    /// A number for an operation, by which others find it.
    pub fn number(&mut self, stamp: &Stamp, what: &What) -> u64 {
        let number = launch_number();
        // A number is given within the lock of the state, so they are in order.
        if self.checks && !stamp.clock.0.is_empty() {
            // All at once: a program's memory shall not seem to grow as it goes on.
            self.operations.reserve(MOST - self.operations.len());
            if self.operations.len() >= MOST {
                self.operations.pop_front();
            }
            let (Stamp { stream, count, place, .. }, what) = (stamp, what.clone());
            self.operations.push_back(Operation { number, stream: *stream, count: *count, what, place: *place });
        }
        number
    }

    /// The answer to the machine's question about an operation of another stream.
    pub fn unordered(&self, stamp: &Stamp, own: &What, low: u64, did: &str) -> Option<String> {
        let last = self.operations.back()?.number;
        let number = last.checked_sub(last.wrapping_sub(low) & NUMBER)?;
        let at = self.operations.binary_search_by_key(&number, |operation| operation.number).ok()?;
        let Operation { stream, count, what, place, .. } = &self.operations[at];
        let before = stamp.clock.covers(*stream, *count);
        (!before).then(|| {
            let here = &stamp.place;
            format!("{what} on {place} {did}, and no event or synchronisation orders that before {own} on {here}")
        })
    }

    /// Adds to what the host knows. Returns those of the host's buffers whose copies it has now waited for and that have changed.
    fn learn(&mut self, clock: &Clock, idle: bool) -> Vec<Changed> {
        self.host.join(clock);
        let Order { host, operations, lines, counts, spare, executing, .. } = self;
        // Queued work may have begun its wait before, and still has to be compared.
        if idle && *executing == 0 {
            operations.retain(|operation| !host.covers(operation.stream, operation.count));
        }
        lines.retain(|_, line| {
            let gone = line.destroyed && host.covers(line.stream, counts[line.stream]);
            if gone {
                spare.push(line.stream);
            }
            !gone
        });
        self.buffers.done(&self.host)
    }

    /// Lets a queued operation know what the host knew when the last host function ended.
    pub fn let_go(&self, stamp: &mut Stamp) {
        stamp.clock.join(&self.released);
    }

    pub fn host_function_ended(&mut self) {
        self.released = self.host.clone();
    }
}

impl State {
    /// The stamp of an operation that is enqueued now.
    pub fn stamp(&mut self, context: Handle, key: StreamKey) -> Stamp {
        if !self.order.checks {
            return Stamp { context, ..Stamp::default() };
        }
        let mut clock = self.clock(context, key);
        let order = &mut self.order;
        let stream = order.line(context, key, true).stream;
        order.counts[stream] += 1;
        let count = order.counts[stream];
        clock.set(stream, count);
        order.line(context, key, true).clock = clock.clone();
        let (watched, place) = (order.watches(context), order.place(context, key));
        Stamp { context, stream, count, clock, place, watched, waited: false }
    }

    /// The stamp of what the host does itself, with its own knowledge only.
    pub fn host_stamp(&self, context: Handle) -> Stamp {
        let watched = self.order.several.contains(&context);
        let clock = self.order.host.clone();
        Stamp { context, clock, watched, ..Stamp::default() }
    }

    /// What happened before a stream's next operation: the clock of an event recorded now.
    pub fn clock(&mut self, context: Handle, key: StreamKey) -> Clock {
        if !self.order.checks {
            return Clock::default();
        }
        let blocking = key.blocking(self);
        self.order.reach(context, key, blocking)
    }

    /// Lets a stream's further work happen after an event.
    pub fn after_event(&mut self, context: Handle, key: StreamKey, event: &Clock) {
        if self.order.checks {
            let blocking = key.blocking(self);
            self.order.line(context, key, blocking).clock.join(event);
        }
    }

    /// Lets a stream's further work happen after the last launch of an executable graph, of which one at a time runs.
    pub fn after_graph(&mut self, context: Handle, key: StreamKey, exec: Handle) {
        if let Some(clock) = self.order.graphs.get(&exec).cloned() {
            self.after_event(context, key, &clock);
        }
    }

    pub fn graph_launched(&mut self, context: Handle, key: StreamKey, exec: Handle) {
        if self.order.checks {
            let clock = self.clock(context, key);
            self.order.graphs.insert(exec, clock);
        }
    }

    pub fn graph_destroyed(&mut self, exec: Handle) {
        self.order.graphs.remove(&exec);
    }

    /// A stream that may be used from now on.
    pub fn stream_created(&mut self, context: Handle, key: StreamKey) {
        self.after_event(context, key, &Clock::default());
    }

    pub fn stream_destroyed(&mut self, context: Handle, key: StreamKey) {
        if let Some(line) = self.order.lines.get_mut(&(context, key)) {
            line.destroyed = true;
        }
    }

    /// The host has waited for this.
    pub fn host_waited(&mut self, clock: &Clock) -> Vec<Changed> {
        let idle = self.unfinished.is_empty();
        self.order.learn(clock, idle)
    }

    /// The host has waited for all work of a context.
    pub fn host_waited_for_context(&mut self, context: Handle) -> Vec<Changed> {
        let mut all = Clock::default();
        let lines = self.order.lines.iter().filter(|((owner, _), _)| *owner == context);
        lines.for_each(|(_, line)| all.join(&line.clock));
        self.host_waited(&all)
    }

    /// A context was destroyed, and its work has ended.
    pub fn forget_context(&mut self, context: Handle) {
        for ((owner, _), line) in &mut self.order.lines {
            line.destroyed |= *owner == context;
        }
        self.order.several.remove(&context);
        self.order.buffers.forget(context);
        // Its buffers may be gone, so they are not looked at.
        self.host_waited_for_context(context);
    }
}
