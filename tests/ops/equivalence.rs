//! A pointwise convolution is the convolution with a 1×1 filter.

use mlpconv::Backend;
use mlpconv::device::Role;

use crate::arithmetic::Arithmetic;
use crate::case::{self, Case};
use crate::{naive, table};

on_every_backend!(pointwise_equals_conv2d_with_a_1x1_filter);

fn pointwise_equals_conv2d_with_a_1x1_filter<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    let mut cases = 0;
    for case in table::tape_cases() {
        if let Case::Pointwise(conv) = case {
            check(backend, arithmetic, &case, &Case::Conv2d(conv));
            cases += 1;
        }
    }
    assert!(cases >= 8);
}

fn check<B: Backend>(backend: &B, arithmetic: Arithmetic, pointwise: &Case, conv2d: &Case) {
    let (inputs, seed) = (pointwise.draw(arithmetic), pointwise.draw_seed(arithmetic));
    let [left, right] = [pointwise, conv2d].map(|case| case::run(backend, case, &inputs, &seed));
    let close = |what: &str, role: Role, left: &[f64], right: &[f64], sum: &dyn Fn(usize) -> naive::Sum| {
        for (i, (left, right)) in left.iter().zip(right).enumerate() {
            // Both are stored. (Each has half of the sum's bound, whose other half was the naive loop's.)
            let bound = arithmetic.bound(pointwise, role, &sum(i));
            let (error, tolerance) = ((left - right).abs(), bound.sum + 2.0 * bound.storage);
            assert!(error <= tolerance, "{pointwise:?}: {what}[{i}]: {left} and {right}");
        }
    };
    close("y", Role::Activation, &left.y, &right.y, &|i| naive::output(pointwise, &inputs, i));
    for (input, (left, right)) in left.gradients.iter().zip(&right.gradients).enumerate() {
        let role = pointwise.roles()[input];
        close("gradient", role, left, right, &|i| naive::gradient(pointwise, &inputs, &seed, input, i));
    }
}
