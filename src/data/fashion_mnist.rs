//! Fashion-MNIST: where its four files may lie, what they must contain, and how they become two data sets.
//!
//! Source of the data: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
//! algorithms", 2017.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Dataset;
use super::fetch::{self, Progress};
use super::idx::{Content, Idx, IdxData};
use crate::error::{Error, IdxError, Result};

/// What the ten classes are, by label.
pub const CLASS_NAMES: [&str; 10] =
    ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"];

/// One of the four files, as upstream published it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DataFile {
    /// Its name where it is not compressed; `.gz` is added where it is.
    pub name: &'static str,
    /// Bytes of its content, uncompressed, with the IDX header.
    pub bytes: u64,
    /// SHA-256 of the same, since distributors compress anew.
    pub sha256: &'static str,
}

const TRAIN_IMAGES: DataFile = DataFile {
    name: "train-images-idx3-ubyte",
    bytes: 16 + 60_000 * 28 * 28,
    sha256: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
};
const TRAIN_LABELS: DataFile = DataFile {
    name: "train-labels-idx1-ubyte",
    bytes: 8 + 60_000,
    sha256: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
};
const TEST_IMAGES: DataFile = DataFile {
    name: "t10k-images-idx3-ubyte",
    bytes: 16 + 10_000 * 28 * 28,
    sha256: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
};
const TEST_LABELS: DataFile = DataFile {
    name: "t10k-labels-idx1-ubyte",
    bytes: 8 + 10_000,
    sha256: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
};

/// The four files that make up the data set.
pub(crate) static FILES: [DataFile; 4] = [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS];

/// The labels that digit MNIST begins with. Its files have the names and the sizes of Fashion-MNIST's.
const DIGITS_TRAIN: [u8; 10] = [5, 0, 4, 1, 9, 2, 1, 3, 1, 4];
const DIGITS_TEST: [u8; 10] = [7, 2, 1, 0, 4, 1, 4, 9, 5, 9];

impl DataFile {
    /// This file in `folder`, compressed or not.
    pub(crate) fn find_in(&self, folder: &Path) -> Option<PathBuf> {
        [format!("{}.gz", self.name), self.name.to_owned()]
            .into_iter()
            .map(|name| folder.join(name))
            .find(|path| path.is_file())
    }
}

/// Why a folder is looked at for the data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The program was told so: `--data-dir`.
    Argument,
    /// The environment variable `MLPCONV_DATA` names it.
    Environment,
    /// `data/fashion-mnist` below the current folder.
    WorkingFolder,
    /// Where Debian's package `dataset-fashion-mnist` puts it.
    System,
    /// The user's cache, into which [`FashionMnist::load`] fetches.
    Cache,
}

/// A folder of the data set, and why it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The folder.
    pub folder: PathBuf,
    /// Why this one.
    pub origin: Origin,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match self.origin {
            Origin::Argument => "given by --data-dir",
            Origin::Environment => "given by $MLPCONV_DATA",
            Origin::WorkingFolder => "below the current folder",
            Origin::System => "system-wide",
            Origin::Cache => "the user's cache",
        };
        write!(f, "{} ({origin})", self.folder.display())
    }
}

impl Source {
    /// Whether all four files are here. A folder of the user's choice must have them; of any other, only one that
    /// has begun to be the data set must, for to pass it over in silence would surprise. The cache is exempt: there
    /// a download was interrupted, and goes on.
    fn has_files(&self) -> Result<bool> {
        let missing: Vec<_> = FILES.iter().filter(|file| file.find_in(&self.folder).is_none()).collect();
        let excused = match self.origin {
            Origin::Argument | Origin::Environment => false,
            Origin::WorkingFolder | Origin::System => missing.len() == FILES.len(),
            Origin::Cache => true,
        };
        match missing.first() {
            None => Ok(true),
            Some(_) if excused => Ok(false),
            Some(file) => Err(Error::DataFileMissing { place: self.to_string(), file: file.name }),
        }
    }
}

