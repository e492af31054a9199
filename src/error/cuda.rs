//! Errors of GPUs.

use cudarc::driver::result::DriverError;

/// The reason why a CUDA device cannot be used, or a failure of its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    #[error("no CUDA driver was found (libcuda.so); install NVIDIA's driver, or use the CPU backend")]
    NoDriver,

    /// libcuda is there, but it cannot be loaded, or it is incomplete.
    #[error(
        "the CUDA driver cannot be used: {problem}; update or install NVIDIA's driver again, or use the CPU backend"
    )]
    DriverDamaged { problem: String },

    /// `cuInit` failed.
    #[error("the CUDA driver does not start: {problem}; {remedy}, or use the CPU backend")]
    DriverNotStarted { problem: String, remedy: &'static str },

    #[error("the CUDA driver finds no GPU (is one hidden by CUDA_VISIBLE_DEVICES?); use the CPU backend")]
    NoDevice,

    #[error("there is no device {asked}: the driver has {count}, numbered from 0")]
    NoSuchDevice { asked: usize, count: usize },

    #[error("this build has no kernels: {why}")]
    KernelsNotBuilt { why: &'static str },

    #[error(
        "{name} has compute capability {}.{}, and the kernels need 8.0 (Ampere) or newer; use the CPU backend",
        capability.0, capability.1
    )]
    Unsupported { name: String, capability: (u32, u32) },

    #[error(
        "the driver, of CUDA {}.{}, is older than the kernels' PTX (ISA {isa}); update the driver (525 or newer for ISA 8.0), \
         build with nvcc 11.7 or 11.8 ($NVCC), or use the CPU backend",
        driver.0, driver.1
    )]
    DriverTooOld { driver: (u32, u32), isa: String },

    #[error("the driver refuses module {module}: {log}")]
    Module { module: &'static str, log: String },

    #[error("the kernels have no function {kernel} in module {module}; build again from a clean tree")]
    NoKernel { module: &'static str, kernel: String },

    #[error(
        "a step holds on to a buffer that it has made, whose memory recordings of steps use: make what outlives a step by alloc_lasting or \
         upload"
    )]
    KeptBeyondStep,

    #[error(
        "a step is recorded, or run for the first time, within another one or beside a fork of the same thread; do one after the other"
    )]
    WithinWork,

    #[error(
        "work that is being recorded reads a gradient from before, which nobody has read yet: download it before the recording"
    )]
    UnsettledBeforeRecording,

    #[error(
        "GPUs of several ranks are joined by NCCL, which was not found ({problem}); install it (Debian: libnccl2; PyPI: nvidia-nccl-cu13), \
         name its file in $MLPCONV_NCCL, or train with one rank"
    )]
    NoNccl { problem: String },

    #[error("NCCL 2.18 or newer is needed: {problem}; install a newer one, or name its file in $MLPCONV_NCCL")]
    NcclTooOld { problem: String },

    /// A call of NCCL failed, or work that it has begun.
    #[error("{call} failed: {problem}")]
    Nccl { call: &'static str, problem: String },

    /// A call of the driver failed. A GPU is asynchronous, so `call` may be a later call than the one whose work
    /// failed.
    #[error("{call} failed: {problem}")]
    Driver { call: &'static str, problem: String },
}

impl CudaError {
    /// For `map_err`: names the call that failed.
    pub(crate) fn driver(call: &'static str) -> impl FnOnce(DriverError) -> crate::Error {
        move |error| CudaError::Driver { call, problem: describe(error) }.into()
    }
}

/// The driver's name and description of an error, as in
/// `CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered`.
pub(crate) fn describe(error: DriverError) -> String {
    let text = |found: Result<&std::ffi::CStr, _>| found.map(|text| text.to_string_lossy().into_owned()).ok();
    match (text(error.error_name()), text(error.error_string())) {
        (Some(name), Some(meaning)) => format!("{name}: {meaning}"),
        // Not by cudarc's names: a newer driver may answer a number that its enum does not have.
        _ => format!("error {}", error.0 as u32),
    }
}
