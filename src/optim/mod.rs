//! Optimisation: what an optimiser is, SGD and AdamW, and how the learning rate changes over a training run.
//!
//! # To add an optimiser
//! Write its kernel as an op ([`crate::ops`] says how; `src/ops/update.rs` and `kernels/update.cuh` have what optimisers share),
//! its settings and state as an [`Optimizer`] here, and a name for it in [`OptimizerKind`]. Steps, recordings and checkpoints
//! know optimisers by the trait alone.

pub mod adamw;
mod kept;
mod kind;
mod schedule;
mod sgd;

use crate::Backend;
use crate::tape::{Grads, Param};
use crate::{Error, Result};

pub use adamw::AdamW;
pub use kind::OptimizerKind;
pub use schedule::Schedule;
pub use sgd::Sgd;

/// An update rule with its settings and its state.
///
/// [`Trainer::new`](crate::train::Trainer::new) takes an optimiser that has `From<Self> for Box<dyn Optimizer<B>>`, or the box.
pub trait Optimizer<B: Backend>: Send {
    /// What files and messages call it.
    fn name(&self) -> &'static str;

    /// Updates `params` by their gradients, at learning rate `rate` times each parameter's `rate_multiplier`. A parameter
    /// without a gradient stays as it is.
    ///
    /// # Errors
    /// [`Error::ParameterInUse`] if a variable that shares a parameter's data is still alive; nothing is updated then.
    fn step(&mut self, params: Vec<(String, &mut Param<B>)>, grads: &Grads<B>, rate: f64) -> Result<()>;

    /// Two numbers that kernels of the next update read from device memory beside the rate, because they differ from update to
    /// update: AdamW's bias corrections. A replay gets them as
    /// [`StepScalars::corrections`](crate::device::StepScalars::corrections); an optimiser may give them another meaning.
    fn corrections(&self) -> [f32; 2] {
        [1.0, 1.0]
    }

    /// An update has been replayed: what [`Optimizer::step`] counts on the host has to be counted.
    fn count_replay(&mut self) {}

    /// Cache key of a recorded update: this optimiser and everything that [`Optimizer::step`] hands to kernels by value. A
    /// recording whose key differs is not this update.
    fn recording_key(&self) -> Vec<u64>;

    /// The names of the tensors that it keeps for each parameter, under its present settings. They count as memory, and name
    /// tensors of a run's state file: `NAME.PARAMETER`.
    fn tensor_names(&self) -> &'static [&'static str];

    /// A parameter's tensor `name`; `None` before the first update.
    fn tensor(&self, name: &str, param: &Param<B>) -> Option<&B::Buf>;

    /// Goes on with the tensor `name` that a parameter had in an earlier run, in memory order.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are more or fewer values than the parameter has; [`Error::Config`] if it keeps no tensor of
    /// that name.
    fn set_tensor(&mut self, name: &str, param: &Param<B>, values: &[B::Scalar]) -> Result<()>;

    /// The numbers that it keeps for all parameters together, by name.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// Goes on with a number of an earlier run.
    ///
    /// # Errors
    /// [`Error::Config`] if it keeps none of that name.
    fn set_counter(&mut self, name: &str, _value: u64) -> Result<()> {
        Err(unknown(self.name(), name))
    }
}

/// The optimiser keeps nothing of that name.
fn unknown(optimizer: &str, name: &str) -> Error {
    Error::config(optimizer, format!("it keeps no {name:?}"))
}
