//! A launch that may start before the previous one has ended: `kernels/hopper/dependent.cu`.

use std::ffi::c_void;
use std::ptr::null_mut;

use super::*;

fn launch(function: CUfunction, blocks: u32, arguments: &[*const c_void], programmatic: bool) -> CUresult {
    let mut arguments: Vec<*mut c_void> = arguments.iter().map(|argument| argument.cast_mut()).collect();
    let mut attribute: sys::CUlaunchAttribute = unsafe { std::mem::zeroed() };
    attribute.id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attribute.value.programmaticStreamSerializationAllowed = 1;
    let config = sys::CUlaunchConfig {
        gridDimX: blocks,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: 64,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream: null_mut(),
        attrs: &mut attribute,
        numAttrs: programmatic.into(),
    };
    unsafe { sys::cuLaunchKernelEx(&config, function, arguments.as_mut_ptr(), null_mut()) }
}

fn pointer<T>(value: &T) -> *const c_void {
    (value as *const T).cast()
}

#[test]
fn a_dependent_launch_reads_what_the_first_has_written_after_its_wait() {
    let Some(_context) = hopper() else { return };
    let module = compile(&older(include_str!("../kernels/hopper/dependent.ptx")));
    let (first, second) = (function(module, "first"), function(module, "second"));
    for (n, programmatic) in [(1u32, true), (1000, true), (1000, false)] {
        let blocks = n.div_ceil(64);
        let bias = Rng(40).floats(n as usize);
        let (x, bias_at, y) = (alloc(4 * n as usize), upload(&bias), alloc(4 * n as usize));
        let reads = [pointer(&x), pointer(&bias_at), pointer(&y), pointer(&n)];
        // Three pairs in a row: each first kernel overwrites what the second before it reads, so it is no dependent.
        for _ in 0..3 {
            ok(launch(first, blocks, &[pointer(&x), pointer(&n)], false));
            ok(launch(second, blocks, &reads, programmatic));
        }
        ok(unsafe { sys::cuCtxSynchronize() });
        let y: Vec<f32> = download(y, n as usize);
        let wanted = |i: usize| 2.0 * (n as usize - 1 - i) as f32 + 1.0 + bias[i];
        assert!((0..n as usize).all(|i| y[i] == wanted(i)), "{n}");
    }
}

/// Only the virtual GPU tells: on a card this is a race.
#[test]
fn a_dependent_launch_without_its_wait_is_caught_unless_a_copy_came_between() {
    if real() {
        return;
    }
    let ptx = include_str!("../kernels/hopper/dependent.ptx").replace("griddepcontrol.wait;", "");
    let n = 200u32;
    for (between, attribute, caught) in [(false, true, true), (false, false, false), (true, true, false)] {
        let Some(_context) = hopper() else { return };
        let module = compile(&older(&ptx));
        let [x, bias, y] = [0, 1, 2].map(|_| upload(&vec![1f32; n as usize]));
        ok(launch(function(module, "first"), 4, &[pointer(&x), pointer(&n)], false));
        if between {
            ok(unsafe { sys::cuMemsetD32Async(bias, 0, n as usize, null_mut()) });
        }
        let reads = [pointer(&x), pointer(&bias), pointer(&y), pointer(&n)];
        ok(launch(function(module, "second"), 4, &reads, attribute));
        let ended = unsafe { sys::cuCtxSynchronize() };
        let wanted = if caught { CUresult::CUDA_ERROR_LAUNCH_FAILED } else { CUresult::CUDA_SUCCESS };
        assert_eq!(ended, wanted, "a copy between: {between}, the attribute: {attribute}");
    }
}
