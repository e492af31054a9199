//! NiN's block as one op. A backend may compute it in one kernel or as three convolutions, of which the last two may
//! again be one op.

/// The block with a max pool after it.
pub mod pooled;

use std::sync::Arc;

use mlpconv::device::{Grad, Role, Write};
use mlpconv::ops::fusion::Fusion;
use mlpconv::ops::mlpconv::MlpConvShape;
use mlpconv::ops::{ChainWanted, Params, Wanted};
use mlpconv::shape::Window;
use mlpconv::{Backend, Mode, Shape, Tape, Var};

use crate::arithmetic::Arithmetic;
use crate::case::{self, TRAINING, tensor};
use crate::interval::{Interval, Rounding, Sum, intervals, product, within};
use crate::{draw, layout, pair, table};

on_every_backend!(
    values_and_gradients_lie_within_the_references_intervals,
    whole_numbers_come_out_as_they_are,
    inference_gives_the_same_values,
    kernels_overwrite_or_add_as_they_are_told,
    gradients_that_are_not_wanted_change_nothing,
    a_mask_zeroes_what_is_not_positive_and_nothing_else,
    tied_parameters_are_refused,
    ops_take_any_role,
    an_infinity_beside_a_window_changes_nothing,
    a_block_that_is_not_fused_has_the_bits_of_three_convolutions,
);

/// A block on images `x` `[N, C, H, W]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    pub x: [usize; 4],
    /// Output channels of the three convolutions.
    pub k: [usize; 3],
    pub filter: [usize; 2],
    pub stride: usize,
    pub pad: usize,
    pub relu: bool,
    /// Whether a GPU in bf16 has kernels for the block.
    pub fused: bool,
}

/// Output and gradients: of x, w1, b1, w2, b2, w3, b3.
pub type Outcome = (Vec<f64>, Vec<Vec<f64>>);

impl Block {
    /// The shapes of x, w1, b1, w2, b2, w3, b3.
    fn inputs(&self) -> [Shape; 7] {
        let ([_, c, ..], [a, b, d], [r, s]) = (self.x, self.k, self.filter);
        let w = Shape::weight;
        let vector = Shape::vector;
        [tensor(self.x), w(a, c, r, s), vector(a), w(b, a, 1, 1), vector(b), w(d, b, 1, 1), vector(d)]
    }

    fn fusion(&self) -> Fusion {
        Fusion::MlpConv { shape: self.shape(), relu: self.relu }
    }

    fn window(&self) -> Window {
        Window { stride: self.stride, pad: self.pad }
    }

    fn shape(&self) -> MlpConvShape {
        let [x, w1, _, w2, _, w3, _] = self.inputs();
        MlpConvShape::new(x, [w1, w2, w3], self.window()).unwrap()
    }

    /// Values with all bits of an f32. The weights are sparse, so that the error of sums does not hide how values
    /// between the layers are rounded.
    fn draw(&self) -> Vec<Vec<f64>> {
        let input = |(i, shape): (usize, &Shape)| {
            let mut values = draw::spread(300 + i as u64, shape.len());
            if shape.dims().len() == 4 && i > 0 {
                let share = 8.0 / (shape.len() / shape.n()) as f64;
                let places = draw::spread(350 + i as u64, shape.len());
                values.iter_mut().zip(places).filter(|(_, place)| place.abs() >= share).for_each(|(w, _)| *w = 0.0);
            }
            values
        };
        self.inputs().iter().enumerate().map(input).collect()
    }

    /// Sparse small whole numbers, which no precision rounds.
    fn whole(&self) -> Vec<Vec<f64>> {
        let sparse = |seed: u64, len: usize, row: usize| -> Vec<f64> {
            // About three elements of a row are not zero.
            let (places, signs) = (draw::spread(seed, len), draw::signs(seed, len));
            let share = 3.0 / row as f64;
            places.iter().zip(signs).map(|(place, sign)| if place.abs() < share { sign } else { 0.0 }).collect()
        };
        let input = |(i, shape): (usize, &Shape)| match i {
            0 => draw::spread(400, shape.len()).into_iter().map(|x| (2.5 * x).round()).collect(),
            1 | 3 | 5 => sparse(400 + i as u64, shape.len(), shape.len() / shape.n()),
            _ => draw::signs(400 + i as u64, shape.len()),
        };
        self.inputs().iter().enumerate().map(input).collect()
    }

