//! Null pointers, and foreign, stale or doubly destroyed handles are errors, never crashes. A card's driver
//! dereferences some of these handles and crashes, so the tests are for the virtual driver only.

use super::*;

#[test]
fn foreign_handles_are_invalid() {
    if real() {
        return;
    }
    let _context = context();
    let junk = [3usize, 0x1000, 0xC0DA_0000, usize::MAX];
    for number in junk {
        unsafe {
            assert_eq!(sys::cuStreamSynchronize(number as _), CUDA_ERROR_INVALID_HANDLE);
            assert_eq!(sys::cuStreamDestroy_v2(number as _), CUDA_ERROR_INVALID_HANDLE);
            assert_eq!(sys::cuEventRecord(number as _, NO_STREAM), CUDA_ERROR_INVALID_HANDLE);
            assert_eq!(sys::cuEventDestroy_v2(number as _), CUDA_ERROR_INVALID_HANDLE);
            assert_eq!(sys::cuModuleUnload(number as _), CUDA_ERROR_INVALID_HANDLE);
            assert_eq!(sys::cuGraphDestroy(number as _), CUDA_ERROR_INVALID_HANDLE);
            assert_eq!(sys::cuGraphExecDestroy(number as _), CUDA_ERROR_INVALID_HANDLE);
            assert_eq!(sys::cuGraphLaunch(number as _, NO_STREAM), CUDA_ERROR_INVALID_HANDLE);
            assert_eq!(launch(number as _, 1, 0, NO_STREAM, &[]), CUDA_ERROR_INVALID_HANDLE);
            let mut function = null_mut();
            assert_eq!(sys::cuModuleGetFunction(&mut function, number as _, c"f".as_ptr()), CUDA_ERROR_INVALID_HANDLE);
            assert_eq!(sys::cuMemPoolDestroy(number as _), CUDA_ERROR_INVALID_HANDLE);
            assert_ne!(sys::cuCtxSetCurrent(number as _), CUDA_SUCCESS);
        }
    }
}

#[test]
fn destroying_a_handle_twice_is_an_error() {
    if real() {
        return;
    }
    let _context = context();
    let stream = stream(0);
    ok(unsafe { sys::cuStreamDestroy_v2(stream) });
    assert_eq!(unsafe { sys::cuStreamDestroy_v2(stream) }, CUDA_ERROR_INVALID_HANDLE);
    let mut event = null_mut();
    ok(unsafe { sys::cuEventCreate(&mut event, 0) });
    ok(unsafe { sys::cuEventDestroy_v2(event) });
    assert_eq!(unsafe { sys::cuEventSynchronize(event) }, CUDA_ERROR_INVALID_HANDLE);
    let module = load(PTX).unwrap();
    let function = function(module, "add");
    ok(unsafe { sys::cuModuleUnload(module) });
    assert_eq!(unsafe { sys::cuModuleUnload(module) }, CUDA_ERROR_INVALID_HANDLE);
    assert_eq!(add(function, NO_STREAM, 0, 0, 1), CUDA_ERROR_INVALID_HANDLE, "unloaded with its module");
}

#[test]
fn a_launch_on_a_stream_of_another_context_is_refused_and_a_wait_for_it_is_not() {
    let context = context();
    let foreign = stream(0);
    let mut other = null_mut();
    ok(unsafe { sys::cuCtxCreate_v2(&mut other, 0, 0) });
    let to = upload(&[0u32]);
    assert_eq!(add(adder(), foreign, to, 1, 1), CUDA_ERROR_INVALID_HANDLE);
    ok(unsafe { sys::cuStreamSynchronize(foreign) });
    ok(unsafe { sys::cuCtxDestroy_v2(other) });
    ok(unsafe { sys::cuCtxSetCurrent(context.handle) });
    ok(unsafe { sys::cuStreamSynchronize(foreign) });
}

#[test]
fn null_result_pointers_are_refused() {
    if real() {
        return;
    }
    let _context = context();
    unsafe {
        assert_eq!(sys::cuStreamCreate(null_mut(), 0), CUDA_ERROR_INVALID_VALUE);
        assert_eq!(sys::cuEventCreate(null_mut(), 0), CUDA_ERROR_INVALID_VALUE);
        assert_eq!(sys::cuDeviceGet(null_mut(), 0), CUDA_ERROR_INVALID_VALUE);
        assert_eq!(sys::cuDeviceGetName(null_mut(), 10, 0), CUDA_ERROR_INVALID_VALUE);
        assert_eq!(sys::cuModuleLoadData(null_mut(), null()), CUDA_ERROR_INVALID_VALUE);
        let mut module = null_mut();
        assert_eq!(sys::cuModuleLoadData(&mut module, null()), CUDA_ERROR_INVALID_VALUE);
        assert_eq!(sys::cuMemGetInfo_v2(null_mut(), null_mut()), CUDA_ERROR_INVALID_VALUE);
        assert_eq!(sys::cuStreamEndCapture(NO_STREAM, null_mut()), CUDA_ERROR_INVALID_VALUE);
    }
}

#[test]
fn stubs_are_exported_and_return_not_supported() {
    if real() {
        return;
    }
    let _context = context();
    assert!(virtual_gpu::driver::stubs::NAMES.len() > 100);
    for name in virtual_gpu::driver::stubs::NAMES {
        let stub = symbol(name);
        assert!(!stub.is_null(), "{name} is not exported");
        let stub: extern "C" fn() -> CUresult = unsafe { std::mem::transmute(stub) };
        assert_eq!(stub(), CUDA_ERROR_NOT_SUPPORTED, "{name}");
    }
}

#[test]
fn proc_address_returns_the_variant_of_the_version() {
    start();
    let address = |name: &str, version: i32| {
        let (mut address, name) = (null_mut(), CString::new(name).unwrap());
        match unsafe { sys::cuGetProcAddress_v2(name.as_ptr(), &mut address, version, 0, null_mut()) } {
            CUDA_SUCCESS => Ok(address),
            error => Err(error),
        }
    };
    assert_eq!(address("cuNoSuchFunction", 12000), Err(CUDA_ERROR_NOT_FOUND));
    if real() {
        return;
    }
    assert_eq!(address("cuMemAlloc", 12000), Ok(symbol("cuMemAlloc_v2")));
    assert_eq!(address("cuInit", 12000), Ok(symbol("cuInit")));
    assert_eq!(address("cuEventElapsedTime", 12000), Ok(symbol("cuEventElapsedTime")));
    assert_eq!(address("cuEventElapsedTime", 13000), Ok(symbol("cuEventElapsedTime_v2")));
    assert_eq!(address("cuCtxCreate", 13000), Ok(symbol("cuCtxCreate_v4")));
    assert_eq!(address("malloc", 12000), Err(CUDA_ERROR_NOT_FOUND));
}
