//! Files that PyTorch wrote (tests/fixtures/pytorch): state dicts are loaded, and what is none is refused.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use mlpconv::nn::{Builder, Init, Module, Sequential};
use mlpconv::weights::{self, Format, Tensors};
use mlpconv::{Cpu, Error};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(format!("tests/fixtures/pytorch/{name}.pt"))
}

/// Those that hold a state dict, with the entry that it is under and the types of weights and bias.
const GOOD: [(&str, Option<&str>, [&str; 2]); 11] = [
    ("f32", None, ["F32"; 2]),
    ("bf16", None, ["BF16"; 2]),
    ("f16", None, ["F16"; 2]),
    ("f64", None, ["F64"; 2]),
    ("protocol-4", None, ["F32"; 2]),
    ("no-checksums", None, ["F32"; 2]),
    ("transposed", None, ["F32"; 2]),
    ("shared", None, ["F32"; 2]),
    ("data-parallel", None, ["F32"; 2]),
    ("wrapped", Some("state_dict"), ["F32"; 2]),
    ("parameters", None, ["F32"; 2]),
];

/// What the tensors of a file are, without what the file says of itself.
fn contents(backend: &Cpu<f32>, tensors: &Tensors) -> Result<BTreeMap<String, Vec<u32>>, Error> {
    let mut build = Builder::new(backend, Init::He, 1);
    let mut net = Sequential::new().push(build.conv2d(1, 2, 3, 1, 0).unwrap());
    tensors.give_to(backend, &mut net, &[], &fixture("f32"))?;
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    Ok(net.params().into_iter().map(|(name, param)| (name, bits(param.data()))).collect())
}

/// One input channel: KRSC and OIHW are the same order.
fn expected() -> BTreeMap<String, Vec<u32>> {
    let weight = (0..18).map(|i| ((i as f32 - 9.0) / 4.0).to_bits()).collect();
    BTreeMap::from([("0.weight".into(), weight), ("0.bias".into(), vec![1f32.to_bits(), 2f32.to_bits()])])
}

#[test]
fn state_dicts_of_every_kind_are_loaded() {
    let backend = Cpu::<f32>::new();
    for (name, wrapper, types) in GOOD {
        let tensors = Tensors::load(&fixture(name)).unwrap();
        assert_eq!(contents(&backend, &tensors).unwrap(), expected(), "{name}");
        let origin = tensors.origin();
        assert_eq!((origin.format, origin.wrapper), (Format::PyTorch, wrapper), "{name}");
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        types.iter().for_each(|&kind| *counts.entry(kind.into()).or_default() += 1);
        assert_eq!(origin.types, counts, "{name}");
        assert_eq!((tensors.len(), tensors.elements(), tensors.is_sealed()), (2, 20, false), "{name}");
    }
}

#[test]
fn what_is_no_state_dict_of_weights_is_refused_with_the_remedy() {
    for (name, says) in [
        ("two-wrappers", "it has weights under model and under net; save one of them alone"),
        ("integers", "tensor 0.bias is I64; weights are F32, F16, BF16 or F64"),
        ("repeated", "its tensors have more elements than the file has bytes"),
        ("whole-module", "it would run torch.nn.modules.container.Sequential; only tensors are read"),
        ("legacy", "of the format that PyTorch wrote before version 1.6; load it in PyTorch, and save it again"),
    ] {
        let path = fixture(name);
        match Tensors::load(&path) {
            Err(Error::Weights { path: named, problem }) => {
                assert_eq!(named, path);
                assert!(problem.contains(says) && problem.lines().count() == 1, "{name}: {problem}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_network_of_another_shape_is_named_tensor_by_tensor() {
    let backend = Cpu::<f32>::new();
    let mut build = Builder::new(&backend, Init::He, 1);
    let mut wider = Sequential::new().push(build.conv2d(1, 3, 3, 1, 0).unwrap());
    let error = weights::load(&backend, &mut wider, fixture("data-parallel")).unwrap_err().to_string();
    assert!(error.contains("tensor module.0.weight has shape [2, 1, 3, 3], the network's is [3, 1, 3, 3]"), "{error}");
}

/// A file in a folder of its own, which is damaged in place.
struct Damaged {
    _folder: TempDir,
    path: PathBuf,
    file: File,
    whole: Vec<u8>,
}

impl Damaged {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (path, whole) = (folder.path().join("damaged.pt"), fs::read(fixture(name)).unwrap());
        fs::write(&path, &whole).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        Damaged { _folder: folder, path, file, whole }
    }

    /// What loading gives with one bit flipped.
    fn flipped(&mut self, bit: usize) -> Result<Tensors, Error> {
        let good = self.whole[bit / 8];
        let mut put = |byte: u8| {
            self.file.seek(SeekFrom::Start(bit as u64 / 8)).unwrap();
            self.file.write_all(&[byte]).unwrap();
        };
        put(good ^ 1 << (bit % 8));
        let loaded = Tensors::load(&self.path);
        put(good);
        loaded
    }
}

#[test]
fn every_truncation_is_refused() {
    for (name, ..) in GOOD {
        let damaged = Damaged::new(name);
        for len in (0..damaged.whole.len()).rev() {
            damaged.file.set_len(len as u64).unwrap();
            match Tensors::load(&damaged.path) {
                Err(Error::Weights { .. }) => {}
                other => panic!("{name}, {len} bytes: {other:?}"),
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_refused_or_changes_nothing() {
    let backend = Cpu::<f32>::new();
    for name in ["bf16", "transposed"] {
        let mut damaged = Damaged::new(name);
        let mut refused = 0;
        for bit in 0..8 * damaged.whole.len() {
            match damaged.flipped(bit) {
                Err(Error::Weights { .. }) => refused += 1,
                Err(other) => panic!("{name}, bit {bit}: {other}"),
                Ok(tensors) => assert_eq!(contents(&backend, &tensors).unwrap(), expected(), "{name}, bit {bit}"),
            }
        }
        // Pickle, storages and directory are most of what is not padding.
        assert!(refused > 8 * 500, "{name}: only {refused} flipped bits are refused");
    }
}

/// Without checksums the pickle itself is all that stands between a flipped bit and the tensors.
#[test]
fn flipped_bits_without_checksums_are_refused_or_read_and_never_a_panic() {
    let mut damaged = Damaged::new("no-checksums");
    let mut read = 0;
    for bit in 0..8 * damaged.whole.len() {
        match damaged.flipped(bit) {
            Err(Error::Weights { .. }) => {}
            Err(other) => panic!("bit {bit}: {other}"),
            Ok(tensors) => {
                read += 1;
                assert!(tensors.len() <= 2 && tensors.elements() <= 40, "bit {bit}");
            }
        }
    }
    assert!(read > 8 * 80, "the tensors' bits can be anything, but only {read} are read");
}
