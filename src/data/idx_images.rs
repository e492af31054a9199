//! Images and labels of the MNIST family: two IDX files.

use std::io::Read;
use std::path::Path;

use super::Dataset;
use super::idx::{Idx, IdxData};
use super::open::{self, Findings};
use super::spec::DataFile;
use crate::error::{Error, Result};

/// Reads grey images of the classes `class_names` from `folder`. `files` are the images' file and the labels' file.
///
/// # Errors
/// [`Error::Io`] where a file cannot be opened, and [`Error::Idx`] where it is not IDX. [`Error::Data`] where an IDX
/// file holds something other than images or labels of these classes, or where the two files do not fit together.
pub(super) fn read(
    folder: &Path,
    files: &[DataFile],
    class_names: &[&str],
    findings: &mut Findings,
) -> Result<Dataset> {
    let [images, labels] = files else {
        return Err(Error::data(folder.display().to_string(), "an IDX data set is a file of images and one of labels"));
    };
    let (pixels, height, width) = open::read(folder, images, findings, |name, content| {
        let Idx { shape, data } = parse(name, content)?;
        match (data, &shape[..]) {
            (IdxData::U8(pixels), &[_, height, width]) => Ok((pixels, height, width)),
            (data, _) => Err(unexpected(name, "images (u8, 3 dimensions)", &data, &shape)),
        }
    })?;
    let labels = read_labels(folder, labels, findings)?;
    let class_names = class_names.iter().map(|name| (*name).into()).collect();
    Dataset::with_channels(pixels, labels, [height, width, 1], class_names).map_err(|error| match error {
        Error::Data { problem, .. } => {
            Error::data(format!("{}, {} and its labels", folder.display(), images.name), problem)
        }
        other => other,
    })
}

/// Reads a file of labels alone.
///
/// # Errors
/// As [`read`].
pub(super) fn read_labels(folder: &Path, file: &DataFile, findings: &mut Findings) -> Result<Vec<u8>> {
    open::read(folder, file, findings, |name, content| match parse(name, content)? {
        Idx { data: IdxData::U8(labels), shape } if shape.len() == 1 => Ok(labels),
        Idx { data, shape } => Err(unexpected(name, "labels (u8, 1 dimension)", &data, &shape)),
    })
}

fn parse(name: &str, content: &mut dyn Read) -> Result<Idx> {
    Idx::parse(content).map_err(|source| Error::Idx { name: name.into(), source })
}

fn unexpected(name: &str, expected: &str, data: &IdxData, shape: &[usize]) -> Error {
    Error::data(name, format!("expected {expected}, found {} of shape {shape:?}", data.type_name()))
}
