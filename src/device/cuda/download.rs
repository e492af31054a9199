//! Asynchronous downloads: copies into page-locked memory of the host, ordered after all earlier work on the stream.

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use bytemuck::Pod;
use cudarc::driver::sys::{self, CUevent_flags, CUresult};
use cudarc::driver::{CudaContext, CudaEvent, DriverError, result};
use half::bf16;
use half::slice::HalfFloatSliceExt;

use super::{Buf, Cuda, CudaError, Storage};
use crate::device::{Buffer, Download};
use crate::{Error, Result};

/// Page-locked memory of the host: the driver copies to it asynchronously.
struct Page {
    start: NonNull<u8>,
    bytes: usize,
    context: Arc<CudaContext>,
}

// SAFETY: it has one owner, and any thread may access the memory.
unsafe impl Send for Page {}

impl Page {
    fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self> {
        context.bind_to_thread().map_err(CudaError::driver("cuCtxSetCurrent"))?;
        // SAFETY: only bytes that a copy has written are read.
        let start = unsafe { result::malloc_host(bytes, 0) }.map_err(|error| match error {
            DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY) => Error::memory(bytes),
            error => CudaError::driver("cuMemHostAlloc")(error),
        })?;
        let none = || CudaError::Driver { call: "cuMemHostAlloc", problem: "gave no memory".into() };
        Ok(Page { start: NonNull::new(start.cast()).ok_or_else(none)?, bytes, context: context.clone() })
    }

    /// The first `len` numbers, after the copy has ended.
    fn read<T: Pod>(&self, len: usize) -> Vec<T> {
        assert!(len * size_of::<T>() <= self.bytes);
        // SAFETY: in bounds, aligned to pages, and written by a copy that has ended; any bits are a `T`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), len) }.to_vec()
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

/// Free pages. They are used again, since an allocation by the driver may stall the device.
#[derive(Default)]
pub(super) struct Pages(Mutex<Vec<Page>>);

impl Pages {
    fn take(&self, context: &Arc<CudaContext>, bytes: usize) -> Result<Page> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = waiting.iter().position(|page| page.bytes >= bytes);
        match fits {
            Some(at) => Ok(waiting.swap_remove(at)),
            None => Page::new(context, bytes.max(1).next_multiple_of(4096)),
        }
    }
}

/// A download under way.
pub struct Later {
    /// `Some` until this is dropped.
    page: Option<Page>,
    len: usize,
    storage: Storage,
    arrived: CudaEvent,
    cuda: Cuda,
}

impl Download<f32> for Later {
    fn is_done(&self) -> Result<bool> {
        let done = self.arrived.try_is_complete().map_err(CudaError::driver("cuEventQuery"))?;
        Ok(done)
    }

    fn wait(self) -> Result<Vec<f32>> {
        self.arrived.synchronize().map_err(CudaError::driver("cuEventSynchronize"))?;
        let page = self.page.as_ref().expect("it goes when this does");
        Ok(match self.storage {
            Storage::F32 | Storage::Tf32 => page.read(self.len),
            Storage::Bf16 => page.read::<bf16>(self.len).to_f32_vec(),
        })
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        // The page may be reused at once: a copy that is still under way ends before a later one on the same stream begins.
        let mut waiting = self.cuda.shared.pages.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(self.page.take());
    }
}

impl Cuda {
    pub(super) fn fetch_later(&self, buf: &Buf) -> Result<Later> {
        self.bind()?;
        let (context, stream) = (&self.shared.context, &self.shared.stream);
        let address = self.settled(buf)?;
        let bytes = buf.len() * buf.storage().width();
        let arrived = context.new_event(Some(CUevent_flags::CU_EVENT_DISABLE_TIMING));
        let arrived = arrived.map_err(CudaError::driver("cuEventCreate"))?;
        let page = self.shared.pages.take(context, bytes)?;
        if bytes > 0 {
            let to = page.start.as_ptr().cast();
            // SAFETY: the page has as many bytes. Earlier copies to it end before this one, and it is read after `arrived`.
            let copied = unsafe { sys::cuMemcpyDtoHAsync_v2(to, address, bytes, stream.cu_stream()) };
            copied.result().map_err(CudaError::driver("cuMemcpyDtoHAsync"))?;
        }
        let later = Later { page: Some(page), len: buf.len(), storage: buf.storage(), arrived, cuda: self.clone() };
        later.arrived.record(stream).map_err(CudaError::driver("cuEventRecord"))?;
        Ok(later)
    }
}
