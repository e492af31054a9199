//! Shared parts of the programs: the choice of a device, the data set with a progress bar, and output for a person.

// Each program uses only a part of this module.
#![allow(dead_code)]

mod allocator;
pub mod data;
pub mod device;
pub mod doctor;
pub mod limits;
pub mod memory;
pub mod plan;
pub mod report;
pub mod time;

use std::fmt::Display;
use std::io::{ErrorKind, Write as _, stdout};
use std::process::ExitCode;

use mlpconv::Backend;
#[cfg(feature = "cuda")]
use mlpconv::device::cuda::CudaError;
use mlpconv::nn::{Nin, Summary};
use mlpconv::train::Preset;
use mlpconv::{Error, Result, Shape};

/// Prints a line. If the reader has closed the pipe (`| head`), ends the program silently, as is usual.
pub fn say(line: impl Display) {
    if let Err(error) = writeln!(stdout(), "{line}") {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("error: cannot write to standard output: {error}");
        std::process::exit(1);
    }
}

/// Prints an error, and the options that may help, and returns failure.
pub fn fail(error: &Error) -> ExitCode {
    eprintln!("error: {error}");
    if let Some(options) = remedy(error) {
        eprintln!("options: {options}");
    }
    ExitCode::FAILURE
}

/// The options that may help against an error. The library's message does not name options.
fn remedy(error: &Error) -> Option<&'static str> {
    match error {
        Error::Diverged { .. } => Some("a lower --lr or --momentum; --schedule cosine:1 warms up"),
        Error::DataFileMissing { .. } | Error::DataNotFound { .. } => {
            Some("--data-dir names a folder; --data names another data set")
        }
        #[cfg(feature = "cuda")]
        Error::Cuda(error) => match error {
            CudaError::NoSuchDevice { .. } => Some("--device cuda:0, or --device cpu"),
            CudaError::NoDriver
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
