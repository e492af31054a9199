//! Gradients that a kernel leaves in parts, which the next reader adds up. The bits do not depend on which kernel adds
//! them up, or when: the update adds up by itself, and every other reader calls a kernel that only adds up.

use mlpconv::ops::Params;
use mlpconv::optim::{AdamW, Optimizer, Sgd};
use mlpconv::shape::Window;
use mlpconv::{Backend, Param, Shape, Tape};

use crate::arithmetic::Arithmetic;
use crate::case::{self, Case, TRAINING};
use crate::draw;
use crate::reference::{self, Worst};
use crate::table::conv;

on_every_backend!(reading_a_gradient_changes_no_update, gradients_are_those_of_the_loops);

/// An op of one, two or three convolutions on images of shape `x`.
struct Op {
    x: Shape,
    params: Vec<Shape>,
    stride: usize,
    pad: usize,
}

/// Ops whose sums are over so many pixels that every GPU splits them.
fn ops() -> Vec<Op> {
    let conv = |x: [usize; 4], [k, r, s]: [usize; 3], stride, pad| Op {
        x: case::tensor(x),
        params: vec![Shape::weight(k, x[1], r, s), Shape::vector(k)],
        stride,
        pad,
    };
    let [x, w, b] = [case::tensor([3, 1, 120, 116]), Shape::weight(96, 96, 1, 1), Shape::vector(96)];
    let pair = vec![Shape::weight(7, 10, 1, 1), Shape::vector(7), Shape::weight(3, 7, 1, 1), Shape::vector(3)];
    vec![
        // Many parts and few, each of several thread blocks, and lengths that are no multiple of 16 bytes.
        conv([2, 7, 41, 40], [10, 1, 1], 1, 0),
        conv([2, 7, 41, 40], [9, 3, 2], 1, 1),
        conv([1, 120, 33, 33], [41, 1, 1], 1, 0),
        conv([1, 32, 33, 34], [48, 3, 3], 1, 1),
        // Convolutions over blocks of pixels: the first layer, several channels, and lines of two elements.
        conv([2, 1, 103, 100], [48, 11, 11], 4, 1),
        conv([1, 4, 65, 70], [8, 4, 4], 2, 2),
        conv([2, 1, 50, 51], [8, 4, 4], 2, 0),
        // The fused block.
        Op { x, params: vec![Shape::weight(96, 1, 11, 11), b, w, b, w, b], stride: 4, pad: 0 },
        // The pair, with lengths that are no multiple of 16 bytes.
        Op { x: case::tensor([2, 10, 23, 20]), params: pair, stride: 1, pad: 0 },
    ]
}

impl Op {
    fn params<B: Backend>(&self, backend: &B) -> Vec<Param<B>> {
        let param = |(i, shape): (usize, &Shape)| {
            let values = draw::spread(i as u64, shape.len());
            let mut param = Param::new(backend, *shape, &case::scalars(&values)).unwrap();
            param.rate_multiplier = mlpconv::device::Real::from_f64(0.5 + i as f64);
            param
        };
        self.params.iter().enumerate().map(param).collect()
    }

    fn gradients<B: Backend>(&self, backend: &B, params: &[Param<B>]) -> mlpconv::tape::Grads<B> {
        let mut tape = Tape::new(backend, TRAINING);
        let x = case::upload(backend, self.x, &draw::spread(7, self.x.len()));
        let x = tape.constant(x, self.x).unwrap();
        let vars: Vec<_> = params.iter().map(|param| tape.param(param)).collect();
        let window = Window { stride: self.stride, pad: self.pad };
        let y = match &vars[..] {
            [w, b] => tape.conv2d(&x, case::affine(w, Some(b), true), window),
            [w2, b2, w3, b3] => tape.pointwise_pair(x, Params { w: [w2, w3], b: [b2, b3], relu: true }, false),
            [w1, b1, w2, b2, w3, b3] => {
                tape.mlpconv(x, Params { w: [w1, w2, w3], b: [b1, b2, b3], relu: true }, window)
            }
            _ => unreachable!("weights and biases"),
        };
        let y = y.unwrap();
        let seed = case::upload(backend, y.shape(), &draw::spread(8, y.shape().len()));
        tape.backward_from(&y, seed).unwrap()
    }
}

