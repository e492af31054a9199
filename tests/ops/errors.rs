//! Ops refuse wrong shapes, and the message names the op and the shapes.

use mlpconv::device::Role;
use mlpconv::ops::cross_entropy::Meter;
use mlpconv::shape::Window;
use mlpconv::{Cpu, Device, Error, Param, Result, Shape, Tape, Var};

use crate::case::{self, TRAINING};
use crate::draw;

type B = Cpu<f32>;

fn var(tape: &mut Tape<B>, shape: Shape) -> Var<B> {
    case::variable(tape, shape, &draw::spread(1, shape.len()))
}

fn conv2d(t: &mut Tape<B>, x: Shape, w: Shape, bias: Option<Shape>, stride: usize, pad: usize) -> Result<Var<B>> {
    let (x, w, bias) = (var(t, x), var(t, w), bias.map(|bias| var(t, bias)));
    t.conv2d(&x, case::affine(&w, bias.as_ref(), false), Window { stride, pad })
}

fn pooled(t: &mut Tape<B>, x: Shape, w: Shape, bias: Option<Shape>) -> Result<Var<B>> {
    let (x, w, bias) = (var(t, x), var(t, w), bias.map(|bias| var(t, bias)));
    t.pointwise_maxpool(&x, case::affine(&w, bias.as_ref(), false), 3, 2)
}

fn maxpool(t: &mut Tape<B>, x: Shape, window: usize, stride: usize) -> Result<Var<B>> {
    let x = var(t, x);
    t.maxpool(&x, window, stride)
}

fn cross_entropy(t: &mut Tape<B>, x: Shape, labels: usize) -> Result<()> {
    let (x, backend) = (var(t, x), t.backend().clone());
    let labels = backend.upload_bytes(&vec![0; labels])?;
    t.cross_entropy(&x, &labels, &mut Meter::new(&backend)?).map(drop)
}

fn backward_from(x: Shape, seed: usize) -> Result<()> {
    let mut tape = Tape::new(&Cpu::new(), TRAINING);
    let x = var(&mut tape, x);
    let y = tape.relu(&x)?;
    let seed = case::upload(tape.backend(), Shape::vector(seed), &vec![1.0; seed]);
    tape.backward_from(&y, seed).map(drop)
}

const X: Shape = Shape::image(2, 3, 8, 7);

/// Each call is refused. Its message has these words after the name of the op.
#[test]
fn wrong_shapes_are_refused_by_name() {
    let t = &mut Tape::new(&Cpu::<f32>::new(), TRAINING);
    let w = Shape::weight;
    let none = |result: Result<Var<B>>| result.map(drop);
    let table: Vec<(&str, Result<()>, &[&str])> = vec![
        ("conv2d", none(conv2d(t, X, w(4, 5, 3, 3), None, 1, 0)), &["[2, 3, 8, 7]", "[4, 5, 3, 3]", "channels"]),
        ("conv2d", none(conv2d(t, X, w(4, 3, 9, 3), None, 1, 0)), &["9x3", "[2, 3, 8, 7]", "padded by 0"]),
        ("conv2d", none(conv2d(t, X, w(4, 3, 3, 10), None, 1, 1)), &["3x10", "[2, 3, 8, 7]", "padded by 1"]),
        ("conv2d", none(conv2d(t, X, w(4, 3, 3, 3), None, 0, 0)), &["stride", "[2, 3, 8, 7]", "[4, 3, 3, 3]"]),
        ("conv2d", none(conv2d(t, X, w(0, 3, 3, 3), None, 1, 0)), &["[0, 3, 3, 3]"]),
        ("conv2d", none(conv2d(t, X, w(4, 3, 0, 3), None, 1, 0)), &["[4, 3, 0, 3]"]),
        ("conv2d", none(conv2d(t, X.with_batch(0), w(4, 3, 3, 3), None, 1, 0)), &["[0, 3, 8, 7]"]),
        ("conv2d", none(conv2d(t, Shape::matrix(2, 3), w(4, 3, 1, 1), None, 1, 0)), &["[2, 3]", "[N, C, H, W]"]),
        ("conv2d", none(conv2d(t, X, Shape::matrix(4, 3), None, 1, 0)), &["[4, 3]", "[K, C, R, S]"]),
        ("conv2d", none(conv2d(t, X, w(4, 3, 3, 3), Some(Shape::vector(3)), 1, 0)), &["bias", "[3]", "[4]"]),
        ("conv2d", none(conv2d(t, X, w(4, 3, 3, 3), Some(Shape::matrix(1, 4)), 1, 0)), &["bias", "[1, 4]", "[4]"]),
        ("pointwise_maxpool", none(pooled(t, X, w(4, 5, 1, 1), None)), &["[2, 3, 8, 7]", "[4, 5, 1, 1]", "channels"]),
        ("pointwise_maxpool", none(pooled(t, X, w(4, 3, 1, 2), None)), &["[K, C, 1, 1]", "[4, 3, 1, 2]"]),
        ("pointwise_maxpool", none(pooled(t, X, w(4, 3, 1, 1), Some(Shape::vector(5)))), &["bias", "[5]", "[4]"]),
        ("pointwise_maxpool", none(pooled(t, Shape::vector(3), w(4, 3, 1, 1), None)), &["[3]", "[N, C, H, W]"]),
        ("maxpool", none(maxpool(t, X, 0, 1)), &["window 0"]),
        ("maxpool", none(maxpool(t, X, 3, 0)), &["stride 0"]),
        ("maxpool", none(maxpool(t, X, 8, 1)), &["8x8", "[2, 3, 8, 7]"]),
        ("maxpool", none(maxpool(t, Shape::image(1, 1, 20, 20), 17, 1)), &["17", "16"]),
        ("maxpool", none(maxpool(t, Shape::matrix(2, 3), 1, 1)), &["[2, 3]", "[N, C, H, W]"]),
        ("cross_entropy", cross_entropy(t, X, 2), &["[2, 3, 8, 7]", "[N, classes]"]),
        ("cross_entropy", cross_entropy(t, Shape::matrix(2, 10), 3), &["3 labels", "[2, 10]"]),
        ("cross_entropy", cross_entropy(t, Shape::matrix(2, 10), 1), &["1 labels", "[2, 10]"]),
        ("cross_entropy", cross_entropy(t, Shape::matrix(0, 10), 0), &["[0, 10]"]),
        ("cross_entropy", cross_entropy(t, Shape::matrix(2, 0), 2), &["[2, 0]"]),
        ("backward", backward_from(X, 5), &["5", "[2, 3, 8, 7]"]),
        ("backward", backward_from(X, X.len() + 1), &["337", "[2, 3, 8, 7]"]),
    ];
    for (op, result, parts) in table {
        refused(op, result, parts);
    }
}

