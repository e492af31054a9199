//! What a fetch tells while it goes on, and how a source may fail.

use crate::error::Error;

/// What happens during a [`fetch`](super::fetch).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A source is asked. Where it fails, the next one is `Trying`, or the error says why.
    Trying {
        /// The data set, as a person calls it.
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
        /// Bytes that will, where the source says how many.
        total: Option<u64>,
    },
    /// A file has arrived, was checked, and is in its place.
    Done {
        /// The file's name.
        file: &'static str,
    },
}

/// Why the files did not arrive.
#[derive(Debug)]
pub(super) enum Failure {
    /// The source did not deliver; the next one may.
    Source(String),
    /// This machine cannot keep what is delivered; no other source would help.
    Local(Error),
}
