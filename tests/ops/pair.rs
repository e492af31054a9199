//! Two 1×1 convolutions, a ReLU between them, as one op that a backend may compute in one kernel.

use mlpconv::device::Role;
use mlpconv::ops::pointwise_pair::PairShape;
use mlpconv::ops::{Grad, Params, Wanted, Write};
use mlpconv::{Backend, Cpu, Error, Mode, Shape, Tape, Var};

use crate::arithmetic::Arithmetic;
use crate::case::{self, TRAINING};
use crate::interval::{Interval, Rounding, intervals, product, within};
use crate::{draw, table};

on_every_backend!(
    values_and_gradients_lie_within_the_references_intervals,
    whole_numbers_come_out_as_they_are,
    where_sums_keep_their_order_it_is_two_convolutions_to_the_bit,
    running_again_gives_the_same_bits,
    inference_gives_the_same_values,
    kernels_overwrite_or_add_as_they_are_told,
    gradients_that_are_not_wanted_change_nothing,
    a_mask_zeroes_what_is_not_positive_and_nothing_else,
    an_input_that_is_rectified_is_masked,
    variables_that_are_there_twice_get_both_gradients,
    ops_take_any_role,
    nan_goes_where_two_convolutions_bring_it,
);

/// A pair on `m` pixels, images of one each: their logical order is that in memory.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    pub m: usize,
    pub c: usize,
    pub k2: usize,
    pub k3: usize,
    pub relu: bool,
}

const NAMES: [&str; 5] = ["x", "w2", "b2", "w3", "b3"];

const ROLES: [Role; 5] = [Role::Activation, Role::Parameter, Role::Parameter, Role::Parameter, Role::Parameter];

/// Output, and gradients of x, w2, b2, w3, b3.
type Outcome = (Vec<f64>, Vec<Vec<f64>>);

impl Pair {
    fn shape(&self) -> PairShape {
        let &Pair { m, c, k2, k3, .. } = self;
        PairShape { m, c, k2, k3 }
    }

    /// x, w2, b2, w3, b3.
    fn inputs(&self) -> [Shape; 5] {
        let &Pair { m, c, k2, k3, .. } = self;
        let w = |k, c| Shape::weight(k, c, 1, 1);
        [Shape::image(m, c, 1, 1), w(k2, c), Shape::vector(k2), w(k3, k2), Shape::vector(k3)]
    }

    fn output(&self) -> Shape {
        Shape::image(self.m, self.k3, 1, 1)
    }

    /// Numbers with many digits. More pixels and their gradients are above zero than below: sums over thousands are then
    /// not small beside what is added up.
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

    /// Small whole numbers and few of them, so that no precision rounds anything.
    fn whole(&self) -> Vec<Vec<f64>> {
        let few = |i: usize, shape: &Shape| -> Vec<f64> {
            draw::spread(700 + i as u64, shape.len()).into_iter().map(|value| (1.5 * value).round()).collect()
        };
        self.inputs().iter().enumerate().map(|(i, shape)| few(i, shape)).collect()
    }

    fn whole_seed(&self) -> Vec<f64> {
        draw::signs(9, self.output().len())
    }

    /// Whether a GPU has a kernel for it.
    fn fits(&self) -> bool {
        self.c.max(self.k2).max(self.k3) <= 16
    }
}

fn raised(values: Vec<f64>) -> Vec<f64> {
    values.into_iter().map(|value| f64::from((value + 0.4) as f32)).collect()
}

fn variables<B: Backend>(tape: &mut Tape<B>, pair: &Pair, inputs: &[Vec<f64>], roles: [Role; 5]) -> Vec<Var<B>> {
    let vars = pair.inputs().into_iter().zip(roles).zip(inputs);
    vars.map(|((shape, role), values)| case::variable_as(role, tape, shape, values)).collect()
}

fn apply<B: Backend>(tape: &mut Tape<B>, pair: &Pair, vars: &[Var<B>]) -> Var<B> {
    let [x, w2, b2, w3, b3] = vars else { panic!("five inputs") };
    tape.pointwise_pair(x.clone(), [w2, b2, w3, b3], pair.relu).unwrap()
}

/// The pair as two ops.
fn apart<B: Backend>(tape: &mut Tape<B>, pair: &Pair, vars: &[Var<B>]) -> Var<B> {
    let [x, w2, b2, w3, b3] = vars else { panic!("five inputs") };
    let hidden = tape.pointwise(x, w2, Some(b2), true).unwrap();
    tape.pointwise(&hidden, w3, Some(b3), pair.relu).unwrap()
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
    let gradient = |var: &Var<B>| case::download(backend, var.shape(), grads.of(var).unwrap());
    (values, vars.iter().map(gradient).collect())
}

fn run<B: Backend>(backend: &B, pair: &Pair, inputs: &[Vec<f64>], seed: &[f64]) -> Outcome {
    run_as(backend, pair, inputs, seed, ROLES, apply)
}

