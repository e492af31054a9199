//! Work that is enqueued and executed later, by a thread of its stream.
//!
//! Only a host function must not run in the call that enqueues it: it may wait for what the caller does next. It and
//! the work behind it on its stream go through a queue, which one thread empties in order. So does work that must wait
//! for another stream's queue, by an event or by the rules of the legacy stream. Everything else is executed when it is
//! enqueued. An operation thus starts after all that streams and events order before it, whichever way it goes, and
//! results do not depend on the threads' timing.
//!
//! Each queued operation has a ticket. The tickets that an operation waits for are older than its own, so that no two
//! operations wait for each other.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;

use super::abi::Handle;
use super::boundary::{Outcome, say};
use super::capture::StreamKey;
use super::error::Code;
use super::order::Stamp;
use super::state::{Driver, Failure, State, driver};
use super::work::{Current, Op};

/// The number of a queued operation.
pub type Ticket = u64;

/// A queued operation, and the tickets of other streams that it waits for.
pub struct Entry {
    ticket: Ticket,
    after: Vec<Ticket>,
    op: Op,
    stamp: Stamp,
}

/// The queued operations of one stream.
pub type Queue = VecDeque<Entry>;

/// Where an unfinished operation was queued. Its stream may have been destroyed since.
pub struct Unfinished {
    context: Handle,
    key: StreamKey,
    blocking: bool,
}

impl State {
    /// The unfinished tickets of this context that `which` selects.
    fn unfinished_of(&self, context: Handle, which: impl Fn(&Unfinished) -> bool) -> Vec<Ticket> {
        let picked = self.unfinished.iter().filter(|(_, queued)| queued.context == context && which(queued));
        picked.map(|(ticket, _)| *ticket).collect()
    }

    /// The unfinished work that a stream's next operation must wait for: the stream's own, and by the rules of the
    /// legacy stream that of others.
    pub fn before(&self, context: Handle, key: StreamKey) -> Vec<Ticket> {
        if self.unfinished.is_empty() {
            return Vec::new();
        }
        let blocking = key.blocking(self);
        self.unfinished_of(context, |other| {
            other.key == key || key == StreamKey::Legacy && other.blocking || other.key == StreamKey::Legacy && blocking
        })
    }

    /// Queues the operation that `op` makes of its ticket, behind the stream's work and behind `after`.
    pub fn defer(
        &mut self,
        key: StreamKey,
        after: impl IntoIterator<Item = Ticket>,
        stamp: Stamp,
        op: impl FnOnce(Ticket) -> Op,
    ) -> Outcome<Ticket> {
        let context = stamp.context;
        self.tickets += 1;
        let ticket = self.tickets;
        let after = self.before(context, key).into_iter().chain(after).collect();
        let entry = Entry { ticket, after, op: op(ticket), stamp };
        if let Some(queue) = self.queues.get_mut(&(context, key)) {
            queue.push_back(entry);
        } else {
            let thread = std::thread::Builder::new().name("virtual-gpu stream".into());
            thread.spawn(move || drain(context, key)).map_err(|e| Code::OperatingSystem.because(e.to_string()))?;
            self.queues.insert((context, key), VecDeque::from([entry]));
        }
        self.unfinished.insert(ticket, Unfinished { context, key, blocking: key.blocking(self) });
        Ok(ticket)
    }
}

impl Driver {
    /// Waits until these operations have been executed.
    pub fn settle(&self, tickets: &[Ticket]) {
        let mut state = self.state();
        while tickets.iter().any(|ticket| state.unfinished.contains_key(ticket)) {
            state = self.finished.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until everything that was queued in this context has been executed.
    pub fn settle_context(&self, context: Handle) {
        let tickets = self.state().unfinished_of(context, |_| true);
        self.settle(&tickets);
    }
}

/// Empties the queue of a stream, and ends with it.
fn drain(context: Handle, key: StreamKey) {
    let Ok(driver) = driver() else { return };
    loop {
        let mut state = driver.state();
        let Some(entry) = state.queues.get_mut(&(context, key)).and_then(VecDeque::pop_front) else {
            state.queues.remove(&(context, key));
            return;
        };
        drop(state);
        let Entry { ticket, after, op, mut stamp } = entry;
        driver.settle(&after);
        let cx = Current { driver, context };
        driver.state().order.let_go(&mut stamp);
        let executed = catch_unwind(AssertUnwindSafe(|| cx.execute(&op, &stamp)));
        drop(op);
        let mut state = driver.state();
        // The call that enqueued the operation has returned, so the context is what can fail.
        let code = match executed {
            Ok(Ok(())) => None,
            Ok(Err(fault)) => {
                fault.why.iter().for_each(say);
                Some(fault.code)
            }
            Err(_) => Some(Code::Unknown),
        };
        if let (Some(code), Ok(context)) = (code, state.context(context)) {
            context.failure.get_or_insert(Failure { code, reported: false });
        }
        state.unfinished.remove(&ticket);
        driver.finished.notify_all();
    }
}
