//! The optimisers' rules against PyTorch's, and that of averages, one scalar at a time, over several steps.
//!
//! The reference carries with each number a bound of its rounding error, so the tolerance follows from the computation.

use std::ops::{Add, Div, Mul, Sub};

use mlpconv::Backend;
use mlpconv::device::{Real, Role};
use mlpconv::ops::adamw::{self, AdamWStep};
use mlpconv::ops::average;
use mlpconv::ops::sgd::{self, SgdStep};

use crate::arithmetic::Arithmetic;
use crate::{case, draw};

/// An update of parameters with the given lengths, each with its own multiple of the rate.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    pub lens: &'static [usize],
    pub rate: f64,
    pub rule: Rule,
    pub weight_decay: f64,
    /// Of the rate; those of the weight decay are the same in reverse order.
    pub multipliers: &'static [f64],
}

impl Update {
    /// The multipliers of the rate and of the weight decay of parameter `i`.
    fn multipliers(&self, i: usize) -> [f64; 2] {
        [self.multipliers[i], self.multipliers[self.multipliers.len() - 1 - i]]
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// Without momentum (`None`) no velocity is kept.
    Sgd {
        momentum: Option<f64>,
        nesterov: bool,
    },
    AdamW {
        betas: [f64; 2],
        eps: f64,
    },
    /// The parameter is an average here, and the gradient the parameter that it moves to. There are no multipliers.
    Average {
        keep: f64,
    },
}

/// Enough steps to show whether the state is carried over.
const STEPS: usize = 5;

/// The most tensors that a rule keeps for a parameter.
const STATES: usize = 2;

/// A number, and the bound of its error in units of the unit roundoff.
#[derive(Clone, Copy, Debug)]
struct Rounded {
    value: f64,
    error: f64,
}

impl Rounded {
    fn exact(value: f64) -> Self {
        Rounded { value, error: 0.0 }
    }

    fn after(value: f64, inherited: f64) -> Self {
        Rounded { value, error: inherited + value.abs() }
    }
}

impl Add for Rounded {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Rounded::after(self.value + other.value, self.error + other.error)
    }
}

impl Sub for Rounded {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Rounded::after(self.value - other.value, self.error + other.error)
    }
}

impl Mul for Rounded {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let inherited = self.value.abs() * other.error + other.value.abs() * self.error;
        Rounded::after(self.value * other.value, inherited)
    }
}

impl Div for Rounded {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        let value = self.value / other.value;
        Rounded::after(value, (self.error + value.abs() * other.error) / other.value.abs())
    }
}

impl Rounded {
    /// The square root. A value of zero must be exact.
    fn sqrt(self) -> Self {
        let value = self.value.sqrt();
        let inherited = if self.error == 0.0 { 0.0 } else { self.error / (2.0 * value) };
        Rounded::after(value, inherited)
    }
}

/// PyTorch's rule for one element in step `t` (from 0), with numbers as a backend of scalar `S` sees them.
fn step<S: Real>(
    update: &Update,
    t: usize,
    multipliers: [f64; 2],
    w: &mut Rounded,
    states: &mut [Rounded; STATES],
    g: f64,
) {
    let exact = |value: f64| Rounded::exact(S::from_f64(value).to_f64());
    let (one, g) = (Rounded::exact(1.0), Rounded::exact(g));
    let [rate, decay] = multipliers.map(exact);
    let (rate, decay) = (exact(update.rate) * rate, exact(update.weight_decay) * decay);
    match update.rule {
        Rule::Sgd { momentum, nesterov } => {
            let g = g + decay * *w;
            let v = &mut states[0];
            let direction = match momentum.map(exact) {
                Some(momentum) => {
                    *v = momentum * *v + g;
                    if nesterov { g + momentum * *v } else { *v }
                }
                None => g,
            };
            *w = *w - rate * direction;
        }
        Rule::Average { keep } => *w = g + exact(keep) * (*w - g),
        Rule::AdamW { betas: [beta1, beta2], eps } => {
            let [m, v] = states;
            // The host computes the correction in f64, a power of `updates` factors and a difference, before it is
            // rounded.
            let narrower = f64::EPSILON / S::epsilon().to_f64();
            let correction = |beta: f64| {
                let updates = t as i32 + 1;
                Rounded { value: 1.0 - beta.powi(updates), error: f64::from(updates + 1) * narrower }
            };
            *m = *m + exact(1.0 - beta1) * (g - *m);
            *v = exact(beta2) * *v + exact(1.0 - beta2) * (g * g);
            let root = v.sqrt() * (one / correction(beta2).sqrt()) + exact(eps);
            let decayed = *w * (one - rate * decay);
            *w = decayed - rate * (one / correction(beta1)) * (*m / root);
        }
    }
}

/// The gradient of parameter `i` in step `t`.
fn gradient(i: usize, t: usize, len: usize) -> Vec<f64> {
    draw::spread((50 + 10 * t + i) as u64, len)
}

