//! Device attributes, contexts and their stacks, names and texts of results.

use std::ffi::CStr;

use super::*;
use sys::CUdevice_attribute as Attribute;

#[test]
fn device_attributes_are_those_of_an_8_0() {
    start();
    let (mut count, mut name, mut version) = (0, [0; 64], 0);
    ok(unsafe { sys::cuDeviceGetCount(&mut count) });
    assert!(count >= 1);
    ok(unsafe { sys::cuDriverGetVersion(&mut version) });
    assert!(version >= 12000);
    assert_eq!(attribute(Attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE), 32);
    assert_eq!(attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK), 1024);
    assert_eq!(attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK), 48 << 10);
    assert_eq!(attribute(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED), 1);
    let mut device = 0;
    assert_eq!(unsafe { sys::cuDeviceGet(&mut device, 99) }, CUDA_ERROR_INVALID_DEVICE);
    ok(unsafe { sys::cuDeviceGetName(name.as_mut_ptr(), 64, 0) });
    if real() {
        return;
    }
    assert_eq!(unsafe { CStr::from_ptr(name.as_ptr()) }, c"Virtual GPU (PTX interpreter)");
    ok(unsafe { sys::cuDeviceGetName(name.as_mut_ptr(), 8, 0) });
    assert_eq!(unsafe { CStr::from_ptr(name.as_ptr()) }, c"Virtual", "truncated to the buffer");
    let capability = [
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
    ];
    assert_eq!(capability, [8, 0]);
    assert_eq!(attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN), 163 << 10);
}

#[test]
fn contexts_form_a_stack_for_each_thread() {
    let first = context();
    let (mut second, mut current) = (null_mut(), null_mut());
    ok(unsafe { sys::cuCtxCreate_v2(&mut second, 0, 0) });
    ok(unsafe { sys::cuCtxGetCurrent(&mut current) });
    assert_eq!(current, second);
    ok(unsafe { sys::cuCtxPopCurrent_v2(&mut current) });
    assert_eq!(current, second);
    ok(unsafe { sys::cuCtxGetCurrent(&mut current) });
    assert_eq!(current, first.handle);
    ok(unsafe { sys::cuCtxPushCurrent_v2(second) });
    ok(unsafe { sys::cuCtxDestroy_v2(second) });
    ok(unsafe { sys::cuCtxGetCurrent(&mut current) });
    assert_eq!(current, first.handle, "a destroyed context leaves the stack of its thread");
    // Each thread has its own stack.
    std::thread::spawn(|| {
        let (mut none, mut address) = (null_mut(), 0);
        ok(unsafe { sys::cuCtxGetCurrent(&mut none) });
        assert!(none.is_null());
        assert_eq!(unsafe { sys::cuMemAlloc_v2(&mut address, 8) }, CUDA_ERROR_INVALID_CONTEXT);
    })
    .join()
    .unwrap();
}

#[test]
fn destroying_a_context_frees_its_memory() {
    let _first = context();
    let free = || {
        let (mut free, mut total) = (0, 0);
        ok(unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) });
        free
    };
    let (before, mut second) = (free(), null_mut());
    ok(unsafe { sys::cuCtxCreate_v2(&mut second, 0, 0) });
    alloc(256 << 20);
    ok(unsafe { sys::cuCtxDestroy_v2(second) });
    assert!(before.abs_diff(free()) < 128 << 20);
}

#[test]
fn the_primary_context_is_reference_counted() {
    let _alone = context();
    let (mut a, mut b, mut flags, mut active) = (null_mut(), null_mut(), 0, 0);
    let mut is_active = || {
        ok(unsafe { sys::cuDevicePrimaryCtxGetState(0, &mut flags, &mut active) });
        active
    };
    assert_eq!(is_active(), 0);
    ok(unsafe { sys::cuDevicePrimaryCtxRetain(&mut a, 0) });
    ok(unsafe { sys::cuDevicePrimaryCtxRetain(&mut b, 0) });
    assert_eq!(a, b);
    ok(unsafe { sys::cuDevicePrimaryCtxRelease_v2(0) });
    assert_eq!(is_active(), 1);
    ok(unsafe { sys::cuDevicePrimaryCtxRelease_v2(0) });
    assert_eq!(is_active(), 0);
    assert_eq!(unsafe { sys::cuDevicePrimaryCtxRelease_v2(0) }, CUDA_ERROR_INVALID_CONTEXT);
}

#[test]
fn limits_are_stored_and_priorities_are_clamped() {
    let _context = context();
    let mut value = 0;
    ok(unsafe { sys::cuCtxSetLimit(sys::CUlimit::CU_LIMIT_STACK_SIZE, 4096) });
    ok(unsafe { sys::cuCtxGetLimit(&mut value, sys::CUlimit::CU_LIMIT_STACK_SIZE) });
    assert_eq!(value, 4096);
    let (mut least, mut greatest) = (1, 1);
    ok(unsafe { sys::cuCtxGetStreamPriorityRange(&mut least, &mut greatest) });
    assert!(greatest <= least);
    let (mut stream, mut priority) = (null_mut(), 1);
    ok(unsafe { sys::cuStreamCreateWithPriority(&mut stream, NON_BLOCKING, -1000) });
    ok(unsafe { sys::cuStreamGetPriority(stream, &mut priority) });
    assert_eq!(priority, greatest, "clamped");
}

#[test]
fn results_have_the_names_and_texts_of_cuda() {
    start();
    let mut text = null();
    ok(unsafe { sys::cuGetErrorName(CUDA_ERROR_ILLEGAL_ADDRESS, &mut text) });
    assert_eq!(unsafe { CStr::from_ptr(text) }, c"CUDA_ERROR_ILLEGAL_ADDRESS");
    ok(unsafe { sys::cuGetErrorString(CUDA_ERROR_ILLEGAL_ADDRESS, &mut text) });
    assert_eq!(unsafe { CStr::from_ptr(text) }, c"an illegal memory access was encountered");
    ok(unsafe { sys::cuGetErrorString(CUDA_SUCCESS, &mut text) });
    assert_eq!(unsafe { CStr::from_ptr(text) }, c"no error");
    let by_number: extern "C" fn(i32, *mut *const std::ffi::c_char) -> CUresult =
        unsafe { std::mem::transmute(symbol("cuGetErrorName")) };
    assert_eq!(by_number(123456, &mut text), CUDA_ERROR_INVALID_VALUE);
    assert!(text.is_null());
}