    fn params<'a, T>(&self, w: [&'a T; 3], b: [&'a T; 3]) -> Params<'a, T, 3> {
        Params { w, b, relu: self.relu }
    }

    fn apply<B: Backend>(&self, tape: &mut Tape<B>, vars: &[Var<B>]) -> Var<B> {
        let [x, w1, b1, w2, b2, w3, b3] = vars else { panic!("seven inputs") };
        tape.mlpconv(x.clone(), self.params([w1, w2, w3], [b1, b2, b3]), self.window()).unwrap()
    }

    /// [`Block::draw`] and [`Block::seed`].
    fn drawn(&self) -> Vec<Vec<f64>> {
        self.draw().into_iter().chain([self.seed()]).collect()
    }

    fn seed(&self) -> Vec<f64> {
        draw::spread(333, self.shape().output().len())
    }
}

const ROLES: [Role; 7] = [
    Role::Activation,
    Role::Parameter,
    Role::Parameter,
    Role::Parameter,
    Role::Parameter,
    Role::Parameter,
    Role::Parameter,
];

fn run<B: Backend>(backend: &B, block: &Block, inputs: &[Vec<f64>], seed: &[f64], roles: [Role; 7]) -> Outcome {
    let mut tape = Tape::new(backend, TRAINING);
    let vars = block.inputs().into_iter().zip(roles).zip(inputs);
    let vars: Vec<_> = vars.map(|((shape, role), x)| case::variable_as(role, &mut tape, shape, x)).collect();
    let y = block.apply(&mut tape, &vars);
    assert_eq!(y.shape(), block.shape().output());
    let values = case::download(backend, y.shape(), y.data());
    let grads = tape.backward_from(&y, case::upload(backend, y.shape(), seed)).unwrap();
    let gradient = |var: &Var<B>| case::download(backend, var.shape(), grads.of(var).unwrap());
    (values, vars.iter().map(gradient).collect())
}

/// The block's formulas in intervals: the output, and the gradients of x, w1, b1, w2, b2, w3, b3.
struct Reference {
    y: Vec<Interval>,
    gradients: Vec<Vec<Interval>>,
}

impl Reference {
    /// The reference for `inputs` and the gradient `seed` of the output. `y` is the computed output, whose signs mask the
    /// gradient before the last ReLU.
    fn new(rounding: Rounding, block: &Block, inputs: &[Vec<f64>], y: &[f64], seed: &[f64]) -> Self {
        let shape = block.shape();
        let (g, [k1, _, k3], m) = (shape.conv, block.k, shape.conv.pixels());
        let taps = g.taps();
        // The logical index in x of each (pixel, tap); `None` in the padding.
        let places: Vec<Option<usize>> = (0..m * taps)
            .map(|i| {
                let ([n, p, q], [c, r, s]) = (split(i / taps, [g.p, g.q]), split(i % taps, [g.r, g.s]));
                let h = (p * g.stride + r).checked_sub(g.pad).filter(|&h| h < g.h)?;
                let w = (q * g.stride + s).checked_sub(g.pad).filter(|&w| w < g.w)?;
                Some(layout::index(block.x, [n, c, h, w]))
            })
            .collect();
        let [x, w1] = [0, 1].map(|i| rounding.factors(&intervals(&inputs[i])));
        let patch = |pixel: usize, tap: usize| places[pixel * taps + tap].map_or(Interval::default(), |at| x[at]);
        let a1 = rounding.activations(product([m, k1, taps], patch, |k, tap| w1[k * taps + tap]), &inputs[2], true);

        // The logical index in the output of row-major index `i` in (pixel, channel).
        let logical = |i: usize| {
            let [n, p, q] = split(i / k3, [g.p, g.q]);
            layout::index([g.n, k3, g.p, g.q], [n, i % k3, p, q])
        };
        let dy = |at: usize| if block.relu && y[at] <= 0.0 { 0.0 } else { seed[at] };
        let dy: Vec<f64> = (0..m * k3).map(|i| dy(logical(i))).collect();
        let params = [3, 4, 5, 6].map(|i| &inputs[i][..]);
        let rest = pair::Reference::new(rounding, &shape.pair(), &a1, params, block.relu, true, &dy);
        let mut outputs = vec![Interval::default(); m * k3];
        rest.y.iter().enumerate().for_each(|(i, y)| outputs[logical(i)] = *y);

        let [dz1, dw2, db2, dw3, db3] = rest.gradients;
        let d1 = rounding.factors(&dz1);
        let mut dx = vec![Sum::default(); inputs[0].len()];
        for (i, at) in places.iter().enumerate() {
            let (pixel, tap) = (i / taps, i % taps);
            if let Some(at) = *at {
                for k in 0..k1 {
                    dx[at].add(d1[pixel * k1 + k], w1[k * taps + tap]);
                }
            }
        }
        let dx = dx.into_iter().map(|sum| rounding.gradient(sum)).collect();
        let of_channel = |k: usize, pixel: usize| d1[pixel * k1 + k];
        let dw1 = rounding.kept(product([k1, taps, m], of_channel, |tap, pixel| patch(pixel, tap)));
        let db1 = rounding.kept(product([k1, 1, m], of_channel, |_, _| Interval::of(1.0)));
        Reference { y: outputs, gradients: vec![dx, dw1, db1, dw2, db2, dw3, db3] }
    }
}

