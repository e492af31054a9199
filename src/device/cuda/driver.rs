//! The driver and its devices. cudarc panics where there is no libcuda, so its presence is checked first.

use std::sync::Arc;

use cudarc::driver::CudaContext;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute_enum as Attribute, CUresult};

use super::{Architecture, CudaError};
use crate::Result;
use crate::error::describe;

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
/// [`CudaError::NoDriver`] where there is none, [`CudaError::Driver`] where it does not start.
pub fn driver_version() -> Result<(u32, u32)> {
    start()?;
    let mut version = 0;
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(CudaError::driver("cuDriverGetVersion"))?;
    let version = u32::try_from(version).unwrap_or(0);
    Ok((version / 1000, version % 1000 / 10))
}

/// All devices that the driver shows.
///
/// # Errors
/// As [`driver_version`]; [`CudaError::NoDevice`] where there is a driver but no GPU.
pub fn devices() -> Result<Vec<CudaDevice>> {
    start()?;
    let count = result::device::get_count().map_err(CudaError::driver("cuDeviceGetCount"))?;
    if count == 0 {
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

/// Initialises the driver.
fn start() -> Result<()> {
    // SAFETY: it only tries to load libcuda.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::NoDriver.into());
    }
    match result::init() {
        Ok(()) => Ok(()),
        Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)) => Err(CudaError::NoDevice.into()),
        Err(error) => Err(CudaError::Driver { call: "cuInit", problem: describe(error) }.into()),
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
    // SAFETY: there is one stream, so no events are needed to order its work.
    unsafe { context.disable_event_tracking() };
    Ok((context, device))
}
