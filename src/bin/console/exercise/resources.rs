//! What each layer takes: parameters, multiply-adds, time and memory.

use std::time::Instant;

use clap::Args;
use maud::Markup;
use mlpconv::nn::plan::{Kind, Planned};
use mlpconv::nn::{
    Builder, Dropout, Flatten, GlobalAvgPool, Init, MaxPool, Nin, Plan, Relu, Sequential, Summary, layers, predict,
};
use mlpconv::train::{TrainConfig, Trainer};
use mlpconv::{Backend, Error, Result, Shape};

use super::super::device::{choose, on_device};
use super::super::page::{Bar, Bars, Scale};
use super::super::{bytes, grouped, metric};
use super::findings::{Findings, Table};
use super::lab::{Lab, stops};
use super::measure::{Part, Pass, Passes, RUNS, Trial, median, milliseconds};
use super::nets::preset;
use super::{Options, Question};

/// What does NiN take: parameters, multiply-adds, and memory in training and in inference? Predicted and measured, layer by
/// layer
///
/// Predicts from the shapes, as `mlpconv summary` does. Then runs each layer by itself on a batch, on a device that holds
/// nothing else, and takes time and memory: of inference, and of forward and backward pass together; and of the whole network.
/// Times are medians of five runs. Predictions leave out a device's working memory, and count input and output of a layer that
/// only hands its input on: flatten, and dropout in inference.
#[derive(Args)]
pub struct Resources {
    #[command(flatten)]
    options: Options,
    /// Images a batch
    #[arg(long, default_value_t = 128)]
    batch_size: usize,
}

impl Question for Resources {
    const NAME: &'static str = "resources";

    fn options(&self) -> &Options {
        &self.options
    }

    fn answer<B: Backend<Scalar = f32>>(&self, lab: &mut Lab<B>) -> Result<Findings> {
        let preset = preset(self.options.full);
        let config = TrainConfig { batch_size: self.batch_size, ..lab.config(preset, 1) };
        config.validate()?;
        let whole = self.whole(&config)?;
        let trials = whole.planned.iter().zip(&whole.summary.layers);
        let trials: Vec<_> = trials
            .map(|(layer, summary)| Trial { part: layer.clone(), input: layer.input, dgrad: summary.dgrad })
            .collect();
        let (count, whole_seconds) = (trials.len(), whole.inference.seconds + whole.training.seconds);
        let plan = format!("{count} layers of preset {preset}, each by itself, in batches of {}", self.batch_size);
        // One run more to warm up, and about as long to make the layers.
        let seconds = whole_seconds * (RUNS + 2) as f64;
        lab.begin_measuring(&plan, count, seconds, "by the whole network, which has been measured")?;
        let mut parts = Vec::new();
        for (trial, layer) in trials.iter().zip(&whole.summary.layers) {
            let name = format!("{} {}", layer.path, layer.name);
            if stops() {
                lab.missing.push(name);
                continue;
            }
            let passes = trial.passes(&self.options.device)?;
            lab.measured(&name);
            parts.push(Measured {
                name,
                output: layer.output,
                params: layer.params,
                macs: layer.macs,
                training_macs: layer.training_macs(),
                passes,
            });
        }

        let (table, results) = tables(&whole, &parts);
        let mut findings = Findings {
            sentences: [time_sentence(&parts), memory_sentence(&whole, &parts, self.batch_size)],
            pictures: pictures(&parts),
            table,
            results,
            settings: Vec::new(),
            files: Vec::new(),
        };
        findings.setting("network", format!("preset {preset} at {0}x{0}", config.resize));
        findings.setting("batch", format!("{} images", self.batch_size));
        findings.setting("optimiser", config.optimizer);
        findings.setting("times", format!("medians of {RUNS} runs, after one to warm up"));
        Ok(findings)
    }
}

/// The whole network, predicted and measured.
struct Whole {
    summary: Summary,
    planned: Vec<Planned>,
    /// Ops of the plan that cover several layers.
    fused: usize,
    inference: Pass,
    /// A training step, with its update.
    training: Pass,
    /// Peak bytes of a training step, predicted for the pixels that are computed, see [`Plan`].
    of_computed: usize,
}

