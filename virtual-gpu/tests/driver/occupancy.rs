//! Occupancy and the attributes of functions.

use super::*;
use sys::CUfunction_attribute as Attribute;

fn attribute(function: CUfunction, attribute: Attribute) -> i32 {
    let mut value = -1;
    ok(unsafe { sys::cuFuncGetAttribute(&mut value, attribute, function) });
    value
}

#[test]
fn function_attributes_report_limits_and_sizes() {
    let _context = context();
    let module = load(PTX).unwrap();
    let (adder, bounded) = (function(module, "add"), function(module, "bounded"));
    assert_eq!(attribute(adder, Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK), 1024);
    assert_eq!(attribute(bounded, Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK), 128);
    assert_eq!(attribute(bounded, Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES), 1024);
    assert_eq!(attribute(bounded, Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES), 47 << 10);
    assert_eq!(attribute(adder, Attribute::CU_FUNC_ATTRIBUTE_PTX_VERSION), 70);
    assert!((1..=255).contains(&attribute(adder, Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)));
    ok(unsafe { sys::cuFuncSetCacheConfig(adder, sys::CUfunc_cache::CU_FUNC_CACHE_PREFER_L1) });
}

#[test]
fn occupancy_falls_with_threads_and_shared_memory() {
    let _context = context();
    let adder = adder();
    let blocks = |threads, shared| {
        let mut blocks = -1;
        ok(unsafe { sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut blocks, adder, threads, shared) });
        blocks
    };
    assert!(blocks(32, 0) >= blocks(256, 0) && blocks(256, 0) >= 2);
    assert!(blocks(128, 40 << 10) < blocks(128, 0));
    let (mut grid, mut block) = (0, 0);
    ok(unsafe { sys::cuOccupancyMaxPotentialBlockSize(&mut grid, &mut block, adder, None, 0, 256) });
    assert!(grid > 0 && block > 0 && block <= 256 && block % 32 == 0);
    let (mut count, mut bytes) = (-1, 0);
    assert_eq!(
        unsafe { sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut count, adder, 0, 0) },
        CUDA_ERROR_INVALID_VALUE
    );
    ok(unsafe { sys::cuOccupancyAvailableDynamicSMemPerBlock(&mut bytes, adder, 1, 128) });
    assert!(bytes >= 48 << 10);
    if !real() {
        assert_eq!((blocks(256, 0), blocks(128, 48 << 10)), (8, 3));
        assert_eq!(bytes, 163 << 10);
    }
}
