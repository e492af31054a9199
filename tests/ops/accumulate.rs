//! Backward kernels, called without a tape, overwrite or accumulate. With `Write::Overwrite` the old content of the
//! buffer has no effect; with `Write::Accumulate` the gradient is added to it.

use std::sync::Arc;

use mlpconv::device::{Grad, Role, Write};
use mlpconv::ops::Wanted;
use mlpconv::ops::dropout::Mask;
use mlpconv::rng::{Purpose, Stream};
use mlpconv::shape::{ConvShape, PoolShape, Window};
use mlpconv::{Backend, Mode, Shape, Tape};

use crate::arithmetic::Arithmetic;
use crate::case::{self, Case, Conv, TRAINING, tensor};
use crate::{draw, naive, table};

on_every_backend!(
    kernels_overwrite_or_add_as_they_are_told,
    masked_kernels_zero_what_is_not_positive_and_nothing_else,
    gradients_of_shared_inputs_add_up,
    a_relu_does_not_mask_the_gradient_of_other_readers,
    gradients_of_weights_and_bias_are_the_same_alone_and_together,
);

fn kernels_overwrite_or_add_as_they_are_told<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for case in table::tape_cases().iter().filter(|case| !matches!(case, Case::CrossEntropy { .. })) {
        check(backend, arithmetic, &case.linear());
    }
}

/// Holds the backward kernels of `case`, which has no ReLU, to overwriting and to adding.
pub fn check<B: Backend>(backend: &B, arithmetic: Arithmetic, case: &Case) {
    let (inputs, dy) = (case.draw(arithmetic), case.draw_seed(arithmetic));
    let spread = |(i, x): (usize, &Vec<f64>)| draw::spread(200 + i as u64, x.len());
    let held = inputs.iter().enumerate().map(spread).enumerate();
    let held: Vec<Vec<f64>> = held.map(|(i, values)| arithmetic.exact(case, i, values)).collect();
    let nothing: Vec<Vec<f64>> = inputs.iter().map(|x| vec![f64::NAN; x.len()]).collect();

    let fresh = backward(backend, case, &inputs, &dy, &nothing, Write::Overwrite);
    let used = backward(backend, case, &inputs, &dy, &held, Write::Overwrite);
    assert_eq!(fresh, used, "{case:?}: what a buffer held before shows in what overwrites it");

    let added = backward(backend, case, &inputs, &dy, &held, Write::Accumulate);
    for (input, (added, held)) in added.iter().zip(&held).enumerate() {
        for index in draw::some_of(17, added.len(), 400) {
            let gradient = naive::gradient(case, &inputs, &dy, input, index);
            let want = held[index] + gradient.value;
            // The old content of the buffer is one more term of the sum.
            let sum = naive::Sum {
                magnitude: gradient.magnitude + held[index].abs(),
                roundings: gradient.roundings + 1,
                value: want,
            };
            let bound = arithmetic.bound(case, case.roles()[input], &sum);
            let error = (added[index] - want).abs();
            assert!(error <= bound.total(), "{case:?}: input {input}[{index}] is {}, not {want}", added[index]);
        }
    }
}

