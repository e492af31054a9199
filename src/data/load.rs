//! Loading of a data set by name or by folder: finds or fetches it, reads it, and checks it against its description.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::content::{Content, Hashed};
use super::fetch::{self, Progress};
use super::name::DataName;
use super::source::{Origin, Source, first, sources};
use super::spec::{DataSpec, Format, Holding, Published};
use super::{Dataset, cifar, folder, idx_images, known};
use crate::error::{Error, Result};

/// A data set in memory, split into training and test images.
#[derive(Clone, Debug)]
pub struct Splits {
    /// The data set's name, as a person writes it.
    pub title: String,
    /// The images to train on.
    pub train: Dataset,
    /// The images to test with.
    pub test: Dataset,
    /// The folder of the files.
    pub source: Source,
    /// Warnings for the user: files that are well-formed, but not the published ones.
    pub warnings: Vec<String>,
}

impl Splits {
    /// Looks for a known data set on this machine; `None` if it is not there. Reads no file and fetches nothing.
    ///
    /// If a folder is named, by `explicit` (`--data-dir`) or else by `$MLPCONV_DATA`, only that folder is searched, or
    /// the folder `NAME` in it. Otherwise these are, in order: `data/NAME`, `/usr/share/datasets/NAME`, and
    /// `mlpconv/NAME` in the user's cache (`$XDG_CACHE_HOME` or `~/.cache`).
    ///
    /// # Errors
    ///
    /// [`Error::DataFileMissing`] if a named folder lacks a file, or if `data/NAME` or `/usr/share/datasets/NAME` has
    /// some of the files but not all. A partial cache is no error: a fetch completes it.
    pub fn find(spec: &'static DataSpec, explicit: Option<&Path>) -> Result<Option<Source>> {
        first(spec, &sources(spec, explicit))
    }

    /// Reads a data set.
    ///
    /// A known data set is read from the folder that [`find`](Self::find) finds; if there is none, it is fetched into
    /// the user's cache first.
    ///
    /// A folder is read from its path, or from `explicit` if that is given. If it holds the files of a known data set,
    /// it is read as that one. Else it is a folder of images: either `DIR/train/CLASS/*` and `DIR/test/CLASS/*`, or
    /// `DIR/CLASS/*`, of which the 1st, 11th, 21st ... image of each class, in the order of names, is for testing.
    /// Images of several sizes are resized to `size` x `size`.
    ///
    /// # Errors
    ///
    /// Those of [`find`](Self::find), [`fetch`](fetch::fetch) and [`read`](Self::read); [`Error::DataNotFound`] then
    /// lists the searched folders too. [`Error::Data`] for a folder that does not exist or has neither layout, and for
    /// a file in it that is no image.
    pub fn load(
        name: &DataName,
        explicit: Option<&Path>,
        size: usize,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Splits> {
        match name {
            DataName::Known(spec) => Self::load_known(spec, explicit, on_progress),
            DataName::Folder(folder) => Self::load_folder(folder, explicit, size),
        }
    }

    fn load_known(
        spec: &'static DataSpec,
        explicit: Option<&Path>,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Splits> {
        let sources = sources(spec, explicit);
        if let Some(source) = first(spec, &sources)? {
            return Self::read(spec, source);
        }
        let mut tried: Vec<_> = sources.iter().map(|s| format!("{s}: not there")).collect();
        let not_found = |tried| Error::DataNotFound { data: spec.title.into(), tried, remedy: spec.remedy() };
        let Some(cache) = sources.into_iter().find(|source| source.origin == Origin::Cache) else {
            tried.push("the user's cache: neither $XDG_CACHE_HOME nor $HOME says where".into());
            return Err(not_found(tried));
        };
        match fetch::fetch(spec, &cache.folder, on_progress) {
            Ok(()) => Self::read(spec, cache),
            Err(Error::DataNotFound { tried: fetching, .. }) => {
                tried.extend(fetching);
                Err(not_found(tried))
            }
            Err(error) => Err(error),
        }
    }

    fn load_folder(folder: &Path, explicit: Option<&Path>, size: usize) -> Result<Splits> {
        let source = match explicit {
            Some(folder) => Source { folder: folder.into(), origin: Origin::Argument },
            None => Source { folder: folder.into(), origin: Origin::Choice },
        };
        if !source.folder.is_dir() {
            let names: Vec<&str> = known::ALL.iter().map(|spec| spec.name).collect();
            let problem =
                format!("there is no such folder, and no data set of that name; known are {}", names.join(", "));
            return Err(Error::data(source.folder.display().to_string(), problem));
        }
        if let Some(spec) = identify(&source)? {
            return Self::read(spec, source);
        }
        let [train, test] = folder::read(&source.folder, size)?;
        if train.classes() < 2 {
            let problem = format!("{:?} is the only class; there have to be two to tell apart", train.class_names()[0]);
            return Err(Error::data(source.folder.display().to_string(), problem));
        }
        let title = source.folder.file_name().unwrap_or(source.folder.as_os_str()).display().to_string();
        Ok(Splits { title, train, test, source, warnings: Vec::new() })
    }

    /// Reads a known data set from the folder of `source`.
    ///
    /// # Errors
    ///
    /// [`Error::DataFileMissing`] where a file is missing, [`Error::Io`] where it cannot be read, [`Error::Idx`] where
    /// it is not IDX, and [`Error::Data`] where it does not have the data set's format, or where files do not fit
    /// together. Well-formed content that differs from the published one gives a [warning](Self::warnings).
    pub fn read(spec: &'static DataSpec, source: Source) -> Result<Splits> {
        let Some(holding) = spec.held_by(&source.folder) else { return Err(source.lacks_a_file(spec)) };
        let mut warnings = Vec::new();
        let [train, test] = match (spec.format, &holding) {
            (Format::Idx, Holding::Files(folder)) => {
                let mut read = |files| idx_images::read(folder, files, spec.class_names, &mut warnings);
                [read(spec.train)?, read(spec.test)?]
            }
            (Format::Idx, Holding::Archive(path)) => {
                return Err(Error::data(path.display().to_string(), "IDX files are read unpacked; unpack the archive"));
            }
            (Format::CifarBinary, holding) => cifar::read(spec, holding, &mut warnings)?,
        };
        let size = |dataset: &Dataset| format!("{}x{}", dataset.height(), dataset.width());
        if size(&train) != size(&test) {
            let problem = format!("training images have {}, test images {} pixels", size(&train), size(&test));
            return Err(Error::data(source.to_string(), problem));
        }
        if let Some(other) = mistaken(spec, [train.labels(), test.labels()]) {
            let warning = format!(
                "{source} holds {}, not {}: the classes are {}; add --data {}",
                other.title,
                spec.title,
                other.class_names.join(", "),
                other.name
            );
            warnings.insert(0, warning);
        }
        Ok(Splits { title: spec.title.into(), train, test, source, warnings })
    }
}

/// The known data set other than `spec` whose training or test labels begin like these, if there is one.
fn mistaken(spec: &DataSpec, [train, test]: [&[u8]; 2]) -> Option<&'static DataSpec> {
    let begin = |other: &&&'static DataSpec| {
        other.first_labels.is_some_and(|[of_train, of_test]| train.starts_with(of_train) || test.starts_with(of_test))
    };
    known::ALL.iter().find(begin).copied().filter(|other| other.name != spec.name)
}

