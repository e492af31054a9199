//! Timing of training steps and of inference on random images.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use mlpconv::data::{DataSpec, Dataset, known};
use mlpconv::device::Memory;
use mlpconv::nn::Nin;
use mlpconv::train::{Position, Preset, Resident, TrainConfig, Trainer};
use mlpconv::{Backend, Error, Result, Shape};

use super::device::Choice;
use super::memory::Steps;
use super::{bytes, emit, say};

/// The options of a timing.
pub struct Timing {
    pub preset: Preset,
    pub batch: usize,
    pub steps: Option<usize>,
    pub rounds: usize,
    pub json: bool,
}

/// The seconds of a step, sorted: of each step if steps were timed one by one, else the mean of each round.
struct Seconds(Vec<f64>);

impl Seconds {
    fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        Seconds(seconds)
    }

    fn median(&self) -> f64 {
        let n = self.0.len();
        (self.0[(n - 1) / 2] + self.0[n / 2]) / 2.0
    }

    /// The shortest and the longest.
    fn range(&self) -> [f64; 2] {
        [self.0[0], self.0[self.0.len() - 1]]
    }
}

/// The times of a training step and of inference, for one way of running them.
struct Times {
    train: Seconds,
    infer: Seconds,
}

/// The result of a timing.
struct Measured {
    times: Times,
    /// The times without recording, launch by launch; `None` on a device that records nothing.
    eager: Option<Times>,
    memory: Memory,
    loss: f64,
}

/// The most steps of a round, and the most rounds. The bytes of as many of the largest batches can still be counted.
const MOST: usize = 1 << 30;

/// A learning rate at which random images and labels do not make the network diverge.
const RATE: f64 = 0.01;

/// Pseudo-random pixels: a multiplicative hash of the index.
fn noise(i: usize) -> u32 {
    (i as u32).wrapping_mul(2_654_435_761) >> 8
}

/// Random images, `n` of them, of the size and the classes that a data set has.
///
/// # Errors
/// As [`Dataset::with_channels`].
pub fn random(spec: &DataSpec, n: usize) -> Result<Dataset> {
    let [height, width] = spec.extents;
    let classes = spec.class_names.len() as u32;
    let pixels = (0..n * height * width * spec.channels).map(|i| (noise(i) >> 16) as u8).collect();
    let labels = (0..n).map(|i| (noise(i) % classes) as u8).collect();
    let names = spec.class_names.iter().map(|name| (*name).into()).collect();
    Dataset::with_channels(pixels, labels, [height, width, spec.channels], names)
}

/// The images that a preset is made for.
fn images(config: &TrainConfig) -> &'static DataSpec {
    config.data.spec().unwrap_or(&known::FASHION_MNIST)
}

/// Times the preset of `timing` on `backend`, in the way `train` runs it there.
pub fn time<B: Backend<Scalar = f32>>(timing: &Timing, device: &Choice, backend: &B) -> Result<()> {
    let &Timing { preset, batch, rounds, json, .. } = timing;
    // A GPU's step is so short that a round needs about a hundred for a stable time.
    let steps = timing.steps.unwrap_or(if device.resident { 100 } else { 5 });
    for (what, count) in [("steps", steps), ("rounds", rounds)] {
        if count == 0 {
            return Err(Error::Config { what: what.into(), problem: "must be at least 1".into() });
        }
        if count > MOST {
            let problem = format!("{count} are more than {MOST}, the most that are supported");
            return Err(Error::Config { what: what.into(), problem });
        }
    }
    let config = TrainConfig { batch_size: batch, precision: device.precision, ..preset.config() };
    config.validate()?;
    let net = preset.net(backend, 0)?;
    let fits = Steps::of(backend, &net, &config, images(&config).channels, 1, 0, None)?;
    fits.require(backend)?;
    let trainer = config.trainer(backend, net)?;
    let Measured { times, eager, memory, loss } = match device.resident {
        true => resident(trainer, &config, steps, rounds),
        false => from_host(trainer, &config, steps),
    }
    .map_err(|error| fits.explain(backend, error))?;

    let per_second = |seconds: f64| batch as f64 / seconds;
    let milliseconds = |seconds: &Seconds| seconds.range().map(|least_or_most| least_or_most * 1e3);
    if json {
        let mut line = serde_json::json!({
            "preset": preset, "device": backend.name(), "precision": device.precision, "batch": batch,
            "size": config.resize, "steps": steps, "rounds": if device.resident { rounds } else { 1 },
            "resident": device.resident, "recorded": eager.is_some(), "loss": loss,
            "train_ms": times.train.median() * 1e3, "train_img_s": per_second(times.train.median()),
            "train_ms_range": milliseconds(&times.train),
            "infer_ms": times.infer.median() * 1e3, "infer_img_s": per_second(times.infer.median()),
            "infer_ms_range": milliseconds(&times.infer),
            "peak_bytes": memory.peak, "reserved_bytes": memory.reserved,
        });
        if let Some(eager) = &eager {
            line["eager_train_ms"] = (eager.train.median() * 1e3).into();
            line["eager_train_ms_range"] = milliseconds(&eager.train).to_vec().into();
            line["eager_infer_ms"] = (eager.infer.median() * 1e3).into();
            line["eager_infer_ms_range"] = milliseconds(&eager.infer).to_vec().into();
        }
        emit(line);
        return Ok(());
    }
    let how = match device.resident {
        true => format!("median of {rounds} rounds of {steps} steps from data on the device"),
        false => format!("median of {steps}"),
    };
    say(format_args!("{preset} at {0}x{0}, batch {batch}, {1}, {how}", config.resize, backend.name()));
    let line = |what: &str, seconds: &Seconds| {
        let ([least, most], median) = (milliseconds(seconds), seconds.median());
        let rate = per_second(median);
        say(format_args!("{what:<17}{:9.3} ms  {rate:9.1} images/s  ({least:.3} to {most:.3} ms)", median * 1e3));
    };
    line("training", &times.train);
    line("inference", &times.infer);
    if let Some(eager) = &eager {
        line("training, eager", &eager.train);
        line("inference, eager", &eager.infer);
    }
    let (peak, reserved) = (bytes(memory.peak), bytes(memory.reserved));
    say(format_args!("memory           {peak} in buffers at the peak of a step, {reserved} taken from the system"));
    Ok(())
}

