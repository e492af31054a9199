//! Two 1×1 convolutions with a ReLU between them, and optionally the global average after them, as one op. A backend
//! may compute it in one kernel.

use std::sync::Arc;

use mlpconv::device::{Grad, Role, Write};
use mlpconv::nn::{Builder, GlobalAvgPool, Init, Module, Sequential};
use mlpconv::ops::fusion::Fusion;
use mlpconv::ops::mlpconv::MlpConvShape;
use mlpconv::ops::pointwise_pair::PairShape;
use mlpconv::ops::{ChainWanted, Params, Wanted};
use mlpconv::shape::Window;
use mlpconv::{Backend, Cpu, Error, Mode, Param, Shape, Tape, Var};

use crate::arithmetic::Arithmetic;
use crate::case::{self, TRAINING};
use crate::interval::{Interval, Rounding, intervals, product, within};
use crate::{draw, table};

on_every_backend!(
    values_and_gradients_lie_within_the_references_intervals,
    whole_numbers_come_out_as_they_are,
    several_tiles_of_means_are_those_of_the_reference,
    kernels_add_in_tiles_that_begin_anywhere,
    y_and_dx_have_the_bits_of_two_convolutions,
    a_mean_is_the_average_of_the_pair_to_the_bit,
    a_block_with_an_average_equals_one_after_the_other,
    running_again_gives_the_same_bits,
    inference_gives_the_same_values,
    kernels_overwrite_or_add_as_they_are_told,
    gradients_that_are_not_wanted_change_nothing,
    a_mask_zeroes_what_is_not_positive_and_nothing_else,
    an_input_that_is_rectified_is_masked,
    a_variable_given_twice_is_refused,
    ops_take_any_role,
    nan_propagates_as_through_two_convolutions,
);

/// A pair on `m` pixels. Values are those of images of one pixel each, so logical order and memory order are the same.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    pub m: usize,
    pub c: usize,
    pub k2: usize,
    pub k3: usize,
    pub relu: bool,
    /// Pixels of an image, if the output is the mean of each image.
    pub mean: Option<usize>,
}

const NAMES: [&str; 5] = ["x", "w2", "b2", "w3", "b3"];

const ROLES: [Role; 5] = [Role::Activation, Role::Parameter, Role::Parameter, Role::Parameter, Role::Parameter];

/// The output, and the gradients of x, w2, b2, w3, b3.
type Outcome = (Vec<f64>, Vec<Vec<f64>>);

impl Pair {
    fn shape(&self) -> PairShape {
        let &Pair { m, c, k2, k3, mean, .. } = self;
        PairShape { m, c, k2, k3, mean }
    }

    /// The shapes of x, w2, b2, w3, b3.
    fn inputs(&self) -> [Shape; 5] {
        let &Pair { m, c, k2, k3, .. } = self;
        let w = |k, c| Shape::weight(k, c, 1, 1);
        [Shape::image(m, c, 1, 1), w(k2, c), Shape::vector(k2), w(k3, k2), Shape::vector(k3)]
    }

    /// The shape of x on a tape: images, whose pixels `mean` states.
    fn images(&self) -> Shape {
        let pixels = self.mean.unwrap_or(1);
        Shape::image(self.m / pixels, self.c, pixels, 1)
    }

    fn output(&self) -> Shape {
        Shape::image(self.images().n(), self.k3, 1, 1)
    }

    /// Values with all bits of an f32. Most pixels and gradients are positive, so that sums over thousands of pixels
    /// do not cancel.
    fn draw(&self) -> Vec<Vec<f64>> {
        let input = |(i, shape): (usize, &Shape)| {
            let values = draw::spread(600 + i as u64, shape.len());
            if i == 0 { raised(values) } else { values }
        };
        self.inputs().iter().enumerate().map(input).collect()
    }

    fn seed(&self) -> Vec<f64> {
        raised(draw::spread(633, self.output().len()))
    }

