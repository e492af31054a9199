//! Memory that is refused on request, for tests of programs that run out of it. It is no part of CUDA's interface.

use std::cell::Cell;

use super::boundary::Outcome;
use super::error::Code;

thread_local! {
    /// The requests that are still granted, and those that are refused after them.
    static AHEAD: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Of the calling thread's next requests for memory, `granted` are granted as ever, and the `refused` after them fail with
/// `CUDA_ERROR_OUT_OF_MEMORY`: memory of the device, of a pool, or page-locked memory of the host. Later ones are granted again.
/// Returns the number of requests that an earlier call would still have refused.
#[unsafe(no_mangle)]
extern "C" fn virtual_gpu_refuse_memory(granted: u64, refused: u64) -> u64 {
    AHEAD.replace((granted, refused)).1
}

/// Counts a request.
///
/// # Errors
/// [`Code::OutOfMemory`] for one that is to be refused.
pub fn request() -> Outcome {
    match AHEAD.get() {
        (_, 0) => Ok(()),
        (0, refused) => {
            AHEAD.set((0, refused - 1));
            Err(Code::OutOfMemory.into())
        }
        (granted, refused) => {
            AHEAD.set((granted - 1, refused));
            Ok(())
        }
    }
}