/// A layer by itself.
struct Measured {
    name: String,
    output: Shape,
    params: usize,
    /// Multiply-adds of the batch.
    macs: usize,
    training_macs: usize,
    passes: Passes,
}

/// A layer by itself, with initial values of its own.
impl Part for Planned {
    fn make<B: Backend>(&self, backend: &B) -> Result<Sequential<B>> {
        let net = Sequential::new();
        Ok(match &self.kind {
            Kind::Conv2d { weight, window, relu, .. } => {
                let mut build = Builder::new(backend, Init::He, 0);
                let conv = build.conv2d(weight.c(), weight.n(), weight.h(), window.stride, window.pad)?;
                net.push(if *relu { conv.with_relu() } else { conv })
            }
            &Kind::MaxPool { window, stride } => net.push(MaxPool { window, stride }),
            Kind::GlobalAvgPool => net.push(GlobalAvgPool),
            Kind::Relu => net.push(Relu),
            Kind::Dropout(probability) => net.push(Dropout(*probability)),
            Kind::Flatten => net.push(Flatten),
            Kind::Custom(name) => {
                return Err(Error::Config { what: name.clone(), problem: "cannot be made by itself".into() });
            }
        })
    }
}

impl Resources {
    /// Predicts and measures the whole network: training and inference on a fresh device each, as of the layers.
    fn whole(&self, config: &TrainConfig) -> Result<Whole> {
        let fresh = || choose(&self.options.device, None);
        let inference = on_device!(&fresh()?.backend, backend => infer(backend, config))?;
        on_device!(&fresh()?.backend, backend => train(backend, config, inference))
    }
}

/// The network of a configuration, with the shape of its batch, images and labels.
struct Work<B: Backend> {
    net: Nin<B>,
    input: Shape,
    images: Vec<f32>,
    labels: Vec<u8>,
}

impl<B: Backend> Work<B> {
    fn new(backend: &B, config: &TrainConfig) -> Result<Self> {
        let net = config.preset.net(backend, config.seed)?;
        let input = Shape::image(config.batch_size, 1, config.resize, config.resize);
        let images = (0..input.len()).map(|i| (i % 251) as f32 / 251.0).collect();
        let labels = (0..config.batch_size).map(|i| (i % 10) as u8).collect();
        Ok(Work { net, input, images, labels })
    }
}

fn infer<B: Backend<Scalar = f32>>(backend: &B, config: &TrainConfig) -> Result<Pass> {
    let Work { net, input, images, .. } = Work::new(backend, config)?;
    let predicted = Summary::new(&net, input)?.inference_bytes(config.precision);
    measured(backend, predicted, || predict(backend, &net, &images, input).map(drop))
}

fn train<B: Backend<Scalar = f32>>(backend: &B, config: &TrainConfig, inference: Pass) -> Result<Whole> {
    let Work { net, input, images, labels } = Work::new(backend, config)?;
    let summary = Summary::new(&net, input)?;
    let plan = Plan::new(&layers(&net), input, &|fusion| backend.fuses(fusion))?;
    let optimizer = config.optimizer(backend);
    let bytes = |summary: &Summary| summary.training_bytes(config.precision, optimizer.tensor_names().len());
    let (predicted, of_computed) = (bytes(&summary), bytes(&of_computed(&summary, &plan)));
    let mut trainer = Trainer::new(backend, net, optimizer, config.seed)?;
    // A rate so small that the steps change nothing.
    let rate = f64::from(f32::MIN_POSITIVE);
    let training = measured(backend, predicted, || trainer.step(&images, input, &labels, rate))?;
    let fused = plan.steps().iter().filter(|step| step.layers.len() > 1).count();
    Ok(Whole { summary, planned: plan.layers().to_vec(), fused, inference, training, of_computed })
}

/// The median time of `run`, and the peak of its first run.
fn measured<B: Backend>(backend: &B, predicted: usize, mut run: impl FnMut() -> Result<()>) -> Result<Pass> {
    let mut peak = None;
    let seconds = median(|| {
        let began = Instant::now();
        run()?;
        backend.synchronize()?;
        peak.get_or_insert(backend.memory().peak);
        Ok(began.elapsed().as_secs_f64())
    })?;
    Ok(Pass { seconds, predicted, measured: peak.unwrap_or_default() })
}

