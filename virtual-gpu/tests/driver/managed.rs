//! Managed memory: one address for the host and for kernels, advice, prefetches, and the errors of each call.

use super::*;
use sys::{CUmem_range_attribute as Range, CUpointer_attribute as Pointer};

const GLOBAL: u32 = 1;
const SINGLE: u32 = 4;
const CPU: i32 = -1;
const NO_DEVICE: i32 = -2;

fn managed(bytes: usize) -> CUdeviceptr {
    let mut address = 0;
    ok(unsafe { sys::cuMemAllocManaged(&mut address, bytes, GLOBAL) });
    address
}

/// Whether the host may access managed memory at any time; not so on every card.
fn concurrent() -> bool {
    attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS) != 0
}

fn host<'a>(address: CUdeviceptr, words: usize) -> &'a mut [u32] {
    unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(address as usize), words) }
}

#[test]
fn the_host_and_kernels_see_the_same_bytes_at_one_address() {
    let _context = context();
    let (a, adder) = (managed(4000), adder());
    assert!(a.is_multiple_of(4096), "{a:#x} is the start of a page");
    for (i, word) in host(a, 1000).iter_mut().enumerate() {
        *word = i as u32;
    }
    ok(add(adder, NO_STREAM, a, 7, 1000));
    ok(unsafe { sys::cuCtxSynchronize() });
    assert!(host(a, 1000).iter().enumerate().all(|(i, word)| *word == i as u32 + 7));
    host(a, 1000)[3] = 100;
    ok(add(adder, NO_STREAM, a + 12, 1, 1));
    assert_eq!(download::<u32>(a, 5), [7, 8, 9, 101, 11]);
    ok(unsafe { sys::cuMemFree_v2(a) });
    assert_eq!(unsafe { sys::cuMemFree_v2(a) }, CUDA_ERROR_INVALID_VALUE, "freed twice");
}

#[test]
fn managed_memory_is_copied_as_host_and_as_device_memory() {
    let _context = context();
    let (a, b) = (managed(64), alloc(64));
    host(a, 16).fill(3);
    let pointer = std::ptr::with_exposed_provenance_mut(a as usize);
    ok(unsafe { sys::cuMemcpyHtoD_v2(b, pointer, 64) });
    assert_eq!(download::<u32>(b, 16), [3; 16]);
    ok(unsafe { sys::cuMemsetD32_v2(b, 5, 16) });
    ok(unsafe { sys::cuMemcpyDtoH_v2(pointer, b, 32) });
    ok(unsafe { sys::cuMemcpyDtoD_v2(a + 32, b, 16) });
    assert_eq!(host(a, 16), [[5; 12].as_slice(), &[3; 4]].concat());
    // Within one allocation the ranges may overlap.
    host(a, 16).iter_mut().zip(0..).for_each(|(word, i)| *word = i);
    ok(unsafe { sys::cuMemcpy(a + 4, a, 12) });
    assert_eq!(host(a, 5), [0, 0, 1, 2, 4]);
    ok(unsafe { sys::cuMemFree_v2(a) });
}

#[test]
fn an_access_past_managed_memory_is_trapped() {
    if real() {
        return;
    }
    let _context = context();
    let a = managed(4096);
    ok(add(adder(), NO_STREAM, a + 4096, 1, 1));
    assert_eq!(unsafe { sys::cuCtxSynchronize() }, CUDA_ERROR_ILLEGAL_ADDRESS);
}

#[test]
fn invalid_managed_allocations_and_attachments_are_refused() {
    let _context = context();
    let mut address = 0;
    let mut allocate = |bytes, flags| unsafe { sys::cuMemAllocManaged(&mut address, bytes, flags) };
    assert_eq!(allocate(0, GLOBAL), CUDA_ERROR_INVALID_VALUE, "no bytes");
    for flags in [0, 3, SINGLE, 8] {
        assert_eq!(allocate(64, flags), CUDA_ERROR_INVALID_VALUE, "flags {flags}");
    }
    assert_eq!(unsafe { sys::cuMemAllocManaged(null_mut(), 64, GLOBAL) }, CUDA_ERROR_INVALID_VALUE);
    let (a, device, own) = (managed(8192), alloc(64), stream(NON_BLOCKING));
    let attach = |stream, address, bytes, flags| unsafe { sys::cuStreamAttachMemAsync(stream, address, bytes, flags) };
    ok(attach(own, a, 0, SINGLE));
    ok(attach(own, a, 8192, GLOBAL));
    assert_eq!(attach(NO_STREAM, a, 0, SINGLE), CUDA_ERROR_INVALID_VALUE, "the null stream");
    assert_eq!(attach(own, a, 0, SINGLE | GLOBAL), CUDA_ERROR_INVALID_VALUE, "two flags");
    assert_eq!(attach(own, a, 4096, SINGLE), CUDA_ERROR_INVALID_VALUE, "a part");
    assert_eq!(attach(own, a + 4096, 0, SINGLE), CUDA_ERROR_INVALID_VALUE, "from the middle");
    assert_eq!(attach(own, device, 0, SINGLE), CUDA_ERROR_INVALID_VALUE, "not managed");
    ok(unsafe { sys::cuMemFree_v2(a) });
}

