//! A network of a few hundred parameters on data of its own, so that a run's files are a few KiB.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use mlpconv::data::{Dataset, Loader, LoaderConfig, Order};
use mlpconv::nn::{Builder, Flatten, GlobalAvgPool, Init, MaxPool, Module as _, Sequential};
use mlpconv::optim::OptimizerKind;
use mlpconv::train::{Event, Position, Preset, Run, TrainConfig, Trainer};
use mlpconv::{Cpu, Result};

type Net = Sequential<Cpu<f32>>;

/// The settings: two epochs of three steps.
pub fn config(kind: OptimizerKind) -> TrainConfig {
    TrainConfig { epochs: 2, batch_size: 4, resize: 8, seed: 1, ..Preset::Small.config_with(kind) }
}

/// A trainer at the start.
pub fn trainer(config: &TrainConfig) -> Trainer<Cpu<f32>, Net> {
    // Threads are started once.
    static BACKEND: OnceLock<Cpu<f32>> = OnceLock::new();
    let backend = BACKEND.get_or_init(|| Cpu::with_threads(1).unwrap()).clone();
    let mut build = Builder::new(&backend, Init::He, 1);
    let net = Sequential::new()
        .push(build.nin_block(1, 4, 3, 1, 1).unwrap())
        .push(MaxPool { window: 3, stride: 2 })
        .push(build.nin_block(4, 3, 3, 1, 1).unwrap().with_linear_output())
        .push(GlobalAvgPool)
        .push(Flatten);
    Trainer::new(&backend, net, config.optimizer(&backend), 1).unwrap()
}

/// Trains to the end, or until `stop`; metrics and state are saved after each epoch.
pub fn go_on(run: &mut Run, trainer: &mut Trainer<Cpu<f32>, Net>, stop: Option<Position>) -> Result<()> {
    let pixels = (0..12 * 64u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let data = Arc::new(Dataset::new(pixels, (0..12).map(|i| i % 3).collect(), 8, 8, 3)?);
    let loader = |order| Loader::new(data.clone(), LoaderConfig { batch_size: 4, height: 8, width: 8, order });
    let (train, test) = (loader(Order::Shuffled { seed: 1 })?, loader(Order::Sequential)?);
    let options = run.config().fit_options(1);
    let ended = trainer.fit(&train, &test, &options, &mut |trainer, event| {
        if let Event::Epoch { metrics, .. } = event {
            run.append(&metrics)?;
            run.save(trainer)?;
        }
        let stops = Some(trainer.position) == stop;
        Ok(if stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    ended.map(drop)
}

/// Makes a run that has stopped after the first step of its second epoch.
pub fn write_run(folder: &Path, kind: OptimizerKind) {
    let config = config(kind);
    let mut trainer = trainer(&config);
    let mut run = Run::create(folder, config).unwrap();
    go_on(&mut run, &mut trainer, Some(Position { epoch: 1, step: 1 })).unwrap();
    run.save(&trainer).unwrap();
}

/// Everything that training goes on from: parameters, the optimiser's tensors and counters, position, running loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub tensors: Vec<(String, Vec<f32>)>,
    counters: Vec<(&'static str, u64)>,
    position: Position,
    reading: String,
}

impl Standing {
    pub fn of(trainer: &Trainer<Cpu<f32>, Net>) -> Self {
        let mut tensors = Vec::new();
        for (name, param) in trainer.net.params() {
            for state in trainer.optimizer.tensor_names() {
                let values = trainer.optimizer.tensor(state, param).map_or(Vec::new(), |values| values.to_vec());
                tensors.push((format!("{state} of {name}"), values));
            }
            tensors.push((name, param.data().to_vec()));
        }
        let (counters, reading) = (trainer.optimizer.counters(), format!("{:?}", trainer.reading().unwrap()));
        Standing { tensors, counters, position: trainer.position, reading }
    }
}
