//! From 384 channels to 10 at once, and in steps.

use clap::Args;
use maud::Markup;
use mlpconv::nn::{Builder, Dropout, Flatten, GlobalAvgPool, Init, MaxPool, Sequential};
use mlpconv::{Backend, Result, Shape};

use super::super::page::{Axis, Bar, Bars, Chart, Scale};
use super::super::{bytes, grouped, metric};
use super::findings::{Findings, Table};
use super::lab::Lab;
use super::measure::{Part, Passes, Trial, milliseconds};
use super::trained::{Trained, accuracies, curve, results};
use super::{Comparison, Options, Question};

/// What becomes of 384x5x5 when it is reduced to 10x5x5 at once, instead of in steps of 192 and 96 channels?
///
/// Measures both reductions by themselves on 384x5x5, with 1x1 convolutions and ReLUs between them: parameters,
/// multiply-adds, time and memory. Then trains both as the end of the same network, which brings images of 28x28 to
/// 384x5x5, as the book's network brings those of 224x224: on the same images, for the same number of epochs, each with the same
/// seeds.
#[derive(Args)]
pub struct Reduce {
    #[command(flatten)]
    comparison: Comparison,
}

/// A way from 384 channels to those of the classes.
#[derive(Clone, Copy)]
struct Reduction {
    name: &'static str,
    /// Output channels of each 1×1 convolution.
    widths: &'static [usize],
}

const CHANNELS: usize = 384;
const SIDE: usize = 5;
const REDUCTIONS: [Reduction; 2] =
    [Reduction { name: "at once", widths: &[10] }, Reduction { name: "in steps", widths: &[192, 96, 10] }];

impl Part for Reduction {
    fn make<B: Backend>(&self, backend: &B) -> Result<Sequential<B>> {
        let mut build = Builder::new(backend, Init::He, 0);
        Ok(Sequential::new().push(build.nin_block(CHANNELS, self.widths.to_vec(), 1, 1, 0)?.with_linear_output()))
    }
}

impl Reduction {
    /// The channels in the order in which they are computed: `384, 192, 96, 10`.
    fn channels(&self) -> String {
        let widths = [CHANNELS].iter().chain(self.widths).map(ToString::to_string);
        widths.collect::<Vec<_>>().join(" -> ")
    }

    fn trial(self, batch: usize) -> Trial<Self> {
        Trial { part: self, input: Shape::image(batch, CHANNELS, SIDE, SIDE), dgrad: true }
    }

    /// The network that ends in this reduction: behind the book's first three blocks if it is `full`, else behind three blocks
    /// that give 384×5×5 for an image of 28×28 pixels.
    fn net<B: Backend>(&self, backend: &B, seed: u64, full: bool) -> Result<Sequential<B>> {
        const POOL: MaxPool = MaxPool { window: 3, stride: 2 };
        let mut build = match full {
            true => Builder::new(backend, Init::Xavier, seed).with_bias(Init::FanIn),
            false => Builder::new(backend, Init::He, seed),
        };
        let net = match full {
            true => Sequential::new()
                .push(build.nin_block(1, 96, 11, 4, 0)?)
                .push(POOL)
                .push(build.nin_block(96, 256, 5, 1, 2)?)
                .push(POOL)
                .push(build.nin_block(256, CHANNELS, 3, 1, 1)?)
                .push(POOL),
            false => Sequential::new()
                .push(build.nin_block(1, 48, 5, 2, 0)?)
                .push(POOL)
                .push(build.nin_block(48, 96, 3, 1, 1)?)
                .push(build.nin_block(96, [128, 128, CHANNELS], 3, 1, 1)?),
        };
        let reduction = build.nin_block(CHANNELS, self.widths.to_vec(), 1, 1, 0)?.with_linear_output();
        Ok(net.push(Dropout(0.5)).push(reduction).push(GlobalAvgPool).push(Flatten))
    }
}

/// What a reduction costs by itself.
struct Cost {
    params: usize,
    /// Multiply-adds of inference, an image.
    macs: usize,
    passes: Passes,
}

impl Question for Reduce {
    const NAME: &'static str = "reduce";

    fn options(&self) -> &Options {
        &self.comparison.options
    }

    fn answer<B: Backend<Scalar = f32>>(&self, lab: &mut Lab<B>) -> Result<Findings> {
        let Options { full, device, .. } = &self.comparison.options;
        let (images, config) = self.comparison.begin(lab, [20_000, 5])?;
        let backend = lab.backend.clone();

        let mut costs = Vec::new();
        for reduction in &REDUCTIONS {
            let summary = reduction.trial(1).summary()?;
            let passes = reduction.trial(config.batch_size).passes(device)?;
            costs.push(Cost { params: summary.params(), macs: summary.forward_macs(), passes });
        }
        let names = REDUCTIONS.each_ref().map(|reduction| reduction.name);
        let trainings = lab.train_all(&names, self.comparison.seeds, &config, &images, |index, seed| {
            REDUCTIONS[index].net(&backend, seed, *full)
        })?;

        Ok(Findings {
            sentences: sentences(&costs, &trainings),
            pictures: pictures(&costs, &trainings),
            table: table(&costs, &trainings),
            results: with_costs(results(&trainings), &costs),
            settings: self.comparison.settings(&config, &images),
            files: Vec::new(),
        })
    }
}

