//! Two, one and no 1×1 convolutions in each block.

use clap::Args;
use mlpconv::train::TrainConfig;
use mlpconv::{Backend, Result};

use super::super::page::{Axis, Bar, Bars, Chart, Scale};
use super::findings::{Findings, Table};
use super::lab::{Estimate, Lab, settings};
use super::nets::{Cost, Variant, preset};
use super::spread::Spread;
use super::trained::{Trained, accuracies, curve, results};
use super::{Budget, Options, Question};

/// Why does a NiN block have two 1x1 convolutions? Removes one of them, then both, and compares
///
/// Trains the network with two 1x1 convolutions in each block, as in the chapter, with one, and with none, where a block is a
/// plain convolution: on the same images, for the same number of epochs, each with the same seeds. Test accuracies are
/// told as their mean over the seeds with the lowest and the highest, parameters and multiply-adds beside. A difference
/// counts where these ranges do not touch.
#[derive(Args)]
pub struct OneByOne {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    budget: Budget,
    /// Trainings of each network, with seeds 0, 1, 2 ...
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
}

/// The networks by their names, and the number of 1×1 convolutions in each block.
const NETWORKS: [(&str, usize); 3] = [("two 1x1", 2), ("one 1x1", 1), ("no 1x1", 0)];

impl Question for OneByOne {
    const NAME: &'static str = "one-by-one";

    fn options(&self) -> &Options {
        &self.options
    }

    fn answer<B: Backend<Scalar = f32>>(&self, lab: &mut Lab<B>) -> Result<Findings> {
        let preset = preset(self.options.full);
        let (by_default, epochs) = if self.options.full { (usize::MAX, 10) } else { (20_000, 5) };
        let images = lab.images(&self.budget, by_default)?;
        let config = lab.config(preset, self.budget.epochs(epochs));
        let backend = lab.backend.clone();
        let net = |pointwise, seed| Variant { pointwise, ..Variant::of(preset) }.net(&backend, seed);

        let (mut costs, mut estimate) = (Vec::new(), Estimate::default());
        for (_, pointwise) in NETWORKS {
            costs.push(Cost::of(&net(pointwise, 0)?, config.resize)?);
            estimate += lab.estimate(net(pointwise, 0)?, &config, &images)? * self.seeds as usize;
        }
        let (seeds, epochs) = (self.seeds, config.epochs);
        let plan = format!(
            "{} trainings of {epochs} epochs: two, one and no 1x1 convolutions in each block, each with {seeds} seeds",
            seeds * NETWORKS.len() as u64
        );
        lab.begin(&plan, estimate);
        let mut trainings = Vec::new();
        // Seed by seed, so that an interruption leaves as many of each network.
        for seed in 0..seeds {
            for (name, pointwise) in NETWORKS {
                let config = TrainConfig { seed, ..config.clone() };
                trainings.push(lab.train(name, net(pointwise, seed)?, &config, &images)?);
            }
        }

        let mut table =
            Table::new(["in each block", "test accuracy (range)", "seeds", "parameters", "multiply-adds an image"]);
        let mut bars = Vec::new();
        for ((name, _), cost) in NETWORKS.into_iter().zip(&costs) {
            let [params, macs] = cost.cells();
            let Some(reached) = accuracies(&trainings, name) else { continue };
            table.push([name.into(), reached.to_string(), reached.seeds().to_string(), params.clone(), macs.clone()]);
            let note = format!("{params} parameters, {macs} multiply-adds");
            bars.push(Bar { name: name.into(), value: reached.mean(), range: Some(reached.range()), note });
        }
        let bars = Bars {
            title: "Test accuracy by 1x1 convolutions in each block".into(),
            label: "test accuracy: mean, lowest and highest of the seeds".into(),
            scale: Scale::Linear,
            bars,
        };
        let axis = |label: &str| Axis { label: label.into(), scale: Scale::Linear };
        let curves = Chart {
            title: "Test accuracy after each epoch".into(),
            x: axis("epoch"),
            y: axis("test accuracy"),
            series: NETWORKS.iter().map(|(name, _)| curve(&trainings, name, f64::from)).collect(),
        };
        let mut settings = settings(&config, &images);
        settings.push(("seeds", format!("0 to {}", seeds - 1)));
        Ok(Findings {
            sentences: sentences(&trainings, &costs),
            pictures: vec![bars.figure(), curves.figure()],
            table,
            results: results(&trainings),
            settings,
            files: Vec::new(),
        })
    }
}

fn sentences(trainings: &[Trained], costs: &[Cost]) -> [String; 2] {
    let [two, one, none] = NETWORKS.map(|(name, _)| accuracies(trainings, name));
    let beside = |other: &Option<Spread>| match (other, &two) {
        (Some(other), Some(two)) => other.beside(two),
        _ => "not known, as it was not trained to the end".into(),
    };
    let first = format!(
        "With one 1x1 convolution in each block instead of two the test accuracy is {}; with none it is {}.",
        beside(&one),
        beside(&none)
    );
    let times = |index: usize| {
        let (cost, of): (Cost, Cost) = (costs[index], costs[0]);
        let ratio = |ours: usize, theirs: usize| ours as f64 / theirs as f64;
        let (params, macs) = (ratio(cost.params, of.params), ratio(cost.macs, of.macs));
        format!("{params:.2} times the parameters and {macs:.2} times the multiply-adds")
    };
    let best =
        NETWORKS.iter().zip([&two, &one, &none]).filter_map(|((name, _), reached)| Some((name, reached.as_ref()?)));
    let best = best.max_by(|(_, a), (_, b)| a.mean().total_cmp(&b.mean()));
    let best =
        best.map_or(String::new(), |(name, best)| format!("; the highest mean, {:.4}, is that of {name}", best.mean()));
    [first, format!("One takes {} of two, none {}{best}.", times(1), times(2))]
}
