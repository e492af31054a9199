//! Loading of a data set by name or by folder: finds or fetches it, reads it, and checks it against its description.

mod recognize;
#[cfg(test)]
mod tests;

use std::path::Path;

use super::fetch::{self, Progress, Supplier};
use super::form::Form;
use super::name::DataName;
use super::open::Findings;
use super::source::{Origin, Source, first, sources};
use super::spec::{DataSpec, Format, Holding};
use super::{Dataset, cifar, folder, idx_images, known, presence};
use crate::error::{Error, IdxError, Result};

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
    /// Warnings for the user: files that are well-formed but not the published ones, files that were passed over for a
    /// better copy, and files of the cache that were fetched again.
    pub warnings: Vec<String>,
}

impl Splits {
    /// Looks for a known data set on this machine; `None` if it is not there. Reads no file and fetches nothing.
    ///
    /// If a folder is named, by `explicit` (`--data-dir`) or else by `$MLPCONV_DATA`, only that folder is searched, and
    /// the folders below it that other programs make ([`DataSpec::below`]). Otherwise these are, in order: `data/NAME`,
    /// `/usr/share/datasets/NAME`, and `mlpconv/NAME` in the user's cache (`$XDG_CACHE_HOME` or `~/.cache`).
    ///
    /// # Errors
    ///
    /// [`Error::DataFileMissing`] if a named folder lacks a file, or if `data/NAME` or `/usr/share/datasets/NAME` has
    /// some of the files but not all. A partial cache is no error: a fetch completes it. [`Error::Io`] for a folder in
    /// which the system does not let us look.
    pub fn find(spec: &'static DataSpec, explicit: Option<&Path>) -> Result<Option<Source>> {
        first(spec, &sources(spec, explicit))
    }

    /// Reads a data set.
    ///
    /// A known data set is read from the folder that [`find`](Self::find) finds; if there is none, it is fetched into
    /// the user's cache first. Files of the cache that are damaged, or are not the published ones, are fetched again; for loose
    /// files of an archive, the archive is read instead, and fetched only if the cache lacks it.
    ///
    /// A folder is read from its path, or from `explicit` if that is given. If it holds the files of a known data set,
    /// it is read as that one. Else it is a folder of images: either `DIR/train/CLASS/*` and `DIR/test/CLASS/*`, or
    /// `DIR/CLASS/*`, of which the 1st, 11th, 21st ... image of each class, in the order of names, is for testing.
    /// Images of several sizes are resized to `size` x `size`.
    ///
    /// # Errors
    ///
    /// Those of [`find`](Self::find), [`fetch`](fetch::fetch) and [`read`](Self::read); [`Error::DataNotFound`] then
    /// lists the searched folders too, and what is wrong with the cache. [`Error::Data`] for a folder that does not exist
    /// or has neither layout, and for a file in it that is no image.
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

    /// The form of a data set's images. That of a known data set is published. Of a folder of images it is read from the
    /// heads of its files; `explicit` and `size` are as for [`load`](Self::load).
    ///
    /// # Errors
    /// Those of [`load`](Self::load) for a folder, as far as the files' heads show them.
    pub fn form(name: &DataName, explicit: Option<&Path>, size: usize) -> Result<Form> {
        let folder = match name {
            DataName::Known(spec) => return Ok(spec.form()),
            DataName::Folder(folder) => folder,
        };
        let source = Self::source_of(folder, explicit)?;
        match recognize::identify(&source)? {
            Some(spec) => Ok(spec.form()),
            None => folder::form(&source.folder, size),
        }
    }

