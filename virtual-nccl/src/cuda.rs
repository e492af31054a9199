//! The functions of the CUDA driver that the process has loaded. This library loads none: a communicator needs a current context,
//! so whoever has made that has loaded the driver.

use std::ffi::{CStr, c_char, c_uint, c_void};
use std::ptr::null_mut;
use std::sync::OnceLock;

use crate::error::{Code, Outcome};

type Result = i32;
pub type Context = usize;
pub type Stream = usize;
pub type Event = usize;
/// A host function of a stream, `CUhostFn`.
pub type HostFunction = unsafe extern "C" fn(*mut c_void);

/// Declares the table of functions, and how it is filled.
macro_rules! functions {
    ($($field:ident = $name:literal: fn($($argument:ty),*) -> $result:ty;)*) => {
        pub struct Cuda { $($field: unsafe extern "C" fn($($argument),*) -> $result,)* }

        impl Cuda {
            fn look_up(library: *mut c_void) -> Option<Cuda> {
                Some(Cuda { $($field: {
                    let found = symbol(library, $name)?;
                    // SAFETY: NVIDIA's reference gives the function of this name this type.
                    unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) -> $result>(found) }
                },)* })
            }
        }
    };
}

functions! {
    get_error_name = c"cuGetErrorName": fn(Result, *mut *const c_char) -> Result;
    context_current = c"cuCtxGetCurrent": fn(*mut Context) -> Result;
    context_push = c"cuCtxPushCurrent_v2": fn(Context) -> Result;
    context_pop = c"cuCtxPopCurrent_v2": fn(*mut Context) -> Result;
    host_alloc = c"cuMemHostAlloc": fn(*mut usize, usize, c_uint) -> Result;
    copy_to_host = c"cuMemcpyDtoHAsync_v2": fn(usize, u64, usize, Stream) -> Result;
    copy_to_device = c"cuMemcpyHtoDAsync_v2": fn(u64, usize, usize, Stream) -> Result;
    launch_host_function = c"cuLaunchHostFunc": fn(Stream, HostFunction, *mut c_void) -> Result;
    is_capturing = c"cuStreamIsCapturing": fn(Stream, *mut i32) -> Result;
    exchange_capture_mode = c"cuThreadExchangeStreamCaptureMode": fn(*mut i32) -> Result;
    event_create = c"cuEventCreate": fn(*mut Event, c_uint) -> Result;
    event_record = c"cuEventRecord": fn(Event, Stream) -> Result;
    event_synchronize = c"cuEventSynchronize": fn(Event) -> Result;
}

