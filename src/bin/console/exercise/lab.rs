//! Where an exercise trains its networks: the device, the images, and one function that trains.

use std::ops::{AddAssign, ControlFlow, Mul};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use mlpconv::data::{DataName, Dataset, Loader};
use mlpconv::nn::Sequential;
use mlpconv::train::{Event, Feed, Health, Preset, Resident, TrainConfig};
use mlpconv::{Backend, Error, Precision, Result, Shape};

use super::super::device::Choice;
use super::super::{data, folder, grouped, output, say, signals};
use super::Budget;
use super::progress::{Progress, time};
use super::trained::{End, Trained};

/// Images to train on, and images to measure with.
#[derive(Clone)]
pub struct Images {
    pub train: Arc<Dataset>,
    pub test: Arc<Dataset>,
}

impl Images {
    /// The same images to measure with, and the first `count` of those to train on.
    pub fn first(&self, count: usize) -> Self {
        Images { train: Arc::new((*self.train).clone().take(count)), test: self.test.clone() }
    }
}

/// What every training by `config` on `images` depends on, for the report.
pub fn settings(config: &TrainConfig, images: &Images) -> Vec<(&'static str, String)> {
    let TrainConfig { optimizer, learning_rate, momentum, weight_decay, schedule, batch_size, .. } = config;
    let recipe = format!(
        "{optimizer} at {learning_rate}, momentum {momentum}, weight decay {weight_decay}, schedule {schedule}, batches of \
         {batch_size}"
    );
    vec![
        ("preset", config.preset.to_string()),
        ("images", format!("Fashion-MNIST at {0}x{0}", config.resize)),
        ("training images", grouped(images.train.len())),
        ("test images", grouped(images.test.len())),
        ("epochs", config.epochs.to_string()),
        ("recipe", recipe),
    ]
}

/// So many seeds, for readers.
pub fn seeds_of(count: u64) -> String {
    if count == 1 { "seed 0".into() } else { format!("seeds 0 to {}", count - 1) }
}

/// The pace of a network on this device, measured.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Seconds of training an image.
    train: f64,
    /// Seconds of inference an image.
    test: f64,
}

impl Pace {
    /// Predicts a training of so many epochs, of so many training and test images each.
    pub fn training(&self, epochs: u32, train: usize, test: usize) -> Estimate {
        let epoch = train as f64 * self.train + test as f64 * self.test;
        Estimate { seconds: f64::from(epochs) * epoch, images: u64::from(epochs) * train as u64 }
    }
}

/// Predicted time and training images of some trainings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Estimate {
    pub seconds: f64,
    pub images: u64,
}

impl AddAssign for Estimate {
    fn add_assign(&mut self, other: Self) {
        self.seconds += other.seconds;
        self.images += other.images;
    }
}

/// Of so many trainings alike.
impl Mul<usize> for Estimate {
    type Output = Self;

    fn mul(self, count: usize) -> Self {
        Estimate { seconds: self.seconds * count as f64, images: self.images * count as u64 }
    }
}

/// Where an exercise trains its networks.
pub struct Lab<B: Backend> {
    pub backend: B,
    /// The device as `--device` names it.
    device: String,
    precision: Precision,
    /// Whether images lie on the device.
    resident: bool,
    data_dir: Option<PathBuf>,
    /// The exercise's name on the command line.
    exercise: &'static str,
    /// The folder of the findings, if it is there.
    folder: Option<PathBuf>,
    progress: Progress,
    /// What an interruption left out.
    pub missing: Vec<String>,
}

impl<B: Backend<Scalar = f32>> Lab<B> {
    /// A lab for an exercise. `folder` is that of the findings, if one is named.
    pub fn new(
        backend: B,
        device: &Choice,
        data_dir: Option<PathBuf>,
        exercise: &'static str,
        folder: Option<PathBuf>,
    ) -> Self {
        let Choice { name, precision, resident, .. } = device;
        let (device, precision, resident) = (name.clone(), *precision, *resident);
        let (progress, missing) = (Progress::new(), Vec::new());
        Lab { backend, device, precision, resident, data_dir, exercise, folder, progress, missing }
    }

    /// The folder of the findings: the one that is named, else a new one.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be made.
    pub fn folder(&mut self) -> Result<PathBuf> {
        let folder = match self.folder.take() {
            Some(folder) => folder,
            None => folder::timed(&format!("exercise-{}", self.exercise))?,
        };
        self.folder = Some(folder.clone());
        Ok(folder)
    }

