//! Errors of the IDX format.

use std::io;

/// The reason why bytes are not an IDX file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdxError {
    /// The first two bytes are neither those of IDX (00 00) nor of gzip (1f 8b).
    #[error(
        "not an IDX file: it begins with {:02x} {:02x} instead of 00 00 (or 1f 8b if compressed)",
        found[0],
        found[1]
    )]
    Magic { found: [u8; 2] },

    /// The file is HTML: the answer of a proxy, a login page or a server without the file.
    #[error(
        "it is a web page, not the data: a server answered with a message; delete the file and get it again, in a browser \
         if a login is asked for"
    )]
    WebPage,

    /// The third byte is not one of the six element types.
    #[error("element type {code:#04x} is unknown; IDX has 0x08, 0x09, 0x0b, 0x0c, 0x0d and 0x0e")]
    UnknownType { code: u8 },

    /// The fourth byte is not 1, 2, 3 or 4.
    #[error("{found} dimensions; 1 to 4 are supported")]
    Dimensions { found: u8 },

    /// The size in bytes, by the dimensions in the header, does not fit a `usize`.
    #[error("the header claims {shape:?} elements, more than can be addressed")]
    Overflow { shape: Vec<u32> },

    /// The file is shorter than the header calls for. Both sizes are in bytes, uncompressed, with the header.
    #[error("truncated: {found} bytes, but the header calls for {expected}; get the file again")]
    Truncated { expected: usize, found: usize },

    /// There are bytes after the last element.
    #[error("more than the {expected} bytes that the header calls for")]
    Trailing { expected: usize },

    /// The gzip stream ends too early.
    #[error("the gzip stream is cut short; get the file again")]
    GzipTruncated,

    /// The gzip stream is damaged, or its checksum does not match.
    #[error("the gzip stream is damaged ({0}); get the file again")]
    GzipCorrupt(io::Error),

    /// The memory for the file's contents could not be allocated.
    #[error("no memory for {bytes} bytes")]
    Memory { bytes: usize },

    /// The system failed to read the bytes.
    #[error("cannot be read: {0}")]
    Read(io::Error),
}

impl From<io::Error> for IdxError {
    /// Tells gzip errors from read errors by their kinds: the gzip decoder gives `UnexpectedEof` for a truncated stream
    /// and `InvalidInput` or `InvalidData` for a damaged one. Reading a file gives none of these.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => IdxError::GzipTruncated,
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => IdxError::GzipCorrupt(error),
            _ => IdxError::Read(error),
        }
    }
}
