//! The IDX format of the MNIST family of data sets.
//!
//! A file is two zero bytes, a byte for the element type, a byte for the number of dimensions, each dimension as a
//! big-endian `u32`, then the elements, big-endian, the last dimension fastest. Source: the page of the MNIST database
//! (LeCun, Cortes, Burges), "The IDX file format".
//!
//! A header is not trusted: memory grows with the bytes that arrive, up to the size that the header states. So neither
//! a false header nor a gzip stream that inflates without end can exhaust memory.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use byteorder::{BigEndian, ByteOrder};

use super::content::{Content, fill, looks_like_a_web_page};
use crate::error::{self, Error, IdxError};
use crate::system::allocation::reserve;

/// The contents of an IDX file.
#[derive(Clone, Debug, PartialEq)]
pub struct Idx {
    /// One to four dimensions, slowest first.
    pub shape: Vec<usize>,
    /// As many elements as the product of `shape`, row-major.
    pub data: IdxData,
}

/// The elements of an IDX file, by their type.
#[derive(Clone, Debug, PartialEq)]
pub enum IdxData {
    /// Type 0x08.
    U8(Vec<u8>),
    /// Type 0x09.
    I8(Vec<i8>),
    /// Type 0x0B.
    I16(Vec<i16>),
    /// Type 0x0C.
    I32(Vec<i32>),
    /// Type 0x0D.
    F32(Vec<f32>),
    /// Type 0x0E.
    F64(Vec<f64>),
}

impl IdxData {
    /// The element type, as Rust names it.
    pub fn type_name(&self) -> &'static str {
        match self {
            IdxData::U8(_) => "u8",
            IdxData::I8(_) => "i8",
            IdxData::I16(_) => "i16",
            IdxData::I32(_) => "i32",
            IdxData::F32(_) => "f32",
            IdxData::F64(_) => "f64",
        }
    }
}

impl Idx {
    /// Reads a file, compressed with gzip or not.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] where it cannot be opened, [`Error::Idx`] where it is not a whole IDX file.
    pub fn open(path: &Path) -> error::Result<Idx> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        Idx::read(BufReader::new(file), &path.display().to_string())
    }

    /// Reads an IDX file to its end, compressed with gzip or not. `name` is its name in errors.
    ///
    /// # Errors
    ///
    /// [`Error::Idx`] where `reader` does not yield one whole IDX file and nothing else.
    pub fn read(reader: impl Read, name: &str) -> error::Result<Idx> {
        Content::new(reader)
            .map_err(IdxError::from)
            .and_then(Idx::parse)
            .map_err(|source| Error::Idx { name: name.into(), source })
    }

    /// Reads uncompressed content to its end.
    pub(crate) fn parse(mut content: impl Read) -> Result<Idx, IdxError> {
        let mut head = [0; 4];
        let found = fill(&mut content, &mut head)?;
        if found >= 2 && head[..2] != [0, 0] {
            if looks_like_a_web_page(&head[..found], &mut content)? {
                return Err(IdxError::WebPage);
            }
            return Err(IdxError::Magic { found: [head[0], head[1]] });
        }
        if found < head.len() {
            return Err(IdxError::Truncated { expected: head.len(), found });
        }
        let [_, _, code, dimensions] = head;
        let Some(size) = element_size(code) else {
            return Err(IdxError::UnknownType { code });
        };
        if !(1..=4).contains(&dimensions) {
            return Err(IdxError::Dimensions { found: dimensions });
        }

        let mut bytes = [0; 16];
        let bytes = &mut bytes[..4 * usize::from(dimensions)];
        let header = head.len() + bytes.len();
        let found = head.len() + fill(&mut content, bytes)?;
        if found < header {
            return Err(IdxError::Truncated { expected: header, found });
        }
        let claim: Vec<u32> = bytes.chunks_exact(4).map(BigEndian::read_u32).collect();
        let overflow = || IdxError::Overflow { shape: claim.clone() };
        let shape = claim.iter().map(|&length| usize::try_from(length).map_err(|_| overflow()));
        let shape = shape.collect::<Result<Vec<usize>, IdxError>>()?;
        let elements = shape
            .iter()
            .try_fold(1usize, |product, &length| product.checked_mul(length))
            .filter(|&elements| elements <= (isize::MAX as usize - header) / size)
            .ok_or_else(overflow)?;

        let mut body = Body { content, header, elements, size };
        let data = match code {
            0x08 => IdxData::U8(body.read(|bytes, out| out.copy_from_slice(bytes))?),
            0x09 => IdxData::I8(body.read(|bytes, out| {
                out.iter_mut().zip(bytes).for_each(|(element, &byte)| *element = byte as i8);
            })?),
            0x0B => IdxData::I16(body.read(BigEndian::read_i16_into)?),
            0x0C => IdxData::I32(body.read(BigEndian::read_i32_into)?),
            0x0D => IdxData::F32(body.read(BigEndian::read_f32_into)?),
            _ => IdxData::F64(body.read(BigEndian::read_f64_into)?),
        };
        Ok(Idx { shape, data })
    }
}