/// Calls the backward kernels on buffers that hold `held`. Returns the gradients of all inputs.
fn backward<B: Backend>(
    backend: &B,
    case: &Case,
    inputs: &[Vec<f64>],
    dy: &[f64],
    held: &[Vec<f64>],
    write: Write,
) -> Vec<Vec<f64>> {
    let shapes = case.inputs();
    let x = case::upload(backend, shapes[0], &inputs[0]);
    let dy = case::upload(backend, case.output(), dy);
    let buffers = shapes.iter().zip(case.roles()).zip(held);
    let buffers = buffers.map(|((&shape, role), held)| case::upload_as(role, backend, shape, held));
    let mut grads: Vec<Grad<B::Buf>> = buffers.map(|buf| Grad::new(buf, write)).collect();
    match *case {
        Case::Conv2d(conv) => {
            let w = case::upload_as(Role::Parameter, backend, shapes[1], &inputs[1]);
            let [dx, rest @ ..] = &mut grads[..] else { unreachable!("a convolution has an input") };
            let [dw, db @ ..] = rest else { unreachable!("and weights") };
            let shape = conv_shape(&conv);
            backend.conv2d_dgrad(&shape, &dy, &w, dx).unwrap();
            backend.conv2d_wgrad(&shape, &x, &dy, Wanted { dw: Some(dw), db: db.first_mut() }).unwrap();
        }
        Case::MaxPool { window, stride, .. } => {
            let shape = PoolShape::new("test", shapes[0], window, stride).unwrap();
            let mut y = backend.alloc(Role::Activation, shape.output().len()).unwrap();
            let mut index = backend.alloc_bytes(shape.output().len()).unwrap();
            backend.maxpool_fprop(&shape, &x, &mut y, Some(&mut index)).unwrap();
            backend.maxpool_dgrad(&shape, &dy, &index, &mut grads[0]).unwrap();
        }
        Case::GlobalAvgPool { .. } => backend.global_avgpool_dgrad(shapes[0], &dy, &mut grads[0]).unwrap(),
        Case::Relu { .. } => {
            let mut y = backend.alloc(Role::Activation, shapes[0].len()).unwrap();
            backend.relu_fprop(&x, &mut y).unwrap();
            backend.relu_dgrad(&y, &dy, &mut grads[0]).unwrap();
        }
        Case::Dropout { probability, .. } => {
            backend.dropout_dgrad(&mask(probability), &dy, &mut grads[0]).unwrap();
        }
        Case::Flatten { .. } => backend.flatten_dgrad(shapes[0], &dy, &mut grads[0]).unwrap(),
        Case::CrossEntropy { .. } => unreachable!("the loss's gradient is always fresh"),
    }
    shapes.iter().zip(&grads).map(|(&shape, grad)| case::download(backend, shape, &grad.buf)).collect()
}

/// The gradients of weights and of bias have the same bits whether both are wanted or only one. The numbers are ±1, so
/// no order of additions rounds.
fn gradients_of_weights_and_bias_are_the_same_alone_and_together<B: Backend>(backend: &B, _: Arithmetic) {
    for case in table::tape_cases().into_iter().map(Case::linear) {
        let Case::Conv2d(conv) = case else { continue };
        if !conv.bias {
            continue;
        }
        let (shapes, output) = (case.inputs(), case.output());
        let [x, dy] = [(300, shapes[0]), (301, output)].map(|(seed, shape)| (shape, draw::signs(seed, shape.len())));
        let [x, dy] = [x, dy].map(|(shape, values)| (case::upload(backend, shape, &values), values));
        let run = |wanted: [bool; 2]| {
            let mut grads = [1, 2].map(|i| {
                let buf = backend.alloc(Role::Parameter, shapes[i].len()).unwrap();
                wanted[i - 1].then(|| Grad::new(buf, Write::Overwrite))
            });
            let [dw, db] = grads.each_mut().map(Option::as_mut);
            backend.conv2d_wgrad(&conv_shape(&conv), &x.0, &dy.0, Wanted { dw, db }).unwrap();
            let read = |(i, grad): (usize, Option<Grad<B::Buf>>)| {
                grad.map(|grad| case::download(backend, shapes[i + 1], &grad.buf))
            };
            grads.into_iter().enumerate().map(read).collect::<Vec<_>>()
        };
        let both = run([true; 2]);
        let mut sums = vec![0.0; output.c()];
        for (i, dy) in dy.1.iter().enumerate() {
            sums[i / (output.h() * output.w()) % output.c()] += dy;
        }
        assert_eq!(both[1].as_ref(), Some(&sums), "{case:?}");
        assert_eq!(run([true, false]), [both[0].clone(), None], "{case:?}");
        assert_eq!(run([false, true]), [None, both[1].clone()], "{case:?}");
    }
}

