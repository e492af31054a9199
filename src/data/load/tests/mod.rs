//! Data sets read from folders of a few small files.

#[cfg(feature = "fetch")]
mod cache;

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::super::spec::{DataFile, Published};
use super::known::{CIFAR10, FASHION_MNIST, KMNIST, MNIST};
use super::*;

const TRAIN_IMAGES: &DataFile = &FASHION_MNIST.train[0];
const TRAIN_LABELS: &DataFile = &FASHION_MNIST.train[1];
const TEST_IMAGES: &DataFile = &FASHION_MNIST.test[0];
const TEST_LABELS: &DataFile = &FASHION_MNIST.test[1];

fn idx(dimensions: &[u32], body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
    dimensions.iter().for_each(|length| bytes.extend(length.to_be_bytes()));
    [&bytes, body].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder with a small, well-formed data set of the MNIST family that begins with these labels.
fn folder(train: &[u8], test: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for ([images, names], labels) in [([TRAIN_IMAGES, TRAIN_LABELS], train), ([TEST_IMAGES, TEST_LABELS], test)] {
        let count = labels.len() as u32;
        let pixels = vec![7; labels.len() * 6];
        fs::write(folder.path().join(images.name), idx(&[count, 3, 2], &pixels)).unwrap();
        fs::write(folder.path().join(names.name), idx(&[count], labels)).unwrap();
    }
    folder
}

fn read(spec: &'static DataSpec, folder: &Path) -> Result<Splits> {
    Splits::read(spec, Source { folder: folder.into(), origin: Origin::Argument })
}

fn load(name: &str, size: usize) -> Result<Splits> {
    Splits::load(&name.into(), None, size, &mut |_| {})
}

#[test]
fn a_name_of_nothing_is_told_with_the_known_ones() {
    let error = load("fashoin-mnist", 4).unwrap_err().to_string();
    assert!(error.contains("fashoin-mnist: there is no such folder") && error.contains("cifar10"), "{error}");
}

#[test]
fn other_content_is_read_with_a_warning_for_each_file() {
    let folder = folder(&[1, 2, 3], &[4]);
    let data = read(&FASHION_MNIST, folder.path()).unwrap();
    assert_eq!((data.train.len(), data.test.len()), (3, 1));
    assert_eq!((data.train.height(), data.train.width(), data.train.channels()), (3, 2, 1));
    assert_eq!(data.train.labels(), [1, 2, 3]);
    assert_eq!(data.train.class_names(), FASHION_MNIST.class_names);
    assert_eq!(data.warnings.len(), 4);
    for (warning, file) in data.warnings.iter().zip(FASHION_MNIST.files()) {
        let Published::Content { sha256, .. } = file.published else { panic!("{}", file.name) };
        assert!(warning.contains(file.name) && warning.contains(sha256), "{warning}");
    }
}

#[test]
fn a_compressed_file_is_compared_only_if_it_is_compressed() {
    let folder = folder(&[1, 2, 3], &[4]);
    let data = read(&KMNIST, folder.path()).unwrap();
    assert_eq!((data.title.as_str(), data.warnings.len()), ("Kuzushiji-MNIST", 0));
    assert_eq!(data.test.class_names()[4], "na");
    let plain = folder.path().join(TEST_LABELS.name);
    fs::write(folder.path().join("t10k-labels-idx1-ubyte.gz"), gzip(&fs::read(plain).unwrap())).unwrap();
    let warnings = read(&KMNIST, folder.path()).unwrap().warnings;
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(warning.contains("t10k-labels-idx1-ubyte.gz") && warning.contains("20bb9a0ef54c"), "{warning}");
}

/// Kaggle's file names have a dot instead of the hyphen before `idx`.
#[test]
fn kaggles_names_are_read_plain_and_compressed() {
    for spec in [&FASHION_MNIST, &MNIST, &KMNIST] {
        for compressed in [false, true] {
            let folder = folder(&[1, 2, 3], &[4]);
            for file in spec.files() {
                let path = folder.path().join(file.name);
                let content = fs::read(&path).unwrap();
                fs::remove_file(path).unwrap();
                let dotted = file.name.replace("-idx", ".idx");
                // Unpacking Kaggle's archive also leaves a folder of the file's name.
                fs::create_dir(folder.path().join(file.name)).unwrap();
                match compressed {
                    true => fs::write(folder.path().join(format!("{dotted}.gz")), gzip(&content)).unwrap(),
                    false => fs::write(folder.path().join(dotted), content).unwrap(),
                }
            }
            let data = read(spec, folder.path()).unwrap();
            assert_eq!((data.train.labels(), data.test.labels()), (&[1, 2, 3][..], &[4][..]), "{}", spec.name);
        }
    }
}

#[test]
fn a_web_page_in_place_of_a_file_is_refused() {
    let page = b"<!DOCTYPE html><html><body>Not found</body></html>";
    let folder = folder(&[1], &[2]);
    fs::remove_file(folder.path().join(TRAIN_IMAGES.name)).unwrap();
    fs::write(folder.path().join("train-images-idx3-ubyte.gz"), page).unwrap();
    let cifar = cifar();
    fs::write(cifar.path().join("data_batch_3.bin"), page).unwrap();
    let archive = tempfile::tempdir().unwrap();
    fs::write(archive.path().join("cifar-10-binary.tar.gz"), page).unwrap();
    for (spec, folder, file) in [
        (&FASHION_MNIST, &folder, "train-images-idx3-ubyte.gz"),
        (&CIFAR10, &cifar, "data_batch_3.bin"),
        (&CIFAR10, &archive, "cifar-10-binary.tar.gz"),
    ] {
        let error = read(spec, folder.path()).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains("web page") && error.contains("get it again"), "{error}");
    }
}

