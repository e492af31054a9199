//! Allocation, copies, fills, pinned memory, the default pool, pointer attributes.

use super::*;

#[test]
fn copies_in_every_direction_preserve_the_data() {
    let _context = context();
    let values: Vec<u32> = (0..1000).collect();
    let (a, b) = (upload(&values), alloc(4000));
    ok(unsafe { sys::cuMemcpyDtoD_v2(b, a, 4000) });
    assert_eq!(download::<u32>(b, 1000), values);
    // A part from the middle, asynchronously.
    let (stream, mut part) = (stream(NON_BLOCKING), vec![0u32; 10]);
    ok(unsafe { sys::cuMemcpyHtoDAsync_v2(b + 40, values.as_ptr().cast(), 40, stream) });
    ok(unsafe { sys::cuMemcpyDtoDAsync_v2(b + 80, b + 40, 40, stream) });
    ok(unsafe { sys::cuMemcpyDtoHAsync_v2(part.as_mut_ptr().cast(), b + 80, 40, stream) });
    ok(unsafe { sys::cuStreamSynchronize(stream) });
    assert_eq!(part, values[..10]);
    // `cuMemcpy` tells host from device memory by the address.
    let mut back = [0u32; 3];
    ok(unsafe { sys::cuMemcpy(back.as_mut_ptr() as CUdeviceptr, a + 4, 12) });
    assert_eq!(back, [1, 2, 3]);
    ok(unsafe { sys::cuMemcpyAsync(b, a + 8, 12, stream) });
    ok(unsafe { sys::cuStreamSynchronize(stream) });
    assert_eq!(download::<u32>(b, 3), [2, 3, 4]);
}

#[test]
fn fills_write_elements_of_1_2_and_4_bytes() {
    let _context = context();
    let a = upload(&[0u8; 16]);
    ok(unsafe { sys::cuMemsetD8_v2(a, 0xAB, 3) });
    ok(unsafe { sys::cuMemsetD16_v2(a + 4, 0x1234, 2) });
    ok(unsafe { sys::cuMemsetD32Async(a + 8, 0xDEAD_BEEF, 2, NO_STREAM) });
    let expected = [0xAB, 0xAB, 0xAB, 0, 0x34, 0x12, 0x34, 0x12, 0xEF, 0xBE, 0xAD, 0xDE, 0xEF, 0xBE, 0xAD, 0xDE];
    assert_eq!(download::<u8>(a, 16), expected);
    ok(unsafe { sys::cuMemsetD16Async(a + 4, 0x5678, 1, NO_STREAM) });
    assert_eq!(download::<u16>(a + 4, 2), [0x5678, 0x1234]);
    assert_eq!(unsafe { sys::cuMemsetD32_v2(a + 2, 0, 1) }, CUDA_ERROR_INVALID_VALUE, "misaligned");
    assert_eq!(unsafe { sys::cuMemsetD32_v2(0, 0, 1) }, CUDA_ERROR_INVALID_VALUE, "null");
    ok(unsafe { sys::cuMemsetD8_v2(a, 0, 0) });
}

#[test]
fn out_of_bounds_copies_and_invalid_allocations_are_refused() {
    let _context = context();
    let a = alloc(100);
    let mut buffer = [0u8; 1 << 20];
    let to = buffer.as_mut_ptr().cast();
    assert_eq!(unsafe { sys::cuMemcpyHtoD_v2(a, to, 1 << 20) }, CUDA_ERROR_INVALID_VALUE, "beyond the end");
    assert_eq!(unsafe { sys::cuMemcpyDtoH_v2(to, 0x10, 8) }, CUDA_ERROR_INVALID_VALUE, "not in an allocation");
    assert_eq!(unsafe { sys::cuMemcpyDtoH_v2(null_mut(), a, 8) }, CUDA_ERROR_INVALID_VALUE, "null host pointer");
    let mut address = 0;
    assert_eq!(unsafe { sys::cuMemAlloc_v2(&mut address, 0) }, CUDA_ERROR_INVALID_VALUE);
    assert_eq!(unsafe { sys::cuMemAlloc_v2(null_mut(), 8) }, CUDA_ERROR_INVALID_VALUE);
    assert_eq!(unsafe { sys::cuMemAlloc_v2(&mut address, 1 << 50) }, CUDA_ERROR_OUT_OF_MEMORY);
    assert_eq!(unsafe { sys::cuMemFree_v2(a + 4) }, CUDA_ERROR_INVALID_VALUE, "not the start of an allocation");
    ok(unsafe { sys::cuMemFree_v2(a) });
    assert_eq!(unsafe { sys::cuMemFree_v2(a) }, CUDA_ERROR_INVALID_VALUE, "freed twice");
    ok(unsafe { sys::cuMemFree_v2(0) });
}

