//! The description of a data set as plain data: its files, their published content, the meaning of its labels.

use std::path::{Path, PathBuf};

use super::form::Form;
use super::presence;
use super::recipe::Recipe;
use crate::error::Result;

/// A data set that is known by name.
#[derive(Debug, PartialEq, Eq)]
pub struct DataSpec {
    /// The name in `--data`, in a run's settings, and of folders that hold it.
    pub name: &'static str,
    /// The name as a person writes it.
    pub title: &'static str,
    /// 1 for grey images, 3 for RGB.
    pub channels: usize,
    /// Height and width of the published images.
    pub extents: [usize; 2],
    /// The names of the classes, indexed by label.
    pub class_names: &'static [&'static str],
    /// How pictures of any size became the images.
    pub recipe: Recipe,
    /// How the files are read.
    pub format: Format,
    /// The files of the training images, in the order that [`Format`] states.
    pub train: &'static [DataFile],
    /// The files of the test images.
    pub test: &'static [DataFile],
    /// The archive into which upstream packs all files, if there is one: a tar file, whose name ends in `.tar`.
    pub archive: Option<DataFile>,
    /// Folders in which other programs and archives leave the files, below a folder that is searched. The first is
    /// `name`, for a folder of several data sets.
    pub below: &'static [&'static str],
    /// Addresses of folders that serve the archive, or else each file compressed with gzip. A download's hash is
    /// checked, so a mirror need not be trusted and need not speak TLS.
    pub mirrors: &'static [&'static str],
    /// Debian's package, which puts the files into `/usr/share/datasets/NAME`.
    pub package: Option<&'static str>,
    /// The first labels of the training and of the test images. They tell apart data sets whose files have the same
    /// names and sizes.
    pub first_labels: Option<[&'static [u8]; 2]>,
}

/// How the files of a data set are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Two IDX files, of images and of their labels.
    Idx,
    /// Any number of files of records: a byte for the label, then the channels one after the other, row by row.
    CifarBinary,
}

/// One file of a data set.
#[derive(Debug, PartialEq, Eq)]
pub struct DataFile {
    /// The name of the uncompressed file; a compressed one adds `.gz`.
    pub name: &'static str,
    /// The published size and hash, by which the file is checked.
    pub published: Published,
}

/// The size and the SHA-256 (in hexadecimal) of a file as upstream published it, as far as they are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// Size and hash of the uncompressed content, which stay the same when a distributor compresses it anew.
    Content { bytes: u64, sha256: &'static str },
    /// Size and hash of the file as upstream compressed it. Nothing is known of the content, so an uncompressed file is
    /// not checked.
    Compressed { bytes: u64, sha256: &'static str },
    /// The size of the uncompressed content; no hash is known.
    Size { bytes: u64 },
}

/// The form in which a folder holds a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holding {
    /// All files lie in this folder.
    Files(PathBuf),
    /// The archive lies in this folder.
    Archive(PathBuf),
}

impl Holding {
    /// The folder of the files or of the archive.
    pub fn folder(&self) -> &Path {
        let (Holding::Files(folder) | Holding::Archive(folder)) = self;
        folder
    }
}

impl DataFile {
    /// The names that the file may have, in the order in which they are looked for: upstream's (a hyphen before `idx`),
    /// then Kaggle's (a dot), of each the compressed one first.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for stem in [self.name.to_owned(), self.name.replace("-idx", ".idx")] {
            for name in [format!("{stem}.gz"), stem] {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// The paths in `folder` at which this file lies, under any of its names.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) where the system does not let us look.
    pub fn paths_in(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for name in self.names() {
            let path = folder.join(name);
            if presence::is_file(&path)? {
                paths.push(path);
            }
        }
        Ok(paths)
    }

    /// Whether this file is in `folder`, under any of its names.
    ///
    /// # Errors
    /// As [`paths_in`](Self::paths_in).
    pub fn is_in(&self, folder: &Path) -> Result<bool> {
        Ok(!self.paths_in(folder)?.is_empty())
    }
}

impl DataSpec {
    /// All files, those of the training images first.
    pub fn files(&self) -> impl Iterator<Item = &'static DataFile> {
        self.train.iter().chain(self.test)
    }

    /// The files to fetch: the archive if there is one, else each file.
    pub fn downloads(&'static self) -> Vec<&'static DataFile> {
        match &self.archive {
            Some(archive) => vec![archive],
            None => self.files().collect(),
        }
    }

    /// The form of its images.
    pub fn form(&self) -> Form {
        let class_names = self.class_names.iter().map(|name| (*name).to_owned()).collect();
        Form { extents: self.extents, channels: self.channels, class_names, recipe: self.recipe }
    }

    /// The folders that are searched where `folder` is to hold the data set: itself, and those [`below`](Self::below).
    fn places(&self, folder: &Path) -> Vec<PathBuf> {
        let below = self.below.iter().map(|inner| folder.join(inner));
        [folder.to_path_buf()].into_iter().chain(below).collect()
    }

    /// The form in which `folder`, or a folder [`below`](Self::below) it, holds the complete data set, if one does.
    /// Files are looked for in all these folders before the archive is.
    ///
    /// # Errors
    /// As [`DataFile::paths_in`].
    pub fn held_by(&self, folder: &Path) -> Result<Option<Holding>> {
        for place in self.places(folder) {
            if all(self.files(), |file| file.is_in(&place))? {
                return Ok(Some(Holding::Files(place)));
            }
        }
        if let Some(archive) = &self.archive {
            for place in self.places(folder) {
                if archive.is_in(&place)? {
                    return Ok(Some(Holding::Archive(place)));
                }
            }
        }
        Ok(None)
    }

    /// The files that are neither in `folder` nor in a folder [`below`](Self::below) it.
    ///
    /// # Errors
    /// As [`DataFile::paths_in`].
    pub fn missing_in(&self, folder: &Path) -> Result<Vec<&'static DataFile>> {
        let places = self.places(folder);
        let mut missing = Vec::new();
        for file in self.files() {
            if all(&places, |place| Ok(!file.is_in(place)?))? {
                missing.push(file);
            }
        }
        Ok(missing)
    }

