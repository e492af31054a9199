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
    /// What the PTX is for.
    pub architecture: Architecture,
    /// What there is machine code for: nothing in a debug build.
    pub machines: &'static [Architecture],
    /// An XZ file of the images: machine code for each of `machines`, then the PTX. Before each is its length (4 bytes, the lowest
    /// first).
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

    /// The machine code that a GPU of compute capability `capability` runs best, and its architecture: an ELF file, which this
    /// unpacks. `None` where it runs none of this unit's.
    ///
    /// # Errors
    /// [`CudaError::Module`] if it cannot be unpacked: the program's file is damaged.
    pub fn code(&self, capability: (u32, u32)) -> Result<Option<(Architecture, Vec<u8>)>> {
        let fitting = self.machines.iter().enumerate().filter(|(_, machine)| machine.code_runs_on(capability));
        let Some((index, &machine)) = fitting.max_by_key(|(_, machine)| **machine) else { return Ok(None) };
        self.image(index).map(|code| Some((machine, code))).map_err(|_| self.damaged())
    }

    fn image(&self, index: usize) -> io::Result<Vec<u8>> {
        let mut reader = XzReader::new(self.packed, false);
        let mut image = Vec::new();
        for _ in 0..=index {
            let len = usize::try_from(reader.read_u128::<LittleEndian>()?).map_err(io::Error::other)?;
            let padded = len.checked_next_multiple_of(16).ok_or(io::ErrorKind::InvalidData)?;
            image.clear();
            if (&mut reader).take(padded as u64).read_to_end(&mut image)? != padded {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            image.truncate(len);
        }
        // The checksum is behind the last image.
        io::copy(&mut reader, &mut io::sink())?;
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
    use std::io::Write as _;

    use lzma_rust2::{XzOptions, XzWriter};

    use super::*;

    #[test]
    fn every_image_of_this_build_can_be_unpacked() {
        for unit in UNITS {
            let ptx = unit.ptx().unwrap();
            assert!(ptx.contains(".version ") && ptx.contains(".target sm_"), "{}", unit.module);
            for machine in unit.machines {
                let (_, code) = unit.code(machine.capability).unwrap().expect("code for its own architecture");
                assert!(code.starts_with(b"\x7fELF"), "{} for {machine}", unit.module);
            }
        }
    }

    fn architectures(names: &[&str]) -> &'static [Architecture] {
        names.iter().map(|name| Architecture::from_name(name).expect("a name")).collect::<Vec<_>>().leak()
    }

    /// A unit as `build.rs` packs it, of the images 80, 90 and PTX.
    fn packed() -> (Unit, Vec<u8>) {
        let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(6)).unwrap();
        for image in ["code for 80", "code for 90, which is longer", "PTX"] {
            writer.write_all(&(image.len() as u128).to_le_bytes()).unwrap();
            writer.write_all(image.as_bytes()).unwrap();
            writer.write_all(&[0; 16][..image.len().next_multiple_of(16) - image.len()]).unwrap();
        }
        let file = writer.finish().unwrap();
        let machines = architectures(&["80", "90"]);
        (Unit { machines, packed: file.clone().leak(), ..Unit::empty("conv2d", Architecture::PORTABLE) }, file)
    }

    #[test]
    fn images_are_told_apart() {
        let (unit, _) = packed();
        let code = |capability| unit.code(capability).unwrap().map(|(machine, code)| (machine.to_string(), code));
        assert_eq!(code((8, 9)), Some(("80".into(), b"code for 80".to_vec())));
        assert_eq!(code((9, 0)), Some(("90".into(), b"code for 90, which is longer".to_vec())));
        assert_eq!(code((12, 0)), None);
        assert_eq!(unit.ptx().unwrap(), "PTX");
    }

    #[test]
    fn damage_anywhere_is_told() {
        let (unit, file) = packed();
        let damaged = |file: Vec<u8>| {
            let unit = Unit { packed: file.leak(), ..unit };
            let errors = [unit.ptx().err(), unit.code((8, 0)).err(), unit.code((9, 0)).err()];
            errors.into_iter().all(|error| error.is_some_and(|error| error.to_string().contains("build again")))
        };
        for at in 0..file.len() {
            let mut file = file.clone();
            file[at] ^= 16;
            assert!(damaged(file), "byte {at}");
        }
        assert!((0..file.len()).all(|len| damaged(file[..len].to_vec())));
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
        let machines = architectures(&["80", "86", "89", "90", "90a"]);
        for (capability, wanted) in [
            ((7, 5), None),
            ((8, 0), Some("80")),
            ((8, 7), None),
            ((8, 9), Some("89")),
            ((9, 0), Some("90a")),
            ((10, 0), None),
        ] {
            let fitting = machines.iter().filter(|machine| machine.code_runs_on(capability)).max();
            assert_eq!(fitting.map(Architecture::to_string).as_deref(), wanted, "{capability:?}");
        }
    }
}
