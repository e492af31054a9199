//! A search for rate, schedule, momentum and weight decay: successive halving of random configurations.

use std::sync::Arc;

use clap::Args;
use mlpconv::optim::Schedule;
use mlpconv::rng::{Purpose, Stream};
use mlpconv::train::TrainConfig;
use mlpconv::{Backend, Error, Result};

use super::super::grouped;
use super::super::page::{Axis, Chart, Scale, Series};
use super::findings::{Findings, Table};
use super::lab::{Images, Lab, settings};
use super::nets::preset;
use super::trained::{End, Trained};
use super::{Budget, Options, Question};

/// Tune the hyperparameters: searches rate, schedule, momentum and weight decay for the best accuracy
///
/// Successive halving of a random search. The preset's own recipe and configurations drawn at random (rates and weight decays on a
/// logarithmic scale) are trained on a part of the training images; the best third of them goes on to the next round, which begins
/// anew with three times as many images, and so on for three rounds of equal cost. What is best is told by 5,000 training images that
/// are held out. The winner is then trained on all training images, and its test accuracy is measured, once. The folder
/// holds it as best.toml: mlpconv train --config FOLDER/best.toml repeats that last training.
#[derive(Args)]
pub struct Tune {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    budget: Budget,
    /// Configurations in the first round, the preset's own among them
    #[arg(long, default_value_t = 18, value_parser = clap::value_parser!(u32).range(3..=10_000))]
    configurations: u32,
    /// Seed of the search
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// The rounds, and by what factor the number of configurations falls and that of the images grows.
const ROUNDS: u32 = 3;
const FACTOR: usize = 3;

/// A round: the configurations, and what they gave on the images that were held out. The best one is the first.
struct Round {
    images: usize,
    tried: Vec<(TrainConfig, Trained)>,
}

impl Question for Tune {
    const NAME: &'static str = "tune";

    fn options(&self) -> &Options {
        &self.options
    }

