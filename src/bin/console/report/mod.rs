//! `report.html`, a run in one page: its curves, what its network makes of the test images, its settings. `mlpconv report`
//! makes it anew.

mod classes;
pub mod curves;
mod look;
mod maps;
pub mod picture;
mod renewal;

use std::path::{Path, PathBuf};
use std::time::Instant;

use maud::{Markup, html};
use mlpconv::data::Loader;
use mlpconv::nn::Summary;
use mlpconv::train::{EpochMetrics, Run, Score, TrainConfig};
use mlpconv::{Backend, Result, weights};

use super::chosen::WeightsArgs;
use super::data::Requested;
use super::device::{DeviceArgs, choose, on_device};
use super::memory::Steps;
use super::page::{Page, number, table};
use super::{grouped, metric, say};
use look::Look;
pub use renewal::Renewal;

/// The arguments of `mlpconv report`.
#[derive(clap::Args)]
pub struct ReportArgs {
    /// The run folder
    run: PathBuf,
    /// The file to write [default: report.html in the run folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    weights: WeightsArgs,
    /// The test image whose feature maps are shown, by its number from 0
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    image: usize,
    #[command(flatten)]
    device: DeviceArgs,
    /// Folder that holds the files of the data set [default: as in the run]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Writes the report of a run anew, from its metrics and its saved weights: the last ones, or those that are chosen.
///
/// # Errors
/// [`Error`](mlpconv::Error) for a folder that is no run, weights that do not fit, a data set that is not found, and a file
/// that cannot be written.
pub fn report(args: ReportArgs) -> Result<()> {
    let run = Run::open(&args.run)?;
    let weights = args.weights.of(&run)?;
    let folder = args.data_dir.as_deref().or(run.config().data_dir.as_deref());
    let data = Requested::new(&run.config().data, folder, run.config().resize)?;
    let device = choose(&args.device, None)?;
    on_device!(&device.backend, backend => anew(&args, &run, &weights, backend, data))
}

fn anew<B: Backend<Scalar = f32>>(
    args: &ReportArgs,
    run: &Run,
    file: &Path,
    backend: &B,
    data: Requested<'_>,
) -> Result<()> {
    let (config, metrics) = (run.config(), run.metrics()?);
    let (channels, classes) = (data.channels, data.classes);
    let mut net = config.preset.net_for(backend, config.seed, channels, classes)?;
    weights::load(backend, &mut net, file)?;
    let network = super::summarize(config.preset, &net, 1, channels, config.resize)?;
    let steps = Steps::of(backend, &net, config, channels, Loader::BATCHES, 0, None)?;
    let data = data.load()?;
    let test = config.test_loader(super::data::limited(data.test, config.test_limit))?;
    let began = Instant::now();
    let look = Look::of(backend, &net, &test, "test", look::MOST, args.image, curves::name(file));
    let look = look.map_err(|error| steps.explain(backend, error))?;
    let page = Report {
        run,
        metrics: &metrics,
        scores: &run.scores()?,
        data: &data.title,
        network: &network,
        device: &backend.name(),
        look: look.as_ref(),
    };
    let path = args.out.clone().unwrap_or_else(|| run.folder().join(Run::REPORT));
    page.page().write(&path)?;
    say(format_args!("report   {} in {:.1} s", path.display(), began.elapsed().as_secs_f64()));
    Ok(())
}

/// What a report shows.
struct Report<'a> {
    run: &'a Run,
    metrics: &'a [EpochMetrics],
    scores: &'a [Score],
    /// The data set's title.
    data: &'a str,
    /// Of one image.
    network: &'a Summary,
    /// The device of the network that was looked at.
    device: &'a str,
    look: Option<&'a Look>,
}

