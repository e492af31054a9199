//! The one place that chooses a backend.

use mlpconv::train::Preset;
use mlpconv::{Cpu, Error, Result};

/// The device to compute on, and why it is this one.
pub struct Choice {
    pub backend: Cpu<f32>,
    /// As `--device` and a run's settings name it.
    pub name: &'static str,
    pub why: &'static str,
    /// What trains in reasonable time there, and how to get the other.
    pub preset: Preset,
    pub why_preset: &'static str,
}

/// Resolves `--device` and `--threads`.
///
/// # Errors
/// For a name that is no device's, and for a GPU, which this build cannot drive.
pub fn choose(device: &str, threads: Option<usize>) -> Result<Choice> {
    let why = match device {
        "auto" => "the best device of this build, which has no CUDA backend",
        "cpu" => "as --device says",
        _ if device == "cuda" || device.starts_with("cuda:") => {
            let problem = "this build has no CUDA backend; leave --device out, or say --device cpu".into();
            return Err(Error::Device { device: device.into(), problem });
        }
        _ => {
            let problem = "there is no such device; --device takes auto, cpu, cuda or cuda:N".into();
            return Err(Error::Device { device: device.into(), problem });
        }
    };
    let backend = match threads {
        Some(threads) => Cpu::with_threads(threads)?,
        None => Cpu::new(),
    };
    let why_preset = "the default on a CPU; --preset d2l is the book's network";
    Ok(Choice { backend, name: "cpu", why, preset: Preset::Small, why_preset })
}