    fn answer<B: Backend<Scalar = f32>>(&self, lab: &mut Lab<B>) -> Result<Findings> {
        let preset = preset(self.options.full);
        let all = lab.images(&self.budget, usize::MAX)?;
        let (search, held_out) = split(&all)?;
        let own = lab.config(preset, self.budget.epochs(3));
        let backend = lab.backend.clone();
        let net = |config: &TrainConfig| config.preset.net(&backend, config.seed).map(Into::into);

        // Rounds are for as many images and configurations.
        let most = (search.train.len() * 2).div_ceil(FACTOR);
        let mut planned: Vec<(usize, usize)> = Vec::new();
        for round in 0..ROUNDS {
            let share = FACTOR.pow(round);
            let images = (most / FACTOR.pow(ROUNDS - 1 - round)).max(1);
            planned.push(((self.configurations as usize / share).max(1), images));
        }
        let pace = lab.pace(net(&own)?, &own, &search)?;
        let mut estimate = pace.training(own.epochs, all.train.len(), all.test.len());
        for &(count, images) in &planned {
            estimate += pace.training(own.epochs, images, held_out) * count;
        }
        let told: Vec<String> =
            planned.iter().map(|(count, images)| format!("{count} with {}", grouped(*images))).collect();
        let plan = format!(
            "rounds of {} training images, {} epochs each, selected on {} held out; then the best with all",
            told.join(", "),
            own.epochs,
            grouped(held_out)
        );
        lab.begin(&plan, estimate)?;

        let mut candidates: Vec<TrainConfig> = vec![own.clone()];
        candidates.extend((1..self.configurations).map(|index| drawn(&own, self.seed, index)));
        let mut rounds = Vec::new();
        for (count, images) in planned {
            candidates.truncate(count);
            let images = search.first(images);
            let mut tried = Vec::new();
            for config in &candidates {
                let trained = lab.train(&name(config), net(config)?, config, &images)?;
                if trained.end != End::Interrupted {
                    tried.push((config.clone(), trained));
                }
            }
            tried.sort_by(|(_, a), (_, b)| rank(a).total_cmp(&rank(b)).reverse());
            candidates = tried.iter().map(|(config, _)| config.clone()).collect();
            rounds.push(Round { images: images.train.len(), tried });
        }
        rounds.retain(|round| !round.tried.is_empty());
        // The best of the last round that has one.
        let best = limited(rounds.last().map_or(&own, |round| &round.tried[0].0), &self.budget, &all);
        let tested = lab.train("the best", net(&best)?, &best, &all)?.accuracy();

        let mut table =
            Table::new(["round", "images", "rate", "schedule", "momentum", "weight decay", "held-out accuracy"]);
        let mut results = Table::new([
            "round",
            "images",
            "learning_rate",
            "schedule",
            "momentum",
            "weight_decay",
            "held_out_accuracy",
            "held_out_loss",
            "end",
        ]);
        for (number, round) in rounds.iter().enumerate() {
            for (place, (config, trained)) in round.tried.iter().enumerate() {
                let (round, images) = ((number + 1).to_string(), round.images);
                let TrainConfig { learning_rate, schedule, momentum, weight_decay, .. } = config;
                let [rate, momentum, decay] = [learning_rate, momentum, weight_decay].map(f64::to_string);
                let accuracy = trained.accuracy().unwrap_or_default();
                let (loss, end) = match trained.epochs.last() {
                    Some(last) if trained.end == End::Done => (last.test_loss.to_string(), "done"),
                    _ => (String::new(), "diverged"),
                };
                let schedule = schedule.to_string();
                if place < SHOWN {
                    let (images, accuracy) = (grouped(images), format!("{accuracy:.4}"));
                    let row = [
                        round.clone(),
                        images,
                        rate.clone(),
                        schedule.clone(),
                        momentum.clone(),
                        decay.clone(),
                        accuracy,
                    ];
                    table.push(row);
                }
                let (images, accuracy) = (images.to_string(), accuracy.to_string());
                results.push([round, images, rate, schedule, momentum, decay, accuracy, loss, end.into()]);
            }
        }
        let pictures = rounds.first().map(|round| by_rate(round).figure()).into_iter().collect();
        let mut settings = settings(&own, &all);
        settings.retain(|(name, _)| *name != "recipe");
        settings.push(("held out for the selection", format!("the last {} training images", grouped(held_out))));
        settings.push(("search", search_space(self)));
        settings.push(("budget", plan));
        Ok(Findings {
            sentences: sentences(&own, &rounds, tested, &all),
            pictures,
            table,
            results,
            settings,
            files: vec![("best.toml", best_toml(&best)?)],
        })
    }
}

/// The configuration with the limits by which `train` takes as many images as the last training has.
fn limited(best: &TrainConfig, budget: &Budget, all: &Images) -> TrainConfig {
    // TOML holds no larger number than `i64::MAX`, and no data set has as many images.
    let train_limit = budget.images.map(|_| all.train.len());
    let test_limit = budget.test_images.map(|_| all.test.len());
    TrainConfig { train_limit, test_limit, ..best.clone() }
}

/// Rows of the table for each round.
const SHOWN: usize = 5;

/// The training images of the search, with those that are held out to measure, a twelfth; and how many these are.
fn split(all: &Images) -> Result<(Images, usize)> {
    let count = all.train.len();
    let held_out = (count / 12).max(1);
    if count < 2 {
        return Err(Error::Config {
            what: "images".into(),
            problem: "must be at least 2: one of them is held out".into(),
        });
    }
    let [train, test] = all.train.hold_out(held_out)?.map(Arc::new);
    Ok((Images { train, test }, held_out))
}

/// The rates, on a logarithmic scale.
const RATES: [f64; 2] = [0.003, 0.3];
const MOMENTA: [f64; 4] = [0.0, 0.5, 0.9, 0.95];
/// Two of three configurations have a weight decay within this, on a logarithmic scale.
const DECAYS: [f64; 2] = [1e-5, 1e-2];
const SCHEDULES: [Schedule; 4] = [
    Schedule::Constant,
    Schedule::Step { every: 1, factor: 0.3 },
    Schedule::Cosine { warmup: 0.0 },
    Schedule::Cosine { warmup: 0.5 },
];

fn search_space(tune: &Tune) -> String {
    let [schedules, momenta] =
        [SCHEDULES.map(|schedule| schedule.to_string()).join(", "), MOMENTA.map(|it| it.to_string()).join(", ")];
    format!(
        "seed {}; rates from {} to {}; schedules {schedules}; momenta {momenta}; weight decay 0, or from {} to {}",
        tune.seed, RATES[0], RATES[1], DECAYS[0], DECAYS[1]
    )
}

/// Configuration `index` of a search: a function of the search's seed and the index alone.
fn drawn(own: &TrainConfig, seed: u64, index: u32) -> TrainConfig {
    // The stream of a parameter's initial values, of which the search has none.
    let stream = Stream::new(seed, Purpose::Init { index }, 0, 0);
    let uniform = |element: usize| f64::from(stream.word(element)) / 2f64.powi(32);
    let logarithmic = |element, [low, high]: [f64; 2]| rounded(low * (high / low).powf(uniform(element)));
    let choice = |element, count: usize| (uniform(element) * count as f64) as usize;
    TrainConfig {
        learning_rate: logarithmic(0, RATES),
        schedule: SCHEDULES[choice(1, SCHEDULES.len())],
        momentum: MOMENTA[choice(2, MOMENTA.len())],
        weight_decay: if choice(3, 3) == 0 { 0.0 } else { logarithmic(4, DECAYS) },
        ..own.clone()
    }
}

/// The number with two significant digits, as people write rates.
fn rounded(number: f64) -> f64 {
    format!("{number:.1e}").parse().unwrap_or(number)
}

/// The name of a configuration, for readers.
fn name(config: &TrainConfig) -> String {
    let TrainConfig { learning_rate, schedule, momentum, weight_decay, .. } = config;
    format!("rate {learning_rate}, {schedule}, momentum {momentum}, weight decay {weight_decay}")
}

/// By what configurations are compared: accuracy, of equal ones the loss; those that diverged come last.
fn rank(trained: &Trained) -> f64 {
    match trained.epochs.last() {
        Some(last) if trained.end == End::Done => last.test_accuracy - 1e-9 * last.test_loss.min(1e3),
        _ => -1.0,
    }
}

/// The accuracies of a round by rate, a curve for each momentum.
fn by_rate(round: &Round) -> Chart {
    let of = |momentum: f64| {
        let own = round.tried.iter().filter(|(config, _)| config.momentum == momentum);
        let mut points: Vec<[f64; 2]> =
            own.filter_map(|(config, trained)| Some([config.learning_rate, trained.accuracy()?])).collect();
        points.sort_by(|a, b| a[0].total_cmp(&b[0]));
        Series { name: format!("momentum {momentum}"), points, band: Vec::new() }
    };
    let images = grouped(round.images);
    Chart {
        title: format!("Accuracy on held-out images by rate, of all configurations with {images} images"),
        x: Axis { label: "learning rate".into(), scale: Scale::Log },
        y: Axis { label: "accuracy on held-out images".into(), scale: Scale::Linear },
        series: MOMENTA.into_iter().map(of).filter(|series| !series.points.is_empty()).collect(),
    }
}

/// The configuration as `train --config` takes it. Device and precision are those of whoever trains.
fn best_toml(best: &TrainConfig) -> Result<String> {
    let problem = |error: toml::ser::Error| Error::Config { what: "best.toml".into(), problem: error.to_string() };
    let mut settings = toml::Table::try_from(best).map_err(problem)?;
    settings.remove("device");
    settings.remove("precision");
    toml::to_string(&settings).map_err(problem)
}

fn sentences(own: &TrainConfig, rounds: &[Round], tested: Option<f64>, all: &Images) -> [String; 2] {
    let Some(last) = rounds.last() else {
        return ["No configuration was trained to its end.".into(), "best.toml holds the preset's own recipe.".into()];
    };
    let tried: usize = rounds.first().map_or(0, |round| round.tried.len());
    let (count, images) = (grouped(all.train.len()), grouped(last.images));
    let tested = match tested {
        Some(tested) => format!("trained on all {count} it reaches a test accuracy of {tested:.4}"),
        None => "its test accuracy was not measured".into(),
    };
    let (best, trained) = &last.tried[0];
    let reached = trained.accuracy().unwrap_or_default();
    let first = format!(
        "Of {tried} configurations the best has {}: {reached:.4} on the held-out images after {images} training images; {tested}.",
        name(best)
    );
    // Where the preset's own recipe came to an end, and how far behind the best of that round it was.
    let out = rounds.iter().enumerate().rev().find_map(|(number, round)| {
        let place = round.tried.iter().position(|(config, _)| config == own)?;
        let behind = round.tried[0].1.accuracy()? - round.tried[place].1.accuracy()?;
        Some((number + 1, place + 1, round.tried.len(), behind))
    });
    let second = match out {
        _ if best == own => "That is the preset's own recipe: the search found none better.".into(),
        Some((round, place, of, behind)) => format!(
            "The preset's own recipe got as far as round {round}, where it was number {place} of {of}, {behind:.4} behind the best."
        ),
        None => "The preset's own recipe was not trained to its end.".into(),
    };
    [first, second]
}

#[cfg(test)]
mod tests {
    use mlpconv::data::Dataset;
    use mlpconv::train::Preset;

