//! Weights files: those exchanged with PyTorch, and those that are refused.

use std::fs;
use std::path::{Path, PathBuf};

use mlpconv::nn::Module;
use mlpconv::{Cpu, Device, Error, weights};
use safetensors::tensor::TensorView;
use tempfile::TempDir;

use super::fixture::{blank, file, tensor};
use super::*;

/// A tensor of a file: name, type, shape and bytes.
type Entry = (String, Dtype, Vec<usize>, Vec<u8>);

/// The fixture's parameters, named as in a state dict.
fn state_dict() -> Vec<Entry> {
    let entry = |(name, view): (&str, TensorView)| {
        let name = name.strip_prefix("param.")?;
        Some((name.to_owned(), view.dtype(), view.shape().to_vec(), view.data().to_vec()))
    };
    let file = file();
    let entries: Vec<Entry> = file.iter().filter_map(entry).collect();
    assert_eq!(entries.len(), 24);
    entries
}

fn write(path: &Path, entries: &[Entry]) {
    let mut views = Vec::with_capacity(entries.len());
    for (name, dtype, dims, bytes) in entries {
        views.push((name, TensorView::new(*dtype, dims.clone(), bytes).unwrap()));
    }
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// The bits of every parameter.
fn bits<B: Backend<Scalar = f32>>(backend: &B, net: &Nin<B>) -> Vec<(String, Vec<u32>)> {
    let download = |(name, param): (String, &mlpconv::Param<B>)| {
        let values = backend.download(param.data()).unwrap();
        (name, values.into_iter().map(f32::to_bits).collect())
    };
    net.params().into_iter().map(download).collect()
}

#[test]
fn a_round_trip_keeps_every_bit() {
    let folder = TempDir::new().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let backend = Cpu::<f32>::new();
    let net = blank(&backend, 1);
    let mut other = blank(&backend, 2);
    assert_ne!(bits(&backend, &net), bits(&backend, &other));
    weights::save(&backend, &net, &first).unwrap();
    weights::load(&backend, &mut other, &first).unwrap();
    assert_eq!(bits(&backend, &net), bits(&backend, &other));
    weights::save(&backend, &other, &second).unwrap();
    assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap(), "equal weights make equal files");
    let names = |folder: &Path| fs::read_dir(folder).unwrap().count();
    assert_eq!(names(folder.path()), 2, "no temporary file stays behind");
}

#[test]
fn pytorchs_files_are_read_in_its_layout() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights");
    write(&path, &state_dict());
    let backend = Cpu::<f32>::new();
    let mut net = blank(&backend, 1);
    weights::load(&backend, &mut net, &path).unwrap();
    for (name, param) in net.params() {
        let theirs = tensor(&format!("param.{name}"));
        assert_eq!(param.shape().dims(), theirs.dims, "{name}");
        assert_eq!(backend.download(param.data()).unwrap(), theirs.in_memory_order::<f32>(), "{name}");
    }
}

#[test]
fn files_are_written_in_pytorchs_layout() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights");
    let backend = Cpu::<f32>::new();
    let mut net = blank(&backend, 1);
    for (name, param) in net.params_mut() {
        param.set(&backend, &tensor(&format!("param.{name}")).in_memory_order()).unwrap();
    }
    weights::save(&backend, &net, &path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let ours = SafeTensors::deserialize(&bytes).unwrap();
    let theirs = state_dict();
    assert_eq!(ours.len(), theirs.len());
    for (name, dtype, dims, bytes) in &theirs {
        let view = ours.tensor(name).unwrap();
        assert_eq!((view.dtype(), view.shape(), view.data()), (*dtype, &dims[..], &bytes[..]), "{name}");
    }
}

/// Asserts that `path` is refused as a weights file, that the message contains `says`, and that no weight changed.
fn refuse(path: &Path, says: &str) {
    let backend = Cpu::<f32>::new();
    let mut net = blank(&backend, 1);
    let before = bits(&backend, &net);
    let error = weights::load(&backend, &mut net, path).unwrap_err();
    let message = error.to_string();
    assert!(message.contains(says), "{message}");
    match error {
        Error::Weights { path: named, .. } => assert_eq!(named, path),
        other => panic!("{says}: {other:?}"),
    }
    assert!(before == bits(&backend, &net), "{says}: the network has changed");
}

/// [`refuse`] for PyTorch's file with the entries changed by `change`.
fn refuse_changed(says: &str, change: impl FnOnce(&mut Vec<Entry>)) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights");
    let mut entries = state_dict();
    change(&mut entries);
    write(&path, &entries);
    refuse(&path, says);
}

