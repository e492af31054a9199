//! The cache of a device's recordings of steps, and the decision when to record one.

use crate::Backend;
use crate::Result;
use crate::device::{Real, Recording, StepScalars};
use crate::nn::plan::Kind;
use crate::nn::{Module, layers};
use crate::optim::Optimizer;
use crate::tape::{Param, ParamId};

/// Cache key: everything baked into a recording. Any difference means a new recording. What a custom layer does is known by its name
/// alone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Work {
    data: u64,
    images: usize,
    params: Vec<ParamId>,
    layers: Vec<Kind>,
    /// `None` for scoring, without an update.
    training: Option<Training>,
}

/// The part of the key that only training has.
#[derive(Clone, Debug, PartialEq)]
struct Training {
    seed: u64,
    optimizer: Vec<u64>,
    /// Of the rate and of the weight decay of each parameter.
    multipliers: Vec<[f64; 2]>,
    label_smoothing: u64,
}

impl Work {
    pub(super) fn scoring<B: Backend>(data: u64, images: usize, net: &impl Module<B>) -> Self {
        let params = net.params().into_iter().map(|(_, param)| param.id()).collect();
        let layers = layers(net).iter().map(|layer| Kind::of(&layer.op)).collect();
        Work { data, images, params, layers, training: None }
    }

    pub(super) fn training<B: Backend>(
        data: u64,
        images: usize,
        seed: u64,
        net: &impl Module<B>,
        optimizer: &dyn Optimizer<B>,
        label_smoothing: f64,
    ) -> Self {
        let multipliers = |param: &Param<B>| [param.rate_multiplier, param.decay_multiplier].map(Real::to_f64);
        let training = Training {
            seed,
            optimizer: optimizer.recording_key(),
            multipliers: net.params().into_iter().map(|(_, param)| multipliers(param)).collect(),
            label_smoothing: label_smoothing.to_bits(),
        };
        Work { training: Some(training), ..Work::scoring(data, images, net) }
    }
}

/// The number of keys in the cache: full and last batches, of training and test images, and as many of another run.
const KEPT: usize = 8;

/// The cache: a state for each key, the most recently used last.
pub(super) struct Recorded<B: Backend> {
    kinds: Vec<(Work, State<B>)>,
}

enum State<B: Backend> {
    /// The work has run once, so that everything a first run allocates exists: memory from the system, kernels,
    /// velocities.
    Seen,
    Recorded(B::Recording),
    /// The device does not record; the work is called each time.
    Plain,
}

impl<B: Backend> Default for Recorded<B> {
    fn default() -> Self {
        Recorded { kinds: Vec::new() }
    }
}

impl<B: Backend> Recorded<B> {
    /// Whether the next [`Recorded::run`] of the work with key `work` is a replay.
    pub(super) fn replays(&self, work: &Work) -> bool {
        self.kinds.iter().any(|(kind, state)| kind == work && matches!(state, State::Recorded(_)))
    }

    /// Runs the work with key `work`: by calling `step`, or by a replay of its recording. The first run of a key calls
    /// `step`, the second records it, later ones replay.
    ///
    /// `scalars` are the per-step scalars that `step` uses; without them nothing is recorded or replayed. Returns
    /// `true` if the recording was replayed and `step` not called, so that the caller has to update the host's
    /// counters.
    ///
    /// # Errors
    /// Those of `step`, or of the device.
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