    /// Two names for an error about the file `missing`: the usual one (the archive's, if there is one), and the
    /// uncompressed file's, which is accepted as well.
    pub fn wanted(&self, missing: &DataFile) -> [String; 2] {
        let usual = match &self.archive {
            Some(archive) => format!("{}.gz", archive.name),
            None => format!("{}.gz", missing.name),
        };
        [usual, missing.name.into()]
    }

    /// The remedy that an error states if the data set is neither found nor fetched.
    pub fn remedy(&self) -> String {
        let names: Vec<String> = match &self.archive {
            Some(archive) => vec![format!("{}.gz", archive.name)],
            None => self.files().map(|file| format!("{}.gz", file.name)).collect(),
        };
        let files = match &names[..] {
            [only] => format!("the file {only}"),
            _ => format!("the {} files ({})", count(names.len()), names.join(", ")),
        };
        let remedy = format!("put {files} into a folder and name it, as $MLPCONV_DATA does");
        match self.package {
            Some(package) => format!("{remedy}, or install Debian's package {package}"),
            None => remedy,
        }
    }
}

/// Whether all `items` pass; the first that cannot be tested is the error.
fn all<T>(items: impl IntoIterator<Item = T>, passes: impl Fn(T) -> Result<bool>) -> Result<bool> {
    for item in items {
        if !passes(item)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A small number as a word.
fn count(number: usize) -> String {
    let words = ["no", "one", "two", "three", "four", "five", "six"];
    words.get(number).map_or_else(|| number.to_string(), |word| (*word).into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const FILE: DataFile = DataFile { name: "train-images-idx3-ubyte", published: Published::Size { bytes: 1 } };
    const PART: DataFile = DataFile { name: "part.bin", published: Published::Size { bytes: 1 } };
    static PACKED: DataSpec = DataSpec {
        name: "packed",
        title: "Packed",
        channels: 1,
        extents: [1, 1],
        class_names: &["only"],
        recipe: Recipe::Stretched,
        format: Format::CifarBinary,
        train: &[PART],
        test: &[FILE],
        archive: Some(DataFile { name: "all.tar", published: Published::Size { bytes: 1 } }),
        below: &["packed", "packed/raw"],
        mirrors: &[],
        package: None,
        first_labels: None,
    };

    #[test]
    fn a_file_is_found_under_upstreams_and_kaggles_names() {
        assert_eq!(
            FILE.names(),
            [
                "train-images-idx3-ubyte.gz",
                "train-images-idx3-ubyte",
                "train-images.idx3-ubyte.gz",
                "train-images.idx3-ubyte"
            ]
        );
        assert_eq!(PART.names(), ["part.bin.gz", "part.bin"]);
        for name in FILE.names() {
            let folder = tempfile::tempdir().unwrap();
            // Kaggle's archives also leave a folder with the name of the file.
            fs::create_dir(folder.path().join("other")).unwrap();
            fs::write(folder.path().join(&name), b"").unwrap();
            assert_eq!(FILE.paths_in(folder.path()).unwrap(), [folder.path().join(&name)]);
        }
    }

    #[test]
    fn files_come_before_the_archive_and_nearer_folders_before_those_below() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let held = || PACKED.held_by(path).unwrap();
        assert_eq!(held(), None);
        assert_eq!(PACKED.missing_in(path).unwrap().len(), 2);
        fs::write(path.join("all.tar.gz"), b"").unwrap();
        assert_eq!(held(), Some(Holding::Archive(path.into())));
        for inside in ["packed/raw", "packed", ""].map(|inside| path.join(inside)) {
            fs::create_dir_all(&inside).unwrap();
            fs::write(inside.join("part.bin"), b"").unwrap();
            assert_ne!(held(), Some(Holding::Files(inside.clone())), "only one of two files");
            fs::write(inside.join(FILE.name), b"").unwrap();
            assert_eq!(held(), Some(Holding::Files(inside)));
            assert_eq!(PACKED.missing_in(path).unwrap(), [] as [&DataFile; 0]);
        }
    }

    /// A folder in which the system does not let us look is no empty folder. Permissions do not bind root, so the test
    /// uses a symbolic link to itself.
    #[cfg(unix)]
    #[test]
    fn a_folder_that_cannot_be_searched_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let endless = folder.path().join("endless");
        std::os::unix::fs::symlink(&endless, &endless).unwrap();
        let errors = [
            FILE.is_in(&endless).unwrap_err(),
            PACKED.held_by(&endless).unwrap_err(),
            PACKED.missing_in(&endless).unwrap_err(),
        ];
        for error in errors {
            let message = error.to_string();
            assert!(message.starts_with(&format!("cannot look for {}/", endless.display())), "{message}");
        }
        // A path through a file is a path to nothing.
        fs::write(folder.path().join("file"), b"").unwrap();
        assert!(!FILE.is_in(&folder.path().join("file")).unwrap());
    }

    #[test]
    fn the_remedy_names_what_to_get() {
        assert!(PACKED.remedy().starts_with("put the file all.tar.gz into a folder"), "{}", PACKED.remedy());
        assert_eq!(PACKED.wanted(&PART), ["all.tar.gz", "part.bin"]);
    }
}
