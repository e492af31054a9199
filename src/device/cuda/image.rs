//! The kernels in this build: for each kernel file, precision and architecture the PTX, and in a release build machine code.

use std::io::{self, Read};

use byteorder::{LittleEndian, ReadBytesExt as _};
use lzma_rust2::XzReader;

use super::{Architecture, CudaError, Precision};
use crate::{Error, Result};

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// Why the kernels are not in this build; `None` if they are.
pub fn missing() -> Option<&'static str> {
    MISSING
}

/// One kernel file as `build.rs` compiled it.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    /// The file's name without its extension.
    pub module: &'static str,
    pub precision: Precision,
    /// That of the PTX.
    pub architecture: Architecture,
    /// What there is machine code for: none in a debug build.
    pub machines: &'static [Architecture],
    /// The machine code of each and then the PTX, each after its length in four bytes, as one XZ file.
    packed: &'static [u8],
}

/// The units of a precision, of all modules and architectures.
pub fn units(precision: Precision) -> impl Iterator<Item = Unit> {
    UNITS.iter().filter(move |unit| unit.precision == precision).copied()
}

impl Unit {
    /// The PTX, which this unpacks.
    ///
    /// # Errors
    /// [`CudaError::Module`] if it cannot be unpacked: the program's file is damaged.
    pub fn ptx(&self) -> Result<String> {
        let text = self.image(self.machines.len());
        text.and_then(|text| String::from_utf8(text).map_err(io::Error::other)).map_err(|_| self.damaged())
    }

    /// The architecture of the machine code that a GPU of compute capability `capability` runs best.
    pub fn machine(&self, capability: (u32, u32)) -> Option<Architecture> {
        self.machines.iter().filter(|machine| machine.code_runs_on(capability)).max().copied()
    }

    /// The machine code of one of its `machines`, an ELF file, which this unpacks.
    ///
    /// # Errors
    /// [`CudaError::Module`] if there is none, or it cannot be unpacked: the program's file is damaged.
    pub fn code(&self, machine: Architecture) -> Result<Vec<u8>> {
        let index = self.machines.iter().position(|there| *there == machine);
        let code = index.ok_or_else(|| io::ErrorKind::NotFound.into()).and_then(|index| self.image(index));
        code.map_err(|_| self.damaged())
    }

    fn image(&self, index: usize) -> io::Result<Vec<u8>> {
        let mut reader = XzReader::new(self.packed, false);
        let mut image = Vec::new();
        for _ in 0..=index {
            let len = u64::from(reader.read_u32::<LittleEndian>()?);
            image.clear();
            if (&mut reader).take(len).read_to_end(&mut image)? as u64 != len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(image)
    }

    pub(super) fn damaged(&self) -> Error {
        let log = "its code in this build is damaged; build again".into();
        CudaError::Module { module: self.module, log }.into()
    }

    /// A unit with nothing in it.
    #[cfg(test)]
    pub(super) fn empty(module: &'static str, architecture: Architecture) -> Self {
        Unit { module, precision: Precision::Bf16, architecture, machines: &[], packed: &[] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_is_whole_and_damage_is_told() {
        for unit in UNITS {
            let ptx = unit.ptx().unwrap();
            assert!(ptx.contains(".version ") && ptx.trim_end().ends_with('}'), "{}", unit.module);
            for &machine in unit.machines {
                assert!(unit.code(machine).unwrap().starts_with(b"\x7fELF"), "{} for {machine}", unit.module);
            }
            let cut = Unit { packed: &unit.packed[..unit.packed.len() / 2], ..*unit };
            assert!(cut.ptx().unwrap_err().to_string().contains("build again"));
        }
    }

    /// A driver of CUDA 12.0 loads it.
    #[test]
    fn portable_ptx_asks_for_isa_8_0_at_most() {
        for unit in UNITS.iter().filter(|unit| unit.architecture == Architecture::PORTABLE) {
            let ptx = unit.ptx().unwrap();
            let version = ptx.lines().find_map(|line| line.strip_prefix(".version ")).expect("a version");
            let (major, minor) = version.trim().split_once('.').expect("two numbers");
            let version: (u32, u32) = (major.parse().unwrap(), minor.parse().unwrap());
            assert!(version <= (8, 0), "{}: {version:?}", unit.module);
        }
    }

    #[test]
    fn a_gpu_gets_the_newest_machine_code_of_its_major_capability() {
        let architecture = |name| Architecture::from_name(name).expect("a name");
        let machines: Vec<Architecture> = ["80", "86", "89", "90", "90a"].map(architecture).to_vec();
        let unit = Unit { machines: machines.leak(), ..Unit::empty("conv2d", Architecture::PORTABLE) };
        for (capability, wanted) in [
            ((7, 5), None),
            ((8, 0), Some("80")),
            ((8, 7), Some("86")),
            ((8, 9), Some("89")),
            ((9, 0), Some("90a")),
            ((10, 0), None),
        ] {
            assert_eq!(unit.machine(capability), wanted.map(architecture), "{capability:?}");
        }
        assert!(unit.code(architecture("100")).is_err());
    }
}
