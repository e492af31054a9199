//! A reference of every op, written from its formula: one element at a time, in `f64`, with logical indices. It is
//! slow, and independent of any backend's layouts and algorithms.

use mlpconv::rng::{Purpose, Stream};
use mlpconv::{Mode, Shape};

use crate::case::{Case, Conv, TRAINING, labels, tensor};
use crate::layout::{self, coordinates};

/// A sum of products, with the numbers that bound the rounding error of any program, in any order of additions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    pub value: f64,
    /// The sum of the terms' absolute values.
    pub magnitude: f64,
    /// The most roundings that a term goes through: 0 for values that are only moved.
    pub roundings: usize,
}

impl Sum {
    fn add(&mut self, a: f64, b: f64) {
        self.value += a * b;
        self.magnitude += (a * b).abs();
        self.roundings += 1;
    }

    fn moved(value: f64) -> Self {
        Sum { value, magnitude: value.abs(), roundings: 0 }
    }

    /// The classical bound n·u·Σ|a·b| for n roundings of relative size u, twice: once for the program under test and
    /// once for this reference.
    pub fn tolerance(&self, unit: f64) -> f64 {
        2.0 * self.roundings as f64 * unit * self.magnitude
    }
}

/// Element `index` of the output, in logical order.
pub fn output(case: &Case, inputs: &[Vec<f64>], index: usize) -> Sum {
    let x = &inputs[0];
    match case {
        Case::Conv2d(conv) => {
            let mut sum = conv_output(conv, inputs, index);
            if conv.relu {
                sum.value = sum.value.max(0.0);
            }
            sum
        }
        Case::MaxPool { x: dims, window, stride } => {
            let winner = pool_winner(*dims, *window, *stride, x, coordinates(extents(case.output()), index));
            Sum::moved(x[layout::index(*dims, winner)])
        }
        Case::GlobalAvgPool { x: [_, _, h, w] } => {
            let mut sum = Sum::default();
            (0..h * w).for_each(|pixel| sum.add(x[index * h * w + pixel], 1.0 / (h * w) as f64));
            Sum { roundings: h * w + 1, ..sum }
        }
        Case::Relu { .. } => Sum::moved(x[index].max(0.0)),
        Case::Dropout { x: shape, probability } => dropped(*shape, *probability, x[index], index),
        Case::Flatten { .. } => Sum::moved(x[index]),
        Case::CrossEntropy { n, classes, smoothing } => mean_loss(*n, *classes, *smoothing, x),
    }
}

/// Element `index` of the gradient with respect to input number `input`. `dy` is the gradient of the output, before
/// the ReLU if the op has one.
pub fn gradient(case: &Case, inputs: &[Vec<f64>], dy: &[f64], input: usize, index: usize) -> Sum {
    let x = &inputs[0];
    match case {
        Case::Conv2d(conv) => match input {
            0 => conv_dx(conv, &inputs[1], dy, index),
            1 => conv_dw(conv, x, dy, index),
            _ => conv_db(conv, dy, index),
        },
        Case::MaxPool { x: dims, window, stride } => {
            pool_dx(*dims, *window, *stride, extents(case.output()), x, dy, index)
        }
        Case::GlobalAvgPool { x: [_, _, h, w] } => {
            let mut sum = Sum::default();
            sum.add(dy[index / (h * w)], 1.0 / (h * w) as f64);
            Sum { roundings: 2, ..sum }
        }
        Case::Relu { .. } => Sum::moved(if x[index] > 0.0 { dy[index] } else { 0.0 }),
        Case::Dropout { x: shape, probability } => dropped(*shape, *probability, dy[index], index),
        Case::Flatten { .. } => Sum::moved(dy[index]),
        Case::CrossEntropy { n, classes, smoothing } => logit_gradient(*n, *classes, *smoothing, x, index),
    }
}

fn extents(shape: Shape) -> [usize; 4] {
    [shape.n(), shape.c(), shape.h(), shape.w()]
}

/// The input coordinate at tap `tap` of the window at `at`; `None` in the padding.
fn under(conv: &Conv, at: usize, tap: usize, len: usize) -> Option<usize> {
    (at * conv.stride + tap).checked_sub(conv.pad).filter(|&i| i < len)
}

