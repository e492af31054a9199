//! Shared parts of the benches: the devices, their ceilings, timing, and a table of measured times and shares of the
//! ceilings.

// Each bench uses only a part of this module.
#![allow(dead_code)]

mod ceiling;
mod table;

use std::env;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use mlpconv::device::Role;
use mlpconv::shape::PoolShape;
use mlpconv::{Backend, Cpu, Precision, Result, Shape};
#[cfg(feature = "cuda")]
use mlpconv::{
    Cuda, Device as _,
    device::{Recording, StepScalars},
};

pub use ceiling::Ceiling;
pub use table::{Row, Table};

/// The number of samples of a bench.
const SAMPLES: usize = 10;

/// A positive number from the environment variable `name`, or `usual`. For machines on which the usual size takes too
/// long.
///
/// # Panics
/// If the variable is not a positive number.
pub fn setting(name: &str, usual: usize) -> usize {
    let Some(text) = env::var_os(name) else { return usual };
    let number = text.to_str().and_then(|text| text.parse().ok()).filter(|&number| number > 0);
    number.unwrap_or_else(|| panic!("{name} is {text:?}, which is not a positive number"))
}

/// A backend, and how time is measured on it.
pub trait Timed: Backend<Scalar = f32> {
    fn precision(&self) -> Precision;

    /// The highest rates of the device.
    fn ceiling(&self) -> Ceiling;

    /// The bytes of the signs that kernels store beside a rectified tensor of `channels` channels and `bytes` bytes;
    /// `None` if the backend stores none.
    fn signs(&self, channels: usize, bytes: usize) -> Option<usize>;

    /// The time that the device is busy with `work`.
    fn busy(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Duration>;

    /// The time for `count` runs of `work`. `recording` is kept between calls.
    fn repeated(
        &self,
        count: u64,
        work: &mut dyn FnMut() -> Result<()>,
        recording: &mut Option<Self::Recording>,
    ) -> Result<Duration>;
}

impl Timed for Cpu<f32> {
    fn precision(&self) -> Precision {
        Precision::Fp32
    }

    fn ceiling(&self) -> Ceiling {
        Ceiling::of_cpu(self.threads())
    }

    fn signs(&self, _: usize, _: usize) -> Option<usize> {
        None
    }

    fn busy(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Duration> {
        let began = Instant::now();
        work()?;
        Ok(began.elapsed())
    }

    fn repeated(
        &self,
        count: u64,
        work: &mut dyn FnMut() -> Result<()>,
        _: &mut Option<Self::Recording>,
    ) -> Result<Duration> {
        self.busy(&mut || (0..count).try_for_each(|_| work()))
    }
}

/// Launches in a recorded graph: enough that the time to launch the graph is negligible.
#[cfg(feature = "cuda")]
const RECORDED: u64 = 32;

#[cfg(feature = "cuda")]
impl Timed for Cuda {
    fn precision(&self) -> Precision {
        Cuda::precision(self)
    }

    fn ceiling(&self) -> Ceiling {
        Ceiling::of_gpu(self)
    }

    fn signs(&self, channels: usize, bytes: usize) -> Option<usize> {
        let width = Cuda::precision(self).activation_width();
        (channels * width).is_multiple_of(16).then_some(bytes / 16)
    }

    fn busy(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Duration> {
        self.elapsed(work)
    }

    /// Measures replays of a graph, as the network runs its kernels: a small kernel ends before the host has launched
    /// the next. Small counts are launched one by one, which also warms up.
    fn repeated(
        &self,
        count: u64,
        work: &mut dyn FnMut() -> Result<()>,
        recording: &mut Option<Self::Recording>,
    ) -> Result<Duration> {
        if count < RECORDED {
            return self.elapsed(|| (0..count).try_for_each(|_| work()));
        }
        if recording.is_none() {
            work()?;
            *recording = self.record(&StepScalars::default(), &mut || (0..RECORDED).try_for_each(|_| work()))?;
        }
        let graph = recording.as_ref().expect("this device records");
        let replays = count.div_ceil(RECORDED);
        let taken = self.elapsed(|| (0..replays).try_for_each(|_| graph.replay(&StepScalars::default())))?;
        Ok(taken.mul_f64(count as f64 / (replays * RECORDED) as f64))
    }
}

/// A bench: what it times on a backend.
pub trait Bench {
    const NAME: &'static str;
    /// Images in a batch on a GPU, and on a CPU.
    const BATCH: [usize; 2];