    /// Whole numbers from -1 to 1, with which no precision rounds anything, except some means ([`Pair::exact`]).
    fn whole(&self) -> Vec<Vec<f64>> {
        let few = |i: usize, shape: &Shape| -> Vec<f64> {
            draw::spread(700 + i as u64, shape.len()).into_iter().map(|value| (1.5 * value).round()).collect()
        };
        self.inputs().iter().enumerate().map(|(i, shape)| few(i, shape)).collect()
    }

    fn whole_seed(&self) -> Vec<f64> {
        // A multiple of the image's pixels, so that the share of each pixel is whole.
        let pixels = self.images().h() as f64;
        draw::signs(9, self.output().len()).into_iter().map(|sign| sign * pixels).collect()
    }

    /// Whether dividing by the image's pixels is exact.
    fn exact(&self) -> bool {
        self.images().h().is_power_of_two()
    }

    /// Whether a GPU has a kernel for the pair.
    fn fits(&self) -> bool {
        self.c.max(self.k2).max(self.k3) <= 16 && self.images().h() <= 128
    }
}

fn raised(values: Vec<f64>) -> Vec<f64> {
    values.into_iter().map(|value| f64::from((value + 0.4) as f32)).collect()
}

fn variables<B: Backend>(tape: &mut Tape<B>, pair: &Pair, inputs: &[Vec<f64>], roles: [Role; 5]) -> Vec<Var<B>> {
    let variable = |(i, values): (usize, &Vec<f64>)| {
        let shape = pair.inputs()[i];
        let buf = case::upload_as(roles[i], tape.backend(), shape, values);
        tape.variable(buf, if i == 0 { pair.images() } else { shape }, roles[i]).unwrap()
    };
    inputs.iter().enumerate().map(variable).collect()
}

fn apply<B: Backend>(tape: &mut Tape<B>, pair: &Pair, vars: &[Var<B>]) -> Var<B> {
    let [x, w2, b2, w3, b3] = vars else { panic!("five inputs") };
    let params = Params { w: [w2, w3], b: [b2, b3], relu: pair.relu };
    tape.pointwise_pair(x.clone(), params, pair.mean.is_some()).unwrap()
}

/// The pair as two convolutions, and the average as another op.
fn apart<B: Backend>(tape: &mut Tape<B>, pair: &Pair, vars: &[Var<B>]) -> Var<B> {
    let [x, w2, b2, w3, b3] = vars else { panic!("five inputs") };
    let hidden = tape.conv2d(x, case::affine(w2, Some(b2), true), Window::default()).unwrap();
    let y = tape.conv2d(&hidden, case::affine(w3, Some(b3), pair.relu), Window::default()).unwrap();
    if pair.mean.is_some() { tape.global_avgpool(&y).unwrap() } else { y }
}

/// The pair as one op, and the average as another.
fn averaged<B: Backend>(tape: &mut Tape<B>, pair: &Pair, vars: &[Var<B>]) -> Var<B> {
    let y = apply(tape, &Pair { mean: None, ..*pair }, vars);
    tape.global_avgpool(&y).unwrap()
}

type Apply<B> = fn(&mut Tape<B>, &Pair, &[Var<B>]) -> Var<B>;

fn run_as<B: Backend>(
    backend: &B,
    pair: &Pair,
    inputs: &[Vec<f64>],
    seed: &[f64],
    roles: [Role; 5],
    apply: Apply<B>,
) -> Outcome {
    let mut tape = Tape::new(backend, TRAINING);
    let vars = variables(&mut tape, pair, inputs, roles);
    let y = apply(&mut tape, pair, &vars);
    assert_eq!(y.shape(), pair.output());
    let values = case::download(backend, y.shape(), y.data());
    let grads = tape.backward_from(&y, case::upload(backend, y.shape(), seed)).unwrap();
    let gradient = |(var, shape): (&Var<B>, Shape)| case::download(backend, shape, grads.of(var).unwrap());
    (values, vars.iter().zip(pair.inputs()).map(gradient).collect())
}