/// The window whose tap `tap` is at input coordinate `i`, if there is one.
fn over(conv: &Conv, i: usize, tap: usize, windows: usize) -> Option<usize> {
    let start = (i + conv.pad).checked_sub(tap)?;
    (start.is_multiple_of(conv.stride) && start / conv.stride < windows).then_some(start / conv.stride)
}

fn conv_output(conv: &Conv, inputs: &[Vec<f64>], index: usize) -> Sum {
    let ([_, c, h, w], [_, _, r, s]) = (conv.x, conv.w);
    let [n, k, p, q] = coordinates(conv.y(), index);
    let mut sum = Sum::default();
    if conv.bias {
        sum.add(inputs[2][k], 1.0);
    }
    for ci in 0..c {
        for ri in 0..r {
            for si in 0..s {
                if let (Some(hi), Some(wi)) = (under(conv, p, ri, h), under(conv, q, si, w)) {
                    let x = inputs[0][layout::index(conv.x, [n, ci, hi, wi])];
                    sum.add(x, inputs[1][layout::index(conv.w, [k, ci, ri, si])]);
                }
            }
        }
    }
    sum
}

fn conv_dx(conv: &Conv, w: &[f64], dy: &[f64], index: usize) -> Sum {
    let ([k, _, r, s], [_, _, p, q]) = (conv.w, conv.y());
    let [n, c, h, wi] = coordinates(conv.x, index);
    let mut sum = Sum::default();
    for ki in 0..k {
        for ri in 0..r {
            for si in 0..s {
                if let (Some(pi), Some(qi)) = (over(conv, h, ri, p), over(conv, wi, si, q)) {
                    let dy = dy[layout::index(conv.y(), [n, ki, pi, qi])];
                    sum.add(dy, w[layout::index(conv.w, [ki, c, ri, si])]);
                }
            }
        }
    }
    sum
}

fn conv_dw(conv: &Conv, x: &[f64], dy: &[f64], index: usize) -> Sum {
    let ([n, _, h, w], [_, _, p, q]) = (conv.x, conv.y());
    let [k, c, r, s] = coordinates(conv.w, index);
    let mut sum = Sum::default();
    for ni in 0..n {
        for pi in 0..p {
            for qi in 0..q {
                if let (Some(hi), Some(wi)) = (under(conv, pi, r, h), under(conv, qi, s, w)) {
                    let dy = dy[layout::index(conv.y(), [ni, k, pi, qi])];
                    sum.add(dy, x[layout::index(conv.x, [ni, c, hi, wi])]);
                }
            }
        }
    }
    sum
}

fn conv_db(conv: &Conv, dy: &[f64], k: usize) -> Sum {
    let [n, _, p, q] = conv.y();
    let mut sum = Sum::default();
    for ni in 0..n {
        for pixel in 0..p * q {
            sum.add(dy[layout::index(conv.y(), [ni, k, pixel / q, pixel % q])], 1.0);
        }
    }
    sum
}

/// The coordinates of the first maximum, in row-major order, of the window at output coordinates `at`.
fn pool_winner(dims: [usize; 4], window: usize, stride: usize, x: &[f64], at: [usize; 4]) -> [usize; 4] {
    let [n, c, p, q] = at;
    let mut best = [n, c, p * stride, q * stride];
    for i in 0..window {
        for j in 0..window {
            let here = [n, c, p * stride + i, q * stride + j];
            if x[layout::index(dims, here)] > x[layout::index(dims, best)] {
                best = here;
            }
        }
    }
    best
}

fn pool_dx(dims: [usize; 4], window: usize, stride: usize, y: [usize; 4], x: &[f64], dy: &[f64], index: usize) -> Sum {
    let at = coordinates(dims, index);
    let mut sum = Sum::default();
    // The windows over a coordinate are those that start at most `window − 1` before it.
    let starts =
        |i: usize, windows: usize| (0..windows).filter(move |p| (p * stride..p * stride + window).contains(&i));
    for p in starts(at[2], y[2]) {
        for q in starts(at[3], y[3]) {
            let out = [at[0], at[1], p, q];
            if pool_winner(dims, window, stride, x, out) == at {
                sum.add(dy[layout::index(y, out)], 1.0);
            }
        }
    }
    // The first contribution is only moved; further ones are added.
    Sum { roundings: sum.roundings.saturating_sub(1), ..sum }
}