/// Where to look, in order. An explicit folder leaves no choice.
fn sources(explicit: Option<&Path>) -> Vec<Source> {
    let source = |folder: PathBuf, origin| Source { folder, origin };
    if let Some(folder) = explicit {
        return vec![source(folder.into(), Origin::Argument)];
    }
    if let Some(folder) = env::var_os("MLPCONV_DATA").filter(|folder| !folder.is_empty()) {
        return vec![source(folder.into(), Origin::Environment)];
    }
    let mut sources = vec![
        source("data/fashion-mnist".into(), Origin::WorkingFolder),
        source("/usr/share/datasets/fashion-mnist".into(), Origin::System),
    ];
    // The XDG base directory specification: a relative path is to be ignored.
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|folder| folder.is_absolute())
        .or_else(|| env::home_dir().map(|home| home.join(".cache")));
    sources.extend(cache.map(|cache| source(cache.join("mlpconv/fashion-mnist"), Origin::Cache)));
    sources
}

/// The first of `sources` that has the data set.
fn first(sources: &[Source]) -> Result<Option<Source>> {
    for source in sources {
        if source.has_files()? {
            return Ok(Some(source.clone()));
        }
    }
    Ok(None)
}

/// Fashion-MNIST: 60,000 images to train on and 10,000 to test with, 28x28, of ten classes.
#[derive(Clone, Debug)]
pub struct FashionMnist {
    /// The training images.
    pub train: Dataset,
    /// The test images.
    pub test: Dataset,
    /// Where the files lay.
    pub source: Source,
    /// What the user should know: files that are well-formed, but not those that upstream published.
    pub warnings: Vec<String>,
}

impl FashionMnist {
    /// Where the data set lies on this machine, if it does. Looked at, in order: `explicit` (`--data-dir`),
    /// `$MLPCONV_DATA`, `data/fashion-mnist`, `/usr/share/datasets/fashion-mnist`, and `mlpconv/fashion-mnist` in the
    /// user's cache (`$XDG_CACHE_HOME` or `~/.cache`). Nothing is read and nothing is fetched.
    ///
    /// # Errors
    ///
    /// [`Error::DataFileMissing`] where a folder that was named, by `explicit` or by the environment, lacks one of
    /// the four files, or where one that was not named has only some of them.
    pub fn find(explicit: Option<&Path>) -> Result<Option<Source>> {
        first(&sources(explicit))
    }

