//! AdamW: Adam with weight decay that is decoupled from the gradient.

use super::kept::Kept;
use super::{Optimizer, is_finite_in_f32, require, taken, unknown};
use crate::device::Guard;
use crate::ops::adamw::{AdamWStep, Item, corrections};
use crate::tape::{Grads, Param, unique};
use crate::{Backend, Result};

const NAME: &str = "adamw";
const EXP_AVG: &str = "exp_avg";
const EXP_AVG_SQ: &str = "exp_avg_sq";
const UPDATES: &str = "updates";

/// PyTorch's default for β₁ and β₂.
pub const BETAS: [f64; 2] = [0.9, 0.999];
/// PyTorch's default for `eps`.
pub const EPS: f64 = 1e-8;
/// PyTorch's default for the weight decay.
pub const WEIGHT_DECAY: f64 = 0.01;

/// AdamW by PyTorch's rule (see [`ops::adamw`](crate::ops::adamw::AdamW)), with its running averages. Updates are
/// counted once for all parameters; PyTorch counts them for each. The results differ only for a parameter without a
/// gradient in some updates. An update that was left out because something was not finite counts as well: the averages and
/// the weights stay as they were, and the bias corrections go on.
pub struct AdamW<B: Backend> {
    backend: B,
    /// β₁ and β₂: the decay of the running averages of gradients and of their squares in an update.
    pub betas: [f64; 2],
    /// Added to the denominator, positive.
    pub eps: f64,
    /// The share of a parameter that an update at rate 1 subtracts.
    pub weight_decay: f64,
    /// The running averages; both empty before the first update.
    exp_avg: Kept<B>,
    exp_avg_sq: Kept<B>,
    /// Updates so far.
    updates: u64,
    id: u64,
}

impl<B: Backend> AdamW<B> {
    /// AdamW with PyTorch's defaults: [`BETAS`], [`EPS`] and [`WEIGHT_DECAY`].
    pub fn new(backend: &B) -> Self {
        AdamW {
            backend: backend.clone(),
            betas: BETAS,
            eps: EPS,
            weight_decay: WEIGHT_DECAY,
            exp_avg: Kept::new(),
            exp_avg_sq: Kept::new(),
            updates: 0,
            id: unique(),
        }
    }

    /// Sets β₁ and β₂, each in [0, 1).
    pub fn with_betas(mut self, betas: [f64; 2]) -> Self {
        self.betas = betas;
        self
    }

    /// Sets `eps`, a positive number that is added to the square root of the corrected average of squares.
    pub fn with_eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Sets the weight decay: each update multiplies a parameter by `1 − rate · weight_decay`.
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }
}

impl<B: Backend> Optimizer<B> for AdamW<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut params: Vec<(String, &mut Param<B>)>, grads: &Grads<B>, rate: f64) -> Result<()> {
        let ([beta1, beta2], eps, decay) = (self.betas, self.eps, self.weight_decay);
        let in_range = [
            ("beta1", beta1, (0.0..1.0).contains(&beta1), "in [0, 1)"),
            ("beta2", beta2, (0.0..1.0).contains(&beta2), "in [0, 1)"),
            // Kernels take it in f32, where a smaller number may become zero, and a zero gradient 0 / 0.
            (
                "eps",
                eps,
                eps >= f64::from(f32::MIN_POSITIVE) && is_finite_in_f32(eps),
                "at least 1.2e-38, and finite in f32",
            ),
            ("weight decay", decay, is_finite_in_f32(decay), "zero or positive, and finite in f32"),
        ];
        require(NAME, rate, &in_range)?;
        let exp_avg = self.exp_avg.missing(&self.backend, &params)?;
        self.exp_avg_sq.add(self.exp_avg_sq.missing(&self.backend, &params)?);
        self.exp_avg.add(exp_avg);
        let (mut averages, mut squares) = (self.exp_avg.lend(), self.exp_avg_sq.lend());
        let mut items = Vec::with_capacity(params.len());
        for (name, param) in &mut params {
            let kept = averages.remove(&param.id()).zip(squares.remove(&param.id()));
            let (Some((exp_avg, exp_avg_sq)), Some(grad)) = (kept, grads.of_param(param)) else { continue };
            let (param, [rate_multiplier, decay_multiplier]) = taken(NAME, name, param)?;
            items.push(Item { param, grad, exp_avg, exp_avg_sq, rate_multiplier, decay_multiplier });
        }
        let step = AdamWStep::new(rate, self.betas, self.eps, self.weight_decay, self.updates.saturating_add(1));
        self.backend.adamw(&step, &mut items, grads.guard().map(Guard::words).as_deref_mut())?;
        self.count_replay();
        Ok(())
    }

    fn corrections(&self) -> [f32; 2] {
        corrections(self.betas, self.updates.saturating_add(1)).map(|correction| correction as f32)
    }

    fn count_replay(&mut self) {
        // A state file may say any number; the corrections of all large ones are 1.
        self.updates = self.updates.saturating_add(1);
    }

    fn uncount(&mut self, updates: u64) {
        self.updates = self.updates.saturating_sub(updates);
    }

    fn recording_key(&self) -> Vec<u64> {
        let [beta1, beta2] = self.betas;
        let settings = [beta1, beta2, self.eps, self.weight_decay].map(f64::to_bits);
        std::iter::once(self.id).chain(settings).collect()
    }

    fn tensor_names(&self) -> Vec<&'static str> {
        vec![EXP_AVG, EXP_AVG_SQ]
    }

    fn tensor(&self, name: &str, param: &Param<B>) -> Option<&B::Buf> {
        match name {
            EXP_AVG => self.exp_avg.get(param),
            EXP_AVG_SQ => self.exp_avg_sq.get(param),
            _ => None,
        }
    }

    fn set_tensor(&mut self, name: &str, param: &Param<B>, values: &[B::Scalar]) -> Result<()> {
        match name {
            EXP_AVG => self.exp_avg.set(&self.backend, param, values, [NAME, EXP_AVG]),
            EXP_AVG_SQ => self.exp_avg_sq.set(&self.backend, param, values, [NAME, EXP_AVG_SQ]),
            _ => Err(unknown(NAME, name)),
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![(UPDATES, self.updates)]
    }

    fn set_counter(&mut self, name: &str, value: u64) -> Result<()> {
        if name != UPDATES {
            return Err(unknown(NAME, name));
        }
        self.updates = value;
        Ok(())
    }
}

impl<B: Backend> From<AdamW<B>> for Box<dyn Optimizer<B>> {
    fn from(optimizer: AdamW<B>) -> Self {
        Box::new(optimizer)
    }
}