/// The mask of the first dropout on a tape.
fn mask(probability: f64) -> Mask {
    let Mode::Training { seed, epoch, step } = TRAINING else { unreachable!() };
    Mask {
        stream: Stream::new(seed, Purpose::Dropout { index: 0, shard: 0 }, epoch, step),
        threshold: (probability * 2f64.powi(32)) as u32,
        scale: 1.0 / (1.0 - probability),
    }
}

/// With a mask, the gradient is zero where the input is not positive, and elsewhere the same as without. An accumulated
/// buffer holds zero at the masked elements already, as every contributor applies the mask.
fn masked_kernels_zero_what_is_not_positive_and_nothing_else<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for case in table::tape_cases() {
        for write in [Write::Overwrite, Write::Accumulate] {
            let (Some(masked), Some(plain)) =
                (input_gradient(backend, &case, true, write), input_gradient(backend, &case, false, write))
            else {
                continue;
            };
            let x = case.draw(arithmetic).swap_remove(0);
            let kept = x.into_iter().zip(plain).map(|(x, dx)| if x > 0.0 { dx } else { 0.0 });
            assert!(masked.into_iter().eq(kept), "{case:?}, {write:?}");
        }
    }
}

/// The gradient of the data by the op's kernel, masked by the data itself if `mask`; `None` for an op without a mask.
fn input_gradient<B: Backend>(backend: &B, case: &Case, mask: bool, write: Write) -> Option<Vec<f64>> {
    // A mask depends on signs alone, which rounding keeps.
    let (inputs, shape) = (case.draw(Arithmetic::CpuF64), case.inputs()[0]);
    let x = Arc::new(case::upload(backend, shape, &inputs[0]));
    let dy = case::upload(backend, case.output(), &case.draw_seed(Arithmetic::CpuF64));
    let held = draw::spread(4, shape.len()).into_iter().zip(&inputs[0]);
    let held: Vec<f64> = held.map(|(held, &x)| if x > 0.0 { held } else { 0.0 }).collect();
    let dx = Grad::new(case::upload(backend, shape, &held), write);
    let mut dx = if mask { dx.masked_by(x) } else { dx };
    let weights = |conv: &Conv| case::upload_as(Role::Parameter, backend, tensor(conv.w), &inputs[1]);
    match case {
        Case::Conv2d(conv) => backend.conv2d_dgrad(&conv_shape(conv), &dy, &weights(conv), &mut dx),
        Case::GlobalAvgPool { .. } => backend.global_avgpool_dgrad(shape, &dy, &mut dx),
        _ => return None,
    }
    .unwrap();
    assert!(dx.take_mask().is_none(), "{case:?}: the kernel has masked, or there was no mask");
    Some(case::download(backend, shape, &dx.buf))
}

fn conv_shape(conv: &Conv) -> ConvShape {
    ConvShape::new("test", tensor(conv.x), tensor(conv.w), Window { stride: conv.stride, pad: conv.pad }).unwrap()
}