/// The layouts in which torchvision, Keras and upstream's repository leave the files, below a folder that is named.
#[test]
fn files_are_found_where_other_programs_put_them() {
    for (spec, below) in [
        (&FASHION_MNIST, "FashionMNIST/raw"),
        (&FASHION_MNIST, "raw"),
        (&FASHION_MNIST, "datasets/fashion-mnist"),
        (&FASHION_MNIST, "data/fashion"),
        (&FASHION_MNIST, "fashion-mnist"),
        (&MNIST, "MNIST/raw"),
        (&KMNIST, "KMNIST/raw"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let inside = root.path().join(below);
        fs::create_dir_all(&inside).unwrap();
        let [train, test] = spec.first_labels.unwrap_or([&[1, 2], &[3]]);
        fs::rename(folder(train, test).keep(), &inside).unwrap();
        // torchvision keeps the compressed files beside those that it unpacked.
        let images = fs::read(inside.join(TRAIN_IMAGES.name)).unwrap();
        fs::write(inside.join(format!("{}.gz", TRAIN_IMAGES.name)), gzip(&images)).unwrap();
        let data = read(spec, root.path()).unwrap();
        assert_eq!((data.train.labels(), data.test.labels(), data.source.folder.as_path()), (train, test, &*inside));
        // Without a data set's name, the folder's or the labels tell it.
        if spec.first_labels.is_some() {
            assert_eq!(load(root.path().to_str().unwrap(), 4).unwrap().title, spec.title);
        }
        fs::remove_file(inside.join(TEST_LABELS.name)).unwrap();
        let error = load(root.path().to_str().unwrap(), 4).unwrap_err();
        assert!(matches!(&error, Error::DataFileMissing { other, .. } if other == TEST_LABELS.name), "{error}");
    }
}

#[test]
fn a_folder_of_several_data_sets_asks_for_a_name() {
    let root = tempfile::tempdir().unwrap();
    for spec in [&FASHION_MNIST, &MNIST] {
        let [train, test] = spec.first_labels.unwrap();
        let inside = root.path().join(spec.below[1]);
        fs::create_dir_all(&inside).unwrap();
        fs::rename(folder(train, test).keep(), inside).unwrap();
    }
    let error = load(root.path().to_str().unwrap(), 4).unwrap_err().to_string();
    assert!(error.contains("holds the data sets fashion-mnist, mnist; say which by --data NAME"), "{error}");
    for spec in [&FASHION_MNIST, &MNIST] {
        let data = Splits::load(&DataName::Known(spec), Some(root.path()), 4, &mut |_| {}).unwrap();
        assert_eq!(data.train.labels(), spec.first_labels.unwrap()[0]);
    }
}

/// Of a file's copies, a damaged one is passed over, with a warning that names both.
#[test]
fn a_good_copy_is_read_instead_of_a_damaged_one() {
    let whole = gzip(b"content");
    let page = b"<html>Not found</html>";
    for (damaged, says) in [
        (&whole[..9], "cut short"),
        (&page[..], "web page"),
        (&b""[..], "truncated"),
        (&idx(&[3], &[0, 0, 0]), "expected images"),
    ] {
        let folder = folder(&[1, 2, 3], &[4]);
        let images = folder.path().join("train-images-idx3-ubyte.gz");
        fs::write(&images, damaged).unwrap();
        let data = read(&FASHION_MNIST, folder.path()).unwrap();
        assert_eq!((data.train.len(), data.warnings.len()), (3, 5));
        let warning = &data.warnings[4];
        let instead = format!("{} was read instead", folder.path().join(TRAIN_IMAGES.name).display());
        assert!(warning.starts_with(&images.display().to_string()), "{warning}");
        assert!(warning.contains(says) && warning.ends_with(&instead), "{warning}");
        // Where no copy is good, the error is that of the first.
        fs::write(folder.path().join(TRAIN_IMAGES.name), b"PK\x03\x04").unwrap();
        let error = read(&FASHION_MNIST, folder.path()).unwrap_err().to_string();
        assert!(error.starts_with(&images.display().to_string()) && error.contains(says), "{error}");
    }
}

#[test]
fn no_images_are_refused() {
    for (train, test, says) in [(&[][..], &[1][..], "no images to train on"), (&[1], &[], "no images to test with")] {
        let folder = folder(train, test);
        let error = read(&FASHION_MNIST, folder.path()).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains(&folder.path().display().to_string()), "{error}");
    }
    let cifar = cifar();
    fs::write(cifar.path().join("test_batch.bin"), b"").unwrap();
    let error = read(&CIFAR10, cifar.path()).unwrap_err().to_string();
    assert!(error.contains("no images to test with"), "{error}");
}

