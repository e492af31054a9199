//! The driver through its C interface, looked up by name in a shared library as a program does.
//!
//! The library is loaded by its path; cudarc's bindings then find it as `libcuda.so`. With `VIRTUAL_GPU_TESTS=real` a
//! card's driver is loaded instead, and the same tests run on it, except for those of the virtual driver alone.

use std::ffi::{CString, c_char, c_void};
use std::path::PathBuf;
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use cudarc::driver::sys::{self, CUcontext, CUdeviceptr, CUfunction, CUmodule, CUresult};

use super::Args;

/// The library that cargo has built in this test's target folder.
pub fn library() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let deps = here.parent().unwrap();
    let found = [deps, deps.parent().unwrap()].map(|folder| folder.join("libvirtual_gpu.so"));
    found.into_iter().find(|path| path.exists()).expect("cargo builds libvirtual_gpu.so with the tests")
}

/// Whether the tests run on a card's driver.
pub fn real() -> bool {
    std::env::var("VIRTUAL_GPU_TESTS").is_ok_and(|driver| driver == "real")
}

unsafe extern "C" {
    pub fn dlopen(file: *const c_char, flags: i32) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

pub const RTLD_NOW: i32 = 2;
const RTLD_GLOBAL: i32 = 0x100;

/// Loads the library and returns its handle.
pub fn handle() -> *mut c_void {
    let path = if real() { "libcuda.so.1".into() } else { library() };
    let path = CString::new(path.to_str().unwrap()).unwrap();
    let library = unsafe { dlopen(path.as_ptr(), RTLD_NOW | RTLD_GLOBAL) };
    assert!(!library.is_null(), "{path:?} cannot be loaded");
    library
}

/// The address of an exported function, or null.
pub fn symbol(name: &str) -> *mut c_void {
    unsafe { dlsym(handle(), CString::new(name).unwrap().as_ptr()) }
}

/// Loads and initialises the driver.
pub fn start() {
    static START: Once = Once::new();
    START.call_once(|| {
        handle();
        ok(unsafe { sys::cuInit(0) });
    });
}

#[track_caller]
pub fn ok(result: CUresult) {
    assert_eq!(result, CUresult::CUDA_SUCCESS);
}

/// A context of one test, current in its thread. It holds a lock, so that only one such test runs at a time: a capture
/// in one thread forbids calls in others.
pub struct Context {
    pub handle: CUcontext,
    _alone: MutexGuard<'static, ()>,
}

pub fn context() -> Context {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    start();
    let mut handle = null_mut();
    ok(unsafe { sys::cuCtxCreate_v2(&mut handle, 0, 0) });
    Context { handle, _alone: alone }
}

impl Drop for Context {
    fn drop(&mut self) {
        unsafe { sys::cuCtxDestroy_v2(self.handle) };
    }
}

/// The value of a device attribute.
pub fn attribute(attribute: sys::CUdevice_attribute) -> i32 {
    let mut value = 0;
    ok(unsafe { sys::cuDeviceGetAttribute(&mut value, attribute, 0) });
    value
}

pub fn alloc(bytes: usize) -> CUdeviceptr {
    let mut address = 0;
    ok(unsafe { sys::cuMemAlloc_v2(&mut address, bytes) });
    address
}

/// Allocates device memory that holds these values.
pub fn upload<T: Copy>(values: &[T]) -> CUdeviceptr {
    let address = alloc(size_of_val(values));
    ok(unsafe { sys::cuMemcpyHtoD_v2(address, values.as_ptr().cast(), size_of_val(values)) });
    address
}

pub fn download<T: Copy + Default>(address: CUdeviceptr, count: usize) -> Vec<T> {
    let mut values = vec![T::default(); count];
    ok(unsafe { sys::cuMemcpyDtoH_v2(values.as_mut_ptr().cast(), address, size_of_val(&values[..])) });
    values
}

pub fn load(ptx: &str) -> Result<CUmodule, CUresult> {
    let text = CString::new(ptx).unwrap();
    let mut module = null_mut();
    match unsafe { sys::cuModuleLoadData(&mut module, text.as_ptr().cast()) } {
        CUresult::CUDA_SUCCESS => Ok(module),
        error => Err(error),
    }
}

/// Loads a module; panics with the log of the driver's compiler if it is refused.
pub fn compile(ptx: &str) -> CUmodule {
    let text = CString::new(ptx).unwrap();
    let mut log = vec![0u8; 1 << 16];
    let mut options =
        [sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER, sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values: [*mut c_void; 2] = [log.as_mut_ptr().cast(), log.len() as _];
    let mut module = null_mut();
    let (names, values) = (options.as_mut_ptr(), values.as_mut_ptr());
    let result = unsafe { sys::cuModuleLoadDataEx(&mut module, text.as_ptr().cast(), 2, names, values) };
    assert_eq!(result, CUresult::CUDA_SUCCESS, "{}", String::from_utf8_lossy(&log).trim_end_matches('\0'));
    module
}

pub fn function(module: CUmodule, name: &str) -> CUfunction {
    let name = CString::new(name).unwrap();
    let mut function = null_mut();
    ok(unsafe { sys::cuModuleGetFunction(&mut function, module, name.as_ptr()) });
    function
}

/// Launches a function with its arguments in one buffer, and waits for it.
pub fn run(function: CUfunction, grid: [u32; 3], block: [u32; 3], shared: u32, args: &Args) -> CUresult {
    let size = args.0.len();
    // Pairs of option and value (1: the buffer, 2: a pointer to its size), terminated by 0.
    let mut extra = [1, args.0.as_ptr() as usize, 2, (&raw const size) as usize, 0];
    let ([x, y, z], [a, b, c], none) = (grid, block, null_mut());
    unsafe {
        match sys::cuLaunchKernel(function, x, y, z, a, b, c, shared, none, null_mut(), extra.as_mut_ptr().cast()) {
            CUresult::CUDA_SUCCESS => sys::cuCtxSynchronize(),
            error => error,
        }
    }
}
