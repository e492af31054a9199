//! The description of a data set as plain data: its files, their published content, the meaning of its labels.

use std::path::{Path, PathBuf};

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
    /// How the files are read.
    pub format: Format,
    /// The files of the training images, in the order that [`Format`] states.
    pub train: &'static [DataFile],
    /// The files of the test images.
    pub test: &'static [DataFile],
    /// The archive into which upstream packs all files, if there is one.
    pub archive: Option<Archive>,
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

/// A tar file that holds all files of a data set in one folder.
#[derive(Debug, PartialEq, Eq)]
pub struct Archive {
    /// The tar file; its name ends in `.tar`.
    pub file: DataFile,
    /// The folder inside, and the name of the folder that unpacking leaves.
    pub folder: &'static str,
}

/// The form in which a folder holds a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holding {
    /// All files lie in this folder.
    Files(PathBuf),
    /// This file is the archive.
    Archive(PathBuf),
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

    /// This file in `folder`, under any of its names.
    pub fn find_in(&self, folder: &Path) -> Option<PathBuf> {
        self.names().into_iter().map(|name| folder.join(name)).find(|path| path.is_file())
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
            Some(archive) => vec![&archive.file],
            None => self.files().collect(),
        }
    }

    /// The form in which `folder` holds the complete data set, if it does. Looked for, in order: files, files in the
    /// unpacked archive's folder, the archive.
    pub fn held_by(&self, folder: &Path) -> Option<Holding> {
        let complete = |folder: &Path| self.files().all(|file| file.find_in(folder).is_some());
        if complete(folder) {
            return Some(Holding::Files(folder.into()));
        }
        let archive = self.archive.as_ref()?;
        let unpacked = folder.join(archive.folder);
        if complete(&unpacked) {
            return Some(Holding::Files(unpacked));
        }
        archive.file.find_in(folder).map(Holding::Archive)
    }

    /// The files that are neither in `folder` nor in the unpacked archive's folder below it.
    pub fn missing_in(&self, folder: &Path) -> Vec<&'static DataFile> {
        let unpacked = self.archive.as_ref().map(|archive| folder.join(archive.folder));
        let folders = || [folder].into_iter().chain(unpacked.as_deref());
        self.files().filter(|file| folders().all(|folder| file.find_in(folder).is_none())).collect()
    }

    /// Two names for an error about the file `missing`: the usual one (the archive's, if there is one), and the
    /// uncompressed file's, which is accepted as well.
    pub fn wanted(&self, missing: &DataFile) -> [String; 2] {
        let usual = match &self.archive {
            Some(archive) => format!("{}.gz", archive.file.name),
            None => format!("{}.gz", missing.name),
        };
        [usual, missing.name.into()]
    }

    /// The remedy that an error states if the data set is neither found nor fetched.
    pub fn remedy(&self) -> String {
        let names: Vec<String> = match &self.archive {
            Some(archive) => vec![format!("{}.gz", archive.file.name)],
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
        format: Format::CifarBinary,
        train: &[PART],
        test: &[FILE],
        archive: Some(Archive {
            file: DataFile { name: "all.tar", published: Published::Size { bytes: 1 } },
            folder: "inside",
        }),
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
            assert_eq!(FILE.find_in(folder.path()), Some(folder.path().join(&name)));
        }
    }

    #[test]
    fn files_come_before_the_unpacked_folder_and_that_before_the_archive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert_eq!(PACKED.held_by(path), None);
        assert_eq!(PACKED.missing_in(path).len(), 2);
        fs::write(path.join("all.tar.gz"), b"").unwrap();
        assert_eq!(PACKED.held_by(path), Some(Holding::Archive(path.join("all.tar.gz"))));
        let inside = path.join("inside");
        fs::create_dir(&inside).unwrap();
        fs::write(inside.join("part.bin"), b"").unwrap();
        assert_eq!(PACKED.missing_in(path), [&FILE]);
        fs::write(inside.join(FILE.name), b"").unwrap();
        assert_eq!(PACKED.held_by(path), Some(Holding::Files(inside)));
        fs::write(path.join("part.bin.gz"), b"").unwrap();
        fs::write(path.join(FILE.name), b"").unwrap();
        assert_eq!(PACKED.held_by(path), Some(Holding::Files(path.into())));
    }

    #[test]
    fn the_remedy_names_what_to_get() {
        assert!(PACKED.remedy().starts_with("put the file all.tar.gz into a folder"), "{}", PACKED.remedy());
        assert_eq!(PACKED.wanted(&PART), ["all.tar.gz", "part.bin"]);
    }
}
