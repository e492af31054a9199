//! A group of ranks, and its calls.

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::agreement;
use super::environment::{MOST, Place};
use super::meeting::meet;
use super::ring::{Ring, Torn};
use super::state::{Link, Shared, lock};
use super::timeouts::{Patience, Timeouts};
use super::watch;
use super::wire::{Kind, LIMIT, Trouble};
use crate::error::RanksError;

/// How long a rank whose neighbour in the ring has gone waits for rank 0's word on why.
const NEWS: Duration = Duration::from_secs(3);
/// How long a rank that has waited too long waits for rank 0's word on who is missing.
const VERDICT: Duration = Duration::from_secs(5);
/// How long a rank that leaves waits until the others have heard it, and one that ends after a failure until they know.
const FAREWELL: Duration = Duration::from_secs(1);

/// A call of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Exchange = 1,
    Broadcast,
    Agree,
    Any,
    Barrier,
    AllGather,
}

impl Call {
    const ALL: [Call; 6] = [Call::Exchange, Call::Broadcast, Call::Agree, Call::Any, Call::Barrier, Call::AllGather];

    /// The name of the call with this code.
    fn name(code: u8) -> &'static str {
        match Call::ALL.iter().find(|&&call| call as u8 == code) {
            Some(Call::Exchange) => "exchange",
            Some(Call::Broadcast) => "broadcast",
            Some(Call::Agree) => "agree",
            Some(Call::Any) => "any",
            Some(Call::Barrier) => "barrier",
            Some(Call::AllGather) => "all_gather",
            None => "an unknown call",
        }
    }
}

/// Processes that work together, and this one's place among them. The calls are made by one thread at a time, in the same
/// order on all ranks; a call returns when all ranks have come to it.
///
/// Two kinds of connections join the ranks. Each has a control connection to rank 0, for small data, signs of life and
/// failures; and one to its successor in a ring, for large data. They are neither encrypted nor authenticated: the
/// network is trusted, as it is with MPI and NCCL.
///
/// A rank that ends without [`leave`](Self::leave), or gives no sign of life, is lost. Every call that waits, and every later
/// one, then fails on all other ranks, and so does a group in which calls are made in different orders.
pub struct Group {
    place: Place,
    shared: Arc<Shared>,
    ring: Option<Ring>,
    /// The number of the last call. Held for the length of a call.
    number: Mutex<u64>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Group {
    /// Meets the other ranks. One rank alone opens no connection.
    ///
    /// # Errors
    /// [`RanksError`] on all ranks: [`Missing`](RanksError::Missing) ranks, [`Twice`](RanksError::Twice) the same,
    /// [`OtherCount`](RanksError::OtherCount) or [`OtherVersion`](RanksError::OtherVersion), or a port that rank 0 does not get
    /// or the others do not reach ([`Meeting`](RanksError::Meeting)).
    pub fn join(place: &Place, timeouts: Timeouts) -> crate::Result<Arc<Group>> {
        let group = |shared, ring, threads: Vec<JoinHandle<()>>| {
            Arc::new(Group { place: place.clone(), shared, ring, number: Mutex::new(0), threads: Mutex::new(threads) })
        };
        if place.ranks > MOST || place.rank >= place.ranks.max(1) {
            let problem = format!("there is no rank {} of {}, of at most {MOST}", place.rank, place.ranks);
            return Err(RanksError::Mismatch { problem }.into());
        }
        if place.ranks <= 1 {
            return Ok(group(Arc::new(Shared::new(0, timeouts, vec![None])), None, Vec::new()));
        }
        let met = meet(place, &timeouts)?;
        let tick = timeouts.tick();
        let links = met.streams.into_iter().map(|stream| stream.map(|stream| Link::new(stream, tick)).transpose());
        let links = links.collect::<std::io::Result<_>>();
        let refused =
            |error: std::io::Error| RanksError::System { action: "use a socket".into(), problem: error.to_string() };
        let shared = Arc::new(Shared::new(place.rank, timeouts, links.map_err(refused)?));
        let threads = watch::start(&shared)?;
        let ring = Ring::new(&shared, place, met.ring, met.successor);
        let ring = ring.map_err(|error| shared.fail(error, false));
        let failed = ring.as_ref().err().cloned();
        // Dropped after a failure, it tells the others.
        let group = group(shared, ring.ok(), threads);
        match failed {
            Some(error) => Err(error.into()),
            None => group.barrier().map(|()| group),
        }
    }

    /// The number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.place.rank
    }

    /// The number of ranks.
    pub fn ranks(&self) -> usize {
        self.shared.ranks
    }

    /// The times that this rank waits.
    pub fn timeouts(&self) -> &Timeouts {
        &self.shared.timeouts
    }