#[test]
fn advice_and_prefetches_are_told_for_each_range() {
    let _context = context();
    if !concurrent() {
        return;
    }
    let (a, device) = (managed(3 * 4096), alloc(64));
    let get = |attribute: Range, address, bytes| {
        let mut value = 77i32;
        match unsafe { sys::cuMemRangeGetAttribute((&raw mut value).cast(), 4, attribute, address, bytes) } {
            CUDA_SUCCESS => Ok(value),
            error => Err(error),
        }
    };
    use Range::*;
    assert_eq!(get(CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, a, 4096), Ok(0));
    assert_eq!(get(CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, a, 4096), Ok(NO_DEVICE));
    let advise = |address, bytes, advice, device| unsafe { sys::cuMemAdvise(address, bytes, advice, device) };
    use sys::CUmem_advise::*;
    ok(advise(a, 4096, CU_MEM_ADVISE_SET_READ_MOSTLY, 0));
    assert_eq!(get(CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, a, 4096), Ok(1));
    assert_eq!(get(CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, a, 8192), Ok(0), "not of every page");
    ok(advise(a, 4096, CU_MEM_ADVISE_UNSET_READ_MOSTLY, 0));
    assert_eq!(get(CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, a, 4096), Ok(0));
    ok(advise(a, 8192, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, CPU));
    assert_eq!(get(CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION, a, 8192), Ok(CPU));
    ok(advise(a, 4096, CU_MEM_ADVISE_SET_ACCESSED_BY, 0));
    let mut accessed = [77i32; 3];
    let kind = CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY;
    ok(unsafe { sys::cuMemRangeGetAttribute(accessed.as_mut_ptr().cast(), 12, kind, a, 4096) });
    assert_eq!(accessed, [0, NO_DEVICE, NO_DEVICE]);
    ok(unsafe { sys::cuMemPrefetchAsync(a, 8192, 0, NO_STREAM) });
    ok(unsafe { sys::cuMemPrefetchAsync(a + 4096, 4096, CPU, NO_STREAM) });
    assert_eq!(get(CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, a, 4096), Ok(0));
    assert_eq!(get(CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, a + 4096, 4096), Ok(CPU));
    let (mut first, mut second) = (77i32, 77i32);
    let (mut data, mut sizes) = ([(&raw mut first).cast(), (&raw mut second).cast()], [4, 4]);
    let mut kinds = [CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION];
    let (data, sizes, kinds) = (data.as_mut_ptr(), sizes.as_mut_ptr(), kinds.as_mut_ptr());
    ok(unsafe { sys::cuMemRangeGetAttributes(data, sizes, kinds, 2, a, 4096) });
    assert_eq!((first, second), (0, CPU));

    assert_eq!(advise(a, 0, CU_MEM_ADVISE_SET_READ_MOSTLY, 0), CUDA_ERROR_INVALID_VALUE, "no bytes");
    assert_eq!(advise(a, 1 << 20, CU_MEM_ADVISE_SET_READ_MOSTLY, 0), CUDA_ERROR_INVALID_VALUE, "past the end");
    assert_eq!(advise(device, 64, CU_MEM_ADVISE_SET_READ_MOSTLY, 0), CUDA_ERROR_INVALID_VALUE, "not managed");
    assert_eq!(advise(a, 4096, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, 99), CUDA_ERROR_INVALID_DEVICE);
    assert_eq!(unsafe { sys::cuMemPrefetchAsync(a, 4096, 99, NO_STREAM) }, CUDA_ERROR_INVALID_DEVICE);
    assert_eq!(unsafe { sys::cuMemPrefetchAsync(device, 64, 0, NO_STREAM) }, CUDA_ERROR_INVALID_VALUE);
    assert_eq!(get(CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, device, 64), Err(CUDA_ERROR_INVALID_VALUE));
    ok(unsafe { sys::cuMemFree_v2(a) });
}

#[test]
fn pointer_attributes_tell_managed_memory() {
    let _context = context();
    let (a, device) = (managed(100), alloc(64));
    let told = |address: CUdeviceptr| {
        let (mut managed, mut ordinal, mut start) = (77u32, 77i32, 77u64);
        let mut kinds = [
            Pointer::CU_POINTER_ATTRIBUTE_IS_MANAGED,
            Pointer::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
            Pointer::CU_POINTER_ATTRIBUTE_DEVICE_POINTER,
        ];
        let mut values = [(&raw mut managed).cast(), (&raw mut ordinal).cast(), (&raw mut start).cast()];
        ok(unsafe { sys::cuPointerGetAttributes(3, kinds.as_mut_ptr(), values.as_mut_ptr(), address) });
        (managed & 1, ordinal, start)
    };
    assert_eq!(told(a + 4), (1, 0, a + 4));
    assert_eq!(told(device), (0, 0, device));
    let local = 0u32;
    assert_eq!(told(pointer(&local) as CUdeviceptr), (0, NO_DEVICE, 0), "unknown to the driver");
    let mut host = null_mut::<c_void>();
    let kind = Pointer::CU_POINTER_ATTRIBUTE_HOST_POINTER;
    ok(unsafe { sys::cuPointerGetAttribute((&raw mut host).cast(), kind, a + 8) });
    assert_eq!(host as u64, a + 8);
    ok(unsafe { sys::cuMemFree_v2(a) });
}
