//! Files of `torch.save`: a zip archive with a pickle, which is read without executing anything, and the bytes of the
//! storages that its tensors are views of.

mod archive;
mod pickle;
mod state_dict;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use super::element::{Element, element};
use super::origin::{Format, Origin};
use super::{Tensor, Tensors};
use crate::system::allocation::reserve;
use crate::{Error, Result};
use archive::Archive;
use pickle::Pickle;
use state_dict::{StateDict, View};

/// The remedy against pickles that ask for more than tensors.
pub(super) const SAVE_AGAIN: &str = "only tensors are read, and nothing is ever run: save them alone, by \
                                     torch.save(net.state_dict(), PATH), or as safetensors";

/// The first bytes of a zip archive: a local header.
const ZIP: &[u8] = b"PK\x03\x04";
/// The first bytes of what PyTorch wrote before version 1.6: a pickle of the number 0x1950a86a20f9469cfc6c.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
/// The longest pickle, in bytes. That of a network here has a few thousand.
const MOST: u64 = 1 << 26;

/// As many bytes as tell the formats apart.
pub(super) const FIRST: u64 = LEGACY.len() as u64;

/// Whether a file that begins with these bytes is one of `torch.save`.
pub(super) fn is_pytorch(first: &[u8]) -> bool {
    first.starts_with(ZIP) || first == LEGACY
}

/// Text from a file for a message: printable, in one line, and not long.
fn shown(bytes: &[u8]) -> String {
    const LONG: usize = 80;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * LONG)]);
    let shown: String = text.chars().take(LONG).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONG).is_some() { format!("{shown}...") } else { shown }
}

impl Tensors {
    /// The tensors of the state dict in the file at `path`, which begins with `first`. Each storage is read once;
    /// beside the tensors one storage at a time takes memory.
    pub(super) fn read_pytorch(path: &Path, first: &[u8], file: File) -> Result<Self> {
        let refuse = |problem: String| Error::weights(path)(problem);
        if first == LEGACY {
            let remedy = "load it in PyTorch, and save it again: torch.save(torch.load(PATH, weights_only=True), PATH)";
            return Err(refuse(format!("it is of the format that PyTorch wrote before version 1.6; {remedy}")));
        }
        let archive = Archive::open(path, file)?;
        if let Some(order) = archive.bytes("byteorder", 16)?
            && order != b"little"
        {
            let problem = format!("its numbers are {}-endian, and only little-endian ones are read", shown(&order));
            return Err(refuse(format!("{problem}; save it again on another machine, or as safetensors")));
        }
        let no_pickle =
            || refuse(format!("it is a zip archive, but not one of torch.save: it has no data.pkl; {SAVE_AGAIN}"));
        let bytes = archive.bytes("data.pkl", MOST)?.ok_or_else(no_pickle)?;
        let pickle = Pickle::read(&bytes).map_err(refuse)?;
        let StateDict { wrapper, tensors: views } = StateDict::find(&pickle).map_err(refuse)?;
        drop(pickle);
        let mut origin = Origin { format: Format::PyTorch, wrapper, ..Origin::default() };

        // Tensors may share a storage, as tied weights do, and a small file could name one very often.
        let elements = views.iter().try_fold(0usize, |sum, view| sum.checked_add(view.elements()?));
        if elements.is_none_or(|elements| elements as u64 > archive.size) {
            let problem = "its tensors have more elements than the file has bytes, because they share them";
            return Err(refuse(format!("{problem}; save clones of them")));
        }
        let mut storages: BTreeMap<_, Vec<View>> = BTreeMap::new();
        for view in views {
            *origin.types.entry(view.kind.to_string()).or_default() += 1;
            // A pickle may say different things of one record, and each view was checked against what was said of its
            // storage.
            storages.entry((view.key, view.kind, view.len)).or_default().push(view);
        }
        let mut tensors = BTreeMap::new();
        for (_, mut views) in storages {
            let Some(last) = views.pop() else { continue };
            let storage = storage(&archive, path, &last)?;
            let mut keep = |view: View, values| {
                let tensor = Tensor { dims: view.dims, values };
                match tensors.insert(view.name.to_owned(), tensor) {
                    Some(_) => Err(refuse(format!("it has two tensors {}", shown(view.name.as_bytes())))),
                    None => Ok(()),
                }
            };
            let gathered = |view: &View| {
                let mut values = Vec::new();
                reserve(&mut values, view.elements().unwrap_or(0)).map_err(no_memory(path))?;
                view.gathered(&storage, &mut values);
                Ok::<_, Error>(values)
            };
            for view in views {
                let values = gathered(&view)?;
                keep(view, values)?;
            }
            let values = if last.is_whole() { storage } else { gathered(&last)? };
            keep(last, values)?;
        }
        Ok(Tensors { tensors, note: None, sealed: false, origin })
    }
}

/// The values of the storage that `view` is a view of.
fn storage(archive: &Archive, path: &Path, view: &View) -> Result<Vec<f32>> {
    let refuse = |problem: String| Error::weights(path)(problem);
    let (name, what) = (format!("data/{}", view.key), shown(view.key.as_bytes()));
    let Some(Element { width, to_f32 }) = element(view.kind) else {
        return Err(refuse(format!("tensor {} is {}", view.name, view.kind)));
    };
    let Some(record) = archive.record(&name) else {
        return Err(refuse(format!("its record data/{what} is missing; get the file again")));
    };
    if view.len.checked_mul(width).is_none_or(|bytes| bytes as u64 != record.size) {
        let problem = format!("its record data/{what} has {} bytes, not {} elements of {width}", record.size, view.len);
        return Err(refuse(format!("{problem}; get the file again")));
    }
    let mut values = Vec::new();
    // The archive's records have no more bytes than its file.
    reserve(&mut values, view.len).map_err(no_memory(path))?;
    archive.read(&name, record, &mut |piece| {
        values.extend(piece.chunks_exact(width).map(to_f32));
        Ok(())
    })?;
    Ok(values)
}

fn no_memory<E>(path: &Path) -> impl Fn(E) -> Error + use<'_, E> {
    move |_| Error::io("read", path)(io::ErrorKind::OutOfMemory.into())
}
