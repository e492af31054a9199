//! What the threads of a group share: the connections, what has come over them, and why the group has failed, if it has.

use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::timeouts::Timeouts;
use super::wire::{self, Frame, Kind, Trouble};
use crate::error::RanksError;

/// What is called once when the group fails.
pub(super) type Hook = Box<dyn FnOnce() + Send>;

/// A control connection.
pub(super) struct Link {
    stream: TcpStream,
    writing: Mutex<()>,
}

impl Link {
    /// The connection, whose reads and writes return after a tick at the latest.
    pub(super) fn new(stream: TcpStream, tick: Duration) -> std::io::Result<Link> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(tick))?;
        stream.set_write_timeout(Some(tick))?;
        Ok(Link { stream, writing: Mutex::new(()) })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a frame, after those that other threads are sending.
    pub(super) fn send(
        &self,
        head: (Kind, u8, u64),
        payload: &[u8],
        go_on: &mut dyn FnMut(bool) -> bool,
    ) -> Result<(), Trouble> {
        let _own = lock(&self.writing);
        wire::write(&mut &self.stream, head, payload, go_on)
    }

    /// Sends a short frame unless another thread is sending. Returns whether it was sent, or cannot be sent at all.
    pub(super) fn try_send(&self, head: (Kind, u8, u64), payload: &[u8]) -> bool {
        let _own = match self.writing.try_lock() {
            Ok(own) => own,
            Err(std::sync::TryLockError::Poisoned(own)) => own.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return false,
        };
        // A frame that has begun is sent to its end. If none of it fits, the other side does not read, and this side's reader
        // finds out.
        let mut begun = false;
        let _ = wire::write(&mut &self.stream, head, payload, &mut |went| {
            begun |= went;
            begun
        });
        true
    }

    /// Ends the connection: its reader sees the end at once.
    pub(super) fn close(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Locks. A thread that has panicked leaves nothing half done that matters.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What changes.
#[derive(Default)]
pub(super) struct State {
    /// Why the group cannot go on. The first reason stays.
    pub failure: Option<RanksError>,
    /// Whether rank 0 knows of the failure, and has told the others.
    pub told: bool,
    /// Whether the others and the hooks have been told of the failure.
    pub spread: bool,
    pub hooks: Vec<Hook>,
    /// By rank: frames of calls that have come and are not used yet.
    pub inbox: Vec<VecDeque<Frame>>,
    /// By rank: the number of the last call that it has come to. Kept by rank 0.
    pub come: Vec<u64>,
    /// By rank: whether it has left in order.
    pub left: Vec<bool>,
    /// By rank: whether it has heard that this rank leaves.
    pub heard: Vec<bool>,
    /// Whether this rank has left.
    pub gone: bool,
    /// Whether the group is being dropped.
    pub closing: bool,
    /// The ring's connections, which end with the group.
    pub ring: Vec<TcpStream>,
}

/// What the threads share.
pub(super) struct Shared {
    pub rank: usize,
    pub ranks: usize,
    pub timeouts: Timeouts,
    /// By rank: rank 0 has a connection to every other, these have one to rank 0.
    pub links: Vec<Option<Link>>,
    pub state: Mutex<State>,
    pub changed: Condvar,
}

impl Shared {
    pub(super) fn new(rank: usize, timeouts: Timeouts, links: Vec<Option<Link>>) -> Shared {
        let ranks = links.len();
        let state = State {
            inbox: (0..ranks).map(|_| VecDeque::new()).collect(),
            come: vec![0; ranks],
            left: vec![false; ranks],
            heard: vec![false; ranks],
            ..State::default()
        };
        Shared { rank, ranks, timeouts, links, state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Waits for a change, a tick at most.
    pub(super) fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, self.timeouts.tick());
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The connections with the ranks at their other ends.
    pub(super) fn peers(&self) -> impl Iterator<Item = (usize, &Link)> {
        self.links.iter().enumerate().filter_map(|(rank, link)| Some((rank, link.as_ref()?)))
    }

    /// Makes the group fail, unless it has failed or this rank has left. Everything that waits for the group returns. `told` if
    /// rank 0 has told it. Returns the reason for which the group has failed.
    pub(super) fn fail(&self, error: RanksError, told: bool) -> RanksError {
        let mut state = self.lock();
        if state.gone || state.closing {
            return error;
        }
        if let Some(first) = &state.failure {
            return first.clone();
        }
        for stream in state.ring.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // A write to a rank that is lost would wait for it.
        if let RanksError::Lost { rank, .. } = error
            && let Some(Some(link)) = self.links.get(rank)
        {
            link.close();
        }
        state.failure = Some(error.clone());
        state.told = told;
        self.changed.notify_all();
        error
    }

    /// Whether calls can be made.
    pub(super) fn usable(&self, state: &State) -> Result<(), RanksError> {
        match &state.failure {
            Some(error) => Err(error.clone()),
            None if state.gone || state.closing => {
                Err(RanksError::Left { rank: self.rank, why: "this rank has left the group itself".into() })
            }
            None => Ok(()),
        }
    }

    /// Whether a transfer is worth going on with.
    pub(super) fn goes_on(&self) -> bool {
        self.usable(&self.lock()).is_ok()
    }
}
