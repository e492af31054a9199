//! Weights files as other programs write them, and ours as other programs read them.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use mlpconv::Cpu;
use mlpconv::nn::{Builder, Init, Module, Sequential};
use mlpconv::weights::{self, Tensors};
use safetensors::SafeTensors;

/// The network of tests/fixtures/weights, with other values.
fn network(backend: &Cpu<f32>) -> Sequential<Cpu<f32>> {
    let mut build = Builder::new(backend, Init::He, 1);
    Sequential::new().push(build.conv2d(1, 2, 3, 1, 0).unwrap())
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(format!("tests/fixtures/weights/{name}.safetensors"))
}

fn values(net: &Sequential<Cpu<f32>>) -> HashMap<String, Vec<f32>> {
    net.params().into_iter().map(|(name, param)| (name, param.data().to_vec())).collect()
}

#[test]
fn other_float_types_and_prefixed_names_are_loaded() {
    let backend = Cpu::<f32>::new();
    for name in ["f16", "bf16", "f64", "data-parallel", "compiled-data-parallel"] {
        let mut net = network(&backend);
        weights::load(&backend, &mut net, fixture(name)).unwrap();
        let values = values(&net);
        let weight: Vec<f32> = (0..18).map(|i| (i as f32 - 9.0) / 4.0).collect();
        // One input channel: KRSC and OIHW are the same order.
        assert_eq!((&values["0.weight"], &values["0.bias"]), (&weight, &vec![1.0, 2.0]), "{name}");
        assert!(!Tensors::load(&fixture(name)).unwrap().is_sealed(), "{name}");
    }
}

#[test]
fn a_prefix_is_stripped_only_if_all_names_fit_without_it() {
    let backend = Cpu::<f32>::new();
    let mut build = Builder::new(&backend, Init::He, 1);
    let mut other =
        Sequential::new().push(build.conv2d(1, 2, 3, 1, 0).unwrap()).push(build.conv2d(2, 2, 1, 1, 0).unwrap());
    let error = weights::load(&backend, &mut other, fixture("data-parallel")).unwrap_err().to_string();
    assert!(error.contains("tensors 0.weight, 0.bias, 1.weight, 1.bias are missing"), "{error}");
    assert!(error.contains("the network has no parameters module.0.bias, module.0.weight"), "{error}");

    // The names fit, a shape does not: the message names the tensor as the file does.
    let mut wider = Sequential::new().push(build.conv2d(1, 3, 3, 1, 0).unwrap());
    let error = weights::load(&backend, &mut wider, fixture("data-parallel")).unwrap_err().to_string();
    assert!(error.contains("tensor module.0.weight has shape [2, 1, 3, 3], the network's is [3, 1, 3, 3]"), "{error}");
    assert!(error.contains("tensor module.0.bias has shape [2], the network's is [3]"), "{error}");

    // A state file's tensors begin with a prefix of their own, which must not make weights of them.
    let tensors = Tensors::load(&fixture("data-parallel")).unwrap();
    let error = tensors.give_to(&backend, &mut network(&backend), &["module.".into()], &fixture("data-parallel"));
    assert!(error.unwrap_err().to_string().contains("tensors 0.weight, 0.bias are missing"));
}

#[test]
fn our_files_say_what_other_loaders_ask_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let backend = Cpu::<f32>::new();
    let net = network(&backend);
    for note in [None, Some("a note"), Some("")] {
        let mut tensors = Tensors::of(&backend, &net).unwrap();
        note.into_iter().for_each(|note| tensors.set_note(note.to_owned()));
        tensors.save(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header % 8, 0, "the tensors' bytes are aligned");
        let entries = metadata.metadata().as_ref().unwrap();
        assert_eq!(entries["format"], "pt");
        assert_eq!(entries["mlpconv.sha256"].len(), 64);
        assert_eq!(entries.get("mlpconv").map(|note| &**note), note);
        assert_eq!(entries.len(), 2 + usize::from(note.is_some()));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("0.weight").unwrap().shape(), [2, 1, 3, 3]);
        tensors.save(&path).unwrap();
        assert!(bytes == fs::read(&path).unwrap(), "equal contents make equal files");
    }
}
