//! A case is one op with its extents and options. It can be run forward and backward on a tape of any backend.
//!
//! Values pass in and out in logical order and as `f64`, whatever the backend's precision and memory order.

use mlpconv::device::{Real, Role};
use mlpconv::ops::Affine;
use mlpconv::ops::cross_entropy::Meter;
use mlpconv::shape::Window;
use mlpconv::{Backend, Mode, Result, Shape, Tape, Var};

use crate::arithmetic::Arithmetic;
use crate::{draw, layout};

/// Dropout's mask is a function of these, so it is the same in every run of a case.
pub const TRAINING: Mode = Mode::Training { seed: 11, epoch: 2, step: 5 };

/// A convolution of `x` `[N, C, H, W]` with filters `w` `[K, C, R, S]`.
#[derive(Clone, Copy, Debug)]
pub struct Conv {
    pub x: [usize; 4],
    pub w: [usize; 4],
    pub stride: usize,
    pub pad: usize,
    pub bias: bool,
    pub relu: bool,
    /// `x` is a network's input, whose gradient is not computed.
    pub constant: bool,
}

impl Conv {
    /// `[N, K, P, Q]`.
    pub fn y(&self) -> [usize; 4] {
        let extent = |len: usize, filter: usize| (len + 2 * self.pad - filter) / self.stride + 1;
        [self.x[0], self.w[0], extent(self.x[2], self.w[2]), extent(self.x[3], self.w[3])]
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Case {
    Conv2d(Conv),
    MaxPool { x: [usize; 4], window: usize, stride: usize },
    GlobalAvgPool { x: [usize; 4] },
    Relu { x: Shape },
    Dropout { x: Shape, probability: f64 },
    Flatten { x: [usize; 4] },
    CrossEntropy { n: usize, classes: usize, smoothing: f64 },
}

/// The results of a case: its output, and the gradients of `Σ seed·y` with respect to each input (none for a constant).
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub y: Vec<f64>,
    pub gradients: Vec<Vec<f64>>,
}

impl Case {
    /// A convolution without its ReLU; other cases as they are.
    pub fn linear(self) -> Self {
        match self {
            Case::Conv2d(conv) => Case::Conv2d(Conv { relu: false, ..conv }),
            other => other,
        }
    }

    /// The shapes of the op's inputs, the data first, then weights and bias.
    pub fn inputs(&self) -> Vec<Shape> {
        match *self {
            Case::Conv2d(conv) => {
                let bias = conv.bias.then(|| Shape::vector(conv.w[0]));
                [tensor(conv.x), tensor(conv.w)].into_iter().chain(bias).collect()
            }
            Case::MaxPool { x, .. } | Case::GlobalAvgPool { x } | Case::Flatten { x } => vec![tensor(x)],
            Case::Relu { x } | Case::Dropout { x, .. } => vec![x],
            Case::CrossEntropy { n, classes, .. } => vec![Shape::matrix(n, classes)],
        }
    }

    /// The shape of the output; a loss is one number.
    pub fn output(&self) -> Shape {
        match *self {
            Case::Conv2d(conv) => tensor(conv.y()),
            Case::MaxPool { x: [n, c, h, w], window, stride } => {
                Shape::image(n, c, (h - window) / stride + 1, (w - window) / stride + 1)
            }
            Case::GlobalAvgPool { x: [n, c, ..] } => Shape::image(n, c, 1, 1),
            Case::Relu { x } | Case::Dropout { x, .. } => x,
            Case::Flatten { x: [n, c, h, w] } => Shape::matrix(n, c * h * w),
            Case::CrossEntropy { .. } => Shape::vector(1),
        }
    }

    /// The usual role of each input: the data first, then weights and bias.
    pub fn roles(&self) -> Vec<Role> {
        [Role::Activation, Role::Parameter, Role::Parameter][..self.inputs().len()].to_vec()
    }