fn run<B: Backend>(backend: &B, pair: &Pair, inputs: &[Vec<f64>], seed: &[f64]) -> Outcome {
    run_as(backend, pair, inputs, seed, ROLES, apply)
}

fn bits((y, gradients): &Outcome) -> Vec<Vec<u64>> {
    std::iter::once(y).chain(gradients).map(|row| row.iter().map(|value| value.to_bits()).collect()).collect()
}

/// The pair's formulas in intervals, in rows of channels.
pub struct Reference {
    /// The output, or its mean.
    pub y: Vec<Interval>,
    /// The gradients of x, w2, b2, w3, b3.
    pub gradients: [Vec<Interval>; 5],
}

impl Reference {
    /// `x` is rounded as stored. `dy` is the gradient of y before its ReLU, or of the mean.
    pub fn new(
        rounding: Rounding,
        &PairShape { m, c, k2, k3, mean }: &PairShape,
        x: &[Interval],
        [w2, b2, w3, b3]: [&[f64]; 4],
        relu: bool,
        mask: bool,
        dy: &[f64],
    ) -> Self {
        let factors = |values: &[f64]| rounding.factors(&intervals(values));
        let (w2, w3) = (factors(w2), factors(w3));
        let f1 = rounding.factors(x);
        let second = product([m, k2, c], |i, c_| f1[i * c + c_], |k, c_| w2[k * c + c_]);
        let hidden = rounding.activations(second, b2, true);
        let f2 = rounding.factors(&hidden);
        let third = product([m, k3, k2], |i, k| f2[i * k2 + k], |n, k| w3[n * k2 + k]);
        let y = rounding.activations(third, b3, relu);

        let (y, dy) = match mean {
            Some(pixels) => average([m, k3, pixels], rounding, &y, relu, dy),
            None => (y, intervals(dy)),
        };
        let d3 = rounding.factors(&dy);
        let dz = product([m, k2, k3], |i, k| d3[i * k3 + k], |c, k| w3[k * k2 + c]);
        let dz: Vec<Interval> = dz.into_iter().zip(&hidden).map(|(sum, &value)| rounding.masked(sum, value)).collect();
        let d2 = rounding.factors(&dz);
        let dx = product([m, c, k2], |i, k| d2[i * k2 + k], |c_, k| w2[k * c + c_]);
        let dx = dx.into_iter().zip(x);
        let dx = dx.map(|(sum, &value)| if mask { rounding.masked(sum, value) } else { rounding.gradient(sum) });

        let of = |d: &[Interval], k: usize, f: &[Interval], c: usize| {
            let dw = product([k, c, m], |k_, i| d[i * k + k_], |c_, i| f[i * c + c_]);
            let db = product([k, 1, m], |k_, i| d[i * k + k_], |_, _| Interval::of(1.0));
            [dw, db].map(|sums| rounding.kept(sums))
        };
        let [dw2, db2] = of(&d2, k2, &f1, c);
        let [dw3, db3] = of(&d3, k3, &f2, k2);
        Reference { y, gradients: [dx.collect(), dw2, db2, dw3, db3] }
    }
}

/// The means of y over each image, and the gradient of y from that of the means.
fn average(
    [m, k3, pixels]: [usize; 3],
    rounding: Rounding,
    y: &[Interval],
    relu: bool,
    dy: &[f64],
) -> (Vec<Interval>, Vec<Interval>) {
    let scale = |_, _| Interval::of(1.0 / pixels as f64);
    let channel = |i: usize, pixel: usize| y[(i / k3 * pixels + pixel) * k3 + i % k3];
    let means = product([m / pixels * k3, 1, pixels], channel, scale);
    let means = means.into_iter().map(|mean| rounding.gradient(mean)).collect();
    let share = |i: usize, _| Interval::of(rounding.arithmetic.stored(dy[i / k3 / pixels * k3 + i % k3]));
    let shares = product([m * k3, 1, 1], share, scale).into_iter().zip(y);
    let mask = |(sum, &y)| if relu { rounding.masked(sum, y) } else { rounding.gradient(sum) };
    (means, shares.map(mask).collect())
}

