//! The optimiser's rule against PyTorch's, one scalar at a time, over several steps.
//!
//! The reference carries with every number a bound of the rounding error that a program may have made up to there, so
//! that the tolerance comes out of the computation itself.

use std::ops::{Add, Mul, Sub};

use mlpconv::Backend;
use mlpconv::device::{Real, Role};
use mlpconv::ops::sgd::{Item, Rule};

use crate::arithmetic::Arithmetic;
use crate::{case, draw};

/// An update of parameters with the given lengths, each with its own multiple of the rate.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    pub lens: &'static [usize],
    pub rate: f64,
    /// Without momentum there is no velocity to keep.
    pub momentum: Option<f64>,
    pub nesterov: bool,
    pub weight_decay: f64,
    pub multipliers: &'static [f64],
}

/// Enough for a momentum to show whether it is carried over.
const STEPS: usize = 5;

/// A number, and how far off it may be in units of the rounding error.
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

/// The rule's numbers as a backend of scalar `S` sees them.
fn rule<S: Real>(update: &Update) -> Rule<S> {
    Rule {
        rate: S::from_f64(update.rate),
        momentum: S::from_f64(update.momentum.unwrap_or(0.0)),
        nesterov: update.nesterov,
        weight_decay: S::from_f64(update.weight_decay),
    }
}

/// PyTorch's rule for one element.
fn step<S: Real>(update: &Update, multiplier: f64, w: &mut Rounded, v: &mut Rounded, g: f64) {
    let rule = rule::<S>(update);
    let exact = |scalar: S| Rounded::exact(scalar.to_f64());
    let g = Rounded::exact(g) + exact(rule.weight_decay) * *w;
    let direction = if update.momentum.is_some() {
        *v = exact(rule.momentum) * *v + g;
        if update.nesterov { g + exact(rule.momentum) * *v } else { *v }
    } else {
        g
    };
    *w = *w - exact(rule.rate) * exact(S::from_f64(multiplier)) * direction;
}

/// The gradient of parameter `i` in step `t`.
fn gradient(i: usize, t: usize, len: usize) -> Vec<f64> {
    draw::spread((50 + 10 * t + i) as u64, len)
}

/// Runs `update` on `backend` and compares parameters and velocities after each step. The largest error as a share of
/// its bound.
pub fn check<B: Backend>(backend: &B, arithmetic: Arithmetic, update: &Update) -> f64 {
    // Parameters are stored as they are computed.
    let unit = arithmetic.unit();
    let mut worst = 0.0f64;
    let buffer = |values: &[f64]| backend.upload(Role::Parameter, &case::scalars(values)).unwrap();
    let start: Vec<Vec<f64>> =
        update.lens.iter().enumerate().map(|(i, &len)| draw::spread(40 + i as u64, len)).collect();
    let mut params: Vec<B::Buf> = start.iter().map(|values| buffer(values)).collect();
    let mut velocities: Vec<B::Buf> = start.iter().map(|values| buffer(&vec![0.0; values.len()])).collect();
    let mut want: Vec<Vec<(Rounded, Rounded)>> =
        start.iter().map(|values| values.iter().map(|&w| (Rounded::exact(w), Rounded::exact(0.0))).collect()).collect();

    for t in 0..STEPS {
        let grads: Vec<Vec<f64>> = update.lens.iter().enumerate().map(|(i, &len)| gradient(i, t, len)).collect();
        let buffers: Vec<B::Buf> = grads.iter().map(|values| buffer(values)).collect();
        apply(backend, update, &mut params, &buffers, &mut velocities);
        for (i, want) in want.iter_mut().enumerate() {
            for ((w, v), &g) in want.iter_mut().zip(&grads[i]) {
                step::<B::Scalar>(update, update.multipliers[i], w, v, g);
            }
            let what = format!("{update:?}: w[{i}], step {t}");
            worst = worst.max(compare(backend, unit, &params[i], want.iter().map(|(w, _)| *w), &what));
            let what = format!("{update:?}: v[{i}], step {t}");
            worst = worst.max(compare(backend, unit, &velocities[i], want.iter().map(|(_, v)| *v), &what));
        }
    }
    worst
}

/// One update of all parameters at once.
pub fn apply<B: Backend>(
    backend: &B,
    update: &Update,
    params: &mut [B::Buf],
    grads: &[B::Buf],
    velocities: &mut [B::Buf],
) {
    let mut items: Vec<Item<'_, B>> = params
        .iter_mut()
        .zip(grads)
        .zip(velocities)
        .zip(update.multipliers)
        .map(|(((param, grad), velocity), &multiplier)| Item {
            param,
            grad,
            velocity: update.momentum.is_some().then_some(velocity),
            rate_multiplier: B::Scalar::from_f64(multiplier),
        })
        .collect();
    backend.sgd(&rule(update), &mut items).unwrap();
}

fn compare<B: Backend>(backend: &B, unit: f64, got: &B::Buf, want: impl Iterator<Item = Rounded>, what: &str) -> f64 {
    let mut worst = 0.0f64;
    for (index, (got, want)) in backend.download(got).unwrap().into_iter().zip(want).enumerate() {
        // Twice: the program may have rounded in another order than the rule is written in.
        let (error, tolerance) = ((got.to_f64() - want.value).abs(), 2.0 * unit * want.error);
        assert!(error <= tolerance, "{what}: element {index} is {got:?}, not {} (± {tolerance:e})", want.value);
        if error > 0.0 {
            worst = worst.max(error / tolerance);
        }
    }
    worst
}