/// `value`, at `index`, after dropout. The mask is drawn by memory order.
fn dropped(shape: Shape, probability: f64, value: f64, index: usize) -> Sum {
    let Mode::Training { seed, epoch, step } = TRAINING else { unreachable!() };
    let word =
        Stream::new(seed, Purpose::Dropout { index: 0, shard: 0 }, epoch, step).word(layout::place(shape, index));
    if f64::from(word) < (probability * 2f64.powi(32)).floor() {
        return Sum::default();
    }
    let scaled = value / (1.0 - probability);
    // Two roundings: of the scale and of the product.
    Sum { value: scaled, magnitude: scaled.abs(), roundings: 2 }
}

/// Softmax of one row, and the spread of its logits.
fn softmax(row: &[f64]) -> (Vec<f64>, f64) {
    let max = row.iter().copied().fold(f64::MIN, f64::max);
    let min = row.iter().copied().fold(f64::MAX, f64::min);
    let exps: Vec<f64> = row.iter().map(|z| (z - max).exp()).collect();
    let total: f64 = exps.iter().sum();
    (exps.iter().map(|e| e / total).collect(), max - min)
}

/// The probability that smoothing gives to a class, which the label names or not.
fn target(hit: bool, smoothing: f64, classes: usize) -> f64 {
    f64::from(u8::from(hit)) * (1.0 - smoothing) + smoothing / classes as f64
}

fn mean_loss(n: usize, classes: usize, smoothing: f64, logits: &[f64]) -> Sum {
    let mut sum = Sum::default();
    for (row, label) in logits.chunks(classes).zip(labels(n, classes)) {
        let (p, spread) = softmax(row);
        let targets = (0..classes).map(|class| target(class == usize::from(label), smoothing, classes));
        let loss: f64 = targets.zip(&p).map(|(target, p)| -target * p.ln()).sum();
        sum.value += loss / n as f64;
        // exp has the error of its argument, which is relative to the logits' spread; ln turns relative errors of a
        // sum into absolute ones.
        sum.magnitude += (1.0 + spread + loss) / n as f64;
    }
    // The mean of all classes' terms is another sum.
    let smoothed = if smoothing > 0.0 { classes + 4 } else { 0 };
    Sum { roundings: classes + n + 8 + smoothed, ..sum }
}

fn logit_gradient(n: usize, classes: usize, smoothing: f64, logits: &[f64], index: usize) -> Sum {
    let (row, class) = (index / classes, index % classes);
    let (p, spread) = softmax(&logits[row * classes..][..classes]);
    let hit = target(usize::from(labels(n, classes)[row]) == class, smoothing, classes);
    let roundings = classes + 8 + 2 * spread.ceil() as usize;
    Sum { value: (p[class] - hit) / n as f64, magnitude: (p[class] + hit) / n as f64, roundings }
}

#[test]
fn the_reference_knows_a_convolution_by_hand() {
    let conv = Conv { x: [1, 1, 2, 2], w: [1, 1, 2, 2], stride: 1, pad: 1, bias: true, relu: false, constant: false };
    let inputs = [vec![1.0, 2.0, 3.0, 4.0], vec![10.0, 20.0, 30.0, 40.0], vec![0.5]];
    let case = Case::Conv2d(conv);
    let y: Vec<f64> = (0..9).map(|i| output(&case, &inputs, i).value).collect();
    assert_eq!(y, [40.5, 110.5, 60.5, 140.5, 300.5, 140.5, 60.5, 110.5, 40.5]);
    assert_eq!(tensor(conv.y()), Shape::image(1, 1, 3, 3));
    // With a gradient of 1 everywhere each pixel meets each weight once, and each weight all pixels.
    let dx = gradient(&case, &inputs, &[1.0; 9], 0, 3);
    let dw = gradient(&case, &inputs, &[1.0; 9], 1, 0);
    let db = gradient(&case, &inputs, &[1.0; 9], 2, 0);
    assert_eq!((dx.value, dw.value, db.value), (100.0, 10.0, 9.0));
}
