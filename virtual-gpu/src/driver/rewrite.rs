//! Page-locked host memory between an asynchronous copy and the wait for it.
//!
//! A card may still read the source, or write the destination, until the program has waited. Here the copy is executed at once, so a
//! buffer that was rewritten too early would go unnoticed: of each such buffer a hash is kept, and compared when the copy was waited
//! for. Two copies of streams that nothing orders are compared by their ranges.

use super::abi::{self, Handle};
use super::boundary::say;
use super::order::{Clock, Origin, Stamp};
use super::state::Failure;
use super::work::{Current, Place};
use crate::machine::TrapKind;

/// A buffer that a copy reads or writes until it is waited for.
pub struct Held {
    context: Handle,
    stream: usize,
    count: u64,
    start: usize,
    bytes: usize,
    hash: u64,
    /// Whether the copy writes it.
    destination: bool,
    place: Origin,
}

/// How many buffers are remembered. The oldest is forgotten first.
const MOST: usize = 1 << 10;

#[derive(Default)]
pub struct Buffers(Vec<Held>);

/// A buffer that the host changed too early: the context of its copy, and what is wrong.
pub type Changed = (Handle, String);

/// Not for adversaries: a change of a bit anywhere changes the result.
fn hash(start: usize, bytes: usize) -> Option<u64> {
    let (words, rest) = abi::host(start, bytes).ok()?.as_chunks::<8>();
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = words.iter().fold(bytes as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    Some(rest.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte))))
}

impl Held {
    /// A buffer as the copy left it.
    pub fn of(stamp: &Stamp, start: usize, bytes: usize, destination: bool) -> Option<Held> {
        let Stamp { context, stream, count, place, .. } = *stamp;
        let hash = hash(start, bytes)?;
        Some(Held { context, stream, count, start, bytes, hash, destination, place })
    }

    fn overlaps(&self, start: usize, bytes: usize) -> bool {
        start < self.start + self.bytes && self.start < start + bytes
    }

    fn role(&self) -> &'static str {
        if self.destination { "destination" } else { "source" }
    }

    /// What is wrong, if the buffer has changed since the copy. Asked under the lock of the state, within which it is not freed.
    fn changed(&self) -> Option<Changed> {
        let (start, bytes, role, place) = (self.start, self.bytes, self.role(), &self.place);
        let changed = hash(start, bytes) != Some(self.hash);
        let message = || {
            format!(
                "race between streams: the host wrote to the {bytes} bytes at {start:#x}, page-locked memory, which is the {role} of an \
                 asynchronous copy on {place}, before it had waited for the copy by an event or a synchronisation"
            )
        };
        changed.then(|| (self.context, message()))
    }
}

impl Buffers {
    /// Keeps a buffer of a copy that was executed.
    pub fn hold(&mut self, held: Held) {
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push(held);
    }

    /// Checks a copy that accesses host memory against the others. A buffer that it overwrites in order is no longer held; of these
    /// those that have changed.
    pub fn access(
        &mut self,
        stamp: &Stamp,
        start: usize,
        bytes: usize,
        writes: bool,
    ) -> (Option<String>, Vec<Changed>) {
        let mut overwritten = Vec::new();
        let verb = if writes { "writes" } else { "reads" };
        let picked = |held: &mut Held| held.overlaps(start, bytes) && (writes || held.destination);
        let clash = self.0.iter_mut().find(|held| {
            let before = stamp.clock.covers(held.stream, held.count);
            held.overlaps(start, bytes) && (writes || held.destination) && !before
        });
        let message = clash.map(|held| {
            let (role, other, own) = (held.role(), &held.place, &stamp.place);
            format!(
                "race between streams: a copy on {own} {verb} {bytes} bytes of host memory at {start:#x}, the {role} of a copy on \
                 {other}, and no event or synchronisation orders that before this"
            )
        });
        if message.is_none() && writes {
            overwritten.extend(self.0.extract_if(.., picked).filter_map(|held| held.changed()));
        }
        (message, overwritten)
    }

    /// Removes the buffers of copies that happened before. Returns those that have changed.
    pub fn done(&mut self, clock: &Clock) -> Vec<Changed> {
        let done = self.0.extract_if(.., |held| clock.covers(held.stream, held.count));
        done.filter_map(|held| held.changed()).collect()
    }

    /// Removes the buffers in a range that is freed. Returns those that have changed.
    pub fn freed(&mut self, start: usize, bytes: usize) -> Vec<Changed> {
        self.0.extract_if(.., |held| held.overlaps(start, bytes)).filter_map(|held| held.changed()).collect()
    }

    pub fn forget(&mut self, context: Handle) {
        self.0.retain(|held| held.context != context);
    }
}

impl Current {
    /// The host has waited for what happened before this.
    pub fn learn(&self, clock: &Clock) {
        let changed = self.state().host_waited(clock);
        self.lose_changed(changed);
    }

    /// The host has waited for all work of the context.
    pub fn learn_all(&self) {
        let changed = self.state().host_waited_for_context(self.context);
        self.lose_changed(changed);
    }

    /// Fails the contexts of copies whose buffers the host changed too early.
    pub fn lose_changed(&self, changed: Vec<Changed>) {
        changed.into_iter().for_each(|(context, message)| self.lose(context, message));
    }

    /// Fails a context by a race between streams, as a trap of a kernel would.
    pub fn lose(&self, context: Handle, message: impl std::fmt::Display) {
        let mut state = self.state();
        let Ok(context) = state.context(context) else { return };
        if context.failure.is_none() {
            context.failure = Some(Failure { code: TrapKind::StreamRace.into(), reported: false });
            drop(state);
            say(message);
        }
    }

    /// The page-locked ends of a copy, and whether it writes there, after the check against other copies; `None`: this one fails.
    /// There are none without checks, and pageable memory is free when the call returns.
    pub fn host_buffers(&self, to: Place, from: Place, bytes: usize, stamp: &Stamp) -> Option<Vec<(usize, bool)>> {
        if stamp.count == 0 {
            return Some(Vec::new());
        }
        let (mut ends, mut overwritten, mut clash) = (Vec::new(), Vec::new(), None);
        let mut state = self.state();
        for (place, writes) in [(from, false), (to, true)] {
            if let Place::Host(start) = place
                && state.pinned.contains(start)
            {
                let (found, mut over) = state.order.buffers.access(stamp, start, bytes, writes);
                ends.push((start, writes));
                overwritten.append(&mut over);
                clash = clash.or(found);
            }
        }
        drop(state);
        self.lose_changed(overwritten);
        match clash {
            Some(clash) => {
                self.lose(stamp.context, clash);
                None
            }
            None => Some(ends),
        }
    }

    /// Keeps the buffers of a copy that was executed, unless its call waits for it.
    pub fn hold(&self, buffers: &[(usize, bool)], bytes: usize, stamp: &Stamp) {
        let buffers = buffers.iter().filter(|_| !stamp.waited);
        for held in buffers.filter_map(|(start, writes)| Held::of(stamp, *start, bytes, *writes)) {
            self.state().order.buffers.hold(held);
        }
    }
}