/// Runs `update` on `backend` and compares parameters and states after each step. Returns the largest error as a share
/// of its bound.
pub fn check<B: Backend>(backend: &B, arithmetic: Arithmetic, update: &Update) -> f64 {
    // Parameters are not rounded by storing.
    let unit = arithmetic.unit();
    let mut worst = 0.0f64;
    let buffer = |values: &[f64]| backend.upload(Role::Parameter, &case::scalars(values)).unwrap();
    let start: Vec<Vec<f64>> =
        update.lens.iter().enumerate().map(|(i, &len)| draw::spread(40 + i as u64, len)).collect();
    let zeros = || start.iter().map(|values| buffer(&vec![0.0; values.len()])).collect::<Vec<_>>();
    let mut params: Vec<B::Buf> = start.iter().map(|values| buffer(values)).collect();
    let mut states: [Vec<B::Buf>; STATES] = std::array::from_fn(|_| zeros());
    let fresh = |&w: &f64| (Rounded::exact(w), [Rounded::exact(0.0); STATES]);
    let mut want: Vec<Vec<_>> = start.iter().map(|values| values.iter().map(fresh).collect()).collect();

    for t in 0..STEPS {
        let grads: Vec<Vec<f64>> = update.lens.iter().enumerate().map(|(i, &len)| gradient(i, t, len)).collect();
        let buffers: Vec<B::Buf> = grads.iter().map(|values| buffer(values)).collect();
        apply(backend, update, t, &mut params, &buffers, &mut states);
        for (i, want) in want.iter_mut().enumerate() {
            for ((w, kept), &g) in want.iter_mut().zip(&grads[i]) {
                step::<B::Scalar>(update, t, update.multipliers(i), w, kept, g);
            }
            let what = format!("{update:?}: w[{i}], step {t}");
            worst = worst.max(compare(backend, unit, &params[i], want.iter().map(|(w, _)| *w), &what));
            for (s, state) in states.iter().enumerate() {
                let what = format!("{update:?}: state {s} of {i}, step {t}");
                worst = worst.max(compare(backend, unit, &state[i], want.iter().map(|(_, kept)| kept[s]), &what));
            }
        }
    }
    worst
}

/// Update `t` (from 0) of all parameters at once.
pub fn apply<B: Backend>(
    backend: &B,
    update: &Update,
    t: usize,
    params: &mut [B::Buf],
    grads: &[B::Buf],
    [first, second]: &mut [Vec<B::Buf>; STATES],
) {
    let scalar = B::Scalar::from_f64;
    let multipliers = (0..update.lens.len()).map(|i| {
        let [rate, decay] = update.multipliers(i).map(scalar);
        (rate, decay)
    });
    let owners = params.iter_mut().zip(grads).zip(multipliers);
    let (rate, weight_decay) = (update.rate, update.weight_decay);
    match update.rule {
        Rule::Sgd { momentum, nesterov } => {
            let item = |(((param, grad), (rate_multiplier, decay_multiplier)), velocity)| {
                let velocity = momentum.is_some().then_some(velocity);
                sgd::Item { param, grad, velocity, rate_multiplier, decay_multiplier }
            };
            let mut items: Vec<sgd::Item<'_, B>> = owners.zip(first).map(item).collect();
            let momentum = scalar(momentum.unwrap_or(0.0));
            let step = SgdStep { rate: scalar(rate), momentum, nesterov, weight_decay: scalar(weight_decay) };
            backend.sgd(&step, &mut items, None).unwrap();
        }
        Rule::Average { keep } => {
            let pairs = owners.map(|((average, param), _)| average::Item { param, average });
            backend.average(scalar(keep), &mut pairs.collect::<Vec<_>>(), None).unwrap();
        }
        Rule::AdamW { betas, eps } => {
            let item = |((((param, grad), (rate_multiplier, decay_multiplier)), exp_avg), exp_avg_sq)| adamw::Item {
                param,
                grad,
                exp_avg,
                exp_avg_sq,
                rate_multiplier,
                decay_multiplier,
            };
            let mut items: Vec<adamw::Item<'_, B>> = owners.zip(first).zip(second).map(item).collect();
            backend.adamw(&AdamWStep::new(rate, betas, eps, weight_decay, t as u64 + 1), &mut items, None).unwrap();
        }
    }
}

fn compare<B: Backend>(backend: &B, unit: f64, got: &B::Buf, want: impl Iterator<Item = Rounded>, what: &str) -> f64 {
    let mut worst = 0.0f64;
    for (index, (got, want)) in backend.download(got).unwrap().into_iter().zip(want).enumerate() {
        // The factor of two allows for a program that computes in another order.
        let (error, tolerance) = ((got.to_f64() - want.value).abs(), 2.0 * unit * want.error);
        assert!(error <= tolerance, "{what}: element {index} is {got:?}, not {} (± {tolerance:e})", want.value);
        if error > 0.0 {
            worst = worst.max(error / tolerance);
        }
    }
    worst
}
