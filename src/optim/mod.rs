//! Optimisation: the trait of optimisers, SGD and AdamW, averages of the weights, and schedules of the learning rate.
//!
//! # To add an optimiser
//! Write its kernel as an op (see [`crate::ops`]; `src/ops/update.rs` and `kernels/update.cuh` are shared by
//! optimisers), its settings and state as an [`Optimizer`] here, and a name for it in [`OptimizerKind`]. Steps,
//! recordings and checkpoints use the trait alone.

pub mod adamw;
mod averaging;
mod kept;
mod kind;
mod multipliers;
mod schedule;
mod sgd;

use crate::Backend;
use crate::device::Real;
use crate::tape::{Grads, Param};
use crate::{Error, Result};

pub use adamw::AdamW;
pub use averaging::{Average, Averaging};
pub use kind::OptimizerKind;
pub use multipliers::{RateMultiplier, require_fit, set_multipliers};
pub use schedule::Schedule;
pub use sgd::Sgd;

/// An update rule with its settings and its state.
///
/// [`Trainer::new`](crate::train::Trainer::new) takes an optimiser that has `From<Self> for Box<dyn Optimizer<B>>`, or
/// the box.
pub trait Optimizer<B: Backend>: Send {
    /// The optimiser's name in files and messages.
    fn name(&self) -> &'static str;

    /// Updates `params` by their gradients, at learning rate `rate` times each parameter's `rate_multiplier`, with the
    /// weight decay times its `decay_multiplier`. A parameter without a gradient stays as it is. So does everything if the [guard](Grads::guard) of the gradients leaves
    /// the step out, and an element whose new numbers would not be finite.
    ///
    /// # Errors
    /// [`Error::ParameterInUse`] while a variable of some tape shares a parameter's data; [`Error::Config`] for a setting
    /// out of its range, or a rate that is negative or not finite in f32, or zero in f32 alone. Nothing is updated then.
    fn step(&mut self, params: Vec<(String, &mut Param<B>)>, grads: &Grads<B>, rate: f64) -> Result<()>;

    /// Two per-step scalars of the next update: AdamW's bias corrections, or other numbers that differ from update to
    /// update. A replay passes them as [`StepScalars::corrections`](crate::device::StepScalars::corrections), and
    /// kernels read them from device memory, like the rate.
    fn corrections(&self) -> [f32; 2] {
        [1.0, 1.0]
    }

    /// Tells the number of updates of the whole run, for rules that depend on it.
    fn set_updates(&mut self, _updates: u64) {}

    /// The share that the next update keeps of an average of the weights ([`Averaging`]); 0 without one. A replay passes it as
    /// [`StepScalars::keep`](crate::device::StepScalars::keep).
    fn keep(&self) -> f64 {
        0.0
    }

    /// Called after a replayed update, in place of [`Optimizer::step`]: advances the counters that the host keeps.
    fn count_replay(&mut self) {}

    /// Takes back the last `updates` from the counters that the host keeps: the device has left them out.
    fn uncount(&mut self, _updates: u64) {}

    /// Cache key of a recorded update: the optimiser's identity, and every setting that [`Optimizer::step`] passes to
    /// kernels by value. A different key needs a new recording.
    fn recording_key(&self) -> Vec<u64>;

    /// The names of the state tensors that it keeps for each parameter under its present settings. A run's state file
    /// has them as `NAME.PARAMETER`, and estimates of memory count them.
    fn tensor_names(&self) -> Vec<&'static str>;

    /// A parameter's state tensor `name`, of its shape and in memory order; `None` before the first update.
    fn tensor(&self, name: &str, param: &Param<B>) -> Option<&B::Buf>;

    /// Restores a parameter's state tensor `name`; `values` are in memory order.
    ///
    /// # Errors
    /// [`Error::Shape`] if the number of values is not the parameter's; [`Error::Config`] if the optimiser has no
    /// tensor of that name.
    fn set_tensor(&mut self, name: &str, param: &Param<B>, values: &[B::Scalar]) -> Result<()>;

    /// The optimiser's counters, by name: integers of its state that do not belong to one parameter.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// Restores a counter.
    ///
    /// # Errors
    /// [`Error::Config`] if the optimiser has no counter of that name.
    fn set_counter(&mut self, name: &str, _value: u64) -> Result<()> {
        Err(unknown(self.name(), name))
    }
}

/// Checks a learning rate. Zero is one: schedules may end there.
///
/// # Errors
/// [`Error::Config`] for a rate that is negative or not finite in f32, as kernels take it, or that is zero in f32 alone.
pub(crate) fn require_rate(rate: f64) -> Result<()> {
    let in_f32 = rate as f32;
    if rate == 0.0 || (in_f32 > 0.0 && in_f32.is_finite()) {
        return Ok(());
    }
    Err(Error::config("learning rate", format!("{rate:e} must be positive and finite, in f32 too")))
}

/// Checks an update's rate, and settings: name, value, whether it is in its range, and the range.
///
/// # Errors
/// [`Error::Config`] that names the first number out of its range.
fn require(optimizer: &str, rate: f64, settings: &[(&str, f64, bool, &str)]) -> Result<()> {
    require_rate(rate)?;
    match settings.iter().find(|(_, _, ok, _)| !ok) {
        Some((name, value, _, must)) => Err(Error::config(optimizer, format!("{name} {value} must be {must}"))),
        None => Ok(()),
    }
}

/// Whether an update's setting is zero or positive, and finite as kernels take it: a larger number would be an infinity
/// in f32, which leaves every element out or sets the whole update to zero.
fn is_finite_in_f32(value: f64) -> bool {
    value >= 0.0 && (value as f32).is_finite()
}

/// Checks a multiplier of parameter `name`, `of` rate or decay.
///
/// # Errors
/// [`Error::Config`] for one that is negative or not finite in f32.
fn require_multiplier<S: Real>(optimizer: &str, name: &str, of: &str, multiplier: S) -> Result<()> {
    if is_finite_in_f32(multiplier.to_f64()) {
        return Ok(());
    }
    let problem = format!("{of} multiplier {multiplier:?} of {name} must be zero or positive, and finite");
    Err(Error::config(optimizer, problem))
}

/// What an update takes of parameter `name`: its values, and its multipliers of rate and decay.
///
/// # Errors
/// As [`require_multiplier`]; [`Error::ParameterInUse`] while a variable of some tape shares the values.
fn taken<'a, B: Backend>(
    optimizer: &'static str,
    name: &str,
    param: &'a mut Param<B>,
) -> Result<(&'a mut B::Buf, [B::Scalar; 2])> {
    let multipliers = [param.rate_multiplier, param.decay_multiplier];
    for (of, multiplier) in ["rate", "decay"].into_iter().zip(multipliers) {
        require_multiplier(optimizer, name, of, multiplier)?;
    }
    let in_use = || Error::ParameterInUse { op: optimizer, name: name.into() };
    Ok((param.data_mut().ok_or_else(in_use)?, multipliers))
}

/// The error for a tensor or counter that the optimiser does not have.
fn unknown(optimizer: &str, name: &str) -> Error {
    Error::config(optimizer, format!("it keeps no {name:?}"))
}
