//! The last block with and without its ReLU: runs that die, runs that are stuck, and runs that learn.

use clap::Args;
use mlpconv::nn::Init;
use mlpconv::train::{Health, Preset, TrainConfig};
use mlpconv::{Backend, Result};

use super::super::page::{Bar, Bars, Scale};
use super::findings::{Findings, Table};
use super::lab::{Lab, seeds_of, settings};
use super::nets::{Variant, preset};
use super::spread::Spread;
use super::trained::{End, Trained, results};
use super::{Budget, Options, Question};

/// What does the last ReLU do, before the average? Counts the runs that die with it and without it
///
/// The chapter's last block ends in a ReLU like the others. Where it lets nothing through every logit is 0 for every image, the loss
/// is ln 10 = 2.303, and no gradient ever comes back: the run is dead. Trains the network with the chapter's initial values and SGD
/// at its rate 0.1, with that ReLU and without it, each with the same seeds, and counts at the end of each run whether it is dead,
/// stuck (still at the loss of guessing), or has learned. At 28x28 the network has a third of the channels, and batches of 32.
#[derive(Args)]
pub struct LinearOutput {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    budget: Budget,
    /// Runs of each network, with seeds 0, 1, 2 ...
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// The learning rate
    #[arg(long, default_value_t = 0.1)]
    lr: f64,
}

/// The networks by their names, and whether they have a linear output.
const NETWORKS: [(&str, bool); 2] = [("with ReLU", false), ("without", true)];

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Learned,
    Stuck,
    Dead,
    Diverged,
}

impl Fate {
    const ALL: [(Fate, &'static str); 4] =
        [(Fate::Learned, "learned"), (Fate::Stuck, "stuck"), (Fate::Dead, "dead"), (Fate::Diverged, "diverged")];

    /// `None` if the run was interrupted.
    fn of(run: &Trained) -> Option<Self> {
        match (run.end, run.health) {
            (End::Interrupted, _) => None,
            (End::Diverged, _) => Some(Fate::Diverged),
            (End::Done, Health::Dead) => Some(Fate::Dead),
            (End::Done, Health::Stuck) => Some(Fate::Stuck),
            (End::Done, Health::Alive) => Some(Fate::Learned),
        }
    }

    fn word(self) -> &'static str {
        Fate::ALL.iter().find(|(fate, _)| *fate == self).map_or("", |(_, word)| word)
    }
}

/// The runs of one network that were not interrupted.
struct Runs<'a> {
    name: &'static str,
    runs: Vec<(&'a Trained, Fate)>,
}

impl<'a> Runs<'a> {
    fn of(name: &'static str, trainings: &'a [Trained]) -> Self {
        let own = trainings.iter().filter(|run| run.network == name);
        Runs { name, runs: own.filter_map(|run| Some((run, Fate::of(run)?))).collect() }
    }

    fn count(&self, fate: Fate) -> usize {
        self.runs.iter().filter(|(_, own)| *own == fate).count()
    }

    /// The accuracies of the runs that learned.
    fn learned(&self) -> Option<Spread> {
        let learned = self.runs.iter().filter(|(_, fate)| *fate == Fate::Learned);
        Spread::of(learned.filter_map(|(run, _)| run.accuracy()))
    }

    /// As in `3 of 8 runs are dead and 1 is stuck`.
    fn told(&self) -> String {
        let be = |count: usize| if count == 1 { "is" } else { "are" };
        let (dead, stuck, all) = (self.count(Fate::Dead), self.count(Fate::Stuck), self.runs.len());
        let diverged = match self.count(Fate::Diverged) {
            0 => String::new(),
            some => format!(", and {some} diverged"),
        };
        format!("{dead} of {all} runs {} dead and {stuck} {} stuck{diverged}", be(dead), be(stuck))
    }
}

impl Question for LinearOutput {
    const NAME: &'static str = "linear-output";

    fn options(&self) -> &Options {
        &self.options
    }

