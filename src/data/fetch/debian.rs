//! Debian's package of a data set, downloaded and unpacked without root and without installing it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::progress::{Failure, Progress};
use super::store::{DEBIAN, Store};
use crate::error::Error;

/// A package of a data set.
pub(in crate::data) struct Package {
    /// The package's name, in Debian and its derivatives.
    pub(super) name: &'static str,
    /// The folder of the files in the package, below `usr/share/datasets`.
    pub(super) folder: &'static str,
}

impl Package {
    /// Downloads the package, unpacks it, and takes the files that `store` lacks.
    pub(super) fn deliver(&self, store: &Store, progress: &mut dyn FnMut(Progress)) -> Result<(), Failure> {
        // Its path is absolute, for programs that run in it.
        let (_scratch, work) = store.scratch(DEBIAN, |path| {
            let work = std::path::absolute(path)?;
            fs::create_dir(&work).map(|()| work)
        })?;
        let package = download(self.name, &work)?;
        let root = work.join("root");
        run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&root))?;
        let inside = format!("usr/share/datasets/{}", self.folder);
        let folder = root.join(&inside);
        for file in store.missing()? {
            let missing = || Failure::Source(format!("the package lacks {inside}/{}.gz", file.name));
            let path = file.paths_in(&folder)?.into_iter().next().ok_or_else(missing)?;
            let unpacked = File::open(&path).map_err(|e| Failure::Local(Error::io("open", path)(e)))?;
            let total = unpacked.metadata().ok().map(|metadata| metadata.len());
            store.keep(file, unpacked, total, progress)?;
        }
        Ok(())
    }
}

fn make(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let error = Error::io("make the folder", path);
    move |source| Failure::Local(error(source))
}

/// Downloads a package into the folder `work`.
fn download(package: &str, work: &Path) -> Result<PathBuf, Failure> {
    // The system's package lists may be empty (in a container), or too old for the archive. Then lists are downloaded
    // into `work`, which needs no root.
    download_with(Lists::System, package, work).or_else(|_| update(package, work))?;
    let entries = fs::read_dir(work).map_err(|e| Failure::Local(Error::io("list", work)(e)))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or_else(|| Failure::Source("apt-get succeeded but left no package".into()))
}

fn download_with(lists: Lists, package: &str, work: &Path) -> Result<(), Failure> {
    run(apt(work, lists).args(["download", package]))
}

/// Downloads package lists into the folder `work`, and then the package by those lists.
fn update(package: &str, work: &Path) -> Result<(), Failure> {
    for folder in ["lists/partial", "cache/archives/partial"] {
        let folder = work.join(folder);
        fs::create_dir_all(&folder).map_err(make(&folder))?;
    }
    // The update fails if one of several archives fails, so it is the download that decides. If both fail, the update's
    // error is reported, as it is nearer to the cause.
    let updated = run(apt(work, Lists::Own).arg("update"));
    download_with(Lists::Own, package, work).map_err(|failure| updated.err().unwrap_or(failure))
}

/// The package lists that `apt-get` is to use.
enum Lists {
    /// The system's lists, as they are.
    System,
    /// Lists in the working folder.
    Own,
}

/// The command `apt-get`, which downloads into the folder `work`.
fn apt(work: &Path, lists: Lists) -> Command {
    let mut command = Command::new("apt-get");
    command.current_dir(work);
    let mut option = |option: String| {
        command.arg("-o").arg(option);
    };
    // Without this, apt-get started by root would change to a user who cannot write to `work`. For other users it
    // changes nothing.
    option("APT::Sandbox::User=root".into());
    option("Acquire::Retries=0".into());
    option("Acquire::http::Timeout=10".into());
    option("Acquire::https::Timeout=10".into());
    if let Lists::Own = lists {
        option(format!("Dir::State::Lists={}", work.join("lists").display()));
        option(format!("Dir::Cache={}", work.join("cache").display()));
    }
    command
}

/// Runs a program to its end. If it fails, the error has the last line of its standard error.
fn run(command: &mut Command) -> Result<(), Failure> {
    let name = command.get_program().display().to_string();
    // The program's output becomes part of our error message, so it has to be in English.
    let output = command.env("LC_ALL", "C").stdin(Stdio::null()).output();
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::Source(format!("{name} is not on this machine")),
        _ => Failure::Source(format!("{name} cannot be started: {error}")),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last = complaint.lines().rev().find(|line| !line.trim().is_empty());
    let problem = last.map_or_else(|| output.status.to_string(), |line| line.trim().to_owned());
    Err(Failure::Source(format!("{name}: {problem}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::known::FASHION_MNIST;

    const PACKAGE: Package = Package { name: "dataset-fashion-mnist", folder: "fashion-mnist" };

    #[test]
    fn a_failing_program_is_quoted() {
        let problem = |command: &mut Command| match run(command) {
            Err(Failure::Source(problem)) => problem,
            _ => panic!("a problem of the source was to be expected"),
        };
        let absent = problem(&mut Command::new("mlpconv-no-such-program"));
        assert_eq!(absent, "mlpconv-no-such-program is not on this machine");
        let script = "echo first >&2; echo 'E: last ' >&2; echo >&2; exit 3";
        assert_eq!(problem(Command::new("sh").args(["-c", script])), "sh: E: last");
        assert_eq!(problem(Command::new("sh").args(["-c", "exit 3"])), "sh: exit status: 3");
    }

    #[test]
    #[ignore = "downloads 31 MB from the package archive that apt-get is configured for"]
    fn the_package_has_the_published_files() {
        let folder = tempfile::tempdir().unwrap();
        let files = FASHION_MNIST.downloads();
        let store = Store::open(folder.path(), &files).unwrap();
        PACKAGE.deliver(&store, &mut |_| {}).unwrap();
        assert!(store.missing().unwrap().is_empty());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), files.len());
    }

    #[test]
    #[ignore = "downloads package lists and 31 MB from the package archive"]
    fn package_lists_of_ones_own_lead_to_the_package() {
        let work = tempfile::tempdir().unwrap();
        assert!(update(PACKAGE.name, work.path()).is_ok());
        assert!(fs::read_dir(work.path().join("lists")).unwrap().count() > 2);
        assert!(download(PACKAGE.name, work.path()).is_ok());
    }
}