/// The bits of all gradients.
fn read<B: Backend>(backend: &B, params: &[Param<B>], grads: &mlpconv::tape::Grads<B>) -> Vec<Vec<u64>> {
    params.iter().map(|param| bits(backend, grads.of_param(param).expect("a gradient"))).collect()
}

fn bits<B: Backend>(backend: &B, buf: &B::Buf) -> Vec<u64> {
    let values = backend.download(buf).unwrap().into_iter();
    values.map(|value| mlpconv::device::Real::to_f64(value).to_bits()).collect()
}

/// Gradients in several parts equal the naive loops. The cases use tiles of each size, and in the last group of the
/// last split there are fewer tiles of the sum.
fn gradients_are_those_of_the_loops<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    let mix = |x, k| Case::Conv2d(conv(x, [k, 1, 1], 1, 0));
    let cases = [
        mix([1, 16, 37, 32], 24),
        mix([1, 24, 44, 35], 136),
        mix([2, 128, 27, 28], 128),
        Case::Conv2d(conv([1, 32, 33, 34], [48, 3, 3], 1, 1)),
        Case::Conv2d(conv([2, 7, 41, 40], [9, 3, 2], 1, 1)),
    ];
    for case in cases {
        reference::check(backend, arithmetic, &case, &mut Worst::default());
    }
}

/// An update gives the same bits whether its gradients were read before, after, or not at all.
fn reading_a_gradient_changes_no_update<B: Backend>(backend: &B, _: Arithmetic) {
    type New<B> = fn(&B) -> Box<dyn Optimizer<B>>;
    let optimizers: [New<B>; 4] = [
        |backend| Sgd::new(backend).into(),
        |backend| Sgd::new(backend).with_momentum(0.9).with_weight_decay(0.01).into(),
        |backend| Sgd::new(backend).with_momentum(0.8).with_nesterov(true).into(),
        |backend| AdamW::new(backend).into(),
    ];
    for (op, optimizer) in ops().iter().zip(optimizers.iter().cycle()) {
        let run = |before: bool, after: bool| {
            let (mut params, mut optimizer) = (op.params(backend), optimizer(backend));
            let mut gradients = Vec::new();
            for _ in 0..2 {
                let grads = op.gradients(backend, &params);
                let first = before.then(|| read(backend, &params, &grads));
                let named = params.iter_mut().map(|param| (String::new(), param)).collect();
                optimizer.step(named, &grads, 0.01).unwrap();
                let second = after.then(|| read(backend, &params, &grads));
                gradients.extend(first.into_iter().chain(second));
            }
            let updated: Vec<_> = params.iter().map(|param| bits(backend, param.data())).collect();
            let mut kept = Vec::new();
            for (name, param) in optimizer.tensor_names().iter().flat_map(|name| params.iter().map(move |p| (name, p)))
            {
                kept.push(bits(backend, optimizer.tensor(name, param).expect("a tensor")));
            }
            (updated, kept, gradients)
        };
        let what = format!("{}, filters {}", op.x, op.params[0]);
        let (updated, kept, before) = run(true, false);
        let (same_updated, same_kept, after) = run(false, true);
        assert!(before == after, "{what}: gradients");
        assert!(updated == same_updated && kept == same_kept, "{what}: read after the update");
        let (same_updated, same_kept, _) = run(false, false);
        assert!(updated == same_updated && kept == same_kept, "{what}: never read");
    }
}

#[cfg(feature = "cuda")]
mod on_a_gpu {
    use mlpconv::device::cuda::{Buf, CudaError};
    use mlpconv::device::{Grad, Recording, Role, StepScalars, Write};
    use mlpconv::ops::Wanted;
    use mlpconv::ops::conv2d::Conv2d;
    use mlpconv::ops::relu::Relu;
    use mlpconv::ops::sgd::{Item, Sgd, SgdStep};
    use mlpconv::shape::ConvShape;
    use mlpconv::{Cuda, Device, Error, Precision, Result};

    use super::*;
    use crate::gpu;

    fn on_each(statement: impl Fn(&Cuda)) {
        for precision in Precision::ALL {
            let Some(gpu) = gpu::gpu(precision) else { return };
            statement(&gpu);
        }
    }

