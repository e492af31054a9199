//! Promise 14: kernels touch nothing that is not theirs, on random shapes of every op. The virtual GPU stops a kernel that
//! leaves its buffers, reads what nobody has written, or races. Values are held to the references of the table's shapes.
//!
//! A trap leaves a process's driver unusable, so the shapes of a precision run in a process of their own. Its list of
//! launches shows whether every kernel was among them.

use std::collections::BTreeSet;
use std::process::Command;
use std::{env, fs, thread};

use mlpconv::device::Role;
use mlpconv::device::cuda::tiles::TALL_TILES;
use mlpconv::device::cuda::units;
use mlpconv::rng::{Purpose, Stream, StreamRng};
use mlpconv::shape::Window;
use mlpconv::{Cuda, Precision, Shape, Tape, Var};
use rand::RngExt as _;

use crate::arithmetic::Arithmetic;
use crate::case::{self, Case, Conv, TRAINING};
use crate::gather::Batches;
use crate::mlpconv::Block;
use crate::pair::Pair;
use crate::promise::{kept, tries};
use crate::reference::{self, Worst};
use crate::update::{Rule, Update};
use crate::{accumulate, draw, gather, gpu, mlpconv as block, pair, pooled, roles, update};

/// Marks the process that runs the shapes, and names its precision.
const CHILD: &str = "MLPCONV_TESTS_RANDOM";

/// The test that starts the process, which is the same for all precisions.
const TEST: &str = "random::kernels_touch_nothing_that_is_not_theirs";

#[test]
fn kernels_touch_nothing_that_is_not_theirs() {
    if let Ok(name) = env::var(CHILD) {
        let precision = name.parse().unwrap();
        return shapes(&gpu::gpu(precision).expect("kernels"), precision);
    }
    if gpu::real() || gpu::gpu(Precision::Fp32).is_none() {
        return;
    }
    thread::scope(|scope| {
        for precision in Precision::ALL {
            scope.spawn(move || in_a_process(precision));
        }
    });
    let (each, ops) = (tries(SHORT, LONG), ops().len());
    let all = each * Precision::ALL.len();
    kept(
        14,
        format!(
            "{ops} ops on {all} random shapes each, {each} of them in each of fp32, tf32 and bf16: no access outside, none \
             unwritten, no race"
        ),
    );
}

/// Shapes of each op in a precision.
const SHORT: usize = 5;
const LONG: usize = 100;

/// Kernels that fp32 does not launch, where activations and parameters have the same type.
const BETWEEN_TYPES: [&str; 3] = ["cast_to_float", "cast_to_storage", "relu_mask_float"];

/// Runs the shapes of a precision, and under `make torture` holds the list of launches to that of kernels.
fn in_a_process(precision: Precision) {
    let launches = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", TEST, "--nocapture"]).env(CHILD, precision.name());
    let all = tries(0, 1) == 1;
    if all {
        child.env("VIRTUAL_GPU_COUNTS", launches.path());
    }
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{precision}: {said}\n{}", String::from_utf8_lossy(&output.stdout));
    if all {
        let texts: Vec<String> = units().map(|unit| unit.ptx(precision).unwrap()).collect();
        let entry = |line| str::strip_prefix(line, ".visible .entry ")?.split('(').next();
        let kernels: BTreeSet<&str> = texts.iter().flat_map(|text| text.lines()).filter_map(entry).collect();
        let text = fs::read_to_string(launches.path()).unwrap();
        let kernel = text.lines().filter_map(|line| line.strip_prefix("{\"kernel\":\"")?.split('"').next());
        let launched: BTreeSet<&str> = kernel.collect();
        let two_types = precision != Precision::Fp32;
        let missed = kernels.difference(&launched).filter(|kernel| two_types || !BETWEEN_TYPES.contains(kernel));
        // Those for more rows than a random shape has: `tall.rs` launches them.
        let tall = TALL_TILES.map(|tile| format!("_{}", tile.name()));
        let missed: Vec<_> = missed.filter(|kernel| !tall.iter().any(|tall| kernel.ends_with(tall))).collect();
        assert!(missed.is_empty(), "{precision}: no random shape launched {missed:?} of {} kernels", kernels.len());
    }
}

