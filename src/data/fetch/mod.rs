//! Fetching of a data set that this machine does not have.
//!
//! The sources are the mirrors (with the feature `fetch`), then Debian's package if there is one, which `apt-get` gets
//! without root. A file is kept only if its SHA-256 is the published one.

mod debian;
#[cfg(feature = "fetch")]
mod mirror;
mod progress;
mod store;
#[cfg(all(test, feature = "fetch"))]
mod tests;

use std::fmt;
use std::path::Path;

pub use self::progress::Progress;

use self::debian::Package;
use self::progress::Failure;
use self::store::Store;
use super::spec::DataSpec;
use crate::error::{self, Error};

/// Fetches the files of `spec`, or the archive that holds them, into the folder `into`, which is made if it does not
/// exist.
///
/// Files that are there already and are the published ones stay, so an interrupted fetch continues with the file at
/// which it stopped. A file gets its name only once it is complete and checked, so several programs may fetch into one
/// folder at the same time.
///
/// # Errors
///
/// [`Error::DataNotFound`] if no source delivers, with the error of each; [`Error::Io`] if `into` cannot be written.
pub fn fetch(spec: &'static DataSpec, into: &Path, progress: &mut dyn FnMut(Progress)) -> error::Result<()> {
    let files = spec.downloads();
    fetch_from(&Supplier::all(spec), spec, &Store::open(into, &files)?, progress)
}

/// Asks one source after the other until `store` lacks nothing.
fn fetch_from(
    sources: &[Supplier],
    spec: &DataSpec,
    store: &Store,
    progress: &mut dyn FnMut(Progress),
) -> error::Result<()> {
    if store.missing().is_empty() {
        return Ok(());
    }
    let mut tried = Vec::new();
    for source in sources {
        progress(Progress::Trying { data: spec.title, source: source.to_string() });
        match source.deliver(store, progress) {
            Ok(()) => return Ok(()),
            Err(Failure::Source(problem)) => tried.push(format!("{source}: {problem}")),
            Err(Failure::Local(error)) => return Err(error),
        }
    }
    Err(Error::DataNotFound { data: spec.title.into(), tried, remedy: spec.remedy() })
}

/// A source of the files.
enum Supplier {
    /// A server that has the files below this address, which ends with a slash.
    Mirror(String),
    /// The package archive that `apt-get` is configured for.
    Debian(Package),
}

impl Supplier {
    /// Every source, in the order in which they are asked.
    fn all(spec: &DataSpec) -> Vec<Supplier> {
        let mirrors = spec.mirrors.iter().map(|address| Supplier::Mirror((*address).into()));
        let package = spec.package.map(|name| Supplier::Debian(Package { name, folder: spec.name }));
        mirrors.chain(package).collect()
    }

    /// Puts all files that `store` lacks into it.
    fn deliver(&self, store: &Store, progress: &mut dyn FnMut(Progress)) -> Result<(), Failure> {
        match self {
            #[cfg(feature = "fetch")]
            Supplier::Mirror(address) => mirror::deliver(address, store, progress),
            #[cfg(not(feature = "fetch"))]
            Supplier::Mirror(_) => {
                let problem = "this program was built without the feature `fetch`";
                Err(Failure::Source(problem.into()))
            }
            Supplier::Debian(package) => package.deliver(store, progress),
        }
    }
}

impl fmt::Display for Supplier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Supplier::Mirror(address) => f.write_str(address),
            Supplier::Debian(package) => write!(f, "apt-get download {}", package.name),
        }
    }
}