/// A variable that two ops read gets the sum of both gradients, and so do weights and bias.
fn gradients_of_shared_inputs_add_up<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    // Images and weights have the same memory layout, so one branch's output can be the filter of the other's. Outputs are
    // small: the tape's additions do not depend on extents, and the terms of dgrad grow with the pixels squared.
    let small = |output: Shape| output.dims().len() == 4 && output.h() * output.w() <= 13 * 13;
    for case in table::tape_cases().iter().filter(|case| small(case.output())) {
        let inputs = case.draw(arithmetic);
        let seed = draw::spread(77, case.output().n() * case.output().n());
        let gradients = |branches| joined(backend, case, &inputs, &seed, branches);
        let (both, image, filter) = (gradients([true, true]), gradients([true, false]), gradients([false, true]));
        // With absolute values everywhere, each result is the sum of its terms' magnitudes.
        let magnitude = joined(backend, case, &absolute(&inputs), &absolute(std::slice::from_ref(&seed))[0], [true; 2]);
        let terms = case.output().len() + inputs.iter().map(Vec::len).sum::<usize>();
        for input in 0..inputs.len() {
            for (i, &both) in both[input].iter().enumerate() {
                let (image, filter) = (image[input][i], filter[input][i]);
                let scale = magnitude[input][i] + image.abs() + filter.abs();
                // Tensor cores may have twice the error. All three results were stored, the first contribution twice.
                let rounding = 4.0 * terms as f64 * arithmetic.unit() * scale;
                let stored = both.abs() + image.abs() + filter.abs();
                let storage = if case.roles()[input] == Role::Activation { arithmetic.storage_unit() } else { 0.0 };
                let (error, tolerance) = ((both - image - filter).abs(), rounding + storage * stored);
                assert!(error <= tolerance, "{case:?}: input {input}[{i}] has {both}, not {image} + {filter}");
            }
        }
    }
}

fn absolute(inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
    inputs.iter().map(|values| values.iter().map(|v| v.abs()).collect()).collect()
}

/// The gradients of the op's output convolved with itself. Of the two `branches`, image and filter, the selected ones
/// read the variables; the other reads constants of the same values.
fn joined<B: Backend>(
    backend: &B,
    case: &Case,
    inputs: &[Vec<f64>],
    seed: &[f64],
    branches: [bool; 2],
) -> Vec<Vec<f64>> {
    let mut tape = Tape::new(backend, TRAINING);
    let shapes = case.inputs();
    let shaped = || shapes.iter().zip(inputs);
    let roles = case.roles();
    let vars = shaped().zip(&roles).map(|((&shape, x), &role)| case::variable_as(role, &mut tape, shape, x));
    let vars: Vec<_> = vars.collect();
    let constants = shaped().zip(&roles).map(|((&shape, x), &role)| {
        let buf = case::upload_as(role, backend, shape, x);
        tape.constant(buf, shape).unwrap()
    });
    let constants: Vec<_> = constants.collect();
    let [image, filter] =
        branches.map(|wanted| case.apply(&mut tape, if wanted { &vars } else { &constants }).unwrap());
    let y = tape.conv2d(&image, case::affine(&filter, None, false), Window::default()).unwrap();
    let seed = case::upload(backend, y.shape(), seed);
    let grads = tape.backward_from(&y, seed).unwrap();
    vars.iter().map(|var| case::download(backend, var.shape(), grads.of(var).unwrap())).collect()
}

/// Where a ReLU's gradient is zero, its input keeps the gradient from its other readers.
fn a_relu_does_not_mask_the_gradient_of_other_readers<B: Backend>(backend: &B, _: Arithmetic) {
    let (x, shape) = (vec![2.0, -3.0, 0.0, 5.0], Shape::image(1, 1, 2, 2));
    for relu_first in [true, false] {
        let mut tape = Tape::new(backend, TRAINING);
        let x = case::variable(&mut tape, shape, &x);
        let (rectified, plain) = if relu_first {
            let rectified = tape.relu(&x).unwrap();
            (rectified, tape.maxpool(&x, 1, 1).unwrap())
        } else {
            let plain = tape.maxpool(&x, 1, 1).unwrap();
            (tape.relu(&x).unwrap(), plain)
        };
        // Σ x · mean(relu(x)) has the gradient mean(relu(x)) + Σ x · [x > 0] / 4, here 7/4 and 1.
        let mean = tape.global_avgpool(&rectified).unwrap();
        let y = tape.conv2d(&plain, case::affine(&mean, None, false), Window::default()).unwrap();
        let grads = tape.backward_from(&y, case::upload(backend, y.shape(), &[1.0; 4])).unwrap();
        let gradient = case::download(backend, shape, grads.of(&x).unwrap());
        assert_eq!(gradient, [2.75, 1.75, 1.75, 2.75], "ReLU first: {relu_first}");
    }
}