/// Every op on its shapes. A failure names the op and the seed.
fn shapes(cuda: &Cuda, precision: Precision) {
    let arithmetic = match precision {
        Precision::Fp32 => Arithmetic::CudaFp32,
        Precision::Tf32 => Arithmetic::CudaTf32,
        Precision::Bf16 => Arithmetic::CudaBf16,
    };
    for (op, check) in ops() {
        for seed in 0..tries(SHORT, LONG) as u64 {
            let _named = Named { op, seed };
            check(cuda, arithmetic, &mut Dice(Stream::new(seed, Purpose::Shuffle, 0, 0).rng()));
        }
    }
}

/// Says, if a check panics, which.
struct Named {
    op: &'static str,
    seed: u64,
}

impl Drop for Named {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}, seed {}", self.op, self.seed);
        }
    }
}

/// Draws that depend on a seed alone.
struct Dice(StreamRng);

impl Dice {
    /// A number from `least` to `most`.
    fn between(&mut self, least: usize, most: usize) -> usize {
        self.0.random_range(least..=most)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.between(0, all.len() - 1)]
    }

    /// True once in `times`.
    fn once_in(&mut self, times: usize) -> bool {
        self.between(1, times) == 1
    }

    /// Channels: few, many, whole packs, or whole tiles.
    fn channels(&mut self, most: usize) -> usize {
        let channels = match self.between(0, 3) {
            0 => self.between(1, 12),
            1 => 8 * self.between(1, 17),
            2 => self.one_of(&[32, 96, 128]),
            _ => self.between(1, 136),
        };
        channels.min(most)
    }

    fn extents<const N: usize>(&mut self, least: usize, most: usize) -> [usize; N] {
        std::array::from_fn(|_| self.between(least, most))
    }

    fn shape(&mut self) -> Shape {
        let [n, c, h, w] = [self.between(1, 3), self.channels(40), self.between(1, 12), self.between(1, 12)];
        match self.between(0, 3) {
            0 => Shape::vector(n * c * h * w),
            1 => Shape::matrix(n, c),
            _ => Shape::image(n, c, h, w),
        }
    }
}

type Check = fn(&Cuda, Arithmetic, &mut Dice);