/// Compares the pair with its reference, on small whole numbers if `exact`.
pub fn check<B: Backend>(backend: &B, arithmetic: Arithmetic, pair: &Pair, exact: bool) {
    let (inputs, seed) = if exact { (pair.whole(), pair.whole_seed()) } else { (pair.draw(), pair.seed()) };
    let (y, gradients) = run(backend, pair, &inputs, &seed);
    let rounding = Rounding { arithmetic, exact };
    let x: Vec<f64> = inputs[0].iter().map(|&value| arithmetic.stored(value)).collect();
    let masked = pair.relu && pair.mean.is_none();
    let dy: Vec<f64> = y.iter().zip(&seed).map(|(&y, &dy)| if masked && y <= 0.0 { 0.0 } else { dy }).collect();
    let params = [1, 2, 3, 4].map(|i| &inputs[i][..]);
    let reference = Reference::new(rounding, &pair.shape(), &intervals(&x), params, pair.relu, false, &dy);
    within(&format!("{pair:?}: y"), &y, &reference.y, exact);
    for ((name, got), want) in NAMES.iter().zip(&gradients).zip(&reference.gradients) {
        within(&format!("{pair:?}: gradient of {name}"), got, want, exact);
    }
}

fn values_and_gradients_lie_within_the_references_intervals<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    let on_gpu = !matches!(arithmetic, Arithmetic::CpuF32 | Arithmetic::CpuF64);
    for pair in table::pairs() {
        let fuses = backend.fuses(&Fusion::PointwisePair(pair.shape())).is_ok();
        assert_eq!(fuses, on_gpu && pair.fits(), "{pair:?}");
        check(backend, arithmetic, &pair, false);
    }
}

fn whole_numbers_come_out_as_they_are<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    table::pairs().iter().filter(|pair| pair.exact()).for_each(|pair| check(backend, arithmetic, pair, true));
    // More tiles than thread blocks; the last blocks have fewer tiles than the others.
    let many = Pair { m: 33_100, c: 2, k2: 3, k3: 1, relu: false, mean: None };
    check(backend, arithmetic, &many, true);
    check(backend, arithmetic, &Pair { m: 128 * 259, mean: Some(128), relu: true, ..many }, true);
}

/// Thread blocks of more than one tile. All tiles but the first begin within a wide access.
const MANY_MEANS: Pair = Pair { m: 65 * 259, c: 3, k2: 2, k3: 1, relu: true, mean: Some(65) };

fn several_tiles_of_means_are_those_of_the_reference<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    check(backend, arithmetic, &MANY_MEANS, false);
}

/// The output and the gradient of x have the bits of two convolutions, as sums over channels keep their order. Sums
/// over pixels are split differently.
fn y_and_dx_have_the_bits_of_two_convolutions<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    if matches!(arithmetic, Arithmetic::CudaTf32 | Arithmetic::CudaBf16) {
        return;
    }
    for pair in table::pairs() {
        let run = |apply| bits(&run_as(backend, &pair, &pair.draw(), &pair.seed(), ROLES, apply));
        let (fused, apart) = (run(apply), run(apart));
        assert!(fused[0] == apart[0], "{pair:?}: y");
        assert!(fused[1] == apart[1], "{pair:?}: gradient of x");
    }
}

/// The mean has the bits of the pair and the average as two ops, at any precision: values between them are rounded as
/// for storage, and the average keeps its order.
fn a_mean_is_the_average_of_the_pair_to_the_bit<B: Backend>(backend: &B, _: Arithmetic) {
    for pair in table::pairs().into_iter().filter(|pair| pair.mean.is_some()).chain([MANY_MEANS]) {
        let run = |apply| bits(&run_as(backend, &pair, &pair.draw(), &pair.seed(), ROLES, apply));
        let (fused, apart) = (run(apply), run(averaged));
        assert!(fused[0] == apart[0], "{pair:?}: the mean");
        assert!(fused[1] == apart[1], "{pair:?}: gradient of x");
    }
}

