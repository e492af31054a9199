//! A pointwise convolution is the convolution with a 1×1 filter.

use mlpconv::{Backend, Cpu};

use crate::case::{self, Case};
use crate::{naive, table};

#[test]
fn pointwise_equals_conv2d_with_a_1x1_filter() {
    let mut cases = 0;
    for case in table::tape_cases() {
        if let Case::Pointwise(conv) = case {
            check(&Cpu::<f64>::new(), 2f64.powi(-53), &case, &Case::Conv2d(conv));
            check(&Cpu::<f32>::new(), 2f64.powi(-24), &case, &Case::Conv2d(conv));
            cases += 1;
        }
    }
    assert!(cases >= 8);
}

fn check<B: Backend>(backend: &B, unit: f64, pointwise: &Case, conv2d: &Case) {
    let (inputs, seed) = (pointwise.draw(), pointwise.draw_seed());
    let [left, right] = [pointwise, conv2d].map(|case| case::run(backend, case, &inputs, &seed));
    let close = |what: &str, left: &[f64], right: &[f64], bound: &dyn Fn(usize) -> naive::Sum| {
        for (i, (left, right)) in left.iter().zip(right).enumerate() {
            let (error, tolerance) = ((left - right).abs(), bound(i).tolerance(unit));
            assert!(error <= tolerance, "{pointwise:?}: {what}[{i}]: {left} and {right}");
        }
    };
    close("y", &left.y, &right.y, &|i| naive::output(pointwise, &inputs, i));
    for (input, (left, right)) in left.gradients.iter().zip(&right.gradients).enumerate() {
        close("gradient", left, right, &|i| naive::gradient(pointwise, &inputs, &seed, input, i));
    }
}
