//! The lock of a run folder: one process trains in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;

use crate::{Error, Result};

const LOCK: &str = ".lock";

/// The exclusive lock of a folder, on its file `.lock`. The system releases it when the process ends, however it ends.
/// The file stays: a lock on a file that another process removes would lock nothing.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    /// The reason why the file system gave no lock.
    refused: Option<String>,
}

impl Lock {
    /// # Errors
    /// [`Error::RunLocked`] if another process has the lock, with its number if that can be read; [`Error::Run`] if there is
    /// something else than a file in its place; [`Error::Io`] if the file cannot be made.
    pub(super) fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(LOCK);
        // The number replaces what is in the file: by a link, a folder from elsewhere would have another file overwritten.
        if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
            return Err(Error::run(folder, format!("{LOCK} is no plain file; remove it")));
        }
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(Error::io("open", path))?;
        let tried = loop {
            match file.try_lock() {
                Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Interrupted => {}
                tried => break tried,
            }
        };
        let refused = match tried {
            Ok(()) => None,
            Err(TryLockError::WouldBlock) => {
                let mut number = String::new();
                // The number only makes the message better.
                let _ = file.read_to_string(&mut number);
                let process = match number.trim() {
                    "" => "another process".into(),
                    number => format!("process {number}"),
                };
                return Err(Error::RunLocked { path: folder.into(), process });
            }
            Err(TryLockError::Error(e)) => Some(e.to_string()),
        };
        // A run does not fail for want of the number.
        let _ = file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
        Ok(Lock { file, refused })
    }

    /// The warning where the file system has no locks, as some network file systems have none.
    pub(super) fn warning(&self) -> Option<String> {
        let refused = self.refused.as_ref()?;
        Some(format!(
            "the file system of the run folder gives no lock ({refused}); see to it that no other process trains in the folder"
        ))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A process that another thread starts holds the open file too, until it runs its program: closing alone would leave
        // the folder locked so long. What fails to unlock is closed.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_dropped_is_free_though_its_file_is_open_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path()).unwrap();
        let _of_a_child = lock.file.try_clone().unwrap();
        assert!(matches!(Lock::take(folder.path()), Err(Error::RunLocked { .. })));
        drop(lock);
        Lock::take(folder.path()).unwrap();
    }
}