#[test]
fn digits_are_recognised() {
    let [train, test] = MNIST.first_labels.unwrap();
    for folder in [folder(train, &[1]), folder(&[1], test)] {
        let warnings = read(&FASHION_MNIST, folder.path()).unwrap().warnings;
        assert_eq!(warnings.len(), 5);
        let warning = &warnings[0];
        assert!(warning.contains("holds MNIST, not Fashion-MNIST") && warning.contains("--data mnist"), "{warning}");
        assert_eq!(read(&MNIST, folder.path()).unwrap().warnings.len(), 4);
    }
}

#[test]
fn what_is_not_images_and_labels_is_refused() {
    type Spoil = fn() -> Vec<u8>;
    let cases: [(&DataFile, Spoil, &str); 6] = [
        (TRAIN_IMAGES, || idx(&[1], &[0]), "expected images (u8, 3 dimensions), found u8 of"),
        (TRAIN_LABELS, || idx(&[1, 1], &[0]), "expected labels (u8, 1 dimension), found u8"),
        (TRAIN_LABELS, || idx(&[2], &[0, 0]), "1 image of 3x2, but 2 labels"),
        (TEST_LABELS, || idx(&[1], &[10]), "label 10 at position 0"),
        (TEST_IMAGES, || idx(&[1, 2, 3], &[0; 6]), "have 3x2, test images 2x3 pixels"),
        (TEST_IMAGES, || b"PK\x03\x04".to_vec(), "not an IDX file"),
    ];
    for (file, spoil, problem) in cases {
        let folder = folder(&[1], &[2]);
        fs::write(folder.path().join(file.name), spoil()).unwrap();
        let error = read(&FASHION_MNIST, folder.path()).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn a_file_that_is_missing_is_named_with_its_data_set() {
    let folder = folder(&[1], &[2]);
    fs::remove_file(folder.path().join(TEST_LABELS.name)).unwrap();
    for error in [read(&MNIST, folder.path()).unwrap_err(), load(folder.path().to_str().unwrap(), 4).unwrap_err()] {
        assert!(matches!(&error, Error::DataFileMissing { other, .. } if other == TEST_LABELS.name), "{error}");
    }
    let error = read(&CIFAR10, folder.path()).unwrap_err().to_string();
    assert!(error.contains("CIFAR-10") && error.contains("cifar-10-binary.tar.gz"), "{error}");
}

/// A folder with files of the MNIST family, given without a data set's name, is recognised by its labels.
#[test]
fn a_folder_of_known_files_is_recognised() {
    for spec in [&FASHION_MNIST, &MNIST] {
        let [train, test] = spec.first_labels.unwrap();
        let folder = folder(train, test);
        let data = load(folder.path().to_str().unwrap(), 4).unwrap();
        assert_eq!((data.title.as_str(), data.warnings.len()), (spec.title, 4));
    }
    let cifar = cifar();
    assert_eq!(load(cifar.path().to_str().unwrap(), 4).unwrap().title, "CIFAR-10");
    let unknown = folder(&[1], &[2]);
    let error = load(unknown.path().to_str().unwrap(), 4).unwrap_err().to_string();
    assert!(error.contains("fashion-mnist, mnist, kmnist") && error.contains("--data NAME"), "{error}");
}

/// A record of CIFAR-10: red is the pixel's index modulo 256, green `label + 100`, blue `label + 200`.
fn record(label: u8) -> Vec<u8> {
    let red = (0..1024).map(|i| i as u8);
    [label].into_iter().chain(red).chain([label + 100; 1024]).chain([label + 200; 1024]).collect()
}

/// Small files of CIFAR-10: one record each, whose label is the file's number, from 1.
fn cifar_files() -> Vec<(&'static str, Vec<u8>)> {
    CIFAR10.files().enumerate().map(|(i, file)| (file.name, record(i as u8 + 1))).collect()
}

fn cifar() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    cifar_files().iter().for_each(|(name, content)| fs::write(folder.path().join(name), content).unwrap());
    folder
}

/// The archive of these files as upstream packs them, compressed.
fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut append = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("cifar-10-batches-bin/{name}"), content).unwrap();
    };
    append("batches.meta.txt", b"airplane\n");
    files.iter().for_each(|(name, content)| append(name, content));
    gzip(&tar.into_inner().unwrap())
}

