//! Promise 6. A NaN or an infinity stops the run before it reaches the weights, and is named with step and op.
//!
//! A fault is a number that is not finite in the output of one kernel, forward or backward, in the third of four steps. The
//! kernels are those that a healthy step has called, so none is forgotten.

mod faulty;
#[cfg(feature = "cuda")]
mod replayed;

use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;

use mlpconv::data::{Dataset, Loader, LoaderConfig, Order};
use mlpconv::device::Role;
use mlpconv::error::{NotFinite, Place};
use mlpconv::nn::{Builder, Dropout, Flatten, GlobalAvgPool, Init, MaxPool, Module, Relu, Sequential};
use mlpconv::ops::Affine;
use mlpconv::optim::{AdamW, Optimizer, Sgd};
use mlpconv::shape::Window;
use mlpconv::train::{EpochMetrics, Event, FitOptions, OnNan, Position, Preset, Run, Trainer};
use mlpconv::{Backend, Cpu, Device, Error, Mode, Result, Shape, Tape};

use crate::promise::kept;
#[cfg(feature = "cuda")]
use crate::promise::tries;
use faulty::Faulty;

const SIDE: usize = 12;
const BATCH: usize = 3;
const STEPS: usize = 4;
/// The step of the fault, from 0.
const FAULT: u32 = 2;
const NUMBERS: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

fn dataset(n: usize) -> Arc<Dataset> {
    let pixels = (0..n * SIDE * SIDE).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    Arc::new(Dataset::new(pixels, (0..n).map(|i| (i * 7 % 10) as u8).collect(), SIDE, SIDE, 10).unwrap())
}

fn loader(order: Order) -> Loader {
    let config = LoaderConfig { batch_size: BATCH, height: SIDE, width: SIDE, order };
    Loader::new(dataset(BATCH * STEPS), config).unwrap()
}

/// Networks that between them have every op: two layer by layer, which end in an average and in a flattened image, and one
/// of ops that are fused.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Net {
    Averaged,
    Flattened,
    Fused,
}

impl Net {
    const ALL: [Net; 3] = [Net::Averaged, Net::Flattened, Net::Fused];

