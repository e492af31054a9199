//! The programs as their users run them: as processes, on a few batches of the real data set.

#[path = "../events/mod.rs"]
mod events;
#[cfg(feature = "cuda")]
#[path = "../gpu/mod.rs"]
mod gpu;
#[path = "../place/mod.rs"]
mod place;
#[path = "../pt/mod.rs"]
mod pt;
#[path = "../required/mod.rs"]
mod required;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use mlpconv::data::known;
use mlpconv::optim::OptimizerKind;
use mlpconv::train::{EpochMetrics, Preset, Run};
use mlpconv::weights::Tensors;
use tempfile::TempDir;

use place::{Finished, MLPCONV, Place, TRAIN, names};

mod recipes;
mod runs;

#[cfg(unix)]
mod interruption;

/// Several processes on one host.
#[cfg(unix)]
mod launch;

#[cfg(unix)]
mod ranks;

#[test]
fn adamw_has_a_recipe_and_a_state_of_its_own() {
    let Some(place) = Place::new() else { return };
    let options =
        "--preset small --optimizer adamw --beta1 0.8 --epochs 1 --train-limit 32 --test-limit 8 --batch-size 16";
    place.train(&format!("{options} --out run")).good();
    let config: toml::Table = toml::from_str(&fs::read_to_string(place.path("run/config.toml")).unwrap()).unwrap();
    assert_eq!(config["optimizer"].as_str(), Some("adamw"));
    let recipe = Preset::Small.config_with(OptimizerKind::AdamW);
    let settings = [
        ("learning_rate", recipe.learning_rate),
        ("momentum", 0.0),
        ("weight_decay", 0.01),
        ("beta1", 0.8),
        ("beta2", 0.999),
        ("eps", 1e-8),
    ];
    for (name, value) in settings {
        assert_eq!(config[name].as_float(), Some(value), "{name}");
    }
    let state = Tensors::load(&place.path("run/state.safetensors")).unwrap();
    assert!(state.note().unwrap().contains("\"counters\":{\"updates\":2}"), "{:?}", state.note());
    place.train("--resume run").good().line("all 1 epochs are done");

    let memory = |options: &str| {
        let said = place.mlpconv(&format!("summary --preset small {options}")).good();
        said.stdout.lines().find(|line| line.trim_start().starts_with("training ")).unwrap().to_owned()
    };
    assert!(memory("").contains("(parameters, gradients:"));
    assert!(memory("--momentum").contains("(parameters, gradients, velocity:"));
    assert!(memory("--optimizer adamw").contains("(parameters, gradients, exp_avg, exp_avg_sq:"));
    place.mlpconv("summary --optimizer adamw --momentum").bad(&["momentum", "adamw has none"]);
}

mod refusals;

mod output;

mod resumption;

/// Results, best weights and events.
mod event_files;
mod run_folder;

mod trouble;

/// The pages that runs leave, and that compare them.
mod report;

/// On data sets other than Fashion-MNIST.
mod other_data;

/// Programs on a GPU. They find the virtual GPU if its library is loaded before them.
#[cfg(feature = "cuda")]
mod on_a_gpu;

mod exercises;

mod looks;

/// Exercises whose answers are counts and measurements.
mod exercises_by_count;

/// The script of a day with a GPU.
#[cfg(unix)]
mod day;

/// The READMEs' commands. They need pictures and kernels.
#[cfg(all(feature = "images", feature = "cuda", feature = "onnx"))]
mod readme;

/// What a run is used for: pictures of one's own, and figures of each class.
#[cfg(feature = "images")]
mod predict;

/// A look at the data before training.
#[cfg(feature = "images")]
mod show;

/// Weights that come from elsewhere, and runs that begin with given ones.
mod imports;

/// Networks that go out.
mod exports;

mod progress;

mod settings;
