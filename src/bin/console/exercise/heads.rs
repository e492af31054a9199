//! NiN's head beside the fully connected ones.

use clap::Args;
use maud::Markup;
use mlpconv::nn::{Builder, Flatten, GlobalAvgPool, Init, Sequential, Summary};
use mlpconv::train::Preset;
use mlpconv::{Backend, Cpu, Result, Shape};

use super::super::page::{Bar, Bars, Scale};
use super::super::{bytes, grouped, metric};
use super::findings::{Findings, Table};
use super::lab::{Lab, stops};
use super::measure::{Part, Passes, RUNS, Trial, milliseconds};
use super::{Options, Question};

/// How many parameters does NiN save by its head? Its last block beside the first fully connected layers of LeNet, AlexNet and
/// VGG
///
/// Parameters are counted as the book counts them: the weights of the first fully connected layer, which reads all
/// pixels of all channels, without biases. NiN's last block is counted without and with biases; the global average behind it has
/// no parameters. Then each head runs by itself on a batch: time and memory of inference, and of forward and backward
/// pass together, where VGG's head is left out without --full.
#[derive(Args)]
pub struct Heads {
    #[command(flatten)]
    options: Options,
    /// Images a batch
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch_size: u32,
}

/// The end of a network: what comes behind its last pool.
#[derive(Clone, Copy)]
enum Head {
    /// The first fully connected layer: all pixels of a `side` × `side` image of `channels` channels to `outputs` values.
    Connected { network: &'static str, channels: usize, side: usize, outputs: usize },
    /// NiN's last block, and the global average.
    Nin,
}

/// The extents of NiN's last block: input channels, side of the image and of the filter, and classes.
const NIN: [usize; 4] = [384, 5, 3, 10];

const HEADS: [Head; 4] = [
    Head::Connected { network: "LeNet", channels: 16, side: 5, outputs: 120 },
    Head::Connected { network: "AlexNet", channels: 256, side: 5, outputs: 4096 },
    Head::Connected { network: "VGG", channels: 512, side: 7, outputs: 4096 },
    Head::Nin,
];

/// The most parameters of a head that is run without `--full`: training takes a few times as much memory.
const LARGEST: usize = 1 << 26;

impl Part for Head {
    fn make<B: Backend>(&self, backend: &B) -> Result<Sequential<B>> {
        let mut build = Builder::new(backend, Init::Xavier, 0);
        Ok(match *self {
            // A convolution whose filter covers the whole image is a fully connected layer.
            Head::Connected { channels, side, outputs, .. } => {
                Sequential::new().push(build.conv2d(channels, outputs, side, 1, 0)?.with_relu()).push(Flatten)
            }
            Head::Nin => {
                let [channels, _, filter, classes] = NIN;
                let block = build.nin_block(channels, classes, filter, 1, filter / 2)?;
                Sequential::new().push(block).push(GlobalAvgPool).push(Flatten)
            }
        })
    }
}

impl Head {
    fn name(self) -> String {
        match self {
            Head::Connected { network, .. } => network.into(),
            Head::Nin => "NiN, last block".into(),
        }
    }

    /// The product, or the sum of products, that gives the number of weights.
    fn formula(self) -> String {
        match self {
            Head::Connected { channels, side, outputs, .. } => format!("{channels} x {side} x {side} x {outputs}"),
            Head::Nin => {
                let [channels, _, filter, classes] = NIN;
                let pointwise = format!("{classes} x {classes}");
                format!("{channels} x {filter} x {filter} x {classes} + {pointwise} + {pointwise}")
            }
        }
    }

    /// What the biases add to the formula.
    fn biases(self) -> String {
        match self {
            Head::Connected { outputs, .. } => outputs.to_string(),
            Head::Nin => format!("{0} + {0} + {0}", NIN[3]),
        }
    }

    fn trial(self, batch: usize) -> Trial<Self> {
        let [channels, side] = match self {
            Head::Connected { channels, side, .. } => [channels, side],
            Head::Nin => [NIN[0], NIN[1]],
        };
        Trial { part: self, input: Shape::image(batch, channels, side, side), dgrad: true }
    }

    /// The parameters, biases included, and the number of biases.
    fn params(self) -> Result<[usize; 2]> {
        let layers = self.trial(1).summary()?.layers;
        let learning = || layers.iter().filter(|layer| layer.params > 0);
        // A convolution has one bias for each output channel, and so has what follows as many features.
        let biases = learning().map(|layer| layer.output.c()).sum();
        Ok([learning().map(|layer| layer.params).sum(), biases])
    }
}

/// A head that was counted, and run unless it is too large.
struct Counted {
    head: Head,
    weights: usize,
    params: usize,
    /// Multiply-adds of inference, an image.
    macs: usize,
    passes: Option<Passes>,
}

impl Question for Heads {
    const NAME: &'static str = "heads";