    /// Finds the data set, or else fetches it into the user's cache, and reads it.
    ///
    /// # Errors
    ///
    /// Those of [`find`](Self::find), [`fetch`](fetch::fetch) and [`read`](Self::read);
    /// [`Error::DataNotFound`] then lists the folders too.
    pub fn load(explicit: Option<&Path>, on_progress: &mut dyn FnMut(Progress)) -> Result<FashionMnist> {
        let sources = sources(explicit);
        if let Some(source) = first(&sources)? {
            return Self::read(source);
        }
        let mut tried: Vec<_> = sources.iter().map(|s| format!("{s}: not there")).collect();
        let Some(cache) = sources.into_iter().find(|source| source.origin == Origin::Cache) else {
            tried.push("the user's cache: neither $XDG_CACHE_HOME nor $HOME says where".into());
            return Err(Error::DataNotFound { tried });
        };
        match fetch::fetch(&cache.folder, on_progress) {
            Ok(()) => Self::read(cache),
            Err(Error::DataNotFound { tried: fetching }) => {
                tried.extend(fetching);
                Err(Error::DataNotFound { tried })
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the data set from a folder that has it.
    ///
    /// # Errors
    ///
    /// [`Error::DataFileMissing`], [`Error::Io`] and [`Error::Idx`] where a file is not there, cannot be opened, or
    /// is not IDX; [`Error::Data`] where it is, but holds something else than images or labels from 0 to 9, or where
    /// files do not fit together. Content that merely differs from upstream's is a [warning](Self::warnings).
    pub fn read(source: Source) -> Result<FashionMnist> {
        let mut warnings = Vec::new();
        let train = read_pair(&source, &TRAIN_IMAGES, &TRAIN_LABELS, &mut warnings)?;
        let test = read_pair(&source, &TEST_IMAGES, &TEST_LABELS, &mut warnings)?;
        let size = |dataset: &Dataset| format!("{}x{}", dataset.height(), dataset.width());
        if size(&train) != size(&test) {
            let problem = format!("training images have {}, test images {} pixels", size(&train), size(&test));
            return Err(Error::data(source.to_string(), problem));
        }
        if train.labels().starts_with(&DIGITS_TRAIN) || test.labels().starts_with(&DIGITS_TEST) {
            let digits = format!("{source} holds MNIST's digits, not Fashion-MNIST: the classes are the digits 0 to 9");
            warnings.insert(0, digits);
        }
        Ok(FashionMnist { train, test, source, warnings })
    }
}

/// Reads the images and the labels of one of the two data sets.
fn read_pair(source: &Source, images: &DataFile, labels: &DataFile, warnings: &mut Vec<String>) -> Result<Dataset> {
    let (path, idx) = read_file(source, images, warnings)?;
    let (pixels, height, width) = match (idx.data, &idx.shape[..]) {
        (IdxData::U8(pixels), &[_, height, width]) => (pixels, height, width),
        (data, shape) => return Err(unexpected(&path, "images (u8, 3 dimensions)", &data, shape)),
    };
    let (path, idx) = read_file(source, labels, warnings)?;
    let labels = match (idx.data, &idx.shape[..]) {
        (IdxData::U8(labels), &[_]) => labels,
        (data, shape) => return Err(unexpected(&path, "labels (u8, 1 dimension)", &data, shape)),
    };
    Dataset::new(pixels, labels, height, width, CLASS_NAMES.len()).map_err(|error| match error {
        Error::Data { problem, .. } => Error::data(format!("{}, {} and its labels", source, images.name), problem),
        other => other,
    })
}

fn unexpected(path: &Path, expected: &str, data: &IdxData, shape: &[usize]) -> Error {
    let problem = format!("expected {expected}, found {} of shape {shape:?}", data.type_name());
    Error::data(path.display().to_string(), problem)
}

/// Reads one file, adding a warning where its content is not upstream's.
fn read_file(source: &Source, file: &DataFile, warnings: &mut Vec<String>) -> Result<(PathBuf, Idx)> {
    let Some(path) = file.find_in(&source.folder) else {
        return Err(Error::DataFileMissing { place: source.to_string(), file: file.name });
    };
    let opened = File::open(&path).map_err(Error::io("open", &path))?;
    let mut sha256 = String::new();
    let idx = Content::new(BufReader::new(opened)).map_err(IdxError::from).and_then(|content| {
        let mut hashed = Hashed::new(content);
        let idx = Idx::parse(&mut hashed);
        sha256 = hashed.finish().1;
        idx
    });
    let name = path.display().to_string();
    let idx = idx.map_err(|source| Error::Idx { name: name.clone(), source })?;
    if sha256 != file.sha256 {
        warnings.push(format!(
            "{name} is not the published file: its content has SHA-256 {sha256} instead of {}",
            file.sha256
        ));
    }
    Ok((path, idx))
}

/// A reader that keeps account of what it has read.
pub(crate) struct Hashed<R> {
    reader: R,
    bytes: u64,
    sha256: Sha256,
}

impl<R> Hashed<R> {
    pub(crate) fn new(reader: R) -> Self {
        Hashed { reader, bytes: 0, sha256: Sha256::new() }
    }

    /// The number of bytes read and their SHA-256 in hexadecimal.
    pub(crate) fn finish(self) -> (u64, String) {
        let digest = self.sha256.finalize();
        (self.bytes, digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.bytes += count as u64;
        self.sha256.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn idx(dimensions: &[u32], body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
        dimensions.iter().for_each(|length| bytes.extend(length.to_be_bytes()));
        [&bytes, body].concat()
    }

    /// A folder with a small, well-formed data set that begins with these labels.
    fn folder(train: &[u8], test: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (images, names, labels) in [(&TRAIN_IMAGES, &TRAIN_LABELS, train), (&TEST_IMAGES, &TEST_LABELS, test)] {
            let count = labels.len() as u32;
            let pixels = vec![7; labels.len() * 6];
            fs::write(folder.path().join(images.name), idx(&[count, 3, 2], &pixels)).unwrap();
            fs::write(folder.path().join(names.name), idx(&[count], labels)).unwrap();
        }
        folder
    }

    fn source(folder: &Path, origin: Origin) -> Source {
        Source { folder: folder.into(), origin }
    }

    fn read(folder: &Path) -> Result<FashionMnist> {
        FashionMnist::read(source(folder, Origin::Argument))
    }

    #[test]
    fn other_content_is_read_with_a_warning_for_each_file() {
        let folder = folder(&[1, 2, 3], &[4]);
        let data = read(folder.path()).unwrap();
        assert_eq!((data.train.len(), data.test.len()), (3, 1));
        assert_eq!((data.train.height(), data.train.width()), (3, 2));
        assert_eq!(data.train.labels(), [1, 2, 3]);
        assert_eq!(data.warnings.len(), 4);
        for (warning, file) in data.warnings.iter().zip(&FILES) {
            assert!(warning.contains(file.name) && warning.contains(file.sha256), "{warning}");
        }
    }

    #[test]
    fn digits_are_recognised() {
        for folder in [folder(&DIGITS_TRAIN, &[1]), folder(&[1], &DIGITS_TEST)] {
            let warnings = read(folder.path()).unwrap().warnings;
            assert_eq!(warnings.len(), 5);
            assert!(warnings[0].contains("MNIST's digits, not Fashion-MNIST"), "{}", warnings[0]);
        }
    }

    #[test]
    fn a_missing_file_is_named_where_the_folder_should_have_it() {
        let folder = folder(&[1], &[2]);
        let path = folder.path();
        let places = [Origin::Argument, Origin::Environment, Origin::WorkingFolder, Origin::System];
        for origin in places {
            assert!(source(path, origin).has_files().unwrap());
        }
        fs::remove_file(path.join(TEST_LABELS.name)).unwrap();
        for origin in places {
            let error = source(path, origin).has_files().unwrap_err().to_string();
            assert!(error.contains(TEST_LABELS.name), "{error}");
        }
        assert!(!source(path, Origin::Cache).has_files().unwrap());
        let error = read(path).unwrap_err();
        assert!(matches!(error, Error::DataFileMissing { file, .. } if file == TEST_LABELS.name));
    }

    #[test]
    fn folders_are_looked_at_in_order() {
        let empty = tempfile::tempdir().unwrap();
        let (near, far) = (folder(&[1], &[2]), folder(&[3], &[4]));
        let places = [
            source(empty.path(), Origin::WorkingFolder),
            source(near.path(), Origin::System),
            source(far.path(), Origin::Cache),
        ];
        assert_eq!(first(&places).unwrap().as_ref(), Some(&places[1]));
        assert_eq!(first(&places[..1]).unwrap(), None);
        let named = [source(empty.path(), Origin::Environment), places[1].clone()];
        assert!(matches!(first(&named), Err(Error::DataFileMissing { .. })));
        assert!(FashionMnist::find(Some(empty.path())).is_err());
        let found = FashionMnist::find(Some(near.path())).unwrap().unwrap();
        assert_eq!(found.to_string(), format!("{} (given by --data-dir)", near.path().display()));
    }

    #[test]
    fn what_is_not_images_and_labels_is_refused() {
        type Spoil = fn() -> Vec<u8>;
        let cases: [(&DataFile, Spoil, &str); 6] = [
            (&TRAIN_IMAGES, || idx(&[1], &[0]), "expected images (u8, 3 dimensions), found u8 of"),
            (&TRAIN_LABELS, || idx(&[1, 1], &[0]), "expected labels (u8, 1 dimension), found u8"),
            (&TRAIN_LABELS, || idx(&[2], &[0, 0]), "2 labels call for as many images of 3x2"),
            (&TEST_LABELS, || idx(&[1], &[10]), "label 10 at position 0"),
            (&TEST_IMAGES, || idx(&[1, 2, 3], &[0; 6]), "have 3x2, test images 2x3 pixels"),
            (&TEST_IMAGES, || b"<html>".to_vec(), "not an IDX file"),
        ];
        for (file, spoil, problem) in cases {
            let folder = folder(&[1], &[2]);
            fs::write(folder.path().join(file.name), spoil()).unwrap();
            let error = read(folder.path()).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
