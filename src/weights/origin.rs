//! What a weights file was, for a person to check.

use std::collections::BTreeMap;
use std::fmt;

/// The format of a weights file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// No file: the tensors were made in memory.
    #[default]
    Memory,
    /// A safetensors file.
    Safetensors,
    /// The zip archive that `torch.save` writes.
    PyTorch,
}

/// Where tensors come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Origin {
    pub format: Format,
    /// The entry of the file's dictionary that held the state dict, if it was not the dictionary itself: `state_dict`,
    /// `model`, `model_state_dict` or `net`.
    pub wrapper: Option<&'static str>,
    /// The types of the tensors in the file, by safetensors' names (`F32`, `BF16`), each with the number of its
    /// tensors. Empty for tensors that were made in memory.
    pub types: BTreeMap<String, usize>,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::Memory => "memory",
            Format::Safetensors => "safetensors",
            Format::PyTorch => "PyTorch's zip",
        })
    }
}
