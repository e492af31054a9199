//! Three, two, one and no 1×1 convolutions in each block.

use clap::Args;
use mlpconv::{Backend, Result};

use super::super::page::{Axis, Bar, Bars, Chart, Scale};
use super::findings::{Findings, Table};
use super::lab::Lab;
use super::nets::{Cost, Variant};
use super::spread::Spread;
use super::trained::{Trained, accuracies, curve, results};
use super::{Comparison, Options, Question};

/// Why does a NiN block have two 1x1 convolutions? Compares three, two, one and none
///
/// Trains the network with two 1x1 convolutions in each block, as in the chapter, with three, with one, and with none, where a
/// block is a plain convolution: on the same images, for the same number of epochs, each with the same seeds. Test accuracies are
/// told as their mean over the seeds with the lowest and the highest, parameters and multiply-adds beside. A difference
/// counts where these ranges do not touch.
#[derive(Args)]
pub struct OneByOne {
    #[command(flatten)]
    comparison: Comparison,
}

/// The networks by their names, and the number of 1×1 convolutions in each block.
const NETWORKS: [(&str, usize); 4] = [("three 1x1", 3), ("two 1x1", 2), ("one 1x1", 1), ("no 1x1", 0)];

impl Question for OneByOne {
    const NAME: &'static str = "one-by-one";

    fn options(&self) -> &Options {
        &self.comparison.options
    }

    fn answer<B: Backend<Scalar = f32>>(&self, lab: &mut Lab<B>) -> Result<Findings> {
        let (images, config) = self.comparison.begin(lab, [20_000, 5])?;
        let preset = config.preset;
        let backend = lab.backend.clone();
        let net = |pointwise, seed| Variant { pointwise, ..Variant::of(preset) }.net(&backend, seed);

        let mut costs = Vec::new();
        for (_, pointwise) in NETWORKS {
            costs.push(Cost::of(&net(pointwise, 0)?, config.resize)?);
        }
        let names = NETWORKS.map(|(name, _)| name);
        let trainings =
            lab.train_all(&names, self.comparison.seeds, &config, &images, |index, seed| net(NETWORKS[index].1, seed))?;

        let mut table =
            Table::new(["in each block", "test accuracy (range)", "seeds", "parameters", "multiply-adds an image"]);
        let mut bars = Vec::new();
        for ((name, _), cost) in NETWORKS.into_iter().zip(&costs) {
            let [params, macs] = cost.cells();
            let Some(reached) = accuracies(&trainings, name) else { continue };
            table.push([name.into(), reached.to_string(), reached.seeds().to_string(), params.clone(), macs.clone()]);
            let note = format!("{params} parameters, {macs} multiply-adds");
            bars.push(Bar { name: name.into(), value: reached.mean(), range: Some(reached.range()), note, series: 0 });
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
        Ok(Findings {
            sentences: sentences(&trainings, &costs),
            pictures: vec![bars.figure(), curves.figure()],
            table,
            results: results(&trainings),
            settings: self.comparison.settings(&config, &images),
            files: Vec::new(),
        })
    }
}

fn sentences(trainings: &[Trained], costs: &[Cost]) -> [String; 2] {
    let [three, two, one, none] = NETWORKS.map(|(name, _)| accuracies(trainings, name));
    let beside = |other: &Option<Spread>| match (other, &two) {
        (Some(other), Some(two)) => other.beside(two),
        _ => "not known, as it was not trained to the end".into(),
    };
    let first = format!(
        "With three 1x1 convolutions in each block instead of two the test accuracy is {}; with one it is {}; with none it is \
         {}.",
        beside(&three),
        beside(&one),
        beside(&none)
    );
    let times = |index: usize| {
        let (cost, of): (Cost, Cost) = (costs[index], costs[1]);
        let ratio = |ours: usize, theirs: usize| ours as f64 / theirs as f64;
        let (params, macs) = (ratio(cost.params, of.params), ratio(cost.macs, of.macs));
        format!("{params:.2} times the parameters and {macs:.2} times the multiply-adds")
    };
    let best = NETWORKS
        .iter()
        .zip([&three, &two, &one, &none])
        .filter_map(|((name, _), reached)| Some((name, reached.as_ref()?)));
    let best = best.max_by(|(_, a), (_, b)| a.mean().total_cmp(&b.mean()));
    let best =
        best.map_or(String::new(), |(name, best)| format!("; the highest mean, {:.4}, is that of {name}", best.mean()));
    [first, format!("Three take {} of two, one {}, none {}{best}.", times(0), times(2), times(3))]
}
