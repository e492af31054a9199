//! A 1×1 convolution, which runs as a GEMM, equals the 3×3 convolution whose filter is zero except in the middle.

use mlpconv::Backend;
use mlpconv::device::Role;

use crate::arithmetic::Arithmetic;
use crate::case::{self, Case, Conv};
use crate::{naive, table};

on_every_backend!(a_1x1_convolution_equals_a_3x3_one_of_zeros_around_it);

fn a_1x1_convolution_equals_a_3x3_one_of_zeros_around_it<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    let mut cases = 0;
    for case in table::tape_cases() {
        if let Case::Conv2d(conv @ Conv { w: [_, _, 1, 1], stride: 1, pad: 0, .. }) = case {
            check(backend, arithmetic, &conv);
            cases += 1;
        }
    }
    assert!(cases >= 13);
}

fn check<B: Backend>(backend: &B, arithmetic: Arithmetic, conv: &Conv) {
    let [k, c, ..] = conv.w;
    let pointwise = Case::Conv2d(*conv);
    let wide = Case::Conv2d(Conv { w: [k, c, 3, 3], pad: 1, ..*conv });
    let (inputs, seed) = (pointwise.draw(arithmetic), pointwise.draw_seed(arithmetic));
    let mut padded = inputs.clone();
    padded[1] = inputs[1].iter().flat_map(|&w| [0.0, 0.0, 0.0, 0.0, w, 0.0, 0.0, 0.0, 0.0]).collect();
    let left = case::run(backend, &pointwise, &inputs, &seed);
    let mut right = case::run(backend, &wide, &padded, &seed);
    right.gradients[1] = right.gradients[1].chunks(9).map(|filter| filter[4]).collect();
    let close = |what: &str, role: Role, left: &[f64], right: &[f64], sum: &dyn Fn(usize) -> naive::Sum| {
        for (i, (left, right)) in left.iter().zip(right).enumerate() {
            // Both results are stored. The sum's bound has room for two programs, which are these two.
            let bound = arithmetic.bound(&pointwise, role, &sum(i));
            let (error, tolerance) = ((left - right).abs(), bound.sum + 2.0 * bound.storage);
            assert!(error <= tolerance, "{conv:?}: {what}[{i}]: {left} and {right}");
        }
    };
    close("y", Role::Activation, &left.y, &right.y, &|i| naive::output(&pointwise, &inputs, i));
    for (input, (left, right)) in left.gradients.iter().zip(&right.gradients).enumerate() {
        let role = pointwise.roles()[input];
        close("gradient", role, left, right, &|i| naive::gradient(&pointwise, &inputs, &seed, input, i));
    }
}