/// The summary of the pixels that the plan computes.
fn of_computed(summary: &Summary, plan: &Plan) -> Summary {
    let mut computed = summary.clone();
    for (i, layer) in computed.layers.iter_mut().enumerate() {
        (layer.input, layer.output) = (plan.input_of(i), plan.input_of(i + 1));
    }
    computed
}

/// The table for readers, and every figure for programs.
fn tables(whole: &Whole, parts: &[Measured]) -> (Table, Table) {
    let mut table = Table::new([
        "layer",
        "parameters",
        "multiply-adds",
        "forward",
        "and backward",
        "inference",
        "measured",
        "training",
        "measured",
    ]);
    let mut results = Table::new([
        "layer",
        "output",
        "parameters",
        "forward_macs",
        "training_macs",
        "inference_seconds",
        "training_seconds",
        "inference_bytes_predicted",
        "inference_bytes",
        "training_bytes_predicted",
        "training_bytes",
    ]);
    let summary = &whole.summary;
    let all = Measured {
        name: "the whole network, with its update".into(),
        output: summary.layers.last().map_or(summary.input, |layer| layer.output),
        params: summary.params(),
        macs: summary.forward_macs(),
        training_macs: summary.training_macs(),
        passes: Passes { inference: whole.inference, training: whole.training },
    };
    for Measured { name, output, params, macs, training_macs, passes } in parts.iter().chain([&all]) {
        let Passes { inference, training } = passes;
        table.push([
            name.clone(),
            grouped(*params),
            metric(*macs),
            milliseconds(inference.seconds),
            milliseconds(training.seconds),
            bytes(inference.predicted),
            bytes(inference.measured),
            bytes(training.predicted),
            bytes(training.measured),
        ]);
        results.push([
            name.clone(),
            output.to_string(),
            params.to_string(),
            macs.to_string(),
            training_macs.to_string(),
            inference.seconds.to_string(),
            training.seconds.to_string(),
            inference.predicted.to_string(),
            inference.measured.to_string(),
            training.predicted.to_string(),
            training.measured.to_string(),
        ]);
    }
    (table, results)
}

fn pictures(parts: &[Measured]) -> Vec<Markup> {
    let bars = |title: &str, label: &str, bar: &dyn Fn(&Measured) -> (f64, String)| {
        let bars = parts.iter().map(|part| {
            let (value, note) = bar(part);
            Bar { name: part.name.clone(), value, range: None, note, series: 0 }
        });
        Bars { title: title.into(), label: label.into(), scale: Scale::Linear, bars: bars.collect() }.figure()
    };
    let (seconds, macs) = totals(parts);
    let share = |part: f64, of: f64| 100.0 * part / of.max(f64::MIN_POSITIVE);
    vec![
        bars("Time of each layer", "forward and backward, milliseconds a batch", &|part| {
            let time = part.passes.training.seconds;
            let (of_time, of_macs) = (share(time, seconds), share(part.training_macs as f64, macs as f64));
            (time * 1e3, format!("{of_time:.1} % of the time, {of_macs:.1} % of the multiply-adds"))
        }),
        bars("Memory of each layer in training", "MiB measured at the peak, the layer by itself", &|part| {
            let Pass { predicted, measured, .. } = part.passes.training;
            let working = bytes(part.passes.training.working());
            (mebibytes(measured), format!("{} predicted, {working} working memory", bytes(predicted)))
        }),
        bars("Parameters of each layer", "weights and biases", &|part| {
            (part.params as f64, format!("output {}", part.output))
        }),
    ]
}

fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Seconds of training and multiply-adds of training of all layers.
fn totals(parts: &[Measured]) -> (f64, usize) {
    (parts.iter().map(|part| part.passes.training.seconds).sum(), parts.iter().map(|part| part.training_macs).sum())
}

