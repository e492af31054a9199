//! The driver and its devices. cudarc panics where there is no libcuda and where libcuda lacks a function, so both are
//! checked first.

use std::sync::Arc;

use cudarc::driver::CudaContext;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute_enum as Attribute, CUresult};

use libloading::Library;

use super::{Architecture, CudaError};
use crate::Result;
use crate::error::describe;

/// Every function of the driver that this crate calls, itself or through cudarc.
const FUNCTIONS: [&str; 46] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuDeviceGet",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDeviceTotalMem_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuModuleLoadDataEx",
    "cuModuleUnload",
    "cuModuleGetFunction",
    "cuFuncSetAttribute",
    "cuOccupancyMaxActiveBlocksPerMultiprocessor",
    "cuLaunchKernel",
    "cuMemAlloc_v2",
    "cuMemAllocManaged",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemsetD8Async",
    "cuMemsetD16Async",
    "cuMemsetD32Async",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventElapsedTime",
    "cuEventQuery",
    "cuEventRecord",
    "cuEventSynchronize",
];

/// A GPU as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaDevice {
    pub ordinal: usize,
    pub name: String,
    /// Compute capability, such as (9, 0).
    pub capability: (u32, u32),
    pub multiprocessors: usize,
    /// Bytes of shared memory that a block may ask for.
    pub shared_memory: usize,
    /// Bytes of device memory.
    pub memory: usize,
    /// The highest clock of the multiprocessors, in Hz; `None` if the driver does not report it.
    pub clock: Option<u64>,
    /// Bandwidth of the memory in bytes a second, at its highest clock; `None` as above.
    pub bandwidth: Option<u64>,
}

/// The driver's version, as the CUDA version that it supports: (13, 0).
///
/// # Errors
/// [`CudaError::NoDriver`] where there is none, [`CudaError::DriverDamaged`] where it cannot be loaded or lacks a
/// function, [`CudaError::DriverNotStarted`] where it does not start, [`CudaError::NoDevice`] where it finds no GPU.
pub fn driver_version() -> Result<(u32, u32)> {
    start()?;
    let mut version = 0;
    // SAFETY: the driver has the function.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(CudaError::driver("cuDriverGetVersion"))?;
    let version = u32::try_from(version).unwrap_or(0);
    Ok((version / 1000, version % 1000 / 10))
}

/// All devices that the driver shows.
///
/// # Errors
/// As [`driver_version`]; [`CudaError::Driver`] where the driver does not describe a GPU.
pub fn devices() -> Result<Vec<CudaDevice>> {
    start()?;
    let count = result::device::get_count().map_err(CudaError::driver("cuDeviceGetCount"))?;
    if count < 1 {
        return Err(CudaError::NoDevice.into());
    }
    (0..count).map(|ordinal| device(ordinal).map_err(CudaError::driver("cuDeviceGetAttribute"))).collect()
}