#[test]
fn free_memory_falls_and_rises_with_allocations() {
    let _context = context();
    let info = || {
        let (mut free, mut total) = (0, 0);
        ok(unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) });
        (free, total)
    };
    let before = info();
    let a = alloc(64 << 20);
    assert!(before.0 - info().0 >= 64 << 20);
    let (mut base, mut size) = (0, 0);
    ok(unsafe { sys::cuMemGetAddressRange_v2(&mut base, &mut size, a + 1000) });
    assert_eq!((base, size), (a, 64 << 20));
    ok(unsafe { sys::cuMemFree_v2(a) });
    assert_eq!(info(), before);
    let mut total = 0;
    ok(unsafe { sys::cuDeviceTotalMem_v2(&mut total, 0) });
    assert!(total >= before.1);
}

#[test]
fn pinned_memory_can_be_copied_and_is_released_once() {
    let _context = context();
    let mut pinned = null_mut();
    ok(unsafe { sys::cuMemHostAlloc(&mut pinned, 4096, 1) });
    let values = unsafe { std::slice::from_raw_parts_mut(pinned.cast::<u32>(), 1024) };
    values.fill(5);
    let a = alloc(4096);
    ok(unsafe { sys::cuMemcpyHtoDAsync_v2(a, pinned, 4096, NO_STREAM) });
    assert_eq!(download::<u32>(a, 1024), vec![5; 1024]);
    let mut flags = 0;
    ok(unsafe { sys::cuMemHostGetFlags(&mut flags, pinned) });
    assert_eq!(flags & 1, 1);
    ok(unsafe { sys::cuMemFreeHost(pinned) });
    assert_eq!(unsafe { sys::cuMemFreeHost(pinned) }, CUDA_ERROR_INVALID_VALUE, "freed twice");
    ok(unsafe { sys::cuMemAllocHost_v2(&mut pinned, 10) });
    ok(unsafe { sys::cuMemFreeHost(pinned) });

    let mut page = vec![0u8; 8192];
    let at = page.as_mut_ptr().cast();
    ok(unsafe { sys::cuMemHostRegister_v2(at, 8192, 0) });
    assert_eq!(unsafe { sys::cuMemHostRegister_v2(at, 8192, 0) }, CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    ok(unsafe { sys::cuMemHostUnregister(at) });
    assert_eq!(unsafe { sys::cuMemHostUnregister(at) }, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
}

#[test]
fn the_default_pool_counts_its_memory_and_stores_its_threshold() {
    let _context = context();
    let (mut pool, mut same) = (null_mut(), null_mut());
    ok(unsafe { sys::cuDeviceGetDefaultMemPool(&mut pool, 0) });
    ok(unsafe { sys::cuDeviceGetMemPool(&mut same, 0) });
    assert_eq!(pool, same);
    let used = || {
        let mut used = 0u64;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT;
        ok(unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut used).cast()) });
        used
    };
    let (before, mut address) = (used(), 0);
    ok(unsafe { sys::cuMemAllocAsync(&mut address, 1 << 20, NO_STREAM) });
    assert_eq!(used() - before, 1 << 20);
    ok(unsafe { sys::cuMemFreeAsync(address, NO_STREAM) });
    ok(unsafe { sys::cuStreamSynchronize(NO_STREAM) });
    assert_eq!(used(), before);

    let mut threshold = 12345u64;
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    ok(unsafe { sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut threshold).cast()) });
    threshold = 0;
    ok(unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut threshold).cast()) });
    assert_eq!(threshold, 12345);
    ok(unsafe { sys::cuMemPoolTrimTo(pool, 0) });
}

