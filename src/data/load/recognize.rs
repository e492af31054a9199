//! Which known data set a folder's files are.

use std::path::Path;

use crate::data::open::Findings;
use crate::data::{DataSpec, Format, Source, idx_images, known};
use crate::error::{Error, Result};

/// The known data set other than `spec` whose training or test labels begin like these, if there is one.
pub(super) fn mistaken(spec: &DataSpec, [train, test]: [&[u8]; 2]) -> Option<&'static DataSpec> {
    let begin = |other: &&&'static DataSpec| {
        other.first_labels.is_some_and(|[of_train, of_test]| train.starts_with(of_train) || test.starts_with(of_test))
    };
    known::ALL.iter().find(begin).copied().filter(|other| other.name != spec.name)
}

/// The known data set whose files lie in a folder that was given without a data set's name; `None` if it holds none.
///
/// # Errors
/// [`Error::DataFileMissing`] where only some files of a data set are there. [`Error::Data`] where several data sets are
/// there, or where the files have the names of several and the labels are those of none.
pub(super) fn identify(source: &Source) -> Result<Option<&'static DataSpec>> {
    let mut held = Vec::new();
    for spec in known::ALL {
        held.extend(spec.held_by(&source.folder)?.map(|holding| (spec, holding)));
    }
    let (spec, holding) = match &held[..] {
        [] => return begun(source),
        [(spec, _)] => return Ok(Some(spec)),
        [first, ..] => first,
    };
    let several = |problem: &str| {
        let names: Vec<&str> = held.iter().map(|(spec, _)| spec.name).collect();
        let problem = format!(
            "{problem} {}; say which by --data NAME, and --data-dir {}",
            names.join(", "),
            source.folder.display()
        );
        Error::data(source.to_string(), problem)
    };
    if held.iter().any(|(other, place)| other.format != spec.format || place != holding) {
        return Err(several("it holds the data sets"));
    }
    // The MNIST family shares file names. The labels tell its data sets apart, and are quick to read.
    for (spec, _) in &held {
        if spec.format == Format::Idx && are_labels_of(spec, holding.folder())? {
            return Ok(Some(spec));
        }
    }
    Err(several("its files are as none of those was published whose names they have:"))
}

/// The error where only some files of a known data set are in the folder of `source`.
fn begun(source: &Source) -> Result<Option<&'static DataSpec>> {
    for spec in known::ALL {
        if spec.missing_in(&source.folder)?.len() < spec.files().count() {
            return Err(source.lacks_a_file(spec)?);
        }
    }
    Ok(None)
}

/// Whether the test labels in `folder` are those of `spec`, by their hash or by their first values.
fn are_labels_of(spec: &DataSpec, folder: &Path) -> Result<bool> {
    let Some(file) = spec.test.last() else { return Ok(false) };
    let mut findings = Findings::default();
    let labels = idx_images::read_labels(folder, file, &mut findings)?;
    Ok(findings.published == 1 || spec.first_labels.is_some_and(|[_, first]| labels.starts_with(first)))
}
