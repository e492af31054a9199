//! The report of a run under way: renewed after each epoch, at a bounded cost.

use std::time::{Duration, Instant};

use mlpconv::data::Loader;
use mlpconv::nn::{Nin, Summary};
use mlpconv::train::{EpochMetrics, Run, Trainer};
use mlpconv::{Backend, Result};

use super::Report;
use super::look::{self, Look};
use crate::console::note;

/// The share of a run's time that its reports may take.
const SHARE: f64 = 0.02;
/// Images of a look while the run goes on, at most, and at least.
const FEW: usize = 1000;
const LEAST: usize = 250;
/// The image whose feature maps are shown.
const IMAGE: usize = 0;

/// The report of a run under way.
pub struct Renewal {
    test: Loader,
    /// The data set's title.
    data: String,
    network: Summary,
    /// The end of the last renewal, and the time that it took.
    last: Instant,
    cost: Duration,
    /// Seconds that a look takes for an image, if there was one.
    an_image: Option<f64>,
    warned: bool,
}

impl Renewal {
    /// The report of a run on the images of a loader. `network` is the summary for one image.
    pub fn new(test: Loader, data: String, network: Summary) -> Self {
        Renewal { test, data, network, last: Instant::now(), cost: Duration::ZERO, an_image: None, warned: false }
    }

    /// Renews the report after an epoch, unless the last renewal is so short ago that it would take more than its share of
    /// the time; after the epoch that `ends` the run in any case. A failure is no error, as a picture is not worth a run: it is told
    /// once.
    pub fn renew<B: Backend<Scalar = f32>>(&mut self, run: &Run, trainer: &Trainer<B, Nin<B>>, ends: bool) {
        let began = Instant::now();
        if !ends && self.last.elapsed().as_secs_f64() * SHARE < self.cost.as_secs_f64() {
            return;
        }
        if let Err(error) = self.write(run, trainer, ends)
            && !self.warned
        {
            self.warned = true;
            let name = Run::REPORT;
            note(format_args!("warning: {name} is not renewed: {error}; `mlpconv report` makes it from the run"));
        }
        (self.last, self.cost) = (Instant::now(), began.elapsed());
    }

    fn write<B: Backend<Scalar = f32>>(&mut self, run: &Run, trainer: &Trainer<B, Nin<B>>, ends: bool) -> Result<()> {
        let metrics = run.metrics()?;
        let Some(epoch) = metrics.last() else { return Ok(()) };
        let weights = format!("the weights after epoch {}", epoch.epoch);
        let most = self.affordable(&metrics, ends);
        let look = Look::of(&trainer.backend, &trainer.net, &self.test, run.config().measured(), most, IMAGE, weights)?;
        // A signal has broken it off.
        let Some(look) = look else { return Ok(()) };
        self.an_image = Some(look.cost.as_secs_f64() / look.images() as f64);
        let page = Report {
            run,
            metrics: &metrics,
            scores: &run.scores()?,
            data: &self.data,
            network: &self.network,
            device: &trainer.backend.name(),
            look: Some(&look),
        };
        page.page().write(&run.folder().join(Run::REPORT))
    }

    /// The images whose look takes its share of the time: of the last epoch's, or at the end of the whole run's.
    fn affordable(&self, metrics: &[EpochMetrics], done: bool) -> usize {
        let seconds = |epoch: &EpochMetrics| epoch.train_seconds + epoch.test_seconds;
        let Some(last) = metrics.last() else { return LEAST };
        let (time, most) = match done {
            true => (metrics.iter().map(seconds).sum(), look::MOST),
            false => (seconds(last), FEW),
        };
        let an_image = self.an_image.unwrap_or(last.test_seconds / self.test.dataset().len() as f64);
        ((SHARE * time / an_image.max(1e-9)) as usize).clamp(LEAST, most)
    }
}