    fn answer<B: Backend<Scalar = f32>>(&self, lab: &mut Lab<B>) -> Result<Findings> {
        let preset = preset(self.options.full);
        let (by_default, epochs, narrower) = if self.options.full { (usize::MAX, 3, 1) } else { (20_000, 6, 3) };
        let images = lab.images(&self.budget, by_default)?;
        // The chapter's recipe, whatever the preset's; at 28x28 in smaller batches, for as many steps from fewer images.
        let recipe = lab.config(Preset::D2l, self.budget.epochs(epochs));
        let batch_size = if self.options.full { recipe.batch_size } else { 32 };
        let config =
            TrainConfig { preset, batch_size, resize: preset.config().resize, learning_rate: self.lr, ..recipe };
        let backend = lab.backend.clone();
        let net = |linear_output, seed| {
            let init = [Init::Xavier, Init::FanIn];
            Variant { linear_output, init, narrower, ..Variant::of(preset) }.net(&backend, seed)
        };
        let names = NETWORKS.map(|(name, _)| name);
        let trainings =
            lab.train_all(&names, self.seeds, &config, &images, |index, seed| net(NETWORKS[index].1, seed))?;

        let runs = NETWORKS.map(|(name, _)| Runs::of(name, &trainings));
        let mut table =
            Table::new(["last block", "runs", "dead", "stuck", "learned", "test accuracy of those that learned"]);
        for of in &runs {
            let count = |fate| of.count(fate).to_string();
            let learned = of.learned().map_or("none".into(), |learned| learned.to_string());
            let [dead, stuck, alive] = [Fate::Dead, Fate::Stuck, Fate::Learned].map(count);
            table.push([of.name.into(), of.runs.len().to_string(), dead, stuck, alive, learned]);
        }
        let mut settings = settings(&config, &images);
        settings
            .push(("network", format!("the preset's channels divided by {narrower}, the chapter's initial values")));
        settings.push(("seeds", seeds_of(self.seeds)));
        Ok(Findings {
            sentences: sentences(&runs),
            pictures: vec![fates(&runs).figure(), accuracies(&runs).figure()],
            table,
            results: results(&trainings),
            settings,
            files: Vec::new(),
        })
    }
}

/// How many runs came to which end.
fn fates(runs: &[Runs; 2]) -> Bars {
    let of = |(fate, word): &(Fate, &str)| {
        let bar = |of: &Runs| {
            let (count, all) = (of.count(*fate), of.runs.len());
            Bar {
                name: format!("{}: {word}", of.name),
                value: count as f64,
                range: None,
                note: format!("{count} of {all}"),
                series: 0,
            }
        };
        runs.iter().filter(|of| of.count(*fate) > 0).map(bar).collect::<Vec<_>>()
    };
    let bars = Fate::ALL.iter().flat_map(of).collect();
    Bars { title: "Runs by their ends".into(), label: "runs".into(), scale: Scale::Linear, bars }
}

/// The accuracy of each run.
fn accuracies(runs: &[Runs; 2]) -> Bars {
    let bars = runs.iter().flat_map(|of| {
        of.runs.iter().map(|(run, fate)| Bar {
            name: format!("{}, seed {}", of.name, run.seed),
            value: run.accuracy().unwrap_or_default(),
            range: None,
            note: fate.word().into(),
            series: 0,
        })
    });
    let (title, label) = ("Test accuracy of each run".into(), "test accuracy".into());
    Bars { title, label, scale: Scale::Linear, bars: bars.collect() }
}

fn sentences(runs: &[Runs; 2]) -> [String; 2] {
    let [with, without] = runs;
    let first = format!("With the last ReLU {}; without it {}.", with.told(), without.told());
    let lost = |of: &Runs| of.runs.len() - of.count(Fate::Learned);
    let second = match (with.learned(), without.learned()) {
        (Some(ours), Some(theirs)) => {
            format!(
                "The test accuracy of the runs that learned is, without the ReLU beside with it, {}",
                theirs.beside(&ours)
            )
        }
        (None, Some(theirs)) => format!("No run learned with the ReLU; without it they reach {theirs}"),
        (Some(ours), None) => format!("No run learned without the ReLU; with it they reach {ours}"),
        (None, None) => "No run learned".into(),
    };
    let (ours, theirs) = (lost(with), lost(without));
    [
        first,
        format!(
            "{second}; with it {ours} of {} runs learned nothing, without it {theirs} of {}.",
            with.runs.len(),
            without.runs.len()
        ),
    ]
}
