//! The folder that files are fetched into. A file gets its name there only once it is checked.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use super::progress::{Failure, Progress};
use crate::data::content::{Content, GZIP_MAGIC, Hashed, fill, is_web_page};
use crate::data::spec::{DataFile, Published};
use crate::error::{self, Error};

/// The most bytes by which a compressed file may exceed its content. gzip adds far fewer.
const SLACK: u64 = 64 * 1024;

/// The name of the scratch folder in which Debian's package is unpacked.
pub(super) const DEBIAN: &str = "debian";

/// A folder, and the files to fetch into it.
pub(super) struct Store<'a> {
    folder: &'a Path,
    files: &'a [&'static DataFile],
    /// The opened folder, with a shared lock. `None` where folders cannot be locked.
    _lock: Option<File>,
}

impl<'a> Store<'a> {
    /// The folder at this path, made where it does not exist. If no other store of the folder is open, in any process,
    /// unfinished files in it are those of killed fetches, and are removed.
    pub(super) fn open(folder: &'a Path, files: &'a [&'static DataFile]) -> error::Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("make the folder", folder))?;
        let lock = File::open(folder).ok();
        if let Some(lock) = &lock
            && lock.try_lock().is_ok()
        {
            remove_leftovers(folder, files);
            let _ = lock.unlock();
        }
        Ok(Store { folder, files, _lock: lock.filter(|lock| lock.lock_shared().is_ok()) })
    }

    /// The files of which no copy here is the published one.
    pub(super) fn missing(&self) -> error::Result<Vec<&'static DataFile>> {
        let mut missing = Vec::new();
        for &file in self.files {
            if !file.paths_in(self.folder)?.iter().any(|path| check(path, file).is_ok()) {
                missing.push(file);
            }
        }
        Ok(missing)
    }

    /// An unfinished or temporary file or folder in this folder, and what `make` returned for its path. `make` fails with
    /// `AlreadyExists` where something has this path: processes in two containers may have the same number. [`is_leftover`]
    /// knows the form of the names.
    pub(super) fn scratch<T>(&self, name: &str, make: impl Fn(&Path) -> io::Result<T>) -> error::Result<(Scratch, T)> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = self.folder.join(format!(".{name}.{}-{count}", process::id()));
            match make(&path) {
                Ok(made) => return Ok((Scratch(path), made)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("make", path)(error)),
            }
        }
    }

    /// Reads one file, compressed or not, and keeps it if it is the published one. `total` is the number of bytes that
    /// the source announced, for the progress alone.
    pub(super) fn keep(
        &self,
        file: &'static DataFile,
        mut reader: impl Read,
        total: Option<u64>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Failure> {
        let limit = match file.published {
            Published::Content { bytes, .. } | Published::Size { bytes } => bytes + SLACK,
            Published::Compressed { bytes, .. } => bytes,
        };
        let refuse = |problem: String| Failure::Source(format!("{}: {problem}", file.name));
        let broken = |error: io::Error| refuse(error.to_string());
        let mut head = [0; 1024];
        let found = fill(&mut reader, &mut head).map_err(broken)?;
        let head = &head[..found];
        if Content::new(head).is_ok_and(is_web_page) {
            return Err(refuse(
                "the answer is a web page, not the file; a proxy or a login may stand in between".into(),
            ));
        }
        if let Some(total) = total.filter(|&total| total > limit) {
            return Err(refuse(format!("{total} bytes are announced, but the file has no more than {limit}")));
        }
        let mut reader = head.chain(reader);
        let create = |path: &Path| File::options().write(true).create_new(true).open(path);
        let (part, mut out) = self.scratch(file.name, create)?;
        let write = |error| Failure::Local(Error::io("write", &part.0)(error));
        let mut buffer = vec![0; 64 * 1024];
        let mut done = 0;
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(error)),
            };
            done += count as u64;
            if done > limit {
                return Err(refuse(format!("more than {limit} bytes")));
            }
            out.write_all(&buffer[..count]).map_err(write)?;
            progress(Progress::Bytes { file: file.name, done, total });
        }
        out.sync_all().map_err(write)?;
        drop(out);
        check(&part.0, file).map_err(refuse)?;
        // A server may have sent the file uncompressed.
        let suffix = if head.starts_with(&GZIP_MAGIC) { ".gz" } else { "" };
        let path = self.folder.join(format!("{}{suffix}", file.name));
        fs::rename(&part.0, &path).map_err(|error| Failure::Local(Error::io("write", path)(error)))?;
        if suffix.is_empty() {
            // A compressed file of this name would be found first. If there is one it failed the check, or this file
            // would not have been fetched.
            let _ = fs::remove_file(self.folder.join(format!("{}.gz", file.name)));
        }
        progress(Progress::Done { file: file.name });
        Ok(())
    }
}

/// Removes the unfinished files and temporary folders of fetches that were killed. One that cannot be removed is in
/// nobody's way.
fn remove_leftovers(folder: &Path, files: &[&'static DataFile]) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_leftover(&entry.file_name().to_string_lossy(), files)) {
        drop(Scratch(entry.path()));
    }
}

/// Whether a name is that of a [scratch](Store::scratch) path: `.NAME.PROCESS-COUNT`.
fn is_leftover(name: &str, files: &[&'static DataFile]) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let split = || name.strip_prefix('.')?.rsplit_once('.');
    split().is_some_and(|(name, numbers)| {
        let known = name == DEBIAN || files.iter().any(|file| file.name == name);
        known && numbers.split_once('-').is_some_and(|(process, count)| number(process) && number(count))
    })
}

/// Checks that a file is the published one; the error states the difference. An uncompressed file of which only the
/// compressed form is known fails.
fn check(path: &Path, file: &DataFile) -> Result<(), String> {
    let opened = File::open(path).map_err(|error| error.to_string())?;
    let (what, bytes, sha256, measured) = match file.published {
        Published::Content { bytes, sha256 } => {
            let content = Content::new(opened).map_err(|error| error.to_string())?;
            ("its content", bytes, Some(sha256), measure(content, bytes))
        }
        Published::Compressed { bytes, sha256 } => ("the file", bytes, Some(sha256), measure(opened, bytes)),
        Published::Size { bytes } => {
            let content = Content::new(opened).map_err(|error| error.to_string())?;
            ("its content", bytes, None, measure(content, bytes))
        }
    };
    let (found, hash) = measured.map_err(|error| error.to_string())?;
    if found > bytes {
        return Err(format!("{what} has more than {bytes} bytes"));
    }
    match sha256 {
        Some(sha256) if hash != sha256 => Err(format!("{what} ({found} bytes) has SHA-256 {hash} instead of {sha256}")),
        None if found != bytes => Err(format!("{what} has {found} bytes instead of {bytes}")),
        _ => Ok(()),
    }
}

/// Size and SHA-256 of the first `bytes + 1` bytes of `reader`. One byte more than expected shows that a file is too
/// long, however far it would inflate.
fn measure(reader: impl Read, bytes: u64) -> io::Result<(u64, String)> {
    let mut hashed = Hashed::new(reader.take(bytes + 1));
    io::copy(&mut hashed, &mut io::sink())?;
    Ok(hashed.finish())
}

/// A temporary file or folder that this process has made: dropping this removes it, unless it was renamed before.
pub(super) struct Scratch(pub(super) PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // The path may have been renamed. A failure to remove it cannot be reported from here.
        let _ = if self.0.is_dir() { fs::remove_dir_all(&self.0) } else { fs::remove_file(&self.0) };
    }
}
