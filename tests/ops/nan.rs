//! NaN propagates: an output is NaN exactly where it depends on a NaN.

use mlpconv::{Backend, Shape};

use crate::arithmetic::Arithmetic;
use crate::case::{self, Case, Conv, Outcome};
use crate::table::conv;

on_every_backend!(
    a_pixel_reaches_every_window_over_it_and_no_other,
    a_weight_reaches_all_of_its_channel_and_no_other,
    a_weight_of_nan_counts_even_where_the_pixels_are_zero,
    a_bias_reaches_all_of_its_channel_and_no_other,
    a_gradient_of_nan_comes_through,
    maxpool_takes_nan_for_the_maximum_and_gives_it_the_gradient,
    global_avgpool_relu_and_flatten_keep_nan,
    dropout_keeps_nan_unless_it_is_dropped,
    a_loss_of_nan_is_nan_and_so_is_its_row_of_the_gradient,
    infinities_pass_a_relu_on_their_side,
);

const NAN: f64 = f64::NAN;

fn where_nan(values: &[f64]) -> Vec<usize> {
    values.iter().enumerate().filter(|(_, v)| v.is_nan()).map(|(i, _)| i).collect()
}

/// Runs the case with the element `at` of input number `input` replaced by NaN.
fn poisoned<B: Backend>(backend: &B, case: &Case, input: usize, at: usize) -> Outcome {
    let (mut inputs, seed) = (case.draw(Arithmetic::CpuF64), case.draw_seed(Arithmetic::CpuF64));
    inputs[input][at] = NAN;
    case::run(backend, case, &inputs, &seed)
}

fn affine_cases() -> [Case; 4] {
    let (three, one) = (conv([2, 2, 4, 4], [3, 3, 3], 1, 1), conv([2, 2, 4, 4], [3, 1, 1], 1, 0));
    let rectified = |conv| Conv { relu: true, ..conv };
    [Case::Conv2d(three), Case::Conv2d(rectified(three)), Case::Conv2d(one), Case::Conv2d(rectified(one))]
}

fn a_pixel_reaches_every_window_over_it_and_no_other<B: Backend>(backend: &B, _: Arithmetic) {
    for case in affine_cases() {
        // The corner pixel of the second image's second channel.
        let outcome = poisoned(backend, &case, 0, 48);
        let windows: &[usize] =
            if matches!(case, Case::Conv2d(Conv { w: [_, _, 3, 3], .. })) { &[0, 1, 4, 5] } else { &[0] };
        let want: Vec<usize> = (3..6).flat_map(|plane| windows.iter().map(move |at| plane * 16 + at)).collect();
        assert_eq!(where_nan(&outcome.y), want, "{case:?}");
    }
}

fn a_weight_reaches_all_of_its_channel_and_no_other<B: Backend>(backend: &B, _: Arithmetic) {
    for case in affine_cases() {
        // The central tap of the middle output channel, which lies over a pixel in every window.
        let at = if matches!(case, Case::Conv2d(Conv { w: [_, _, 3, 3], .. })) { 2 * 9 + 4 } else { 2 };
        let outcome = poisoned(backend, &case, 1, at);
        let want: Vec<usize> = [1, 4].into_iter().flat_map(|plane| plane * 16..(plane + 1) * 16).collect();
        assert_eq!(where_nan(&outcome.y), want, "{case:?}");
    }
}

fn a_weight_of_nan_counts_even_where_the_pixels_are_zero<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for case in affine_cases() {
        let (mut inputs, seed) = (case.draw(arithmetic), case.draw_seed(arithmetic));
        inputs[0].fill(0.0);
        inputs[1][if matches!(case, Case::Conv2d(Conv { w: [_, _, 3, 3], .. })) { 4 } else { 0 }] = NAN;
        let outcome = case::run(backend, &case, &inputs, &seed);
        assert_eq!(where_nan(&outcome.y).len(), 2 * 16, "{case:?}");
    }
}

fn a_bias_reaches_all_of_its_channel_and_no_other<B: Backend>(backend: &B, _: Arithmetic) {
    for case in affine_cases() {
        let outcome = poisoned(backend, &case, 2, 2);
        let want: Vec<usize> = [2, 5].into_iter().flat_map(|plane| plane * 16..(plane + 1) * 16).collect();
        assert_eq!(where_nan(&outcome.y), want, "{case:?}");
    }
}

