//! Libraries: modules that belong to no context, and their kernels.
//!
//! A library is loaded into the context that is current, and its kernels can be launched on that context's device only. A `CUkernel` is the `CUfunction` of the same
//! number, and is accepted by every call that takes either.

use std::ffi::c_char;

use super::abi::{DevicePointer, Handle, In, Out};
use super::boundary::{Outcome, within};
use super::error::{CUresult, Code};
use super::module::{Logs, enumerate, function, global, load, read_file, unload};
use super::state::find;
use super::work::Current;

/// Checks that a handle is a library's, not a module's.
fn check(cx: &Current, library: Handle) -> Outcome {
    if find(&cx.state().modules, library)?.library { Ok(()) } else { Err(Code::InvalidHandle.into()) }
}

/// Reads the log options of a load, after checking that the library's handle can be stored.
fn logs(library: Out<Handle>, count: u32, options: In<i32>, values: Out<usize>) -> Outcome<Logs> {
    if library.is_null() {
        return Err(Code::InvalidValue.into());
    }
    Logs::read(count, options, values)
}

#[unsafe(no_mangle)]
extern "C" fn cuLibraryLoadData(
    library: Out<Handle>,
    code: In<u8>,
    options: In<i32>,
    values: Out<usize>,
    count: u32,
    _library_options: In<i32>,
    _library_values: Out<usize>,
    _library_count: u32,
) -> CUresult {
    within(|cx| {
        let logs = logs(library, count, options, values)?;
        library.put(load(cx, code.as_chars().bytes()?, &logs, true)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLibraryLoadFromFile(
    library: Out<Handle>,
    name: In<c_char>,
    options: In<i32>,
    values: Out<usize>,
    count: u32,
    _library_options: In<i32>,
    _library_values: Out<usize>,
    _library_count: u32,
) -> CUresult {
    within(|cx| {
        let logs = logs(library, count, options, values)?;
        library.put(load(cx, &read_file(name)?, &logs, true)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLibraryUnload(library: Handle) -> CUresult {
    within(|cx| unload(cx, library, true))
}

#[unsafe(no_mangle)]
extern "C" fn cuLibraryGetKernel(kernel: Out<Handle>, library: Handle, name: In<c_char>) -> CUresult {
    within(|cx| {
        check(cx, library)?;
        let name = name.text()?;
        kernel.put(function(&mut cx.state(), library, name)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLibraryGetKernelCount(count: Out<u32>, library: Handle) -> CUresult {
    within(|cx| {
        check(cx, library)?;
        count.put(find(&cx.state().modules, library)?.names.len() as u32)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLibraryEnumerateKernels(kernels: Out<Handle>, room: u32, library: Handle) -> CUresult {
    within(|cx| {
        check(cx, library)?;
        enumerate(cx, kernels, room, library)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLibraryGetModule(module: Out<Handle>, library: Handle) -> CUresult {
    within(|cx| {
        check(cx, library)?;
        module.put(library)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLibraryGetGlobal(
    address: Out<DevicePointer>,
    bytes: Out<usize>,
    library: Handle,
    name: In<c_char>,
) -> CUresult {
    within(|cx| {
        check(cx, library)?;
        global(cx, address, bytes, library, name)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuKernelGetFunction(to: Out<Handle>, kernel: Handle) -> CUresult {
    within(|cx| {
        find(&cx.state().functions, kernel)?;
        to.put(kernel)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuKernelGetLibrary(library: Out<Handle>, kernel: Handle) -> CUresult {
    within(|cx| {
        let module = find(&cx.state().functions, kernel)?.module;
        check(cx, module)?;
        library.put(module)
    })
}
