//! `mlpconv model`: an estimate of a training step on a GPU that is not at hand, launch by launch, and what binds each.

mod estimate;
mod gpus;
mod occupancy;
/// Matrix products that others have timed.
#[cfg(test)]
mod published;
mod tables;
mod together;

use std::path::PathBuf;

use maud::html;
use mlpconv::train::{Preset, TrainConfig};
use mlpconv::{Precision, Result};

use super::exercise::findings::Table;
use super::page::{self, Bar, Bars, Page, Scale};
use super::say;
use estimate::{Estimate, Pipe};
use gpus::ALONE;
pub use gpus::{GAP, Gpu, gpu};
use tables::{Launch, launches};

/// The arguments of `mlpconv model`.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// h200, h100, a100, 4090 or 3090
    #[arg(long, value_name = "NAME", default_value = "h200")]
    gpu: String,
    /// fp32, tf32 or bf16
    #[arg(long, default_value = "tf32")]
    precision: Precision,
    /// Images a batch
    #[arg(long, default_value_t = 128)]
    batch_size: usize,
    /// Write a page with a picture as well
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What the mark says.
const BESIDE: &str = "A launch marked + runs beside the next, whose time is what it adds; the two have one gap.";

fn mark(launch: &Launch) -> &'static str {
    if launch.beside { "+" } else { "" }
}

/// Prints the estimate.
///
/// # Errors
/// [`Error::Config`](mlpconv::Error::Config) for a GPU that is not in the list, or a batch that no run has;
/// [`Error::Io`](mlpconv::Error::Io) if the page cannot be written.
pub fn model(args: &ModelArgs) -> Result<()> {
    let (gpu, precision, batch) = (gpu(&args.gpu)?, args.precision, args.batch_size);
    // Blocks are placed one by one, so a batch has to be one that a run can have.
    TrainConfig { batch_size: batch, ..Preset::D2l.config() }.validate()?;
    let launches = launches(precision, &gpu.architecture(), batch);
    let times = Estimate::of_step(&launches, gpu, precision, batch);
    let estimates: Vec<(&Launch, Estimate)> = launches.iter().map(|(launch, _)| launch).zip(times).collect();
    let total: f64 = estimates.iter().map(|(_, estimate)| estimate.time).sum();
    let title = format!("Estimate: a training step of d2l at 224x224, {batch} images, {precision}, {}", gpu.title);
    say(format_args!("{title}\nNothing here was measured on that GPU.\n"));
    let head = ["launch", "us", "binds", "waves", "math", "issue", "shared", "L2", "memory"];
    let mut table = Table::new(head);
    for (i, (launch, estimate)) in estimates.iter().enumerate() {
        let [math, issue, shared, l2, memory] = estimate.pipes.map(|time| format!("{time:.1}"));
        let (name, time) = (format!("{:>2} {}{}", i + 1, launch.kernel, mark(launch)), format!("{:.1}", estimate.time));
        let (binds, waves) = (estimate.binds.name().to_owned(), format!("{:.2}", estimate.waves));
        table.push([name, time, binds, waves, math, issue, shared, l2, memory]);
    }
    say(table.text());
    let bound: Vec<String> = shares(&estimates).into_iter().map(|(pipe, time)| format!("{pipe} {time:.0}")).collect();
    say(format_args!(
        "\n{total:.0} us a step, {:.0} images/s; bound by: {} us",
        1e6 * batch as f64 / total,
        bound.join(", ")
    ));
    say(format_args!(
        "gaps: {GAP} us after each launch, a guess; a block alone takes {ALONE} of the others' time, a guess"
    ));
    say(BESIDE);
    say(format_args!("{}", gpu.sources));
    match &args.out {
        Some(path) => picture(&title, gpu, &estimates, &table, total).write(path),
        None => Ok(()),
    }
}

