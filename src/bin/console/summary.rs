//! `mlpconv summary`: shapes, parameters, multiply-adds and memory of a preset's network.

use mlpconv::nn::{LayerSummary, Summary};
use mlpconv::train::TrainConfig;
use mlpconv::{Cpu, Precision, Result};

use super::{bytes, grouped, metric, say, summarize};

/// The layers of each module of the network, in order.
fn modules(summary: &Summary) -> impl Iterator<Item = &[LayerSummary]> {
    let module = |layer: &LayerSummary| layer.path.split('.').next().map(str::to_owned);
    summary.layers.chunk_by(move |a, b| module(a) == module(b))
}

/// The line of a module as d2l's `layer_summary` prints it: the class that PyTorch has for it, and the shape of its output.
fn chapter_line(layers: &[LayerSummary]) -> String {
    let last = &layers[layers.len() - 1];
    let class = match (layers, last.name.split(' ').next()) {
        ([_, _, ..], _) => "Sequential",
        (_, Some("MaxPool")) => "MaxPool2d",
        (_, Some("GlobalAvgPool")) => "AdaptiveAvgPool2d",
        // Convolutions, dropout and flatten have one name here and there.
        (_, name) => name.unwrap_or(&last.name),
    };
    format!("{class} output shape:\t torch.Size({})", last.output)
}

/// Prints the costs of a preset's network, block by block and layer by layer.
///
/// # Errors
/// [`Error`](mlpconv::Error) for a setting out of range.
pub fn summary(config: &TrainConfig) -> Result<()> {
    config.validate()?;
    let (preset, backend) = (config.preset, Cpu::<f32>::new());
    let net = preset.net(&backend, 0)?;
    let channels = config.data.spec().map_or(1, |spec| spec.channels);
    let summary = summarize(preset, &net, config.batch_size, channels, config.resize)?;
    const WIDTH: usize = size_of::<f32>();

    say(format_args!("{preset}, input {}", summary.input));
    say("\nblock by block");
    for layers in modules(&summary) {
        let name = match layers {
            [only] => &only.name,
            _ => "NinBlock",
        };
        let output = layers[layers.len() - 1].output;
        say(format_args!("  {name:<16} output shape  {output}"));
    }

    say("\nthe same as the book prints it, with PyTorch's names");
    for layers in modules(&summary) {
        say(chapter_line(layers));
    }

    say("\nlayer by layer (multiply-adds of the whole batch; kept: bytes that wait for the backward pass)");
    let row = |cells: [&str; 7]| {
        let [path, name, output, params, forward, training, kept] = cells;
        format!("  {path:<4} {name:<27} {output:<21} {params:>10} {forward:>10} {training:>10} {kept:>10}")
    };
    say(row(["", "layer", "output", "parameters", "forward", "training", "kept"]));
    for layer in &summary.layers {
        say(row([
            &layer.path,
            &layer.name,
            &layer.output.to_string(),
            &grouped(layer.params),
            &metric(layer.macs),
            &metric(layer.training_macs()),
            &bytes(layer.kept(WIDTH)),
        ]));
    }
    say(row([
        "",
        "in all",
        "",
        &grouped(summary.params()),
        &metric(summary.forward_macs()),
        &metric(summary.training_macs()),
        &bytes(summary.kept_bytes(WIDTH)),
    ]));

    let state = config.optimizer(&backend).tensor_names();
    let each = [vec!["parameters", "gradients"], state.clone()].concat().join(", ");
    let parameters = bytes(summary.params() * WIDTH);
    say(format_args!("\nmemory in fp32, without a device's working memory"));
    say(format_args!(
        "  training   {:>10}  ({each}: {parameters} each; the rest activations and their gradients)",
        bytes(summary.training_bytes(Precision::Fp32, state.len()))
    ));
    say(format_args!(
        "  inference  {:>10}  (parameters: {parameters}; the rest a layer's input and output)",
        bytes(summary.inference_bytes(Precision::Fp32))
    ));
    Ok(())
}