fn check_cifar(data: &Splits) {
    assert_eq!((data.train.len(), data.test.len()), (5, 1));
    assert_eq!((data.train.height(), data.train.width(), data.train.channels()), (32, 32, 3));
    assert_eq!((data.train.labels(), data.test.labels()), (&[1, 2, 3, 4, 5][..], &[6][..]));
    assert_eq!(data.train.class_names()[5], "dog");
    // Channel planes (CHW) have become channels side by side (HWC).
    let image = data.train.image(2);
    assert_eq!(image[..6], [0, 103, 203, 1, 103, 203]);
    assert_eq!(image[3 * 1023..], [255, 103, 203]);
}

#[test]
fn cifar_is_read_loose_unpacked_compressed_and_packed() {
    let loose = cifar();
    let data = read(&CIFAR10, loose.path()).unwrap();
    check_cifar(&data);
    assert_eq!(data.warnings.len(), 6);
    assert!(data.warnings[0].contains("3073 bytes instead of 30730000"), "{}", data.warnings[0]);

    let unpacked = tempfile::tempdir().unwrap();
    fs::rename(loose.keep(), unpacked.path().join("cifar-10-batches-bin")).unwrap();
    check_cifar(&read(&CIFAR10, unpacked.path()).unwrap());

    let compressed = tempfile::tempdir().unwrap();
    for (name, content) in cifar_files() {
        fs::write(compressed.path().join(format!("{name}.gz")), gzip(&content)).unwrap();
    }
    check_cifar(&read(&CIFAR10, compressed.path()).unwrap());

    let packed = tempfile::tempdir().unwrap();
    fs::write(packed.path().join("cifar-10-binary.tar.gz"), archive(&cifar_files())).unwrap();
    let data = read(&CIFAR10, packed.path()).unwrap();
    check_cifar(&data);
    assert!(data.warnings.len() == 1 && data.warnings[0].contains("c4a38c50a1bc"), "{:?}", data.warnings);
}