/// The coordinates of `index` in a tensor whose last two extents are `a` and `b`.
fn split(index: usize, [a, b]: [usize; 2]) -> [usize; 3] {
    [index / (a * b), index / b % a, index % b]
}

const NAMES: [&str; 7] = ["x", "w1", "b1", "w2", "b2", "w3", "b3"];

/// Compares the block with its reference, on small whole numbers if `exact`. Returns the block's values.
pub fn check<B: Backend>(backend: &B, arithmetic: Arithmetic, block: &Block, exact: bool) -> Outcome {
    let inputs = if exact { block.whole() } else { block.draw() };
    let seed = if exact { draw::signs(9, block.seed().len()) } else { block.seed() };
    let (y, gradients) = run(backend, block, &inputs, &seed, ROLES);
    let reference = Reference::new(Rounding { arithmetic, exact }, block, &inputs, &y, &seed);
    within(&format!("{block:?}: y"), &y, &reference.y, exact);
    for ((name, got), want) in NAMES.iter().zip(&gradients).zip(&reference.gradients) {
        within(&format!("{block:?}: gradient of {name}"), got, want, exact);
    }
    (y, gradients)
}

/// [`check`] of a block whose output is positive in some elements and zero or negative in others.
fn check_both_signs<B: Backend>(backend: &B, arithmetic: Arithmetic, block: &Block, exact: bool) -> Outcome {
    let (y, gradients) = check(backend, arithmetic, block, exact);
    let positive = y.iter().filter(|&&y| y > 0.0).count();
    assert!(y.len() < 200 || positive > y.len() / 8 && positive < y.len(), "{block:?}: {positive} of {}", y.len());
    (y, gradients)
}

fn values_and_gradients_lie_within_the_references_intervals<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for block in table::blocks() {
        let fused = block.fused && fuses(arithmetic);
        assert_eq!(backend.fuses(&block.fusion()).is_ok(), fused, "{block:?}");
    }
    for block in blocks(arithmetic) {
        let first = check_both_signs(backend, arithmetic, &block, false);
        if some().any(|repeated| repeated == block) {
            let again = run(backend, &block, &block.draw(), &block.seed(), ROLES);
            assert!(bits(first) == bits(again), "{block:?}: running it again gives other bits");
        }
    }
}

fn whole_numbers_come_out_as_they_are<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for block in blocks(arithmetic) {
        check_both_signs(backend, arithmetic, &block, true);
    }
}

fn bits((y, gradients): Outcome) -> Vec<Vec<u64>> {
    std::iter::once(y).chain(gradients).map(|row| row.into_iter().map(f64::to_bits).collect()).collect()
}

fn inference_gives_the_same_values<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    for block in blocks(arithmetic) {
        let forward = |mode| {
            let mut tape = Tape::new(backend, mode);
            let inputs = block.inputs().into_iter().zip(ROLES).zip(block.draw());
            let vars = inputs.map(|((shape, role), x)| case::variable_as(role, &mut tape, shape, &x));
            let vars: Vec<_> = vars.collect();
            let y = block.apply(&mut tape, &vars);
            case::download(backend, y.shape(), y.data())
        };
        assert!(forward(Mode::Inference) == forward(TRAINING), "{block:?}");
    }
}

