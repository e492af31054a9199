//! A communicator of one rank: its state, and what waits for it.
//!
//! Three kinds of threads meet here. The program's threads call the C functions. A thread of the communicator reads what the hub
//! tells (`rank`). The driver's threads run the exchanges of collectives, and wait in them.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::call::Call;
use crate::cuda::{Context, Cuda};
use crate::error::{Code, Fault, Outcome, remember};
use crate::lock;
use crate::random::Random;
use crate::rank::{Id, Line, join};
use crate::settings::{DEAD, Settings};
use crate::staging::{Enqueue, Lanes};
use crate::wire::Asked;

pub struct Comm {
    pub rank: usize,
    pub ranks: usize,
    pub blocking: bool,
    /// The context that was current when it was made, in which its copies are enqueued.
    pub context: Context,
    pub settings: Settings,
    pub lanes: Lanes,
    line: Line,
    state: Mutex<State>,
    changed: Condvar,
    /// Held by the collective that runs. Others, on other streams, wait for it.
    turn: Mutex<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Some ranks have not come.
    Joining,
    Ready,
    /// Finalized here, and not on all ranks.
    Finalizing,
    Finalized,
}

struct State {
    phase: Phase,
    /// The first reason why it has failed.
    failure: Option<Fault>,
    /// Whether it was aborted or destroyed: nothing waits any more.
    over: bool,
    /// Whether it ended by being destroyed. What runs after that is a mistake of the program.
    destroyed: bool,
    /// The number of the next collective that runs.
    next: u64,
    /// Host functions that are exchanging.
    running: usize,
    arriving: Option<Arriving>,
    /// Calls of a non-blocking communicator that are not on their streams yet, see [`Comm::status`].
    issued: Vec<Enqueue>,
    /// Whether a thread is putting them there.
    issuing: bool,
}

/// The output of the collective that runs, as far as it has come.
struct Arriving {
    number: u64,
    bytes: Vec<u8>,
    missing: usize,
}

/// All communicators that may be used, by handle. A handle is a number that is never issued twice, so a stale one is an error.
static ALL: Mutex<(usize, BTreeMap<usize, Arc<Comm>>)> = Mutex::new((0, BTreeMap::new()));

pub fn register(comm: Arc<Comm>) -> usize {
    let (count, all) = &mut *lock(&ALL);
    *count += 1;
    // Like an aligned address, and not null.
    let handle = *count * 16;
    all.insert(handle, comm);
    handle
}

pub fn find(handle: usize) -> Outcome<Arc<Comm>> {
    lock(&ALL).1.get(&handle).cloned().ok_or_else(|| {
        let what = if handle == 0 { "is null" } else { "is none, or was destroyed" };
        Code::InvalidArgument.because(format!("the communicator {handle:#x} {what}"))
    })
}

/// Forgets a handle. Of two threads that destroy a communicator, one fails.
pub fn unregister(handle: usize) -> Outcome<Arc<Comm>> {
    let comm = find(handle)?;
    lock(&ALL).1.remove(&handle);
    Ok(comm)
}

impl Comm {
    /// Makes the communicator of a rank, which begins to join the others.
    pub fn new(ranks: i32, rank: i32, id: Id, blocking: bool) -> Outcome<Arc<Comm>> {
        let invalid = |why: String| Code::InvalidArgument.because(why);
        let known = usize::try_from(ranks).ok().filter(|ranks| *ranks > 0);
        let ranks = known.ok_or_else(|| invalid(format!("{ranks} ranks: there must be one at least")))?;
        let known = usize::try_from(rank).ok().filter(|rank| *rank < ranks);
        let rank = known.ok_or_else(|| invalid(format!("rank {rank} is not below the number of ranks, {ranks}")))?;
        let context = Cuda::get()?.current()?;
        let settings = Settings::read(rank, ranks)?;
        let state = State {
            phase: Phase::Joining,
            failure: None,
            over: false,
            destroyed: false,
            next: 0,
            running: 0,
            arriving: None,
            issued: Vec::new(),
            issuing: false,
        };
        let comm = Arc::new(Comm {
            rank,
            ranks,
            blocking,
            context,
            settings,
            lanes: Lanes::default(),
            line: Line::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            turn: Mutex::new(()),
        });
        join(comm.clone(), id)?;
        Ok(comm)
    }

    pub fn line(&self) -> &Line {
        &self.line
    }

