//! Fetching of the data set where this machine does not have it.
//!
//! First upstream's mirrors (with the feature `fetch`), then Debian's package, which `apt-get` gets
//! without root. Whatever a source delivers must be, uncompressed, exactly the published bytes:
//! nothing else is kept.

mod debian;
#[cfg(feature = "fetch")]
mod mirror;
mod store;

use std::fmt;
use std::path::Path;

use self::store::Store;
use super::fashion_mnist::FILES;
use crate::error::{self, Error};

/// Addresses below which the compressed files lie: upstream's repository, the copy that Keras uses, and the address
/// that upstream first published. What they deliver is checked, so they need not be trusted, and the last one, which
/// speaks no TLS, is as good as the others.
const MIRRORS: [&str; 3] = [
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
];

/// What happens during a [`fetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A source is asked. Where it fails, the next one is `Trying`, or the error says why.
    Trying {
        /// A mirror's address, or the command that gets Debian's package.
        source: String,
    },
    /// A file is arriving.
    Bytes {
        /// The file's name.
        file: &'static str,
        /// Bytes that have arrived.
        done: u64,
        /// Bytes that will, where the source says how many.
        total: Option<u64>,
    },
    /// A file has arrived, was checked, and is in its place.
    Done {
        /// The file's name.
        file: &'static str,
    },
}

/// Fetches the four files into the folder `into`, which is made where needed. Files that are there
/// already, and right, stay; an interrupted fetch goes on with the file at which it stopped. A file
/// appears under its name only when it is whole and checked, so several programs may fetch into the
/// same folder at a time.
///
/// # Errors
///
/// [`Error::DataNotFound`] where no source delivers, with what each of them said; [`Error::Io`]
/// where `into` cannot be written.
pub fn fetch(into: &Path, progress: &mut dyn FnMut(Progress)) -> error::Result<()> {
    fetch_from(&Supplier::all(), &Store::open(into, &FILES)?, progress)
}

/// Asks one source after the other until `store` lacks nothing.
fn fetch_from(sources: &[Supplier], store: &Store, progress: &mut dyn FnMut(Progress)) -> error::Result<()> {
    if store.missing().is_empty() {
        return Ok(());
    }
    let mut tried = Vec::new();
    for source in sources {
        progress(Progress::Trying { source: source.to_string() });
        match source.deliver(store, progress) {
            Ok(()) => return Ok(()),
            Err(Failure::Source(problem)) => tried.push(format!("{source}: {problem}")),
            Err(Failure::Local(error)) => return Err(error),
        }
    }
    Err(Error::DataNotFound { tried })
}

/// Why the files did not arrive.
enum Failure {
    /// The source did not deliver; the next one may.
    Source(String),
    /// This machine cannot keep what is delivered; no other source would help.
    Local(Error),
}

/// Who may have the files.
enum Supplier {
    /// A server that has them below this address, which ends with a slash.
    Mirror(String),
    /// The package archive that `apt-get` is configured for.
    Debian,
}

impl Supplier {
    /// Every source, in the order in which they are asked.
    fn all() -> Vec<Supplier> {
        let mirrors = MIRRORS.map(|address| Supplier::Mirror(address.into()));
        mirrors.into_iter().chain([Supplier::Debian]).collect()
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
            Supplier::Debian => debian::deliver(store, progress),
        }
    }
}

impl fmt::Display for Supplier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Supplier::Mirror(address) => f.write_str(address),
            Supplier::Debian => write!(f, "apt-get download {}", debian::PACKAGE),
        }
    }
}
