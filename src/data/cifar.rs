//! The binary version of CIFAR-10: files of records, loose or in a tar file.
//!
//! A record is a byte for the label, then the image's channels one after the other, each row by row. Source: the page
//! of the CIFAR-10 data set (Krizhevsky), "Binary version".

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::Dataset;
use super::content::{Content, fill, looks_like_a_web_page};
use super::open;
use super::spec::{DataFile, DataSpec, Holding, Published};
use crate::error::{Error, Result};
use crate::system::allocation::grow;

/// Reads the training and the test images from the files or the archive of `holding`.
///
/// # Errors
/// [`Error::Io`] where a file cannot be read; [`Error::Data`] where it does not consist of whole records of known
/// classes, where it is a web page, or where the archive lacks a file.
pub(super) fn read(spec: &DataSpec, holding: &Holding, warnings: &mut Vec<String>) -> Result<[Dataset; 2]> {
    let halves = [spec.train, spec.test];
    let mut parts = halves.map(|files| files.iter().map(|_| None).collect::<Vec<Option<Records>>>());
    match holding {
        Holding::Files(folder) => {
            for (files, parts) in halves.iter().zip(&mut parts) {
                for (file, part) in files.iter().zip(parts) {
                    let path = file.find_in(folder).unwrap_or_else(|| folder.join(file.name));
                    let name = path.display().to_string();
                    *part =
                        Some(open::read(&path, file, warnings, |content| Records::read(spec, file, content, &name))?);
                }
            }
        }
        Holding::Archive(path) => {
            let Some(archive) = &spec.archive else {
                return Err(Error::data(path.display().to_string(), format!("{} has no archive", spec.title)));
            };
            refuse_a_web_page(path)?;
            open::read(path, &archive.file, warnings, |content| unpack(spec, path, content, halves, &mut parts))?;
        }
    }
    let [train, test] = parts;
    Ok([join(spec, train)?, join(spec, test)?])
}

/// Refuses a web page: a server's message that was saved under the archive's name.
fn refuse_a_web_page(path: &Path) -> Result<()> {
    let opened = File::open(path).map_err(Error::io("open", path))?;
    let mut content = Content::new(BufReader::new(opened)).map_err(Error::io("read", path))?;
    match looks_like_a_web_page(&[], &mut content) {
        Ok(true) => Err(Error::data(path.display().to_string(), WEB_PAGE)),
        // A file that cannot be read is no web page; reading the archive reports the error.
        Ok(false) | Err(_) => Ok(()),
    }
}

const WEB_PAGE: &str =
    "it is a web page, not the data: a server answered with a message; delete the file and get it again";

/// Reads the records of each file in a tar file, whose bytes are `content`.
fn unpack(
    spec: &DataSpec,
    path: &Path,
    content: &mut dyn Read,
    halves: [&[DataFile]; 2],
    parts: &mut [Vec<Option<Records>>; 2],
) -> Result<()> {
    let damaged = |error: io::Error| {
        Error::data(path.display().to_string(), format!("the archive is damaged ({error}); get the file again"))
    };
    let mut tar = tar::Archive::new(&mut *content);
    for entry in tar.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = entry.path().map_err(damaged)?.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some(name) = name.filter(|_| entry.header().entry_type().is_file()) else { continue };
        for (files, parts) in halves.iter().zip(&mut *parts) {
            if let Some((file, part)) = files.iter().zip(parts).find(|(file, _)| file.name == name) {
                let name = format!("{}, {name}", path.display());
                *part = Some(Records::read(spec, file, &mut entry, &name)?);
            }
        }
    }
    // gzip's checksum follows the tar file's end, so reading on to the end checks it.
    io::copy(&mut content.take(1 << 20), &mut io::sink()).map_err(damaged)?;
    let files = || halves.iter().copied().flatten().zip(parts.iter().flatten());
    match files().find(|(_, part)| part.is_none()) {
        Some((file, _)) => {
            let problem = format!("the archive has no file {}; get it again", file.name);
            Err(Error::data(path.display().to_string(), problem))
        }
        None => Ok(()),
    }
}

/// The records of a file.
#[derive(Default)]
struct Records {
    images: Vec<u8>,
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
            if number == 0 && looks_like_a_web_page(&record[..found], io::empty()).unwrap_or(false) {
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
            // From channel planes (CHW) to channels side by side in a pixel (HWC).
            let pixel = |at: usize| image.iter().skip(at).step_by(pixels).copied();
            let bytes = records.images.len() + image.len();
            grow(&mut records.images, image.len()).map_err(|_| no_memory(what, bytes))?;
            records.images.extend((0..pixels).flat_map(pixel));
        }
    }
}

fn no_memory(what: &str, bytes: usize) -> Error {
    Error::data(what, format!("no memory for {bytes} bytes of pixels"))
}

/// Joins the records of several files into one data set.
fn join(spec: &DataSpec, parts: Vec<Option<Records>>) -> Result<Dataset> {
    let mut all = Records::default();
    for part in parts.into_iter().flatten() {
        let bytes = all.images.len() + part.images.len();
        grow(&mut all.images, part.images.len()).map_err(|_| no_memory(spec.title, bytes))?;
        all.images.extend(part.images);
        all.labels.extend(part.labels);
    }
    let [height, width] = spec.extents;
    let class_names = spec.class_names.iter().map(|name| (*name).into()).collect();
    Dataset::with_channels(all.images, all.labels, [height, width, spec.channels], class_names)
}