    fn wait_while(&self, which: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        self.changed.wait_while(lock(&self.state), |state| which(state)).unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, how: impl FnOnce(&mut State)) {
        how(&mut lock(&self.state));
        self.changed.notify_all();
    }

    pub fn is_over(&self) -> bool {
        lock(&self.state).over
    }

    /// All ranks have come.
    pub fn joined(&self) {
        self.change(|state| state.phase = Phase::Ready);
    }

    /// All ranks have finalized.
    pub fn quiet(&self) {
        self.change(|state| state.phase = Phase::Finalized);
    }

    /// The communicator has failed, unless it is over or has failed before.
    pub fn fail(&self, fault: Fault) {
        self.change(|state| {
            // What follows the end is no failure: connections close.
            if !state.over && state.phase != Phase::Finalized && state.failure.is_none() {
                remember(&fault);
                state.failure = Some(fault);
            }
        });
    }

    pub fn failure(&self) -> Option<Fault> {
        lock(&self.state).failure.clone()
    }

    /// Fails unless the last operation has ended well.
    pub fn ready(&self) -> Outcome {
        let state = lock(&self.state);
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if state.in_progress() {
            // NCCL's own words.
            let why = "Attempt to use communicator before the previous operation returned ncclSuccess";
            return Err(Code::InvalidArgument.because(why));
        }
        Ok(())
    }

    /// Fails unless collectives may be called.
    pub fn usable(&self) -> Outcome {
        self.ready()?;
        match lock(&self.state).phase {
            Phase::Finalized => Err(Code::InvalidUsage.because("a collective of a communicator that was finalized")),
            _ => Ok(()),
        }
    }

    /// Waits until all ranks have come.
    pub fn wait_joined(&self) -> Outcome {
        let state = self.wait_while(|state| state.phase == Phase::Joining && state.failure.is_none() && !state.over);
        state.failure.clone().map_or(Ok(()), Err)
    }

    /// Takes a collective of a non-blocking communicator, which goes on its stream when the program next asks for the status.
    ///
    /// NCCL launches such a collective from a thread of its own, and says `ncclInProgress` until that has been done. What the program
    /// enqueues before it has asked may overtake the collective. Here it always does, so that a test finds it.
    pub fn issue(&self, what: Enqueue) {
        lock(&self.state).issued.push(what);
    }

    /// The result of `ncclCommGetAsyncError`.
    pub fn status(self: &Arc<Comm>) -> Code {
        let mut state = lock(&self.state);
        if let Some(failure) = &state.failure {
            return failure.code;
        }
        if state.issued.is_empty() || state.issuing {
            return if state.in_progress() { Code::InProgress } else { Code::Success };
        }
        let issued = std::mem::take(&mut state.issued);
        state.issuing = true;
        drop(state);
        let outcome = issued.iter().try_for_each(|what| what.perform(self));
        lock(&self.state).issuing = false;
        match outcome {
            Ok(()) => Code::InProgress,
            Err(fault) => {
                let code = fault.code;
                self.fail(fault);
                code
            }
        }
    }

    /// Runs a collective, as the next one of this rank: sends its input and waits for its output. `None`: the communicator was
    /// aborted or destroyed.
    ///
    /// After a failure this waits until the communicator is aborted, as NCCL's kernels do.
    pub fn exchange(&self, call: &Call, input: Vec<u8>) -> Option<Vec<u8>> {
        let mut state = lock(&self.state);
        if state.over {
            if state.destroyed {
                let rank = self.rank;
                eprintln!(
                    "virtual-nccl: {call} was run on rank {rank} after its communicator was destroyed, and does nothing"
                );
            }
            return None;
        }
        state.running += 1;
        drop(state);
        let output = self.run(call, input);
        self.change(|state| state.running -= 1);
        output
    }