/// A network's end, a block and a global average, fused or not, gives the same results.
fn a_block_with_an_average_equals_one_after_the_other<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    let on_gpu = !matches!(arithmetic, Arithmetic::CpuF32 | Arithmetic::CpuF64);
    // Images of 5×5 pixels; of 13×10, which do not fit a tile; and channels for which bf16 has the whole block as one
    // kernel.
    for (relu, [h, w], k) in [(true, [5, 5], 10), (false, [5, 5], 10), (true, [13, 10], 10), (true, [9, 8], 64)] {
        let mut build = Builder::new(backend, Init::He, 3).with_bias(Init::FanIn);
        let block = if k == 10 { build.nin_block(3, k, 3, 1, 1) } else { build.nin_block(3, k, 3, 2, 1) }.unwrap();
        let block = if relu { block } else { block.with_linear_output() };
        let layers = Sequential::new().push(block).push(GlobalAvgPool);
        let shape = Shape::image(7, 3, h, w);
        if k == 64 {
            let weights = [Shape::weight(k, 3, 3, 3), Shape::weight(k, k, 1, 1), Shape::weight(k, k, 1, 1)];
            let whole = MlpConvShape::new(shape, weights, Window { stride: 2, pad: 1 }).unwrap();
            let fuses = backend.fuses(&Fusion::MlpConv { shape: whole, relu }).is_ok();
            assert_eq!(fuses, matches!(arithmetic, Arithmetic::CudaBf16));
        }
        let (images, seed) = (draw::spread(1, shape.len()), draw::spread(2, 7 * k));
        let run = |mode, fused: bool| {
            let mut tape = Tape::new(backend, mode);
            let x = case::variable(&mut tape, shape, &images);
            let y = if fused {
                layers.forward(&mut tape, x.clone()).unwrap()
            } else {
                let y = layers.modules().next().unwrap().forward(&mut tape, x.clone()).unwrap();
                tape.global_avgpool(&y).unwrap()
            };
            assert_eq!(y.shape(), Shape::image(7, k, 1, 1));
            let values = case::download(backend, y.shape(), y.data());
            if mode == Mode::Inference {
                return (values, Vec::new(), Vec::new());
            }
            let grads = tape.backward_from(&y, case::upload(backend, y.shape(), &seed)).unwrap();
            let of_param = |(name, param): (String, &Param<B>)| {
                (name, case::download(backend, param.shape(), grads.of_param(param).unwrap()))
            };
            let gradients = layers.params().into_iter().map(of_param).collect();
            (values, case::download(backend, shape, grads.of(&x).unwrap()), gradients)
        };
        let ((y, dx, gradients), (want, dx_apart, apart)) = (run(TRAINING, true), run(TRAINING, false));
        assert!(y == want && dx == dx_apart, "{h}x{w}, relu: {relu}");
        assert_eq!(run(Mode::Inference, true).0, want, "{h}x{w}, relu: {relu}");
        for ((name, got), (_, want)) in gradients.iter().zip(&apart) {
            // Only the pair's backward kernels add in another order, tile by tile.
            let largest = want.iter().fold(0f64, |largest, value| largest.max(value.abs()));
            let limit = if on_gpu && !name.starts_with("0.0.") { 1e-5 * largest } else { 0.0 };
            assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() <= limit), "{h}x{w}, {relu}: {name}");
            assert!(largest > 0.0, "{name} has no gradient");
        }
    }
}

fn running_again_gives_the_same_bits<B: Backend>(backend: &B, _: Arithmetic) {
    for pair in table::pairs() {
        let run = || bits(&run(backend, &pair, &pair.draw(), &pair.seed()));
        assert!(run() == run(), "{pair:?}");
    }
}

fn inference_gives_the_same_values<B: Backend>(backend: &B, _: Arithmetic) {
    for pair in table::pairs() {
        let forward = |mode| {
            let mut tape = Tape::new(backend, mode);
            let vars = variables(&mut tape, &pair, &pair.draw(), ROLES);
            let y = apply(&mut tape, &pair, &vars);
            case::download(backend, y.shape(), y.data())
        };
        assert!(forward(Mode::Inference) == forward(TRAINING), "{pair:?}");
    }
}

