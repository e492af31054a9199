//! Fetching of a data set that this machine does not have.
//!
//! The sources are the mirrors (with the feature `fetch`), then Debian's package if there is one, which `apt-get` gets
//! without root. A file is kept only if its SHA-256 is the published one.

mod debian;
#[cfg_attr(not(feature = "fetch"), allow(dead_code))]
mod mirror;
mod progress;
#[cfg(all(test, feature = "fetch"))]
pub(super) mod server;
mod store;
#[cfg(all(test, feature = "fetch"))]
mod tests;

use std::fmt;
use std::path::Path;

pub use self::progress::Progress;

use self::debian::Package;
pub(super) use self::mirror::Mirror;
use self::progress::Failure;
use self::store::Store;
use super::spec::{DataSpec, Holding};
use crate::error::{self, Error};

/// Fetches the files of `spec`, or the archive that holds them, into the folder `into`, which is made if it does not
/// exist.
///
/// Files that are there already and are the published ones stay, so an interrupted fetch continues with the file at
/// which it stopped. A file gets its name only once it is complete and checked, so several programs may fetch into one
/// folder at the same time. What killed fetches left is removed.
///
/// # Errors
///
/// [`Error::DataNotFound`] if no source delivers, with the error of each; [`Error::Io`] if `into` cannot be written.
pub fn fetch(spec: &'static DataSpec, into: &Path, progress: &mut dyn FnMut(Progress)) -> error::Result<()> {
    fetch_from(&Supplier::all(spec), spec, into, progress).map(drop)
}

/// As [`fetch`], from these suppliers. Returns the form in which the folder then has the data set.
pub(super) fn fetch_from(
    suppliers: &[Supplier],
    spec: &'static DataSpec,
    into: &Path,
    progress: &mut dyn FnMut(Progress),
) -> error::Result<Holding> {
    fill(&Store::open(into, &spec.downloads())?, suppliers, spec, progress)?;
    Ok(match spec.archive {
        Some(_) => Holding::Archive(into.into()),
        None => Holding::Files(into.into()),
    })
}

/// Asks one supplier after the other until `store` lacks nothing.
fn fill(
    store: &Store,
    suppliers: &[Supplier],
    spec: &DataSpec,
    progress: &mut dyn FnMut(Progress),
) -> error::Result<()> {
    if store.missing()?.is_empty() {
        return Ok(());
    }
    let mut tried = Vec::new();
    for supplier in suppliers {
        progress(Progress::Trying { data: spec.title, source: supplier.to_string() });
        match supplier.deliver(store, progress) {
            Ok(()) => return Ok(()),
            Err(Failure::Source(problem)) => tried.push(format!("{supplier}: {problem}")),
            Err(Failure::Local(error)) => return Err(error),
        }
    }
    Err(Error::DataNotFound { data: spec.title.into(), tried, remedy: spec.remedy() })
}

/// A source of the files.
pub(super) enum Supplier {
    /// A server that has the files.
    Mirror(Mirror),
    /// The package archive that `apt-get` is configured for.
    Debian(Package),
}

impl Supplier {
    /// Every source, in the order in which they are asked.
    pub(super) fn all(spec: &DataSpec) -> Vec<Supplier> {
        let mirrors = spec.mirrors.iter().map(|address| Supplier::Mirror(Mirror::new(*address)));
        let package = spec.package.map(|name| Supplier::Debian(Package { name, folder: spec.name }));
        mirrors.chain(package).collect()
    }

    /// Puts all files that `store` lacks into it.
    fn deliver(&self, store: &Store, progress: &mut dyn FnMut(Progress)) -> Result<(), Failure> {
        match self {
            Supplier::Mirror(mirror) => mirror.deliver(store, progress),
            Supplier::Debian(package) => package.deliver(store, progress),
        }
    }
}

impl fmt::Display for Supplier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Supplier::Mirror(mirror) => f.write_str(&mirror.address),
            Supplier::Debian(package) => write!(f, "apt-get download {}", package.name),
        }
    }
}
