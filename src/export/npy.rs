//! Parameters as NumPy's files: version 1.0 of the format, `<f4`, in C order.
//!
//! Source: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::nn::Module;
use crate::weights::{Tensors, sync_folder};
use crate::{Backend, Error, Result};

/// The format's first bytes, and its version.
const MAGIC: &[u8; 8] = b"\x93NUMPY\x01\x00";
/// The elements begin at a multiple of so many bytes.
const ALIGNMENT: usize = 64;

/// Writes each parameter to a file of its own in `folder`: `0.2.weight.npy` for `0.2.weight`, in PyTorch's layout
/// (weights OIHW), f32. The result is the files, by name.
///
/// The folder is made if it is not there. It appears with all files in it: they are written to a folder beside it,
/// which is then renamed.
///
/// # Errors
/// [`Error::Config`] for a folder that has something in it, two parameters of one name, or a name that no file can
/// have; [`Error::Io`] if a file cannot be written; as the device ([`Device`](crate::device::Device)). `folder` is then
/// as it was.
pub fn npy<B: Backend>(backend: &B, net: &impl Module<B>, folder: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let folder = folder.as_ref();
    require_empty(folder)?;
    let tensors = Tensors::of(backend, net)?;
    if let Some((name, ..)) = tensors.iter().find(|(name, ..)| name.contains(['/', '\\', '\0', ':'])) {
        let problem = format!("no file can be named {name:?}; name the parameter differently, or save safetensors");
        return Err(Error::config("npy", problem));
    }
    let named = |folder: &Path, name: &str| folder.join(format!("{name}.npy"));

    // A link leads to the folder that is to be replaced.
    let target = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let mut part = target.clone().into_os_string();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    if let Some(parent) = target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    let write = || -> Result<()> {
        for (name, dims, values) in tensors.iter() {
            let path = named(&part, name);
            // Where case does not count, two parameters may want the same file.
            let file = fs::File::create_new(&path).and_then(|mut file| {
                file.write_all(&header(dims))?;
                file.write_all(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())?;
                file.sync_all()
            });
            file.map_err(Error::io("write", path))?;
        }
        // Not every system renames to a folder that is there.
        let was_there = match fs::remove_dir(&target) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("replace", folder)(e)),
            removed => removed.is_ok(),
        };
        let renamed = fs::rename(&part, &target).inspect_err(|_| {
            if was_there {
                drop(fs::create_dir(&target));
            }
        });
        renamed.and_then(|()| sync_folder(&target)).map_err(Error::io("write", folder))
    };
    fs::create_dir(&part).map_err(Error::io("create", &part))?;
    // Removes what was written if possible. The first error is the one to report.
    write().inspect_err(|_| drop(fs::remove_dir_all(&part)))?;
    Ok(tensors.iter().map(|(name, ..)| named(folder, name)).collect())
}

/// Checks that nothing is in the folder, if it is there.
fn require_empty(folder: &Path) -> Result<()> {
    let read = |e| Error::io("read", folder)(e);
    let mut entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(read)?,
    };
    match entries.next().transpose().map_err(read)? {
        None => Ok(()),
        Some(entry) => {
            let holds = entry.file_name();
            let problem = format!("is not empty (it has {}); name a new or empty one", holds.display());
            Err(Error::config(format!("folder {}", folder.display()), problem))
        }
    }
}

/// All that stands before the elements of an array of shape `dims`.
fn header(dims: &[usize]) -> Vec<u8> {
    let extents: Vec<String> = dims.iter().map(usize::to_string).collect();
    // A tuple of one has a comma.
    let comma = if dims.len() == 1 { "," } else { "" };
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}{comma}), }}", extents.join(", "));
    let before = MAGIC.len() + size_of::<u16>();
    let padded = (before + text.len() + 1).next_multiple_of(ALIGNMENT) - before;
    text.push_str(&" ".repeat(padded - text.len() - 1));
    text.push('\n');
    // Four extents of 20 digits are far below the limit of 65,535 bytes.
    let length = text.len() as u16;
    [&MAGIC[..], &length.to_le_bytes(), text.as_bytes()].concat()
}