fn bits((y, gradients): &Outcome) -> Vec<Vec<u64>> {
    std::iter::once(y).chain(gradients).map(|row| row.iter().map(|value| value.to_bits()).collect()).collect()
}

/// The pair's formulas, rows of channels.
pub struct Reference {
    pub y: Vec<Interval>,
    /// Of x, w2, b2, w3, b3.
    pub gradients: [Vec<Interval>; 5],
}

impl Reference {
    /// `x` is as it is stored; `dy` the gradient of y before its ReLU.
    pub fn new(
        rounding: Rounding,
        &PairShape { m, c, k2, k3 }: &PairShape,
        x: &[Interval],
        [w2, b2, w3, b3]: [&[f64]; 4],
        relu: bool,
        mask: bool,
        dy: &[f64],
    ) -> Self {
        let factors = |values: &[f64]| rounding.factors(&intervals(values));
        let (w2, w3, d3) = (factors(w2), factors(w3), factors(dy));
        let f1 = rounding.factors(x);
        let second = product([m, k2, c], |i, c_| f1[i * c + c_], |k, c_| w2[k * c + c_]);
        let hidden = rounding.activations(second, b2, true);
        let f2 = rounding.factors(&hidden);
        let third = product([m, k3, k2], |i, k| f2[i * k2 + k], |n, k| w3[n * k2 + k]);
        let y = rounding.activations(third, b3, relu);

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

fn check<B: Backend>(backend: &B, arithmetic: Arithmetic, pair: &Pair, exact: bool) {
    let (inputs, seed) = if exact { (pair.whole(), pair.whole_seed()) } else { (pair.draw(), pair.seed()) };
    let (y, gradients) = run(backend, pair, &inputs, &seed);
    let rounding = Rounding { arithmetic, plain: backend.pointwise_pair_fuses(&pair.shape()), exact };
    let x: Vec<f64> = inputs[0].iter().map(|&value| arithmetic.stored(value)).collect();
    let dy: Vec<f64> = y.iter().zip(&seed).map(|(&y, &dy)| if pair.relu && y <= 0.0 { 0.0 } else { dy }).collect();
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
        assert_eq!(backend.pointwise_pair_fuses(&pair.shape()), on_gpu && pair.fits(), "{pair:?}");
        check(backend, arithmetic, &pair, false);
    }
}

fn whole_numbers_come_out_as_they_are<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    table::pairs().iter().for_each(|pair| check(backend, arithmetic, pair, true));
    // More tiles than there are blocks, the last of which have fewer than the others.
    check(backend, arithmetic, &Pair { m: 33_100, c: 2, k2: 3, k3: 1, relu: false }, true);
}

/// Sums over channels do; those over pixels are cut differently.
fn where_sums_keep_their_order_it_is_two_convolutions_to_the_bit<B: Backend>(backend: &B, arithmetic: Arithmetic) {
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

/// Output and gradients by the kernels themselves, of which those in `wanted` are written to buffers that hold `held`.
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
    let bufs: Vec<B::Buf> = (0..5).map(|i| case::upload_as(ROLES[i], backend, shapes[i], &inputs[i])).collect();
    let [x, w2, b2, w3, b3] = &bufs[..] else { unreachable!("five inputs") };
    let params = Params { w: [w2, w3], b: [b2, b3] };
    let mut y = case::upload(backend, pair.output(), &vec![held; seed.len()]);
    backend.pointwise_pair_fprop(&shape, x, &params, pair.relu, &mut y).unwrap();
    let grad = |i: usize| Grad::new(case::upload_as(ROLES[i], backend, shapes[i], &vec![held; shapes[i].len()]), write);
    let mut grads: Vec<Grad<B::Buf>> = (0..5).map(grad).collect();
    let mut lent: Vec<_> = grads.iter_mut().zip(wanted).map(|(grad, wanted)| wanted.then_some(grad)).collect();
    let mut take = |i: usize| lent[i].take();
    let wanted = Wanted { dx: take(0), dw: [take(1), take(3)], db: [take(2), take(4)] };
    let dy = case::upload(backend, pair.output(), seed);
    backend.pointwise_pair_backward(&shape, x, &params, &dy, mask, wanted).unwrap();
    let gradients = (0..5).map(|i| case::download(backend, shapes[i], &grads[i].buf)).collect();
    (case::download(backend, pair.output(), &y), gradients)
}

/// A few of the pairs, fused and not.
fn some() -> impl Iterator<Item = Pair> {
    table::pairs().into_iter().filter(|pair| pair.m <= 300)
}

