//! SGD with momentum, Nesterov momentum and weight decay.

use crate::device::{Backend, Real, Role};
use crate::ops::sgd::{Item, Rule};
use crate::tape::{Grads, Param};
use crate::{Error, Result};

/// Stochastic gradient descent by PyTorch's rule (see [`ops::sgd`](crate::ops::sgd::Sgd)), with its velocities.
pub struct Sgd<B: Backend> {
    backend: B,
    pub momentum: f64,
    pub nesterov: bool,
    pub weight_decay: f64,
    /// By parameter, in the network's order; empty before the first update, and without momentum.
    velocity: Vec<B::Buf>,
}

impl<B: Backend> Sgd<B> {
    /// Plain SGD.
    pub fn new(backend: &B) -> Self {
        Sgd { backend: backend.clone(), momentum: 0.0, nesterov: false, weight_decay: 0.0, velocity: Vec::new() }
    }

    pub fn with_momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    pub fn with_nesterov(mut self, nesterov: bool) -> Self {
        self.nesterov = nesterov;
        self
    }

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
            for (_, param) in params.iter().skip(self.velocity.len()) {
                let mut velocity = self.backend.alloc(Role::Parameter, param.shape().len())?;
                self.backend.fill(&mut velocity, num_traits::Zero::zero())?;
                self.velocity.push(velocity);
            }
        }
        let mut velocity = self.velocity.iter_mut();
        let mut items = Vec::with_capacity(params.len());
        for (name, param) in &mut params {
            let velocity = velocity.next();
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

    /// The velocities, by parameter in the network's order: empty before the first update, and without momentum.
    pub fn velocity(&self) -> &[B::Buf] {
        &self.velocity
    }

    /// Goes on with velocities that an earlier run had.
    pub fn set_velocity(&mut self, velocity: Vec<B::Buf>) {
        self.velocity = velocity;
    }
}
