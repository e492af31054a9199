//! SGD with momentum, Nesterov momentum and weight decay.

use super::kept::Kept;
use super::{Optimizer, is_finite_in_f32, require, taken, unknown};
use crate::device::{Guard, Real};
use crate::ops::sgd::{Item, SgdStep};
use crate::tape::{Grads, Param, unique};
use crate::{Backend, Result};

const NAME: &str = "sgd";
const VELOCITY: &str = "velocity";

/// Stochastic gradient descent by PyTorch's rule (see [`ops::sgd`](crate::ops::sgd::Sgd)), with its velocities.
pub struct Sgd<B: Backend> {
    backend: B,
    /// In [0, 1).
    pub momentum: f64,
    /// Whether the momentum is Nesterov's.
    pub nesterov: bool,
    /// The factor of the parameter that is added to its gradient.
    pub weight_decay: f64,
    /// The velocities; empty before the first update, and without momentum.
    velocity: Kept<B>,
    id: u64,
}

impl<B: Backend> Sgd<B> {
    /// SGD without momentum and weight decay.
    pub fn new(backend: &B) -> Self {
        let (backend, velocity, id) = (backend.clone(), Kept::new(), unique());
        Sgd { backend, momentum: 0.0, nesterov: false, weight_decay: 0.0, velocity, id }
    }

    /// Sets the momentum, in [0, 1). With 0 there are no velocities.
    pub fn with_momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// Sets whether momentum is Nesterov's. Without effect if momentum is 0.
    pub fn with_nesterov(mut self, nesterov: bool) -> Self {
        self.nesterov = nesterov;
        self
    }

    /// Sets the weight decay: `weight_decay` times the parameter is added to its gradient.
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }
}

impl<B: Backend> Optimizer<B> for Sgd<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut params: Vec<(String, &mut Param<B>)>, grads: &Grads<B>, rate: f64) -> Result<()> {
        let (momentum, decay) = (self.momentum, self.weight_decay);
        let in_range = [
            ("momentum", momentum, (0.0..1.0).contains(&momentum), "in [0, 1)"),
            ("weight decay", decay, is_finite_in_f32(decay), "zero or positive, and finite in f32"),
        ];
        require(NAME, rate, &in_range)?;
        if self.momentum != 0.0 {
            self.velocity.add(self.velocity.missing(&self.backend, &params)?);
        }
        let mut velocities = self.velocity.lend();
        let mut items = Vec::with_capacity(params.len());
        for (name, param) in &mut params {
            let velocity = velocities.remove(&param.id());
            let Some(grad) = grads.of_param(param) else { continue };
            let (param, [rate_multiplier, decay_multiplier]) = taken(NAME, name, param)?;
            items.push(Item { param, grad, velocity, rate_multiplier, decay_multiplier });
        }
        let step = SgdStep {
            rate: Real::from_f64(rate),
            momentum: Real::from_f64(self.momentum),
            nesterov: self.nesterov,
            weight_decay: Real::from_f64(self.weight_decay),
        };
        self.backend.sgd(&step, &mut items, grads.guard().map(Guard::words).as_deref_mut())
    }

    fn recording_key(&self) -> Vec<u64> {
        vec![self.id, self.momentum.to_bits(), u64::from(self.nesterov), self.weight_decay.to_bits()]
    }

    fn tensor_names(&self) -> Vec<&'static str> {
        if self.momentum != 0.0 { vec![VELOCITY] } else { Vec::new() }
    }

    fn tensor(&self, name: &str, param: &Param<B>) -> Option<&B::Buf> {
        if name == VELOCITY { self.velocity.get(param) } else { None }
    }

    fn set_tensor(&mut self, name: &str, param: &Param<B>, values: &[B::Scalar]) -> Result<()> {
        match name {
            VELOCITY => self.velocity.set(&self.backend, param, values, [NAME, VELOCITY]),
            _ => Err(unknown(NAME, name)),
        }
    }
}

impl<B: Backend> From<Sgd<B>> for Box<dyn Optimizer<B>> {
    fn from(optimizer: Sgd<B>) -> Self {
        Box::new(optimizer)
    }
}
