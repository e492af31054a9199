//! `mlpconv plan`: which layers run as one op, which pixels are left out, and why other patterns are not fused.

use std::collections::BTreeMap;

use mlpconv::nn::plan::{PassedOver, Step};
use mlpconv::nn::{Plan, layers};
use mlpconv::ops::fusion::{Fuse, Fusion, Verdict};
use mlpconv::train::TrainConfig;
use mlpconv::{Cpu, Result, Shape};

use super::device::{Chosen, DeviceArgs, choose};
use super::say;

/// A backend's decision on each fusion, and its name.
struct Judge {
    name: String,
    fuses: Box<dyn Fn(&Fusion) -> Verdict>,
}

/// Prints the plan of a preset's network.
///
/// # Errors
/// [`Error`](mlpconv::Error) for a setting out of range, or for a device that exists but cannot be used.
pub fn plan(config: &TrainConfig, args: &DeviceArgs) -> Result<()> {
    config.validate()?;
    let preset = config.preset;
    let net = preset.net(&Cpu::<f32>::new(), 0)?;
    let channels = config.data.spec().map_or(1, |spec| spec.channels);
    let summary = super::summarize(preset, &net, config.batch_size, channels, config.resize)?;
    let judge = judge(args)?;
    let plan = Plan::new(&layers(&net), summary.input, &*judge.fuses)?;

    say(format_args!("{preset}, input {}, on {}\n", plan.input(), judge.name));
    row(["", "op", "layers", "input", "output", "pixels"]);
    for (i, step) in plan.steps().iter().enumerate() {
        let (input, layers) = (plan.input_of(step.layers.start), &plan.layers()[step.layers.clone()]);
        let output = layers[layers.len() - 1].live;
        let paths: Vec<&str> = layers.iter().map(|layer| &*layer.path).collect();
        row([
            &(i + 1).to_string(),
            step.kernel.name(),
            &paths.join(" "),
            &input.to_string(),
            &output.to_string(),
            &skipped(&plan, step),
        ]);
    }
    let refusals = refusals(&plan);
    say(if refusals.is_empty() { "\nnot fused: nothing that could be" } else { "\nnot fused" });
    for (why, runs) in refusals {
        say(format_args!("  {why}"));
        for (pattern, paths) in runs {
            say(format_args!("    {pattern:<18} from layer {}", paths.join(", ")));
        }
    }
    Ok(())
}

fn row([step, op, layers, input, output, computed]: [&str; 6]) {
    let line = format!("{step:>3}  {op:<20} {layers:<16} {input:<20} {output:<20} {computed}");
    say(line.trim_end());
}

/// The computed pixels of a step's first cropped layer, of all its pixels; empty if no layer is cropped.
fn skipped(plan: &Plan, step: &Step) -> String {
    let area = |shape: Shape| format!("{}x{}", shape.h(), shape.w());
    let cropped = plan.layers()[step.layers.clone()].iter().find(|layer| layer.live != layer.output);
    cropped.map_or(String::new(), |layer| format!("{} of {}", area(layer.live), area(layer.output)))
}

/// The refused patterns: for each reason the patterns, and for each pattern the layers at which it would have begun.
fn refusals(plan: &Plan) -> BTreeMap<&str, BTreeMap<&str, Vec<&str>>> {
    let mut refusals: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for step in plan.steps() {
        let path = &*plan.layers()[step.layers.start].path;
        for PassedOver { pattern, why } in &step.passed_over {
            refusals.entry(why).or_default().entry(pattern).or_default().push(path);
        }
    }
    refusals
}

/// The judge for the requested device. If it is a GPU that does not exist, the judge has an H200's limits.
fn judge(args: &DeviceArgs) -> Result<Judge> {
    let choice = match choose(args, None) {
        #[cfg(feature = "cuda")]
        Err(mlpconv::Error::Cuda(error)) if absent(&error) => {
            let limits = mlpconv::device::cuda::Limits::h200(args.precision.unwrap_or(mlpconv::Precision::Tf32));
            let why = match error {
                mlpconv::device::cuda::CudaError::NoDriver => "no CUDA driver was found here",
                mlpconv::device::cuda::CudaError::NoDevice => "the CUDA driver finds no GPU here",
                _ => "this build has no CUDA kernels",
            };
            let name = format!("an H200 in {}: {why}", limits.precision);
            return Ok(Judge { name, fuses: Box::new(move |fusion| fusion.suits(&limits)) });
        }
        other => other?,
    };
    let name = format!("{} in {}", choice.name, choice.precision);
    Ok(match choice.backend {
        Chosen::Cpu(cpu) => Judge { name, fuses: Box::new(move |fusion| cpu.fuses(fusion)) },
        #[cfg(feature = "cuda")]
        Chosen::Cuda(gpu) => Judge { name, fuses: Box::new(move |fusion| gpu.fuses(fusion)) },
    })
}

#[cfg(feature = "cuda")]
fn absent(error: &mlpconv::device::cuda::CudaError) -> bool {
    use mlpconv::device::cuda::CudaError;
    matches!(error, CudaError::NoDriver | CudaError::NoDevice | CudaError::KernelsNotBuilt { .. })
}
