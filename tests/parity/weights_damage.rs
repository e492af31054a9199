//! Sealed files: damage is refused, and a hostile header is an error.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use mlpconv::device::Role;
use mlpconv::nn::{Builder, Init, Sequential};
use mlpconv::weights::Tensors;
use mlpconv::{Cpu, Device, Error, Param};

/// The contents of a small file: parameters and one more tensor each, and a note.
fn contents(backend: &Cpu<f32>) -> Tensors {
    let mut build = Builder::new(backend, Init::He, 1);
    let net = Sequential::new().push(build.conv2d(1, 2, 3, 1, 0).unwrap());
    let mut tensors = Tensors::of(backend, &net).unwrap();
    let velocities = [18, 2].map(|len| backend.upload(Role::Parameter, &vec![0.25; len]).unwrap());
    let velocity = |param: &Param<_>| velocities.iter().find(|velocity| velocity.len() == param.shape().len());
    tensors.push_beside(backend, &net, "velocity.", velocity).unwrap();
    tensors.set_note(r#"{"position":{"epoch":3}}"#.into());
    tensors
}

/// Asserts that loading is refused as a problem of `path`, and returns the message.
fn refused(path: &Path) -> String {
    match Tensors::load(path) {
        Err(error @ Error::Weights { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_flipped_bit_is_refused_or_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sealed");
    let tensors = contents(&Cpu::new());
    tensors.save(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    let loaded = Tensors::load(&path).unwrap();
    assert!(loaded.is_sealed() && !tensors.is_sealed());
    let text = |tensors: &Tensors| format!("{tensors:?}").replace("sealed: true", "").replace("sealed: false", "");
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let mut put = |at: usize, byte: u8| {
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[byte]).unwrap();
    };
    let (mut refused, mut damaged) = (0, 0);
    for bit in 0..8 * whole.len() {
        let at = bit / 8;
        put(at.saturating_sub(1), whole[at.saturating_sub(1)]);
        put(at, whole[at] ^ (1 << (bit % 8)));
        match Tensors::load(&path) {
            // The entry `format`, and the checksum's key: without a checksum the contents are not sealed.
            Ok(other) => assert_eq!(text(&loaded), text(&other), "bit {bit}"),
            Err(Error::Weights { problem, .. }) => {
                refused += 1;
                damaged += usize::from(problem.contains("the file is damaged"));
            }
            Err(other) => panic!("bit {bit}: {other}"),
        }
    }
    let lenient = 8 * whole.len() - refused;
    assert!(lenient < 8 * "formatptmlpconv.sha256".len(), "{lenient} flipped bits pass");
    assert!(damaged > 8 * 4 * 40, "{damaged} flipped bits do not match the checksum, of {refused} that are refused");
}

#[test]
fn every_truncation_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sealed");
    contents(&Cpu::new()).save(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        let message = refused(&path);
        assert!(message.contains("it is cut short; get the file again"), "{len}: {message}");
    }
}

#[test]
fn a_change_breaks_the_seal_until_it_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sealed");
    contents(&Cpu::new()).save(&path).unwrap();
    let mut tensors = Tensors::load(&path).unwrap();
    assert!(tensors.is_sealed());
    tensors.set_note("another".into());
    assert!(!tensors.is_sealed());
    tensors.save(&path).unwrap();
    assert!(Tensors::load(&path).unwrap().is_sealed());
}

/// A file with this header, and `data` bytes after it.
fn with_header(path: &Path, header: &str, data: usize) {
    let length = (header.len() as u64).to_le_bytes();
    fs::write(path, [&length, header.as_bytes(), &vec![0; data]].concat()).unwrap();
}

#[test]
fn hostile_headers_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile");
    let deep = "[".repeat(100_000);
    let tensor = |shape: &str, from: &str, to: &str| {
        format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
    };
    let max = u64::MAX.to_string();
    let headers = [
        String::new(),
        "{".into(),
        "[]".into(),
        "null".into(),
        deep,
        r#"{"__metadata__":{"mlpconv.sha256":3}}"#.into(),
        r#"{"__metadata__":{"mlpconv.sha256":""}}"#.into(),
        r#"{"__metadata__":{},"__metadata__":{}}"#.into(),
        // A terabyte that the file does not have, and extents whose product overflows.
        tensor("[274877906944]", "0", "1099511627776"),
        tensor(&format!("[{max},{max}]"), "0", "4"),
        tensor(&format!("[{max}]"), "0", &max),
        tensor("[1]", "4", "8"),
        tensor("[1]", "4", "0"),
        tensor("[-1]", "0", "4"),
        tensor("[1.5]", "0", "6"),
        tensor("[1]", "0", &format!("{max}0")),
    ];
    for header in headers {
        with_header(&path, &header, 4);
        let message = refused(&path);
        assert!(message.len() < 500, "{message}");
    }
    for length in [0, 1, 99, 100_000_000, 100_000_001, u64::MAX] {
        fs::write(&path, [&u64::to_le_bytes(length)[..], b"{}"].concat()).unwrap();
        refused(&path);
    }
    with_header(&path, "{}", 4);
    assert!(refused(&path).contains("more in it than its header calls for"));
    with_header(&path, "{}", 0);
    assert!(!Tensors::load(&path).unwrap().is_sealed());
}

#[cfg(unix)]
#[test]
fn an_endless_file_is_refused_at_once() {
    refused(Path::new("/dev/zero"));
}
