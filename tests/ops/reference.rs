//! Every op against the naive loops of [`naive`], forward and backward, on every backend: on the awkward shapes of the
//! table and on all shapes of the network itself.
//!
//! Two bounds are checked. Each element keeps to the worst case n·u·Σ|a·b|. Roundings go both ways, so the mean square
//! error of a tensor keeps to √n·u·Σ|a·b|, which arithmetic of a lower precision would exceed. If storing rounds as
//! well, both bounds have a term for it.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use mlpconv::Backend;
use mlpconv::device::Role;

use crate::arithmetic::{Arithmetic, Bound};
use crate::case::{self, Case};
use crate::table::{self, conv};
use crate::{draw, naive, update};

/// Elements compared in each tensor: all of a small one, and this many of a large one.
const SAMPLE: usize = 400;

on_every_backend!(awkward_shapes, network_shapes, the_update_rule);

fn awkward_shapes<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    measured(backend, arithmetic);
}

fn network_shapes<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for case in network() {
        check(backend, arithmetic, &case, &mut Worst::default());
    }
}

fn the_update_rule<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for (_, updates) in table::updates() {
        for update in updates {
            update::check(backend, arithmetic, &update);
        }
    }
}

/// For each op and pass, the largest error of an element as a share of its bound.
#[derive(Debug, Default)]
pub struct Worst(pub BTreeMap<(&'static str, &'static str), f64>);

impl Worst {
    fn add(&mut self, op: &'static str, pass: &'static str, share: f64) {
        let worst = self.0.entry((op, pass)).or_default();
        *worst = worst.max(share);
    }
}

/// The errors of all cases on awkward shapes, computed by the first call.
pub fn measured<B: Backend>(backend: &B, arithmetic: Arithmetic) -> &'static Worst {
    static MEASURED: [OnceLock<Worst>; Arithmetic::ALL.len()] = [const { OnceLock::new() }; Arithmetic::ALL.len()];
    MEASURED[arithmetic as usize].get_or_init(|| {
        let mut worst = Worst::default();
        table::tape_cases().iter().for_each(|case| check(backend, arithmetic, case, &mut worst));
        worst
    })
}

/// The network's convolutions and pools, with small batches.
pub fn network() -> Vec<Case> {
    let block = |n, c, size, [k, filter]: [usize; 2], stride, pad| {
        let conv = conv([n, c, size, size], [k, filter, filter], stride, pad);
        Case::Conv2d(case::Conv { relu: true, ..conv })
    };
    let mix = |n, c, size, k| {
        let conv = conv([n, c, size, size], [k, 1, 1], 1, 0);
        Case::Conv2d(case::Conv { relu: true, ..conv })
    };
    let pool = |c, size| Case::MaxPool { x: [2, c, size, size], window: 3, stride: 2 };
    let first = case::Conv { relu: true, constant: true, ..conv([1, 1, 224, 224], [96, 11, 11], 4, 0) };
    vec![
        Case::Conv2d(first),
        mix(1, 96, 54, 96),
        pool(96, 54),
        block(1, 96, 26, [256, 5], 1, 2),
        mix(1, 256, 26, 256),
        pool(256, 26),
        block(1, 256, 12, [384, 3], 1, 1),
        mix(2, 384, 12, 384),
        pool(384, 12),
        block(2, 384, 5, [10, 3], 1, 1),
        mix(2, 10, 5, 10),
        Case::Dropout { x: mlpconv::Shape::image(2, 384, 5, 5), probability: 0.5 },
        Case::GlobalAvgPool { x: [2, 10, 5, 5] },
        Case::Flatten { x: [2, 10, 1, 1] },
        Case::CrossEntropy { n: 2, classes: 10, smoothing: 0.0 },
    ]
}

/// Compares values and gradients of `case` with the naive loops.
pub fn check<B: Backend>(backend: &B, arithmetic: Arithmetic, case: &Case, worst: &mut Worst) {
    let (inputs, seed) = (case.draw(arithmetic), case.draw_seed(arithmetic));
    let got = case::run(backend, case, &inputs, &seed);
    // In TF32 a number that a kernel forgot to round is one that the bounds below allow.
    let stored = |what: &str, values: &[f64]| {
        let wrong = values.iter().find(|value| !value.is_nan() && arithmetic.stored(**value) != **value);
        assert_eq!(wrong, None, "{case:?}: {what} is stored as it cannot be");
    };
    if !matches!(case, Case::CrossEntropy { .. }) {
        stored("y", &got.y);
    }
    for (input, gradient) in
        got.gradients.iter().enumerate().filter(|(input, _)| case.roles()[*input] == Role::Activation)
    {
        stored(&format!("gradient of input {input}"), gradient);
    }
    let bound = |sum: &naive::Sum| match case {
        // The loss is a sum on the meter, which is not stored as an activation.
        Case::CrossEntropy { .. } => arithmetic.bound(case, Role::Parameter, sum),
        _ => arithmetic.bound(case, Role::Activation, sum),
    };
    let share = compare(&got.y, &format!("{case:?}: y"), bound, |i| naive::output(case, &inputs, i));
    worst.add(case.op(), case.forward_pass(), share);
    let dy = before_relu(case, &got.y, seed);
    for (input, gradient) in got.gradients.iter().enumerate().filter(|(_, gradient)| !gradient.is_empty()) {
        let what = format!("{case:?}: gradient of input {input}");
        let bound = |sum: &naive::Sum| arithmetic.bound(case, case.roles()[input], sum);
        let share = compare(gradient, &what, bound, |i| naive::gradient(case, &inputs, &dy, input, i));
        worst.add(case.op(), case.backward_pass(input), share);
    }
}

/// The gradient before a fused ReLU. By the contract it is zero where the computed output `y` is not positive; the
/// reference may differ there by rounding.
pub fn before_relu(case: &Case, y: &[f64], dy: Vec<f64>) -> Vec<f64> {
    match case {
        Case::Conv2d(conv) if conv.relu => {
            dy.into_iter().zip(y).map(|(dy, &y)| if y > 0.0 { dy } else { 0.0 }).collect()
        }
        _ => dy,
    }
}

/// Compares elements with their bounds. Returns the largest error as a share of its bound.
pub fn compare(
    got: &[f64],
    what: &str,
    bound: impl Fn(&naive::Sum) -> Bound,
    want: impl Fn(usize) -> naive::Sum,
) -> f64 {
    // Fresh buffers hold NaN where debug assertions are on, so an element left unwritten shows.
    assert!(got.iter().all(|value| value.is_finite()), "{what} has elements that are not finite");
    let (mut squares, mut sums, mut storage, mut worst) = (0.0, 0.0, 0.0, 0.0f64);
    for index in draw::some_of(13, got.len(), SAMPLE) {
        let (got, want) = (got[index], want(index));
        let (error, bound) = ((got - want.value).abs(), bound(&want));
        assert!(error <= bound.total(), "{what}[{index}] is {got}, not {} ± {:e}", want.value, bound.total());
        squares += error * error;
        sums += bound.sum * bound.sum / want.roundings.max(1) as f64;
        storage += bound.storage * bound.storage;
        if error > 0.0 {
            worst = worst.max(error / bound.total());
        }
    }
    // The two errors may be correlated, so their norms are added (triangle inequality).
    let (error, bound) = (squares.sqrt(), sums.sqrt() + storage.sqrt());
    assert!(error <= bound, "{what}: the mean square error is {} times its bound", error / bound);
    worst
}
