//! Files and folders that appear together, or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::weights::sync_folder;
use crate::{Error, Result};

/// A file or folder to be made, and the function that makes it.
pub struct Output<'a> {
    path: PathBuf,
    kind: Kind,
    make: Make<'a>,
}

type Make<'a> = Box<dyn FnOnce(&Path) -> Result<()> + 'a>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
}

impl<'a> Output<'a> {
    /// The new file `path`. `make` writes a file at the path that it is given.
    pub fn file(path: impl Into<PathBuf>, make: impl FnOnce(&Path) -> Result<()> + 'a) -> Self {
        Output { path: path.into(), kind: Kind::File, make: Box::new(make) }
    }

    /// The folder `path`, which must be new or empty. `make` makes a folder at the path that it is given.
    pub fn folder(path: impl Into<PathBuf>, make: impl FnOnce(&Path) -> Result<()> + 'a) -> Self {
        Output { path: path.into(), kind: Kind::Folder, make: Box::new(make) }
    }
}

/// Makes all of `outputs`, or none. Paths are checked first. Then each output is made beside its place, and only when
/// all are there are they renamed. After an error those that were made are removed again.
///
/// # Errors
/// [`Error::Output`] for a path that is taken, in a folder that is not there, or within another output; [`Error::Io`]
/// for an output that cannot be renamed; the errors of the functions, in which [`Error::Io`] names the output's own
/// path.
pub fn together(outputs: Vec<Output<'_>>) -> Result<()> {
    let mut places: Vec<Place> = Vec::new();
    for Output { path, kind, .. } in &outputs {
        let place = Place::new(path, *kind)?;
        places.iter().try_for_each(|other| place.require_apart(other))?;
        places.push(place);
    }
    let mut staged = Staged(Vec::new());
    for (place, output) in places.into_iter().zip(outputs) {
        // Counts before it is made: an output that is broken off is removed too.
        staged.0.push(place);
        let place = &staged.0[staged.0.len() - 1];
        (output.make)(&place.part).map_err(|error| place.named(error))?;
    }
    staged.0.iter_mut().try_for_each(Place::put)?;
    // All are in their places, so there is nothing to undo.
    staged.0.clear();
    Ok(())
}

/// Outputs that are removed on drop.
struct Staged(Vec<Place>);

impl Drop for Staged {
    fn drop(&mut self) {
        self.0.iter().for_each(Place::undo);
    }
}

/// Where an output belongs.
struct Place {
    /// The path that was asked for, which errors name.
    path: PathBuf,
    kind: Kind,
    /// The same place, whatever the spelling of its path.
    target: PathBuf,
    /// Beside the target, where the output is made.
    part: PathBuf,
    /// Whether the output is at the target.
    is_put: bool,
    /// Whether an empty folder was there before.
    was_there: bool,
}

impl Place {
    fn new(path: &Path, kind: Kind) -> Result<Self> {
        let refuse = |problem: String| Error::Output { path: path.into(), problem };
        let Some(name) = path.file_name() else { return Err(refuse("has no name of its own; name a new one".into())) };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            return Err(refuse(format!("{} is not a folder; make it, or name another", folder.display())));
        }
        let folder = fs::canonicalize(folder).map_err(Error::io("find", folder))?;
        let target = match kind {
            Kind::File => folder.join(name),
            // A link leads to the folder that is to be replaced.
            Kind::Folder => fs::canonicalize(path).unwrap_or_else(|_| folder.join(name)),
        };
        let mut part = target.clone().into_os_string();
        part.push(format!(".{}.part", std::process::id()));
        let place = Place { path: path.into(), kind, target, part: part.into(), is_put: false, was_there: false };
        place.require_free()?;
        Ok(place)
    }

    /// Checks that nothing is there, but for an empty folder in a folder's place.
    fn require_free(&self) -> Result<()> {
        let refuse = |problem: String| Err(Error::Output { path: self.path.clone(), problem });
        let read = |e| Error::io("read", &self.path)(e);
        match fs::symlink_metadata(&self.target) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(read(e)),
            Ok(found) if self.kind == Kind::Folder && found.is_dir() => {
                match fs::read_dir(&self.target).map_err(read)?.next().transpose().map_err(read)? {
                    None => Ok(()),
                    Some(entry) => {
                        let holds = entry.file_name();
                        refuse(format!("is not empty (it has {}); name a new or empty one", holds.display()))
                    }
                }
            }
            Ok(found) if found.is_dir() => refuse("is a folder; name a file".into()),
            Ok(_) => refuse("is there already; name a new one, or remove it".into()),
        }
    }

    /// Checks that neither output lies in the other's place.
    fn require_apart(&self, other: &Place) -> Result<()> {
        let problem = if self.target == other.target {
            "two outputs would be written there; name a path for each".into()
        } else if self.target.starts_with(&other.target) || other.target.starts_with(&self.target) {
            format!("it and {} would be within each other; name paths side by side", other.path.display())
        } else {
            return Ok(());
        };
        Err(Error::Output { path: self.path.clone(), problem })
    }

    /// An error of the output's function, which knows the part alone.
    fn named(&self, error: Error) -> Error {
        match error {
            Error::Io { action, path, source } => {
                let path = match path.strip_prefix(&self.part) {
                    Ok(within) if within.as_os_str().is_empty() => self.path.clone(),
                    Ok(within) => self.path.join(within),
                    Err(_) => path,
                };
                Error::Io { action, path, source }
            }
            other => other,
        }
    }

    fn put(&mut self) -> Result<()> {
        // Another process may have been there since the first look. A rename would replace its file.
        self.require_free()?;
        // Not every system renames to a folder that is there.
        self.was_there = self.kind == Kind::Folder && fs::remove_dir(&self.target).is_ok();
        let renamed = fs::rename(&self.part, &self.target);
        self.is_put = renamed.is_ok();
        renamed.and_then(|()| sync_folder(&self.target)).map_err(Error::io("write", &self.path))
    }

    /// Leaves the place as it was, if possible. The first error is the one to report.
    fn undo(&self) {
        let made = if self.is_put { &self.target } else { &self.part };
        drop(match self.kind {
            Kind::File => fs::remove_file(made),
            Kind::Folder => fs::remove_dir_all(made),
        });
        if self.was_there {
            drop(fs::create_dir(&self.target));
        }
    }
}
