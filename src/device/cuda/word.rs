//! A word that the host may write while kernels read it.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use cudarc::driver::sys::{self, CUdevice_attribute_enum as Attribute, CUdeviceptr, CUmemAttach_flags_enum};
use cudarc::driver::{CudaContext, result};

use super::CudaError;
use crate::Result;

/// A word of managed memory: host and kernels have it at the same address.
pub(super) struct Word {
    address: CUdeviceptr,
    context: Arc<CudaContext>,
}

impl Word {
    /// A word that is 0.
    ///
    /// # Errors
    /// [`CudaError::Driver`] for a driver that gives none, or does not let the host write it while kernels run, as that of WSL.
    pub(super) fn new(context: &Arc<CudaContext>) -> Result<Self> {
        context.bind_to_thread().map_err(CudaError::driver("cuCtxSetCurrent"))?;
        let concurrent = context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS);
        if concurrent.map_err(CudaError::driver("cuDeviceGetAttribute"))? == 0 {
            let problem =
                "the host may not write memory that kernels read, which several ranks need; train with one rank";
            return Err(CudaError::Driver { call: "cuDeviceGetAttribute", problem: problem.into() }.into());
        }
        let (mut address, global) = (0, CUmemAttach_flags_enum::CU_MEM_ATTACH_GLOBAL as u32);
        // SAFETY: a context is bound, and the pointer is to an address.
        unsafe { sys::cuMemAllocManaged(&mut address, size_of::<AtomicU32>(), global) }
            .result()
            .map_err(CudaError::driver("cuMemAllocManaged"))?;
        let word = Word { address, context: context.clone() };
        // SAFETY: nobody else has the memory yet.
        unsafe { word.pointer().write(AtomicU32::new(0)) };
        Ok(word)
    }

    fn pointer(&self) -> NonNull<AtomicU32> {
        let pointer = std::ptr::with_exposed_provenance_mut(self.address as usize);
        NonNull::new(pointer).expect("an allocation has an address")
    }

    /// The word, for the host.
    pub(super) fn host(&self) -> &AtomicU32 {
        // SAFETY: the memory is there as long as `self`, aligned, and initialised; the host accesses it by this reference alone.
        unsafe { self.pointer().as_ref() }
    }

    /// The address, for kernels.
    pub(super) fn address(&self) -> CUdeviceptr {
        self.address
    }
}

impl Drop for Word {
    fn drop(&mut self) {
        // A context that has failed cannot free memory; the end of the process does.
        // SAFETY: the address came from `cuMemAllocManaged`, and its one owner goes away.
        let freed = self.context.bind_to_thread().and_then(|()| unsafe { result::free_sync(self.address) });
        let _ = freed;
    }
}