    use super::*;

    #[test]
    fn a_search_draws_the_same_valid_configurations_again() {
        let own = Preset::Small.config();
        let drawn = |seed| (1..50).map(|index| drawn(&own, seed, index)).collect::<Vec<_>>();
        assert_eq!(drawn(3), drawn(3));
        assert_ne!(drawn(3), drawn(4));
        for config in drawn(3) {
            config.validate().unwrap();
            assert!((RATES[0]..=RATES[1]).contains(&config.learning_rate), "{}", config.learning_rate);
        }
        for momentum in MOMENTA {
            assert!(drawn(3).iter().any(|config| config.momentum == momentum));
        }
    }

    #[test]
    fn a_configuration_survives_toml() {
        let config = TrainConfig { learning_rate: 0.031, ..Preset::Small.config() };
        let mut settings: toml::Table = best_toml(&config).unwrap().parse().unwrap();
        assert!(!settings.contains_key("device"));
        settings.insert("device".into(), "cpu".into());
        assert_eq!(settings.try_into::<TrainConfig>().unwrap(), config);
    }

    #[test]
    fn limits_are_within_the_images_that_there_are() {
        let images = |count| Arc::new(Dataset::new(vec![0; count], vec![0; count], 1, 1, 1).unwrap());
        let all = Images { train: images(5), test: images(2) };
        let own = Preset::Small.config();
        let budget = Budget { images: Some(usize::MAX), test_images: Some(usize::MAX), epochs: None };
        let best = limited(&own, &budget, &all);
        assert_eq!((best.train_limit, best.test_limit), (Some(5), Some(2)));
        best_toml(&best).unwrap();
        let budget = Budget { images: None, test_images: None, epochs: None };
        assert_eq!(limited(&own, &budget, &all), own);
    }

    #[test]
    fn numbers_are_rounded_to_two_digits() {
        assert_eq!([0.012_345, 0.987_6, 1e-4].map(rounded), [0.012, 0.99, 1e-4]);
    }
}