    fn run(&self, call: &Call, input: Vec<u8>) -> Option<Vec<u8>> {
        let _turn = lock(&self.turn);
        let Settings { delay, die, error, mismatch, .. } = self.settings;
        let mut state = lock(&self.state);
        let number = state.next;
        state.next += 1;
        drop(state);
        if die == Some(number) {
            // SAFETY: it ends the process at once, as a signal would, and runs nothing.
            unsafe { libc::_exit(DEAD) };
        }
        if error == Some(number) {
            let rank = self.rank;
            self.fail(
                Code::InternalError.because(format!("VIRTUAL_NCCL_ERROR={rank}:{number}: {call} was made to fail")),
            );
        }
        if !delay.is_zero() {
            let part = (Random::new(Random::seed()).next() >> 11) as f64 / (1u64 << 53) as f64;
            // An abort ends the delay.
            let _ = self.changed.wait_timeout_while(lock(&self.state), delay.mul_f64(part), |state| !state.over);
        }
        let mut state = lock(&self.state);
        let failed = state.failure.is_some();
        if !failed && !state.over {
            let missing = call.output(self.ranks);
            state.arriving = Some(Arriving { number, bytes: vec![0; missing], missing });
            drop(state);
            let count = call.count + u64::from(mismatch == Some(number));
            let asked = Asked::Collective { number, call: Call { count, ..*call }, input };
            if let Err(error) = self.line.send(&asked) {
                let why = format!("{call} cannot be sent to the process that made the unique id: {error}");
                self.fail(Code::RemoteError.because(why));
            }
        } else {
            drop(state);
        }
        let arrived = |state: &State| state.arriving.as_ref().is_some_and(|arriving| arriving.missing == 0);
        let mut state = self.wait_while(|state| !state.over && !arrived(state));
        let over = state.over;
        state.arriving.take().filter(|_| !over).map(|arriving| arriving.bytes)
    }

    /// Takes a part of the output of the collective that runs.
    pub fn arrived(&self, number: u64, offset: u64, bytes: &[u8]) -> Outcome {
        let mut state = lock(&self.state);
        if state.over {
            return Ok(());
        }
        let arriving = state.arriving.as_mut().filter(|arriving| arriving.number == number);
        let place = arriving.and_then(|arriving| {
            let start = usize::try_from(offset).ok()?;
            let place = arriving.bytes.get_mut(start..start.checked_add(bytes.len())?)?;
            arriving.missing = arriving.missing.checked_sub(bytes.len())?;
            Some(place)
        });
        let count = bytes.len();
        let place = place.ok_or_else(|| {
            Code::InternalError
                .because(format!("{count} bytes of collective {number} from byte {offset} were not expected"))
        })?;
        place.copy_from_slice(bytes);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Begins to finalize; if it is blocking, waits until all ranks have.
    pub fn finalize(self: &Arc<Comm>) -> Outcome<Code> {
        self.ready()?;
        let mut state = lock(&self.state);
        if state.phase != Phase::Ready {
            return Err(Code::InvalidArgument.because("the communicator was finalized before"));
        }
        state.phase = Phase::Finalizing;
        drop(state);
        if self.blocking {
            self.finish()?;
            return Ok(Code::Success);
        }
        let comm = self.clone();
        let thread = thread::Builder::new().name("virtual-nccl finalize".into());
        // An error is the communicator's, which the status tells.
        let spawned = thread.spawn(move || drop(comm.finish()));
        spawned.map_err(|error| Code::SystemError.because(error.to_string()))?;
        Ok(Code::InProgress)
    }

    /// Waits for the collectives on streams, and for the other ranks to finalize.
    fn finish(self: &Arc<Comm>) -> Outcome {
        if let Err(fault) = self.lanes.settle(self) {
            self.fail(fault);
        } else if let Err(error) = self.line.send(&Asked::Bye) {
            self.fail(
                Code::RemoteError.because(format!("the process that made the unique id cannot be reached: {error}")),
            );
        }
        let state = self.wait_while(|state| state.phase == Phase::Finalizing && state.failure.is_none() && !state.over);
        state.failure.clone().map_or(Ok(()), Err)
    }

    /// Finalizes it unless that was done, and ends it.
    pub fn destroy(self: &Arc<Comm>) -> Outcome {
        self.ready()?;
        let phase = lock(&self.state).phase;
        if phase == Phase::Ready {
            self.change(|state| state.phase = Phase::Finalizing);
            self.finish()?;
        }
        self.change(|state| state.destroyed = true);
        self.end();
        Ok(())
    }

    /// Ends it at once: what waits returns, and what runs later does nothing. Returns when nothing runs any more.
    pub fn end(&self) {
        self.change(|state| state.over = true);
        self.line.close();
        drop(self.wait_while(|state| state.running > 0));
    }
}

impl State {
    fn in_progress(&self) -> bool {
        matches!(self.phase, Phase::Joining | Phase::Finalizing) || self.issuing || !self.issued.is_empty()
    }
}
