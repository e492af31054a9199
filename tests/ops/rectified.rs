//! The ReLU contract: a ReLU in a convolution's epilogue, a ReLU as an op of its own, and a ReLU on the host have the
//! same values and gradients, bit for bit, whichever op reads the result.
//!
//! The ReLU on the host has no mark of a rectified value. The next op reads an ordinary variable, and the host zeroes
//! that variable's gradient.

use mlpconv::device::Role;
use mlpconv::ops::cross_entropy::Meter;
use mlpconv::shape::Window;
use mlpconv::{Backend, Result, Shape, Tape, Var};

use crate::arithmetic::Arithmetic;
use crate::case::{self, TRAINING};
use crate::draw;

on_every_backend!(
    fused_separate_and_manual_rectification_agree_to_the_bit,
    a_loss_of_rectified_logits_agrees_with_one_of_a_separate_relu,
);

const X: Shape = Shape::image(2, 3, 9, 8);
const W: Shape = Shape::weight(5, 3, 3, 3);
const H: Shape = Shape::image(2, 5, 9, 8);
/// The shapes of weights for the following op.
const W1: Shape = Shape::weight(7, 5, 1, 1);
const W2: Shape = Shape::weight(7, 5, 3, 2);

/// An op that reads the rectified value, given the value and weights of shapes [`W1`] and [`W2`].
type Follow<B> = fn(&mut Tape<B>, &Var<B>, &[Var<B>]) -> Result<Var<B>>;

fn followers<B: Backend>() -> Vec<(&'static str, Follow<B>)> {
    vec![
        ("nothing", |_, h, _| Ok(h.clone())),
        ("relu", |t, h, _| t.relu(h)),
        ("maxpool", |t, h, _| t.maxpool(h, 3, 2)),
        ("dropout", |t, h, _| t.dropout(h, 0.5)),
        ("flatten", |t, h, _| t.flatten(h)),
        ("global_avgpool", |t, h, _| t.global_avgpool(h)),
        ("pointwise", |t, h, w| t.conv2d(h, case::affine(&w[0], None, false), Window::default())),
        ("pointwise, relu", |t, h, w| t.conv2d(h, case::affine(&w[0], None, true), Window::default())),
        ("conv2d", |t, h, w| t.conv2d(h, case::affine(&w[1], None, false), Window { stride: 2, pad: 1 })),
        ("conv2d, relu", |t, h, w| t.conv2d(h, case::affine(&w[1], None, true), Window { stride: 2, pad: 1 })),
        ("maxpool, dropout, global_avgpool", |t, h, _| {
            let h = t.maxpool(h, 3, 2)?;
            let h = t.dropout(&h, 0.3)?;
            t.global_avgpool(&h)
        }),
        ("maxpool, pointwise", |t, h, w| {
            let h = t.maxpool(h, 2, 1)?;
            t.conv2d(&h, case::affine(&w[0], None, false), Window::default())
        }),
        ("dropout, maxpool, flatten", |t, h, _| {
            let h = t.dropout(h, 0.5)?;
            let h = t.maxpool(&h, 2, 3)?;
            t.flatten(&h)
        }),
        ("two branches", |t, h, w| {
            let image = t.conv2d(h, case::affine(&w[1], None, false), Window { stride: 1, pad: 0 })?;
            let filter = t.conv2d(h, case::affine(&w[0], None, false), Window::default())?;
            let filter = t.maxpool(&filter, 4, 2)?;
            t.conv2d(&image, case::affine(&filter, None, false), Window { stride: 1, pad: 0 })
        }),
        ("two branches of different kinds", |t, h, w| {
            let image = t.maxpool(h, 2, 1)?;
            let image = t.conv2d(&image, case::affine(&w[0], None, true), Window::default())?;
            let filter = t.conv2d(h, case::affine(&w[0], None, false), Window::default())?;
            let filter = t.global_avgpool(&filter)?;
            t.conv2d(&image, case::affine(&filter, None, false), Window { stride: 1, pad: 0 })
        }),
        ("as a filter", |t, h, w| {
            let filter = t.maxpool(h, 4, 2)?;
            let image = t.conv2d(h, case::affine(&w[1], None, false), Window { stride: 1, pad: 1 })?;
            let image = t.maxpool(&image, 1, 1)?;
            let back = t.variable(
                case::upload(t.backend(), Shape::weight(5, 7, 1, 1), &draw::spread(8, 35)),
                Shape::weight(5, 7, 1, 1),
                Role::Activation,
            )?;
            let image = t.conv2d(&image, case::affine(&back, None, false), Window::default())?;
            t.conv2d(&image, case::affine(&filter, None, false), Window { stride: 1, pad: 0 })
        }),
        ("as image and filter", |t, h, _| t.conv2d(h, case::affine(h, None, false), Window { stride: 1, pad: 1 })),
    ]
}

/// Output, and gradients of x, w and the following weights.
type Outcome = (Vec<f64>, Vec<Option<Vec<f64>>>);

fn fused_separate_and_manual_rectification_agree_to_the_bit<B: Backend>(backend: &B, _: Arithmetic) {
    for (name, follow) in followers() {
        let by_hand = manual(backend, follow);
        assert!(rectified(backend, true, follow) == by_hand, "in the epilogue, then {name}");
        assert!(rectified(backend, false, follow) == by_hand, "as an op, then {name}");
    }
}

