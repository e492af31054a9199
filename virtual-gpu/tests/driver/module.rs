//! Modules, libraries, and the errors for PTX that cannot be loaded.

use super::*;
use sys::CUjit_option as Jit;

#[test]
fn functions_and_globals_are_found_by_name() {
    let _context = context();
    let module = load(PTX).unwrap();
    assert_eq!(function(module, "add"), function(module, "add"), "one handle");
    let (mut none, mut address, mut bytes) = (null_mut(), 0, 0);
    let missing = unsafe { sys::cuModuleGetFunction(&mut none, module, c"no_such_kernel".as_ptr()) };
    assert_eq!(missing, CUDA_ERROR_NOT_FOUND);
    ok(launch(function(module, "count"), 1, 0, NO_STREAM, &[]));
    ok(unsafe { sys::cuModuleGetGlobal_v2(&mut address, &mut bytes, module, c"counter".as_ptr()) });
    assert_eq!(bytes, 4);
    assert_eq!(download::<u32>(address, 1), [42]);
    let missing = unsafe { sys::cuModuleGetGlobal_v2(&mut address, &mut bytes, module, c"nothing".as_ptr()) };
    assert_eq!(missing, CUDA_ERROR_NOT_FOUND);
    ok(unsafe { sys::cuModuleUnload(module) });
}

#[test]
fn modules_load_from_a_file() {
    let _context = context();
    let path = std::env::temp_dir().join(format!("virtual-gpu-{}.ptx", std::process::id()));
    std::fs::write(&path, PTX).unwrap();
    let (mut module, name) = (null_mut(), CString::new(path.to_str().unwrap()).unwrap());
    ok(unsafe { sys::cuModuleLoad(&mut module, name.as_ptr()) });
    function(module, "add");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(unsafe { sys::cuModuleLoad(&mut module, name.as_ptr()) }, CUDA_ERROR_FILE_NOT_FOUND);
}

#[test]
fn library_kernels_launch_as_functions() {
    let _context = context();
    let text = CString::new(PTX).unwrap();
    let (mut library, mut kernel, mut inside) = (null_mut(), null_mut(), null_mut());
    let (none, no) = (null_mut(), null_mut());
    unsafe {
        ok(sys::cuLibraryLoadData(&mut library, text.as_ptr().cast(), none, no, 0, null_mut(), null_mut(), 0));
        ok(sys::cuLibraryGetKernel(&mut kernel, library, c"add".as_ptr()));
        ok(sys::cuKernelGetFunction(&mut inside, kernel));
    }
    let a = upload(&[1u32; 4]);
    ok(add(inside, NO_STREAM, a, 1, 4));
    // A launch accepts the kernel handle in place of the function.
    ok(add(kernel.cast(), NO_STREAM, a, 1, 4));
    assert_eq!(download::<u32>(a, 4), [3; 4]);
    ok(unsafe { sys::cuLibraryUnload(library) });
}

#[test]
fn each_kind_of_invalid_image_has_its_own_error() {
    let _context = context();
    assert_eq!(load("not a module"), Err(CUDA_ERROR_INVALID_IMAGE));
    assert_eq!(load(""), Err(CUDA_ERROR_INVALID_IMAGE));
    assert_eq!(load(".version 99.0\n.target sm_70\n.address_size 64\n"), Err(CUDA_ERROR_UNSUPPORTED_PTX_VERSION));
    assert_eq!(load(&PTX.replace("add.s32 %r4, %r3, %r1;", "no.such.instruction %r4;")), Err(CUDA_ERROR_INVALID_PTX));
    if !real() {
        assert_eq!(load("\x7fELF"), Err(CUDA_ERROR_NO_BINARY_FOR_GPU));
        assert_eq!(load(&PTX.replace("sm_70", "sm_90")), Err(CUDA_ERROR_INVALID_PTX), "the device is an 8.0");
    }
}

#[test]
fn the_error_log_names_the_line_and_stays_in_its_buffer() {
    let _context = context();
    let text = CString::new(PTX.replace("add.s32 %r4, %r3, %r1;", "no.such.instruction %r4;")).unwrap();
    let load = |room: usize| {
        let mut log = vec![0xFFu8; 4096];
        let mut options = [Jit::CU_JIT_ERROR_LOG_BUFFER, Jit::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        let mut values: [*mut c_void; 2] = [log.as_mut_ptr().cast(), room as _];
        let mut module = null_mut();
        let (names, values) = (options.as_mut_ptr(), values.as_mut_ptr());
        let result = unsafe { sys::cuModuleLoadDataEx(&mut module, text.as_ptr().cast(), 2, names, values) };
        assert_eq!(result, CUDA_ERROR_INVALID_PTX);
        assert!(log[room..].iter().all(|byte| *byte == 0xFF), "beyond the buffer");
        let end = log.iter().position(|byte| *byte == 0).expect("a zero within the buffer");
        String::from_utf8(log[..end].to_vec()).unwrap()
    };
    let whole = load(4000);
    assert!(whole.contains("line"), "{whole}");
    if !real() {
        assert!(whole.starts_with(&load(8)));
        assert_eq!(load(8).len(), 7);
    }
}
