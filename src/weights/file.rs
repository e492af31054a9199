//! The safetensors file of [`Tensors`]: eight bytes with the length of a JSON header, the header, and the tensors' bytes.
//! Header and checksum have one order, by name, so equal contents make equal files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Tensor, Tensors};
use crate::data::hex;
use crate::system::allocation::{grow, reserve};
use crate::{Error, Result};

/// The metadata entry that other loaders ask for: whose layouts the tensors have.
const FORMAT: [&str; 2] = ["format", "pt"];
/// The key of the metadata entry that holds [`Tensors::note`].
const NOTE: &str = "mlpconv";
/// The key of the metadata entry that holds the checksum: the SHA-256 of tensors and note, in hexadecimal digits.
const CHECKSUM: &str = "mlpconv.sha256";
/// The header's key of the metadata, which no tensor can have.
const METADATA: &str = "__metadata__";

/// The longest header, in bytes. The format has this limit.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes that are read at once: whole elements of every type.
const PIECE: usize = 1 << 16;

#[derive(Serialize)]
struct Header<'a> {
    #[serde(rename = "__metadata__")]
    metadata: BTreeMap<&'a str, &'a str>,
    #[serde(flatten)]
    tensors: BTreeMap<&'a str, TensorInfo>,
}

impl Tensors {
    /// The file with these contents, sealed. The error names `path`.
    pub(super) fn to_bytes(&self, path: &Path) -> Result<Vec<u8>> {
        let problem = |problem: String| Error::weights(path)(problem);
        let checksum = self.checksum();
        let mut metadata = BTreeMap::from([FORMAT.into(), (CHECKSUM, &*checksum)]);
        metadata.extend(self.note().map(|note| (NOTE, note)));
        let (mut tensors, mut end) = (BTreeMap::new(), 0);
        for (name, Tensor { dims, values }) in &self.tensors {
            if name == METADATA {
                return Err(problem(format!("a tensor cannot be named {name}")));
            }
            let start = end;
            end += size_of_val(&values[..]);
            tensors.insert(&**name, TensorInfo { dtype: Dtype::F32, shape: dims.clone(), data_offsets: (start, end) });
        }
        let mut header = serde_json::to_vec(&Header { metadata, tensors }).map_err(|e| problem(e.to_string()))?;
        // Padded with spaces, so that the tensors begin at a multiple of eight bytes.
        header.resize(header.len().next_multiple_of(8), b' ');
        if header.len() as u64 > MAX_HEADER {
            return Err(problem(format!("a header of {} bytes is longer than the format allows", header.len())));
        }
        let mut bytes = Vec::new();
        let no_memory = |_| Error::io("write", path)(io::ErrorKind::OutOfMemory.into());
        reserve(&mut bytes, 8 + header.len() + end).map_err(no_memory)?;
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header);
        bytes.extend(self.tensors.values().flat_map(|tensor| &tensor.values).flat_map(|value| value.to_le_bytes()));
        Ok(bytes)
    }

    /// The contents of the file at `path`. Memory is taken as the bytes come: about the file's size in f32.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(Error::io("read", path))?;
        let size = file.metadata().map_err(Error::io("read", path))?.len();
        let no_safetensors = |problem: String| Error::weights(path)(format!("not a safetensors file: {problem}"));
        let cut_short = |e: io::Error| match e.kind() {
            io::ErrorKind::UnexpectedEof => no_safetensors("it is cut short; get the file again".into()),
            _ => Error::io("read", path)(e),
        };

        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(cut_short)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER {
            return Err(no_safetensors(format!("its header would have {length} bytes")));
        }
        let mut header = Vec::new();
        (&mut file).take(length).read_to_end(&mut header).map_err(cut_short)?;
        if (header.len() as u64) < length {
            return Err(cut_short(io::ErrorKind::UnexpectedEof.into()));
        }
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|e| no_safetensors(format!("its header: {e}")))?;

        let mut infos: Vec<_> = header.tensors().into_iter().collect();
        infos.sort_by(|(a, _), (b, _)| a.cmp(b));
        if let Some((name, info)) = infos.iter().find(|(_, info)| element(info.dtype).is_none()) {
            let problem = format!("tensor {name} is {}; weights are F32, F16, BF16 or F64", info.dtype);
            return Err(Error::weights(path)(problem));
        }
        infos.sort_by_key(|(_, info)| info.data_offsets);
        let (mut tensors, mut piece) = (BTreeMap::new(), vec![0; PIECE]);
        for (name, info) in infos {
            let Some(Element { width, to_f32 }) = element(info.dtype) else { continue };
            let mut left = info.data_offsets.1 - info.data_offsets.0;
            let mut values = Vec::new();
            // A header may claim more than the file has.
            let room = (left / width).min(usize::try_from(size).unwrap_or(usize::MAX) / width);
            let no_memory = |_| Error::io("read", path)(io::ErrorKind::OutOfMemory.into());
            reserve(&mut values, room).map_err(no_memory)?;
            while left > 0 {
                let piece = &mut piece[..left.min(PIECE)];
                file.read_exact(piece).map_err(cut_short)?;
                grow(&mut values, piece.len() / width).map_err(no_memory)?;
                values.extend(piece.chunks_exact(width).map(to_f32));
                left -= piece.len();
            }
            tensors.insert(name, Tensor { dims: info.shape.clone(), values });
        }
        if file.read(&mut piece).map_err(Error::io("read", path))? > 0 {
            return Err(no_safetensors("there is more in it than its header calls for".into()));
        }

        let entry = |key: &str| header.metadata().as_ref().and_then(|entries| entries.get(key).cloned());
        let mut contents = Tensors { tensors, note: entry(NOTE), sealed: false };
        if let Some(checksum) = entry(CHECKSUM) {
            if checksum != contents.checksum() {
                let problem = "its contents do not match its checksum: the file is damaged; use another copy (a program \
                               that changes it on purpose has to remove the metadata entry";
                return Err(Error::weights(path)(format!("{problem} {CHECKSUM})")));
            }
            contents.sealed = true;
        }
        Ok(contents)
    }

    /// The SHA-256 of the tensors, by name, and of the note. Each part follows its length, so no two contents are the
    /// same sequence of bytes.
    fn checksum(&self) -> String {
        let mut hash = Sha256::new();
        let number = |hash: &mut Sha256, number: usize| hash.update((number as u64).to_le_bytes());
        let text = |hash: &mut Sha256, text: &str| {
            number(hash, text.len());
            hash.update(text);
        };
        number(&mut hash, self.tensors.len());
        let mut piece = Vec::with_capacity(PIECE);
        for (name, Tensor { dims, values }) in &self.tensors {
            text(&mut hash, name);
            number(&mut hash, dims.len());
            dims.iter().for_each(|&extent| number(&mut hash, extent));
            for values in values.chunks(PIECE / size_of::<f32>()) {
                piece.clear();
                piece.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                hash.update(&piece);
            }
        }
        if let Some(note) = self.note() {
            text(&mut hash, note);
        }
        hex(&hash.finalize())
    }
}