    /// The other tests rely on this: there are parts, and they take memory until they are added up.
    #[test]
    fn parts_are_there_until_they_are_read() {
        on_each(|gpu| {
            for op in ops() {
                let params = op.params(gpu);
                let grads = op.gradients(gpu, &params);
                let in_parts = gpu.memory().in_use;
                let first = read(gpu, &params, &grads);
                let whole = gpu.memory().in_use;
                assert!(whole < in_parts, "{}, filters {}: {whole} of {in_parts}", op.x, op.params[0]);
                assert!(read(gpu, &params, &grads) == first && gpu.memory().in_use == whole);
            }
        });
    }

    const SHAPE: ConvShape = ConvShape::pointwise(3001, 7, 10);
    const LEN: usize = SHAPE.c * SHAPE.k;

    fn numbers(gpu: &Cuda, role: Role, seed: u64, len: usize) -> Buf {
        gpu.upload(role, &case::scalars(&draw::spread(seed, len))).unwrap()
    }

    /// The operands of a weight's gradient: x and dy.
    fn factors(gpu: &Cuda, seed: u64) -> [Buf; 2] {
        [SHAPE.c, SHAPE.k].map(|channels| numbers(gpu, Role::Activation, seed + channels as u64, SHAPE.n * channels))
    }

    fn gradient(gpu: &Cuda, [x, dy]: &[Buf; 2], dw: &mut Grad<Buf>) -> Result<()> {
        gpu.conv2d_wgrad(&SHAPE, x, dy, Wanted { dw: Some(dw), db: None })
    }

    fn fresh(gpu: &Cuda) -> Grad<Buf> {
        Grad::new(gpu.alloc(Role::Parameter, LEN).unwrap(), Write::Overwrite)
    }

    fn update(gpu: &Cuda, param: &mut Buf, grad: &Buf, velocity: &mut Buf) -> Result<()> {
        let step = SgdStep { rate: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.01 };
        gpu.sgd(
            &step,
            &mut [Item { param, grad, velocity: Some(velocity), rate_multiplier: 1.0, decay_multiplier: 1.0 }],
            None,
        )
    }

    /// Every use of a gradient in parts gives the same bits as the use of one that was added up before.
    #[test]
    fn every_use_of_a_gradient_in_parts_sees_the_sum() {
        type Use = fn(&Cuda, &mut Grad<Buf>) -> Result<Vec<u64>>;
        let uses: [(&str, Use); 9] = [
            ("adding a gradient", |gpu, dw| {
                dw.write = Write::Accumulate;
                gradient(gpu, &factors(gpu, 50), dw)?;
                Ok(bits(gpu, &dw.buf))
            }),
            ("overwriting it by another", |gpu, dw| {
                gradient(gpu, &factors(gpu, 60), dw)?;
                Ok(bits(gpu, &dw.buf))
            }),
            ("masking", |gpu, dw| {
                gpu.relu_mask(&numbers(gpu, Role::Activation, 3, LEN), &mut dw.buf)?;
                Ok(bits(gpu, &dw.buf))
            }),
            ("an op's input", |gpu, dw| {
                let mut y = gpu.alloc(Role::Activation, LEN)?;
                gpu.relu_fprop(&dw.buf, &mut y)?;
                Ok(bits(gpu, &y))
            }),
            ("an op's mask", |gpu, dw| {
                let mut dx = Grad::new(gpu.alloc(Role::Activation, LEN)?, Write::Overwrite);
                gpu.relu_dgrad(&dw.buf, &dw.buf, &mut dx)?;
                Ok(bits(gpu, &dx.buf))
            }),
            ("filling", |gpu, dw| {
                gpu.fill(&mut dw.buf, 3.5)?;
                Ok(bits(gpu, &dw.buf))
            }),
            ("writing", |gpu, dw| {
                gpu.write(&mut dw.buf, &[2.5; LEN])?;
                Ok(bits(gpu, &dw.buf))
            }),
            ("being updated", |gpu, dw| {
                let mut velocity = numbers(gpu, Role::Parameter, 4, LEN);
                update(gpu, &mut dw.buf, &numbers(gpu, Role::Parameter, 5, LEN), &mut velocity)?;
                Ok(bits(gpu, &dw.buf))
            }),
            ("being a velocity", |gpu, dw| {
                let mut param = numbers(gpu, Role::Parameter, 6, LEN);
                update(gpu, &mut param, &numbers(gpu, Role::Parameter, 5, LEN), &mut dw.buf)?;
                Ok([bits(gpu, &param), bits(gpu, &dw.buf)].concat())
            }),
        ];
        on_each(|gpu| {
            for (what, used) in &uses {
                let [want, got] = [true, false].map(|reads| {
                    let mut dw = fresh(gpu);
                    gradient(gpu, &factors(gpu, 40), &mut dw).unwrap();
                    if reads {
                        gpu.download(&dw.buf).unwrap();
                    }
                    used(gpu, &mut dw).unwrap()
                });
                assert!(want == got, "{}: {what}", gpu.precision());
            }
        });
    }