fn table(costs: &[Cost], trainings: &[Trained]) -> Table {
    let mut table = Table::new([
        "reduction",
        "parameters",
        "multiply-adds an image",
        "inference",
        "forward and backward",
        "memory",
        "test accuracy (range)",
    ]);
    for (reduction, Cost { params, macs, passes }) in REDUCTIONS.iter().zip(costs) {
        let reached = accuracies(trainings, reduction.name).map_or("–".into(), |reached| reached.to_string());
        table.push([
            format!("{}: {}", reduction.name, reduction.channels()),
            grouped(*params),
            grouped(*macs),
            milliseconds(passes.inference.seconds),
            milliseconds(passes.training.seconds),
            bytes(passes.training.measured),
            reached,
        ]);
    }
    table
}

/// The epochs of the trainings, each with the costs of its reduction.
fn with_costs(mut results: Table, costs: &[Cost]) -> Table {
    results.head.extend([
        "parameters",
        "forward_macs",
        "batch_inference_seconds",
        "batch_training_seconds",
        "batch_training_bytes",
    ]);
    for row in &mut results.rows {
        let Some(index) = REDUCTIONS.iter().position(|reduction| row[0] == reduction.name) else { continue };
        let Cost { params, macs, passes } = &costs[index];
        row.extend([params.to_string(), macs.to_string()]);
        row.extend([passes.inference.seconds, passes.training.seconds].map(|seconds| seconds.to_string()));
        row.push(passes.training.measured.to_string());
    }
    results
}

fn pictures(costs: &[Cost], trainings: &[Trained]) -> Vec<Markup> {
    let reached = REDUCTIONS.iter().zip(costs).filter_map(|(reduction, cost)| {
        let reached = accuracies(trainings, reduction.name)?;
        let note = format!("{} parameters, {} multiply-adds", grouped(cost.params), metric(cost.macs));
        Some(Bar { name: reduction.name.into(), value: reached.mean(), range: Some(reached.range()), note, series: 0 })
    });
    let times = REDUCTIONS.iter().zip(costs).map(|(reduction, cost)| {
        let (value, note) = (cost.passes.training.seconds * 1e3, reduction.channels());
        Bar { name: reduction.name.into(), value, range: None, note, series: 0 }
    });
    let axis = |label: &str| Axis { label: label.into(), scale: Scale::Linear };
    vec![
        Bars {
            title: "Test accuracy by reduction".into(),
            label: "test accuracy: mean, lowest and highest of the seeds".into(),
            scale: Scale::Linear,
            bars: reached.collect(),
        }
        .figure(),
        Bars {
            title: "Time of the reduction by itself".into(),
            label: "forward and backward, milliseconds a batch".into(),
            scale: Scale::Linear,
            bars: times.collect(),
        }
        .figure(),
        Chart {
            title: "Test accuracy after each epoch".into(),
            x: axis("epoch"),
            y: axis("test accuracy"),
            series: REDUCTIONS.iter().map(|reduction| curve(trainings, reduction.name, f64::from)).collect(),
        }
        .figure(),
    ]
}

fn sentences(costs: &[Cost], trainings: &[Trained]) -> [String; 2] {
    let [once, steps] = [&costs[0], &costs[1]];
    let times = |of: fn(&Cost) -> f64| of(steps) / of(once);
    let first = format!(
        "384 -> 10 at once has {} parameters and {} multiply-adds an image; in steps it is {:.1} times the parameters, {:.1} times \
         the multiply-adds, and {:.1} times the time forward and backward.",
        grouped(once.params),
        grouped(once.macs),
        times(|cost| cost.params as f64),
        times(|cost| cost.macs as f64),
        times(|cost| cost.passes.training.seconds),
    );
    let [once, steps] = [0, 1].map(|index: usize| accuracies(trainings, REDUCTIONS[index].name));
    let second = match (once, steps) {
        (Some(once), Some(steps)) => format!(
            "The network that reduces at once gets a test accuracy of {once}; in steps it is {}.",
            steps.beside(&once)
        ),
        _ => "What the networks get is not known, as they were not trained to the end.".into(),
    };
    [first, second]
}

#[cfg(test)]
mod tests {
    use mlpconv::nn::Summary;
    use mlpconv::{Cpu, Shape};

    use super::*;

    /// Counted by hand: weights, biases, and a multiply-add for each weight and pixel.
    #[test]
    fn the_reductions_cost_what_a_hand_count_gives() {
        let counts = REDUCTIONS.map(|reduction| {
            let summary = reduction.trial(1).summary().unwrap();
            (summary.params(), summary.forward_macs())
        });
        let steps = (384 * 192, 192 * 96, 96 * 10);
        assert_eq!(steps, (73_728, 18_432, 960));
        assert_eq!(counts[0], (384 * 10 + 10, 25 * 384 * 10));
        assert_eq!(counts[0], (3_850, 96_000));
        assert_eq!(counts[1], (93_120 + 192 + 96 + 10, 25 * 93_120));
        assert_eq!(counts[1], (93_418, 2_328_000));
    }

    #[test]
    fn networks_bring_their_images_to_384x5x5() {
        let backend = Cpu::<f32>::new();
        for (full, size) in [(false, 28), (true, 224)] {
            for reduction in &REDUCTIONS {
                let net = reduction.net(&backend, 0, full).unwrap();
                let summary = Summary::new(&net, Shape::image(2, 1, size, size)).unwrap();
                let dropout = summary.layers.iter().find(|layer| layer.name.starts_with("Dropout")).unwrap();
                assert_eq!(dropout.output.dims(), [2, 384, 5, 5]);
                assert_eq!(summary.layers.last().unwrap().output.dims(), [2, 10]);
                let convolutions = summary.layers.iter().filter(|layer| layer.params > 0).count();
                assert_eq!(convolutions, 9 + reduction.widths.len());
            }
        }
    }
}
