//! The driver through direct calls of its C interface, and through cudarc.

mod capture;
mod context;
mod cudarc_safe;
mod devices;
mod handles;
mod launch;
mod managed;
mod memory;
mod module;
mod occupancy;
mod order;
mod peers;
mod pending;
mod pool;
mod program;
mod tensor;
mod traps;

#[path = "../common/mod.rs"]
mod common;

use std::ffi::{CString, c_void};
use std::path::PathBuf;
use std::ptr::{null, null_mut};

use cudarc::driver::sys::{self, CUdeviceptr, CUfunction, CUresult, CUstream};

use CUresult::*;
use common::driver::*;

fn stream(flags: u32) -> CUstream {
    let mut stream = null_mut();
    ok(unsafe { sys::cuStreamCreate(&mut stream, flags) });
    stream
}

/// Launches one block of `threads`; `arguments` point to the argument values.
fn launch(function: CUfunction, threads: u32, shared: u32, stream: CUstream, arguments: &[*const c_void]) -> CUresult {
    let mut arguments: Vec<*mut c_void> = arguments.iter().map(|argument| argument.cast_mut()).collect();
    unsafe { sys::cuLaunchKernel(function, 1, 1, 1, threads, 1, 1, shared, stream, arguments.as_mut_ptr(), null_mut()) }
}

fn pointer<T>(value: &T) -> *const c_void {
    (value as *const T).cast()
}

const NO_STREAM: CUstream = null_mut();
const NON_BLOCKING: u32 = 1;

/// The PTX of these tests' kernels.
const PTX: &str = include_str!("kernels.ptx");

/// The kernel `add(to, value)`: thread i adds `value` to `to[i]`.
fn adder() -> CUfunction {
    function(load(PTX).unwrap(), "add")
}

fn add(function: CUfunction, stream: CUstream, to: CUdeviceptr, value: u32, threads: u32) -> CUresult {
    launch(function, threads, 0, stream, &[pointer(&to), pointer(&value)])
}
