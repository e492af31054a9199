//! Opening and reading the files of a data set, with a comparison with the published ones.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::content::{Content, Hashed};
use super::spec::{DataFile, Published};
use crate::error::{Error, Result};

/// What reading found besides the contents.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The number of files that were compared with the published ones, and are these.
    pub(super) published: usize,
    /// Files that were read although they are not the published ones: a sentence for each.
    pub(super) unpublished: Vec<String>,
    /// Files that were passed over for another copy in the same folder: a sentence for each.
    pub(super) passed_over: Vec<String>,
}

/// The outcome of the comparison of a file with the published one.
enum Verdict {
    Published,
    /// Nothing is known that could be compared.
    Unknown,
    /// A sentence that says how they differ.
    Other(String),
}

/// Calls `parse` on the content of `file` in `folder`, with gzip undone, and with its path as a name for errors; `parse`
/// must read the content to its end.
///
/// Of several copies (compressed and not) the first that is the published file is taken, or else the first that can be
/// read.
///
/// # Errors
/// [`Error::Io`] where there is no copy or none can be opened, and the errors of `parse`; of several, those of the first
/// copy.
pub(super) fn read<T>(
    folder: &Path,
    file: &DataFile,
    findings: &mut Findings,
    mut parse: impl FnMut(&str, &mut dyn Read) -> Result<T>,
) -> Result<T> {
    let mut best: Option<(T, Verdict, String)> = None;
    let mut errors = Vec::new();
    for path in file.paths_in(folder)? {
        let copy = path.display().to_string();
        match read_copy(&path, &copy, file, &mut parse) {
            Ok((value, Verdict::Published)) => {
                if let Some((_, Verdict::Other(difference), _)) = best.take() {
                    findings.passed_over.push(format!("{difference}; {copy} was read instead"));
                }
                best = Some((value, Verdict::Published, copy));
                break;
            }
            Ok((value, verdict)) => {
                best.get_or_insert((value, verdict, copy));
            }
            Err(error) => errors.push(error),
        }
    }
    let Some((value, verdict, copy)) = best else {
        let absent = || Error::io("open", folder.join(file.name))(io::ErrorKind::NotFound.into());
        return Err(errors.into_iter().next().unwrap_or_else(absent));
    };
    findings.passed_over.extend(errors.iter().map(|error| format!("{error}; {copy} was read instead")));
    match verdict {
        Verdict::Published => findings.published += 1,
        Verdict::Unknown => {}
        Verdict::Other(difference) => findings.unpublished.push(difference),
    }
    Ok(value)
}

/// Reads the file at `path`, whose name in errors is `name`.
fn read_copy<T>(
    path: &Path,
    name: &str,
    file: &DataFile,
    parse: &mut impl FnMut(&str, &mut dyn Read) -> Result<T>,
) -> Result<(T, Verdict)> {
    let opened = File::open(path).map_err(Error::io("open", path))?;
    let differs = |difference: String| Verdict::Other(format!("{name} is not the published file: {difference}"));
    match file.published {
        Published::Content { sha256, .. } => {
            let (value, _, found) = hashing_content(path, opened, name, parse)?;
            let verdict = match found == sha256 {
                true => Verdict::Published,
                false => differs(format!("its content has SHA-256 {found} instead of {sha256}")),
            };
            Ok((value, verdict))
        }
        Published::Size { bytes } => {
            let (value, found, _) = hashing_content(path, opened, name, parse)?;
            let verdict = match found == bytes {
                true => Verdict::Published,
                false => differs(format!("its content has {found} bytes instead of {bytes}")),
            };
            Ok((value, verdict))
        }
        Published::Compressed { sha256, .. } => {
            let mut whole = Hashed::new(opened);
            let mut content = content(path, BufReader::new(&mut whole))?;
            let compressed = matches!(content, Content::Gzip(_));
            let value = parse(name, &mut content)?;
            drop(content);
            // The hash is of the whole file, so bytes that the decoder did not read are hashed too.
            io::copy(&mut whole, &mut io::sink()).map_err(Error::io("read", path))?;
            let (_, found) = whole.finish();
            let verdict = match compressed {
                false => Verdict::Unknown,
                true if found == sha256 => Verdict::Published,
                true => differs(format!("it has SHA-256 {found} instead of {sha256}")),
            };
            Ok((value, verdict))
        }
    }
}

fn hashing_content<T>(
    path: &Path,
    opened: File,
    name: &str,
    parse: &mut impl FnMut(&str, &mut dyn Read) -> Result<T>,
) -> Result<(T, u64, String)> {
    let mut hashed = Hashed::new(content(path, BufReader::new(opened))?);
    let value = parse(name, &mut hashed)?;
    let (bytes, sha256) = hashed.finish();
    Ok((value, bytes, sha256))
}

fn content<R: Read>(path: &Path, reader: R) -> Result<Content<R>> {
    Content::new(reader).map_err(Error::io("read", path))
}
