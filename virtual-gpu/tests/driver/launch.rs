//! Launches: arguments in both forms, limits, dynamic shared memory.

use super::*;
use sys::CUfunction_attribute as Attribute;

#[test]
fn arguments_of_every_size_arrive_as_pointers_and_as_a_buffer() {
    let _context = context();
    let to = upload(&[0u32; 7]);
    let (small, half, word, structure, double, last) = (200u8, 60000u16, 0xDEAD_BEEFu32, [1u32, 2, 3], 2.5f64, 9u8);
    let arguments = [
        pointer(&to),
        pointer(&small),
        pointer(&half),
        pointer(&word),
        pointer(&structure),
        pointer(&double),
        pointer(&last),
    ];
    let kernel = function(load(PTX).unwrap(), "parameters");
    let bits = double.to_bits();
    let expected = [200, 60000, 0xDEAD_BEEF, 3, bits as u32, (bits >> 32) as u32, 9];
    ok(launch(kernel, 1, 0, NO_STREAM, &arguments));
    assert_eq!(download::<u32>(to, 7), expected);

    // The same in one buffer, laid out as C would.
    #[repr(C)]
    struct Buffer(u64, u8, u16, u32, [u32; 3], f64, u8);
    let buffer = Buffer(to, small, half, word, structure, double, last);
    let size = size_of::<Buffer>();
    ok(unsafe { sys::cuMemsetD8_v2(to, 0, 28) });
    let extra = |size: &usize| {
        // Pairs of option and value (1: the buffer, 2: a pointer to its size), terminated by 0.
        let mut extra = [1, pointer(&buffer) as usize, 2, pointer(size) as usize, 0];
        unsafe { sys::cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, NO_STREAM, null_mut(), extra.as_mut_ptr().cast()) }
    };
    ok(extra(&size));
    assert_eq!(download::<u32>(to, 7), expected);
    assert_eq!(extra(&8), CUDA_ERROR_INVALID_VALUE, "a buffer too small");
}

#[test]
fn launch_shapes_beyond_the_limits_are_refused() {
    let _context = context();
    let module = load(PTX).unwrap();
    let (kernel, bounded) = (function(module, "count"), function(module, "bounded"));
    let shape = |grid: [u32; 3], block: [u32; 3], shared| unsafe {
        let [x, y, z] = grid;
        let [a, b, c] = block;
        sys::cuLaunchKernel(kernel, x, y, z, a, b, c, shared, NO_STREAM, null_mut(), null_mut())
    };
    ok(shape([1, 1, 1], [1, 1, 1], 0));
    for (grid, block) in [
        ([0, 1, 1], [1, 1, 1]),
        ([1, 65536, 1], [1, 1, 1]),
        ([1 << 31, 1, 1], [1, 1, 1]),
        ([1, 1, 1], [0, 1, 1]),
        ([1, 1, 1], [1025, 1, 1]),
        ([1, 1, 1], [1, 1, 65]),
        ([1, 1, 1], [32, 32, 2]),
    ] {
        assert_eq!(shape(grid, block, 0), CUDA_ERROR_INVALID_VALUE, "{grid:?} {block:?}");
    }
    assert_ne!(launch(bounded, 129, 0, NO_STREAM, &[]), CUDA_SUCCESS, "more than .maxntid");
    ok(launch(bounded, 128, 0, NO_STREAM, &[]));
    ok(unsafe { sys::cuCtxSynchronize() });
    if !real() {
        let (add, nothing) = (function(module, "add"), null_mut());
        let none = unsafe { sys::cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, NO_STREAM, nothing, nothing.cast()) };
        assert_eq!(none, CUDA_ERROR_INVALID_VALUE, "no arguments");
    }
}