/// A type of elements in a file: its width in bytes, and the conversion of an element's bytes.
struct Element {
    width: usize,
    to_f32: fn(&[u8]) -> f32,
}

/// How elements of type `dtype` become f32; `None` for a type that weights do not have.
fn element(dtype: Dtype) -> Option<Element> {
    let (width, to_f32): (usize, fn(&[u8]) -> f32) = match dtype {
        Dtype::F32 => (4, |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        Dtype::F64 => (8, |b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32),
        // bf16 is the upper half of an f32.
        Dtype::BF16 => (2, |b| f32::from_le_bytes([0, 0, b[0], b[1]])),
        Dtype::F16 => (2, |b| from_f16(u16::from_le_bytes([b[0], b[1]]))),
        _ => return None,
    };
    Some(Element { width, to_f32 })
}

/// The value of an IEEE half: 1 bit of sign, 5 of exponent (bias 15), 10 of fraction.
fn from_f16(bits: u16) -> f32 {
    let bits = u32::from(bits);
    let (sign, exponent, fraction) = (bits >> 15 << 31, bits >> 10 & 0x1f, bits & 0x3ff);
    let magnitude = match exponent {
        // Subnormal: the fraction counts steps of 2⁻²⁴.
        0 => (fraction as f32 / 16_777_216.0).to_bits(),
        0x1f => 0xff << 23 | fraction << 13,
        _ => (exponent + 127 - 15) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
            let magnitude = match exponent {
                0 => fraction / 1024.0 * 2f64.powi(-14),
                31 if fraction == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
            };
            let value = f64::from(from_f16(bits));
            assert_eq!(value.is_sign_negative(), bits >> 15 == 1, "{bits:#06x}");
            assert!(value.abs() == magnitude || value.is_nan() && magnitude.is_nan(), "{bits:#06x}: {value}");
        }
    }
}
