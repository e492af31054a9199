//! Images and labels of the MNIST family: two IDX files.

use std::path::Path;

use super::Dataset;
use super::idx::{Idx, IdxData};
use super::open;
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
    warnings: &mut Vec<String>,
) -> Result<Dataset> {
    let [images, labels] = files else {
        return Err(Error::data(folder.display().to_string(), "an IDX data set is a file of images and one of labels"));
    };
    let (what, idx) = read_file(folder, images, warnings)?;
    let (pixels, height, width) = match (idx.data, &idx.shape[..]) {
        (IdxData::U8(pixels), &[_, height, width]) => (pixels, height, width),
        (data, shape) => return Err(unexpected(what, "images (u8, 3 dimensions)", &data, shape)),
    };
    let (what, idx) = read_file(folder, labels, warnings)?;
    let labels = match (idx.data, &idx.shape[..]) {
        (IdxData::U8(labels), &[_]) => labels,
        (data, shape) => return Err(unexpected(what, "labels (u8, 1 dimension)", &data, shape)),
    };
    let class_names = class_names.iter().map(|name| (*name).into()).collect();
    Dataset::with_channels(pixels, labels, [height, width, 1], class_names).map_err(|error| match error {
        Error::Data { problem, .. } => {
            Error::data(format!("{}, {} and its labels", folder.display(), images.name), problem)
        }
        other => other,
    })
}

/// Reads a file of labels alone.
pub(super) fn read_labels(path: &Path) -> Result<Vec<u8>> {
    match Idx::open(path)? {
        Idx { shape, data: IdxData::U8(labels) } if shape.len() == 1 => Ok(labels),
        Idx { shape, data } => Err(unexpected(path.display().to_string(), "labels (u8, 1 dimension)", &data, &shape)),
    }
}

fn read_file(folder: &Path, file: &DataFile, warnings: &mut Vec<String>) -> Result<(String, Idx)> {
    let path = file.find_in(folder).unwrap_or_else(|| folder.join(file.name));
    let name = path.display().to_string();
    let idx = open::read(&path, file, warnings, |content| {
        Idx::parse(content).map_err(|source| Error::Idx { name: name.clone(), source })
    })?;
    Ok((name, idx))
}

fn unexpected(what: String, expected: &str, data: &IdxData, shape: &[usize]) -> Error {
    Error::data(what, format!("expected {expected}, found {} of shape {shape:?}", data.type_name()))
}