    fn options(&self) -> &Options {
        &self.options
    }

    fn answer<B: Backend<Scalar = f32>>(&self, lab: &mut Lab<B>) -> Result<Findings> {
        let batch = self.batch_size as usize;
        let mut heads = Vec::new();
        for head in HEADS {
            let [params, biases] = head.params()?;
            let macs = head.trial(1).summary()?.forward_macs();
            heads.push(Counted { head, weights: params - biases, params, macs, passes: None });
        }
        let whole = Summary::new(&Preset::D2l.net(&Cpu::<f32>::new(), 0)?, Shape::image(1, 1, 224, 224))?.params();

        let full = self.options.full;
        let mut run: Vec<_> = heads.iter_mut().filter(|head| full || head.params <= LARGEST).collect();
        // Initial values are drawn, and memory is passed through, at about this many parameters a second.
        const A_SECOND: f64 = 2e7;
        let passes = (RUNS + 1) as f64;
        let seconds = run.iter().map(|head| passes * head.params as f64 / A_SECOND).sum();
        let plan = format!("{} heads, each by itself, in batches of {batch}", run.len());
        lab.begin_measuring(&plan, run.len(), seconds, "by their parameters")?;
        for counted in &mut run {
            let name = counted.head.name();
            if stops() {
                lab.missing.push(name);
                continue;
            }
            counted.passes = Some(counted.head.trial(batch).passes(&self.options.device)?);
            lab.measured(&name);
        }

        let (table, results) = tables(&heads, whole);
        let mut findings = Findings {
            sentences: [count_sentence(&heads, whole), cost_sentence(&heads, batch)],
            pictures: pictures(&heads, whole),
            table,
            results,
            settings: Vec::new(),
            files: Vec::new(),
        };
        findings.setting("batch", format!("{batch} images"));
        findings.setting("times", format!("medians of {RUNS} runs, after one to warm up"));
        Ok(findings)
    }
}

/// The table for readers, and every figure for programs.
fn tables(heads: &[Counted], whole: usize) -> (Table, Table) {
    let mut table = Table::new(["head", "counted as", "parameters", "multiply-adds", "forward and backward", "memory"]);
    let mut results = Table::new([
        "head",
        "formula",
        "parameters",
        "biases_counted",
        "forward_macs",
        "inference_seconds",
        "training_seconds",
        "training_bytes_predicted",
        "training_bytes",
    ]);
    let none = || "–".to_owned();
    for Counted { head, weights, params, macs, passes } in heads {
        let told = |of: &dyn Fn(&Passes) -> String| passes.as_ref().map_or_else(none, of);
        let figure = |of: &dyn Fn(&Passes) -> String| passes.as_ref().map_or_else(String::new, of);
        table.push([
            head.name(),
            head.formula(),
            grouped(*weights),
            metric(*macs),
            told(&|passes| milliseconds(passes.training.seconds)),
            told(&|passes| bytes(passes.training.measured)),
        ]);
        let with_biases = format!("{} + {}", head.formula(), head.biases());
        for (formula, count, biases) in [(head.formula(), weights, "no"), (with_biases, params, "yes")] {
            results.push([
                head.name(),
                formula,
                count.to_string(),
                biases.into(),
                macs.to_string(),
                figure(&|passes| passes.inference.seconds.to_string()),
                figure(&|passes| passes.training.seconds.to_string()),
                figure(&|passes| passes.training.predicted.to_string()),
                figure(&|passes| passes.training.measured.to_string()),
            ]);
        }
    }
    if let Some(nin) = nin(heads) {
        let mut count = |name: &str, of: usize, more: String, params: usize| {
            table.push([name.into(), format!("{} + {more}", grouped(of)), grouped(params), none(), none(), none()]);
        };
        count("NiN, last block with biases", nin.weights, nin.head.biases(), nin.params);
        count("NiN, whole network", whole - nin.params, grouped(nin.params), whole);
    }
    (table, results)
}

fn nin(heads: &[Counted]) -> Option<&Counted> {
    heads.iter().find(|counted| matches!(counted.head, Head::Nin))
}

fn pictures(heads: &[Counted], whole: usize) -> Vec<Markup> {
    let bar = |name: String, value: f64, note: String| Bar { name, value, range: None, note, series: 0 };
    let counts = heads.iter().map(|counted| bar(counted.head.name(), counted.weights as f64, counted.head.formula()));
    let whole = bar("NiN, whole network".into(), whole as f64, "all blocks, with biases".into());
    let costs = |title: &str, label: &str, of: fn(&Passes) -> f64| {
        let bars = heads.iter().filter_map(|counted| {
            Some(bar(
                counted.head.name(),
                of(counted.passes.as_ref()?),
                format!("{} weights", grouped(counted.weights)),
            ))
        });
        Bars { title: title.into(), label: label.into(), scale: Scale::Log, bars: bars.collect() }.figure()
    };
    vec![
        Bars {
            title: "Parameters of the heads".into(),
            label: "weights without biases, logarithmic".into(),
            scale: Scale::Log,
            bars: counts.chain([whole]).collect(),
        }
        .figure(),
        costs("Time of the heads", "forward and backward, milliseconds a batch, logarithmic", |passes| {
            passes.training.seconds * 1e3
        }),
        costs("Memory of the heads in training", "MiB measured at the peak, logarithmic", |passes| {
            passes.training.measured as f64 / f64::from(1 << 20)
        }),
    ]
}

/// The counts, and how many times NiN's is contained in the others.
fn count_sentence(heads: &[Counted], whole: usize) -> String {
    let Some(nin) = nin(heads) else { return "NiN's head was not counted.".into() };
    let others = heads.iter().filter_map(|counted| match counted.head {
        Head::Connected { network, .. } => {
            let times = counted.weights as f64 / nin.weights as f64;
            Some(format!("{} in {network} ({times:.1} times as many)", grouped(counted.weights)))
        }
        Head::Nin => None,
    });
    format!(
        "NiN's last block has {} weights, or {} parameters with its biases, of the {} of the whole network; the weights of the first \
         fully connected layer alone are {}.",
        grouped(nin.weights),
        grouped(nin.params),
        grouped(whole),
        others.collect::<Vec<_>>().join(", ")
    )
}

/// What the heads take that were run.
fn cost_sentence(heads: &[Counted], batch: usize) -> String {
    let told = heads.iter().filter_map(|counted| {
        let Passes { training, .. } = counted.passes.as_ref()?;
        let network = match counted.head {
            Head::Connected { network, .. } => network,
            Head::Nin => "NiN",
        };
        let (time, memory) = (milliseconds(training.seconds), bytes(training.measured));
        Some(format!("{time} and {memory} for {network}"))
    });
    match told.collect::<Vec<_>>() {
        none if none.is_empty() => "No head has been run.".into(),
        told => format!("Forward and backward, {batch} images through the head take {}.", told.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The book's counts, and NiN's by hand.
    #[test]
    fn heads_have_the_parameters_that_the_formulas_give() {
        let counts = HEADS.map(|head| {
            let [params, biases] = head.params().unwrap();
            (head.formula(), params - biases, biases)
        });
        let expected = [
            ("16 x 5 x 5 x 120", 48_000, 120),
            ("256 x 5 x 5 x 4096", 26_214_400, 4096),
            ("512 x 7 x 7 x 4096", 102_760_448, 4096),
            ("384 x 3 x 3 x 10 + 10 x 10 + 10 x 10", 34_760, 30),
        ];
        assert_eq!(
            counts.map(|(formula, weights, biases)| (formula, weights, biases)),
            expected.map(|(f, w, b)| (f.into(), w, b))
        );
        for head in HEADS {
            let value = |formula: &str| -> usize {
                let product =
                    |product: &str| product.split(" x ").map(|n| n.parse::<usize>().unwrap()).product::<usize>();
                formula.split(" + ").map(product).sum()
            };
            let [params, biases] = head.params().unwrap();
            assert_eq!((value(&head.formula()), value(&head.biases())), (params - biases, biases));
        }
    }

    #[test]
    fn nins_head_is_the_last_block_of_the_books_network() {
        let net = Preset::D2l.net(&Cpu::<f32>::new(), 0).unwrap();
        let summary = Summary::new(&net, Shape::image(1, 1, 224, 224)).unwrap();
        let last: Vec<_> = summary.layers.iter().filter(|layer| layer.path.starts_with("7.")).collect();
        let alone = Head::Nin.trial(1).summary().unwrap();
        for (ours, theirs) in alone.layers.iter().zip(&last) {
            assert_eq!((ours.input, ours.output, &ours.name), (theirs.input, theirs.output, &theirs.name));
            assert_eq!((ours.params, ours.macs), (theirs.params, theirs.macs));
        }
        assert_eq!((last.len(), last.iter().map(|layer| layer.params).sum::<usize>()), (3, 34_790));
    }
}