    fn run<B: Timed>(criterion: &mut Criterion, table: &mut Table, backend: &B, batch: usize, device: Device);
}

/// The kind of device that a bench runs on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Device {
    Gpu,
    Cpu,
}

/// Runs a bench on a GPU in each precision if one can be used, else on the CPU, whose ceilings are measured last. Then it prints and
/// writes the table.
pub fn run<T: Bench>() {
    let batch = |device| setting("MLPCONV_BENCH_BATCH", T::BATCH[device as usize]);
    #[cfg(feature = "cuda")]
    if let Some(gpus) = gpus() {
        let (mut criterion, device) = (criterion(true), Device::Gpu);
        let mut table = Table::new(T::NAME, gpus[0].device().name.clone());
        for gpu in &gpus {
            table.ceiling(Timed::precision(gpu), gpu.ceiling());
            T::run(&mut criterion, &mut table, gpu, batch(device), device);
        }
        criterion.final_summary();
        return table.finish();
    }
    let (cpu, mut criterion, device) = (Cpu::<f32>::new(), criterion(false), Device::Cpu);
    let mut table = Table::new(T::NAME, format!("the CPU, {} threads", cpu.threads()));
    T::run(&mut criterion, &mut table, &cpu, batch(device), device);
    criterion.final_summary();
    table.ceiling(Timed::precision(&cpu), cpu.ceiling());
    table.finish();
}

/// A GPU in each precision if a GPU can be used; else `None`, with the reason printed.
#[cfg(feature = "cuda")]
fn gpus() -> Option<Vec<Cuda>> {
    let opened: Result<Vec<Cuda>> = Precision::ALL.into_iter().map(|precision| Cuda::new(0, precision)).collect();
    opened.map_err(|error| println!("on the CPU, since there is no GPU to use: {error}")).ok()
}

/// Criterion with the options of the command line, and times that suit the device: a GPU's kernels take microseconds.
fn criterion(gpu: bool) -> Criterion {
    let criterion = Criterion::default().sample_size(SAMPLES);
    let (warm_up, measurement) = if gpu { (300, 700) } else { (1000, 4000) };
    criterion
        .warm_up_time(Duration::from_millis(warm_up))
        .measurement_time(Duration::from_millis(measurement))
        .configure_from_args()
}

/// The seconds of one run, over the samples.
pub struct Times {
    pub median: f64,
    pub least: f64,
    pub most: f64,
    pub samples: usize,
}

impl Times {
    /// Statistics of samples, each a number of runs and their time. Samples with less than half of the most runs are
    /// warm-up and are left out.
    fn of(samples: &[(u64, Duration)]) -> Option<Self> {
        let longest = samples.iter().map(|&(count, _)| count).max()?;
        let settled = samples.iter().filter(|&&(count, _)| 2 * count >= longest);
        let mut seconds: Vec<f64> = settled.map(|&(count, taken)| taken.as_secs_f64() / count as f64).collect();
        seconds.sort_by(f64::total_cmp);
        let n = seconds.len();
        let median = (seconds[(n - 1) / 2] + seconds[n / 2]) / 2.0;
        Some(Times { median, least: seconds[0], most: seconds[n - 1], samples: n })
    }
}

/// Benches `sample`, which runs its work a given number of times and returns the time that took. `None` if the command
/// line selects other benches.
pub fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    sample: &mut dyn FnMut(u64) -> Result<Duration>,
) -> Option<Times> {
    let mut samples = Vec::new();
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|count| {
            // At least 1 ns, because Criterion divides by it.
            let taken = sample(count).expect("the kernels run").max(Duration::from_nanos(1));
            samples.push((count, taken));
            taken
        });
    });
    Times::of(&samples)
}

/// Benches `once` on the tensors that `make` creates, which it does only if the command line selects this bench.
pub fn measure<B: Timed, W>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    backend: &B,
    name: &str,
    make: impl Fn() -> Result<W>,
    once: impl Fn(&mut W) -> Result<()>,
) -> Option<Times> {
    // Tuple order: the recording is dropped before the buffers that it reads and writes.
    let mut work: Option<(Option<B::Recording>, W)> = None;
    bench(group, name, &mut |count| {
        if work.is_none() {
            work = Some((None, make()?));
        }
        let (recording, work) = work.as_mut().expect("made above");
        backend.repeated(count, &mut || once(work), recording)
    })
}

/// Random numbers: kernels can run faster on zeros.
pub fn noise<B: Timed>(backend: &B, role: Role, len: usize) -> Result<B::Buf> {
    let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
    backend.upload(role, &(0..len).map(value).collect::<Vec<_>>())
}

/// Random images with the signs that mask gradients, as in training. A pool of single pixels writes the signs beside
/// its output.
pub fn rectified<B: Timed>(backend: &B, shape: Shape) -> Result<B::Buf> {
    let (values, pool) = (noise(backend, Role::Activation, shape.len())?, PoolShape::new("bench", shape, 1, 1)?);
    let mut rectified = backend.alloc_rectified(shape.len())?;
    backend.maxpool_fprop(&pool, &values, &mut rectified, None)?;
    Ok(rectified)
}