    /// Values for the inputs that this arithmetic does not round: those of [`draw::spread`], rounded to the operands'
    /// bits. At few bits some of them are equal.
    pub fn draw(&self, arithmetic: Arithmetic) -> Vec<Vec<f64>> {
        let spread = |(i, shape): (usize, &Shape)| draw::spread(100 + i as u64, shape.len());
        let values = self.inputs().iter().enumerate().map(spread).collect::<Vec<_>>();
        values.into_iter().enumerate().map(|(i, values)| arithmetic.exact(self, i, values)).collect()
    }

    /// A gradient of the output that this arithmetic does not round. That of a loss is 1.
    pub fn draw_seed(&self, arithmetic: Arithmetic) -> Vec<f64> {
        match self {
            Case::CrossEntropy { .. } => vec![1.0],
            _ => arithmetic.exact(self, 0, draw::spread(99, self.output().len())),
        }
    }

    /// The name of the op's folder.
    pub fn op(&self) -> &'static str {
        match self {
            Case::Conv2d(_) => "conv2d",
            Case::MaxPool { .. } => "maxpool",
            Case::GlobalAvgPool { .. } => "global_avgpool",
            Case::Relu { .. } => "relu",
            Case::Dropout { .. } => "dropout",
            Case::Flatten { .. } => "flatten",
            Case::CrossEntropy { .. } => "cross_entropy",
        }
    }

    /// The pass that computes the output.
    pub fn forward_pass(&self) -> &'static str {
        if matches!(self, Case::CrossEntropy { .. }) { "forward" } else { "fprop" }
    }

    /// The pass that computes the gradient of input number `input`.
    pub fn backward_pass(&self, input: usize) -> &'static str {
        match (self, input) {
            (Case::CrossEntropy { .. }, _) => "backward",
            (_, 0) => "dgrad",
            _ => "wgrad",
        }
    }

    /// Runs the op on `tape`. A loss has no variable as output; it can only [`run`].
    pub fn apply<B: Backend>(&self, tape: &mut Tape<B>, inputs: &[Var<B>]) -> Result<Var<B>> {
        let x = &inputs[0];
        match *self {
            Case::Conv2d(Conv { stride, pad, relu, .. }) => {
                tape.conv2d(x, affine(&inputs[1], inputs.get(2), relu), Window { stride, pad })
            }
            Case::MaxPool { window, stride, .. } => tape.maxpool(x, window, stride),
            Case::GlobalAvgPool { .. } => tape.global_avgpool(x),
            Case::Relu { .. } => tape.relu(x),
            Case::Dropout { probability, .. } => tape.dropout(x, probability),
            Case::Flatten { .. } => tape.flatten(x),
            Case::CrossEntropy { .. } => unreachable!("a loss is not a variable"),
        }
    }
}

/// Weights, a bias if there is one, and whether a ReLU follows.
pub fn affine<'a, T>(w: &'a T, bias: Option<&'a T>, relu: bool) -> Affine<'a, T> {
    Affine { w, bias, relu }
}

/// The labels of a loss case, which go through the classes in steps of 7.
pub fn labels(n: usize, classes: usize) -> Vec<u8> {
    (0..n).map(|i| ((7 * i + 3) % classes) as u8).collect()
}

/// Images or weights with these extents.
pub fn tensor([a, b, c, d]: [usize; 4]) -> Shape {
    Shape::image(a, b, c, d)
}

pub fn scalars<S: Real>(values: &[f64]) -> Vec<S> {
    values.iter().map(|&value| S::from_f64(value)).collect()
}

/// Values in logical order as a buffer of activations.
pub fn upload<B: Backend>(backend: &B, shape: Shape, logical: &[f64]) -> B::Buf {
    upload_as(Role::Activation, backend, shape, logical)
}

pub fn upload_as<B: Backend>(role: Role, backend: &B, shape: Shape, logical: &[f64]) -> B::Buf {
    backend.upload(role, &scalars(&layout::to_memory(shape, logical))).unwrap()
}

/// A buffer's values in logical order.
pub fn download<B: Backend>(backend: &B, shape: Shape, buf: &B::Buf) -> Vec<f64> {
    let memory: Vec<f64> = backend.download(buf).unwrap().into_iter().map(Real::to_f64).collect();
    layout::to_logical(shape, &memory)
}

