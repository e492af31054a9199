//! Gatherings on a thread of their own, so that this rank computes meanwhile.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::Group;
use crate::error::RanksError;
use crate::system::allocation::{copied, reserve};
use crate::{Error, Result};

/// What is to be gathered, and who waits for it.
type Job = (Vec<u8>, Sender<Result<Vec<u8>>>);

/// A thread that gathers for a rank, one gathering after the other. Until those that have begun are over, nothing else may call the
/// group.
pub struct Gatherer {
    jobs: Sender<Job>,
}

/// A gathering that has begun.
pub struct Gathering(Receiver<Result<Vec<u8>>>);

impl Gatherer {
    /// A thread for the gatherings of `group`, which it does not keep.
    ///
    /// # Errors
    /// [`Error::Config`] where the system grants no thread.
    pub(crate) fn new(group: &Arc<Group>) -> Result<Self> {
        let (jobs, begun) = channel::<Job>();
        // Whoever drops the group ends this rank, whatever is left to be gathered.
        let group = Arc::downgrade(group);
        let work = move || {
            for (own, waiting) in begun {
                let Some(group) = group.upgrade() else { return };
                // Nobody waits any more where training has failed.
                let _ = waiting.send(gather(&group, &own));
            }
        };
        let started = thread::Builder::new().name("mlpconv-gather".into()).spawn(work);
        started.map_err(|source| Error::config("ranks", format!("the system grants no thread: {source}")))?;
        Ok(Gatherer { jobs })
    }

    /// Begins [`Group::all_gather`] of this rank's data.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none for the data.
    pub(crate) fn begin(&self, own: &[u8]) -> Result<Gathering> {
        let (waiting, done) = channel();
        let own = copied(own).ok_or_else(|| Error::memory(own.len()))?;
        // A thread that has panicked is found by the wait.
        let _ = self.jobs.send((own, waiting));
        Ok(Gathering(done))
    }
}

fn gather(group: &Group, own: &[u8]) -> Result<Vec<u8>> {
    let (mut all, len) = (Vec::new(), own.len() * group.ranks());
    reserve(&mut all, len).map_err(|_| Error::memory(len))?;
    all.resize(len, 0);
    group.all_gather(own, &mut all)?;
    Ok(all)
}

impl Gathering {
    /// All ranks' data, by rank.
    ///
    /// # Errors
    /// As [`Group::all_gather`].
    pub(crate) fn wait(self) -> Result<Vec<u8>> {
        let panicked = RanksError::System { action: "gather".into(), problem: "the thread has panicked".into() };
        self.0.recv().unwrap_or_else(|_| Err(panicked.into()))
    }
}