impl Report<'_> {
    fn page(&self) -> Page {
        let mut page = Page::new(format!("Run {}", curves::name(self.run.folder())), self.lead());
        if !self.scores.is_empty() {
            page.section("Scores", scores(self.scores));
        }
        page.section("Curves", curves::of_a_run(self.metrics, self.run.config().measured()));
        if let Some(look) = self.look {
            page.section("Classes", classes::section(look));
            page.section("Worst mistakes", classes::mistakes(look));
            page.section("One image through the network", maps::section(look));
            page.section("First-layer filters", maps::filters(look));
        }
        page.section("Settings", settings(self.run.config()));
        page.section("Network", network(self.network));
        page.section("Machine and time", self.machine());
        page
    }

    fn lead(&self) -> Markup {
        let config = self.run.config();
        html! {
            p {
                "Preset " (config.preset.to_string()) " on " (self.data)
                (format_args!(", {} of {} epochs. ", self.metrics.len(), config.epochs))
                @if let (Some(last), Some(best)) = (self.metrics.last(), curves::best(self.metrics)) {
                    @if let Some(score) = self.scores.last() {
                        (format_args!("Test accuracy {:.4} by {}. After the last epoch, ", score.accuracy, score.by()))
                    }
                    (format_args!("{} accuracy {:.4}", config.measured(), last.test_accuracy))
                    @if best.epoch != last.epoch {
                        (format_args!(", at best {:.4} after epoch {}", best.test_accuracy, best.epoch))
                    }
                    "."
                }
            }
        }
    }

    fn machine(&self) -> Markup {
        let mut rows = vec![vec!["device of the run".into(), self.run.config().device.clone()]];
        rows.push(vec!["device of this report".into(), self.device.into()]);
        rows.extend(processor().map(|name| vec!["processor".into(), name]));
        rows.push(vec!["system".into(), format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH)]);
        rows.push(vec!["program".into(), format!("mlpconv {}", env!("CARGO_PKG_VERSION"))]);
        let epochs = self.metrics.len();
        if epochs > 0 {
            let mean = |of: fn(&EpochMetrics) -> f64| self.metrics.iter().map(of).sum::<f64>() / epochs as f64;
            let seconds = |seconds: f64| format!("{} s", number(seconds));
            rows.push(vec!["training, an epoch".into(), seconds(mean(|epoch| epoch.train_seconds))]);
            rows.push(vec!["testing, an epoch".into(), seconds(mean(|epoch| epoch.test_seconds))]);
            rows.push(vec![
                "training, images a second".into(),
                number(mean(|epoch| epoch.examples_per_second).round()),
            ]);
        }
        rows.extend(self.look.map(|look| vec!["the look at the network".into(), seconds_of(look)]));
        table(&["", "value"], &rows)
    }
}

/// The scores at the run's end, on the test images.
fn scores(scores: &[Score]) -> Markup {
    let row = |score: &Score| {
        let figures = [score.loss, score.accuracy].map(|figure| format!("{figure:.4}"));
        [vec![score.by()], figures.to_vec(), vec![grouped(score.images)]].concat()
    };
    table(&["weights", "test loss", "test accuracy", "images"], &scores.iter().map(row).collect::<Vec<_>>())
}

fn seconds_of(look: &Look) -> String {
    let (seconds, images, all) = (number(look.cost.as_secs_f64()), grouped(look.images()), grouped(look.of));
    format!("{seconds} s for {images} of {all} {} images", look.measured)
}

/// The settings as in `config.toml`.
fn settings(config: &TrainConfig) -> Markup {
    let rows: Vec<Vec<String>> = curves::settings(config).into_iter().map(|(name, value)| vec![name, value]).collect();
    table(&["setting", "value"], &rows)
}

fn network(summary: &Summary) -> Markup {
    let mut rows: Vec<Vec<String>> = summary
        .layers
        .iter()
        .map(|layer| {
            let (output, params) = (layer.output.to_string(), grouped(layer.params));
            vec![layer.path.clone(), layer.name.clone(), output, params, metric(layer.macs)]
        })
        .collect();
    let (params, macs) = (grouped(summary.params()), metric(summary.forward_macs()));
    rows.push(vec!["in all".into(), String::new(), String::new(), params, macs]);
    html! {
        p { (format_args!("For one image, {}. Multiply-adds are of a forward pass.", summary.input)) }
        (table(&["layer", "operation", "output", "parameters", "multiply-adds"], &rows))
    }
}

/// The processor's name, where Linux tells it.
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.trim_start().strip_prefix(':'))?;
    Some(name.trim().to_owned())
}