/// Calls the backward kernels on buffers that hold `held`, for the `wanted` gradients. Returns all seven buffers, of
/// x, w1, b1, w2, b2, w3, b3. `inputs` are those seven and the gradient of the output.
fn backward<B: Backend>(
    backend: &B,
    block: &Block,
    inputs: Vec<Vec<f64>>,
    mask: bool,
    wanted: [bool; 7],
    held: f64,
    write: Write,
) -> Vec<Vec<f64>> {
    let shapes = block.inputs();
    let bufs: Vec<B::Buf> = (0..7).map(|i| case::upload_as(ROLES[i], backend, shapes[i], &inputs[i])).collect();
    let dy = case::upload(backend, block.shape().output(), &inputs[7]);
    let grad = |i: usize| {
        let values = vec![held; shapes[i].len()];
        Grad::new(case::upload_as(ROLES[i], backend, shapes[i], &values), write)
    };
    let mut grads: Vec<Grad<B::Buf>> = (0..7).map(grad).collect();
    let bufs: Vec<Arc<B::Buf>> = bufs.into_iter().map(Arc::new).collect();
    if mask {
        let dx = grads.remove(0).masked_by(bufs[0].clone());
        grads.insert(0, dx);
    }
    let mut lent: Vec<_> = grads.iter_mut().zip(wanted).map(|(grad, wanted)| wanted.then_some(grad)).collect();
    let mut take = |i: usize| lent[i].take();
    let dx = take(0);
    let layers = [1, 3, 5].map(|i| Wanted { dw: take(i), db: take(i + 1) });
    let [x, w1, b1, w2, b2, w3, b3] = &bufs[..] else { unreachable!() };
    let params = block.params([w1, w2, w3].map(|w| &**w), [b1, b2, b3].map(|b| &**b));
    backend.mlpconv_backward(&block.shape(), &**x, params, &dy, None, ChainWanted { dx, layers }).unwrap();
    let grads = grads.into_iter().map(|grad| grad.finish(backend).unwrap());
    grads.zip(shapes).map(|(grad, shape)| case::download(backend, shape, &grad)).collect()
}

/// A few of the table's blocks, fused and not.
fn some() -> impl Iterator<Item = Block> {
    table::blocks().into_iter().skip(2).step_by(3)
}

/// Whether the backend fuses any block.
fn fuses(arithmetic: Arithmetic) -> bool {
    arithmetic == Arithmetic::CudaBf16
}

/// All blocks of the table where some are fused. Elsewhere a few: they run as convolutions, whose table has their cases.
fn blocks(arithmetic: Arithmetic) -> Vec<Block> {
    if fuses(arithmetic) { table::blocks() } else { some().collect() }
}

fn kernels_overwrite_or_add_as_they_are_told<B: Backend>(backend: &B, _: Arithmetic) {
    for block in some() {
        let given: Vec<_> = block.whole().into_iter().chain([draw::signs(9, block.seed().len())]).collect();
        let run = |held: f64, write| backward(backend, &block, given.clone(), false, [true; 7], held, write);
        let fresh = run(f64::NAN, Write::Overwrite);
        assert!(run(7.0, Write::Overwrite) == fresh, "{block:?}: what a buffer held shows in what overwrites it");
        let added = run(3.0, Write::Accumulate);
        for (name, (added, fresh)) in NAMES.iter().zip(added.iter().zip(fresh)) {
            assert!(fresh.iter().map(|fresh| fresh + 3.0).eq(added.iter().copied()), "{block:?}: {name}");
        }
    }
}

fn gradients_that_are_not_wanted_change_nothing<B: Backend>(backend: &B, _: Arithmetic) {
    for block in some() {
        let run = |wanted| backward(backend, &block, block.drawn(), false, wanted, 3.0, Write::Overwrite);
        let all = run([true; 7]);
        for only in 0..7 {
            for wanted in [std::array::from_fn(|i| i == only), std::array::from_fn(|i| i != only)] {
                for (i, got) in run(wanted).into_iter().enumerate() {
                    let same = if wanted[i] { got == all[i] } else { got.iter().all(|&value| value == 3.0) };
                    // A bias's gradient alone uses another tile size, whose sums have another order.
                    let alone = wanted[i] && i == 2 && !wanted[1];
                    assert!(same || alone, "{block:?}, {wanted:?}: {}", NAMES[i]);
                }
            }
        }
    }
}

fn a_mask_zeroes_what_is_not_positive_and_nothing_else<B: Backend>(backend: &B, _: Arithmetic) {
    for block in some() {
        let run = |mask| backward(backend, &block, block.drawn(), mask, [true; 7], f64::NAN, Write::Overwrite);
        let (masked, plain) = (run(true), run(false));
        let x = &block.draw()[0];
        let kept = x.iter().zip(&plain[0]).map(|(&x, &dx)| if x > 0.0 { dx } else { 0.0 });
        assert!(masked[0].iter().copied().eq(kept), "{block:?}");
        assert!(masked[1..] == plain[1..], "{block:?}");
    }
}