#[test]
fn ops_on_images_refuse_other_shapes() {
    let t = &mut Tape::new(&Cpu::<f32>::new(), TRAINING);
    for shape in [Shape::vector(3), Shape::matrix(2, 3), X.with_batch(0), Shape::image(2, 3, 0, 7)] {
        let x = var(t, shape);
        let shape = shape.to_string();
        refused("flatten", t.flatten(&x).map(drop), &[&shape, "[N, C, H, W]"]);
        refused("global_avgpool", t.global_avgpool(&x).map(drop), &[&shape, "[N, C, H, W]"]);
    }
}

fn refused(op: &str, result: Result<()>, parts: &[&str]) {
    let error = result.expect_err(&format!("{op} should have refused, naming {parts:?}"));
    assert!(matches!(&error, Error::Shape { op: name, .. } if *name == op), "{op}: {error:?}");
    let message = error.to_string();
    assert!(message.starts_with(&format!("{op}: ")), "{message}");
    assert!(parts.iter().all(|part| message.contains(part)), "{message:?} should name {parts:?}");
}

/// A padding whose double overflows is refused as a wrong shape.
#[test]
fn absurd_extents_do_not_overflow() {
    let t = &mut Tape::new(&Cpu::<f32>::new(), TRAINING);
    assert!(conv2d(t, X, Shape::weight(4, 3, 3, 3), None, 1, usize::MAX).is_err());
    // There is only one window, at the corner, as the largest stride reaches no other.
    let y = conv2d(t, X, Shape::weight(4, 3, 3, 3), None, usize::MAX, 0).unwrap();
    assert_eq!(y.shape(), Shape::image(2, 4, 1, 1));
    let y = maxpool(t, X, 3, usize::MAX).unwrap();
    assert_eq!(y.shape(), Shape::image(2, 3, 1, 1));
}

#[test]
fn values_must_fill_their_shape() {
    let backend = Cpu::<f32>::new();
    let mut tape = Tape::new(&backend, TRAINING);
    let five = || case::upload(&backend, Shape::vector(5), &[0.0; 5]);
    for error in [tape.variable(five(), X, Role::Activation).err(), tape.constant(five(), X).err()] {
        refused("tape", error.map_or(Ok(()), Err), &["5 elements", "[2, 3, 8, 7]", "336"]);
    }
    refused("parameter", Param::new(&backend, X, &[0.0; 5]).map(drop), &["5 values", "[2, 3, 8, 7]"]);
    let mut param = Param::new(&backend, Shape::vector(2), &[1.0, 2.0]).unwrap();
    refused("parameter", param.set(&backend, &[3.0; 3]), &["3 values", "[2]"]);
    assert_eq!(param.data()[..], [1.0, 2.0], "what was refused changes nothing");
}

#[test]
fn variables_stay_on_their_tape() {
    let backend = Cpu::<f32>::new();
    let (mut one, mut two) = (Tape::new(&backend, TRAINING), Tape::new(&backend, TRAINING));
    let (x, seed) = (var(&mut one, X), case::upload(&backend, X, &vec![1.0; X.len()]));
    let foreign = "[2, 3, 8, 7] belongs to another tape";
    refused("tape", two.relu(&x).map(drop), &[foreign]);
    let own = var(&mut two, X);
    let y = two.relu(&own).unwrap();
    refused("tape", one.backward_from(&y, case::upload(&backend, X, &vec![1.0; X.len()])).map(drop), &[foreign]);
    let grads = two.backward_from(&y, seed).unwrap();
    assert!(grads.of(&own).is_some() && grads.of(&x).is_none());
}

#[test]
fn sizes_beyond_counting_are_refused() {
    let backend = Cpu::<f32>::new();
    // Three times this wraps around to 1.
    let third = usize::MAX / 3 * 2 + 1;
    let shape = Shape::weight(third, 3, 1, 1);
    assert_eq!(shape.len(), usize::MAX);
    refused("parameter", Param::new(&backend, shape, &[0.0]).map(drop), &["1 values"]);
    assert!(backend.alloc(Role::Activation, shape.len()).is_err());
}

#[test]
fn no_threads_are_refused() {
    let error = Cpu::<f32>::with_threads(0).err().expect("an error");
    assert_eq!(error.to_string(), "threads: 0 must be between 1 and 1024");
}