/// The known data set whose files lie in a folder that was given without a data set's name; `None` if it holds none.
///
/// # Errors
/// [`Error::DataFileMissing`] where only some files of a data set are there. [`Error::Data`] where the files have the
/// names of several data sets, and the labels are those of none.
fn identify(source: &Source) -> Result<Option<&'static DataSpec>> {
    let folder = &source.folder;
    let held: Vec<_> = known::ALL.into_iter().filter_map(|spec| Some((spec, spec.held_by(folder)?))).collect();
    match &held[..] {
        [] => {
            let begun = |spec: &&&'static DataSpec| spec.missing_in(folder).len() < spec.files().count();
            known::ALL.iter().find(begun).map_or(Ok(None), |spec| Err(source.lacks_a_file(spec)))
        }
        [(spec, _)] => Ok(Some(spec)),
        several => {
            // The MNIST family shares file names. The labels tell its data sets apart, and are quick to hash.
            for (spec, holding) in several {
                if let Holding::Files(folder) = holding
                    && are_labels_of(spec, folder)?
                {
                    return Ok(Some(spec));
                }
            }
            let names: Vec<&str> = several.iter().map(|(spec, _)| spec.name).collect();
            let problem = format!(
                "its files have the names of {}, and are as none of them was published; say which by --data NAME, and \
                 --data-dir {}",
                names.join(", "),
                folder.display()
            );
            Err(Error::data(source.to_string(), problem))
        }
    }
}

/// Whether the test labels in `folder` are those of `spec`, by their hash or by their first values.
fn are_labels_of(spec: &DataSpec, folder: &Path) -> Result<bool> {
    let Some((file, path)) = spec.test.last().and_then(|file| Some((file, file.find_in(folder)?))) else {
        return Ok(false);
    };
    let opened = File::open(&path).map_err(Error::io("open", &path))?;
    let (sha256, reader): (_, Box<dyn Read>) = match file.published {
        Published::Content { sha256, .. } => {
            (sha256, Box::new(Content::new(opened).map_err(Error::io("read", &path))?))
        }
        Published::Compressed { sha256, .. } => (sha256, Box::new(opened)),
        Published::Size { .. } => return Ok(false),
    };
    let mut hashed = Hashed::new(reader);
    // If reading fails here, `read_labels` below reports the error.
    if io::copy(&mut hashed, &mut io::sink()).is_ok() && hashed.finish().1 == sha256 {
        return Ok(true);
    }
    let labels = idx_images::read_labels(&path)?;
    Ok(spec.first_labels.is_some_and(|[_, first]| labels.starts_with(first)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tempfile::TempDir;

    use super::super::spec::DataFile;
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

    #[test]
    fn digits_are_recognised() {
        let [train, test] = MNIST.first_labels.unwrap();
        for folder in [folder(train, &[1]), folder(&[1], test)] {
            let warnings = read(&FASHION_MNIST, folder.path()).unwrap().warnings;
            assert_eq!(warnings.len(), 5);
            let warning = &warnings[0];
            assert!(
                warning.contains("holds MNIST, not Fashion-MNIST") && warning.contains("--data mnist"),
                "{warning}"
            );
            assert_eq!(read(&MNIST, folder.path()).unwrap().warnings.len(), 4);
        }
    }

    #[test]
    fn what_is_not_images_and_labels_is_refused() {
        type Spoil = fn() -> Vec<u8>;
        let cases: [(&DataFile, Spoil, &str); 6] = [
            (TRAIN_IMAGES, || idx(&[1], &[0]), "expected images (u8, 3 dimensions), found u8 of"),
            (TRAIN_LABELS, || idx(&[1, 1], &[0]), "expected labels (u8, 1 dimension), found u8"),
            (TRAIN_LABELS, || idx(&[2], &[0, 0]), "2 labels call for as many images of 3x2"),
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
        let error = spoilt("data_batch_1.bin.gz", &whole[..whole.len() - 6]);
        assert!(error.contains("data_batch_1.bin.gz: cannot be read"), "{error}");

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
}