/// One kernel writes all gradients, so a variable that is given as two parameters is refused.
fn tied_parameters_are_refused<B: Backend>(backend: &B, _: Arithmetic) {
    let block = Block { x: [2, 1, 9, 11], k: [64; 3], filter: [3, 3], stride: 2, pad: 1, relu: true, fused: true };
    let mut tape = Tape::new(backend, TRAINING);
    let vars = block.inputs().into_iter().zip(ROLES).zip(block.whole());
    let vars: Vec<_> = vars.map(|((shape, role), x)| case::variable_as(role, &mut tape, shape, &x)).collect();
    let [x, w1, b1, w2, b2, _, b3] = &vars[..] else { unreachable!() };
    let refused = tape.mlpconv(x.clone(), block.params([w1, w2, w2], [b1, b2, b3]), block.window());
    let problem = refused.map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        problem,
        "mlpconv: a variable of shape [64, 64, 1, 1] is given twice; run the layers one by one, their gradients then add up"
    );
}

fn ops_take_any_role<B: Backend>(backend: &B, _: Arithmetic) {
    let swapped = ROLES.map(|role| if role == Role::Activation { Role::Parameter } else { Role::Activation });
    for block in some() {
        let (inputs, seed) = (block.whole(), draw::signs(5, block.seed().len()));
        let usual = run(backend, &block, &inputs, &seed, ROLES);
        let other = run(backend, &block, &inputs, &seed, swapped);
        // Only the output and the gradient of x are compared: sums over pixels have more digits than an activation
        // stores.
        assert!(usual.0 == other.0 && usual.1[0] == other.1[0], "{block:?}");
    }
}

/// Kernels may read more taps than a filter has. An infinity at those taps must not change the result.
fn an_infinity_beside_a_window_changes_nothing<B: Backend>(backend: &B, _: Arithmetic) {
    for filter in [[1, 1], [2, 3], [3, 2], [5, 6]] {
        let block = Block { x: [1, 1, 8, 8], k: [64; 3], filter, stride: 8, pad: 0, relu: true, fused: true };
        let mut inputs = block.draw();
        let clean = run(backend, &block, &inputs, &block.seed(), ROLES);
        for (i, x) in inputs[0].iter_mut().enumerate() {
            if i / 8 >= filter[0] || i % 8 >= filter[1] {
                *x = if i % 3 == 0 { f64::INFINITY } else { f64::NAN };
            }
        }
        assert!(bits(run(backend, &block, &inputs, &block.seed(), ROLES)) == bits(clean), "{filter:?}");
    }
}

/// Where no kernel fuses the block, nor its pair of 1×1 convolutions, it has the bits of three convolutions.
fn a_block_that_is_not_fused_has_the_bits_of_three_convolutions<B: Backend>(backend: &B, arithmetic: Arithmetic) {
    // On a GPU those that it has no kernel for at any precision: its convolutions take the virtual GPU long.
    let cpu = matches!(arithmetic, Arithmetic::CpuF64 | Arithmetic::CpuF32);
    for block in table::blocks().into_iter().filter(|block| cpu || !block.fused) {
        let fusions = [block.fusion(), Fusion::PointwisePair(block.shape().pair())];
        if fusions.iter().any(|fusion| backend.fuses(fusion).is_ok()) {
            continue;
        }
        let (inputs, seed) = (block.draw(), block.seed());
        let mut tape = Tape::new(backend, TRAINING);
        let vars = block.inputs().into_iter().zip(ROLES).zip(&inputs);
        let vars: Vec<_> = vars.map(|((shape, role), x)| case::variable_as(role, &mut tape, shape, x)).collect();
        let [x, w1, b1, w2, b2, w3, b3] = &vars[..] else { unreachable!() };
        let a1 = tape.conv2d(x, case::affine(w1, Some(b1), true), block.window()).unwrap();
        let a2 = tape.conv2d(&a1, case::affine(w2, Some(b2), true), Window::default()).unwrap();
        let y = tape.conv2d(&a2, case::affine(w3, Some(b3), block.relu), Window::default()).unwrap();
        let values = case::download(backend, y.shape(), y.data());
        let grads = tape.backward_from(&y, case::upload(backend, y.shape(), &seed)).unwrap();
        let gradients = vars.iter().map(|var| case::download(backend, var.shape(), grads.of(var).unwrap()));
        let composed = (values, gradients.collect());
        assert!(bits(run(backend, &block, &inputs, &seed, ROLES)) == bits(composed), "{block:?}");
    }
}
