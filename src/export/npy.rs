//! Parameters as NumPy's files: version 1.0 of the format, `<f4`, in C order.
//!
//! Source: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::together::{Output, together};
use crate::nn::Module;
use crate::weights::Tensors;
use crate::{Backend, Error, Result};

/// The format's first bytes, and its version.
const MAGIC: &[u8; 8] = b"\x93NUMPY\x01\x00";
/// The elements begin at a multiple of so many bytes.
const ALIGNMENT: usize = 64;

/// Writes each parameter to a file of its own in `folder`: `0.2.weight.npy` for `0.2.weight`, in PyTorch's layout
/// (weights OIHW), f32. The result is the files, by name.
///
/// The folder is made if it is not there, and so are those that it lies in. It appears with all files in it, as
/// [`together`] makes them.
///
/// # Errors
/// [`Error::Output`] for a folder that has something in it; [`Error::Config`] for two parameters of one name, or a name
/// that no file can have; [`Error::Io`] if a file cannot be written; as the device
/// ([`Device`](crate::device::Device)). `folder` is then as it was.
pub fn npy<B: Backend>(backend: &B, net: &(impl Module<B> + ?Sized), folder: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let folder = folder.as_ref();
    let tensors = Tensors::of(backend, net)?;
    if let Some((name, ..)) = tensors.iter().find(|(name, ..)| name.contains(['/', '\\', '\0', ':'])) {
        let problem = format!("no file can be named {name:?}; name the parameter differently, or save safetensors");
        return Err(Error::config("npy", problem));
    }
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    together(vec![Output::folder(folder, |part| write(&tensors, part))])?;
    Ok(tensors.iter().map(|(name, ..)| file(folder, name)).collect())
}

fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.npy"))
}

/// Makes the folder, with a file for each tensor.
fn write(tensors: &Tensors, folder: &Path) -> Result<()> {
    fs::create_dir(folder).map_err(Error::io("create", folder))?;
    for (name, dims, values) in tensors.iter() {
        let path = file(folder, name);
        // Where case does not count, two parameters may want the same file.
        let written = fs::File::create_new(&path).and_then(|mut file| {
            file.write_all(&header(dims))?;
            file.write_all(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())?;
            file.sync_all()
        });
        written.map_err(Error::io("write", path))?;
    }
    Ok(())
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
