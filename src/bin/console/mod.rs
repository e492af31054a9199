//! Shared parts of the programs: the choice of a device, the data set with a progress bar, and output for a person.

// Each program uses only a part of this module.
#![allow(dead_code)]

mod allocator;
pub mod data;
pub mod device;
pub mod doctor;
pub mod limits;
pub mod memory;
pub mod output;
pub mod plan;
pub mod report;
pub mod saving;
pub mod signals;
pub mod time;

use std::process::ExitCode;

use mlpconv::Backend;
#[cfg(feature = "cuda")]
use mlpconv::device::cuda::CudaError;
use mlpconv::nn::{Nin, Summary};
use mlpconv::train::Preset;
use mlpconv::{Error, Result, Shape};

pub use output::{note, say};

/// Prints an error, and the options that may help. The exit code is 2 if the device cannot be used, as it is for an
/// option that does not exist, and else 1.
pub fn fail(error: &Error) -> ExitCode {
    note(format_args!("error: {error}"));
    if let Some(options) = remedy(error) {
        note(format_args!("options: {options}"));
    }
    if is_of_a_device(error) { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// Whether the device that was asked for cannot be used, or has failed. A CPU lacks no more than memory or threads.
fn is_of_a_device(error: &Error) -> bool {
    match error {
        Error::Device { device, .. } => device != "cpu",
        #[cfg(feature = "cuda")]
        Error::Cuda(_) => true,
        _ => false,
    }
}

/// The options that may help against an error. The library's message does not name options.
fn remedy(error: &Error) -> Option<&'static str> {
    match error {
        Error::RunNotEmpty { .. } => Some("another --out; --resume goes on with a run"),
        Error::RunLocked { .. } => Some("another --out begins another run"),
        Error::Diverged { .. } => Some("a lower --lr or --momentum; --schedule cosine:1 warms up"),
        Error::DataFileMissing { .. } | Error::DataNotFound { .. } => {
            Some("--data-dir names a folder; --data names another data set")
        }
        #[cfg(feature = "cuda")]
        Error::Cuda(error) => match error {
            CudaError::NoSuchDevice { .. } => Some("--device cuda:0, or --device cpu"),
            CudaError::NoDriver
            | CudaError::DriverDamaged { .. }
            | CudaError::DriverNotStarted { .. }
            | CudaError::NoDevice
            | CudaError::KernelsNotBuilt { .. }
            | CudaError::Unsupported { .. }
            | CudaError::DriverTooOld { .. } => Some("--device cpu"),
            _ => None,
        },
        _ => None,
    }
}

/// The cost of a preset's network on a batch of square images of so many channels.
///
/// # Errors
/// [`Error::Config`] if the images are too small for the network. It names `--resize` and its least value.
pub fn summarize<B: Backend>(
    preset: Preset,
    net: &Nin<B>,
    batch: usize,
    channels: usize,
    size: usize,
) -> Result<Summary> {
    let at = |size| Summary::new(net, Shape::image(batch, channels, size, size));
    at(size).map_err(|error| match (size..=1024).find(|&larger| at(larger).is_ok()) {
        Some(least) => Error::Config {
            what: "resize".into(),
            problem: format!("{size} pixels are too few for preset {preset}, which needs {least} at least ({error})"),
        },
        None => error,
    })
}

/// A number with separators: `1992166` as `1,992,166`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count with one decimal and a metric prefix: `762297352` as `762.3 M`.
pub fn metric(number: usize) -> String {
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => format!("{:.1} k", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", number as f64 / 1e6),
        _ => format!("{:.1} G", number as f64 / 1e9),
    }
}

/// Bytes in binary units: `1536` as `1.5 KiB`.
pub fn bytes(number: usize) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut value = number as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}
