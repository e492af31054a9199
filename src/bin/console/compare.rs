//! `mlpconv compare`: several runs in one page, and in a table on standard output.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use maud::{Markup, html};
use mlpconv::Result;
use mlpconv::train::{EpochMetrics, Run, Score};

use super::page::{Page, Series, table};
use super::report::curves::{self, chart, series};
use super::say;

/// The arguments of `mlpconv compare`.
#[derive(clap::Args)]
pub struct CompareArgs {
    /// The run folders
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "compare.html")]
    out: PathBuf,
}

/// A run to compare.
struct Compared {
    name: String,
    settings: Vec<(String, String)>,
    /// As [`TrainConfig::measured`](mlpconv::train::TrainConfig::measured).
    measured: &'static str,
    metrics: Vec<EpochMetrics>,
    scores: Vec<Score>,
}

impl Compared {
    fn open(folder: &Path) -> Result<Self> {
        let run = Run::open(folder)?;
        let (name, settings) = (curves::name(folder), curves::settings(run.config()));
        let measured = run.config().measured();
        Ok(Compared { name, settings, measured, metrics: run.metrics()?, scores: run.scores()? })
    }

    fn setting(&self, name: &str) -> &str {
        self.settings.iter().find(|(setting, _)| setting == name).map_or("", |(_, value)| value)
    }

    fn seconds(&self) -> f64 {
        self.metrics.iter().map(|epoch| epoch.train_seconds).sum()
    }

    /// The run's figures, for [`HEAD`].
    fn row(&self) -> Vec<String> {
        let told = |accuracy: Option<f64>| accuracy.map_or("–".into(), |accuracy| format!("{accuracy:.4}"));
        let accuracy = |epoch: Option<&EpochMetrics>| told(epoch.map(|epoch| epoch.test_accuracy));
        let (epochs, best) = (self.metrics.len(), curves::best(&self.metrics));
        let each = if epochs > 0 { format!("{:.1}", self.seconds() / epochs as f64) } else { "–".into() };
        vec![
            self.name.clone(),
            self.setting("preset").to_owned(),
            self.setting("data").to_owned(),
            self.measured.to_owned(),
            format!("{epochs}/{}", self.setting("epochs")),
            accuracy(self.metrics.last()),
            accuracy(best),
            best.map_or("–".into(), |epoch| epoch.epoch.to_string()),
            told(self.scores.last().map(|score| score.accuracy)),
            format!("{:.1}", self.seconds()),
            each,
        ]
    }
}

/// The figures of a run: accuracies on the images that it measures after each epoch, its final score on the test images, and
/// seconds of training.
const HEAD: [&str; 11] =
    ["run", "preset", "data", "on", "epochs", "last", "best", "in epoch", "score", "seconds", "an epoch"];

/// Compares runs: a page with their curves, and a table on standard output.
///
/// # Errors
/// [`Error`](mlpconv::Error) with the name of a folder that is no run or cannot be read, or for a file that cannot be
/// written.
pub fn compare(args: &CompareArgs) -> Result<()> {
    let mut runs = args.runs.iter().map(|folder| Compared::open(folder)).collect::<Result<Vec<_>>>()?;
    distinguish(&mut runs, &args.runs);
    let rows: Vec<_> = runs.iter().map(Compared::row).collect();
    page(&runs, &rows).write(&args.out)?;
    lines(&rows).iter().for_each(say);
    say(format_args!("page     {}", args.out.display()));
    Ok(())
}

/// Runs whose folders have the same name are named by the whole paths.
fn distinguish(runs: &mut [Compared], folders: &[PathBuf]) {
    let names: BTreeSet<&str> = runs.iter().map(|run| &*run.name).collect();
    if names.len() < runs.len() {
        for (run, folder) in runs.iter_mut().zip(folders) {
            run.name = folder.display().to_string();
        }
    }
}

fn page(runs: &[Compared], rows: &[Vec<String>]) -> Page {
    let lead = html! {
        p {
            (runs.len()) " runs. Accuracies are of the images that are measured after each epoch, the test images or a holdout; \
             the score, which recipes with averages, mirror images or a holdout have, is of the test images. Seconds are of \
             training."
        }
    };
    let mut page = Page::new("Runs compared", lead);
    page.section("Results", table(&HEAD, rows));
    page.section("Curves", curves_of(runs));
    page.section("Settings that differ", differences(runs));
    page
}

fn curves_of(runs: &[Compared]) -> Markup {
    let by_epoch = |y: fn(&EpochMetrics) -> f64| -> Vec<Series> {
        runs.iter().map(|run| series(&run.name, &run.metrics, |epoch| f64::from(epoch.epoch), y)).collect()
    };
    let by_time = |run: &Compared| {
        let mut seconds = 0.0;
        let point = |epoch: &EpochMetrics| {
            seconds += epoch.train_seconds;
            [seconds, epoch.test_accuracy]
        };
        Series { name: run.name.clone(), points: run.metrics.iter().map(point).collect(), band: Vec::new() }
    };
    let timed = runs.iter().map(by_time).collect();
    let of = |what: &str| runs.iter().all(|run| run.measured == what);
    let measured = if of("test") {
        "Test"
    } else if of("holdout") {
        "Holdout"
    } else {
        "Test or holdout"
    };
    html! {
        div.figures {
            (chart(&format!("{measured} accuracy"), "epoch", "share of images", by_epoch(|epoch| epoch.test_accuracy)).figure())
            (chart(&format!("{measured} accuracy by time"), "seconds of training", "share of images", timed).figure())
            (chart(&format!("{measured} loss"), "epoch", "cross-entropy", by_epoch(|epoch| epoch.test_loss)).figure())
            (chart("Training loss", "epoch", "cross-entropy", by_epoch(|epoch| epoch.loss)).figure())
        }
    }
}

/// The settings that are not the same in all runs: a row for each, a column for each run.
fn differences(runs: &[Compared]) -> Markup {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in runs.iter().flat_map(|run| &run.settings) {
        if !names.contains(&&**name) {
            names.push(name);
        }
    }
    let row = |name: &&str| {
        [(*name).to_owned()].into_iter().chain(runs.iter().map(|run| run.setting(name).to_owned())).collect()
    };
    let rows: Vec<Vec<String>> = names.iter().map(row).collect();
    let rows: Vec<Vec<String>> = rows.into_iter().filter(|row| row[1..].iter().any(|value| *value != row[1])).collect();
    let head: Vec<&str> = ["setting"].into_iter().chain(runs.iter().map(|run| &*run.name)).collect();
    html! { @if rows.is_empty() { p { "None." } } @else { (table(&head, &rows)) } }
}

/// A table as lines of text, in columns as wide as their longest cell.
fn lines(rows: &[Vec<String>]) -> Vec<String> {
    let head = HEAD.map(str::to_owned).to_vec();
    let all: Vec<&Vec<String>> = [&head].into_iter().chain(rows).collect();
    let widths: Vec<usize> =
        (0..HEAD.len()).map(|i| all.iter().map(|row| row[i].chars().count()).max().unwrap_or(0)).collect();
    let cell = |(i, text): (usize, &String)| match i {
        0..4 => format!("{text:<width$}", width = widths[i]),
        _ => format!("{text:>width$}", width = widths[i]),
    };
    all.iter().map(|row| row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ")).collect()
}
