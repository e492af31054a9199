//! Steps that a device has recorded, and when to record one.

use crate::Backend;
use crate::Result;
use crate::device::{Recording, StepScalars};
use crate::nn::Module;
use crate::optim::Optimizer;
use crate::tape::ParamId;

/// Cache key: everything baked into a recording, except settings of the network's own modules, which do not change. Any
/// difference means a new recording.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Work {
    data: u64,
    images: usize,
    params: Vec<ParamId>,
    /// `None`: it is scored only.
    training: Option<Training>,
}

#[derive(Clone, Debug, PartialEq)]
struct Training {
    seed: u64,
    optimizer: Vec<u64>,
    multipliers: Vec<f64>,
}

impl Work {
    pub(super) fn scoring<B: Backend>(data: u64, images: usize, net: &impl Module<B>) -> Self {
        let params = net.params().into_iter().map(|(_, param)| param.id()).collect();
        Work { data, images, params, training: None }
    }

    pub(super) fn training<B: Backend>(
        data: u64,
        images: usize,
        seed: u64,
        net: &impl Module<B>,
        optimizer: &dyn Optimizer<B>,
    ) -> Self {
        let multiplier = |param: &crate::Param<B>| crate::device::Real::to_f64(param.rate_multiplier);
        let training = Training {
            seed,
            optimizer: optimizer.recording_key(),
            multipliers: net.params().into_iter().map(|(_, param)| multiplier(param)).collect(),
        };
        Work { training: Some(training), ..Work::scoring(data, images, net) }
    }
}

/// Work of this many kinds is kept: full and last batches, of training and test images, and as many of another run.
const KEPT: usize = 8;

/// What has been seen, most recent last.
pub(super) struct Recorded<B: Backend> {
    kinds: Vec<(Work, State<B>)>,
}

enum State<B: Backend> {
    /// It has been done once. Whatever a first time needs (memory from the system, kernels, velocities) is there.
    Seen,
    Recorded(B::Recording),
    /// The device does not record.
    Plain,
}

impl<B: Backend> Default for Recorded<B> {
    fn default() -> Self {
        Recorded { kinds: Vec::new() }
    }
}

impl<B: Backend> Recorded<B> {
    /// Does `work`, as `step` says: by calling it, or by a replay. Returns whether it was replayed without `step` being
    /// called, so that what `step` does on the host has to be made up for. `step` is to be that of `scalars`; without
    /// scalars nothing is recorded or replayed.
    ///
    /// # Errors
    /// What `step` gives, or the device.
    pub(super) fn run(
        &mut self,
        backend: &B,
        work: Work,
        scalars: Option<&StepScalars>,
        step: &mut dyn FnMut() -> Result<()>,
    ) -> Result<bool> {
        let Some(scalars) = scalars else { return step().map(|()| false) };
        let known = self.kinds.iter().position(|(kind, _)| *kind == work);
        let state = known.map(|at| self.kinds.remove(at).1);
        let (state, replayed) = match state {
            Some(State::Recorded(recording)) => {
                recording.replay(scalars)?;
                (State::Recorded(recording), true)
            }
            Some(State::Seen) => match backend.record(scalars, step)? {
                Some(recording) => {
                    recording.replay(scalars)?;
                    (State::Recorded(recording), false)
                }
                None => {
                    step()?;
                    (State::Plain, false)
                }
            },
            Some(State::Plain) => {
                step()?;
                (State::Plain, false)
            }
            None => {
                backend.warm_up(step)?;
                (State::Seen, false)
            }
        };
        if self.kinds.len() == KEPT {
            self.kinds.remove(0);
        }
        self.kinds.push((work, state));
        Ok(replayed)
    }
}
