//! NiN beside a network like AlexNet: accuracy against epochs and against multiply-adds.

use clap::Args;
use mlpconv::nn::{Builder, Conv2d, Dropout, Flatten, MaxPool, Sequential};
use mlpconv::train::Preset;
use mlpconv::{Backend, Result};

use super::super::metric;
use super::super::page::{Axis, Chart, Scale};
use super::findings::{Findings, Table};
use super::lab::Lab;
use super::nets::{Cost, Variant};
use super::spread::Spread;
use super::trained::{Trained, accuracies, curve, results};
use super::{Comparison, Options, Question};

/// How does NiN converge beside AlexNet? Compares accuracy by epochs and by multiply-adds
///
/// Trains NiN and a network like AlexNet on the same images, for the same number of epochs, in batches of the same size, each with
/// the same seeds, and draws the test accuracy against epochs, and against the multiply-adds that training has taken.
/// At 28x28 the network like AlexNet has the channels of NiN's blocks in its first three convolutions (5x5/2 to 48, 5x5 to 96, 3x3 to
/// 192), two more 3x3 convolutions to 192 and 128 channels, and instead of NiN's last block and its average two fully connected layers
/// of 512 with dropout after each, and one of 10. With --full it is the chapter's AlexNet. A fully connected layer is a convolution
/// with a filter as large as its image.
#[derive(Args)]
pub struct Convergence {
    #[command(flatten)]
    comparison: Comparison,
}

const NIN: &str = "NiN";
const ALEXNET: &str = "like AlexNet";
const NETWORKS: [&str; 2] = [NIN, ALEXNET];

impl Question for Convergence {
    const NAME: &'static str = "convergence";

    fn options(&self) -> &Options {
        &self.comparison.options
    }

    fn answer<B: Backend<Scalar = f32>>(&self, lab: &mut Lab<B>) -> Result<Findings> {
        let (images, config) = self.comparison.begin(lab, [20_000, 8])?;
        let preset = config.preset;
        let backend = lab.backend.clone();
        let net = |name: &str, seed| match name {
            NIN => Variant::of(preset).net(&backend, seed),
            _ => like_alexnet(&backend, preset, seed),
        };
        let mut costs = Vec::new();
        for name in NETWORKS {
            costs.push(Cost::of(&net(name, 0)?, config.resize)?);
        }
        let trainings = lab
            .train_all(&NETWORKS, self.comparison.seeds, &config, &images, |index, seed| net(NETWORKS[index], seed))?;

        // Of all epochs up to one.
        let macs = |cost: &Cost, epoch: u32| (cost.training_macs * images.train.len()) as f64 * f64::from(epoch);
        let mut table = Table::new([
            "network",
            "test accuracy (range)",
            "after epoch 1",
            "parameters",
            "multiply-adds an image",
            "of the training",
        ]);
        for (name, cost) in NETWORKS.into_iter().zip(&costs) {
            let [params, forward] = cost.cells();
            let Some(reached) = accuracies(&trainings, name) else { continue };
            let first = first_epoch(&trainings, name).map_or(String::new(), |first| first.to_string());
            let in_all = metric(macs(cost, config.epochs) as usize);
            table.push([name.into(), reached.to_string(), first, params, forward, in_all]);
        }
        let chart = |title: &str, x: &str, at: &dyn Fn(&Cost, u32) -> f64| {
            let axis = |label: &str| Axis { label: label.into(), scale: Scale::Linear };
            let of = |(name, cost): (&str, &Cost)| curve(&trainings, name, |epoch| at(cost, epoch));
            let series = NETWORKS.into_iter().zip(&costs).map(of).collect();
            Chart { title: title.into(), x: axis(x), y: axis("test accuracy"), series }.figure()
        };
        let by_epochs = chart("Test accuracy by epochs", "epoch", &|_, epoch| f64::from(epoch));
        let tera = |cost: &Cost, epoch: u32| macs(cost, epoch) / 1e12;
        let by_macs = chart("Test accuracy by multiply-adds", "multiply-adds of training, in units of 10¹²", &tera);
        let mut settings = self.comparison.settings(&config, &images);
        settings.push((ALEXNET, LAYERS[usize::from(self.comparison.options.full)].into()));
        Ok(Findings {
            sentences: sentences(&trainings, &costs),
            pictures: vec![by_epochs, by_macs],
            table,
            results: results(&trainings),
            settings,
            files: Vec::new(),
        })
    }
}

/// The layers of [`like_alexnet`], small and in full.
const LAYERS: [&str; 2] = [
    "conv 5x5/2 48, pool 3/2, conv 5x5 96, pool 3/2, conv 3x3 192, conv 3x3 192, conv 3x3 128, fully connected 512, 512, 10; ReLU \
     after each but the last, dropout 0.5 after each of 512",
    "conv 11x11/4 96, pool 3/2, conv 5x5 256, pool 3/2, conv 3x3 384, conv 3x3 384, conv 3x3 256, pool 3/2, fully connected 4096, \
     4096, 10; ReLU and dropout 0.5 after each fully connected layer but the last",
];

