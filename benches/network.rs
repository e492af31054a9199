//! `cargo bench --bench network`: training steps and inference of d2l's NiN from a data set on the device, as a
//! replayed graph and launch by launch. Runs on a GPU in each precision if there is one, else on the CPU. See
//! `benches/README.md`.

mod harness;

use std::ops::ControlFlow;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use mlpconv::data::{Dataset, Loader, LoaderConfig, Order};
use mlpconv::nn::{Nin, Summary};
use mlpconv::train::{Position, Preset, Resident, Trainer};
use mlpconv::{Result, Shape};

use harness::{Bench, Device, Row, Table, Timed, bench, setting};

/// Images in a batch: on a GPU the recipe's, on a CPU as many as take about a second.
const BATCH: [usize; 2] = [128, 8];

/// A learning rate at which random images and labels do not make the network diverge.
const RATE: f64 = 0.01;

/// A data set on the device, and a trainer for it.
type Prepared<B> = (Resident<B>, Trainer<B, Nin<B>>);

/// The bench of one backend.
struct Network<'a, B: Timed> {
    backend: &'a B,
    size: usize,
    /// The batches of the data set. Inference waits for the device once in so many.
    steps: usize,
    /// Whether the device records graphs; else work is only launched one by one.
    records: bool,
}

impl<B: Timed> Network<'_, B> {
    /// Random images on the device, and a trainer for them.
    fn prepare(&self, batch: usize, order: Order) -> Result<Prepared<B>> {
        let n = batch * self.steps;
        let noise = |i: usize| (i as u32).wrapping_mul(2_654_435_761);
        let pixels = (0..n * 28 * 28).map(|i| (noise(i) >> 24) as u8).collect();
        let labels = (0..n).map(|i| ((noise(i) >> 8) % 10) as u8).collect();
        let config = LoaderConfig { batch_size: batch, height: self.size, width: self.size, order };
        let loader = Loader::new(Arc::new(Dataset::new(pixels, labels, 28, 28, 10)?), config)?;
        let net = Preset::D2l.net(self.backend, 0)?;
        let trainer = Trainer::new(self.backend, net, Preset::D2l.config().optimizer(self.backend), 0)?;
        Ok((Resident::new(self.backend, loader)?, trainer))
    }

    fn ways(&self) -> &'static [(&'static str, bool)] {
        if self.records { &[("graph", true), ("eager", false)] } else { &[("eager", false)] }
    }

    fn train(&self, criterion: &mut Criterion, table: &mut Table, batch: usize) {
        let mut group = criterion.benchmark_group(format!("train {}", self.backend.precision()));
        group.throughput(Throughput::Elements(batch as u64));
        for &(way, record) in self.ways() {
            let mut prepared = None;
            let times = bench(&mut group, &format!("batch {batch} {way}"), &mut |count| {
                let first = prepared.is_none();
                if first {
                    prepared = Some(self.prepare(batch, Order::Shuffled { seed: 0 })?);
                }
                let (data, trainer) = prepared.as_mut().expect("it was just made");
                trainer.record = record;
                let mut step = || {
                    if trainer.step_resident(data, RATE)? == 0 {
                        let epoch = trainer.position.epoch + 1;
                        trainer.position = Position { epoch, step: 0 };
                        trainer.step_resident(data, RATE)?;
                    }
                    Ok(())
                };
                if first && record {
                    // Warm-up: the first step is launched, the second recorded.
                    step()?;
                    step()?;
                }
                self.backend.busy(&mut || (0..count).try_for_each(|_| step()))
            });
            let Some(times) = times else { continue };
            table.push(self.row("training step", batch, way, times, Summary::training_macs));
        }
        group.finish();
    }

    fn infer(&self, criterion: &mut Criterion, table: &mut Table, batch: usize) {
        let mut group = criterion.benchmark_group(format!("infer {}", self.backend.precision()));
        group.throughput(Throughput::Elements(batch as u64));
        for &(way, record) in self.ways() {
            let mut prepared = None;
            let times = bench(&mut group, &format!("batch {batch} {way}"), &mut |count| {
                let first = prepared.is_none();
                if first {
                    prepared = Some(self.prepare(batch, Order::Sequential)?);
                }
                let (data, trainer) = prepared.as_mut().expect("it was just made");
                trainer.record = record;
                let all = || trainer.evaluate(&*data, &mut |_, _| Ok(ControlFlow::Continue(()))).map(drop);
                if first && record {
                    // Warm-up: at least three batches, as in training.
                    (0..3usize.div_ceil(self.steps)).try_for_each(|_| all())?;
                }
                let taken = self.backend.busy(&mut || (0..count).try_for_each(|_| all()))?;
                Ok(taken.div_f64(self.steps as f64))
            });
            let Some(times) = times else { continue };
            table.push(self.row("inference", batch, way, times, Summary::forward_macs));
        }
        group.finish();
    }

    fn row(&self, case: &str, batch: usize, way: &str, times: harness::Times, macs: fn(&Summary) -> usize) -> Row {
        let net = Preset::D2l.net(self.backend, 0).expect("memory");
        let summary = Summary::new(&net, Shape::image(batch, 1, self.size, self.size)).expect("the images fit");
        Row {
            group: "network",
            case: format!("{case}, batch {batch}"),
            pass: way.into(),
            precision: self.backend.precision(),
            times,
            flops: 2.0 * macs(&summary) as f64,
            bytes: None,
            images: batch,
        }
    }

    fn run(&self, criterion: &mut Criterion, table: &mut Table, batch: usize) {
        self.train(criterion, table, batch);
        self.infer(criterion, table, batch);
        if batch != 1 {
            self.infer(criterion, table, 1);
        }
    }
}

struct Networks;

impl Bench for Networks {
    const NAME: &'static str = "network";
    const BATCH: [usize; 2] = BATCH;

    fn run<B: Timed>(criterion: &mut Criterion, table: &mut Table, backend: &B, batch: usize, device: Device) {
        let size = setting("MLPCONV_BENCH_SIZE", Preset::D2l.config().resize);
        let records = device == Device::Gpu;
        let steps = setting("MLPCONV_BENCH_STEPS", if records { 16 } else { 1 });
        Network { backend, size, steps, records }.run(criterion, table, batch);
    }
}

fn main() {
    harness::run::<Networks>();
}
