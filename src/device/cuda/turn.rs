//! Whose turn it is to use a device. A capture takes in whatever any thread launches on its stream, and memory of recordings is lent to
//! their work alone, so the thread that records, or runs work for the first time, has the device to itself meanwhile.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// The turns of a device.
#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    given_back: Condvar,
}

#[derive(Default)]
struct State {
    /// Those under way.
    taken: usize,
    alone: Option<ThreadId>,
}

/// A turn: no other thread has the device to itself until this is dropped. A thread may have several.
#[must_use]
pub(crate) struct Turn<'a>(&'a Turns);

/// The device, for one thread alone until this is dropped. It must have no turn before, and may take turns meanwhile.
#[must_use]
pub(super) struct Alone<'a>(&'a Turns);

impl Turns {
    pub(super) fn take(&self) -> Turn<'_> {
        let me = thread::current().id();
        let mut state = self.lock();
        while state.alone.is_some_and(|other| other != me) {
            state = self.given_back.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.taken += 1;
        Turn(self)
    }

    /// Waits for the turns of other threads.
    pub(super) fn alone(&self) -> Alone<'_> {
        let mut state = self.lock();
        while state.taken > 0 || state.alone.is_some() {
            state = self.given_back.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.alone = Some(thread::current().id());
        Alone(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is a single assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.taken -= 1;
        if state.taken == 0 {
            self.0.given_back.notify_all();
        }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.lock().alone = None;
        self.0.given_back.notify_all();
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
                        let (outer, inner) = (turns.take(), turns.take());
                        inside.fetch_add(1, SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, SeqCst);
                        drop((inner, outer));
                    }
                });
            }
            for _ in 0..30 {
                let alone = turns.alone();
                let own = turns.take();
                assert_eq!(inside.load(SeqCst), 0);
                thread::yield_now();
                assert_eq!(inside.load(SeqCst), 0);
                drop((own, alone));
            }
        });
        drop(turns.alone());
    }
}
