//! Page-locked memory of the host.

use std::ptr::NonNull;
use std::sync::Arc;

use bytemuck::Pod;
use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaContext, DriverError, result};

use super::CudaError;
use crate::{Error, Result};

/// Page-locked memory of the host: the driver copies from it and to it asynchronously.
pub(super) struct Page {
    start: NonNull<u8>,
    bytes: usize,
    context: Arc<CudaContext>,
}

// SAFETY: it has one owner, and any thread may access the memory.
unsafe impl Send for Page {}

impl Page {
    /// Room for `bytes`, or for a little more.
    pub(super) fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self> {
        let bytes = bytes.max(1).next_multiple_of(4096);
        context.bind_to_thread().map_err(CudaError::driver("cuCtxSetCurrent"))?;
        // SAFETY: it is initialised below.
        let start = unsafe { result::malloc_host(bytes, 0) }.map_err(|error| match error {
            DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY) => Error::memory(bytes),
            error => CudaError::driver("cuMemHostAlloc")(error),
        })?;
        let none = || CudaError::Driver { call: "cuMemHostAlloc", problem: "gave no memory".into() };
        let start = NonNull::new(start.cast::<u8>()).ok_or_else(none)?;
        // SAFETY: nobody else has the memory yet.
        unsafe { start.write_bytes(0, bytes) };
        Ok(Page { start, bytes, context: context.clone() })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn address(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The first `len` numbers, after the copy to it has ended.
    pub(super) fn read<T: Pod>(&self, len: usize) -> Vec<T> {
        assert!(len * size_of::<T>() <= self.bytes);
        // SAFETY: in bounds, aligned to pages, initialised, and not being copied to; any bits are a `T`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), len) }.to_vec()
    }

    /// Room for `len` numbers, after the copies from it have ended. It has what it last held.
    pub(super) fn room<T: Pod>(&mut self, len: usize) -> &mut [T] {
        assert!(len * size_of::<T>() <= self.bytes);
        // SAFETY: in bounds, aligned to pages, initialised, and borrowed from its one owner; any bits are a `T`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), len) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // A failure is ignored: the end of the process frees the memory.
        let _ = self.context.bind_to_thread();
        // SAFETY: it came from `malloc_host`; the driver waits for copies that are under way.
        let _ = unsafe { result::free_host(self.start.as_ptr().cast()) };
    }
}
