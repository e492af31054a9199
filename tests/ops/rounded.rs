//! Numbers that storing has to round: each is rounded once, to the nearest that can be stored, and sums are not rounded before they
//! are stored.

use mlpconv::Backend;
use mlpconv::device::Role;

use crate::arithmetic::Arithmetic;
use crate::case::{self, Case};
use crate::reference::compare;
use crate::table::conv;
use crate::{draw, naive};

on_every_backend!(factors_are_rounded_to_the_nearest, factors_in_the_middle_of_two_are_rounded_as_they_should_be);

/// Sums of few terms, so that the error of sums does not hide that of operands.
fn cases() -> [Case; 4] {
    [
        Case::Conv2d(conv([2, 3, 6, 5], [4, 3, 3], 1, 1)),
        Case::Conv2d(conv([1, 8, 5, 5], [16, 1, 2], 2, 0)),
        Case::Conv2d(conv([1, 7, 3, 3], [5, 1, 1], 1, 0)),
        Case::Conv2d(conv([2, 16, 3, 4], [8, 1, 1], 1, 0)),
    ]
}

fn factors_are_rounded_to_the_nearest<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for case in cases() {
        let inputs: Vec<Vec<f64>> = case.inputs().iter().map(|shape| draw::spread(31, shape.len())).collect();
        check(backend, arithmetic, &case, &inputs, draw::spread(32, case.output().len()));
    }
}

fn factors_in_the_middle_of_two_are_rounded_as_they_should_be<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for case in cases() {
        let inputs: Vec<Vec<f64>> =
            case.inputs().iter().map(|shape| arithmetic.ties(draw::spread(33, shape.len()))).collect();
        check(backend, arithmetic, &case, &inputs, arithmetic.ties(draw::spread(34, case.output().len())));
    }
}

fn check<B: Backend>(backend: &B, arithmetic: Arithmetic, case: &Case, inputs: &[Vec<f64>], seed: Vec<f64>) {
    let got = case::run(backend, case, inputs, &seed);
    let factor = |value: &f64| arithmetic.stored(*value);
    let factors = |values: &[f64]| values.iter().map(factor).collect::<Vec<f64>>();
    // The bias is added in fp32, unrounded.
    let rounded = [factors(&inputs[0]), factors(&inputs[1]), inputs[2].clone()];
    let bound = |role| move |sum: &naive::Sum| arithmetic.bound(case, role, sum);
    compare(&got.y, &format!("{case:?}: y"), bound(Role::Activation), |i| naive::output(case, &rounded, i));
    // The gradient of a bias is a product with ones, so its terms are rounded too.
    let dy = factors(&seed);
    for (input, gradient) in got.gradients.iter().enumerate() {
        let what = format!("{case:?}: gradient of input {input}");
        compare(gradient, &what, bound(case.roles()[input]), |i| naive::gradient(case, &rounded, &dy, input, i));
    }
}
