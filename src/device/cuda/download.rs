//! Asynchronous downloads: copies into page-locked memory of the host, ordered after all earlier work on the stream.

use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::sys::{self, CUevent_flags};
use cudarc::driver::{CudaContext, CudaEvent};
use half::bf16;
use half::slice::HalfFloatSliceExt;

use super::page::Page;
use super::{Buf, Cuda, CudaError, Storage};
use crate::Result;
use crate::device::{Buffer, Download};

/// Free pages. They are used again, since an allocation by the driver may stall the device.
#[derive(Default)]
pub(super) struct Pages(Mutex<Vec<Page>>);

impl Pages {
    fn take(&self, context: &Arc<CudaContext>, bytes: usize) -> Result<Page> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = waiting.iter().position(|page| page.bytes() >= bytes);
        match fits {
            Some(at) => Ok(waiting.swap_remove(at)),
            None => Page::new(context, bytes),
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
        let _turn = self.turn()?;
        let (context, stream) = (&self.shared.context, &self.stream);
        let address = self.settled(buf)?;
        let bytes = buf.len() * buf.storage().width();
        let arrived = context.new_event(Some(CUevent_flags::CU_EVENT_DISABLE_TIMING));
        let arrived = arrived.map_err(CudaError::driver("cuEventCreate"))?;
        let page = self.shared.pages.take(context, bytes)?;
        if bytes > 0 {
            let to = page.address().cast();
            // SAFETY: the page has as many bytes. Earlier copies to it end before this one, and it is read after `arrived`.
            let copied = unsafe { sys::cuMemcpyDtoHAsync_v2(to, address, bytes, stream.cu_stream()) };
            copied.result().map_err(CudaError::driver("cuMemcpyDtoHAsync"))?;
        }
        let later = Later { page: Some(page), len: buf.len(), storage: buf.storage(), arrived, cuda: self.clone() };
        later.arrived.record(stream).map_err(CudaError::driver("cuEventRecord"))?;
        Ok(later)
    }
}
