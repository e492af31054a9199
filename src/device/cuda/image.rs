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

/// One kernel file as `build.rs` compiled it, at every precision.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    /// The file's name without its extension.
    pub module: &'static str,
    /// What the PTX is for.
    pub architecture: Architecture,
    /// The precisions that it has kernels for.
    pub precisions: &'static [Precision],
    /// What there is machine code for: nothing in a debug build.
    pub machines: &'static [Architecture],
    /// An XZ file of machine code: for each of `machines` that of each precision, in the order of [`Precision::ALL`]. Before each is
    /// its length (16 bytes, the lowest first), and each begins at a multiple of 16 bytes. Empty where `machines` is.
    code: &'static [u8],
    /// An XZ file of the PTX of each precision, in the same form.
    ptx: &'static [u8],
}

/// The units of all modules and architectures.
pub fn units() -> impl Iterator<Item = Unit> {
    UNITS.iter().copied()
}

impl Unit {
    /// The PTX of a precision, which this unpacks.
    ///
    /// # Errors
    /// [`CudaError::Module`] if it cannot be unpacked: the program's file is damaged.
    pub fn ptx(&self, precision: Precision) -> Result<String> {
        let text = unpack(self.ptx, precision as usize);
        text.and_then(|text| String::from_utf8(text).map_err(io::Error::other)).map_err(|_| self.damaged())
    }

    /// The machine code of a precision, an ELF file which this unpacks, for the architecture of `machines` that a GPU of compute
    /// capability `capability` runs best; `None` where it runs none of them.
    ///
    /// # Errors
    /// [`CudaError::Module`] if it cannot be unpacked: the program's file is damaged.
    pub fn code(&self, precision: Precision, capability: (u32, u32)) -> Result<Option<(Architecture, Vec<u8>)>> {
        let fitting = self.machines.iter().enumerate().filter(|(_, machine)| machine.code_runs_on(capability));
        let Some((index, &machine)) = fitting.max_by_key(|(_, machine)| **machine) else { return Ok(None) };
        let code = unpack(self.code, index * Precision::ALL.len() + precision as usize);
        code.map(|code| Some((machine, code))).map_err(|_| self.damaged())
    }

    pub(super) fn damaged(&self) -> Error {
        let log = "its code in this build is damaged; build again".into();
        CudaError::Module { module: self.module, log }.into()
    }

    /// A unit with nothing in it.
    #[cfg(test)]
    pub(super) fn empty(module: &'static str, architecture: Architecture) -> Self {
        Unit { module, architecture, precisions: &Precision::ALL, machines: &[], code: &[], ptx: &[] }
    }
}

