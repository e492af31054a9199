//! What a data set is, as plain data: where its files lie, what they must contain, what their labels mean.

use std::path::{Path, PathBuf};

/// A data set that is known by name.
#[derive(Debug, PartialEq, Eq)]
pub struct DataSpec {
    /// What `--data` and a run's settings call it. Folders of it have this name.
    pub name: &'static str,
    /// What a person calls it.
    pub title: &'static str,
    /// 1 for grey images, 3 for RGB.
    pub channels: usize,
    /// Height and width of the published images.
    pub extents: [usize; 2],
    /// What the classes are, by label.
    pub class_names: &'static [&'static str],
    /// How the files are read.
    pub format: Format,
    /// The files of the training images, in the order that [`format`](Self::format) states.
    pub train: &'static [DataFile],
    /// The files of the test images.
    pub test: &'static [DataFile],
    /// What upstream packs all files into, if it does.
    pub archive: Option<Archive>,
    /// Addresses below which the files, each compressed with gzip, or the archive are served. What they deliver is
    /// checked, so they need not be trusted, and one that speaks no TLS is as good as another.
    pub mirrors: &'static [&'static str],
    /// Debian's package, which puts the files into `/usr/share/datasets/NAME`.
    pub package: Option<&'static str>,
    /// What the labels of the training and of the test images begin with. It tells data sets apart whose files have the
    /// same names and sizes.
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
    /// Its name where it is not compressed; `.gz` is added where it is.
    pub name: &'static str,
    /// How to know that it is upstream's.
    pub published: Published,
}

/// What is known for certain of a file as upstream published it. SHA-256 in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// Size and hash of the content, uncompressed: distributors compress anew.
    Content { bytes: u64, sha256: &'static str },
    /// Size and hash of the file as upstream compressed it. Nothing is known of the content, so a file that somebody
    /// uncompressed is not checked.
    Compressed { bytes: u64, sha256: &'static str },
    /// The size of the content and no hash.
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

/// How a folder holds a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holding {
    /// All files lie in this folder.
    Files(PathBuf),
    /// The archive is this file.
    Archive(PathBuf),
}

impl DataFile {
    /// The names under which the file is known, in the order in which they are looked for: compressed and not, with a
    /// hyphen before `idx` as upstream writes it and with a dot as Kaggle does.
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

    /// What a fetch has to bring: the archive, or else each file.
    pub fn downloads(&'static self) -> Vec<&'static DataFile> {
        match &self.archive {
            Some(archive) => vec![&archive.file],
            None => self.files().collect(),
        }
    }

    /// How `folder` holds the data set, if it does: as files, as files in the folder that the archive leaves, or as the
    /// archive.
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

    /// The files that neither `folder` nor the archive's folder in it has.
    pub fn missing_in(&self, folder: &Path) -> Vec<&'static DataFile> {
        let unpacked = self.archive.as_ref().map(|archive| folder.join(archive.folder));
        let folders = || [folder].into_iter().chain(unpacked.as_deref());
        self.files().filter(|file| folders().all(|folder| file.find_in(folder).is_none())).collect()
    }

    /// The two names by which an error calls the file `missing`: the usual one, and the other one that would do.
    pub fn wanted(&self, missing: &DataFile) -> [String; 2] {
        let usual = match &self.archive {
            Some(archive) => format!("{}.gz", archive.file.name),
            None => format!("{}.gz", missing.name),
        };
        [usual, missing.name.into()]
    }

    /// What to do where the data set is nowhere to be had.
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