    fn load_known(
        spec: &'static DataSpec,
        explicit: Option<&Path>,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Splits> {
        Self::load_from(spec, sources(spec, explicit), &Supplier::all(spec), on_progress)
    }

    /// Reads a known data set from the first of `sources` that has it. `suppliers` fill or mend the cache, if that is one
    /// of them.
    fn load_from(
        spec: &'static DataSpec,
        sources: Vec<Source>,
        suppliers: &[Supplier],
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Splits> {
        let found = first(spec, &sources)?;
        if let Some(source) = &found
            && source.origin != Origin::Cache
        {
            return Self::read(spec, source.clone());
        }
        let absent = sources.iter().filter(|source| found.is_none() || source.origin != Origin::Cache);
        let mut tried: Vec<_> = absent.map(|source| format!("{source}: not there")).collect();
        let not_found = |tried| Error::DataNotFound { data: spec.title.into(), tried, remedy: spec.remedy() };
        let Some(cache) = sources.into_iter().find(|source| source.origin == Origin::Cache) else {
            tried.push("the user's cache: neither $XDG_CACHE_HOME nor $HOME says where".into());
            return Err(not_found(tried));
        };
        let mut unfit = Vec::new();
        let loose = matches!(spec.held_by(&cache.folder)?, Some(Holding::Files(_)));
        if found.is_some() {
            match Self::read_noting(spec, cache.clone()) {
                Ok((splits, unpublished)) if unpublished.is_empty() => return Ok(splits),
                Ok((_, unpublished)) => unfit = unpublished,
                Err(error) if is_damage(&error) => unfit.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        match fetch::fetch_from(suppliers, spec, &cache.folder, on_progress) {
            Ok(holding) => {
                let mended = match &holding {
                    // It may have been there before. As long as the loose files are there as well, they are read first.
                    Holding::Archive(folder) if loose => {
                        format!("the archive in {} was read instead; delete the loose file", folder.display())
                    }
                    _ => "it was fetched again".into(),
                };
                let (mut splits, _) = Self::read_held(spec, cache, holding)?;
                splits.warnings.extend(unfit.iter().map(|problem| format!("{problem}; {mended}")));
                Ok(splits)
            }
            Err(Error::DataNotFound { tried: fetching, .. }) => {
                tried.extend(unfit);
                tried.extend(fetching);
                Err(not_found(tried))
            }
            Err(error) => Err(error),
        }
    }

    /// A folder that the user named, which has to be there.
    fn source_of(folder: &Path, explicit: Option<&Path>) -> Result<Source> {
        let source = match explicit {
            Some(folder) => Source { folder: folder.into(), origin: Origin::Argument },
            None => Source { folder: folder.into(), origin: Origin::Choice },
        };
        if !presence::is_folder(&source.folder)? {
            let names: Vec<&str> = known::ALL.iter().map(|spec| spec.name).collect();
            let problem =
                format!("there is no such folder, and no data set of that name; known are {}", names.join(", "));
            return Err(Error::data(source.folder.display().to_string(), problem));
        }
        Ok(source)
    }

    fn load_folder(folder: &Path, explicit: Option<&Path>, size: usize) -> Result<Splits> {
        let source = Self::source_of(folder, explicit)?;
        if let Some(spec) = recognize::identify(&source)? {
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

    /// Reads a known data set from the folder of `source`, or from the folder below it that has the files.
    ///
    /// # Errors
    ///
    /// [`Error::DataFileMissing`] where a file is missing, [`Error::Io`] where it cannot be read, [`Error::Idx`] where
    /// it is not IDX, and [`Error::Data`] where it does not have the data set's format, where files do not fit
    /// together, or where there are no training or no test images. Well-formed content that differs from the published
    /// one gives a [warning](Self::warnings).
    pub fn read(spec: &'static DataSpec, source: Source) -> Result<Splits> {
        Self::read_noting(spec, source).map(|(splits, _)| splits)
    }

    /// As [`read`](Self::read); the second value has a sentence for each file that is not the published one.
    fn read_noting(spec: &'static DataSpec, source: Source) -> Result<(Splits, Vec<String>)> {
        match spec.held_by(&source.folder)? {
            Some(holding) => Self::read_held(spec, source, holding),
            None => Err(source.lacks_a_file(spec)?),
        }
    }

    fn read_held(spec: &'static DataSpec, source: Source, holding: Holding) -> Result<(Splits, Vec<String>)> {
        let source = Source { folder: holding.folder().into(), ..source };
        let mut findings = Findings::default();
        let [train, test] = match (spec.format, &holding) {
            (Format::Idx, Holding::Files(folder)) => {
                let mut read = |files| idx_images::read(folder, files, spec.class_names, &mut findings);
                [read(spec.train)?, read(spec.test)?]
            }
            (Format::Idx, Holding::Archive(_)) => {
                return Err(Error::data(source.to_string(), "IDX files are read unpacked; unpack the archive"));
            }
            (Format::CifarBinary, holding) => cifar::read(spec, holding, &mut findings)?,
        };
        for (dataset, use_) in [(&train, "train on"), (&test, "test with")] {
            if dataset.is_empty() {
                let problem = format!("there are no images to {use_}; get the files again");
                return Err(Error::data(source.to_string(), problem));
            }
        }
        let size = |dataset: &Dataset| format!("{}x{}", dataset.height(), dataset.width());
        if size(&train) != size(&test) {
            let problem = format!("training images have {}, test images {} pixels", size(&train), size(&test));
            return Err(Error::data(source.to_string(), problem));
        }
        let Findings { unpublished, passed_over, .. } = findings;
        let mistaken = recognize::mistaken(spec, [train.labels(), test.labels()]).map(|other| {
            format!(
                "{source} holds {}, not {}: the classes are {}; add --data {}",
                other.title,
                spec.title,
                other.class_names.join(", "),
                other.name
            )
        });
        let warnings = mistaken.into_iter().chain(unpublished.iter().cloned()).chain(passed_over).collect();
        Ok((Splits { title: spec.title.into(), train, test, source, warnings }, unpublished))
    }
}

/// Whether reading failed because of a file's content, which another copy of the file would mend.
fn is_damage(error: &Error) -> bool {
    match error {
        Error::Data { .. } => true,
        Error::Idx { source, .. } => !matches!(source, IdxError::Memory { .. } | IdxError::Read(_)),
        _ => false,
    }
}
