//! Opening and reading the files of a data set, with a comparison with the published ones.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::content::{Content, Hashed};
use super::spec::{DataFile, Published};
use crate::error::{Error, Result};

/// Calls `parse` on the content of the file at `path`, with gzip undone; `parse` must read it to its end. If the
/// content differs from the published one of `file`, a warning is added.
///
/// # Errors
/// [`Error::Io`] where the file cannot be read, and the errors of `parse`.
pub(super) fn read<T>(
    path: &Path,
    file: &DataFile,
    warnings: &mut Vec<String>,
    parse: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<T> {
    let opened = File::open(path).map_err(Error::io("open", path))?;
    let name = path.display();
    let mut warn = |problem: String| warnings.push(format!("{name} is not the published file: {problem}"));
    match file.published {
        Published::Content { sha256, .. } => {
            let (value, _, found) = hashing_content(path, opened, parse)?;
            if found != sha256 {
                warn(format!("its content has SHA-256 {found} instead of {sha256}"));
            }
            Ok(value)
        }
        Published::Size { bytes } => {
            let (value, found, _) = hashing_content(path, opened, parse)?;
            if found != bytes {
                warn(format!("its content has {found} bytes instead of {bytes}"));
            }
            Ok(value)
        }
        Published::Compressed { sha256, .. } => {
            let mut whole = Hashed::new(opened);
            let mut content = content(path, BufReader::new(&mut whole))?;
            let compressed = matches!(content, Content::Gzip(_));
            let value = parse(&mut content)?;
            drop(content);
            // The hash is of the whole file, so bytes that the decoder did not read are hashed too.
            io::copy(&mut whole, &mut io::sink()).map_err(Error::io("read", path))?;
            let (_, found) = whole.finish();
            if compressed && found != sha256 {
                warn(format!("it has SHA-256 {found} instead of {sha256}"));
            }
            Ok(value)
        }
    }
}

fn hashing_content<T>(
    path: &Path,
    opened: File,
    parse: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<(T, u64, String)> {
    let mut hashed = Hashed::new(content(path, BufReader::new(opened))?);
    let value = parse(&mut hashed)?;
    let (bytes, sha256) = hashed.finish();
    Ok((value, bytes, sha256))
}

fn content<R: Read>(path: &Path, reader: R) -> Result<Content<R>> {
    Content::new(reader).map_err(Error::io("read", path))
}
