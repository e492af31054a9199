//! The zip archive that `torch.save` writes: records in one folder, stored and never compressed. Nothing is unpacked to
//! the disk; records are found by name and read in pieces.
//!
//! Source: `caffe2/serialize/inline_container.cc` of PyTorch. Folder `NAME` holds `data.pkl` (the pickle), `data/KEY`
//! (the bytes of a storage) and `byteorder` (since PyTorch 2.1).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rawzip::{
    CompressionMethod, Crc32, ErrorKind, FileReader, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, ZipArchive,
    ZipArchiveEntryWayfinder,
};

use super::{SAVE_AGAIN, shown};
use crate::system::allocation::grow;
use crate::{Error, Result};

/// The most records. A storage is a record, and a network here has a few dozen.
const MOST: usize = 1 << 18;
/// Bytes that are read at once: whole elements of every type.
const PIECE: usize = 1 << 16;

/// A file that `torch.save` wrote, opened.
pub struct Archive<'a> {
    path: &'a Path,
    zip: ZipArchive<FileReader>,
    /// The folder of all records.
    folder: String,
    records: BTreeMap<String, Record>,
    /// Bytes of the file.
    pub size: u64,
    /// Whether records have checksums. `torch.serialization.set_crc32_options(False)` writes zeros instead.
    checked: bool,
}

/// A record of the archive.
#[derive(Clone, Copy)]
pub struct Record {
    place: ZipArchiveEntryWayfinder,
    crc: u32,
    /// Its bytes.
    pub size: u64,
}

impl<'a> Archive<'a> {
    /// Reads the directory of the archive at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read. [`Error::Weights`] for a file that is cut short or no zip archive, and
    /// for records that are encrypted or compressed, that overlap, that have the same name, or a name that leads out of
    /// the archive.
    pub fn open(path: &'a Path, file: File) -> Result<Self> {
        let size = file.metadata().map_err(Error::io("read", path))?.len();
        let broken = |error: rawzip::Error| broken(path, error);
        let refuse = |problem: String| Err(Error::weights(path)(problem));
        let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
        let zip = ZipArchive::from_file(file, &mut buffer).map_err(broken)?;
        let mut records = BTreeMap::new();
        let (mut folder, mut total, mut checked) = (None, 0u64, false);
        let mut entries = zip.entries(&mut buffer);
        while let Some(entry) = entries.next_entry().map_err(broken)? {
            let name = entry.file_path();
            let Some(name) = std::str::from_utf8(name.as_ref()).ok().filter(|name| stays_inside(name)) else {
                return refuse(format!("its record {} has a name that leads elsewhere", shown(name.as_ref())));
            };
            if entry.is_dir() {
                continue;
            }
            let what = shown(name.as_bytes());
            if entry.flags().is_encrypted() {
                return refuse(format!("its record {what} is encrypted; {SAVE_AGAIN}"));
            }
            let size = entry.uncompressed_size_hint();
            if entry.compression_method() != CompressionMethod::STORE || entry.compressed_size_hint() != size {
                return refuse(format!("its record {what} is compressed, as torch.save writes none; {SAVE_AGAIN}"));
            }
            total = total.saturating_add(size);
            checked |= size > 0 && entry.crc32() != 0;
            folder.get_or_insert_with(|| name.split('/').next().unwrap_or_default().to_owned());
            let record = Record { place: entry.wayfinder(), crc: entry.crc32(), size };
            if records.insert(name.to_owned(), record).is_some() {
                return refuse(format!("it has two records {what}"));
            }
            if records.len() > MOST {
                return refuse(format!("it has more than {MOST} records"));
            }
        }
        // What is read of them is then no more than the file.
        if total > size {
            return refuse(format!("its records have {total} bytes, more than the file's {size}"));
        }
        Ok(Archive { path, zip, folder: folder.unwrap_or_default(), records, size, checked })
    }

    /// The record `name` of the archive's folder.
    pub fn record(&self, name: &str) -> Option<Record> {
        self.records.get(&format!("{}/{name}", self.folder)).copied()
    }

    /// Reads a record to its end, and checks it: `take` gets its bytes in pieces of 64 KiB, the last of which may be
    /// shorter.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Weights`] if it is cut short, or the record does not match
    /// its checksum. The first error of `take`.
    pub fn read(&self, name: &str, record: Record, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let entry = self.zip.get_entry(record.place).map_err(|error| broken(self.path, error))?;
        let (mut reader, mut crc) = (entry.reader(), Crc32::new());
        let some = |left: u64| usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let (mut piece, mut left) = (vec![0; some(record.size)], record.size);
        while left > 0 {
            let piece = &mut piece[..some(left)];
            reader.read_exact(piece).map_err(|error| unread(self.path, error))?;
            crc.update(piece);
            take(piece)?;
            left -= piece.len() as u64;
        }
        if self.checked && crc.checksum() != record.crc {
            let problem =
                format!("its record {} does not match its checksum: the file is damaged", shown(name.as_bytes()));
            return Err(Error::weights(self.path)(format!("{problem}; get it again")));
        }
        Ok(())
    }

    /// The bytes of the record `name`, of which there may be `most`; `None` if there is no such record.
    ///
    /// # Errors
    /// As [`Archive::read`]; [`Error::Weights`] if there are more.
    pub fn bytes(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let Some(record) = self.record(name) else { return Ok(None) };
        if record.size > most {
            let problem =
                format!("its record {name} has {} bytes, more than the {most} that are supported", record.size);
            return Err(Error::weights(self.path)(problem));
        }
        let mut bytes = Vec::new();
        self.read(name, record, &mut |piece| {
            let no_memory = |_| Error::io("read", self.path)(io::ErrorKind::OutOfMemory.into());
            grow(&mut bytes, piece.len()).map_err(no_memory)?;
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(Some(bytes))
    }
}

/// Whether the path of a record is one of a file in the archive's folder, or of a folder there.
fn stays_inside(name: &str) -> bool {
    let path = name.strip_suffix('/').unwrap_or(name);
    !path.contains(['\\', '\0']) && path.split('/').all(|part| !["", ".", ".."].contains(&part))
}

fn broken(path: &Path, error: rawzip::Error) -> Error {
    match error.into_kind() {
        ErrorKind::IO(error) => unread(path, error),
        ErrorKind::Eof | ErrorKind::MissingEndOfCentralDirectory => cut_short(path),
        kind => Error::weights(path)(format!("its zip archive is damaged ({kind}); get the file again")),
    }
}

/// The error of a read that failed. The system refuses to read at places that no file has, which a damaged archive may
/// name.
fn unread(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => cut_short(path),
        _ => Error::io("read", path)(error),
    }
}

fn cut_short(path: &Path) -> Error {
    Error::weights(path)("its zip archive is cut short; get the file again".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_records_stay_inside() {
        for name in ["a/data.pkl", "a/.data/serialization_id", "archive/data/0", "a/", "a..b/c"] {
            assert!(stays_inside(name), "{name}");
        }
        for name in ["", "/", "/etc/passwd", "../a", "a/../b", "a/..", "a//b", "./a", "a\\b", "a/\0"] {
            assert!(!stays_inside(name), "{name}");
        }
    }
}
