//! Errors of the IDX format.

use std::io;

/// Why bytes are not an IDX file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdxError {
    /// The first two bytes are of neither IDX nor gzip.
    #[error(
        "not an IDX file: it begins with {:02x} {:02x} instead of 00 00 (or 1f 8b if compressed)",
        found[0],
        found[1]
    )]
    Magic { found: [u8; 2] },

    /// The file is HTML: what a proxy, a login page or a server that has no such file sends instead.
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

    /// The product of the dimensions does not fit into memory's address space.
    #[error("the header claims {shape:?} elements, more than can be addressed")]
    Overflow { shape: Vec<u32> },

    /// There is less content (counted uncompressed, with the header) than the header asks for.
    #[error("truncated: {found} bytes, but the header calls for {expected}; get the file again")]
    Truncated { expected: usize, found: usize },

    /// Content goes on after the last element.
    #[error("more than the {expected} bytes that the header calls for")]
    Trailing { expected: usize },

    /// The compressed file ends too early.
    #[error("the gzip stream is cut short; get the file again")]
    GzipTruncated,

    /// The compressed file contradicts itself or its checksum.
    #[error("the gzip stream is damaged ({0}); get the file again")]
    GzipCorrupt(io::Error),

    /// This much memory was justified but not to be had.
    #[error("no memory for {bytes} bytes")]
    Memory { bytes: usize },

    /// The bytes could not be read at all.
    #[error("cannot be read: {0}")]
    Read(io::Error),
}

impl From<io::Error> for IdxError {
    /// Files do not report these kinds; the gzip decoder does, and for these reasons.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => IdxError::GzipTruncated,
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => IdxError::GzipCorrupt(error),
            _ => IdxError::Read(error),
        }
    }
}