    /// A second contribution is added to the finished sum of the first.
    #[test]
    fn contributions_add_up() {
        on_each(|gpu| {
            let [first, second] = [40, 50].map(|seed| {
                let mut dw = fresh(gpu);
                gradient(gpu, &factors(gpu, seed), &mut dw).unwrap();
                gpu.download(&dw.buf).unwrap()
            });
            let mut dw = fresh(gpu);
            gradient(gpu, &factors(gpu, 40), &mut dw).unwrap();
            dw.write = Write::Accumulate;
            gradient(gpu, &factors(gpu, 50), &mut dw).unwrap();
            let want: Vec<f32> = first.iter().zip(&second).map(|(first, second)| first + second).collect();
            assert!(gpu.download(&dw.buf).unwrap() == want, "{}", gpu.precision());
        });
    }

    /// A gradient in a buffer of activations is rounded as activations are.
    #[test]
    fn a_gradient_may_be_an_activation() {
        on_each(|gpu| {
            let [want, got] = [Role::Parameter, Role::Activation].map(|role| {
                let mut dw = Grad::new(gpu.alloc(role, LEN).unwrap(), Write::Overwrite);
                gradient(gpu, &factors(gpu, 40), &mut dw).unwrap();
                let mut rounded = gpu.alloc(Role::Activation, LEN).unwrap();
                gpu.relu_fprop(&dw.buf, &mut rounded).unwrap();
                bits(gpu, &rounded)
            });
            assert!(want == got, "{}", gpu.precision());
        });
    }

    /// A replay writes to a buffer from before the recording, and unrecorded work reads it afterwards.
    #[test]
    fn a_recorded_gradient_can_be_read_after_each_replay() {
        on_each(|gpu| {
            let factors = factors(gpu, 40);
            let mut dw = fresh(gpu);
            gradient(gpu, &factors, &mut dw).unwrap();
            let want = bits(gpu, &dw.buf);
            // The gradient is in parts once more.
            gradient(gpu, &factors, &mut dw).unwrap();
            let scalars = StepScalars::default();
            let graph = gpu.record(&scalars, &mut || gradient(gpu, &factors, &mut dw)).unwrap().expect("it records");
            for _ in 0..2 {
                gpu.fill(&mut dw.buf, 0.0).unwrap();
                graph.replay(&scalars).unwrap();
                assert!(bits(gpu, &dw.buf) == want, "{}", gpu.precision());
            }
        });
    }

    /// A recording refuses to read a gradient whose parts are from before it: adding them up would become part of the
    /// recording, and a replay would find no parts.
    #[test]
    fn a_recording_refuses_a_gradient_in_parts_from_before_it() {
        on_each(|gpu| {
            let mut dw = fresh(gpu);
            gradient(gpu, &factors(gpu, 40), &mut dw).unwrap();
            let mut y = gpu.alloc(Role::Activation, LEN).unwrap();
            let [mut param, mut velocity] = [1, 2].map(|seed| numbers(gpu, Role::Parameter, seed, LEN));
            let scalars = StepScalars { rate: 0.1, ..StepScalars::default() };
            let read = gpu.record(&scalars, &mut || gpu.relu_fprop(&dw.buf, &mut y));
            let updated = gpu.record(&scalars, &mut || update(gpu, &mut param, &dw.buf, &mut velocity));
            for refused in [read, updated] {
                let error = refused.err().expect("an error");
                assert!(matches!(error, Error::Cuda(CudaError::UnsettledBeforeRecording)), "{error}");
            }
            gpu.download(&dw.buf).unwrap();
            gpu.record(&scalars, &mut || update(gpu, &mut param, &dw.buf, &mut velocity)).unwrap();
        });
    }
}