/// Calls the kernels. Returns the output, and the buffers of all gradients, which hold `held` where they are not
/// `wanted`.
fn kernels<B: Backend>(
    backend: &B,
    pair: &Pair,
    (inputs, seed): (&[Vec<f64>], &[f64]),
    mask: bool,
    wanted: [bool; 5],
    held: f64,
    write: Write,
) -> Outcome {
    let (shape, shapes) = (pair.shape(), pair.inputs());
    let upload = |i: usize| Arc::new(case::upload_as(ROLES[i], backend, shapes[i], &inputs[i]));
    let bufs: Vec<Arc<B::Buf>> = (0..5).map(upload).collect();
    let [x, w2, b2, w3, b3] = &bufs[..] else { unreachable!("five inputs") };
    let params: Params<'_, B::Buf, 2> = Params { w: [w2, w3], b: [b2, b3], relu: pair.relu };
    let mut y = case::upload(backend, pair.output(), &vec![held; seed.len()]);
    backend.pointwise_pair_fprop(&shape, x, params, &mut y).unwrap();
    let grad = |i: usize| Grad::new(case::upload_as(ROLES[i], backend, shapes[i], &vec![held; shapes[i].len()]), write);
    let masked = |i: usize| if mask && i == 0 { grad(i).masked_by(x.clone()) } else { grad(i) };
    let mut grads: Vec<Grad<B::Buf>> = (0..5).map(masked).collect();
    let mut lent: Vec<_> = grads.iter_mut().zip(wanted).map(|(grad, wanted)| wanted.then_some(grad)).collect();
    let mut take = |i: usize| lent[i].take();
    let dx = take(0);
    let layers = [1, 3].map(|i| Wanted { dw: take(i), db: take(i + 1) });
    let dy = case::upload(backend, pair.output(), seed);
    backend.pointwise_pair_backward(&shape, x, params, &dy, ChainWanted { dx, layers }).unwrap();
    let grads = grads.into_iter().map(|grad| grad.finish(backend).unwrap());
    let gradients = grads.zip(shapes).map(|(grad, shape)| case::download(backend, shape, &grad)).collect();
    (case::download(backend, pair.output(), &y), gradients)
}

/// The table's small pairs, fused and not.
fn some() -> impl Iterator<Item = Pair> {
    table::pairs().into_iter().filter(|pair| pair.m <= 300)
}

fn kernels_overwrite_or_add_as_they_are_told<B: Backend>(backend: &B, _: Arithmetic) {
    for pair in some().filter(Pair::exact) {
        let (inputs, seed) = (pair.whole(), pair.whole_seed());
        let run = |held: f64, write| kernels(backend, &pair, (&inputs, &seed), false, [true; 5], held, write);
        let (y, fresh) = run(f64::NAN, Write::Overwrite);
        let used = run(7.0, Write::Overwrite);
        assert!(used == (y, fresh.clone()), "{pair:?}: what a buffer held shows in what overwrites it");
        let (_, added) = run(3.0, Write::Accumulate);
        for (name, (added, fresh)) in NAMES.iter().zip(added.iter().zip(fresh)) {
            assert!(fresh.iter().map(|fresh| fresh + 3.0).eq(added.iter().copied()), "{pair:?}: {name}");
        }
    }
}

/// Accumulating into tiles that begin within an access rounds the sum of the old content and the gradient once. Except in fp32
/// the gradient to compare with has been rounded already.
fn kernels_add_in_tiles_that_begin_anywhere<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    // The CPU's products start from the old content, so their sums round differently.
    if matches!(arithmetic, Arithmetic::CpuF32 | Arithmetic::CpuF64) {
        return;
    }
    for pair in some().filter(|pair| pair.fits() && !pair.exact()) {
        let (inputs, seed) = (pair.draw(), pair.seed());
        let run = |held, write| kernels(backend, &pair, (&inputs, &seed), false, [true; 5], held, write).1.remove(0);
        for (dx, got) in run(f64::NAN, Write::Overwrite).into_iter().zip(run(3.0, Write::Accumulate)) {
            let off = arithmetic.storage_unit() * (dx.abs() + (dx + 3.0).abs());
            let want = if off == 0.0 { arithmetic.stored(dx + 3.0) } else { dx + 3.0 };
            assert!((got - want).abs() <= off, "{pair:?}: {got} instead of {want}");
        }
    }
}