/// A network like AlexNet, for the images of a preset: five convolutions, and three fully connected layers, which are
/// convolutions with a filter as large as their image. Weights as in the preset's NiN.
fn like_alexnet<B: Backend>(backend: &B, preset: Preset, seed: u64) -> Result<Sequential<B>> {
    const POOL: MaxPool = MaxPool { window: 3, stride: 2 };
    let Variant { init: [weight, bias], .. } = Variant::of(preset);
    let mut build = Builder::new(backend, weight, seed).with_bias(bias);
    let mut conv = |inputs, outputs, [filter, stride, pad]: [usize; 3]| {
        build.conv2d(inputs, outputs, filter, stride, pad).map(Conv2d::with_relu)
    };
    let (features, [channels, side, hidden]) = match preset {
        Preset::D2l => {
            let net = Sequential::new()
                .push(conv(1, 96, [11, 4, 1])?)
                .push(POOL)
                .push(conv(96, 256, [5, 1, 2])?)
                .push(POOL)
                .push(conv(256, 384, [3, 1, 1])?)
                .push(conv(384, 384, [3, 1, 1])?)
                .push(conv(384, 256, [3, 1, 1])?)
                .push(POOL);
            (net, [256, 5, 4096])
        }
        _ => {
            let net = Sequential::new()
                .push(conv(1, 48, [5, 2, 2])?)
                .push(POOL)
                .push(conv(48, 96, [5, 1, 2])?)
                .push(POOL)
                .push(conv(96, 192, [3, 1, 1])?)
                .push(conv(192, 192, [3, 1, 1])?)
                .push(conv(192, 128, [3, 1, 1])?);
            (net, [128, 2, 512])
        }
    };
    let (first, second) = (conv(channels, hidden, [side, 1, 0])?, conv(hidden, hidden, [1, 1, 0])?);
    let heads = features.push(first).push(Dropout(0.5)).push(second).push(Dropout(0.5));
    Ok(heads.push(build.conv2d(hidden, 10, 1, 1, 0)?).push(Flatten))
}

/// The accuracies of a network after the first epoch.
fn first_epoch(trainings: &[Trained], network: &str) -> Option<Spread> {
    let of = trainings.iter().filter(|trained| trained.network == network);
    Spread::of(of.filter_map(|trained| trained.epochs.first()).map(|first| first.test_accuracy))
}

fn sentences(trainings: &[Trained], costs: &[Cost]) -> [String; 2] {
    let beside = |nin: Option<Spread>, other: Option<Spread>| match (nin, other) {
        (Some(nin), Some(other)) => nin.beside(&other),
        _ => "not known, as one of them was not trained so far".into(),
    };
    let first = beside(first_epoch(trainings, NIN), first_epoch(trainings, ALEXNET));
    let last = beside(accuracies(trainings, NIN), accuracies(trainings, ALEXNET));
    let one = format!(
        "Beside the network {ALEXNET}, NiN's test accuracy is {first} after the first epoch; after the last it is {last}."
    );
    let [nin, other] = [&costs[0], &costs[1]];
    let ratio = |ours: usize, theirs: usize| ours as f64 / theirs as f64;
    let (params, macs) = (ratio(nin.params, other.params), ratio(nin.training_macs, other.training_macs));
    let two = format!("It has {params:.2} times the parameters, and an epoch takes {macs:.2} times the multiply-adds");
    [one, two + &at_equal_cost(trainings, costs)]
}

/// The end of a sentence: the mean accuracies where both networks have taken as many multiply-adds as the cheaper one takes in
/// all, the other between two epochs.
fn at_equal_cost(trainings: &[Trained], costs: &[Cost]) -> String {
    let [nin, other] = [(NIN, &costs[0]), (ALEXNET, &costs[1])]
        .map(|(name, cost)| curve(trainings, name, |epoch| f64::from(epoch) * cost.training_macs as f64).points);
    let end = |points: &[[f64; 2]]| points.last().map_or(0.0, |[macs, _]| *macs);
    let at = end(&nin).min(end(&other));
    let (Some(ours), Some(theirs)) = (value_at(&nin, at), value_at(&other, at)) else { return ".".into() };
    let (more, less) = if ours >= theirs { (NIN, "the other") } else { ("the other", NIN) };
    let (high, low) = (ours.max(theirs), ours.min(theirs));
    format!(
        "; after as many multiply-adds as the cheaper one takes in all, {more} is at {high:.4} and {less} at {low:.4} on average."
    )
}

/// The value of a curve at `x`, between its points on a straight line; `None` before the first.
fn value_at(points: &[[f64; 2]], x: f64) -> Option<f64> {
    let after = points.iter().position(|[at, _]| *at >= x)?;
    let [to, high] = points[after];
    match after.checked_sub(1) {
        None => (to == x).then_some(high),
        Some(before) => {
            let [from, low] = points[before];
            Some(low + (high - low) * (x - from) / (to - from))
        }
    }
}

#[cfg(test)]
mod tests {
    use mlpconv::nn::Summary;
    use mlpconv::{Cpu, Shape};

    use super::*;

    /// Its first fully connected layer has 6400 × 4096 weights and 4096 biases, as the last pool leaves 256×5×5.
    #[test]
    fn the_full_network_is_the_chapters_alexnet() {
        let backend = Cpu::<f32>::new();
        let net = like_alexnet(&backend, Preset::D2l, 0).unwrap();
        let summary = Summary::new(&net, Shape::image(1, 1, 224, 224)).unwrap();
        assert_eq!(
            summary.layers.iter().find(|layer| layer.params == 26_218_496).unwrap().input,
            Shape::image(1, 256, 5, 5)
        );
        assert_eq!(summary.layers.last().unwrap().output, Shape::matrix(1, 10));
    }

    #[test]
    fn the_small_network_ends_in_ten_logits() {
        let net = like_alexnet(&Cpu::<f32>::new(), Preset::Small, 0).unwrap();
        let summary = Summary::new(&net, Shape::image(1, 1, 28, 28)).unwrap();
        assert_eq!(summary.layers.last().unwrap().output, Shape::matrix(1, 10));
    }

    #[test]
    fn a_curve_is_straight_between_its_points() {
        let points = [[1.0, 0.5], [3.0, 0.75]];
        assert_eq!(
            [0.5, 1.0, 2.0, 3.0, 4.0].map(|x| value_at(&points, x)),
            [None, Some(0.5), Some(0.625), Some(0.75), None]
        );
    }
}
