//! The threads of a group: one for each control connection, which reads it, and one that sends signs of life and spreads a failure.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::state::{Hook, Shared};
use super::wire::{self, Frame, Kind, Trouble};
use crate::error::RanksError;

/// Starts the threads of a group.
pub(super) fn start(shared: &Arc<Shared>) -> Result<Vec<JoinHandle<()>>, RanksError> {
    let mut work: Vec<(String, Box<dyn FnOnce() + Send>)> = Vec::new();
    for (peer, _) in shared.peers() {
        let shared = shared.clone();
        work.push((format!("rank {peer}"), Box::new(move || read_from(&shared, peer))));
    }
    let watched = shared.clone();
    work.push(("ranks".into(), Box::new(move || watch(&watched))));
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for (name, work) in work {
        match thread::Builder::new().name(name).spawn(work) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                stop(shared);
                threads.into_iter().for_each(|thread| drop(thread.join()));
                let action = "start a thread for the ranks".into();
                return Err(RanksError::System { action, problem: error.to_string() });
            }
        }
    }
    Ok(threads)
}

/// Makes the threads end.
pub(super) fn stop(shared: &Shared) {
    let mut state = shared.lock();
    state.closing = true;
    for stream in state.ring.drain(..) {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
    drop(state);
    shared.peers().for_each(|(_, link)| link.close());
    shared.changed.notify_all();
}

/// Reads the connection to a rank until it ends, or no sign of life has come for too long. Silence is counted in reads that
/// found nothing for a tick: a process that was stopped, and goes on, has counted one of them.
fn read_from(shared: &Shared, peer: usize) {
    let Some(link) = &shared.links[peer] else { return };
    let limit = shared.timeouts.silent_ticks();
    let mut silent = 0;
    let mut go_on = |came: bool| {
        silent = if came { 0 } else { silent + 1 };
        silent < limit
    };
    loop {
        match wire::read(&mut link.stream(), wire::LIMIT, &mut go_on) {
            Ok(frame) => take(shared, peer, frame),
            Err(trouble) => return ended(shared, peer, trouble),
        }
    }
}

/// A connection that has ended: a loss, unless the rank has left before.
fn ended(shared: &Shared, peer: usize, trouble: Trouble) {
    if shared.lock().left[peer] {
        return;
    }
    let why = match trouble {
        Trouble::Ended => "its connection was closed without a word, so its process has ended".into(),
        Trouble::Stalled => {
            format!("no sign of life for {:.0} s: its process or its host hangs", shared.timeouts.silence.as_secs_f64())
        }
        Trouble::Broken(problem) => format!("its connection failed: {problem}"),
        Trouble::Garbage(problem) => {
            shared.fail(RanksError::Protocol { rank: peer, problem }, false);
            return;
        }
    };
    shared.fail(RanksError::Lost { rank: peer, why }, false);
}

/// Takes a frame from a rank.
fn take(shared: &Shared, peer: usize, frame: Frame) {
    let at_rank_0 = shared.rank == 0;
    let protocol = |problem: &str| {
        shared.fail(RanksError::Protocol { rank: peer, problem: problem.into() }, false);
    };
    match frame.kind {
        Kind::Beat => {}
        Kind::Call if at_rank_0 => {
            let mut state = shared.lock();
            if !state.inbox[peer].is_empty() {
                drop(state);
                return protocol("a second call before the first was answered");
            }
            state.come[peer] = frame.number;
            state.inbox[peer].push_back(frame);
            shared.changed.notify_all();
        }
        Kind::Answer if !at_rank_0 => {
            let mut state = shared.lock();
            if !state.inbox[peer].is_empty() {
                drop(state);
                return protocol("two answers to one call");
            }
            state.inbox[peer].push_back(frame);
            shared.changed.notify_all();
        }
        Kind::Overdue if at_rank_0 => overdue(shared, &frame),
        Kind::Failed => match serde_json::from_slice(&frame.payload) {
            Ok(error) => drop(shared.fail(error, !at_rank_0)),
            Err(_) => protocol("a failure that cannot be read"),
        },
        Kind::Bye => {
            let Ok(why) = serde_json::from_slice::<Option<String>>(&frame.payload) else {
                return protocol("a goodbye that cannot be read");
            };
            if let Some(link) = &shared.links[peer] {
                link.try_send((Kind::Heard, 0, 0), &[]);
            }
            // Told once: the connection's end has no more to say.
            if let Some(why) = why {
                shared.fail(RanksError::Left { rank: peer, why }, false);
            }
            shared.lock().left[peer] = true;
            shared.changed.notify_all();
        }
        Kind::Heard => {
            shared.lock().heard[peer] = true;
            shared.changed.notify_all();
        }
        kind => protocol(&format!("an unexpected {kind:?}")),
    }
}

/// A rank has waited too long for a call. The ranks that have not come to it are to blame.
fn overdue(shared: &Shared, frame: &Frame) {
    let state = shared.lock();
    let missing = (0..shared.ranks).filter(|&rank| state.come[rank] < frame.number).collect();
    drop(state);
    let call = String::from_utf8_lossy(&frame.payload).into_owned();
    let seconds = shared.timeouts.collective.as_secs();
    shared.fail(RanksError::TimedOut { call, seconds, missing }, false);
}

/// Sends signs of life, and spreads a failure: to the other ranks, then to the hooks.
fn watch(shared: &Shared) {
    let tick = shared.timeouts.tick();
    let mut beaten = Instant::now();
    let mut message = None;
    let mut untold: Vec<usize> = Vec::new();
    loop {
        let mut state = shared.lock();
        let waits = |failed: bool| beaten.elapsed() < tick && (message.is_some() || !failed);
        while !state.closing && untold.is_empty() && waits(state.failure.is_some()) {
            state = shared.wait(state);
        }
        if state.closing {
            let hooks = if state.failure.is_some() { std::mem::take(&mut state.hooks) } else { Vec::new() };
            drop(state);
            return call(hooks);
        }
        let mut hooks: Vec<Hook> = Vec::new();
        if let (None, Some(error)) = (&message, &state.failure) {
            message = Some(serde_json::to_vec(error).unwrap_or_default());
            if !state.told {
                untold = shared.peers().map(|(rank, _)| rank).collect();
            }
            hooks = std::mem::take(&mut state.hooks);
        }
        drop(state);
        if let Some(message) = &message {
            // A thread that sends to a rank at the moment finishes its message first, if that rank goes on reading.
            untold.retain(|&rank| !tell(shared, rank, message));
            if untold.is_empty() {
                shared.lock().spread = true;
                shared.changed.notify_all();
            } else {
                thread::sleep(Duration::from_millis(5));
            }
        }
        call(hooks);
        if beaten.elapsed() >= tick {
            beaten = Instant::now();
            for (_, link) in shared.peers() {
                link.try_send((Kind::Beat, 0, 0), &[]);
            }
        }
    }
}

/// Calls hooks. One that panics does not keep the others from being called.
fn call(hooks: Vec<Hook>) {
    for hook in hooks {
        let _ = catch_unwind(AssertUnwindSafe(hook));
    }
}

/// Tells a rank of the failure, unless the connection is in use. Returns whether that is done.
fn tell(shared: &Shared, rank: usize, message: &[u8]) -> bool {
    shared.links[rank].as_ref().is_none_or(|link| link.try_send((Kind::Failed, 0, 0), message))
}