/// Times batches that the host sends, each step by itself.
fn from_host<B: Backend<Scalar = f32>>(
    mut trainer: Trainer<B, Nin<B>>,
    config: &TrainConfig,
    steps: usize,
) -> Result<Measured> {
    let backend = trainer.backend.clone();
    let spec = images(config);
    let classes = spec.class_names.len() as u32;
    let shape = Shape::image(config.batch_size, spec.channels, config.resize, config.resize);
    let images: Vec<f32> = (0..shape.len()).map(|i| noise(i) as f32 / (1 << 24) as f32).collect();
    let labels: Vec<u8> = (0..config.batch_size).map(|i| (noise(i) % classes) as u8).collect();
    let each = |run: &mut dyn FnMut() -> Result<()>| -> Result<Seconds> {
        run()?;
        let mut seconds = Vec::new();
        for _ in 0..steps {
            let began = Instant::now();
            run()?;
            backend.synchronize()?;
            seconds.push(began.elapsed().as_secs_f64());
        }
        Ok(Seconds::of(seconds))
    };
    let train = each(&mut || trainer.step(&images, shape, &labels, RATE))?;
    let memory = backend.memory();
    let infer = each(&mut || trainer.predict(&images, shape).map(drop))?;
    Ok(Measured { times: Times { train, infer }, eager: None, memory, loss: trainer.reading()?.loss })
}

/// Times batches of a data set on the device, in rounds of `steps` steps with one wait at the end. Recorded and eager
/// rounds alternate, so that other load on the machine affects both.
fn resident<B: Backend<Scalar = f32>>(
    mut trainer: Trainer<B, Nin<B>>,
    config: &TrainConfig,
    steps: usize,
    rounds: usize,
) -> Result<Measured> {
    let backend = trainer.backend.clone();
    let dataset = Arc::new(random(images(config), steps * config.batch_size)?);
    let train_data = Resident::new(&backend, config.train_loader(dataset.clone())?)?;
    let test_data = Resident::new(&backend, config.test_loader(dataset)?)?;

    // A step is recorded at its second run and replayed from the third on, so the warm-up has at least three.
    let warm_up = 3usize.div_ceil(steps).max(1);
    let mut epoch = 0;
    let mut train = |trainer: &mut Trainer<B, Nin<B>>, record| -> Result<f64> {
        (trainer.record, trainer.position) = (record, Position { epoch, step: 0 });
        epoch += 1;
        backend.synchronize()?;
        let began = Instant::now();
        for _ in 0..steps {
            trainer.step_resident(&train_data, RATE)?;
        }
        backend.synchronize()?;
        Ok(began.elapsed().as_secs_f64() / steps as f64)
    };
    let infer = |trainer: &mut Trainer<B, Nin<B>>, record| -> Result<f64> {
        trainer.record = record;
        let began = Instant::now();
        // `evaluate` waits for its reading.
        trainer.evaluate(&test_data, &mut |_, _| Ok(ControlFlow::Continue(())))?;
        Ok(began.elapsed().as_secs_f64() / steps as f64)
    };
    for _ in 0..warm_up {
        train(&mut trainer, true)?;
    }
    let memory = backend.memory();
    for _ in 0..warm_up {
        infer(&mut trainer, true)?;
    }
    train(&mut trainer, false)?;
    infer(&mut trainer, false)?;
    trainer.reset_reading()?;
    let mut seconds: [Vec<f64>; 4] = Default::default();
    for _ in 0..rounds {
        let round = [
            train(&mut trainer, true)?,
            infer(&mut trainer, true)?,
            train(&mut trainer, false)?,
            infer(&mut trainer, false)?,
        ];
        seconds.iter_mut().zip(round).for_each(|(all, one)| all.push(one));
    }
    let [train, infer, eager_train, eager_infer] = seconds.map(Seconds::of);
    let eager = Some(Times { train: eager_train, infer: eager_infer });
    Ok(Measured { times: Times { train, infer }, eager, memory, loss: trainer.reading()?.loss })
}