/// Bytes of one element of a type, if there is such a type.
fn element_size(code: u8) -> Option<usize> {
    match code {
        0x08 | 0x09 => Some(1),
        0x0B => Some(2),
        0x0C | 0x0D => Some(4),
        0x0E => Some(8),
        _ => None,
    }
}

/// The content after the header.
struct Body<R> {
    content: R,
    header: usize,
    elements: usize,
    size: usize,
}

impl<R: Read> Body<R> {
    /// Reads every element, and checks that nothing follows the last one.
    fn read<T: Copy + Default>(&mut self, decode: fn(&[u8], &mut [T])) -> Result<Vec<T>, IdxError> {
        const CHUNK: usize = 64 * 1024;
        let expected = self.header + self.elements * self.size;
        let mut bytes = vec![0; CHUNK.min(self.elements * self.size)];
        let mut out: Vec<T> = Vec::new();
        while out.len() < self.elements {
            let start = out.len();
            let left = self.elements - start;
            let count = left.min(CHUNK / self.size);
            let bytes = &mut bytes[..count * self.size];
            let found = fill(&mut self.content, bytes)?;
            if found < bytes.len() {
                let found = self.header + start * self.size + found;
                return Err(IdxError::Truncated { expected, found });
            }
            if out.capacity() < start + count {
                // The capacity doubles, so that copying stays linear, but never exceeds the header's count.
                let more = left.min(count.max(start));
                let memory = |_| IdxError::Memory { bytes: (start + more) * self.size };
                reserve(&mut out, more).map_err(memory)?;
            }
            out.resize(start + count, T::default());
            decode(bytes, &mut out[start..]);
        }
        // This read finds the end of the content, upon which the gzip decoder compares its checksum.
        match fill(&mut self.content, &mut [0])? {
            0 => Ok(out),
            _ => Err(IdxError::Trailing { expected }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::content::GZIP_MAGIC;
    use super::*;

    fn header(code: u8, shape: &[usize]) -> Vec<u8> {
        let mut bytes = vec![0, 0, code, shape.len() as u8];
        shape.iter().for_each(|&length| bytes.extend((length as u32).to_be_bytes()));
        bytes
    }

    /// Writes an array as an IDX file: the inverse of [`Idx::parse`].
    fn encode(idx: &Idx) -> Vec<u8> {
        fn of<T: Copy, const N: usize>(elements: &[T], bytes: fn(T) -> [u8; N]) -> Vec<u8> {
            elements.iter().flat_map(|&element| bytes(element)).collect()
        }
        let (code, body) = match &idx.data {
            IdxData::U8(elements) => (0x08, of(elements, u8::to_be_bytes)),
            IdxData::I8(elements) => (0x09, of(elements, i8::to_be_bytes)),
            IdxData::I16(elements) => (0x0B, of(elements, i16::to_be_bytes)),
            IdxData::I32(elements) => (0x0C, of(elements, i32::to_be_bytes)),
            IdxData::F32(elements) => (0x0D, of(elements, f32::to_be_bytes)),
            IdxData::F64(elements) => (0x0E, of(elements, f64::to_be_bytes)),
        };
        [header(code, &idx.shape), body].concat()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Idx, IdxError> {
        Idx::read(bytes, "name").map_err(|error| match error {
            Error::Idx { name, source } if name == "name" => source,
            other => panic!("{other}"),
        })
    }

    fn error(bytes: &[u8]) -> IdxError {
        read(bytes).unwrap_err()
    }

    /// Arrays of any type, shape and value. Floats are finite: NaN would not equal itself.
    fn arrays() -> impl Strategy<Value = Idx> {
        (vec(0usize..6, 1..=4), 0..6).prop_flat_map(|(shape, kind)| {
            let count = shape.iter().product::<usize>();
            let f32s = proptest::num::f32::NORMAL | proptest::num::f32::ZERO;
            let f64s = proptest::num::f64::NORMAL | proptest::num::f64::ZERO;
            let data = match kind {
                0 => vec(any::<u8>(), count).prop_map(IdxData::U8).boxed(),
                1 => vec(any::<i8>(), count).prop_map(IdxData::I8).boxed(),
                2 => vec(any::<i16>(), count).prop_map(IdxData::I16).boxed(),
                3 => vec(any::<i32>(), count).prop_map(IdxData::I32).boxed(),
                4 => vec(f32s, count).prop_map(IdxData::F32).boxed(),
                _ => vec(f64s, count).prop_map(IdxData::F64).boxed(),
            };
            data.prop_map(move |data| Idx { shape: shape.clone(), data })
        })
    }

    proptest! {
        #[test]
        fn every_type_and_shape_comes_back(idx in arrays()) {
            let bytes = encode(&idx);
            prop_assert_eq!(&read(&bytes).unwrap(), &idx);
            prop_assert_eq!(&read(&gzip(&bytes)).unwrap(), &idx);
        }

        #[test]
        fn a_truncated_file_is_told_apart(idx in arrays(), cut in any::<prop::sample::Index>()) {
            let bytes = encode(&idx);
            let found = cut.index(bytes.len());
            let truncated = |error| match error {
                IdxError::Truncated { expected, found } => Some((expected, found)),
                _ => None,
            };
            let (expected, reported) = truncated(error(&bytes[..found])).unwrap();
            prop_assert_eq!(reported, found);
            prop_assert!(expected > found && expected <= bytes.len());
            let compressed = error(&gzip(&bytes[..found]));
            prop_assert_eq!(truncated(compressed).unwrap(), (expected, found));
        }

        #[test]
        fn trailing_bytes_are_refused(idx in arrays(), tail in vec(any::<u8>(), 1..9)) {
            let bytes = encode(&idx);
            let longer = [&bytes[..], &tail].concat();
            for bytes in [&longer, &gzip(&longer)] {
                let refused = error(bytes);
                let expected = encode(&idx).len();
                let told = matches!(refused, IdxError::Trailing { expected: e } if e == expected);
                prop_assert!(told, "{}", refused);
            }
        }

        #[test]
        fn a_truncated_gzip_stream_is_told_apart(
            idx in arrays(),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = gzip(&encode(&idx));
            let found = 2 + cut.index(bytes.len() - 2);
            let refused = error(&bytes[..found]);
            prop_assert!(matches!(refused, IdxError::GzipTruncated), "{}", refused);
        }

        #[test]
        fn a_wrong_checksum_is_told_apart(idx in arrays(), at in 0usize..8, bit in 0u8..8) {
            let mut bytes = gzip(&encode(&idx));
            let end = bytes.len();
            bytes[end - 8 + at] ^= 1 << bit;
            let refused = error(&bytes);
            prop_assert!(matches!(refused, IdxError::GzipCorrupt(_)), "{}", refused);
        }

        #[test]
        fn a_flipped_bit_anywhere_never_yields_another_array(
            idx in arrays(),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let mut bytes = gzip(&encode(&idx));
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            // Flipping some bits of a gzip header (its time, its operating system) leaves the content unchanged.
            if let Ok(read) = read(&bytes) {
                prop_assert_eq!(read, idx);
            }
        }

        #[test]
        fn any_other_beginning_is_refused(bytes in vec(any::<u8>(), 2..64)) {
            let found = [bytes[0], bytes[1]];
            prop_assume!(found != [0, 0] && found != GZIP_MAGIC);
            let refused = error(&bytes);
            let told = matches!(refused, IdxError::Magic { found: f } if f == found);
            prop_assert!(told, "{}", refused);
        }

        #[test]
        fn any_other_type_is_refused(code in any::<u8>(), tail in vec(any::<u8>(), 1..64)) {
            prop_assume!(element_size(code).is_none());
            let refused = error(&[&[0, 0, code][..], &tail].concat());
            let told = matches!(refused, IdxError::UnknownType { code: c } if c == code);
            prop_assert!(told, "{}", refused);
        }

        #[test]
        fn no_or_too_many_dimensions_are_refused(
            found in any::<u8>(),
            tail in vec(any::<u8>(), 0..64),
        ) {
            prop_assume!(!(1..=4).contains(&found));
            let refused = error(&[&[0, 0, 8, found][..], &tail].concat());
            let told = matches!(refused, IdxError::Dimensions { found: f } if f == found);
            prop_assert!(told, "{}", refused);
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            magic in prop::bool::ANY,
            bytes in vec(any::<u8>(), 0..256),
        ) {
            let start: &[u8] = if magic { &[0, 0, 8, 1] } else { &GZIP_MAGIC };
            let _ = read(&[start, &bytes].concat());
            let _ = read(&bytes);
        }
    }

    #[test]
    fn a_product_beyond_the_address_space_is_refused() {
        let most = u32::MAX as usize;
        for (code, shape) in [(0x08, vec![most; 3]), (0x0E, vec![most, 1 << 30, 1, 1]), (0x09, vec![most; 4])] {
            let refused = error(&header(code, &shape));
            assert!(matches!(refused, IdxError::Overflow { .. }), "{refused}");
        }
    }

    #[test]
    fn members_of_a_gzip_file_are_one_content() {
        let bytes = encode(&Idx { shape: vec![3, 2], data: IdxData::I16((0..6).collect()) });
        let whole = read(&bytes).unwrap();
        assert_eq!(read(&[gzip(&bytes[..7]), gzip(&bytes[7..])].concat()).unwrap(), whole);
    }

    #[test]
    fn a_web_page_is_told_from_other_bytes() {
        let pages: [&[u8]; 5] = [
            b"<html><body>Not found</body></html>",
            b"<!DOCTYPE html>\n<title>Login</title>",
            b"\xef\xbb\xbf\r\n <HTML lang=\"en\">",
            b"<head>",
            b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>",
        ];
        for page in pages {
            for bytes in [page.to_vec(), gzip(page)] {
                let refused = error(&bytes);
                assert!(matches!(refused, IdxError::WebPage), "{refused}");
                assert!(refused.to_string().contains("web page"), "{refused}");
            }
        }
        for other in [&b"<ht"[..], b"html", b"<3 data", b"PK\x03\x04"] {
            assert!(matches!(error(other), IdxError::Magic { .. }));
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Idx::open(Path::new("no/such/file")).unwrap_err();
        assert!(error.to_string().starts_with("cannot open no/such/file: "), "{error}");
    }
}