/// Unpacks an image. All behind it is unpacked, too, as the file's checksum comes last: a tenth of a second for the largest.
fn unpack(packed: &[u8], index: usize) -> io::Result<Vec<u8>> {
    let mut reader = XzReader::new(packed, false);
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use lzma_rust2::{XzOptions, XzWriter};

    use super::*;

    #[test]
    fn every_image_of_this_build_can_be_unpacked() {
        for unit in UNITS {
            for precision in Precision::ALL {
                let ptx = unit.ptx(precision).unwrap();
                assert!(ptx.contains(".version ") && ptx.contains(".target sm_"), "{}", unit.module);
                for machine in unit.machines {
                    let code = unit.code(precision, machine.capability).unwrap();
                    let (_, code) = code.expect("code for its own architecture");
                    assert!(code.starts_with(b"\x7fELF"), "{} for {machine}", unit.module);
                }
            }
        }
    }

    /// `build.rs` and this file agree on the order of precisions.
    #[test]
    fn each_precision_has_its_own_instructions() {
        let portable = |unit: &&Unit| unit.module == "conv2d" && unit.architecture == Architecture::PORTABLE;
        for unit in UNITS.iter().filter(portable) {
            for precision in Precision::ALL {
                let ptx = unit.ptx(precision).unwrap();
                let multiplies =
                    |types: &str| ptx.lines().any(|line| line.contains("mma.sync") && line.contains(types));
                let wanted = [precision == Precision::Tf32, precision == Precision::Bf16];
                assert_eq!([".tf32.tf32.", ".bf16.bf16."].map(multiplies), wanted, "{precision}");
            }
        }
    }

    #[test]
    fn a_unit_has_the_precisions_whose_kernels_it_has() {
        for unit in UNITS {
            let expected: &[_] = match unit.module {
                "mlpconv" => &[Precision::Bf16],
                "conv2d" if unit.architecture.specific => &[Precision::Bf16],
                _ => &Precision::ALL,
            };
            assert_eq!(unit.precisions, expected, "{} for {}", unit.module, unit.architecture);
        }
    }

    fn architectures(names: &[&str]) -> &'static [Architecture] {
        names.iter().map(|name| Architecture::from_name(name).expect("a name")).collect::<Vec<_>>().leak()
    }

    fn packed(images: &[&str]) -> Vec<u8> {
        let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(6)).unwrap();
        for image in images {
            writer.write_all(&(image.len() as u128).to_le_bytes()).unwrap();
            writer.write_all(image.as_bytes()).unwrap();
            writer.write_all(&[0; 16][..image.len().next_multiple_of(16) - image.len()]).unwrap();
        }
        writer.finish().unwrap()
    }

    /// The files of a unit as `build.rs` packs them: machine code for 80 and for 90, and PTX.
    fn files() -> [Vec<u8>; 2] {
        let code = ["80 fp32", "80 tf32", "80 bf16", "90 fp32", "90 tf32, longer than others", "90 bf16"];
        [packed(&code), packed(&["PTX fp32", "PTX tf32", "PTX bf16"])]
    }

    fn unit([code, ptx]: [Vec<u8>; 2]) -> Unit {
        let machines = architectures(&["80", "90"]);
        Unit { machines, code: code.leak(), ptx: ptx.leak(), ..Unit::empty("conv2d", Architecture::PORTABLE) }
    }

    #[test]
    fn images_are_told_apart() {
        let unit = unit(files());
        let code = |precision, capability| {
            let code = unit.code(precision, capability).unwrap();
            code.map(|(machine, code)| (machine.to_string(), String::from_utf8(code).unwrap()))
        };
        assert_eq!(code(Precision::Fp32, (8, 9)), Some(("80".into(), "80 fp32".into())));
        assert_eq!(code(Precision::Tf32, (9, 0)), Some(("90".into(), "90 tf32, longer than others".into())));
        assert_eq!(code(Precision::Bf16, (9, 0)), Some(("90".into(), "90 bf16".into())));
        assert_eq!(code(Precision::Bf16, (12, 0)), None);
        for precision in Precision::ALL {
            assert_eq!(unit.ptx(precision).unwrap(), format!("PTX {precision}"));
        }
    }

    #[test]
    fn damage_anywhere_is_told() {
        let told = |error: Option<Error>| error.is_some_and(|error| error.to_string().contains("build again"));
        for damaged in [0, 1] {
            let all_tell = |file: Vec<u8>| {
                let mut files = files();
                files[damaged] = file;
                let unit = unit(files);
                Precision::ALL.into_iter().all(|precision| match damaged {
                    0 => told(unit.code(precision, (8, 0)).err()) && told(unit.code(precision, (9, 0)).err()),
                    _ => told(unit.ptx(precision).err()),
                })
            };
            let whole = &files()[damaged];
            for at in 0..whole.len() {
                let mut file = whole.clone();
                file[at] ^= 16;
                assert!(all_tell(file), "byte {at}");
            }
            assert!((0..whole.len()).all(|len| all_tell(whole[..len].to_vec())));
        }
    }

    /// A driver of CUDA 12.0 loads it.
    #[test]
    fn portable_ptx_asks_for_isa_8_0_at_most() {
        let portable = UNITS.iter().filter(|unit| unit.architecture == Architecture::PORTABLE);
        for (unit, precision) in portable.flat_map(|unit| Precision::ALL.map(|precision| (unit, precision))) {
            let ptx = unit.ptx(precision).unwrap();
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