fn kernels_overwrite_or_add_as_they_are_told<B: Backend>(backend: &B, _: Arithmetic) {
    for pair in some() {
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

/// The tape knows which inputs are.
fn an_input_that_is_rectified_is_masked<B: Backend>(backend: &B, _: Arithmetic) {
    for pair in some() {
        let (inputs, seed) = (pair.draw(), pair.seed());
        let mut tape = Tape::new(backend, TRAINING);
        let mut vars = variables(&mut tape, &pair, &inputs, ROLES);
        let leaf = vars[0].clone();
        vars[0] = tape.relu(&leaf).unwrap();
        let y = apply(&mut tape, &pair, &vars);
        let grads = tape.backward_from(&y, case::upload(backend, y.shape(), &seed)).unwrap();
        let got = case::download(backend, leaf.shape(), grads.of(&leaf).unwrap());
        let rectified: Vec<f64> = inputs[0].iter().map(|x| x.max(0.0)).collect();
        let (_, want) = run(backend, &pair, &[vec![rectified], inputs[1..].to_vec()].concat(), &seed);
        let want = inputs[0].iter().zip(&want[0]).map(|(&x, &dx)| if x > 0.0 { dx } else { 0.0 });
        assert!(want.eq(got.iter().copied()), "{pair:?}");
    }
}

/// Weights, biases, or weights that are the pixels as well.
fn variables_that_are_there_twice_get_both_gradients<B: Backend>(backend: &B, _: Arithmetic) {
    let pair = Pair { m: 10, c: 10, k2: 10, k3: 10, relu: true };
    for twice in [[1, 3], [2, 4], [0, 1]] {
        let mut inputs = pair.whole();
        inputs[twice[1]] = inputs[twice[0]].clone();
        let seed = pair.whole_seed();
        let (y, apart) = run(backend, &pair, &inputs, &seed);
        let mut tape = Tape::new(backend, TRAINING);
        let mut vars = variables(&mut tape, &pair, &inputs, ROLES);
        // The shapes of pixels and weights are the same.
        vars[twice[1]] = vars[twice[0]].clone();
        let tied = apply(&mut tape, &pair, &vars);
        assert_eq!(case::download(backend, tied.shape(), tied.data()), y);
        let grads = tape.backward_from(&tied, case::upload(backend, tied.shape(), &seed)).unwrap();
        for i in (0..5).filter(|&i| i != twice[1]) {
            let got = case::download(backend, vars[i].shape(), grads.of(&vars[i]).unwrap());
            let add = |at: usize| apart[i][at] + if i == twice[0] { apart[twice[1]][at] } else { 0.0 };
            let want: Vec<f64> = (0..got.len()).map(add).collect();
            assert_eq!(got, want, "{twice:?}: {}", NAMES[i]);
        }
    }
}

fn ops_take_any_role<B: Backend>(backend: &B, _: Arithmetic) {
    let swapped = ROLES.map(|role| if role == Role::Activation { Role::Parameter } else { Role::Activation });
    for pair in some() {
        let (inputs, seed) = (pair.whole(), pair.whole_seed());
        let [usual, other] = [ROLES, swapped].map(|roles| run_as(backend, &pair, &inputs, &seed, roles, apply));
        // Sums over pixels have more digits than an activation.
        assert!(usual.0 == other.0 && usual.1[0] == other.1[0], "{pair:?}");
    }
}

fn nan_goes_where_two_convolutions_bring_it<B: Backend>(backend: &B, _: Arithmetic) {
    let reference = Cpu::<f64>::new();
    for relu in [false, true] {
        let pair = Pair { m: 140, c: 10, k2: 7, k3: 3, relu };
        // An element of x, w2, b2, w3, b3, and of the output's gradient.
        for (poisoned, at) in [(0, 1283), (1, 33), (2, 5), (3, 9), (4, 1), (5, 400)] {
            let (mut inputs, mut seed) = (pair.whole(), pair.whole_seed());
            inputs.iter_mut().chain([&mut seed]).nth(poisoned).unwrap()[at] = f64::NAN;
            let nans = |(y, gradients): Outcome| -> Vec<Vec<bool>> {
                [y].iter().chain(&gradients).map(|row| row.iter().map(|value| value.is_nan()).collect()).collect()
            };
            let write = Write::Overwrite;
            let got = nans(kernels(backend, &pair, (&inputs, &seed), true, [true; 5], 0.0, write));
            let want = nans(kernels(&reference, &pair, (&inputs, &seed), true, [true; 5], 0.0, write));
            assert!(want.iter().flatten().any(|&nan| nan) && want.iter().flatten().any(|&nan| !nan));
            assert!(got == want, "{relu}: NaN in input {poisoned}");
        }
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let backend = Cpu::<f32>::new();
    let pair = Pair { m: 2, c: 3, k2: 4, k3: 5, relu: true };
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
        let refused = tape.pointwise_pair(x, params.each_ref(), true);
        assert!(matches!(refused.err(), Some(Error::Shape { .. })), "{wrong:?}");
    }
}
