//! The settings of the device, from environment variables.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;

/// The settings of the process. `cuInit` reads them once.
#[derive(Debug)]
pub struct Settings {
    pub compute_capability: (u32, u32),
    pub checks: bool,
    pub ordered_sums: bool,
    pub memory: usize,
    pub counts: Option<(PathBuf, File)>,
    pub devices: usize,
    /// Of each device; `None`: as many as a GPU of its compute capability has.
    pub multiprocessors: Option<usize>,
}

/// The most devices that a process may have.
pub const MOST_DEVICES: usize = 8;

/// Parses `8.0`, `80`, `120`, `sm_90`, `compute_90a`. The last digit is the minor number.
fn compute_capability(text: &str) -> Option<(u32, u32)> {
    let text = text.trim().trim_start_matches("sm_").trim_start_matches("compute_").trim_end_matches(['a', 'f']);
    let digits: String = text.chars().filter(|c| *c != '.').collect();
    let number: u32 = digits.parse().ok()?;
    let dot = text.find('.').is_none_or(|at| at + 2 == text.len());
    (dot && (70..1000).contains(&number)).then_some((number / 10, number % 10))
}

/// Parses `1073741824`, `512M`, `8G`, `8GiB`.
fn bytes(text: &str) -> Option<usize> {
    let text = text.trim().trim_end_matches('B').trim_end_matches('i');
    let (number, shift) = match text.chars().last()? {
        'K' | 'k' => (&text[..text.len() - 1], 10),
        'M' | 'm' => (&text[..text.len() - 1], 20),
        'G' | 'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: usize = number.trim().parse().ok()?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
}

/// Parses `12.4` or `12040`; returns 1000 · major + 10 · minor, as `cuDriverGetVersion` does.
fn version(text: &str) -> Option<i32> {
    let text = text.trim();
    match text.split_once('.') {
        Some((major, minor)) => Some(major.parse::<u16>().ok()? as i32 * 1000 + minor.parse::<u8>().ok()? as i32 * 10),
        None => text.parse().ok().filter(|number| (1000..100_000).contains(number)),
    }
}

/// Parses a number of multiprocessors.
fn multiprocessors(text: &str) -> Option<Option<usize>> {
    text.trim().parse().ok().filter(|count| (1..=1024).contains(count)).map(Some)
}

fn devices(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|count| (1..=MOST_DEVICES).contains(count))
}

fn read<T>(name: &str, default: T, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, String> {
    match std::env::var(name) {
        Ok(text) if !text.trim().is_empty() => {
            parse(&text).ok_or_else(|| format!("{name}={text} is not a valid value"))
        }
        _ => Ok(default),
    }
}

impl Settings {
    pub fn from_environment() -> Result<Settings, String> {
        driver_version()?;
        let counts = match std::env::var_os("VIRTUAL_GPU_COUNTS").filter(|path| !path.is_empty()) {
            None => None,
            Some(path) => {
                let path = PathBuf::from(path);
                let file = OpenOptions::new().create(true).append(true).open(&path);
                Some((path.clone(), file.map_err(|e| format!("VIRTUAL_GPU_COUNTS={}: {e}", path.display()))?))
            }
        };
        Ok(Settings {
            compute_capability: read("VIRTUAL_GPU_SM", (8, 0), compute_capability)?,
            checks: read("VIRTUAL_GPU_CHECKS", true, |text| match text.trim() {
                "on" | "1" | "true" => Some(true),
                "off" | "0" | "false" => Some(false),
                _ => None,
            })?,
            ordered_sums: read("VIRTUAL_GPU_SUMS", false, |text| match text.trim() {
                "ordered" => Some(true),
                "card" => Some(false),
                _ => None,
            })?,
            memory: read("VIRTUAL_GPU_MEMORY", 8 << 30, bytes)?,
            counts,
            devices: read("VIRTUAL_GPU_DEVICES", 1, devices)?,
            multiprocessors: read("VIRTUAL_GPU_MULTIPROCESSORS", None, multiprocessors)?,
        })
    }
}

/// The CUDA version that the driver reports. Not among the settings, because programs may ask before `cuInit`.
pub fn driver_version() -> Result<i32, String> {
    read("VIRTUAL_GPU_DRIVER_VERSION", 13000, version)
}

/// The newest PTX ISA (major, minor) that a driver of this CUDA version accepts: PTX manual, table "PTX release
/// history".
pub fn newest_ptx(driver: i32) -> (u32, u32) {
    let minor = (driver % 1000 / 10) as u32;
    match driver / 1000 {
        ..=10 => (6, 3 + minor.min(2)),
        11 => (7, minor),
        // 12.5 and 12.6 share ISA 8.5.
        12 => (8, if minor <= 5 { minor } else { minor - 1 }),
        13 => (9, minor),
        _ => (99, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_accept_their_documented_spellings_and_no_others() {
        for text in ["8.0", "80", "sm_80", "compute_80"] {
            assert_eq!(compute_capability(text), Some((8, 0)), "{text}");
        }
        assert_eq!(compute_capability("sm_90a"), Some((9, 0)));
        assert_eq!(compute_capability("12.1"), Some((12, 1)));
        for text in ["", "x", "8", "8.00", "800.1", "-80"] {
            assert_eq!(compute_capability(text), None, "{text}");
        }
        assert_eq!(bytes("64"), Some(64));
        assert_eq!(bytes("2K"), Some(2048));
        assert_eq!(bytes("3 GiB"), Some(3 << 30));
        assert_eq!(bytes("0"), None);
        assert_eq!(bytes("99999999999999G"), None);
        assert_eq!(version("12.4"), Some(12040));
        assert_eq!(version("12040"), Some(12040));
        assert_eq!(version("four"), None);
        assert_eq!([" 1", "0", "1025", "all"].map(multiprocessors), [Some(Some(1)), None, None, None]);
        assert_eq!(["1", " 8 ", "0", "9", "-1", "two"].map(devices), [Some(1), Some(8), None, None, None, None]);
    }

    #[test]
    fn newest_ptx_isa_follows_the_manuals_release_history() {
        for (driver, isa) in
            [(11080, (7, 8)), (12000, (8, 0)), (12050, (8, 5)), (12060, (8, 5)), (12080, (8, 7)), (13000, (9, 0))]
        {
            assert_eq!(newest_ptx(driver), isa, "{driver}");
        }
    }
}