/// The estimate of a step of d2l.
#[derive(Debug)]
pub struct Step {
    /// The launches of both ways, in their order: kernels, and microseconds.
    pub launches: Vec<(String, f64)>,
    /// Microseconds of the update.
    pub update: f64,
}

impl Step {
    pub fn of(gpu: &Gpu, precision: Precision, batch: usize) -> Self {
        let mut step = Step { launches: Vec::new(), update: 0.0 };
        let launches = launches(precision, &gpu.architecture(), batch);
        let times = Estimate::of_step(&launches, gpu, precision, batch);
        for ((launch, code), estimate) in launches.iter().zip(times) {
            // The update is of parameters, whatever the batch.
            match launch.kernel == "sgd" {
                true => step.update += Estimate::of(launch, code, gpu, precision, launch.images).time,
                false => step.launches.push((launch.kernel.clone(), estimate.time)),
            }
        }
        step
    }

    /// Microseconds of both ways.
    pub fn compute(&self) -> f64 {
        self.launches.iter().map(|(_, time)| time).sum()
    }
}

/// The time of the launches that each pipe binds, the longest first.
fn shares(estimates: &[(&Launch, Estimate)]) -> Vec<(&'static str, f64)> {
    let time = |pipe: Pipe| -> f64 {
        estimates.iter().filter(|(_, estimate)| estimate.binds == pipe).map(|(_, estimate)| estimate.time).sum()
    };
    let mut shares: Vec<(&str, f64)> = Pipe::ALL.into_iter().map(|pipe| (pipe.name(), time(pipe))).collect();
    shares.retain(|(_, time)| *time > 0.0);
    shares.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    shares
}

fn picture(title: &str, gpu: &Gpu, estimates: &[(&Launch, Estimate)], table: &Table, total: f64) -> Page {
    let bar = |(i, (launch, estimate)): (usize, &(&Launch, Estimate))| Bar {
        name: format!("{} {}{}", i + 1, launch.kernel, mark(launch)),
        value: estimate.time,
        range: None,
        note: format!("bound by {}, {:.2} waves", estimate.binds.name(), estimate.waves),
        series: estimate.binds as usize,
    };
    let bars = Bars {
        title: "Launches, coloured by what binds each".into(),
        label: "microseconds, an estimate".into(),
        scale: Scale::Linear,
        bars: estimates.iter().enumerate().map(bar).collect(),
    };
    let lead = html! {
        p { "An estimate: nothing here was measured on that GPU. " (format_args!("{total:.0}")) " µs a step." }
        p { (BESIDE) }
        p { (gpu.sources) "." }
    };
    let mut page = Page::new(title, lead);
    page.section("Launches", bars.figure());
    page.section("Pipes", page::table(&table.head, &table.rows));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A launch without code would be missing in the sum.
    #[test]
    fn every_launch_has_code_on_every_gpu() {
        for (precision, gpu) in
            Precision::ALL.iter().flat_map(|precision| gpus::GPUS.iter().map(move |gpu| (precision, gpu)))
        {
            let architecture = gpu.architecture();
            for batch in [8, 128] {
                let coded = launches(*precision, &architecture, batch).len();
                let counted = tables::counted(*precision, &architecture, batch);
                assert!(counted > 30 && coded == counted, "{precision}, {}: {coded} of {counted} launches", gpu.name);
            }
        }
    }

    #[test]
    fn hopper_has_kernels_of_its_own_in_bf16() {
        let wide = |gpu: &str, precision, batch| {
            let all = launches(precision, &gpus::gpu(gpu).unwrap().architecture(), batch);
            all.iter().filter(|(launch, _)| launch.by_warpgroups()).count()
        };
        // The three passes of two convolutions.
        assert_eq!(wide("h200", Precision::Bf16, 128), 6);
        assert_eq!([wide("h200", Precision::Bf16, 8), wide("a100", Precision::Bf16, 128)], [0; 2]);
        assert_eq!([Precision::Fp32, Precision::Tf32].map(|precision| wide("h200", precision, 128)), [0; 2]);
    }
}
