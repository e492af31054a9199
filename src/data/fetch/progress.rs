//! The progress of a fetch, and the failure of a source.

use crate::error::Error;

/// An event during a [`fetch`](super::fetch).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A source is asked. If it fails, `Trying` follows for the next source; after the last one, `fetch` returns an
    /// error.
    Trying {
        /// The data set's title.
        data: &'static str,
        /// A mirror's address, or the command that gets Debian's package.
        source: String,
    },
    /// A file is arriving.
    Bytes {
        /// The file's name.
        file: &'static str,
        /// Bytes that have arrived.
        done: u64,
        /// Bytes in all, if the source says how many.
        total: Option<u64>,
    },
    /// A file has arrived, been checked, and got its name.
    Done {
        /// The file's name.
        file: &'static str,
    },
}

/// The reason why a source did not deliver all files.
#[derive(Debug)]
pub(super) enum Failure {
    /// The source failed. The next one may succeed.
    Source(String),
    /// This machine cannot store the files, so no other source would help.
    Local(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Local(error)
    }
}