/// A function of a library, of all global ones if `library` is null.
fn symbol(library: *mut c_void, name: &CStr) -> Option<*mut c_void> {
    let library = if library.is_null() { libc::RTLD_DEFAULT } else { library };
    // SAFETY: the handle is one of `dlopen` or the default, and the name ends with a zero.
    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// `CU_EVENT_DISABLE_TIMING`.
const NO_TIMING: c_uint = 2;
/// `CU_STREAM_CAPTURE_MODE_RELAXED`.
const RELAXED: i32 = 2;

impl Cuda {
    /// The driver that is loaded: under the name that cudarc asks for, under that of the driver's own file, or under any by
    /// `LD_PRELOAD` or `RTLD_GLOBAL`.
    pub fn get() -> Outcome<&'static Cuda> {
        static CUDA: OnceLock<Cuda> = OnceLock::new();
        if let Some(cuda) = CUDA.get() {
            return Ok(cuda);
        }
        let loaded = |name: &CStr| {
            // SAFETY: `RTLD_NOLOAD` loads nothing, so no code is run.
            unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) }
        };
        let named = [c"libcuda.so", c"libcuda.so.1"].into_iter().map(loaded).filter(|library| !library.is_null());
        let found = named.chain([null_mut()]).find_map(Cuda::look_up);
        let found = found.ok_or_else(|| {
            Code::UnhandledCudaError
                .because("the process has not loaded a CUDA driver: make a context before a communicator")
        })?;
        Ok(CUDA.get_or_init(|| found))
    }

    fn check(&self, what: &str, result: Result) -> Outcome {
        if result == 0 {
            return Ok(());
        }
        let mut name = std::ptr::null();
        // SAFETY: the pointer is to a place for the result.
        let known = unsafe { (self.get_error_name)(result, &mut name) } == 0 && !name.is_null();
        let name = match known {
            // SAFETY: the driver's names are constants that end with a zero.
            true => unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned(),
            false => format!("error {result}"),
        };
        Err(Code::UnhandledCudaError.because(format!("{what}: {name}")))
    }

    /// The context that is current in the calling thread.
    pub fn current(&self) -> Outcome<Context> {
        let mut context = 0;
        // SAFETY: the pointer is to a place for the result.
        self.check("cuCtxGetCurrent", unsafe { (self.context_current)(&mut context) })?;
        match context {
            0 => Err(Code::UnhandledCudaError.because("no CUDA context is current in this thread")),
            context => Ok(context),
        }
    }

    /// Does something in a context, whichever is current.
    pub fn within<T>(&self, context: Context, what: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        if self.current().is_ok_and(|current| current == context) {
            return what();
        }
        // SAFETY: the driver checks the handle.
        self.check("cuCtxPushCurrent", unsafe { (self.context_push)(context) })?;
        let result = what();
        // SAFETY: the pointer is to a place for the result.
        self.check("cuCtxPopCurrent", unsafe { (self.context_pop)(&mut 0) })?;
        result
    }

    /// Does something that a capture in progress, perhaps another thread's, would otherwise forbid.
    pub fn relaxed<T>(&self, what: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let mut mode = RELAXED;
        // SAFETY: the pointer is to the mode, which is exchanged for the one before.
        self.check("cuThreadExchangeStreamCaptureMode", unsafe { (self.exchange_capture_mode)(&mut mode) })?;
        let result = what();
        // SAFETY: the same.
        self.check("cuThreadExchangeStreamCaptureMode", unsafe { (self.exchange_capture_mode)(&mut mode) })?;
        result
    }

    /// Page-locked memory, as asynchronous copies need it.
    pub fn host_memory(&self, bytes: usize) -> Outcome<usize> {
        let mut address = 0;
        // SAFETY: the pointer is to a place for the result.
        self.relaxed(|| self.check("cuMemHostAlloc", unsafe { (self.host_alloc)(&mut address, bytes, 0) }))?;
        Ok(address)
    }

    /// # Safety
    /// The memory at `to` must be valid for `bytes` as long as the stream, or a graph of its capture, may run the copy.
    pub unsafe fn copy_to_host(&self, to: usize, from: u64, bytes: usize, stream: Stream) -> Outcome {
        // SAFETY: as stated above; the driver checks the device's range.
        self.check("cuMemcpyDtoHAsync", unsafe { (self.copy_to_host)(to, from, bytes, stream) })
    }

    /// # Safety
    /// The memory at `from` must be valid for `bytes` as long as the stream, or a graph of its capture, may run the copy.
    pub unsafe fn copy_to_device(&self, to: u64, from: usize, bytes: usize, stream: Stream) -> Outcome {
        // SAFETY: as stated above; the driver checks the device's range.
        self.check("cuMemcpyHtoDAsync", unsafe { (self.copy_to_device)(to, from, bytes, stream) })
    }

    /// # Safety
    /// `function` may be called with `data` whenever the stream, or a graph of its capture, runs it.
    pub unsafe fn host_function(&self, stream: Stream, function: HostFunction, data: *mut c_void) -> Outcome {
        // SAFETY: as stated above.
        self.check("cuLaunchHostFunc", unsafe { (self.launch_host_function)(stream, function, data) })
    }

    /// Whether what is enqueued on a stream is recorded. That of a broken capture is refused.
    pub fn captures(&self, stream: Stream) -> Outcome<bool> {
        let mut status = 0;
        // SAFETY: the pointer is to a place for the result.
        self.check("cuStreamIsCapturing", unsafe { (self.is_capturing)(stream, &mut status) })?;
        Ok(status != 0)
    }

    pub fn event(&self) -> Outcome<Event> {
        let mut event = 0;
        // SAFETY: the pointer is to a place for the result.
        self.check("cuEventCreate", unsafe { (self.event_create)(&mut event, NO_TIMING) })?;
        Ok(event)
    }

    pub fn record(&self, event: Event, stream: Stream) -> Outcome {
        // SAFETY: the driver checks the handles.
        self.check("cuEventRecord", unsafe { (self.event_record)(event, stream) })
    }

    pub fn synchronize(&self, event: Event) -> Outcome {
        // SAFETY: the driver checks the handle.
        self.relaxed(|| self.check("cuEventSynchronize", unsafe { (self.event_synchronize)(event) }))
    }
}