/// Values of which half are zero, so that some outputs are exactly zero.
fn image() -> Vec<f64> {
    draw::spread(1, X.len()).into_iter().enumerate().map(|(i, x)| if i % 72 < 36 { 0.0 } else { x }).collect()
}

fn following<B: Backend>(tape: &mut Tape<B>) -> Vec<Var<B>> {
    [W1, W2].map(|shape| case::variable_as(Role::Parameter, tape, shape, &draw::spread(3, shape.len()))).to_vec()
}

fn rectified<B: Backend>(backend: &B, fused: bool, follow: Follow<B>) -> Outcome {
    let mut tape = Tape::new(backend, TRAINING);
    let x = case::variable(&mut tape, X, &image());
    let w = case::variable_as(Role::Parameter, &mut tape, W, &draw::spread(2, W.len()));
    let weights = following(&mut tape);
    let mut h = tape.conv2d(&x, case::affine(&w, None, fused), Window { stride: 1, pad: 1 }).unwrap();
    if !fused {
        h = tape.relu(&h).unwrap();
    }
    let y = follow(&mut tape, &h, &weights).unwrap();
    let values = case::download(backend, y.shape(), y.data());
    let seed = case::upload(backend, y.shape(), &draw::spread(4, values.len()));
    let grads = tape.backward_from(&y, seed).unwrap();
    let gradient = |var: &Var<B>| grads.of(var).map(|grad| case::download(backend, var.shape(), grad));
    (values, [&x, &w].into_iter().chain(&weights).map(gradient).collect())
}

fn manual<B: Backend>(backend: &B, follow: Follow<B>) -> Outcome {
    let mut first = Tape::new(backend, TRAINING);
    let x = case::variable(&mut first, X, &image());
    let w = case::variable_as(Role::Parameter, &mut first, W, &draw::spread(2, W.len()));
    let pre = first.conv2d(&x, case::affine(&w, None, false), Window { stride: 1, pad: 1 }).unwrap();
    let rectified: Vec<f64> = case::download(backend, H, pre.data()).into_iter().map(|v| v.max(0.0)).collect();
    let zeros = rectified.iter().filter(|&&v| v == 0.0).count();
    assert!(zeros > H.len() / 4 && zeros < H.len(), "the ReLU should do something");

    let mut second = Tape::new(backend, TRAINING);
    let h = case::variable(&mut second, H, &rectified);
    let weights = following(&mut second);
    let y = follow(&mut second, &h, &weights).unwrap();
    let values = case::download(backend, y.shape(), y.data());
    let seed = case::upload(backend, y.shape(), &draw::spread(4, values.len()));
    let grads = second.backward_from(&y, seed).unwrap();

    let masked = |(dh, &h): (f64, &f64)| if h > 0.0 { dh } else { 0.0 };
    let dh = case::download(backend, H, grads.of(&h).unwrap());
    let dh: Vec<f64> = dh.into_iter().zip(&rectified).map(masked).collect();
    let inner = first.backward_from(&pre, case::upload(backend, H, &dh)).unwrap();
    let near = [&x, &w].map(|var| inner.of(var).map(|grad| case::download(backend, var.shape(), grad)));
    let far = weights.iter().map(|var| grads.of(var).map(|grad| case::download(backend, var.shape(), grad)));
    (values, near.into_iter().chain(far).collect())
}

/// A loss may start from rectified logits: they receive no gradient where they are zero.
fn a_loss_of_rectified_logits_agrees_with_one_of_a_separate_relu<B: Backend>(backend: &B, _: Arithmetic) {
    let (x, w) = (Shape::image(6, 4, 1, 1), Shape::weight(5, 4, 1, 1));
    let run = |fused: bool, masked_by_hand: bool| {
        let mut tape = Tape::new(backend, TRAINING);
        let x = case::variable(&mut tape, x, &draw::spread(1, x.len()));
        let w = case::variable_as(Role::Parameter, &mut tape, w, &draw::spread(2, w.len()));
        let mut y = tape.conv2d(&x, case::affine(&w, None, fused), Window::default()).unwrap();
        if !fused {
            y = tape.relu(&y).unwrap();
        }
        let y = tape.flatten(&y).unwrap();
        let labels = backend.upload_bytes(&case::labels(6, 5)).unwrap();
        let mut meter = Meter::new(backend).unwrap();
        if masked_by_hand {
            let loss = case::run(
                backend,
                &case::Case::CrossEntropy { n: 6, classes: 5, smoothing: 0.0 },
                &[case::download(backend, y.shape(), y.data())],
                &[1.0],
            );
            let seed = case::upload(backend, y.shape(), &loss.gradients[0]);
            let grads = tape.backward_from(&y, seed).unwrap();
            return [&x, &w].map(|var| case::download(backend, var.shape(), grads.of(var).unwrap()));
        }
        let loss = tape.cross_entropy(&y, &labels, &mut meter).unwrap();
        let grads = tape.backward(loss).unwrap();
        [&x, &w].map(|var| case::download(backend, var.shape(), grads.of(var).unwrap()))
    };
    assert_eq!(run(true, false), run(false, false));
    assert_eq!(run(true, false), run(false, true));
}