fn gradients_that_are_not_wanted_change_nothing<B: Backend>(backend: &B, _: Arithmetic) {
    for pair in some().filter(Pair::fits) {
        let (inputs, seed) = (pair.draw(), pair.seed());
        let run = |wanted| kernels(backend, &pair, (&inputs, &seed), false, wanted, 3.0, Write::Overwrite).1;
        let all = run([true; 5]);
        for only in 0..5 {
            for wanted in [std::array::from_fn(|i| i == only), std::array::from_fn(|i| i != only)] {
                for (i, got) in run(wanted).into_iter().enumerate() {
                    let same = if wanted[i] { got == all[i] } else { got.iter().all(|&value| value == 3.0) };
                    assert!(same, "{pair:?}, {wanted:?}: {}", NAMES[i]);
                }
            }
        }
    }
}

fn a_mask_zeroes_what_is_not_positive_and_nothing_else<B: Backend>(backend: &B, _: Arithmetic) {
    for pair in some() {
        let (mut inputs, seed) = (pair.draw(), pair.seed());
        inputs[0].iter_mut().step_by(5).for_each(|x| *x = 0.0);
        inputs[0].iter_mut().skip(1).step_by(5).for_each(|x| *x = -*x);
        let run = |mask| kernels(backend, &pair, (&inputs, &seed), mask, [true; 5], f64::NAN, Write::Overwrite);
        let ((masked_y, masked), (y, plain)) = (run(true), run(false));
        let kept = inputs[0].iter().zip(&plain[0]).map(|(&x, &dx)| if x > 0.0 { dx } else { 0.0 });
        assert!(masked[0].iter().copied().eq(kept), "{pair:?}");
        assert!(masked[1..] == plain[1..] && masked_y == y, "{pair:?}");
    }
}

/// The tape knows that an input is the output of a ReLU, and masks its gradient.
fn an_input_that_is_rectified_is_masked<B: Backend>(backend: &B, _: Arithmetic) {
    for pair in some() {
        let (inputs, seed) = (pair.draw(), pair.seed());
        let mut tape = Tape::new(backend, TRAINING);
        let mut vars = variables(&mut tape, &pair, &inputs, ROLES);
        let leaf = vars[0].clone();
        vars[0] = tape.relu(&leaf).unwrap();
        let y = apply(&mut tape, &pair, &vars);
        let grads = tape.backward_from(&y, case::upload(backend, y.shape(), &seed)).unwrap();
        let got = case::download(backend, pair.inputs()[0], grads.of(&leaf).unwrap());
        let rectified: Vec<f64> = inputs[0].iter().map(|x| x.max(0.0)).collect();
        let (_, want) = run(backend, &pair, &[vec![rectified], inputs[1..].to_vec()].concat(), &seed);
        let want = inputs[0].iter().zip(&want[0]).map(|(&x, &dx)| if x > 0.0 { dx } else { 0.0 });
        assert!(want.eq(got.iter().copied()), "{pair:?}");
    }
}

