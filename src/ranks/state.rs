//! What the threads of a group share: the connections, what has come over them, and why the group has failed, if it has.

use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::timeouts::Timeouts;
use super::wire::{self, Frame, Kind, Trouble};
use crate::error::RanksError;

/// How long a frame that has begun waits for a rank that reads nothing, once there is no other reason to go on.
const STUCK: Duration = Duration::from_secs(1);

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

    /// Sends a frame, after those that other threads are sending. `go_on` as for [`wire::fill`], with a difference: a frame that has
    /// begun is sent to its end as long as the other side reads. A later frame, such as the news of a failure, would be taken
    /// for the rest of it.
    pub(super) fn send(
        &self,
        head: (Kind, u8, u64),
        payload: &[u8],
        go_on: &mut dyn FnMut(bool) -> bool,
    ) -> Result<(), Trouble> {
        let _own = lock(&self.writing);
        // A long frame delays that news, so it is not begun in vain.
        if payload.len() > wire::SMALL && !go_on(true) {
            return Err(Trouble::Stalled);
        }
        let mut moved = None;
        let sent = wire::write(&mut &self.stream, head, payload, &mut |went| {
            if went {
                moved = Some(Instant::now());
            }
            go_on(went) || moved.is_some_and(|moved| moved.elapsed() < STUCK)
        });
        // Nothing can follow a part of a frame.
        if moved.is_some() && sent == Err(Trouble::Stalled) {
            self.close();
        }
        sent
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

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const HEAD: (Kind, u8, u64) = (Kind::Answer, 1, 1);

    /// A link, and the other end of its connection.
    fn pair() -> (Link, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Link::new(near, Duration::from_millis(10)).unwrap(), listener.accept().unwrap().0)
    }

    /// More than the system's buffers hold.
    fn long() -> Vec<u8> {
        vec![7; 32 << 20]
    }

    /// Says once that a transfer is to go on: the failure comes when the frame has begun.
    fn once() -> impl FnMut(bool) -> bool {
        let mut asked = false;
        move |_| !std::mem::replace(&mut asked, true)
    }

    #[test]
    fn a_failure_during_a_long_frame_follows_it() {
        let (link, far) = pair();
        let reading = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            [(), ()].map(|()| wire::read(&mut &far, wire::LIMIT, &mut |_| true).unwrap())
        });
        assert_eq!(link.send(HEAD, &long(), &mut |_| false), Err(Trouble::Stalled), "it is not begun in vain");
        assert_eq!(link.send(HEAD, &long(), &mut once()), Ok(()));
        assert!(link.try_send((Kind::Failed, 0, 0), b"why"));
        let [answer, failed] = reading.join().unwrap();
        assert!(answer.kind == Kind::Answer && answer.payload == long());
        assert_eq!((failed.kind, &failed.payload[..]), (Kind::Failed, &b"why"[..]));
    }

    #[test]
    fn a_long_frame_that_nobody_reads_ends_the_connection() {
        let (link, mut far) = pair();
        assert_eq!(link.send(HEAD, &long(), &mut once()), Err(Trouble::Stalled));
        assert!(link.try_send((Kind::Failed, 0, 0), b"why"), "it cannot be sent at all");
        let mut part = Vec::new();
        far.read_to_end(&mut part).unwrap();
        assert!(part.len() < long().len());
    }
}
