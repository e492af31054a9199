//! A NaN is not swallowed: an output has one exactly where a NaN goes into it.

use mlpconv::{Backend, Cpu, Shape};

use crate::case::{self, Case, Conv, Outcome};
use crate::table::conv;

const NAN: f64 = f64::NAN;

fn where_nan(values: &[f64]) -> Vec<usize> {
    values.iter().enumerate().filter(|(_, v)| v.is_nan()).map(|(i, _)| i).collect()
}

/// Runs the case with the element `at` of input number `input` replaced by NaN, in both precisions.
fn poisoned(case: &Case, input: usize, at: usize) -> [Outcome; 2] {
    let (mut inputs, seed) = (case.draw(), case.draw_seed());
    inputs[input][at] = NAN;
    [case::run(&Cpu::<f64>::new(), case, &inputs, &seed), case::run(&Cpu::<f32>::new(), case, &inputs, &seed)]
}

fn affine_cases() -> [Case; 4] {
    let (three, one) = (conv([2, 2, 4, 4], [3, 3, 3], 1, 1), conv([2, 2, 4, 4], [3, 1, 1], 1, 0));
    let rectified = |conv| Conv { relu: true, ..conv };
    [Case::Conv2d(three), Case::Conv2d(rectified(three)), Case::Pointwise(one), Case::Pointwise(rectified(one))]
}

#[test]
fn a_pixel_reaches_every_window_over_it_and_no_other() {
    for case in affine_cases() {
        // The corner pixel of the second image's second channel.
        for outcome in poisoned(&case, 0, 48) {
            let windows: &[usize] = if matches!(case, Case::Conv2d(_)) { &[0, 1, 4, 5] } else { &[0] };
            let want: Vec<usize> = (3..6).flat_map(|plane| windows.iter().map(move |at| plane * 16 + at)).collect();
            assert_eq!(where_nan(&outcome.y), want, "{case:?}");
        }
    }
}

#[test]
fn a_weight_reaches_all_of_its_channel_and_no_other() {
    for case in affine_cases() {
        // The central tap of the middle output channel, which lies over a pixel in every window.
        let at = if matches!(case, Case::Conv2d(_)) { 2 * 9 + 4 } else { 2 };
        for outcome in poisoned(&case, 1, at) {
            let want: Vec<usize> = [1, 4].into_iter().flat_map(|plane| plane * 16..(plane + 1) * 16).collect();
            assert_eq!(where_nan(&outcome.y), want, "{case:?}");
        }
    }
}

#[test]
fn a_weight_of_nan_counts_even_where_the_pixels_are_zero() {
    for case in affine_cases() {
        let (mut inputs, seed) = (case.draw(), case.draw_seed());
        inputs[0].fill(0.0);
        inputs[1][if matches!(case, Case::Conv2d(_)) { 4 } else { 0 }] = NAN;
        let outcome = case::run(&Cpu::<f32>::new(), &case, &inputs, &seed);
        assert_eq!(where_nan(&outcome.y).len(), 2 * 16, "{case:?}");
    }
}

#[test]
fn a_bias_reaches_all_of_its_channel_and_no_other() {
    for case in affine_cases() {
        for outcome in poisoned(&case, 2, 2) {
            let want: Vec<usize> = [2, 5].into_iter().flat_map(|plane| plane * 16..(plane + 1) * 16).collect();
            assert_eq!(where_nan(&outcome.y), want, "{case:?}");
        }
    }
}

/// A NaN in what comes back shows in every gradient; an activation that is NaN is not positive, so a fused ReLU stops it.
#[test]
fn a_gradient_of_nan_comes_through() {
    for case in affine_cases().map(Case::linear) {
        let (inputs, mut seed) = (case.draw(), case.draw_seed());
        seed[0] = NAN;
        let outcome = case::run(&Cpu::<f32>::new(), &case, &inputs, &seed);
        let [dx, dw, db] = &outcome.gradients[..] else { unreachable!() };
        assert!(dx[0].is_nan() && dx[16].is_nan(), "{case:?}: both channels under the window");
        assert!(dx[32..].iter().all(|v| v.is_finite()), "{case:?}: the other image has nothing to do with it");
        assert!(dw[0..dw.len() / 3].iter().any(|v| v.is_nan()), "{case:?}");
        assert!(dw[dw.len() / 3..].iter().all(|v| v.is_finite()), "{case:?}: other channels");
        assert_eq!(where_nan(db), [0], "{case:?}");
    }
}

#[test]
fn maxpool_takes_nan_for_the_maximum_and_gives_it_the_gradient() {
    let case = Case::MaxPool { x: [1, 2, 4, 4], window: 2, stride: 2 };
    for at in [0, 1, 4, 5] {
        for outcome in poisoned(&case, 0, 16 + at) {
            assert_eq!(where_nan(&outcome.y), [4], "NaN at {at} of its window");
            assert_eq!(outcome.gradients[0][16 + at], case.draw_seed()[4], "NaN at {at} of its window");
        }
    }
    let infinite = case::forward(&Cpu::<f32>::new(), &case, &[[f64::INFINITY, NAN].repeat(16)]);
    assert_eq!(where_nan(&infinite).len(), 8, "NaN wins over infinity");
}

#[test]
fn global_avgpool_relu_and_flatten_keep_it() {
    for outcome in poisoned(&Case::GlobalAvgPool { x: [2, 3, 5, 7] }, 0, 4 * 35 + 20) {
        assert_eq!(where_nan(&outcome.y), [4]);
    }
    for outcome in poisoned(&Case::Relu { x: Shape::vector(100) }, 0, 50) {
        assert_eq!(where_nan(&outcome.y), [50]);
    }
    for outcome in poisoned(&Case::Flatten { x: [2, 3, 5, 7] }, 0, 123) {
        assert_eq!(where_nan(&outcome.y), [123]);
    }
}

#[test]
fn dropout_keeps_it_unless_it_is_dropped() {
    let case = Case::Dropout { x: Shape::vector(64), probability: 0.5 };
    let (clean, inputs) = (case::forward(&Cpu::<f32>::new(), &case, &case.draw()), [vec![NAN; 64]]);
    let outcome = case::forward(&Cpu::<f32>::new(), &case, &inputs);
    let kept: Vec<usize> = clean.iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(i, _)| i).collect();
    assert_eq!(where_nan(&outcome), kept);
    assert!(outcome.iter().all(|v| v.is_nan() || *v == 0.0));
}

#[test]
fn a_loss_of_nan_is_nan_and_so_is_its_row_of_the_gradient() {
    let case = Case::CrossEntropy { n: 3, classes: 4 };
    for outcome in poisoned(&case, 0, 5) {
        assert!(outcome.y[0].is_nan());
        assert_eq!(where_nan(&outcome.gradients[0]), [4, 5, 6, 7]);
    }
}

#[test]
fn infinities_pass_a_relu_on_their_side() {
    fn check<B: Backend>(backend: &B) {
        let x = vec![f64::INFINITY, f64::NEG_INFINITY, NAN];
        let y = case::forward(backend, &Case::Relu { x: Shape::vector(3) }, &[x]);
        assert_eq!(y[..2], [f64::INFINITY, 0.0]);
        assert!(y[2].is_nan());
    }
    check(&Cpu::<f32>::new());
    check(&Cpu::<f64>::new());
}
