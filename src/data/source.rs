//! The folders in which a data set is looked for.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use super::spec::{DataSpec, Holding};
use crate::error::{Error, Result};

/// The reason why a folder is searched for a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The option `--data-dir` names it.
    Argument,
    /// The option `--data` names it: the folder is the data set.
    Choice,
    /// The environment variable `MLPCONV_DATA` names it.
    Environment,
    /// `data/NAME` below the current folder.
    WorkingFolder,
    /// `/usr/share/datasets/NAME`, where Debian's packages put data sets.
    System,
    /// The user's cache, into which data sets are fetched.
    Cache,
}

/// A folder of a data set, and why it was searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The folder.
    pub folder: PathBuf,
    /// The reason why it was searched.
    pub origin: Origin,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match self.origin {
            Origin::Argument => "given by --data-dir",
            Origin::Choice => "given by --data",
            Origin::Environment => "given by $MLPCONV_DATA",
            Origin::WorkingFolder => "below the current folder",
            Origin::System => "system-wide",
            Origin::Cache => "the user's cache",
        };
        write!(f, "{} ({origin})", self.folder.display())
    }
}

impl Source {
    /// The form in which the folder holds the data set; `None` if it may lack it. A folder that the user named must be
    /// complete. An automatic one may be empty, but not partial. The cache may be partial: a fetch was interrupted
    /// there, and continues.
    pub(super) fn holding(&self, spec: &DataSpec) -> Result<Option<Holding>> {
        let holding = spec.held_by(&self.folder)?;
        if holding.is_some() {
            return Ok(holding);
        }
        let excused = match self.origin {
            Origin::Argument | Origin::Choice | Origin::Environment => false,
            Origin::WorkingFolder | Origin::System => spec.missing_in(&self.folder)?.len() == spec.files().count(),
            Origin::Cache => true,
        };
        if excused { Ok(None) } else { Err(self.lacks_a_file(spec)?) }
    }

    /// The error for a folder that lacks files; it names the first missing one.
    pub(super) fn lacks_a_file(&self, spec: &DataSpec) -> Result<Error> {
        // No file is missing if some lie in one folder and the others in another; then the first is named.
        let Some(file) = spec.missing_in(&self.folder)?.into_iter().chain(spec.files()).next() else {
            return Ok(Error::data(spec.title, "its description names no files"));
        };
        let [usual, other] = spec.wanted(file);
        Ok(Error::DataFileMissing { data: spec.title.into(), place: self.to_string(), usual, other })
    }
}

/// The folders to search, in order. A folder that was named is the only one.
pub(super) fn sources(spec: &DataSpec, explicit: Option<&Path>) -> Vec<Source> {
    let source = |folder: PathBuf, origin| Source { folder, origin };
    if let Some(folder) = explicit {
        return vec![source(folder.into(), Origin::Argument)];
    }
    if let Some(folder) = env::var_os("MLPCONV_DATA").filter(|folder| !folder.is_empty()) {
        return vec![source(folder.into(), Origin::Environment)];
    }
    let mut sources = vec![
        source(Path::new("data").join(spec.name), Origin::WorkingFolder),
        source(Path::new("/usr/share/datasets").join(spec.name), Origin::System),
    ];
    // The XDG base directory specification says to ignore a relative path.
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|folder| folder.is_absolute())
        .or_else(|| env::home_dir().map(|home| home.join(".cache")));
    sources.extend(cache.map(|cache| source(cache.join("mlpconv").join(spec.name), Origin::Cache)));
    sources
}

/// The first of `sources` that has the data set.
pub(super) fn first(spec: &DataSpec, sources: &[Source]) -> Result<Option<Source>> {
    for source in sources {
        if source.holding(spec)?.is_some() {
            return Ok(Some(source.clone()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::known::{CIFAR10, FASHION_MNIST};
    use super::*;

    /// A folder with empty files of the data set's names.
    fn folder(spec: &DataSpec) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        spec.files().for_each(|file| fs::write(folder.path().join(file.name), b"").unwrap());
        folder
    }

    fn source(folder: &Path, origin: Origin) -> Source {
        Source { folder: folder.into(), origin }
    }

    #[test]
    fn a_missing_file_is_named_where_the_folder_should_have_it() {
        let spec = &FASHION_MNIST;
        let folder = folder(spec);
        let path = folder.path();
        let places = [Origin::Argument, Origin::Choice, Origin::Environment, Origin::WorkingFolder, Origin::System];
        for origin in places {
            assert!(source(path, origin).holding(spec).unwrap().is_some());
        }
        let absent = spec.test[1].name;
        fs::remove_file(path.join(absent)).unwrap();
        for origin in places {
            let error = source(path, origin).holding(spec).unwrap_err();
            assert!(matches!(&error, Error::DataFileMissing { other, .. } if other == absent));
            let message = error.to_string();
            assert!(message.contains(&format!("{absent}.gz")) && message.contains("Fashion-MNIST"), "{message}");
        }
        assert_eq!(source(path, Origin::Cache).holding(spec).unwrap(), None);
    }

    #[test]
    fn files_scattered_over_two_folders_are_refused() {
        let folder = folder(&CIFAR10);
        let inside = folder.path().join("cifar-10-batches-bin");
        fs::create_dir(&inside).unwrap();
        fs::rename(folder.path().join("test_batch.bin"), inside.join("test_batch.bin")).unwrap();
        let error = source(folder.path(), Origin::Argument).holding(&CIFAR10).unwrap_err().to_string();
        assert!(error.contains("cifar-10-binary.tar.gz") && error.contains("CIFAR-10"), "{error}");
    }

    #[test]
    fn folders_are_looked_at_in_order() {
        let spec = &FASHION_MNIST;
        let empty = tempfile::tempdir().unwrap();
        let (near, far) = (folder(spec), folder(spec));
        let places = [
            source(empty.path(), Origin::WorkingFolder),
            source(near.path(), Origin::System),
            source(far.path(), Origin::Cache),
        ];
        assert_eq!(first(spec, &places).unwrap().as_ref(), Some(&places[1]));
        assert_eq!(first(spec, &places[..1]).unwrap(), None);
        let named = [source(empty.path(), Origin::Environment), places[1].clone()];
        assert!(matches!(first(spec, &named), Err(Error::DataFileMissing { .. })));
        assert!(first(spec, &sources(spec, Some(empty.path()))).is_err());
        let found = first(spec, &sources(spec, Some(near.path()))).unwrap().unwrap();
        assert_eq!(found.to_string(), format!("{} (given by --data-dir)", near.path().display()));
    }

    #[test]
    fn a_folder_may_hold_several_data_sets_by_name() {
        let parent = tempfile::tempdir().unwrap();
        for spec in [&CIFAR10, &FASHION_MNIST] {
            fs::rename(folder(spec).keep(), parent.path().join(spec.name)).unwrap();
        }
        for spec in [&CIFAR10, &FASHION_MNIST] {
            let [source] = &sources(spec, Some(parent.path()))[..] else { panic!("a named folder is the only one") };
            let inside = parent.path().join(spec.name);
            assert_eq!(source.holding(spec).unwrap(), Some(Holding::Files(inside)));
        }
    }
}