    /// Fashion-MNIST, as much of it as the budget says: `by_default` training images unless it says how many.
    ///
    /// # Errors
    /// As [`Splits::load`](mlpconv::data::Splits::load); [`Error::Config`] for no images.
    pub fn images(&self, budget: &Budget, by_default: usize) -> Result<Images> {
        for (what, count) in [("images", budget.images), ("test-images", budget.test_images)] {
            if count == Some(0) {
                return Err(Error::Config { what: what.into(), problem: "must be at least 1".into() });
            }
        }
        let splits = data::load(&DataName::default(), self.data_dir.as_deref(), 28)?;
        let (all, train) = (splits.train.len(), splits.train.take(budget.images.unwrap_or(by_default)));
        let test = splits.test.take(budget.test_images.unwrap_or(usize::MAX));
        let (some, tested) = (grouped(train.len()), grouped(test.len()));
        let of = if train.len() < all { format!("the first {some} of {}", grouped(all)) } else { some };
        say(format_args!("data     {}: {of} training images, {tested} test images ({})", splits.title, splits.source));
        Ok(Images { train: Arc::new(train), test: Arc::new(test) })
    }

    /// Trains each of `networks`, which are names for readers, with each of so many seeds by the settings of `config`, having said
    /// so and how long it will take. `net` makes the network of an index and a seed.
    ///
    /// # Errors
    /// As [`Lab::train`].
    pub fn train_all(
        &mut self,
        networks: &[&str],
        seeds: u64,
        config: &TrainConfig,
        images: &Images,
        net: impl Fn(usize, u64) -> Result<Sequential<B>>,
    ) -> Result<Vec<Trained>> {
        let mut estimate = Estimate::default();
        for index in 0..networks.len() {
            estimate += self.estimate(net(index, 0)?, config, images)? * seeds as usize;
        }
        let (count, epochs, names) = (seeds * networks.len() as u64, config.epochs, networks.join(", "));
        self.begin(&format!("{count} trainings of {epochs} epochs: {names}; each with {}", seeds_of(seeds)), estimate)?;
        let mut trainings = Vec::new();
        // Seed by seed, so that an interruption leaves as many of each network.
        for seed in 0..seeds {
            for (index, name) in networks.iter().enumerate() {
                let config = TrainConfig { seed, ..config.clone() };
                trainings.push(self.train(name, net(index, seed)?, &config, images)?);
            }
        }
        Ok(trainings)
    }

    /// Predicts a training of `net`, from the time of some of its steps.
    ///
    /// # Errors
    /// As training.
    fn estimate(&self, net: Sequential<B>, config: &TrainConfig, images: &Images) -> Result<Estimate> {
        let pace = self.pace(net, config, images)?;
        Ok(pace.training(config.epochs, images.train.len(), images.test.len()))
    }

    /// Times some steps of `net`.
    ///
    /// # Errors
    /// As training.
    pub fn pace(&self, net: Sequential<B>, config: &TrainConfig, images: &Images) -> Result<Pace> {
        const STEPS: usize = 3;
        config.validate()?;
        let mut trainer = config.trainer(&self.backend, net)?;
        let mut batches = config.train_loader(images.train.clone())?.epoch(0)?;
        let Some(batch) = batches.next() else { unreachable!("a loader has an image at least") };
        let shape = Shape::image(batch.len(), images.train.channels(), config.resize, config.resize);
        // The first time is for memory, plans and kernels.
        let seconds = |work: &mut dyn FnMut() -> Result<()>| {
            work()?;
            self.backend.synchronize()?;
            let began = Instant::now();
            for _ in 0..STEPS {
                work()?;
            }
            self.backend.synchronize()?;
            Ok::<_, Error>(began.elapsed().as_secs_f64() / (STEPS * batch.len()) as f64)
        };
        let train = seconds(&mut || trainer.step(&batch.images, shape, &batch.labels, config.learning_rate * 1e-3))?;
        let test = seconds(&mut || trainer.predict(&batch.images, shape).map(drop))?;
        Ok(Pace { train, test })
    }

    /// Says what will be done, in one line, and how long it will take; the bar begins. From here on the first signal ends the
    /// work with what there is.
    ///
    /// # Errors
    /// As [`Lab::folder`] and [`signals::listen`].
    pub fn begin(&mut self, plan: &str, estimate: Estimate) -> Result<()> {
        let images = grouped(estimate.images as usize);
        self.announce(plan, estimate, &format!("by some steps of each network ({images} images)"))
    }

