//! The folders of what a command leaves behind.

use std::path::{Path, PathBuf};
use std::{fs, io};

use mlpconv::{Error, Result};

/// Makes a new folder: `runs/NAME-20260131-235959`, by the clock in UTC, with a number if there is one of that second
/// already.
///
/// # Errors
/// [`Error::Io`] if it cannot be made.
pub fn timed(name: &str) -> Result<PathBuf> {
    let runs = Path::new("runs");
    fs::create_dir_all(runs).map_err(not_made(runs))?;
    let name = format!("{name}-{}", jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S"));
    let mut folder = runs.join(&name);
    for number in 2.. {
        match fs::create_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => folder = runs.join(format!("{name}-{number}")),
            made => {
                made.map_err(not_made(&folder))?;
                break;
            }
        }
    }
    Ok(folder)
}

/// Makes the folder unless it is there, and checks that nothing is in it.
///
/// # Errors
/// [`Error::RunNotEmpty`] if something is; [`Error::Io`] if it cannot be made or read.
pub fn empty(folder: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&folder).map_err(not_made(&folder))?;
    let read = |source| Error::Io { action: "read", path: folder.clone(), source };
    match fs::read_dir(&folder).map_err(read)?.next().transpose().map_err(read)? {
        Some(entry) => {
            let holds = entry.file_name().display().to_string();
            Err(Error::RunNotEmpty { path: folder, holds })
        }
        None => Ok(folder),
    }
}

/// For `map_err`: names the folder that could not be made.
fn not_made(folder: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = folder.to_owned();
    move |source| Error::Io { action: "create", path, source }
}