/// A NaN in the output's gradient makes NaN of every gradient that depends on it. (These are linear cases: an
/// activation that is NaN is not positive, so a fused ReLU would mask it.)
fn a_gradient_of_nan_comes_through<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for case in affine_cases().map(Case::linear) {
        let (inputs, mut seed) = (case.draw(arithmetic), case.draw_seed(arithmetic));
        seed[0] = NAN;
        let outcome = case::run(backend, &case, &inputs, &seed);
        let [dx, dw, db] = &outcome.gradients[..] else { unreachable!() };
        assert!(dx[0].is_nan() && dx[16].is_nan(), "{case:?}: both channels under the window");
        assert!(dx[32..].iter().all(|v| v.is_finite()), "{case:?}: the other image has nothing to do with it");
        assert!(dw[0..dw.len() / 3].iter().any(|v| v.is_nan()), "{case:?}");
        assert!(dw[dw.len() / 3..].iter().all(|v| v.is_finite()), "{case:?}: other channels");
        assert_eq!(where_nan(db), [0], "{case:?}");
    }
}

fn maxpool_takes_nan_for_the_maximum_and_gives_it_the_gradient<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    let case = Case::MaxPool { x: [1, 2, 4, 4], window: 2, stride: 2 };
    for at in [0, 1, 4, 5] {
        let (mut inputs, seed) = (case.draw(arithmetic), case.draw_seed(arithmetic));
        inputs[0][16 + at] = NAN;
        let outcome = case::run(backend, &case, &inputs, &seed);
        assert_eq!(where_nan(&outcome.y), [4], "NaN at {at} of its window");
        assert_eq!(outcome.gradients[0][16 + at], seed[4], "NaN at {at} of its window");
    }
    let infinite = case::forward(backend, &case, &[[f64::INFINITY, NAN].repeat(16)]);
    assert_eq!(where_nan(&infinite).len(), 8, "NaN wins over infinity");
}

fn global_avgpool_relu_and_flatten_keep_nan<B: Backend>(backend: &B, _: Arithmetic) {
    let outcome = poisoned(backend, &Case::GlobalAvgPool { x: [2, 3, 5, 7] }, 0, 4 * 35 + 20);
    assert_eq!(where_nan(&outcome.y), [4]);
    let outcome = poisoned(backend, &Case::Relu { x: Shape::vector(100) }, 0, 50);
    assert_eq!(where_nan(&outcome.y), [50]);
    let outcome = poisoned(backend, &Case::Flatten { x: [2, 3, 5, 7] }, 0, 123);
    assert_eq!(where_nan(&outcome.y), [123]);
}

fn dropout_keeps_nan_unless_it_is_dropped<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    let case = Case::Dropout { x: Shape::vector(64), probability: 0.5 };
    let (clean, inputs) = (case::forward(backend, &case, &case.draw(arithmetic)), [vec![NAN; 64]]);
    let outcome = case::forward(backend, &case, &inputs);
    let kept: Vec<usize> = clean.iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(i, _)| i).collect();
    assert_eq!(where_nan(&outcome), kept);
    assert!(outcome.iter().all(|v| v.is_nan() || *v == 0.0));
}

fn a_loss_of_nan_is_nan_and_so_is_its_row_of_the_gradient<B: Backend>(backend: &B, _: Arithmetic) {
    let case = Case::CrossEntropy { n: 3, classes: 4, smoothing: 0.0 };
    let outcome = poisoned(backend, &case, 0, 5);
    assert!(outcome.y[0].is_nan());
    assert_eq!(where_nan(&outcome.gradients[0]), [4, 5, 6, 7]);
}

fn infinities_pass_a_relu_on_their_side<B: Backend>(backend: &B, _: Arithmetic) {
    let x = vec![f64::INFINITY, f64::NEG_INFINITY, NAN];
    let y = case::forward(backend, &Case::Relu { x: Shape::vector(3) }, &[x]);
    assert_eq!(y[..2], [f64::INFINITY, 0.0]);
    assert!(y[2].is_nan());
}
