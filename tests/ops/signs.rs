//! A device may store the signs of a ReLU's output beside it, and mask gradients by the signs. The bits are the same
//! as by the values, for every op that writes signs, and signs are not used once the values have changed.

use std::sync::Arc;

use mlpconv::device::{Grad, Real, Role, Write};
use mlpconv::ops::Params;
use mlpconv::ops::mlpconv::MlpConvShape;
use mlpconv::shape::{ConvShape, PoolShape, Window};
use mlpconv::{Backend, Shape};

use crate::arithmetic::Arithmetic;
use crate::case;
use crate::draw;

on_every_backend!(signs_mask_as_values_do, signs_of_an_earlier_value_are_not_used);

/// Numbers of channels: whole packs at every precision, at some, and at none; the fused block's; and more than a tile.
const CHANNELS: [usize; 6] = [8, 12, 24, 7, 96, 136];

/// Images `[n, h, w]` whose pixels are no whole tiles, and which windows of the pool cover completely.
const X: [usize; 3] = [2, 13, 11];

/// The inputs of a ReLU, pixels of `c` channels: numbers of either sign, with an occasional NaN, zero or tiny number.
fn inputs(len: usize, c: usize) -> Vec<f64> {
    let awkward = |(i, value): (usize, f64)| match i % (61 * c) {
        7 => f64::NAN,
        19 => 0.0,
        31 => -0.0,
        43 => 1e-44,
        59 => -1e-40,
        _ => value,
    };
    draw::spread(600, len).into_iter().enumerate().map(awkward).collect()
}

fn buf<B: Backend>(backend: &B, role: Role, values: &[f64]) -> B::Buf {
    backend.upload(role, &case::scalars(values)).unwrap()
}

/// A 3×3 filter that keeps the image's size.
const SAME: Window = Window { stride: 1, pad: 1 };