/// The fields of a description are public.
#[test]
fn descriptions_that_cannot_be_are_errors() {
    let folder = cifar();
    for (channels, extents, says) in
        [(0, [32, 32], "channels: 0 must"), (3, [0, 32], "extents: 0x32 must"), (3, [usize::MAX, 2], "extents: ")]
    {
        let spec: &'static DataSpec = Box::leak(Box::new(DataSpec { channels, extents, archive: None, ..CIFAR10 }));
        let error = read(spec, folder.path()).unwrap_err().to_string();
        assert!(error.starts_with(says), "{error}");
    }
    let spec: &'static DataSpec = Box::leak(Box::new(DataSpec { train: &[], archive: None, ..CIFAR10 }));
    assert!(read(spec, folder.path()).unwrap_err().to_string().contains("no images to train on"));
    fs::remove_file(folder.path().join("test_batch.bin")).unwrap();
    let error = read(spec, folder.path()).unwrap_err();
    assert!(matches!(&error, Error::DataFileMissing { other, .. } if other == "test_batch.bin"), "{error}");
}

#[test]
fn damaged_cifar_files_are_named() {
    let spoilt = |name: &str, content: &[u8]| {
        let folder = cifar();
        fs::write(folder.path().join(name), content).unwrap();
        read(&CIFAR10, folder.path()).unwrap_err().to_string()
    };
    let error = spoilt("data_batch_2.bin", &[record(1), vec![1; 99]].concat());
    assert!(error.contains("data_batch_2.bin: truncated: 99 bytes after 1 records of 3073"), "{error}");
    let error = spoilt("test_batch.bin", &[record(1), record(10)].concat());
    assert!(error.contains("test_batch.bin: record 1 has label 10, but there are 10 classes"), "{error}");
    let error = spoilt("data_batch_5.bin", &record(0).repeat(10_001));
    assert!(error.contains("data_batch_5.bin: more than the 10000 records"), "{error}");
    let whole = gzip(&record(0));
    let error = spoilt("data_batch_1.bin", &whole[..whole.len() - 6]);
    assert!(error.contains("data_batch_1.bin: cannot be read"), "{error}");

    let packed = |content: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cifar-10-binary.tar.gz"), content).unwrap();
        read(&CIFAR10, folder.path()).unwrap_err().to_string()
    };
    let error = packed(&archive(&cifar_files()[..5]));
    assert!(error.contains("the archive has no file test_batch.bin"), "{error}");
    let whole = archive(&cifar_files());
    for cut in [whole.len() / 2, whole.len() - 3] {
        let error = packed(&whole[..cut]);
        assert!(error.contains("cifar-10-binary.tar.gz") && error.contains("get"), "{error}");
    }
}