fn device(ordinal: i32) -> std::result::Result<CudaDevice, DriverError> {
    let device = result::device::get(ordinal)?;
    // SAFETY: the driver has just given this device.
    let attribute = |which| unsafe { result::device::get_attribute(device, which) };
    let number = |which| attribute(which).map(|value| u32::try_from(value).unwrap_or(0));
    // Some drivers do not know these attributes, others report 0.
    let told = |which| number(which).ok().filter(|&value| value > 0).map(u64::from);
    let memory_kilohertz = told(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE);
    let bus_bits = told(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
    Ok(CudaDevice {
        ordinal: ordinal as usize,
        name: result::device::get_name(device)?,
        capability: (
            number(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            number(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: number(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize,
        shared_memory: number(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as usize,
        // SAFETY: as above.
        memory: unsafe { result::device::total_mem(device)? },
        clock: told(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE).map(|kilohertz| kilohertz * 1000),
        // Double data rate: two transfers a clock.
        bandwidth: memory_kilohertz.zip(bus_bits).map(|(kilohertz, bits)| 2 * kilohertz * 1000 * bits / 8),
    })
}

/// Loads the driver, checks that it has every function, and initialises it.
fn start() -> Result<()> {
    load()?;
    // SAFETY: one of cudarc's names for libcuda has just been loaded.
    let library = unsafe { sys::culib() };
    // SAFETY: the address is not used.
    let lacks = |function: &&str| unsafe { library.get::<*const ()>(function.as_bytes()) }.is_err();
    if let Some(function) = FUNCTIONS.into_iter().find(lacks) {
        return Err(CudaError::DriverDamaged { problem: format!("it has no function {function}") }.into());
    }
    match result::init() {
        Ok(()) => Ok(()),
        Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)) => Err(CudaError::NoDevice.into()),
        Err(error) => Err(CudaError::DriverNotStarted { problem: describe(error), remedy: remedy(error.0) }.into()),
    }
}

/// Loads libcuda under one of the names by which cudarc asks for it.
fn load() -> Result<()> {
    let mut damaged = None;
    for name in ["cuda", "nvcuda"].into_iter().flat_map(cudarc::get_lib_name_candidates) {
        // SAFETY: a driver's library may be loaded at any time.
        match unsafe { Library::new(&*name) } {
            Ok(_) => return Ok(()),
            Err(libloading::Error::DlOpen { source }) if !is_absent(&name, &source.to_string()) => {
                damaged.get_or_insert_with(|| source.to_string());
            }
            Err(_) => {}
        }
    }
    Err(damaged.map_or(CudaError::NoDriver, |problem| CudaError::DriverDamaged { problem }).into())
}

/// Whether the loader says of the library itself that there is no such file, and not of a library that it needs. glibc and
/// musl name the file and then the reason.
fn is_absent(library: &str, message: &str) -> bool {
    message.contains("No such file") && message.contains(&format!("{library}: "))
}

/// The usual remedy where `cuInit` fails with `code`.
fn remedy(code: CUresult) -> &'static str {
    match code {
        CUresult::CUDA_ERROR_STUB_LIBRARY => {
            "this libcuda is the toolkit's stub, for linking alone; take its folder out of LD_LIBRARY_PATH"
        }
        CUresult::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => {
            "this libcuda is of a compatibility package that the GPU is not for; take its folder out of LD_LIBRARY_PATH"
        }
        CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            "libcuda and the kernel's module are of different versions; restart the machine"
        }
        CUresult::CUDA_ERROR_SYSTEM_NOT_READY => "start the system's services for it, such as nvidia-fabricmanager",
        _ => "see whether nvidia-smi works, and restart the machine if not",
    }
}

/// A context on a device that can run the kernels.
pub(super) fn open(ordinal: usize) -> Result<(Arc<CudaContext>, CudaDevice)> {
    let mut all = devices()?;
    let count = all.len();
    if ordinal >= count {
        return Err(CudaError::NoSuchDevice { asked: ordinal, count }.into());
    }
    let device = all.swap_remove(ordinal);
    if !Architecture::PORTABLE.runs_on(device.capability) {
        return Err(CudaError::Unsupported { name: device.name, capability: device.capability }.into());
    }
    let context = CudaContext::new(ordinal).map_err(CudaError::driver("cuDevicePrimaryCtxRetain"))?;
    // SAFETY: there is no `CudaSlice`, whose accesses cudarc's events order. The arena and our own events (`fork.rs`,
    // `communicator.rs`) order all work.
    unsafe { context.disable_event_tracking() };
    Ok((context, device))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A driver whose dependency is missing is there, and damaged.
    #[test]
    fn an_absent_driver_is_told_from_one_that_lacks_a_library() {
        for (message, absent) in [
            ("libcuda.so.1: cannot open shared object file: No such file or directory", true),
            ("libdxcore.so: cannot open shared object file: No such file or directory", false),
            ("Error loading shared library libcuda.so.1: No such file or directory", true),
            ("Error loading shared library libdxcore.so: No such file or directory (needed by libcuda.so.1)", false),
            ("libcuda.so.1: file too short", false),
        ] {
            assert_eq!(is_absent("libcuda.so.1", message), absent, "{message}");
        }
    }
}