/// A variable that is given twice, as weights, as biases, or as pixels and weights, is refused: one kernel would write
/// both gradients at the same time.
fn a_variable_given_twice_is_refused<B: Backend>(backend: &B, _: Arithmetic) {
    for (twice, mean) in [([1, 3], None), ([2, 4], None), ([0, 1], None), ([1, 3], Some(2)), ([2, 4], Some(2))] {
        let pair = Pair { m: 10, c: 10, k2: 10, k3: 10, relu: true, mean };
        let mut tape = Tape::new(backend, TRAINING);
        let mut vars = variables(&mut tape, &pair, &pair.whole(), ROLES);
        // All five extents are ten, so pixels and weights have the same shape.
        vars[twice[1]] = vars[twice[0]].clone();
        let [x, w2, b2, w3, b3] = &vars[..] else { unreachable!("five inputs") };
        let params = Params { w: [w2, w3], b: [b2, b3], relu: true };
        let problem = tape.pointwise_pair(x.clone(), params, mean.is_some()).map(|_| ()).unwrap_err().to_string();
        assert!(problem.contains("is given twice; run the layers one by one"), "{twice:?}: {problem}");
    }
}

fn ops_take_any_role<B: Backend>(backend: &B, _: Arithmetic) {
    let swapped = ROLES.map(|role| if role == Role::Activation { Role::Parameter } else { Role::Activation });
    for pair in some().filter(Pair::exact) {
        let (inputs, seed) = (pair.whole(), pair.whole_seed());
        let [usual, other] = [ROLES, swapped].map(|roles| run_as(backend, &pair, &inputs, &seed, roles, apply));
        // Only the output and the gradient of x are compared: sums over pixels have more digits than an activation
        // stores.
        assert!(usual.0 == other.0 && usual.1[0] == other.1[0], "{pair:?}");
    }
}

fn nan_propagates_as_through_two_convolutions<B: Backend>(backend: &B, _: Arithmetic) {
    let reference = Cpu::<f64>::new();
    for (relu, mean) in [(false, None), (true, None), (false, Some(28)), (true, Some(28))] {
        let pair = Pair { m: 140, c: 10, k2: 7, k3: 3, relu, mean };
        // One element of x, w2, b2, w3, b3, or the output's gradient is NaN.
        for (poisoned, at) in [(0, 1283), (1, 33), (2, 5), (3, 9), (4, 1), (5, 401)] {
            let (mut inputs, mut seed) = (pair.whole(), pair.whole_seed());
            let values = inputs.iter_mut().chain([&mut seed]).nth(poisoned).unwrap();
            let at = at % values.len();
            values[at] = f64::NAN;
            let nans = |(y, gradients): Outcome| -> Vec<Vec<bool>> {
                [y].iter().chain(&gradients).map(|row| row.iter().map(|value| value.is_nan()).collect()).collect()
            };
            let write = Write::Overwrite;
            let got = nans(kernels(backend, &pair, (&inputs, &seed), true, [true; 5], 0.0, write));
            let want = nans(kernels(&reference, &pair, (&inputs, &seed), true, [true; 5], 0.0, write));
            assert!(
                want.iter().flatten().any(|&nan| nan) && want.iter().flatten().any(|&nan| !nan),
                "{pair:?}: {poisoned}"
            );
            assert!(got == want, "{pair:?}: NaN in input {poisoned}");
        }
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let backend = Cpu::<f32>::new();
    let pair = Pair { m: 2, c: 3, k2: 4, k3: 5, relu: true, mean: None };
    let [_, w2, b2, w3, b3] = pair.inputs();
    let w = Shape::weight;
    for wrong in [
        [w(4, 2, 1, 1), b2, w3, b3],
        [w(4, 3, 1, 2), b2, w3, b3],
        [w2, Shape::vector(3), w3, b3],
        [w2, b2, w(5, 3, 1, 1), b3],
        [w2, b2, w3, Shape::vector(4)],
    ] {
        let mut tape = Tape::new(&backend, TRAINING);
        let x = case::variable(&mut tape, pair.inputs()[0], &pair.draw()[0]);
        let params = wrong.map(|shape| case::variable(&mut tape, shape, &vec![0.0; shape.len()]));
        let [w2, b2, w3, b3] = params.each_ref();
        let refused = tape.pointwise_pair(x, Params { w: [w2, w3], b: [b2, b3], relu: true }, false);
        assert!(matches!(refused.err(), Some(Error::Shape { .. })), "{wrong:?}");
    }
}