    fn build<B: Backend>(self, backend: &B) -> Result<Sequential<B>> {
        let mut build = Builder::new(backend, Init::He, 3);
        let pool = MaxPool { window: 2, stride: 2 };
        if self == Net::Fused {
            let net = Sequential::new().push(build.nin_block(1, 6, 3, 1, 1)?).push(pool);
            let net = net.push(build.conv2d(6, 6, 3, 1, 1)?.with_relu());
            let net = net.push(build.conv2d(6, 6, 1, 1, 0)?.with_relu()).push(pool);
            let net = net.push(build.conv2d(6, 8, 1, 1, 0)?.with_relu()).push(build.conv2d(8, 10, 1, 1, 0)?);
            return Ok(net.push(GlobalAvgPool).push(Flatten));
        }
        let net = Sequential::new().push(build.conv2d(1, 6, 3, 1, 1)?.with_relu()).push(pool).push(Dropout(0.1));
        let net = net.push(build.conv2d(6, 6, 1, 1, 0)?).push(Relu);
        Ok(match self {
            Net::Averaged => net.push(build.conv2d(6, 10, 3, 1, 1)?).push(GlobalAvgPool).push(Flatten),
            _ => net.push(build.conv2d(6, 4, 3, 2, 1)?).push(Flatten),
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    Sgd,
    AdamW,
}

impl Rule {
    fn build<B: Backend>(self, backend: &B) -> Box<dyn Optimizer<B>> {
        match self {
            Rule::Sgd => Sgd::new(backend).with_momentum(0.9).with_weight_decay(0.01).into(),
            Rule::AdamW => AdamW::new(backend).into(),
        }
    }
}

type Trained<B> = Trainer<B, Sequential<B>>;

fn trainer<B: Backend>(backend: &B, net: Net, rule: Rule) -> Trained<B> {
    Trainer::new(backend, net.build(backend).unwrap(), rule.build(backend), 3).unwrap()
}

const RATE: f64 = 0.01;

fn options(on_nan: OnNan) -> FitOptions {
    FitOptions { epochs: 1, rate: RATE, schedule: "constant".parse().unwrap(), report_every: 1, on_nan }
}

/// All that an optimiser changes: weights and its own tensors, by their bits, and its counters.
#[derive(Debug, PartialEq)]
struct State {
    tensors: Vec<(String, Vec<u32>)>,
    counters: Vec<(&'static str, u64)>,
}

fn state<B: Backend<Scalar = f32>>(trainer: &Trained<B>) -> State {
    let bits = |buf: &B::Buf| trainer.backend.download(buf).unwrap().into_iter().map(f32::to_bits).collect();
    let mut tensors = Vec::new();
    for (name, param) in trainer.net.params() {
        for kept in trainer.optimizer.tensor_names() {
            tensors.extend(trainer.optimizer.tensor(kept, param).map(|buf| (format!("{kept}.{name}"), bits(buf))));
        }
        tensors.push((name, bits(param.data())));
    }
    State { tensors, counters: trainer.optimizer.counters() }
}

impl State {
    fn require_finite(&self, what: &str) {
        for (name, bits) in &self.tensors {
            assert!(bits.iter().all(|&bits| f32::from_bits(bits).is_finite()), "{what}: {name} is not finite");
        }
    }
}

/// Trains for an epoch. Before step [`FAULT`] `fault` is armed, after it (if the run goes on) disarmed. Returns how it
/// ended, the state before that step, and the epoch's metrics.
fn run<B: Backend<Scalar = f32>>(
    trainer: &mut Trained<Faulty<B>>,
    on_nan: OnNan,
    fault: Option<(&'static str, f32)>,
) -> (Result<ControlFlow<()>>, Option<State>, Option<EpochMetrics>) {
    let (train, test) = (loader(Order::Shuffled { seed: 3 }), loader(Order::Sequential));
    let (mut before, mut epoch) = (None, None);
    let ended = trainer.fit(&train, &test, &options(on_nan), &mut |trainer, event| {
        match event {
            Event::Step { position: Position { step: FAULT, .. }, .. } => {
                before = Some(state(trainer));
                trainer.backend.arm(fault);
            }
            Event::Step { .. } => {
                // A GPU's run may not know of it yet: this waits for the device, and ends the run that stops.
                trainer.reading()?;
                trainer.backend.arm(None);
            }
            Event::Epoch { metrics, .. } => epoch = Some(metrics),
            Event::Evaluation { .. } => {}
        }
        Ok(ControlFlow::Continue(()))
    });
    trainer.backend.arm(None);
    (ended, before, epoch)
}

/// Trains for an epoch in which step [`FAULT`] is left out: nothing of it happens but that it passes.
fn run_without<B: Backend<Scalar = f32>>(backend: &Faulty<B>, net: Net, rule: Rule) -> State {
    let mut trainer = trainer(backend, net, rule);
    for (step, batch) in loader(Order::Shuffled { seed: 3 }).epoch(0).unwrap().enumerate() {
        if step as u32 == FAULT {
            trainer.optimizer.count_replay();
            trainer.position.step += 1;
        } else {
            trainer.step(&batch.images, Shape::image(BATCH, 1, SIDE, SIDE), &batch.labels, RATE).unwrap();
        }
    }
    state(&trainer)
}

/// The kernels' outputs that a step of the network writes.
fn outputs<B: Backend<Scalar = f32>>(backend: &Faulty<B>, net: Net) -> Vec<&'static str> {
    let mut trainer = trainer(backend, net, Rule::Sgd);
    let (images, shape) = (vec![0.5; BATCH * SIDE * SIDE], Shape::image(BATCH, 1, SIDE, SIDE));
    trainer.step(&images, shape, &[1; BATCH], RATE).unwrap();
    backend.seen()
}

/// Whether `place` is where `output` is written.
fn names(place: &Place, output: &str) -> bool {
    match place {
        Place::Forward { op, layer } => {
            output == format!("{op} forward") && (layer.is_some() || *op == "cross_entropy")
        }
        Place::Backward { op, layer: Some(_), of } => {
            let whose = of.split(' ').next().unwrap();
            // This op has no backward kernels of its own.
            let kernels = if *op == "pointwise_maxpool" { &["conv2d", "maxpool"][..] } else { &[*op] };
            let output = output.strip_suffix(" (bias)").unwrap_or(output);
            kernels.iter().any(|kernel| output == format!("{kernel} {whose}"))
        }
        _ => false,
    }
}

/// What became of the faults.
#[derive(Default)]
struct Tally {
    /// Faults that stopped a run with step and op named, and left the weights as they were.
    whole: usize,
    /// Faults that logits and loss did not show: named as well, and the elements that were finite are updated.
    in_part: usize,
    /// Infinities that a maximum, a ReLU or a mask removed: no number of the step depends on them.
    harmless: usize,
}

/// Every kernel's output with every number, stopping and skipping.
fn every_fault<B: Backend<Scalar = f32>>(inner: &B, numbers: &[f32], rules: &[Rule], tally: &mut Tally) {
    for net in Net::ALL {
        let backend = Faulty::new(inner.clone(), net == Net::Fused);
        let outputs = outputs(&backend, net);
        for &rule in rules {
            let mut healthy = trainer(&backend, net, rule);
            assert!(run(&mut healthy, OnNan::Stop, None).0.unwrap().is_continue());
            let (healthy, without) = (state(&healthy), run_without(&backend, net, rule));
            for &output in &outputs {
                for &number in numbers {
                    let what = format!("{net:?}, {rule:?}, {number} in {output}, {}", backend.name());
                    one_fault(&backend, (net, rule), (output, number), [&healthy, &without], &what, tally);
                }
            }
        }
    }
}

fn one_fault<B: Backend<Scalar = f32>>(
    backend: &Faulty<B>,
    (net, rule): (Net, Rule),
    fault: (&'static str, f32),
    [healthy, without]: [&State; 2],
    what: &str,
    tally: &mut Tally,
) {
    let mut stopped = trainer(backend, net, rule);
    let (ended, before, _) = run(&mut stopped, OnNan::Stop, Some(fault));
    state(&stopped).require_finite(what);
    let (before, error) = (
        before.unwrap(),
        match ended {
            Ok(_) => {
                assert!(!fault.1.is_nan(), "{what}: a NaN is never harmless");
                return tally.harmless += 1;
            }
            Err(error) => error,
        },
    );
    let Error::Diverged { epoch: 1, step, ref found } = error else { panic!("{what}: {error}") };
    assert_eq!(step, FAULT as usize + 1, "{what}: {error}");
    assert!(names(&found.place, fault.0), "{what}: {error}");
    assert_eq!(found.nan + found.infinite, 1, "{what}: {error}");
    assert_eq!(found.nan == 1, fault.1.is_nan(), "{what}: {error}");
    assert_eq!(stopped.position, Position { epoch: 0, step: FAULT }, "{what}");
    let whole = state(&stopped) == before;
    let forward = matches!(found.place, Place::Forward { op, .. } if op != "cross_entropy");
    assert!(whole || !forward || !fault.1.is_nan(), "{what}: the weights are not those before the step");
    assert_eq!(state(&stopped).counters, before.counters, "{what}");
    if whole {
        // It goes on as if nothing had been.
        assert!(run(&mut stopped, OnNan::Stop, None).0.unwrap().is_continue(), "{what}");
        assert!(state(&stopped) == *healthy, "{what}: resumed, the run ends with other bits");
        tally.whole += 1;
    } else {
        tally.in_part += 1;
    }

    let mut skipped = trainer(backend, net, rule);
    let (ended, _, metrics) = run(&mut skipped, OnNan::Skip, Some(fault));
    assert!(ended.unwrap().is_continue(), "{what}");
    state(&skipped).require_finite(what);
    assert_eq!(metrics.unwrap().skipped, 1, "{what}");
    assert!(metrics.unwrap().loss.is_finite(), "{what}");
    if whole {
        assert!(state(&skipped) == *without, "{what}: not the bits of a run without the step");
    }
}

impl Tally {
    fn tell(&self, backends: &str) {
        let Tally { whole, in_part, harmless } = self;
        kept(
            6,
            format!(
                "{} faults in every kernel's output on {backends}: {} named with step and op, {whole} of them with the weights \
                 of the step before, {harmless} infinities without a consequence, 0 weights or moments that are not finite",
                whole + in_part + harmless,
                whole + in_part,
            ),
        );
    }
}

#[test]
fn every_kernel_on_the_cpu() {
    let mut tally = Tally::default();
    every_fault(&Cpu::<f32>::with_threads(1).unwrap(), &NUMBERS, &[Rule::Sgd, Rule::AdamW], &mut tally);
    assert!(tally.whole > tally.harmless, "{}", tally.harmless);
    tally.tell("the CPU");
}

#[cfg(feature = "cuda")]
#[test]
fn every_kernel_on_a_gpu() {
    let mut tally = Tally::default();
    for precision in mlpconv::Precision::ALL {
        let Some(gpu) = crate::gpu::gpu(precision) else { return };
        let numbers = &NUMBERS[..tries(1, 3)];
        let rules: &[Rule] = if tries(0, 1) == 1 { &[Rule::Sgd, Rule::AdamW] } else { &[Rule::Sgd] };
        every_fault(&*gpu, numbers, rules, &mut tally);
    }
    tally.tell("a GPU in fp32, tf32 and bf16");
}

/// Every op of the crate, a folder of its own, has an output among the faults.
#[test]
fn no_op_is_forgotten() {
    let backend = |fused| Faulty::new(Cpu::<f32>::with_threads(1).unwrap(), fused);
    let seen: Vec<_> = Net::ALL.into_iter().flat_map(|net| outputs(&backend(net == Net::Fused), net)).collect();
    // Updates of parameters, batches and shards: they are no part of a forward pass.
    let others = ["adamw", "average", "gather", "sgd", "shards"];
    let entries = fs::read_dir("src/ops").expect("tests run in the package's root").map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().unwrap());
    let (left_out, ops): (Vec<_>, Vec<_>) = folders.partition(|op| others.contains(&&**op));
    assert!(left_out.len() == others.len() && !ops.is_empty(), "{left_out:?}, {ops:?}");
    for op in ops {
        assert!(seen.contains(&&*format!("{op} forward")), "{op} is not in {seen:?}");
    }
    for output in ["conv2d parameter", "conv2d parameter (bias)", "mlpconv parameter", "pointwise_pair parameter"] {
        assert!(seen.contains(&output), "{output} is not in {seen:?}");
    }
}

/// The images and the weights are named where they are at fault.
#[test]
fn what_came_in_is_named() {
    let backend = Cpu::<f32>::with_threads(1).unwrap();
    let shape = Shape::image(BATCH, 1, SIDE, SIDE);
    let images = vec![0.5; shape.len()];
    for number in NUMBERS {
        let mut trainer = trainer(&backend, Net::Averaged, Rule::Sgd);
        let mut bad = images.clone();
        bad[7] = number;
        let found = trainer.find_not_finite(&bad, shape, &[1; BATCH]).unwrap().unwrap();
        assert_eq!(found.place, Place::Input { shape: "[3, 1, 12, 12]".into() }, "{found}");
        let before = state(&trainer).tensors;
        trainer.step(&bad, shape, &[1; BATCH], RATE).unwrap();
        let after = state(&trainer).tensors;
        let weights = |tensors: Vec<(String, Vec<u32>)>| {
            tensors.into_iter().filter(|(name, _)| !name.contains("velocity")).collect::<Vec<_>>()
        };
        if number.is_nan() {
            assert_eq!(weights(after), weights(before));
        }
        let error = trainer.reading().unwrap_err();
        assert!(matches!(error, Error::Diverged { epoch: 1, step: 1, .. }), "{error}");

        let (_, weight) = trainer.net.params_mut().into_iter().nth(2).unwrap();
        let mut values = backend.download(weight.data()).unwrap();
        values[3] = number;
        weight.set(&backend, &values).unwrap();
        let found = trainer.find_not_finite(&images, shape, &[1; BATCH]).unwrap().unwrap();
        let place = Place::Parameter { shape: "[6, 6, 1, 1]".into(), layer: Some("3".into()) };
        assert_eq!((found.place, found.nan + found.infinite, found.len), (place, 1, 36));
    }
    let healthy = trainer(&backend, Net::Averaged, Rule::Sgd);
    assert_eq!(healthy.find_not_finite(&images, shape, &[1; BATCH]).unwrap(), None);
}

/// A checked tape names an op that overflows by itself, in both directions, and an unchecked one with the same numbers does
/// not fail.
#[test]
fn a_checked_tape_names_an_overflow() {
    let backend = Cpu::<f32>::with_threads(1).unwrap();
    let mode = Mode::Training { seed: 0, epoch: 0, step: 0 };
    let shape = Shape::image(1, 1, 1, 2);
    let pass = |mut tape: Tape<_>, x: f32, w: f32, seed: f32| -> Result<()> {
        let buffer = |role, values: &[f32]| backend.upload(role, values);
        let x = tape.variable(buffer(Role::Activation, &[x; 2])?, shape, Role::Activation)?;
        let w = tape.variable(buffer(Role::Parameter, &[w])?, Shape::weight(1, 1, 1, 1), Role::Parameter)?;
        let y = tape.conv2d(&x, Affine { w: &w, bias: None, relu: false }, Window::default())?;
        tape.backward_from(&y, buffer(Role::Activation, &[seed; 2])?).map(drop)
    };
    let found = |x, w, seed| match pass(Tape::checked(&backend, mode), x, w, seed) {
        Err(Error::NotFinite(found)) => Some(found),
        ended => ended.map(|()| None).unwrap(),
    };
    assert_eq!(found(1e30, 1e-30, 1.0), None);
    let said = |found: Option<NotFinite>| found.unwrap().to_string();
    assert_eq!(said(found(1e30, 1e30, 1.0)), "conv2d, forward: 2 of 2 values are infinite");
    let said = said(found(3e38, 1e-30, 1.0));
    assert_eq!(said, "conv2d, backward, the gradient of its parameter [1, 1, 1, 1] is infinite");
    pass(Tape::new(&backend, mode), 1e30, 1e30, 1.0).unwrap();
}

/// A run that has stopped is saved, and resumed from its folder to the bits of a run that never had the fault.
#[test]
fn a_run_that_stopped_can_be_saved_and_resumed() {
    let backend = Faulty::new(Cpu::<f32>::with_threads(1).unwrap(), false);
    for rule in [Rule::Sgd, Rule::AdamW] {
        let mut healthy = trainer(&backend, Net::Averaged, rule);
        assert!(run(&mut healthy, OnNan::Stop, None).0.unwrap().is_continue());
        let mut stopped = trainer(&backend, Net::Averaged, rule);
        run(&mut stopped, OnNan::Stop, Some(("relu forward", f32::NAN))).0.unwrap_err();
        let folder = tempfile::tempdir().unwrap();
        let mut saved = Run::create(folder.path().join("run"), Preset::Small.config()).unwrap();
        saved.save(&stopped).unwrap();
        let mut resumed = trainer(&backend, Net::Averaged, rule);
        saved.restore(&mut resumed).unwrap();
        assert_eq!(resumed.position, Position { epoch: 0, step: FAULT });
        let (ended, _, metrics) = run(&mut resumed, OnNan::Stop, None);
        assert!(ended.unwrap().is_continue() && metrics.unwrap().loss.is_finite());
        assert!(state(&resumed) == state(&healthy), "{rule:?}");
    }
}

/// Before the host has learnt of it, nothing is saved: the weights are those of an earlier step than the position.
#[test]
fn a_step_that_is_held_is_not_saved() {
    let backend = Cpu::<f32>::with_threads(1).unwrap();
    let shape = Shape::image(BATCH, 1, SIDE, SIDE);
    let mut trainer = trainer(&backend, Net::Averaged, Rule::Sgd);
    trainer.step(&vec![f32::NAN; shape.len()], shape, &[1; BATCH], RATE).unwrap();
    let before = state(&trainer);
    trainer.step(&vec![0.5; shape.len()], shape, &[1; BATCH], RATE).unwrap();
    assert!(state(&trainer) == before, "steps after it are left out");
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::create(folder.path().join("run"), Preset::Small.config()).unwrap();
    let error = run.save(&trainer).unwrap_err();
    assert!(matches!(error, Error::Diverged { epoch: 1, step: 1, .. }), "{error}");
    assert!(!run.weights().exists());
}

/// A run that is interrupted right after such a step, before the host has learnt of it, names step and op as well, and has
/// gone back, so that it can be saved.
#[test]
fn an_interruption_right_after_a_step_names_it() {
    let backend = Faulty::new(Cpu::<f32>::with_threads(1).unwrap(), false);
    let mut trainer = trainer(&backend, Net::Averaged, Rule::AdamW);
    let (train, test) = (loader(Order::Sequential), loader(Order::Sequential));
    let options = FitOptions { report_every: 100, ..options(OnNan::Stop) };
    let ended = trainer.fit(&train, &test, &options, &mut |trainer, event| match event {
        Event::Step { position: Position { step: FAULT, .. }, .. } => {
            trainer.backend.arm(Some(("relu forward", f32::NAN)));
            Ok(ControlFlow::Continue(()))
        }
        Event::Step { position, .. } if position.step > FAULT => Ok(ControlFlow::Break(())),
        _ => Ok(ControlFlow::Continue(())),
    });
    let error = ended.unwrap_err();
    let Error::Diverged { epoch: 1, step: 3, found } = &error else { panic!("{error}") };
    assert!(names(&found.place, "relu forward"), "{error}");
    assert_eq!(trainer.position, Position { epoch: 0, step: FAULT });
    assert!(trainer.reading().unwrap().loss.is_finite());
}

/// An epoch of which nothing is left ends the run, in either way.
#[test]
fn an_epoch_without_a_finite_step_is_an_error() {
    let backend = Faulty::new(Cpu::<f32>::with_threads(1).unwrap(), false);
    let mut trainer = trainer(&backend, Net::Averaged, Rule::Sgd);
    let (train, test) = (loader(Order::Sequential), loader(Order::Sequential));
    backend.arm(Some(("relu forward", f32::NAN)));
    let error = trainer.fit(&train, &test, &options(OnNan::Skip), &mut |trainer, event| {
        if matches!(event, Event::Step { position: Position { step: 4, .. }, .. }) {
            trainer.backend.arm(None);
        }
        Ok(ControlFlow::Continue(()))
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("every step of the epoch is not finite"), "{error}");
}