/// Values in logical order as a variable of `tape`, an activation.
pub fn variable<B: Backend>(tape: &mut Tape<B>, shape: Shape, logical: &[f64]) -> Var<B> {
    variable_as(Role::Activation, tape, shape, logical)
}

pub fn variable_as<B: Backend>(role: Role, tape: &mut Tape<B>, shape: Shape, logical: &[f64]) -> Var<B> {
    let buf = upload_as(role, tape.backend(), shape, logical);
    tape.variable(buf, shape, role).unwrap()
}

fn constant(case: &Case) -> bool {
    matches!(case, Case::Conv2d(conv) if conv.constant)
}

fn variables<B: Backend>(tape: &mut Tape<B>, case: &Case, roles: &[Role], inputs: &[Vec<f64>]) -> Vec<Var<B>> {
    let inputs = case.inputs().into_iter().zip(roles).zip(inputs).enumerate();
    let variable = |(i, ((shape, &role), values)): (usize, ((Shape, &Role), &Vec<f64>))| {
        let buf = upload_as(role, tape.backend(), shape, values);
        if i == 0 && constant(case) { tape.constant(buf, shape) } else { tape.variable(buf, shape, role) }.unwrap()
    };
    inputs.map(variable).collect()
}

/// The output of `case` alone.
pub fn forward<B: Backend>(backend: &B, case: &Case, inputs: &[Vec<f64>]) -> Vec<f64> {
    let mut tape = Tape::new(backend, TRAINING);
    let vars = variables(&mut tape, case, &case.roles(), inputs);
    if let Case::CrossEntropy { n, classes, smoothing } = *case {
        let mut meter = Meter::new(backend).unwrap();
        let labels = backend.upload_bytes(&labels(n, classes)).unwrap();
        match smoothing {
            0.0 => tape.score(&vars[0], &labels, &mut meter).unwrap(),
            _ => drop(tape.smoothed_cross_entropy(&vars[0], &labels, smoothing, &mut meter).unwrap()),
        }
        return vec![meter.read(backend).unwrap().loss];
    }
    let y = case.apply(&mut tape, &vars).unwrap();
    assert_eq!(y.shape(), case.output(), "{case:?}");
    download(backend, y.shape(), y.data())
}

/// The output of `case` and its gradients.
pub fn run<B: Backend>(backend: &B, case: &Case, inputs: &[Vec<f64>], seed: &[f64]) -> Outcome {
    run_as(&case.roles(), Role::Activation, backend, case, inputs, seed)
}

/// [`run`] with the inputs in buffers of `roles` and the gradient of the output in one of `seed_role`.
pub fn run_as<B: Backend>(
    roles: &[Role],
    seed_role: Role,
    backend: &B,
    case: &Case,
    inputs: &[Vec<f64>],
    seed: &[f64],
) -> Outcome {
    let mut tape = Tape::new(backend, TRAINING);
    let vars = variables(&mut tape, case, roles, inputs);
    let (y, grads) = if let Case::CrossEntropy { n, classes, smoothing } = *case {
        let mut meter = Meter::new(backend).unwrap();
        let labels = backend.upload_bytes(&labels(n, classes)).unwrap();
        let loss = tape.smoothed_cross_entropy(&vars[0], &labels, smoothing, &mut meter).unwrap();
        (vec![meter.read(backend).unwrap().loss], tape.backward(loss).unwrap())
    } else {
        let y = case.apply(&mut tape, &vars).unwrap();
        let seed = upload_as(seed_role, backend, y.shape(), seed);
        (download(backend, y.shape(), y.data()), tape.backward_from(&y, seed).unwrap())
    };
    let gradient = |(i, var): (usize, &Var<B>)| match grads.of(var) {
        Some(gradient) => download(backend, var.shape(), gradient),
        None if i == 0 && constant(case) => Vec::new(),
        None => panic!("{case:?}: no gradient of input {i}"),
    };
    Outcome { y, gradients: vars.iter().enumerate().map(gradient).collect() }
}
