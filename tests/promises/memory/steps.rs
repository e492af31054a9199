//! Steps and evaluations of which the n-th request for memory is refused, for every n: by the system on a CPU, by the virtual
//! GPU on a GPU. A refusal is [`Error::Memory`], changes nothing, and the repeated step gives the bits of an undisturbed one.

use std::ops::Range;
use std::sync::Arc;

use mlpconv::data::{Dataset, Loader, LoaderConfig, Order};
use mlpconv::device::Role;
use mlpconv::nn::{Builder, Flatten, GlobalAvgPool, Init, MaxPool, Module, Sequential};
use mlpconv::optim::{AdamW, Optimizer, Sgd};
use mlpconv::train::{Resident, Trainer};
use mlpconv::{Backend, Cpu, Error, Result, Shape};

use super::allocator;
use crate::promise::kept;
#[cfg(feature = "cuda")]
use crate::promise::tries;

/// A backend whose memory can be refused to the calling thread.
trait Refuses: Backend<Scalar = f32> {
    /// Of the next requests `granted` are granted and the `refused` after them refused. Returns what is left to refuse of
    /// an earlier call.
    fn refuse(granted: u64, refused: u64) -> u64;
}

impl Refuses for Cpu<f32> {
    fn refuse(granted: u64, refused: u64) -> u64 {
        allocator::refuse(granted, refused)
    }
}

#[cfg(feature = "cuda")]
impl Refuses for mlpconv::Cuda {
    fn refuse(granted: u64, refused: u64) -> u64 {
        crate::gpu::refuse_memory(granted, refused)
    }
}

const BATCH: usize = 3;
const IMAGES: usize = 8;
const SIDE: usize = 9;
/// A device that records runs a step's kind, then records it, then replays it. Two epochs of two full batches and a short one do
/// all of these.
const STEPS: usize = 6;

/// Six steps, and an evaluation.
const CALLS: usize = STEPS + 1;

fn optimizers<B: Backend>(backend: &B) -> [Box<dyn Optimizer<B>>; 3] {
    [
        Sgd::new(backend).into(),
        Sgd::new(backend).with_momentum(0.9).with_nesterov(true).with_weight_decay(0.01).into(),
        AdamW::new(backend).into(),
    ]
}

/// Where the batches come from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    /// The host's arrays, and a loader for the evaluation.
    Host,
    /// A data set on the device.
    Device,
}

/// A small run on `backend`.
struct Run<B: Backend> {
    trainer: Trainer<B, Sequential<B>>,
    loader: Loader,
    resident: Resident<B>,
    source: Source,
}

impl<B: Backend<Scalar = f32>> Run<B> {
    fn new(backend: &B, optimizer: usize, source: Source) -> Self {
        let mut build = Builder::new(backend, Init::He, 1);
        let net = Sequential::new()
            .push(build.nin_block(1, 6, 5, 2, 2).unwrap())
            .push(MaxPool { window: 3, stride: 2 })
            .push(build.nin_block(6, 4, 3, 1, 1).unwrap().with_linear_output())
            .push(GlobalAvgPool)
            .push(Flatten);
        let optimizer = optimizers(backend).into_iter().nth(optimizer).unwrap();
        let trainer = Trainer::new(backend, net, optimizer, 1).unwrap();
        let images = (0..IMAGES * SIDE * SIDE).map(|i| (i * 37 % 251) as u8).collect();
        let labels = (0..IMAGES).map(|i| (i % 4) as u8).collect();
        let dataset = Arc::new(Dataset::new(images, labels, SIDE, SIDE, 4).unwrap());
        let config = LoaderConfig { batch_size: BATCH, height: SIDE, width: SIDE, order: Order::Shuffled { seed: 1 } };
        let loader = Loader::new(dataset, config).unwrap();
        let resident = Resident::new(backend, loader.clone()).unwrap();
        Run { trainer, loader, resident, source }
    }

    /// Call `call` of the run. An evaluation gives its loss.
    fn call(&mut self, call: usize) -> Result<f64> {
        let Run { trainer, loader, resident, source } = self;
        if call < STEPS {
            trainer.position.epoch = (call / loader.steps()) as u32;
            trainer.position.step = (call % loader.steps()) as u32;
        }
        match source {
            Source::Host if call < STEPS => {
                let batch = loader.epoch_from(trainer.position.epoch, trainer.position.step as usize)?.next().unwrap();
                trainer.step(&batch.images, Shape::image(batch.len(), 1, SIDE, SIDE), &batch.labels, 0.05)?;
            }
            Source::Device if call < STEPS => drop(trainer.step_resident(resident, 0.05)?),
            Source::Host | Source::Device => {
                let mut go_on = |_: &_, _| Ok(std::ops::ControlFlow::Continue(()));
                let reading = match source {
                    Source::Host => trainer.evaluate(&*loader, &mut go_on)?,
                    Source::Device => trainer.evaluate(&*resident, &mut go_on)?,
                };
                return Ok(reading.unwrap().loss);
            }
        }
        Ok(0.0)
    }

