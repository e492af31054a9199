//! What the benches share: the devices they run on, what those can do at most, and a table of how near to it a kernel
//! comes.

// Each bench uses a part of this.
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
    Cuda, Device,
    device::{Recording, StepScalars},
};

pub use ceiling::Ceiling;
pub use table::{Row, Table};

/// Samples of a bench.
const SAMPLES: usize = 10;

/// A number from the environment, for machines on which the usual one takes too long.
///
/// # Panics
/// If it is not a positive number.
pub fn setting(name: &str, usual: usize) -> usize {
    let Some(text) = env::var_os(name) else { return usual };
    let number = text.to_str().and_then(|text| text.parse().ok()).filter(|&number| number > 0);
    number.unwrap_or_else(|| panic!("{name} is {text:?}, which is not a positive number"))
}

/// A backend and how time is taken on it.
pub trait Timed: Backend<Scalar = f32> {
    fn precision(&self) -> Precision;

    /// What work can be done on it at most.
    fn ceiling(&self) -> Ceiling;

    /// Bytes of the signs that its kernels keep beside a rectified tensor of so many channels and bytes, where they do.
    fn signs(&self, channels: usize, bytes: usize) -> Option<usize>;

    /// How long the device is busy with what `work` asks for.
    fn busy(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Duration>;

    /// How long it takes for `count` times `work`. `recording` is kept from one call to the next.
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

/// Launches a graph holds: enough that asking for the graph takes no time beside them.
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

    /// By replays of a graph, as the network runs its kernels: a small one is over before the host has asked for
    /// the next. Few are launched one by one, which also makes whatever a first time needs.
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

/// A GPU in each precision if there is one that can be used, else `None`; why not is said.
#[cfg(feature = "cuda")]
pub fn gpus() -> Option<Vec<Cuda>> {
    let opened: Result<Vec<Cuda>> = Precision::ALL.into_iter().map(|precision| Cuda::new(0, precision)).collect();
    opened.map_err(|error| println!("on the CPU, since there is no GPU to use: {error}")).ok()
}

/// Criterion with the command line's options, and times that fit the device: a GPU's kernels take microseconds.
pub fn criterion(gpu: bool) -> Criterion {
    let criterion = Criterion::default().sample_size(SAMPLES);
    let (warm_up, measurement) = if gpu { (300, 700) } else { (1000, 4000) };
    criterion
        .warm_up_time(Duration::from_millis(warm_up))
        .measurement_time(Duration::from_millis(measurement))
        .configure_from_args()
}

/// Seconds that a piece of work took, by sample.
pub struct Times {
    pub median: f64,
    pub least: f64,
    pub most: f64,
    pub samples: usize,
}

impl Times {
    /// Of samples of so many repetitions and so long. The shortest samples are those that warm up.
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

/// Benches `sample`, which does its work as often as it is told and says how long that took. `None` where the command
/// line asks for other benches.
pub fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    sample: &mut dyn FnMut(u64) -> Result<Duration>,
) -> Option<Times> {
    let mut samples = Vec::new();
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|count| {
            // Criterion divides by it.
            let taken = sample(count).expect("the kernels run").max(Duration::from_nanos(1));
            samples.push((count, taken));
            taken
        });
    });
    Times::of(&samples)
}

/// Benches `once` on what `make` makes, which is done only if it is one of those that the command line asks for.
pub fn measure<B: Timed, W>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    backend: &B,
    name: &str,
    make: impl Fn() -> Result<W>,
    once: impl Fn(&mut W) -> Result<()>,
) -> Option<Times> {
    // The recording goes before the buffers that it reads and writes.
    let mut work: Option<(Option<B::Recording>, W)> = None;
    bench(group, name, &mut |count| {
        if work.is_none() {
            work = Some((None, make()?));
        }
        let (recording, work) = work.as_mut().expect("made above");
        backend.repeated(count, &mut || once(work), recording)
    })
}

/// Numbers that are not zeros: those can be faster than real numbers.
pub fn noise<B: Timed>(backend: &B, role: Role, len: usize) -> Result<B::Buf> {
    let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
    backend.upload(role, &(0..len).map(value).collect::<Vec<_>>())
}

/// The same, images as training has them to mask gradients: with the signs that a kernel leaves beside what it writes. A pool of
/// single pixels is such a kernel.
pub fn rectified<B: Timed>(backend: &B, shape: Shape) -> Result<B::Buf> {
    let (values, pool) = (noise(backend, Role::Activation, shape.len())?, PoolShape::new("bench", shape, 1, 1)?);
    let mut rectified = backend.alloc_rectified(shape.len())?;
    backend.maxpool_fprop(&pool, &values, &mut rectified, None)?;
    Ok(rectified)
}
