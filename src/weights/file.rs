//! The safetensors file of [`Tensors`]: eight bytes with the length of a JSON header, the header, and the tensors'
//! bytes. Header and checksum have one order, by name, so equal contents make equal files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::element::{Element, TYPES, element};
use super::origin::{Format, Origin};
use super::pytorch::SAVE_AGAIN;
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

    /// The contents of the file at `path`, of which `first` are the first bytes and `rest` has the others. Memory is
    /// taken as the bytes come: about the file's size in f32.
    pub(super) fn read_safetensors(path: &Path, first: &[u8], rest: File) -> Result<Self> {
        let size = rest.metadata().map_err(Error::io("read", path))?.len();
        Self::read(path, size, first.chain(rest))
    }

    /// The contents of a file that [`Tensors::save`] wrote elsewhere. Errors name it as if it lay at `path`.
    ///
    /// # Errors
    /// As [`Tensors::load`].
    pub fn of_bytes(path: &Path, bytes: &[u8]) -> Result<Self> {
        Self::read(path, bytes.len() as u64, bytes)
    }

    fn read(path: &Path, size: u64, mut file: impl Read) -> Result<Self> {
        let no_safetensors = |problem: String| Error::weights(path)(format!("not a safetensors file: {problem}"));
        let cut_short = |e: io::Error| match e.kind() {
            io::ErrorKind::UnexpectedEof => no_safetensors("it is cut short; get the file again".into()),
            _ => Error::io("read", path)(e),
        };

        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(cut_short)?;
        let pickle = matches!(length, [0x80, 2..=5, ..]);
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER && pickle {
            return Err(no_safetensors(format!("it is a bare pickle, which may run anything; {SAVE_AGAIN}")));
        }
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
            let problem = format!("tensor {name} is {}; {TYPES}", info.dtype);
            return Err(Error::weights(path)(problem));
        }
        infos.sort_by_key(|(_, info)| info.data_offsets);
        let (mut tensors, mut piece) = (BTreeMap::new(), vec![0; PIECE]);
        let mut origin = Origin { format: Format::Safetensors, ..Origin::default() };
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
            *origin.types.entry(info.dtype.to_string()).or_default() += 1;
            tensors.insert(name, Tensor { dims: info.shape.clone(), values });
        }
        if file.read(&mut piece).map_err(Error::io("read", path))? > 0 {
            return Err(no_safetensors("there is more in it than its header calls for".into()));
        }

        let entry = |key: &str| header.metadata().as_ref().and_then(|entries| entries.get(key).cloned());
        let mut contents = Tensors { tensors, note: entry(NOTE), sealed: false, origin };
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
