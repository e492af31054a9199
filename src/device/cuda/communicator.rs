//! What joins the GPUs of ranks: NCCL's communicator, and a word by which the device learns that a rank is lost.
//!
//! NCCL works on a stream of its own, beside the kernels of the backward pass. Events order the two: an exchange begins after what the
//! device's stream, or the one that is forked from it, has by then, and the device's stream goes on after it where it is completed. A
//! recording takes all of them in.
//!
//! NCCL's kernels wait for ever for a rank that is gone. The group notices that (`src/ranks/`), and aborts the communicator from a
//! thread of its own; before that it sets the word. So whatever a gathering has left behind, the step that was to use it is left out
//! by [`shard_count`](crate::ops::shards::Shards::shard_count), which reads the word after it, and the weights are those of the last
//! complete step.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cudarc::driver::sys::{CUdeviceptr, CUstream};
use cudarc::driver::{CudaEvent, CudaStream};

use super::nccl::{Comm, Nccl, UniqueId};
use super::word::Word;
use super::{Cuda, CudaError, fork};
use crate::ranks::Group;
use crate::{Error, Result};

/// The time that NCCL may take to make a communicator.
const LIMIT: Duration = Duration::from_secs(120);

/// The time between two questions to NCCL whether something has failed.
const QUESTIONS: Duration = Duration::from_millis(200);

/// The GPU of this rank, joined to those of the others.
pub struct Communicator {
    group: Arc<Group>,
    joined: Arc<Joined>,
    /// NCCL's.
    stream: Arc<CudaStream>,
}

/// An exchange on its way: the event at its end.
pub struct Request(CudaEvent);

/// What the watching threads share with the communicator.
struct Joined {
    nccl: Arc<Nccl>,
    /// `None` once it is aborted.
    comm: Mutex<Option<Handle>>,
    /// 1 once a rank is lost. Kernels read it, those of recordings too, which the trainer drops before this.
    lost: Word,
    /// When the host last went on.
    went_on: Mutex<Instant>,
}

/// NCCL's handle.
struct Handle(Comm);

// SAFETY: any thread may call NCCL with a handle, one at a time.
unsafe impl Send for Handle {}

impl Joined {
    fn comm(&self) -> MutexGuard<'_, Option<Handle>> {
        // A panic elsewhere leaves the handle, or none.
        self.comm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the device, and then lets go of what waits. It is done only once all graphs with a gathering are destroyed.
    fn abort(&self) {
        self.lost.host().store(1, Ordering::SeqCst);
        let taken = self.comm().take();
        if let Some(Handle(comm)) = taken {
            self.nccl.abort(comm);
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let taken = self.comm().take();
        if let Some(Handle(comm)) = taken {
            self.nccl.end(comm);
        }
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        // The other ranks of a group that has failed do not end it together with this one.
        if self.group.failure().is_some() {
            self.joined.abort();
        }
    }
}

impl Communicator {
    /// Joins the GPU to those of the group's other ranks.
    ///
    /// # Errors
    /// [`CudaError::NoNccl`], [`CudaError::NcclTooOld`]; [`CudaError::Nccl`] for what NCCL refuses, as two ranks on one GPU;
    /// [`Error::Ranks`] if a rank is lost meanwhile.
    pub(crate) fn join(cuda: &Cuda, group: &Arc<Group>) -> Result<Self> {
        let nccl = Nccl::load()?;
        // Each rank says whether it has the library before any waits for the others in it.
        let own = if group.rank() == 0 { Some(nccl.unique_id()?.0) } else { None };
        let id = group.broadcast(own.as_ref().map(|id| &id[..]))?;
        let id = UniqueId(id[..].try_into().map_err(|_| CudaError::Nccl {
            call: "ncclGetUniqueId",
            problem: format!("rank 0 has sent an id of {} bytes", id.len()),
        })?);
        let _turn = cuda.turn()?;
        let lost = Word::new(&cuda.shared.context)?;
        let comm = nccl.begin(group.ranks(), id, group.rank())?;
        let (comm, went_on) = (Mutex::new(Some(Handle(comm))), Mutex::new(Instant::now()));
        let joined = Arc::new(Joined { nccl, comm, lost, went_on });
        let hook = Arc::downgrade(&joined);
        // On a thread of its own, for the group's threads have to go on. A machine without threads has the hook wait.
        group.on_failure(Box::new(move || {
            let Some(joined) = hook.upgrade() else { return };
            let again = joined.clone();
            let started = thread::Builder::new().name("mlpconv-abort".into()).spawn(move || joined.abort());
            if started.is_err() {
                again.abort();
            }
        }));
        let stream = cuda.shared.context.new_stream().map_err(CudaError::driver("cuStreamCreate"))?;
        let communicator = Communicator { group: group.clone(), joined, stream };
        communicator.wait_until_ready("ncclCommInitRankConfig")?;
        communicator.watch()?;
        Ok(communicator)
    }