fn ops() -> [(&'static str, Check); 16] {
    [
        ("adamw", adamw),
        ("average", |cuda, arithmetic, dice| {
            let keep = dice.one_of(&[0.0, 0.5, 0.9, 0.999, 1.0]);
            let any = updated(dice, Rule::Average { keep });
            update::check(cuda, arithmetic, &any);
        }),
        ("conv2d", conv2d),
        ("cross_entropy", |cuda, arithmetic, dice| {
            let smoothing = dice.one_of(&[0.0, 0.0, 0.1, 0.5, 1.0]);
            let case = Case::CrossEntropy { n: dice.between(1, 150), classes: dice.between(1, 256), smoothing };
            reference::check(cuda, arithmetic, &case, &mut Worst::default());
        }),
        ("dropout", |cuda, arithmetic, dice| {
            let (x, probability) = (dice.shape(), dice.between(1, 999) as f64 / 1000.0);
            on_tape(cuda, arithmetic, dice, &Case::Dropout { x, probability });
        }),
        ("flatten", |cuda, arithmetic, dice| {
            let x = images(dice);
            on_tape(cuda, arithmetic, dice, &Case::Flatten { x });
        }),
        ("gather", batches),
        ("global_avgpool", |cuda, arithmetic, dice| {
            let x = images(dice);
            on_tape(cuda, arithmetic, dice, &Case::GlobalAvgPool { x });
        }),
        ("maxpool", maxpool),
        ("mlpconv", mlpconv),
        ("mlpconv, pooled", mlpconv_maxpool),
        ("pointwise_maxpool", pointwise_maxpool),
        ("pointwise_pair", pointwise_pair),
        ("relu", |cuda, arithmetic, dice| {
            let x = dice.shape();
            on_tape(cuda, arithmetic, dice, &Case::Relu { x });
        }),
        ("relu and a reader", rectified),
        ("sgd", sgd),
    ]
}

/// Values, gradients, overwriting and adding; once in four times the inputs lie in buffers of unusual roles.
fn on_tape(cuda: &Cuda, arithmetic: Arithmetic, dice: &mut Dice, case: &Case) {
    reference::check(cuda, arithmetic, case, &mut Worst::default());
    accumulate::check(cuda, arithmetic, &case.linear());
    if dice.once_in(4) && !matches!(case, Case::Conv2d(Conv { constant: true, .. })) {
        let mut role = || dice.one_of(&[Role::Activation, Role::Parameter]);
        let inputs: Vec<Role> = case.inputs().iter().map(|_| role()).collect();
        roles::check(cuda, arithmetic, case, &inputs, role());
    }
}

fn images(dice: &mut Dice) -> [usize; 4] {
    [dice.between(1, 3), dice.channels(96), dice.between(1, 14), dice.between(1, 14)]
}

fn conv2d(cuda: &Cuda, arithmetic: Arithmetic, dice: &mut Dice) {
    let conv = conv(dice);
    on_tape(cuda, arithmetic, dice, &Case::Conv2d(conv));
}

/// A convolution of one of the kinds that have kernels of their own.
fn conv(dice: &mut Dice) -> Conv {
    let kind = dice.between(0, 5);
    let ([c, k], [h, w], [r, s], stride, pad) = match kind {
        // 1×1, on few pixels and on many.
        0 => ([dice.channels(136), dice.channels(136)], dice.extents(1, 9), [1, 1], 1, 0),
        1 => ([dice.channels(12), dice.channels(136)], dice.extents(20, 40), [1, 1], 1, 0),
        // Long sums over few pixels, which are split.
        2 => ([dice.channels(136) + 64, dice.channels(136)], dice.extents(2, 6), [3, 3], 1, 1),
        // The first layer's kind.
        3 => {
            let channels = [dice.between(1, 4), dice.one_of(&[8, 16, 48, 96, 10])];
            (channels, dice.extents(12, 36), dice.extents(4, 11), dice.between(2, 4), dice.between(0, 2))
        }
        // Few channels to many, whose sums are too short to be split.
        4 => {
            let channels = [dice.one_of(&[3, 8, 12, 16, 24]), dice.one_of(&[64, 101, 104, 128, 136])];
            (channels, dice.extents(5, 14), dice.extents(1, 3), 1, dice.between(0, 1))
        }
        _ => {
            let channels = [dice.channels(20), dice.channels(40)];
            (channels, dice.extents(1, 14), dice.extents(1, 5), dice.between(1, 4), dice.between(0, 3))
        }
    };
    let least = |extent: usize, filter: usize| extent.max(filter.saturating_sub(2 * pad)).max(1);
    Conv {
        x: [dice.between(1, 3), c, least(h, r), least(w, s)],
        w: [k, c, r, s],
        stride,
        pad,
        bias: !dice.once_in(3),
        relu: dice.once_in(2),
        constant: dice.once_in(8),
    }
}

fn maxpool(cuda: &Cuda, arithmetic: Arithmetic, dice: &mut Dice) {
    let (window, stride) = if dice.once_in(2) { (3, 2) } else { (dice.between(1, 16), dice.between(1, 5)) };
    let [h, w] = dice.extents(window, window + 12);
    let x = [dice.between(1, 3), dice.channels(40), h, w];
    on_tape(cuda, arithmetic, dice, &Case::MaxPool { x, window, stride });
}

/// A block: for three in four a fused kernel's channels and strides, or near them.
fn any_block(dice: &mut Dice) -> Block {
    let k = match dice.once_in(4) {
        true => dice.extents(1, 20),
        false => std::array::from_fn(|_| 8 * dice.between(7, 12)),
    };
    let ([r, s], pad) = (dice.extents(1, 6), dice.between(0, 2));
    let [h, w] = dice.extents(6, 16);
    let (c, stride) = dice.one_of(&[(1, 2), (1, 4), (2, 1), (2, 2), (4, 1), (1, 1), (3, 1), (1, 3)]);
    Block { x: [dice.between(1, 3), c, h, w], k, filter: [r, s], stride, pad, relu: !dice.once_in(3), fused: false }
}

fn mlpconv(cuda: &Cuda, arithmetic: Arithmetic, dice: &mut Dice) {
    let any = any_block(dice);
    block::check(cuda, arithmetic, &any, dice.once_in(3));
}

fn mlpconv_maxpool(cuda: &Cuda, _: Arithmetic, dice: &mut Dice) {
    let mut any = any_block(dice);
    // The block's output has at least as many rows and columns as the pool's window.
    let [n, c, h, w] = any.x;
    any.x = [n, c, h + 3 * any.stride + 2, w + 3 * any.stride + 2];
    let pool = if dice.once_in(4) { [dice.between(1, 4), dice.between(1, 3)] } else { [3, 2] };
    let cropped = if dice.once_in(3) { dice.extents(4, 12) } else { [usize::MAX; 2] };
    block::pooled::Pooled { block: any, pool, cropped }.check_drawn(cuda);
}

fn pointwise_maxpool(cuda: &Cuda, _: Arithmetic, dice: &mut Dice) {
    let [window, stride] = if dice.once_in(2) { [3, 2] } else { [dice.between(1, 3), dice.between(1, 3)] };
    let width = if dice.once_in(3) { dice.between(window, 130) } else { dice.between(window, 26) };
    let height = dice.between(window, (window + 1600 / width).min(26));
    let whole =
        |dice: &mut Dice, most| if dice.once_in(6) { dice.channels(most) } else { 8 * dice.between(1, most / 8) };
    let channels = [whole(dice, 72), whole(dice, 136)];
    let shape = pooled::pooled([dice.between(1, 3), height, width], channels, [window, stride]);
    let mut either = || dice.once_in(2);
    let options = pooled::Options { bias: either(), relu: either(), index: either() };
    pooled::check(cuda, &shape, options);
    pooled::check_gradients(cuda, &shape, options.relu);
}

fn pointwise_pair(cuda: &Cuda, arithmetic: Arithmetic, dice: &mut Dice) {
    let most = if dice.once_in(8) { 20 } else { 16 };
    let [c, k2, k3] = dice.extents(1, most);
    let mean = dice.once_in(2).then(|| dice.between(1, 130));
    let m = mean.map_or(dice.between(1, 700), |pixels| pixels * dice.between(1, 600usize.div_ceil(pixels)));
    let any = Pair { m, c, k2, k3, relu: dice.once_in(2), mean };
    pair::check(cuda, arithmetic, &any, mean.is_none_or(usize::is_power_of_two) && dice.once_in(3));
}

fn batches(cuda: &Cuda, _: Arithmetic, dice: &mut Dice) {
    let from = dice.extents(1, 40);
    let to = if dice.once_in(4) { from } else { dice.extents(1, 60) };
    let (images, channels) = (dice.between(1, 6), dice.one_of(&[1, 1, 3, 3, 2, 4, 5]));
    let changed = from[0].min(from[1]) > 2 && !dice.once_in(3);
    gather::check(cuda, &Batches { images, from, to, channels, batch: dice.between(1, 6), changed });
}

/// Parameters of random lengths, often more than one launch takes.
fn updated(dice: &mut Dice, rule: Rule) -> Update {
    let count = if dice.once_in(3) { dice.between(60, 140) } else { dice.between(1, 12) };
    let longest = if count > 12 { 40 } else { 5000 };
    let lens: Vec<usize> = (0..count).map(|_| dice.between(1, longest)).collect();
    let multipliers: Vec<f64> = (0..count).map(|_| dice.one_of(&[0.0, 0.5, 1.0, 1.0, 2.0])).collect();
    // Leaked: the table's cases are constants.
    let (lens, multipliers) = (&*lens.leak(), &*multipliers.leak());
    Update { lens, rate: 0.01, rule, weight_decay: dice.one_of(&[0.0, 0.01, 0.1]), multipliers }
}

fn sgd(cuda: &Cuda, arithmetic: Arithmetic, dice: &mut Dice) {
    let momentum = (!dice.once_in(3)).then_some(0.9);
    let rule = Rule::Sgd { momentum, nesterov: momentum.is_some() && dice.once_in(2) };
    let any = updated(dice, rule);
    update::check(cuda, arithmetic, &any);
}

fn adamw(cuda: &Cuda, arithmetic: Arithmetic, dice: &mut Dice) {
    let (betas, eps) = (dice.one_of(&[[0.9, 0.999], [0.0, 0.0], [0.5, 0.99]]), dice.one_of(&[1e-8, 1e-3]));
    let any = updated(dice, Rule::AdamW { betas, eps });
    update::check(cuda, arithmetic, &any);
}

/// A ReLU in a convolution's epilogue gives the bits of one after it, whichever op reads the result: its gradient is
/// masked by that op's kernel, or by one that only masks.
fn rectified(cuda: &Cuda, _: Arithmetic, dice: &mut Dice) {
    let conv = Conv { constant: false, ..conv(dice) };
    let [n, k, h, w] = conv.y();
    let reader = match dice.between(0, 5) {
        0 => Case::MaxPool { x: conv.y(), window: h.min(w).min(3), stride: dice.between(1, 3) },
        1 => Case::GlobalAvgPool { x: conv.y() },
        2 => Case::Relu { x: case::tensor(conv.y()) },
        3 => Case::Dropout { x: case::tensor(conv.y()), probability: 0.3 },
        4 => Case::Flatten { x: conv.y() },
        _ => {
            let [r, s] = [dice.between(1, h.min(3)), dice.between(1, w.min(3))];
            let w = [dice.channels(40), k, r, s];
            Case::Conv2d(Conv {
                x: [n, k, h, conv.y()[3]],
                w,
                stride: 1,
                pad: 0,
                bias: false,
                relu: false,
                constant: false,
            })
        }
    };
    let case = Case::Conv2d(Conv { relu: false, ..conv });
    let inputs = case.draw(Arithmetic::CudaFp32);
    let run = |fused: bool| {
        let mut tape = Tape::new(cuda, TRAINING);
        let each = case.inputs().into_iter().zip(case.roles()).zip(&inputs);
        let vars: Vec<Var<Cuda>> =
            each.map(|((shape, role), x)| case::variable_as(role, &mut tape, shape, x)).collect();
        let window = Window { stride: conv.stride, pad: conv.pad };
        let mut y = tape.conv2d(&vars[0], case::affine(&vars[1], vars.get(2), fused), window).unwrap();
        if !fused {
            y = tape.relu(&y).unwrap();
        }
        let mut read = vec![y];
        for shape in reader.inputs().into_iter().skip(1) {
            read.push(case::variable_as(Role::Parameter, &mut tape, shape, &draw::spread(3, shape.len())));
        }
        let y = reader.apply(&mut tape, &read).unwrap();
        let seed = case::upload(cuda, y.shape(), &draw::spread(4, y.shape().len()));
        let values = case::download(cuda, y.shape(), y.data());
        let grads = tape.backward_from(&y, seed).unwrap();
        let gradient = |var: &Var<Cuda>| case::download(cuda, var.shape(), grads.of(var).unwrap());
        (values, vars.iter().map(gradient).collect::<Vec<_>>())
    };
    assert!(run(true) == run(false), "{conv:?}, read by {reader:?}");
}
