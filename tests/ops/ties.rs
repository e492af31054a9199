//! Gradients at kinks are those that PyTorch chooses.

use mlpconv::device::Role;
use mlpconv::shape::Window;
use mlpconv::{Backend, Shape, Tape, Var};

use crate::arithmetic::Arithmetic;
use crate::case::{self, Case, TRAINING};
use crate::naive;

on_every_backend!(
    the_first_maximum_in_row_major_order_takes_the_gradient,
    ties_are_broken_for_each_channel_on_its_own,
    ties_among_whole_packs_of_channels,
    relu_has_no_slope_at_zero,
    a_fused_relu_has_no_slope_at_zero,
);

fn gradient<B: Backend>(backend: &B, case: &Case, x: &[f64], dy: &[f64]) -> Vec<f64> {
    case::run(backend, case, &[x.to_vec()], dy).gradients.remove(0)
}

fn expect<B: Backend>(backend: &B, case: Case, x: &[f64], dy: &[f64], want: &[f64]) {
    assert_eq!(gradient(backend, &case, x, dy), want, "{case:?} of {x:?}");
}

fn the_first_maximum_in_row_major_order_takes_the_gradient<B: Backend>(backend: &B, _: Arithmetic) {
    let pool = |h, w, window, stride| Case::MaxPool { x: [1, 1, h, w], window, stride };
    expect(backend, pool(2, 2, 2, 1), &[1.0; 4], &[3.0], &[3.0, 0.0, 0.0, 0.0]);
    // The right one of the first row comes before the left one of the second.
    expect(backend, pool(2, 2, 2, 1), &[0.0, 1.0, 1.0, 0.0], &[3.0], &[0.0, 3.0, 0.0, 0.0]);
    expect(backend, pool(2, 2, 2, 1), &[0.0, 0.0, 1.0, 1.0], &[3.0], &[0.0, 0.0, 3.0, 0.0]);
    expect(backend, pool(2, 2, 2, 1), &[-1.0, -2.0, -3.0, -1.0], &[3.0], &[3.0, 0.0, 0.0, 0.0]);
    // Zeros of either sign are equal.
    expect(backend, pool(1, 2, 1, 1), &[-0.0, 0.0], &[1.0, 2.0], &[1.0, 2.0]);
    expect(backend, pool(2, 2, 2, 1), &[-0.0, 0.0, 0.0, 0.0], &[3.0], &[3.0, 0.0, 0.0, 0.0]);
    // Each of two overlapping windows has its own first maximum.
    expect(backend, pool(2, 3, 2, 1), &[5.0; 6], &[1.0, 2.0], &[1.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
    expect(backend, pool(2, 3, 2, 1), &[0.0, 9.0, 0.0, 0.0, 9.0, 0.0], &[1.0, 2.0], &[0.0, 3.0, 0.0, 0.0, 0.0, 0.0]);
    // If all elements are -∞, the first one is the maximum.
    expect(backend, pool(2, 2, 2, 1), &[f64::NEG_INFINITY; 4], &[3.0], &[3.0, 0.0, 0.0, 0.0]);
}

fn ties_are_broken_for_each_channel_on_its_own<B: Backend>(backend: &B, _: Arithmetic) {
    let case = Case::MaxPool { x: [1, 3, 2, 2], window: 2, stride: 2 };
    let x = [1.0, 1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 2.0, 3.0, 3.0, 3.0, 3.0];
    expect(backend, case, &x, &[1.0, 2.0, 3.0], &[1.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0]);
}

/// Small whole numbers give ties in most windows, which are compared with the naive loop. The channels are enough for
/// wide accesses.
fn ties_among_whole_packs_of_channels<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for (c, window, stride) in [(16, 3, 2), (16, 2, 1), (13, 3, 2), (8, 3, 3)] {
        let case = Case::MaxPool { x: [2, c, 9, 8], window, stride };
        let x: Vec<f64> =
            (0..case.inputs()[0].len()).map(|i| f64::from((i as u32).wrapping_mul(0x9e37_79b9) >> 30)).collect();
        let dy = case.draw_seed(arithmetic);
        let inputs = [x];
        let dx = gradient(backend, &case, &inputs[0], &dy);
        for (i, &dx) in dx.iter().enumerate() {
            let want = naive::gradient(&case, &inputs, &dy, 0, i);
            let bound = arithmetic.bound(&case, Role::Activation, &want).total();
            assert!((dx - want.value).abs() <= bound, "{case:?}: {i} has {dx}, not {}", want.value);
        }
    }
}

fn relu_has_no_slope_at_zero<B: Backend>(backend: &B, _: Arithmetic) {
    let case = Case::Relu { x: Shape::vector(5) };
    expect(backend, case, &[0.0, -0.0, 1.0, -1.0, f64::INFINITY], &[7.0; 5], &[0.0, 0.0, 7.0, 0.0, 7.0]);
}

fn a_fused_relu_has_no_slope_at_zero<B: Backend>(backend: &B, _: Arithmetic) {
    // A 1×1 filter, which runs as a GEMM, and a 3×3 filter, which is higher than the image.
    for pad in [0, 1] {
        let filter = Shape::weight(1, 1, 1 + 2 * pad, 1 + 2 * pad);
        let mut tape = Tape::new(backend, TRAINING);
        // 2·3 − 6 is zero to the bit, 3·3 − 6 is not.
        let x = case::variable(&mut tape, Shape::image(1, 1, 1, 2), &[2.0, 3.0]);
        let mut weights = vec![0.0; filter.len()];
        weights[filter.len() / 2] = 3.0;
        let w = case::variable_as(Role::Parameter, &mut tape, filter, &weights);
        let bias = case::variable_as(Role::Parameter, &mut tape, Shape::vector(1), &[-6.0]);
        let y = tape.conv2d(&x, case::affine(&w, Some(&bias), true), Window { stride: 1, pad }).unwrap();
        assert_eq!(case::download(backend, y.shape(), y.data()), [0.0, 3.0]);
        let seed = case::upload(backend, y.shape(), &[1.0, 10.0]);
        let grads = tape.backward_from(&y, seed).unwrap();
        let of = |var: &Var<B>| case::download(backend, var.shape(), grads.of(var).unwrap());
        assert_eq!((of(&x), of(&w)[filter.len() / 2], of(&bias)), (vec![0.0, 30.0], 30.0, vec![10.0]));
    }
}