/// Where the time goes, beside where the multiply-adds are.
fn time_sentence(parts: &[Measured]) -> String {
    let (seconds, macs) = totals(parts);
    let slowest = parts.iter().max_by(|a, b| a.passes.training.seconds.total_cmp(&b.passes.training.seconds));
    let Some(slowest) = slowest else { return "No layer has been measured.".into() };
    let percent = |part: f64, of: f64| format!("{:.0} %", 100.0 * part / of);
    let without = parts.iter().filter(|part| part.macs == 0).map(|part| part.passes.training.seconds).sum();
    format!(
        "Of the layers' time, forward and backward, {} takes the most, {}, with {} of the multiply-adds and {} of the parameters; \
         the layers without multiply-adds take {}.",
        slowest.name,
        percent(slowest.passes.training.seconds, seconds),
        percent(slowest.training_macs as f64, macs as f64),
        percent(slowest.params as f64, parts.iter().map(|part| part.params).sum::<usize>() as f64),
        percent(without, seconds)
    )
}

/// Why predicted and measured memory of a training step differ.
fn memory_sentence(whole: &Whole, parts: &[Measured], batch: usize) -> String {
    let Whole { training, inference, of_computed, fused, .. } = whole;
    let saved = training.predicted.saturating_sub(*of_computed);
    let rest = match training.measured.checked_sub(*of_computed) {
        Some(working) => {
            let most = parts.iter().max_by_key(|part| part.passes.training.working());
            let most = most.map_or(String::new(), |part| {
                format!(" (by itself {} has the most, {})", part.name, bytes(part.passes.training.working()))
            });
            format!("{} are working memory of the kernels{most}", bytes(working))
        }
        None => format!("{} are saved by {fused} fused ops", bytes(of_computed - training.measured)),
    };
    format!(
        "A training step of {batch} images takes {} where {} were predicted, inference {} where {} were: {} of the prediction are \
         pixels that no later layer reads, which are not computed, and {rest}.",
        bytes(training.measured),
        bytes(training.predicted),
        bytes(inference.measured),
        bytes(inference.predicted),
        bytes(saved)
    )
}

#[cfg(test)]
mod tests {
    use mlpconv::train::Preset;
    use mlpconv::{Cpu, Precision, nn::Module as _};

    use super::*;

    #[test]
    fn a_layer_by_itself_is_the_layer_of_the_network() {
        let backend = Cpu::<f32>::new();
        for (preset, batch) in [(Preset::Small, 3), (Preset::D2l, 1)] {
            let net = preset.net(&backend, 0).unwrap();
            let size = preset.config().resize;
            let input = Shape::image(batch, 1, size, size);
            let summary = Summary::new(&net, input).unwrap();
            let plan = Plan::new(&layers(&net), input, &|_| Err("by itself".into())).unwrap();
            let mut params = 0;
            for (layer, expected) in plan.layers().iter().zip(&summary.layers) {
                let trial = Trial { part: layer.clone(), input: layer.input, dgrad: expected.dgrad };
                let alone = trial.summary().unwrap();
                let [alone] = &alone.layers[..] else { panic!("{}", expected.path) };
                assert_eq!(alone.name, expected.name, "{preset}: {}", expected.path);
                assert_eq!((alone.output, alone.macs, alone.dgrad), (expected.output, expected.macs, expected.dgrad));
                params += layer.make(&backend).unwrap().params().iter().map(|(_, p)| p.shape().len()).sum::<usize>();
            }
            assert_eq!(params, summary.params());
        }
    }

    #[test]
    fn pixels_that_no_layer_reads_are_not_predicted() {
        let backend = Cpu::<f32>::new();
        let net = Preset::D2l.net(&backend, 0).unwrap();
        let input = Shape::image(2, 1, 224, 224);
        let summary = Summary::new(&net, input).unwrap();
        let plan = Plan::new(&layers(&net), input, &|_| Err("by itself".into())).unwrap();
        let computed = of_computed(&summary, &plan);
        // The pool behind the first block reads 53 of 54 rows and columns.
        assert_eq!(computed.layers[0].output, Shape::image(2, 96, 53, 53));
        assert_eq!(computed.layers[1].input, Shape::image(2, 96, 53, 53));
        assert!(computed.training_bytes(Precision::Fp32, 0) < summary.training_bytes(Precision::Fp32, 0));
    }
}
