//! Whose turn it is to use a device. A capture takes in whatever any thread launches on its stream, and memory of recordings is lent to
//! their work alone, so the thread that records, or runs work for the first time, has the device to itself meanwhile.
//!
//! A turn is taken before any lock of the device's: the thread that has it to itself may want the lock.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// The turns of a device.
#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The threads that have turns, and how many.
    held: Vec<(ThreadId, usize)>,
    alone: Option<ThreadId>,
    /// Threads that want the device to themselves. Those without a turn let them go first.
    wanting: usize,
    /// Threads that wait for a change.
    waiting: usize,
}

impl State {
    fn holds(&self, thread: ThreadId) -> bool {
        self.held.iter().any(|(holder, _)| *holder == thread)
    }
}

/// A turn: no other thread has the device to itself until this is dropped. A thread may have several.
#[must_use]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    of: ThreadId,
}

/// The device, for one thread alone until this is dropped. It may take turns meanwhile.
#[must_use]
pub(super) struct Alone<'a>(&'a Turns);

impl Turns {
    pub(super) fn take(&self) -> Turn<'_> {
        let of = thread::current().id();
        let mut state = self.lock();
        while state.alone != Some(of) && (state.alone.is_some() || state.wanting > 0 && !state.holds(of)) {
            state = self.wait(state);
        }
        match state.held.iter_mut().find(|(holder, _)| *holder == of) {
            Some((_, count)) => *count += 1,
            None => state.held.push((of, 1)),
        }
        Turn { turns: self, of }
    }

    /// Waits for the turns of other threads. `None` if this thread has turns, or has the device to itself already.
    pub(super) fn alone(&self) -> Option<Alone<'_>> {
        let me = thread::current().id();
        let mut state = self.lock();
        if state.alone == Some(me) || state.holds(me) {
            return None;
        }
        state.wanting += 1;
        while state.alone.is_some() || !state.held.is_empty() {
            state = self.wait(state);
        }
        state.wanting -= 1;
        state.alone = Some(me);
        Some(Alone(self))
    }

    /// Ends a turn of a thread that has [kept](Turn::keep) it.
    pub(super) fn end(&self, of: ThreadId) {
        drop(Turn { turns: self, of });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.waiting += 1;
        let mut state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state
    }

    /// Changes the state, and tells those who wait.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let told = state.waiting > 0;
        drop(state);
        if told {
            self.changed.notify_all();
        }
    }
}

impl Turn<'_> {
    /// Goes on with the turn until [`Turns::end`] with what this returns.
    pub(super) fn keep(self) -> ThreadId {
        let of = self.of;
        std::mem::forget(self);
        of
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.change(|state| {
            let Some(at) = state.held.iter().position(|(holder, _)| *holder == self.of) else { return };
            state.held[at].1 -= 1;
            if state.held[at].1 == 0 {
                state.held.swap_remove(at);
            }
        });
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.alone = None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    #[test]
    fn a_thread_alone_waits_for_turns_and_others_wait_for_it() {
        let (turns, inside) = (Turns::default(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let (outer, kept) = (turns.take(), turns.take().keep());
                        inside.fetch_add(1, SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, SeqCst);
                        drop(outer);
                        turns.end(kept);
                    }
                });
            }
            for _ in 0..30 {
                let alone = turns.alone().unwrap();
                let own = turns.take();
                assert_eq!(inside.load(SeqCst), 0);
                thread::yield_now();
                assert_eq!(inside.load(SeqCst), 0);
                drop((own, alone));
            }
        });
        drop(turns.alone().unwrap());
    }

    #[test]
    fn a_thread_does_not_wait_for_itself() {
        let turns = Turns::default();
        let turn = turns.take();
        assert!(turns.alone().is_none());
        drop(turn);
        let alone = turns.alone().unwrap();
        assert!(turns.alone().is_none());
        drop(alone);
        assert!(turns.alone().is_some());
    }
}