    /// The place with which this rank has joined.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// All ranks' byte strings, by rank. They may have different lengths, of at most 1 GiB all together.
    ///
    /// # Errors
    /// [`RanksError`] if the group fails, or has failed.
    pub fn exchange(&self, own: &[u8]) -> crate::Result<Vec<Vec<u8>>> {
        let all = self.call(Call::Exchange, own, |parts| {
            let total = parts.iter().map(|part| part.len() + 8).sum::<usize>();
            if total > LIMIT {
                return Err(RanksError::Mismatch { problem: format!("an exchange of {total} bytes, beyond {LIMIT}") });
            }
            let mut all = Vec::with_capacity(total);
            for part in parts {
                all.extend((part.len() as u64).to_le_bytes());
                all.extend(part);
            }
            Ok(all)
        })?;
        let garbled = || RanksError::Protocol { rank: 0, problem: "an exchange that cannot be read".into() };
        let (mut parts, mut rest) = (Vec::with_capacity(self.ranks()), &all[..]);
        while let Some((len, after)) = rest.split_first_chunk() {
            let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| garbled())?;
            let (part, after) = after.split_at_checked(len).ok_or_else(garbled)?;
            parts.push(part.to_vec());
            rest = after;
        }
        if parts.len() != self.ranks() || !rest.is_empty() {
            return Err(self.shared.fail(garbled(), false).into());
        }
        Ok(parts)
    }

    /// The byte string of rank 0, which passes it; the others pass `None`.
    ///
    /// # Errors
    /// [`RanksError`] if the group fails, or has failed.
    pub fn broadcast(&self, own: Option<&[u8]>) -> crate::Result<Vec<u8>> {
        let own = match own {
            Some(own) if self.rank() == 0 => own,
            None if self.rank() != 0 => &[],
            _ => {
                let problem = format!("rank {} has the wrong side of a broadcast, which is rank 0's", self.rank());
                return Err(self.shared.fail(RanksError::Mismatch { problem }, false).into());
            }
        };
        self.call(Call::Broadcast, own, |parts| Ok(parts.into_iter().next().unwrap_or_default()))
    }

    /// Whether all ranks have the same entries. `what` names these, as "settings".
    ///
    /// # Errors
    /// [`RanksError::Disagreement`] on all ranks, with the first entry (in rank 0's order) in which they differ; the group can
    /// still be used. Other variants of [`RanksError`] if the group fails, or has failed.
    pub fn agree(&self, what: &str, entries: &[(String, String)]) -> crate::Result<()> {
        let own = agreement::written(entries);
        let done = self.call(Call::Agree, &own, |parts| agreement::judge(what, &parts).map(|()| Vec::new()));
        done.map(drop)
    }

    /// Whether any rank wishes so.
    ///
    /// # Errors
    /// [`RanksError`] if the group fails, or has failed.
    pub fn any(&self, wish: bool) -> crate::Result<bool> {
        let wished = |parts: Vec<Vec<u8>>| Ok(vec![parts.iter().any(|part| part[..] == [1]).into()]);
        Ok(self.call(Call::Any, &[wish.into()], wished)?[..] == [1])
    }

    /// Waits until all ranks have come.
    ///
    /// # Errors
    /// [`RanksError`] if the group fails, or has failed.
    pub fn barrier(&self) -> crate::Result<()> {
        self.call(Call::Barrier, &[], |_| Ok(Vec::new())).map(drop)
    }

    /// Fills `all` with all ranks' data, by rank. All have as much, so `all` is as long as the number of ranks times `own`.
    ///
    /// # Errors
    /// [`RanksError::Mismatch`] on all ranks if a length is wrong: nothing is written then, and the group can still be used.
    /// Other variants of [`RanksError`] if the group fails, or has failed; `all` may be written in part then.
    pub fn all_gather(&self, own: &[u8], all: &mut [u8]) -> crate::Result<()> {
        let lengths = [own.len() as u64, all.len() as u64];
        let lengths: Vec<u8> = lengths.iter().flat_map(|len| len.to_le_bytes()).collect();
        self.call(Call::AllGather, &lengths, |parts| agreement::lengths(&parts).map(|()| Vec::new()))?;
        if own.is_empty() {
            return Ok(());
        }
        let Some(ring) = &self.ring else {
            all.copy_from_slice(own);
            return Ok(());
        };
        let number = lock(&self.number);
        let done = ring.all_gather(&self.shared, own, all).map_err(|torn| self.torn(torn));
        drop(number);
        Ok(done?)
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Why the group cannot be used any more, once it is so.
    pub fn failure(&self) -> Option<RanksError> {
        self.shared.lock().failure.clone()
    }

    /// Has `hook` called once when the group fails, by a thread of the group; at once, and by this thread, if it has failed
    /// already. It is never called if the group ends in order. It should be quick: signs of life wait for it.
    pub fn on_failure(&self, hook: Box<dyn FnOnce() + Send>) {
        let mut state = self.shared.lock();
        if state.failure.is_none() {
            state.hooks.push(hook);
        } else {
            drop(state);
            hook();
        }
    }

    /// Makes the group fail on all ranks, because something outside of it has failed on this one, such as its device. Returns the
    /// reason for which the group has failed, which may be an earlier one.
    pub fn fail(&self, why: &str) -> RanksError {
        self.shared.fail(RanksError::Failed { rank: self.rank(), why: why.into() }, false)
    }

    /// Leaves the group, and tells the others: `None` if this rank is done, which is no failure for them unless they call
    /// again; else why, with which they fail. Calls of this rank fail from now on.
    pub fn leave(&self, why: Option<&str>) {
        self.spread();
        let mut state = self.shared.lock();
        if state.gone {
            return;
        }
        state.gone = true;
        if state.failure.is_none() {
            state.hooks.clear();
        }
        drop(state);
        self.shared.changed.notify_all();
        let message = serde_json::to_vec(&why).unwrap_or_default();
        let end = Instant::now() + FAREWELL;
        for (_, link) in self.shared.peers() {
            let _ = link.send((Kind::Bye, 0, 0), &message, &mut |_| Instant::now() < end);
        }
        let mut state = self.shared.lock();
        let waits = |rank: usize, heard: &[bool], left: &[bool]| !heard[rank] && !left[rank];
        // After a failure all know that the group has ended, and a rank that is lost hears nothing.
        while state.failure.is_none()
            && self.shared.peers().any(|(rank, _)| waits(rank, &state.heard, &state.left))
            && Instant::now() < end
        {
            state = self.shared.wait(state);
        }
    }

    /// A call by way of rank 0: it gets the parts of all ranks, by rank, and all get what `decide` makes of them there.
    fn call(
        &self,
        call: Call,
        own: &[u8],
        decide: impl FnOnce(Vec<Vec<u8>>) -> Result<Vec<u8>, RanksError>,
    ) -> crate::Result<Vec<u8>> {
        let mut number = lock(&self.number);
        *number += 1;
        self.shared.usable(&self.shared.lock())?;
        let shared = &self.shared;
        let spoken = |number| format!("{} (call {number})", Call::name(call as u8));
        if shared.rank != 0 {
            let answer = self.ask(call, *number, &spoken(*number), own).map_err(|error| shared.fail(error, false))?;
            return opened(answer).unwrap_or_else(|error| Err(shared.fail(error, false))).map_err(Into::into);
        }
        let parts = self.gather(call, *number, &spoken(*number), own).map_err(|error| shared.fail(error, false))?;
        let result = decide(parts);
        let answer = closed(&result);
        for (rank, link) in shared.peers() {
            let sent = link.send((Kind::Answer, call as u8, *number), &answer, &mut |_| shared.goes_on());
            if let Err(Trouble::Garbage(problem)) = sent {
                return Err(shared.fail(RanksError::Mismatch { problem }, false).into());
            }
            // The reader of the connection finds the reason.
            if sent.is_err() {
                return Err(self.news(rank, "nothing can be sent to it").into());
            }
        }
        Ok(result?)
    }

    /// Rank 0's side of a call: waits for all parts.
    fn gather(&self, call: Call, number: u64, spoken: &str, own: &[u8]) -> Result<Vec<Vec<u8>>, RanksError> {
        let shared = &self.shared;
        let mut patience = Patience::new(shared.timeouts.collective, shared.timeouts.tick());
        let mut state = shared.lock();
        state.come[0] = number;
        loop {
            shared.usable(&state)?;
            let mut missing = Vec::new();
            for (rank, _) in shared.peers() {
                match state.inbox[rank].front() {
                    Some(frame) if (frame.call, frame.number) == (call as u8, number) => {}
                    Some(frame) => {
                        let other = format!("{} (call {})", Call::name(frame.call), frame.number);
                        return Err(RanksError::Mismatch {
                            problem: format!("rank {rank} makes {other}, rank 0 {spoken}"),
                        });
                    }
                    None if state.left[rank] => {
                        return Err(RanksError::Left { rank, why: format!("it was done before {spoken}") });
                    }
                    None => missing.push(rank),
                }
            }
            if missing.is_empty() {
                let part = |inbox: &mut std::collections::VecDeque<_>| {
                    inbox.pop_front().map(|frame: super::wire::Frame| frame.payload)
                };
                let mut parts = vec![own.to_vec()];
                parts.extend(state.inbox[1..].iter_mut().filter_map(part));
                return Ok(parts);
            }
            if !patience.is_left() {
                let (call, seconds) = (spoken.to_owned(), shared.timeouts.collective.as_secs());
                return Err(RanksError::TimedOut { call, seconds, missing });
            }
            state = shared.wait(state);
        }
    }

    /// The other ranks' side of a call: sends the part, and waits for the answer.
    fn ask(&self, call: Call, number: u64, spoken: &str, own: &[u8]) -> Result<Vec<u8>, RanksError> {
        let shared = &self.shared;
        let Some(Some(link)) = shared.links.first() else {
            return Err(RanksError::Lost { rank: 0, why: "it has no connection".into() });
        };
        match link.send((Kind::Call, call as u8, number), own, &mut |_| shared.goes_on()) {
            Ok(()) => {}
            Err(Trouble::Garbage(problem)) => return Err(RanksError::Mismatch { problem }),
            Err(_) if shared.lock().left[0] => {
                return Err(RanksError::Left { rank: 0, why: format!("it was done before {spoken}") });
            }
            Err(trouble) => return Err(self.news(0, &trouble.to_string())),
        }
        let tick = shared.timeouts.tick();
        let mut patience = Patience::new(shared.timeouts.collective, tick);
        let mut asked = false;
        let mut state = shared.lock();
        loop {
            match state.inbox[0].pop_front() {
                Some(frame) if (frame.call, frame.number) == (call as u8, number) => return Ok(frame.payload),
                Some(frame) => {
                    let other = format!("{} (call {})", Call::name(frame.call), frame.number);
                    return Err(RanksError::Mismatch { problem: format!("rank 0 answers {other}, not {spoken}") });
                }
                None if state.left[0] && state.failure.is_none() => {
                    return Err(RanksError::Left { rank: 0, why: format!("it was done before {spoken}") });
                }
                // A call that was answered is done, whatever happens next.
                None => shared.usable(&state)?,
            }
            if !patience.is_left() {
                if asked {
                    let (call, seconds) = (spoken.to_owned(), shared.timeouts.collective.as_secs());
                    return Err(RanksError::TimedOut { call, seconds, missing: vec![0] });
                }
                // Rank 0 knows who has not come: itself, or another.
                asked = true;
                patience = Patience::new(VERDICT, tick);
                drop(state);
                let _ = link.send((Kind::Overdue, 0, number), spoken.as_bytes(), &mut |_| shared.goes_on());
                state = shared.lock();
            }
            state = shared.wait(state);
        }
    }

    /// Waits for the reason why a rank is not reached. Without one the rank itself is to blame.
    fn news(&self, rank: usize, why: &str) -> RanksError {
        let end = Instant::now() + NEWS;
        let mut state = self.shared.lock();
        while self.shared.usable(&state).is_ok() && Instant::now() < end {
            state = self.shared.wait(state);
        }
        let known = self.shared.usable(&state).err();
        drop(state);
        known.unwrap_or_else(|| self.shared.fail(RanksError::Lost { rank, why: why.into() }, false))
    }

    /// Waits until the others know of a failure that this rank has found.
    fn spread(&self) {
        let end = Instant::now() + FAREWELL;
        let mut state = self.shared.lock();
        while state.failure.is_some() && !state.told && !state.spread && Instant::now() < end {
            state = self.shared.wait(state);
        }
    }

    /// Why the ring is torn.
    fn torn(&self, Torn { rank, trouble }: Torn) -> RanksError {
        if trouble == Trouble::Stalled && self.shared.goes_on() {
            let (call, seconds) = ("all_gather".into(), self.shared.timeouts.collective.as_secs());
            return self.shared.fail(RanksError::TimedOut { call, seconds, missing: vec![rank] }, false);
        }
        self.news(rank, &format!("the connection to its neighbour in the ring failed: {trouble}"))
    }
}

impl Drop for Group {
    /// A rank that has not left counts as lost.
    fn drop(&mut self) {
        self.spread();
        watch::stop(&self.shared);
        for thread in lock(&self.threads).drain(..) {
            // A hook may own the group, and drop it.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// A result as the payload of an answer.
fn closed(result: &Result<Vec<u8>, RanksError>) -> Vec<u8> {
    let (first, rest) = match result {
        Ok(bytes) => (0, &bytes[..]),
        Err(error) => (1, &serde_json::to_vec(error).unwrap_or_default()[..]),
    };
    let mut payload = Vec::with_capacity(1 + rest.len());
    payload.push(first);
    payload.extend(rest);
    payload
}

/// The result in the payload of an answer. The outer error is that of an answer that is none.
fn opened(mut payload: Vec<u8>) -> Result<Result<Vec<u8>, RanksError>, RanksError> {
    let garbled = || RanksError::Protocol { rank: 0, problem: "an answer that cannot be read".into() };
    match payload.first() {
        Some(0) => {
            payload.remove(0);
            Ok(Ok(payload))
        }
        Some(1) => Ok(Err(serde_json::from_slice(&payload[1..]).map_err(|_| garbled())?)),
        _ => Err(garbled()),
    }
}