    /// The bits of the weights and of the optimiser's tensors, and its counters.
    fn state(&self) -> Vec<u64> {
        let Trainer { backend, net, optimizer, .. } = &self.trainer;
        let mut state: Vec<u64> = optimizer.counters().iter().map(|(_, value)| *value).collect();
        // A step that fails does not count.
        let reading = self.trainer.reading().unwrap();
        state.extend([reading.samples as u64, reading.loss.to_bits(), reading.accuracy.to_bits()]);
        for (_, param) in net.params() {
            let kept = optimizer.tensor_names().into_iter().filter_map(|name| optimizer.tensor(name, param));
            for buf in [param.data()].into_iter().chain(kept) {
                state.extend(backend.download(buf).unwrap().iter().map(|value| u64::from(value.to_bits())));
            }
        }
        state
    }
}

/// A run's states after each call.
type States = Vec<(Vec<u64>, f64)>;

/// Runs all calls. In call `failing` the requests after `granted` are refused, `refused` of them; a call that fails is
/// repeated. Returns the states and whether a request was refused.
fn run<B: Refuses>(
    backend: &B,
    what: &str,
    run: &mut Run<B>,
    failing: usize,
    granted: u64,
    refused: u64,
) -> (States, bool) {
    let mut states = Vec::new();
    let mut met = false;
    for call in 0..CALLS {
        let loss = if call != failing {
            run.call(call)
        } else {
            let (held, state) = (backend.memory().in_use, run.state());
            B::refuse(granted, refused);
            let result = run.call(call);
            met = B::refuse(0, 0) != refused;
            match result {
                // A GPU's arena gives back what it does not use, and asks once more.
                Ok(_) if met && refused > 1 => panic!("{what}: a refused request has no consequence"),
                Ok(loss) => Ok(loss),
                Err(Error::Memory { .. }) if met => {
                    assert_eq!(backend.memory().in_use, held, "{what}: a failed call keeps buffers");
                    assert!(run.state() == state, "{what}: a failed call changes the run");
                    run.call(call)
                }
                Err(error) => panic!("{what}: {error}"),
            }
        };
        states.push((run.state(), loss.unwrap_or_else(|error| panic!("{what}, call {call}: {error}"))));
    }
    (states, met)
}

/// Empties the arena of a device: what it does not use goes back to the system. A fresh CPU is empty.
fn emptied<B: Refuses>(backend: &B) {
    B::refuse(0, u64::MAX);
    let refused = backend.alloc(Role::Activation, 12_345_677);
    B::refuse(0, 0);
    assert!(matches!(refused, Err(Error::Memory { .. })));
}

/// Refuses every request of every call of a run with each of these [`optimizers`], and returns the number of refusals.
fn every_request<B: Refuses>(backend: impl Fn() -> B, sources: &[Source], optimizers: Range<usize>) -> usize {
    let mut refusals = 0;
    for &source in sources {
        for optimizer in optimizers.clone() {
            let fresh = || {
                let backend = backend();
                emptied(&backend);
                (Run::new(&backend, optimizer, source), backend)
            };
            let undisturbed = {
                let (mut undisturbed, backend) = fresh();
                run(&backend, "undisturbed", &mut undisturbed, CALLS, 0, 0).0
            };
            for (failing, refused) in (0..CALLS).flat_map(|call| [(call, 1), (call, u64::MAX)]) {
                for granted in 0.. {
                    let (mut disturbed, backend) = fresh();
                    let what = format!(
                        "{}, {source:?}, optimiser {optimizer}, call {failing}, request {granted}, {refused} refused",
                        backend.name()
                    );
                    let (states, met) = run(&backend, &what, &mut disturbed, failing, granted, refused);
                    assert!(states == undisturbed, "{what}: other bits than undisturbed");
                    drop(disturbed);
                    if !met {
                        break;
                    }
                    refusals += 1;
                }
            }
        }
    }
    refusals
}

#[test]
fn every_refusal_on_a_cpu_is_an_error_that_changes_nothing() {
    let refusals = every_request(Cpu::<f32>::new, &[Source::Host, Source::Device], 0..3);
    assert!(refusals > 500, "{refusals}");
    kept(5, format_args!("{refusals} requests for memory refused on a CPU: as many typed errors, and no bit differs"));
}

#[cfg(feature = "cuda")]
#[test]
fn every_refusal_on_a_gpu_is_an_error_that_changes_nothing() {
    use mlpconv::Precision;
    if crate::gpu::real() {
        return;
    }
    let mut refusals = 0;
    for precision in [Precision::Bf16, Precision::Tf32, Precision::Fp32].into_iter().take(tries(1, 3)) {
        let Some(gpu) = crate::gpu::gpu(precision) else { return };
        // Without momentum SGD asks for what it asks for with it, but for the velocities.
        let sources = &[Source::Device, Source::Host][..tries(1, 2)];
        refusals += every_request(|| (*gpu).clone(), sources, tries(1, 0)..3);
    }
    assert!(refusals > 150, "{refusals}");
    kept(5, format_args!("{refusals} requests for memory refused on a virtual GPU: typed errors, and no bit differs"));
}