fn entry<'a>(entries: &'a mut [Entry], name: &str) -> &'a mut Entry {
    entries.iter_mut().find(|(n, ..)| n == name).unwrap()
}

#[test]
fn a_missing_tensor_is_refused() {
    // The last tensor is missing: those before it must not have been loaded.
    refuse_changed("tensor 7.4.bias is missing", |entries| entries.retain(|(name, ..)| name != "7.4.bias"));
}

/// One message names everything that does not fit, in the network's order, however the file is ordered.
#[test]
fn all_missing_and_unexpected_tensors_are_named_at_once() {
    let says = "tensors 0.2.weight, 2.0.bias, 2.2.weight, 4.0.weight, 4.2.bias and 1 more are missing; the network has no \
                parameters 0.10.bias, 0.9.weight; use a file that was saved for the same network";
    for reversed in [false, true] {
        refuse_changed(says, |entries| {
            let missing = ["0.2.weight", "2.0.bias", "2.2.weight", "4.0.weight", "4.2.bias", "7.4.bias"];
            entries.retain(|(name, ..)| !missing.contains(&&**name));
            for name in ["0.9.weight", "0.10.bias"] {
                entries.push((name.into(), Dtype::F32, vec![1], vec![0; 4]));
            }
            if reversed {
                entries.reverse();
            }
        });
    }
}

#[test]
fn a_tensor_too_many_is_refused() {
    refuse_changed("no parameter 9.weight", |entries| {
        entries.push(("9.weight".into(), Dtype::F32, vec![1], vec![0; 4]));
    });
}

#[test]
fn a_wrong_shape_is_refused() {
    refuse_changed("7.4.bias has shape [11]", |entries| {
        let (_, _, dims, bytes) = entry(entries, "7.4.bias");
        *dims = vec![11];
        bytes.extend([0; 4]);
    });
    // The same number of elements, but in KRSC.
    refuse_changed("2.0.weight has shape [20, 5, 5, 12]", |entries| {
        entry(entries, "2.0.weight").2 = vec![20, 5, 5, 12];
    });
}

#[test]
fn a_wrong_type_is_refused() {
    for (to, width) in [(Dtype::I32, 4), (Dtype::U8, 1), (Dtype::BOOL, 1), (Dtype::F8_E4M3, 1)] {
        refuse_changed(&format!("0.0.bias is {to}; weights are F32, F16, BF16 or F64"), |entries| {
            let (_, dtype, dims, bytes) = entry(entries, "0.0.bias");
            *dtype = to;
            bytes.truncate(width * dims[0]);
        });
    }
}

#[test]
fn a_tensor_with_nan_or_infinity_is_refused() {
    let put = |values: &'static [f32], name: &'static str| {
        move |entries: &mut Vec<Entry>| {
            let (.., bytes) = entry(entries, name);
            bytes[..4 * values.len()].copy_from_slice(bytemuck::cast_slice(values));
        }
    };
    refuse_changed("tensor 0.0.bias holds a value that is NaN or infinite;", put(&[1.0, f32::NAN, 0.0], "0.0.bias"));
    const THREE: [f32; 4] = [f32::NAN, f32::INFINITY, f32::MAX, f32::NEG_INFINITY];
    refuse_changed("tensor 2.0.weight holds 3 values that are NaN or infinite (as does another tensor)", |entries| {
        put(&[f32::NAN], "4.0.bias")(entries);
        put(&THREE, "2.0.weight")(entries);
    });
    // Narrowed to f32, a large F64 is infinite.
    refuse_changed("tensor 0.0.bias holds a value that is NaN or infinite", |entries| {
        let (_, dtype, dims, bytes) = entry(entries, "0.0.bias");
        *dtype = Dtype::F64;
        *bytes = vec![0; 8 * dims[0]];
        bytes[..8].copy_from_slice(&1e39f64.to_le_bytes());
    });
}

#[test]
fn what_is_not_a_whole_file_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights");
    write(&path, &state_dict());
    let whole = fs::read(&path).unwrap();
    let cuts = [0, 7, 8, 100, whole.len() / 2, whole.len() - 1];
    for cut in cuts {
        fs::write(&path, &whole[..cut]).unwrap();
        refuse(&path, "not a safetensors file");
    }
    fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
    refuse(&path, "not a safetensors file");
    fs::write(&path, b"not at all what was expected here").unwrap();
    refuse(&path, "not a safetensors file");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let backend = Cpu::<f32>::new();
    let mut net = blank(&backend, 1);
    let absent = PathBuf::from("no/such/weights.safetensors");
    match weights::load(&backend, &mut net, &absent).unwrap_err() {
        Error::Io { path, .. } => assert_eq!(path, absent),
        other => panic!("{other:?}"),
    }
}