    /// Notes that the host goes on.
    pub(crate) fn goes_on(&self) {
        *self.joined.went_on.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// The address of the word that is not 0 once a rank is lost.
    pub(crate) fn lost(&self) -> CUdeviceptr {
        self.joined.lost.address()
    }

    /// Begins to gather `len` floats of each rank: those at `from` of all ranks, to `to`. It comes after what `cuda` has by now.
    ///
    /// # Errors
    /// [`Error::Ranks`] if a rank was lost before; [`CudaError::Nccl`].
    pub(crate) fn all_gather(&self, cuda: &Cuda, from: CUdeviceptr, to: CUdeviceptr, len: usize) -> Result<Request> {
        self.begin(cuda, "ncclAllGather", |nccl, comm, stream| nccl.all_gather(comm, from, to, len, stream))
    }

    /// Begins to add up the `len` floats at `at` over all ranks. It comes after what `cuda` has by now.
    ///
    /// # Errors
    /// As [`Communicator::all_gather`].
    pub(crate) fn all_reduce(&self, cuda: &Cuda, at: CUdeviceptr, len: usize) -> Result<Request> {
        self.begin(cuda, "ncclAllReduce", |nccl, comm, stream| nccl.all_reduce(comm, at, len, stream))
    }

    fn begin(
        &self,
        cuda: &Cuda,
        call: &'static str,
        work: impl FnOnce(&Nccl, Comm, CUstream) -> Result<()>,
    ) -> Result<Request> {
        let _turn = cuda.turn()?;
        fork::after(&self.stream, &fork::end(&cuda.stream)?)?;
        let done = {
            let comm = self.joined.comm();
            let Some(Handle(comm)) = *comm else { return Err(self.failure()) };
            work(&self.joined.nccl, comm, self.stream.cu_stream())
        };
        done.map_err(|error| self.reason(error))?;
        self.wait_until_ready(call)?;
        Ok(Request(fork::end(&self.stream)?))
    }

    /// Has the work of `cuda` go on after an exchange.
    ///
    /// # Errors
    /// [`CudaError::Driver`].
    pub(crate) fn complete(&self, cuda: &Cuda, Request(event): Request) -> Result<()> {
        let _turn = cuda.turn()?;
        fork::after(&cuda.stream, &event)
    }

    /// Waits until no call of the host is under way in NCCL. That is not the end of the work on the device.
    fn wait_until_ready(&self, call: &'static str) -> Result<()> {
        let began = Instant::now();
        loop {
            let ready = match &*self.joined.comm() {
                Some(Handle(comm)) => self.joined.nccl.is_ready(*comm),
                None => return Err(self.failure()),
            };
            // Of a lost rank the group tells more than NCCL does.
            if let Some(failure) = self.group.failure() {
                return Err(Error::Ranks(failure));
            }
            if ready.map_err(|error| self.reason(error))? {
                return Ok(());
            }
            if began.elapsed() > LIMIT {
                let problem = format!("it is still under way after {} s", LIMIT.as_secs());
                return Err(CudaError::Nccl { call, problem }.into());
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Asks NCCL on a thread whether something has failed, as long as there is the communicator. A failure ends the whole group.
    fn watch(&self) -> Result<()> {
        let (joined, group) = (Arc::downgrade(&self.joined), Arc::downgrade(&self.group));
        let ask = move || {
            while let (Some(joined), Some(group)) = (joined.upgrade(), group.upgrade()) {
                let state = match &*joined.comm() {
                    Some(Handle(comm)) => joined.nccl.is_ready(*comm),
                    None => return,
                };
                let limit = group.timeouts().collective;
                let stands = joined.went_on.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
                if stands > limit {
                    group.fail(&format!("no step was done within {} s; a rank hangs, or its GPU", limit.as_secs()));
                    return;
                }
                if let Err(error) = state {
                    // A rank that is gone is seen by the group as well, which knows which one it was.
                    thread::sleep(2 * QUESTIONS);
                    group.fail(&error.to_string());
                    return;
                }
                drop((joined, group));
                thread::sleep(QUESTIONS);
            }
        };
        let started = thread::Builder::new().name("mlpconv-nccl".into()).spawn(ask);
        started.map(drop).map_err(|source| Error::config("ranks", format!("the system grants no thread: {source}")))
    }

    /// The error to tell for one of NCCL's: that of the group, which knows of a rank that is gone, or fails with NCCL's.
    fn reason(&self, error: Error) -> Error {
        let end = Instant::now() + 2 * QUESTIONS;
        while self.group.failure().is_none() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        Error::Ranks(self.group.fail(&error.to_string()))
    }

    fn failure(&self) -> Error {
        match self.group.failure() {
            Some(failure) => Error::Ranks(failure),
            None => CudaError::Nccl { call: "ncclCommAbort", problem: "the communicator was aborted".into() }.into(),
        }
    }
}
