//! Every op against the naive loops of [`naive`], forward and backward, in f64 and f32: on the awkward shapes of the
//! table and on all shapes of the network itself.
//!
//! Two bounds hold at once. Each element keeps the worst case n·u·Σ|a·b|. And since roundings go both ways, the elements
//! together keep to its root, √n·u·Σ|a·b| in the mean square, which arithmetic of a lower precision would not.

use mlpconv::{Backend, Cpu};

use crate::case::{self, Case};
use crate::table::{self, Cases, conv};
use crate::{draw, gather, naive, update};

/// Elements compared for each tensor: all of a small one, so many of a large one.
const SAMPLE: usize = 400;

#[test]
fn awkward_shapes_in_f64() {
    let backend = Cpu::<f64>::new();
    table::tape_cases().iter().for_each(|case| check(&backend, 2f64.powi(-53), case));
}

#[test]
fn awkward_shapes_in_f32() {
    let backend = Cpu::<f32>::new();
    table::tape_cases().iter().for_each(|case| check(&backend, 2f64.powi(-24), case));
}

#[test]
fn the_update_rule_in_f32() {
    for (_, cases) in table::table() {
        let Cases::Rule(updates) = cases else { continue };
        updates.iter().for_each(|update| update::check(&Cpu::<f32>::new(), 2f64.powi(-24), update));
    }
}

#[test]
fn batches_in_f32() {
    for (_, cases) in table::table() {
        let Cases::Data(batches) = cases else { continue };
        batches.iter().for_each(|batches| gather::check(&Cpu::<f32>::new(), batches));
    }
}

#[test]
fn network_shapes_in_f64() {
    let backend = Cpu::<f64>::new();
    network().iter().for_each(|case| check(&backend, 2f64.powi(-53), case));
}

#[test]
fn network_shapes_in_f32() {
    let backend = Cpu::<f32>::new();
    network().iter().for_each(|case| check(&backend, 2f64.powi(-24), case));
}

/// The network's convolutions and pools, with small batches.
pub fn network() -> Vec<Case> {
    let block = |n, c, size, [k, filter]: [usize; 2], stride, pad| {
        let conv = conv([n, c, size, size], [k, filter, filter], stride, pad);
        Case::Conv2d(case::Conv { relu: true, ..conv })
    };
    let mix = |n, c, size, k| {
        let conv = conv([n, c, size, size], [k, 1, 1], 1, 0);
        Case::Pointwise(case::Conv { relu: true, ..conv })
    };
    let pool = |c, size| Case::MaxPool { x: [2, c, size, size], window: 3, stride: 2 };
    vec![
        block(1, 1, 224, [96, 11], 4, 0),
        mix(1, 96, 54, 96),
        pool(96, 54),
        block(1, 96, 26, [256, 5], 1, 2),
        mix(2, 256, 26, 256),
        pool(256, 26),
        block(2, 256, 12, [384, 3], 1, 1),
        mix(2, 384, 12, 384),
        pool(384, 12),
        block(2, 384, 5, [10, 3], 1, 1),
        mix(2, 10, 5, 10),
        Case::Dropout { x: mlpconv::Shape::image(2, 384, 5, 5), probability: 0.5 },
        Case::GlobalAvgPool { x: [2, 10, 5, 5] },
        Case::Flatten { x: [2, 10, 1, 1] },
        Case::CrossEntropy { n: 2, classes: 10 },
    ]
}

fn check<B: Backend>(backend: &B, unit: f64, case: &Case) {
    let (inputs, seed) = (case.draw(), case.draw_seed());
    let got = case::run(backend, case, &inputs, &seed);
    compare(&got.y, unit, &format!("{case:?}: y"), |i| naive::output(case, &inputs, i));
    let dy = before_relu(case, &got.y, seed);
    for (input, gradient) in got.gradients.iter().enumerate() {
        let what = format!("{case:?}: gradient of input {input}");
        compare(gradient, unit, &what, |i| naive::gradient(case, &inputs, &dy, input, i));
    }
}

/// The gradient before a fused ReLU. Where a value lies within rounding of zero, the output decides, as the contract says.
fn before_relu(case: &Case, y: &[f64], dy: Vec<f64>) -> Vec<f64> {
    match case {
        Case::Conv2d(conv) | Case::Pointwise(conv) if conv.relu => {
            dy.into_iter().zip(y).map(|(dy, &y)| if y > 0.0 { dy } else { 0.0 }).collect()
        }
        _ => dy,
    }
}

fn compare(got: &[f64], unit: f64, what: &str, want: impl Fn(usize) -> naive::Sum) {
    // Fresh buffers hold NaN where debug assertions are on, so an element left unwritten shows.
    assert!(got.iter().all(|value| value.is_finite()), "{what} has elements that are not finite");
    let (mut squares, mut bound) = (0.0, 0.0);
    for index in draw::some_of(13, got.len(), SAMPLE) {
        let (got, want) = (got[index], want(index));
        let (error, tolerance) = ((got - want.value).abs(), want.tolerance(unit));
        assert!(error <= tolerance, "{what}[{index}] is {got}, not {} ± {tolerance:e}", want.value);
        squares += error * error;
        bound += tolerance * tolerance / want.roundings.max(1) as f64;
    }
    assert!(squares <= bound, "{what}: the mean square error is {} times its bound", (squares / bound).sqrt());
}
