//! Memory pools created by a program.

use super::*;
use sys::{CUmemPool_attribute as Attribute, CUmemoryPool};

fn number(pool: CUmemoryPool, attribute: Attribute) -> u64 {
    let mut value = 0u64;
    ok(unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut value).cast()) });
    value
}

fn create() -> CUmemoryPool {
    let mut properties: sys::CUmemPoolProps = unsafe { std::mem::zeroed() };
    properties.allocType = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
    let mut pool = null_mut();
    ok(unsafe { sys::cuMemPoolCreate(&mut pool, &properties) });
    assert!(!pool.is_null());
    pool
}

#[test]
fn allocations_count_only_in_their_own_pool() {
    let _context = context();
    let (pool, mut default, mut address) = (create(), null_mut(), 0);
    let used = |pool| number(pool, Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT);
    ok(unsafe { sys::cuDeviceGetDefaultMemPool(&mut default, 0) });
    assert_ne!(pool, default);
    let before = used(default);
    ok(unsafe { sys::cuMemAllocFromPoolAsync(&mut address, 1 << 20, pool, NO_STREAM) });
    assert_eq!((used(pool), used(default)), (1 << 20, before));
    assert!(number(pool, Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) >= 1 << 20);
    ok(unsafe { sys::cuMemsetD32Async(address, 7, 4, NO_STREAM) });
    assert_eq!(download::<u32>(address, 4), [7; 4]);
    ok(unsafe { sys::cuMemFreeAsync(address, NO_STREAM) });
    ok(unsafe { sys::cuStreamSynchronize(NO_STREAM) });
    assert_eq!(used(pool), 0);
    assert_eq!(unsafe { sys::cuMemPoolCreate(&mut null_mut(), null()) }, CUDA_ERROR_INVALID_VALUE);
    ok(unsafe { sys::cuMemPoolDestroy(pool) });
    assert_ne!(unsafe { sys::cuMemPoolDestroy(default) }, CUDA_SUCCESS, "the default pool stays");
}

#[test]
fn memory_outlives_the_handle_of_its_pool() {
    let _context = context();
    let (pool, mut address) = (create(), 0);
    ok(unsafe { sys::cuMemAllocFromPoolAsync(&mut address, 64, pool, NO_STREAM) });
    ok(unsafe { sys::cuMemPoolDestroy(pool) });
    ok(unsafe { sys::cuMemsetD32Async(address, 9, 16, NO_STREAM) });
    assert_eq!(download::<u32>(address, 16), [9; 16]);
    ok(unsafe { sys::cuMemFreeAsync(address, NO_STREAM) });
    ok(unsafe { sys::cuStreamSynchronize(NO_STREAM) });
}

#[test]
fn the_current_pool_can_be_changed_and_falls_back_to_the_default() {
    let _context = context();
    let (pool, mut default, mut current, mut address) = (create(), null_mut(), null_mut(), 0);
    ok(unsafe { sys::cuDeviceGetDefaultMemPool(&mut default, 0) });
    ok(unsafe { sys::cuDeviceSetMemPool(0, pool) });
    ok(unsafe { sys::cuDeviceGetMemPool(&mut current, 0) });
    assert_eq!(current, pool);
    ok(unsafe { sys::cuMemAllocAsync(&mut address, 1 << 20, NO_STREAM) });
    assert_eq!(number(pool, Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 1 << 20);
    ok(unsafe { sys::cuMemFreeAsync(address, NO_STREAM) });
    ok(unsafe { sys::cuStreamSynchronize(NO_STREAM) });
    // Destroying the current pool makes the default pool current.
    ok(unsafe { sys::cuMemPoolDestroy(pool) });
    ok(unsafe { sys::cuDeviceGetMemPool(&mut current, 0) });
    assert_eq!(current, default);
}

#[test]
fn pool_attributes_are_stored_and_high_water_marks_only_reset() {
    let _context = context();
    let pool = create();
    let attribute = Attribute::CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC;
    let mut flag = -1i32;
    ok(unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut flag).cast()) });
    assert_eq!(flag, 1, "on by default");
    flag = 0;
    ok(unsafe { sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut flag).cast()) });
    flag = -1;
    ok(unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut flag).cast()) });
    assert_eq!(flag, 0);
    assert_eq!(number(pool, Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD), 0);
    let mut high = 1u64;
    let attribute = Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
    let set = unsafe { sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut high).cast()) };
    assert_eq!(set, CUDA_ERROR_INVALID_VALUE, "a high-water mark can only be reset");
    high = 0;
    ok(unsafe { sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut high).cast()) });
    ok(unsafe { sys::cuMemPoolTrimTo(pool, 0) });
    ok(unsafe { sys::cuMemPoolDestroy(pool) });
}