#[test]
fn pitched_allocations_hold_every_row() {
    let _context = context();
    let (mut address, mut pitch) = (0, 0);
    ok(unsafe { sys::cuMemAllocPitch_v2(&mut address, &mut pitch, 100, 7, 4) });
    assert!(pitch >= 100 && pitch % 32 == 0 && address.is_multiple_of(256), "{pitch} {address:#x}");
    let (mut base, mut size) = (0, 0);
    ok(unsafe { sys::cuMemGetAddressRange_v2(&mut base, &mut size, address) });
    assert!(base == address && size >= 6 * pitch + 100, "{size}");
    // The last row is allocated to its end.
    ok(unsafe { sys::cuMemsetD8_v2(address + 6 * pitch as u64, 5, 100) });
    assert_eq!(download::<u8>(address + 6 * pitch as u64, 100), [5; 100]);
    let pitched = |width, height, element| {
        let (mut address, mut pitch) = (0, 0);
        unsafe { sys::cuMemAllocPitch_v2(&mut address, &mut pitch, width, height, element) }
    };
    assert_eq!(pitched(100, 7, 3), CUDA_ERROR_INVALID_VALUE, "elements of 4, 8 or 16 bytes");
    assert_eq!(pitched(0, 7, 4), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(pitched(100, 0, 4), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(pitched(1 << 30, 1 << 30, 4), CUDA_ERROR_OUT_OF_MEMORY);
    ok(unsafe { sys::cuMemFree_v2(address) });
}

#[test]
fn two_dimensional_copies_work_on_a_card_and_are_not_supported_here() {
    let _context = context();
    let (from, to) = (upload(&[0u8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]), upload(&[99u8; 12]));
    let device = sys::CUmemorytype::CU_MEMORYTYPE_DEVICE;
    let copy = sys::CUDA_MEMCPY2D {
        srcXInBytes: 1,
        srcY: 0,
        srcMemoryType: device,
        srcHost: null(),
        srcDevice: from,
        srcArray: null_mut(),
        srcPitch: 4,
        dstXInBytes: 0,
        dstY: 1,
        dstMemoryType: device,
        dstHost: null_mut(),
        dstDevice: to,
        dstArray: null_mut(),
        dstPitch: 6,
        WidthInBytes: 2,
        Height: 1,
    };
    let result = unsafe { sys::cuMemcpy2D_v2(&copy) };
    if real() {
        ok(result);
        assert_eq!(download::<u8>(to, 12), [99, 99, 99, 99, 99, 99, 1, 2, 99, 99, 99, 99]);
    } else {
        assert_eq!(result, CUDA_ERROR_NOT_SUPPORTED, "not supported by the virtual GPU");
    }
}

#[test]
fn copies_between_contexts_preserve_the_data() {
    let first = context();
    let (from, mut second) = (upload(&[1u32, 2, 3, 4]), null_mut());
    ok(unsafe { sys::cuCtxCreate_v2(&mut second, 0, 0) });
    let to = upload(&[0u32; 4]);
    ok(unsafe { sys::cuMemcpyPeer(to, second, from, first.handle, 8) });
    ok(unsafe { sys::cuCtxSynchronize() });
    assert_eq!(download::<u32>(to, 4), [1, 2, 0, 0]);
    let stream = stream(NON_BLOCKING);
    ok(unsafe { sys::cuMemcpyPeerAsync(to + 8, second, from + 8, first.handle, 8, stream) });
    ok(unsafe { sys::cuStreamSynchronize(stream) });
    assert_eq!(download::<u32>(to, 4), [1, 2, 3, 4]);
    assert_ne!(unsafe { sys::cuMemcpyPeer(to, second, from, first.handle, 1 << 40) }, CUDA_SUCCESS, "beyond the end");
    ok(unsafe { sys::cuCtxDestroy_v2(second) });
}

#[test]
fn pointer_attributes_tell_device_memory_from_host_memory() {
    let _context = context();
    let a = alloc(1000);
    let mut pinned = null_mut();
    ok(unsafe { sys::cuMemHostAlloc(&mut pinned, 64, 0) });
    let kind = |address: CUdeviceptr| {
        let (mut kind, attribute) = (0u32, sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE);
        match unsafe { sys::cuPointerGetAttribute((&raw mut kind).cast(), attribute, address) } {
            CUDA_SUCCESS => Ok(kind),
            error => Err(error),
        }
    };
    assert_eq!(kind(a + 999), Ok(sys::CUmemorytype::CU_MEMORYTYPE_DEVICE as u32));
    assert_eq!(kind(pinned as CUdeviceptr), Ok(sys::CUmemorytype::CU_MEMORYTYPE_HOST as u32));
    assert_eq!(kind(0x10), Err(CUDA_ERROR_INVALID_VALUE));
    let (mut base, attribute) = (0u64, sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_RANGE_START_ADDR);
    ok(unsafe { sys::cuPointerGetAttribute((&raw mut base).cast(), attribute, a + 10) });
    assert_eq!(base, a);
    ok(unsafe { sys::cuMemFreeHost(pinned) });
}
