//! The binary version of CIFAR-10: files of records, loose or in a tar file.
//!
//! A record is a byte for the label, then the image's channels one after the other, each row by row. Source: the page
//! of the CIFAR-10 data set (Krizhevsky), "Binary version".

use std::io::{self, Read};

use super::Dataset;
use super::content::{fill, is_web_page};
use super::open::{self, Findings};
use super::pieces::Pieces;
use super::spec::{DataFile, DataSpec, Holding, Published};
use crate::error::{Error, Result};

/// Reads the training and the test images from the files or the archive of `holding`.
///
/// # Errors
/// [`Error::Io`] where a file cannot be opened or there is no memory for it; [`Error::Data`] where it does not consist of
/// whole records of known classes, where it is a web page, or where the archive lacks a file; [`Error::Config`] for a
/// description of images that cannot be.
pub(super) fn read(spec: &DataSpec, holding: &Holding, findings: &mut Findings) -> Result<[Dataset; 2]> {
    // The sizes of records follow from these extents.
    spec.form().validate()?;
    let files = match (holding, &spec.archive) {
        (Holding::Files(folder), _) => {
            let mut files = Vec::new();
            for file in spec.files() {
                let parse = |name: &str, content: &mut dyn Read| Records::read(spec, file, content, name);
                files.push(open::read(folder, file, findings, parse)?);
            }
            files
        }
        (Holding::Archive(folder), Some(archive)) => {
            open::read(folder, archive, findings, |name, content| unpack(spec, name, content))?
        }
        (Holding::Archive(folder), None) => {
            return Err(Error::data(folder.display().to_string(), format!("{} has no archive", spec.title)));
        }
    };
    let mut halves = [Records::default(), Records::default()];
    for (place, records) in files.into_iter().enumerate() {
        halves[usize::from(place >= spec.train.len())].append(records);
    }
    let [train, test] = halves;
    let what = holding.folder().display().to_string();
    Ok([train.joined(spec, &what)?, test.joined(spec, &what)?])
}

const WEB_PAGE: &str =
    "it is a web page, not the data: a server answered with a message; delete the file and get it again";

/// Reads the records of each file in a tar file, whose bytes are `content`. `what` is its name in errors.
fn unpack(spec: &DataSpec, what: &str, mut content: &mut dyn Read) -> Result<Vec<Records>> {
    let damaged = |error: io::Error| Error::data(what, format!("the archive is damaged ({error}); get the file again"));
    let mut head = [0; 256];
    let found = fill(&mut content, &mut head).map_err(damaged)?;
    if is_web_page(&head[..found]) {
        return Err(Error::data(what, WEB_PAGE));
    }
    // Raw entries: the names are short, and the extensions for long ones would be read into memory, however long.
    let mut tar = tar::Archive::new(head[..found].chain(&mut *content));
    let mut files: Vec<(&DataFile, Option<Records>)> = spec.files().map(|file| (file, None)).collect();
    for entry in tar.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let name = entry.path().map_err(damaged)?.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some(name) = name.filter(|_| entry.header().entry_type().is_file()) else { continue };
        if let Some((file, records)) = files.iter_mut().find(|(file, _)| file.name == name) {
            *records = Some(Records::read(spec, file, &mut entry, &format!("{what}, {name}"))?);
        }
    }
    // gzip's checksum follows the tar file's end, so reading on to the end checks it.
    io::copy(&mut content.take(1 << 20), &mut io::sink()).map_err(damaged)?;
    let lacks = |file: &DataFile| Error::data(what, format!("the archive has no file {}; get it again", file.name));
    files.into_iter().map(|(file, records)| records.ok_or_else(|| lacks(file))).collect()
}

/// The records of a file, or of several.
#[derive(Default)]
struct Records {
    images: Pieces<u8>,
    labels: Vec<u8>,
}

impl Records {
    /// Reads `content`, a sequence of whole records. `what` is its name in errors.
    fn read(spec: &DataSpec, file: &DataFile, mut content: impl Read, what: &str) -> Result<Self> {
        let [height, width] = spec.extents;
        let (pixels, channels) = (height * width, spec.channels);
        let mut record = vec![0; 1 + channels * pixels];
        let limit = match file.published {
            Published::Size { bytes } | Published::Content { bytes, .. } => bytes,
            Published::Compressed { .. } => u64::MAX,
        } / record.len() as u64;
        let mut records = Records::default();
        loop {
            let found = fill(&mut content, &mut record)
                .map_err(|error| Error::data(what, format!("cannot be read ({error}); get the file again")))?;
            let number = records.labels.len();
            if number == 0 && is_web_page(&record[..found]) {
                return Err(Error::data(what, WEB_PAGE));
            }
            match found {
                0 => return Ok(records),
                _ if found < record.len() => {
                    let problem = format!(
                        "truncated: {found} bytes after {number} records of {} bytes each; get the file again",
                        record.len()
                    );
                    return Err(Error::data(what, problem));
                }
                _ if number as u64 == limit => {
                    return Err(Error::data(what, format!("more than the {limit} records that it should have")));
                }
                _ => {}
            }
            let (&label, image) = record.split_first().unwrap_or((&0, &[]));
            if usize::from(label) >= spec.class_names.len() {
                let problem = format!(
                    "record {number} has label {label}, but there are {} classes (labels go from 0)",
                    spec.class_names.len()
                );
                return Err(Error::data(what, problem));
            }
            records.labels.push(label);
            let place = records.images.grow(image.len()).map_err(|_| no_memory(what))?;
            // From channel planes (CHW) to channels side by side in a pixel (HWC).
            for (pixel, place) in place.chunks_exact_mut(channels).enumerate() {
                place.iter_mut().zip(image[pixel..].iter().step_by(pixels)).for_each(|(to, from)| *to = *from);
            }
        }
    }

    /// Adds the records of the next file.
    fn append(&mut self, next: Records) {
        self.images.append(next.images);
        self.labels.extend(next.labels);
    }

    /// The records as a data set. `what` is its name in errors.
    fn joined(self, spec: &DataSpec, what: &str) -> Result<Dataset> {
        let [height, width] = spec.extents;
        let class_names = spec.class_names.iter().map(|name| (*name).into()).collect();
        let images = self.images.joined().map_err(|_| no_memory(what))?;
        Dataset::with_channels(images, self.labels, [height, width, spec.channels], class_names)
    }
}

fn no_memory(what: &str) -> Error {
    Error::io("read", what)(io::ErrorKind::OutOfMemory.into())
}