/// A rectified tensor: the name of its op, its shape, and its values in a buffer with room for signs.
type Rectified<B> = (&'static str, Shape, <B as mlpconv::Device>::Buf);

/// The outputs of all ops that rectify, with `c` channels.
fn rectified<B: Backend>(backend: &B, c: usize) -> Vec<Rectified<B>> {
    let [n, h, w] = X;
    let (image, pixels) = (Shape::image(n, c, h, w), n * h * w);
    let pool = PoolShape::new("maxpool", image, 3, 2).unwrap();
    let room = |shape: Shape| backend.alloc_rectified(shape.len()).unwrap();
    let weights = |seed, len| buf(backend, Role::Parameter, &draw::spread(seed, len));
    // With one input channel, awkward inputs give awkward outputs.
    let x = buf(backend, Role::Activation, &inputs(pixels, 1));
    let (w, ones) = (weights(601, c), buf(backend, Role::Parameter, &vec![1.0; c]));
    let matrix = ConvShape::pointwise(pixels, 1, c);
    let mut results = Vec::new();

    let mut y = room(image);
    backend.conv2d_fprop(&matrix, &x, case::affine(&ones, None, true), &mut y).unwrap();
    let mut pooled = room(pool.output());
    backend.maxpool_fprop(&pool, &y, &mut pooled, None).unwrap();
    results.extend([("pointwise", image, y), ("maxpool", pool.output(), pooled)]);

    let wide = ConvShape::pointwise(pixels, c, c);
    let from = buf(backend, Role::Activation, &inputs(pixels * c, c));
    let square = weights(602, c * c);
    let mut y = room(image);
    backend.conv2d_fprop(&wide, &from, case::affine(&square, Some(&w), true), &mut y).unwrap();
    let mut pooled = room(pool.output());
    backend
        .pointwise_maxpool_fprop(&wide, &pool, &from, case::affine(&square, Some(&w), true), &mut pooled, None)
        .unwrap();
    results.extend([("pointwise, many channels", image, y), ("pointwise_maxpool", pool.output(), pooled)]);

    let conv = ConvShape::new("conv2d", Shape::image(n, 1, h, X[2]), Shape::weight(c, 1, 3, 3), SAME).unwrap();
    let mut y = room(conv.output());
    backend.conv2d_fprop(&conv, &x, case::affine(&weights(603, 9 * c), None, true), &mut y).unwrap();
    results.push(("conv2d", conv.output(), y));

    // The block, which is one kernel in bf16 if it has 96 channels.
    let shapes = [Shape::weight(c, 1, 11, 11), Shape::weight(c, c, 1, 1), Shape::weight(c, c, 1, 1)];
    let block = MlpConvShape::new(Shape::image(1, 1, 55, 47), shapes, Window { stride: 4, pad: 0 }).unwrap();
    let block = block.pooled(3, 2).unwrap();
    // Only one NaN, in a corner, as a NaN spreads over the many pixels of its windows.
    let mut x = draw::spread(606, 55 * 47);
    x[0] = f64::NAN;
    let x = buf(backend, Role::Activation, &x);
    let (w1, w2) = (weights(604, 121 * c), weights(605, c * c));
    let mut y = room(block.output());
    let params = Params { w: [&w1, &w2, &square], b: [&w; 3], relu: true };
    backend.mlpconv_fprop(&block, &x, params, &mut y, None).unwrap();
    results.push(("mlpconv", block.output(), y));
    results
}

/// The bits of the gradients of `x` by a 1×1 and by a 3×3 convolution, masked by `mask`.
fn masked<B: Backend>(backend: &B, x: Shape, mask: Option<&Arc<B::Buf>>) -> [Vec<u64>; 2] {
    let (c, k) = (x.c(), 8);
    let matrix = ConvShape::pointwise(x.len() / c, c, k);
    let conv = ConvShape::new("conv2d", x, Shape::weight(k, c, 3, 3), SAME).unwrap();
    let fresh = || {
        let grad = Grad::new(buf(backend, Role::Activation, &vec![f64::NAN; x.len()]), Write::Overwrite);
        mask.into_iter().fold(grad, |grad, mask| grad.masked_by(mask.clone()))
    };
    let [mut first, mut second] = [fresh(), fresh()];
    let dy = buf(backend, Role::Activation, &draw::spread(610, matrix.n * k));
    let w = |len| buf(backend, Role::Parameter, &draw::spread(611, len));
    backend.conv2d_dgrad(&matrix, &dy, &w(k * c), &mut first).unwrap();
    backend.conv2d_dgrad(&conv, &dy, &w(9 * k * c), &mut second).unwrap();
    [first, second].map(|mut dx| {
        assert!(dx.take_mask().is_none(), "the kernels mask as they write");
        backend.download(&dx.buf).unwrap().into_iter().map(|v| v.to_f64().to_bits()).collect()
    })
}

fn values<B: Backend>(backend: &B, buf: &B::Buf) -> Vec<f64> {
    backend.download(buf).unwrap().into_iter().map(Real::to_f64).collect()
}

fn signs_mask_as_values_do<B: Backend>(backend: &B, _: Arithmetic) {
    for c in CHANNELS {
        for (name, shape, y) in rectified(backend, c) {
            let values = values(backend, &y);
            let positive = values.iter().filter(|&&value| value > 0.0).count();
            assert!(positive > 0 && positive < values.len(), "{name}, {c} channels: nothing to mask");
            let by_values = masked(backend, shape, Some(&Arc::new(buf(backend, Role::Activation, &values))));
            let by_signs = masked(backend, shape, Some(&Arc::new(y)));
            for (plain, (by_values, by_signs)) in
                masked(backend, shape, None).iter().zip(by_values.iter().zip(&by_signs))
            {
                for (i, &value) in values.iter().enumerate() {
                    let want = if value > 0.0 { plain[i] } else { 0 };
                    assert_eq!(by_signs[i], want, "{name}, {c} channels, element {i}, {value:e}");
                }
                assert_eq!(by_signs, by_values, "{name}, {c} channels");
            }
        }
    }
}

/// A way to change a buffer's value.
type Change<B> = fn(&B, &mut <B as mlpconv::Device>::Buf, Shape);

fn changes<B: Backend>() -> Vec<(&'static str, Change<B>)> {
    vec![
        ("written", |backend, y, shape| {
            let other: Vec<f64> = draw::spread(620, shape.len());
            backend.write(y, &case::scalars(&other)).unwrap();
        }),
        ("filled", |backend, y, _| backend.fill(y, B::Scalar::from_f64(1.0)).unwrap()),
        ("masked", |backend, y, shape| {
            let by = buf(backend, Role::Activation, &draw::spread(621, shape.len()));
            backend.relu_mask(&by, y).unwrap();
        }),
        ("an output that is not rectified", |backend, y, shape| {
            let (m, c) = (shape.len() / shape.c(), shape.c());
            let x = buf(backend, Role::Activation, &draw::spread(622, m));
            let w = buf(backend, Role::Parameter, &draw::spread(623, c));
            backend.conv2d_fprop(&ConvShape::pointwise(m, 1, c), &x, case::affine(&w, None, false), y).unwrap();
        }),
        ("an output of another op", |backend, y, shape| {
            let x = buf(backend, Role::Activation, &draw::spread(624, shape.len()));
            backend.relu_fprop(&x, y).unwrap();
        }),
        ("another rectified output", |backend, y, shape| {
            let (m, c) = (shape.len() / shape.c(), shape.c());
            let x = buf(backend, Role::Activation, &draw::spread(625, m));
            let w = buf(backend, Role::Parameter, &draw::spread(626, c));
            backend.conv2d_fprop(&ConvShape::pointwise(m, 1, c), &x, case::affine(&w, None, true), y).unwrap();
        }),
    ]
}

fn signs_of_an_earlier_value_are_not_used<B: Backend>(backend: &B, _: Arithmetic) {
    for (what, change) in changes::<B>() {
        let (name, shape, y) = rectified(backend, 24).swap_remove(0);
        let mut y = Arc::new(y);
        let before = masked(backend, shape, Some(&y));
        change(backend, Arc::get_mut(&mut y).expect("nobody else has it"), shape);
        let now = Arc::new(buf(backend, Role::Activation, &values(backend, &y)));
        let after = masked(backend, shape, Some(&y));
        assert_eq!(after, masked(backend, shape, Some(&now)), "{name}, then {what}");
        assert_ne!(after, before, "{what} changes nothing");
    }
}
