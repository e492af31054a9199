//! The content of a file: its bytes with gzip undone, counted and hashed while they are read.

use std::io::{self, Chain, Cursor, Read};

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

/// Reads until `buffer` is full or the content ends. Returns the number of bytes read.
pub(super) fn fill(content: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match content.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A reader that decompresses gzip, and passes any other content through.
pub(super) enum Content<R> {
    Plain(Chain<Cursor<Vec<u8>>, R>),
    Gzip(Box<MultiGzDecoder<Chain<Cursor<Vec<u8>>, R>>>),
}

/// The first two bytes of every gzip stream (RFC 1952, section 2.3.1).
pub(super) const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

impl<R: Read> Content<R> {
    /// Tells from the first two bytes whether the content is compressed.
    pub(super) fn new(mut reader: R) -> io::Result<Self> {
        let mut head = vec![0; GZIP_MAGIC.len()];
        let found = fill(&mut reader, &mut head)?;
        head.truncate(found);
        let compressed = head == GZIP_MAGIC;
        let whole = Cursor::new(head).chain(reader);
        Ok(match compressed {
            true => Content::Gzip(Box::new(MultiGzDecoder::new(whole))),
            false => Content::Plain(whole),
        })
    }
}

impl<R: Read> Read for Content<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Content::Plain(reader) => reader.read(buffer),
            Content::Gzip(reader) => reader.read(buffer),
        }
    }
}

/// The first bytes of HTML and of the XML that storage servers send, in lower case.
const PAGES: [&[u8]; 9] =
    [b"<html", b"<!doctype html", b"<head", b"<body", b"<?xml", b"<!--", b"<title", b"<meta", b"<script"];

/// Whether uncompressed content begins as a web page does. Content that cannot be read to there is judged by what can be.
pub(super) fn is_web_page(content: impl Read) -> bool {
    let mut text = Vec::new();
    // A byte order mark and white space may come first. An error leaves the bytes before it.
    let _ = content.take(256).read_to_end(&mut text);
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text).trim_ascii_start();
    PAGES.iter().any(|page| text.get(..page.len()).is_some_and(|start| start.eq_ignore_ascii_case(page)))
}

/// A digest as text, in hexadecimal digits.
pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A reader that counts and hashes the bytes that pass through it.
pub(super) struct Hashed<R> {
    reader: R,
    bytes: u64,
    sha256: Sha256,
}

impl<R> Hashed<R> {
    pub(super) fn new(reader: R) -> Self {
        Hashed { reader, bytes: 0, sha256: Sha256::new() }
    }

    /// The number of bytes read and their SHA-256 in hexadecimal.
    pub(super) fn finish(self) -> (u64, String) {
        (self.bytes, hex(&self.sha256.finalize()))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.bytes += count as u64;
        self.sha256.update(&buffer[..count]);
        Ok(count)
    }
}
