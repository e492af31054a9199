//! Where a function has a kink: the gradient that PyTorch chooses.

use mlpconv::{Backend, Cpu, Shape, Tape};

use crate::case::{self, Case, TRAINING};

fn gradient<B: Backend>(backend: &B, case: &Case, x: &[f64], dy: &[f64]) -> Vec<f64> {
    case::run(backend, case, &[x.to_vec()], dy).gradients.remove(0)
}

/// On every precision of the backend.
fn expect(case: Case, x: &[f64], dy: &[f64], want: &[f64]) {
    assert_eq!(gradient(&Cpu::<f64>::new(), &case, x, dy), want, "{case:?} of {x:?}");
    assert_eq!(gradient(&Cpu::<f32>::new(), &case, x, dy), want, "{case:?} of {x:?}");
}

#[test]
fn the_first_maximum_in_row_major_order_takes_the_gradient() {
    let pool = |h, w, window, stride| Case::MaxPool { x: [1, 1, h, w], window, stride };
    expect(pool(2, 2, 2, 1), &[1.0; 4], &[3.0], &[3.0, 0.0, 0.0, 0.0]);
    // The right one of the first row comes before the left one of the second.
    expect(pool(2, 2, 2, 1), &[0.0, 1.0, 1.0, 0.0], &[3.0], &[0.0, 3.0, 0.0, 0.0]);
    expect(pool(2, 2, 2, 1), &[0.0, 0.0, 1.0, 1.0], &[3.0], &[0.0, 0.0, 3.0, 0.0]);
    expect(pool(2, 2, 2, 1), &[-1.0, -2.0, -3.0, -1.0], &[3.0], &[3.0, 0.0, 0.0, 0.0]);
    // Zeros of either sign are equal.
    expect(pool(1, 2, 1, 1), &[-0.0, 0.0], &[1.0, 2.0], &[1.0, 2.0]);
    expect(pool(2, 2, 2, 1), &[-0.0, 0.0, 0.0, 0.0], &[3.0], &[3.0, 0.0, 0.0, 0.0]);
    // Overlapping windows each have a first maximum of their own.
    expect(pool(2, 3, 2, 1), &[5.0; 6], &[1.0, 2.0], &[1.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
    expect(pool(2, 3, 2, 1), &[0.0, 9.0, 0.0, 0.0, 9.0, 0.0], &[1.0, 2.0], &[0.0, 3.0, 0.0, 0.0, 0.0, 0.0]);
    // Where nothing is larger than the least of numbers, the first is the maximum all the same.
    expect(pool(2, 2, 2, 1), &[f64::NEG_INFINITY; 4], &[3.0], &[3.0, 0.0, 0.0, 0.0]);
}

#[test]
fn ties_are_broken_for_each_channel_on_its_own() {
    let case = Case::MaxPool { x: [1, 3, 2, 2], window: 2, stride: 2 };
    let x = [1.0, 1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 2.0, 3.0, 3.0, 3.0, 3.0];
    expect(case, &x, &[1.0, 2.0, 3.0], &[1.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0]);
}

#[test]
fn relu_has_no_slope_at_zero() {
    let case = Case::Relu { x: Shape::vector(5) };
    expect(case, &[0.0, -0.0, 1.0, -1.0, f64::INFINITY], &[7.0; 5], &[0.0, 0.0, 7.0, 0.0, 7.0]);
}

#[test]
fn a_fused_relu_has_no_slope_at_zero() {
    let backend = Cpu::<f64>::new();
    for pointwise in [true, false] {
        let mut tape = Tape::new(&backend, TRAINING);
        // 2·3 − 6 is zero to the bit, 3·3 − 6 is not.
        let x = case::variable(&mut tape, Shape::image(1, 1, 1, 2), &[2.0, 3.0]);
        let w = case::variable(&mut tape, Shape::weight(1, 1, 1, 1), &[3.0]);
        let bias = case::variable(&mut tape, Shape::vector(1), &[-6.0]);
        let y = if pointwise {
            tape.pointwise(&x, &w, Some(&bias), true).unwrap()
        } else {
            tape.conv2d(&x, &w, Some(&bias), 1, 0, true).unwrap()
        };
        assert_eq!(y.data()[..], [0.0, 3.0]);
        let seed = case::upload(&backend, y.shape(), &[1.0, 10.0]);
        let grads = tape.backward_from(&y, seed).unwrap();
        let of = |var| grads.of(var).unwrap().to_vec();
        assert_eq!((of(&x), of(&w), of(&bias)), (vec![0.0, 30.0], vec![30.0], vec![10.0]));
    }
}
