//! SGD with momentum, Nesterov momentum and weight decay.

use std::collections::HashMap;

use crate::Backend;
use crate::device::{Real, Role};
use crate::ops::sgd::{Item, Rule};
use crate::tape::{Grads, Param, ParamId, unique};
use crate::{Error, Result};

/// Stochastic gradient descent by PyTorch's rule (see [`ops::sgd`](crate::ops::sgd::Sgd)), with its velocities.
pub struct Sgd<B: Backend> {
    backend: B,
    pub momentum: f64,
    pub nesterov: bool,
    pub weight_decay: f64,
    /// Empty before the first update, and without momentum. A velocity stays where it is once it is there: recorded
    /// updates name its address.
    velocity: HashMap<ParamId, B::Buf>,
    id: u64,
}

impl<B: Backend> Sgd<B> {
    /// Plain SGD.
    pub fn new(backend: &B) -> Self {
        let (backend, velocity, id) = (backend.clone(), HashMap::new(), unique());
        Sgd { backend, momentum: 0.0, nesterov: false, weight_decay: 0.0, velocity, id }
    }

    /// Tells this optimiser, with its velocities, from every other.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// With `momentum` in [0, 1); 0 keeps no velocity.
    pub fn with_momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// With Nesterov's momentum, or without. It means nothing where momentum is 0.
    pub fn with_nesterov(mut self, nesterov: bool) -> Self {
        self.nesterov = nesterov;
        self
    }

    /// With `weight_decay` times each parameter added to its gradient.
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Updates `params` by their gradients, at learning rate `rate`. A parameter without a gradient stays as it is.
    ///
    /// # Errors
    /// [`Error::ParameterInUse`] if a variable that shares a parameter's data is still alive; nothing is updated then.
    pub fn step(&mut self, mut params: Vec<(String, &mut Param<B>)>, grads: &Grads<B>, rate: f64) -> Result<()> {
        if self.momentum != 0.0 {
            for (_, param) in &params {
                if !self.velocity.contains_key(&param.id()) {
                    let mut velocity = self.backend.alloc(Role::Parameter, param.shape().len())?;
                    self.backend.fill(&mut velocity, num_traits::Zero::zero())?;
                    self.velocity.insert(param.id(), velocity);
                }
            }
        }
        // The update lends out every velocity at once, and each of them once.
        let mut velocities: HashMap<_, _> = self.velocity.iter_mut().collect();
        let mut items = Vec::with_capacity(params.len());
        for (name, param) in &mut params {
            let velocity = velocities.remove(&param.id());
            let Some(grad) = grads.of_param(param) else { continue };
            let rate_multiplier = param.rate_multiplier;
            let in_use = || Error::ParameterInUse { op: "sgd", name: name.clone() };
            let param = param.data_mut().ok_or_else(in_use)?;
            items.push(Item { param, grad, velocity, rate_multiplier });
        }
        let rule = Rule {
            rate: Real::from_f64(rate),
            momentum: Real::from_f64(self.momentum),
            nesterov: self.nesterov,
            weight_decay: Real::from_f64(self.weight_decay),
        };
        self.backend.sgd(&rule, &mut items)
    }

    /// A parameter's velocity; `None` before its first update, and without momentum.
    pub fn velocity(&self, param: &Param<B>) -> Option<&B::Buf> {
        self.velocity.get(&param.id())
    }

    /// Goes on with the velocity that a parameter had in an earlier run.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are more or fewer values than the parameter has.
    pub fn set_velocity(&mut self, param: &Param<B>, values: &[B::Scalar]) -> Result<()> {
        if values.len() != param.shape().len() {
            return Err(Error::shape("sgd", format!("{} velocities for a {}", values.len(), param.shape())));
        }
        if let Some(velocity) = self.velocity.get_mut(&param.id()) {
            return self.backend.write(velocity, values);
        }
        self.velocity.insert(param.id(), self.backend.upload(Role::Parameter, values)?);
        Ok(())
    }
}
