//! The driver through its C interface, as a program meets it: looked up by name in a shared library.
//!
//! The library is loaded by its path, and cudarc's bindings then get it for `libcuda.so`. With
//! `VIRTUAL_GPU_TESTS=real` nothing is loaded first, and the same tests judge the driver of a card, but for those that
//! are about the virtual one alone.

mod capture;
mod context;
mod cudarc_safe;
mod failure;
mod handles;
mod launch;
mod memory;
mod module;
mod occupancy;
mod program;

use std::ffi::{CString, c_void};
use std::path::PathBuf;
use std::ptr::{null, null_mut};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use cudarc::driver::sys::{self, CUcontext, CUdeviceptr, CUfunction, CUmodule, CUresult, CUstream};

use CUresult::*;

/// The library that cargo has built beside this test.
fn library() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let deps = here.parent().unwrap();
    let found = [deps, deps.parent().unwrap()].map(|folder| folder.join("libvirtual_gpu.so"));
    found.into_iter().find(|path| path.exists()).expect("cargo builds libvirtual_gpu.so with the tests")
}

/// Whether a card's driver is being tested.
fn real() -> bool {
    std::env::var("VIRTUAL_GPU_TESTS").is_ok_and(|driver| driver == "real")
}

unsafe extern "C" {
    fn dlopen(file: *const std::ffi::c_char, flags: i32) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const std::ffi::c_char) -> *mut c_void;
}

const RTLD_NOW: i32 = 2;
const RTLD_GLOBAL: i32 = 0x100;

/// The loaded library.
fn handle() -> *mut c_void {
    let path = if real() { "libcuda.so.1".into() } else { library() };
    let path = CString::new(path.to_str().unwrap()).unwrap();
    let library = unsafe { dlopen(path.as_ptr(), RTLD_NOW | RTLD_GLOBAL) };
    assert!(!library.is_null(), "{path:?} cannot be loaded");
    library
}

/// The address of an exported function, or null.
fn symbol(name: &str) -> *mut c_void {
    unsafe { dlsym(handle(), CString::new(name).unwrap().as_ptr()) }
}

/// Loads and initialises the driver.
fn start() {
    static START: Once = Once::new();
    START.call_once(|| {
        handle();
        ok(unsafe { sys::cuInit(0) });
    });
}

#[track_caller]
fn ok(result: CUresult) {
    assert_eq!(result, CUDA_SUCCESS);
}

/// A context of the test's own, current in its thread. One test at a time: captures in one thread forbid calls in
/// others.
struct Context {
    handle: CUcontext,
    _alone: MutexGuard<'static, ()>,
}

fn context() -> Context {
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

fn alloc(bytes: usize) -> CUdeviceptr {
    let mut address = 0;
    ok(unsafe { sys::cuMemAlloc_v2(&mut address, bytes) });
    address
}

/// Device memory with these values in it.
fn upload<T: Copy>(values: &[T]) -> CUdeviceptr {
    let address = alloc(size_of_val(values));
    ok(unsafe { sys::cuMemcpyHtoD_v2(address, values.as_ptr().cast(), size_of_val(values)) });
    address
}

fn download<T: Copy + Default>(address: CUdeviceptr, count: usize) -> Vec<T> {
    let mut values = vec![T::default(); count];
    ok(unsafe { sys::cuMemcpyDtoH_v2(values.as_mut_ptr().cast(), address, size_of_val(&values[..])) });
    values
}

fn stream(flags: u32) -> CUstream {
    let mut stream = null_mut();
    ok(unsafe { sys::cuStreamCreate(&mut stream, flags) });
    stream
}

fn load(ptx: &str) -> Result<CUmodule, CUresult> {
    let text = CString::new(ptx).unwrap();
    let mut module = null_mut();
    match unsafe { sys::cuModuleLoadData(&mut module, text.as_ptr().cast()) } {
        CUDA_SUCCESS => Ok(module),
        error => Err(error),
    }
}

fn function(module: CUmodule, name: &str) -> CUfunction {
    let name = CString::new(name).unwrap();
    let mut function = null_mut();
    ok(unsafe { sys::cuModuleGetFunction(&mut function, module, name.as_ptr()) });
    function
}

/// Launches with one block of `threads`; `arguments` point to the values.
fn launch(function: CUfunction, threads: u32, shared: u32, stream: CUstream, arguments: &[*const c_void]) -> CUresult {
    let mut arguments: Vec<*mut c_void> = arguments.iter().map(|argument| argument.cast_mut()).collect();
    unsafe { sys::cuLaunchKernel(function, 1, 1, 1, threads, 1, 1, shared, stream, arguments.as_mut_ptr(), null_mut()) }
}

fn pointer<T>(value: &T) -> *const c_void {
    (value as *const T).cast()
}

const NO_STREAM: CUstream = null_mut();
const NON_BLOCKING: u32 = 1;

/// The kernels of these tests.
const PTX: &str = include_str!("kernels.ptx");

/// `add(to, value)`: thread i adds `value` to `to[i]`.
fn adder() -> CUfunction {
    function(load(PTX).unwrap(), "add")
}

fn add(function: CUfunction, stream: CUstream, to: CUdeviceptr, value: u32, threads: u32) -> CUresult {
    launch(function, threads, 0, stream, &[pointer(&to), pointer(&value)])
}