    /// [`Lab::begin`] of so many measurements, `basis` of whose time is for readers. [`Lab::measured`] tells of each.
    ///
    /// # Errors
    /// As [`Lab::begin`].
    pub fn begin_measuring(&mut self, plan: &str, count: usize, seconds: f64, basis: &str) -> Result<()> {
        self.announce(plan, Estimate { seconds, images: count as u64 }, basis)
    }

    fn announce(&mut self, plan: &str, Estimate { seconds, images }: Estimate, basis: &str) -> Result<()> {
        // Without a place for the findings the work would be lost.
        self.folder()?;
        // A data set may have been fetched until now, which a signal ends at once.
        signals::listen()?;
        say(format_args!("plan     {plan}"));
        say(format_args!("time     about {}, {basis}", time(seconds)));
        say("         Ctrl-C ends it with what there is by then");
        self.progress.begin(images);
        Ok(())
    }

    /// The settings of a preset on this device, for so many epochs.
    pub fn config(&self, preset: Preset, epochs: u32) -> TrainConfig {
        TrainConfig { device: self.device.clone(), precision: self.precision, epochs, ..preset.config() }
    }

    /// Trains `net` from its beginning, by the settings of `config`; `network` is its name for readers. After an interruption
    /// nothing more is trained: every later training is interrupted at once.
    ///
    /// # Errors
    /// As [`Trainer::fit`](mlpconv::train::Trainer::fit), except that a training that diverges is a result.
    pub fn train(
        &mut self,
        network: &str,
        net: Sequential<B>,
        config: &TrainConfig,
        images: &Images,
    ) -> Result<Trained> {
        let (seed, epochs) = (config.seed, Vec::new());
        let (health, end) = (Health::Alive, End::Interrupted);
        let mut trained = Trained { network: network.into(), seed, epochs, health, end };
        let name = format!("{network}, seed {seed}");
        if !stops() {
            config.validate()?;
            trained.end = self.fit(&name, net, config, images, &mut trained)?;
        }
        let (seconds, done) = (time(trained.seconds()), trained.epochs.len());
        match trained.end {
            End::Interrupted if done == 0 => self.missing.push(name),
            End::Interrupted => self.missing.push(format!("{name} after {done} of {} epochs", config.epochs)),
            End::Diverged => self.progress.line(&format!("{name}: diverged in epoch {}", done + 1)),
            End::Done => {
                let accuracy = trained.accuracy().unwrap_or_default();
                let health = match trained.health {
                    Health::Alive => "",
                    Health::Stuck => ", stuck",
                    Health::Dead => ", dead",
                };
                self.progress.line(&format!("{name}: accuracy {accuracy:.4}{health} ({seconds})"));
            }
        }
        Ok(trained)
    }

    fn fit(
        &mut self,
        name: &str,
        net: Sequential<B>,
        config: &TrainConfig,
        images: &Images,
        trained: &mut Trained,
    ) -> Result<End> {
        let mut trainer = config.trainer(&self.backend, net)?;
        let train = config.train_loader(images.train.clone())?;
        let test = config.test_loader(images.test.clone())?;
        let resident =
            |loader: &Loader| self.resident.then(|| Resident::new(&self.backend, loader.clone())).transpose();
        let residents = (resident(&train)?, resident(&test)?);
        let (train, test) = match &residents {
            (Some(train), Some(test)) => (Feed::from(train), Feed::from(test)),
            _ => (Feed::from(&train), Feed::from(&test)),
        };
        self.progress.training(name);
        let progress = &mut self.progress;
        let ended = trainer.fit(train, test, &config.fit_options(usize::MAX), &mut |_, event| {
            match event {
                Event::Step { images, .. } => progress.images(images),
                Event::Evaluation { .. } => {}
                Event::Epoch { metrics, health } => {
                    progress.epoch(&metrics, config.epochs);
                    trained.epochs.push(metrics);
                    trained.health = health;
                }
            }
            Ok(if stops() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        Ok(match ended {
            Err(Error::Diverged { .. }) => End::Diverged,
            ended => match ended? {
                // A signal after the last epoch changes nothing about the training.
                ControlFlow::Break(()) if trained.epochs.len() < config.epochs as usize => End::Interrupted,
                _ => End::Done,
            },
        })
    }

    /// A measurement is done; `name` is what was measured.
    pub fn measured(&mut self, name: &str) {
        self.progress.training(name);
        self.progress.images(1);
    }

    /// The work is over.
    pub fn close(&self) {
        self.progress.clear();
    }
}

/// Whether the exercise has to come to its end.
pub fn stops() -> bool {
    signals::received().is_some() || output::failure().is_some()
}
