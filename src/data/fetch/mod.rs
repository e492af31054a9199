//! Fetching of a data set where this machine does not have it.
//!
//! First the mirrors (with the feature `fetch`), then Debian's package where there is one, which `apt-get` gets without
//! root. Whatever a source delivers must be the published file by its SHA-256: nothing else is kept.

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

/// Fetches the files of `spec`, or the archive that holds them, into the folder `into`, which is made where needed.
/// Files that are there already, and right, stay; an interrupted fetch goes on with the file at which it stopped. A file
/// appears under its name only when it is whole and checked, so several programs may fetch into the same folder at a
/// time.
///
/// # Errors
///
/// [`Error::DataNotFound`] where no source delivers, with what each of them said; [`Error::Io`]
/// where `into` cannot be written.
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

/// Who may have the files.
enum Supplier {
    /// A server that has them below this address, which ends with a slash.
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

    /// Brings all files that `store` lacks, or says why not.
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