#[test]
fn dynamic_shared_memory_above_48_kb_needs_the_attribute() {
    let _context = context();
    let kernel = function(load(PTX).unwrap(), "through_shared");
    let (to, limit) = (upload(&[0u32]), Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
    let through = |bytes: u32| launch(kernel, 1, bytes, NO_STREAM, &[pointer(&to), pointer(&bytes)]);
    ok(through(48 << 10));
    assert_eq!(through(64 << 10), CUDA_ERROR_INVALID_VALUE, "48 KB unless the function is allowed more");
    ok(unsafe { sys::cuFuncSetAttribute(kernel, limit, 64 << 10) });
    ok(unsafe { sys::cuMemsetD32_v2(to, 0, 1) });
    ok(through(64 << 10));
    assert_eq!(download::<u32>(to, 1), [1234]);
    let mut value = 0;
    ok(unsafe { sys::cuFuncGetAttribute(&mut value, limit, kernel) });
    assert_eq!(value, 64 << 10);
    assert_eq!(unsafe { sys::cuFuncSetAttribute(kernel, limit, 1 << 20) }, CUDA_ERROR_INVALID_VALUE);
    assert_eq!(unsafe { sys::cuFuncSetAttribute(kernel, limit, -1) }, CUDA_ERROR_INVALID_VALUE);
}

#[test]
fn launches_run_on_every_kind_of_stream() {
    let _context = context();
    let (adder, a) = (adder(), upload(&[0u32; 64]));
    let created = [stream(0), stream(NON_BLOCKING)];
    for stream in [NO_STREAM, 1 as CUstream, 2 as CUstream, created[0], created[1]] {
        ok(add(adder, stream, a, 1, 64));
        ok(unsafe { sys::cuStreamSynchronize(stream) });
    }
    assert_eq!(download::<u32>(a, 64), [5; 64]);
}

#[test]
fn harmless_launch_attributes_are_accepted_and_cooperative_launches_refused() {
    let _context = context();
    let (adder, to, value, stream) = (adder(), upload(&[0u32; 64]), 5u32, stream(NON_BLOCKING));
    let mut arguments = [pointer(&to).cast_mut(), pointer(&value).cast_mut()];
    let arguments = arguments.as_mut_ptr();
    let mut attributes: [sys::CUlaunchAttribute; 1] = unsafe { std::mem::zeroed() };
    let mut ex = |threads: u32, count: u32, attribute: sys::CUlaunchAttributeID, value: i32| {
        attributes[0].id = attribute;
        attributes[0].value.cooperative = value;
        let config = sys::CUlaunchConfig {
            gridDimX: 1,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            hStream: stream,
            attrs: if count == 0 { null_mut() } else { attributes.as_mut_ptr() },
            numAttrs: count,
        };
        unsafe { sys::cuLaunchKernelEx(&config, adder, arguments, null_mut()) }
    };
    use sys::CUlaunchAttributeID::*;
    ok(ex(64, 0, CU_LAUNCH_ATTRIBUTE_IGNORE, 0));
    ok(ex(64, 1, CU_LAUNCH_ATTRIBUTE_IGNORE, 0));
    ok(ex(64, 1, CU_LAUNCH_ATTRIBUTE_COOPERATIVE, 0));
    ok(ex(32, 1, CU_LAUNCH_ATTRIBUTE_PRIORITY, 0));
    ok(unsafe { sys::cuStreamSynchronize(stream) });
    assert_eq!(download::<u32>(to, 64), [[20; 32], [15; 32]].concat());
    assert_eq!(ex(0, 0, CU_LAUNCH_ATTRIBUTE_IGNORE, 0), CUDA_ERROR_INVALID_VALUE, "no threads");
    assert_eq!(ex(1025, 0, CU_LAUNCH_ATTRIBUTE_IGNORE, 0), CUDA_ERROR_INVALID_VALUE, "too many threads");
    if !real() {
        let none = unsafe { sys::cuLaunchKernelEx(null(), adder, arguments, null_mut()) };
        assert_eq!(none, CUDA_ERROR_INVALID_VALUE, "no configuration");
        assert_eq!(ex(64, 1, CU_LAUNCH_ATTRIBUTE_COOPERATIVE, 1), CUDA_ERROR_NOT_SUPPORTED);
    }
}
