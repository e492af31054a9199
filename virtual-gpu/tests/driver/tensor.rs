//! Tensor maps. They need a device of compute capability 9.0: the tests in `hopper` do nothing on an older one, such as
//! the 8.0 of this process, and one test here runs them in a process of its own on a 9.0.

use super::*;
use sys::CUdevice_attribute as Attribute;

const ATTRIBUTES: [Attribute; 2] =
    [Attribute::CU_DEVICE_ATTRIBUTE_TENSOR_MAP_ACCESS_SUPPORTED, Attribute::CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH];

/// `CUtensorMap`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(128))]
struct Map([u64; 16]);

/// What no encoding writes.
const EMPTY: Map = Map([0xabab; 16]);

/// The arguments of both encodings. Enumerations are numbers, so that invalid ones can be passed.
#[derive(Clone, Debug)]
struct Call {
    map: *mut Map,
    data_type: u32,
    rank: u32,
    address: u64,
    dims: Option<Vec<u64>>,
    strides: Option<Vec<u64>>,
    box_dim: Option<Vec<u32>>,
    lower: Option<Vec<i32>>,
    upper: Option<Vec<i32>>,
    channels: u32,
    pixels: u32,
    steps: Option<Vec<u32>>,
    interleave: u32,
    swizzle: u32,
    promotion: u32,
    fill: u32,
}

fn start_of<T>(array: &Option<Vec<T>>) -> *const T {
    array.as_ref().map_or(null(), |values| values.as_ptr())
}

impl Call {
    /// Valid arguments: 64 channels of 2 images of 9 x 12 bf16 pixels, all of whose rows are swizzled.
    fn new(map: &mut Map, address: u64) -> Call {
        Call {
            map,
            data_type: 9,
            rank: 4,
            address,
            dims: Some(vec![64, 12, 9, 2]),
            strides: Some(vec![128, 128 * 12, 128 * 12 * 9]),
            box_dim: Some(vec![64, 4, 2, 1]),
            lower: Some(vec![-1, -1]),
            upper: Some(vec![-1, -1]),
            channels: 64,
            pixels: 128,
            steps: Some(vec![1; 4]),
            interleave: 0,
            swizzle: 3,
            promotion: 2,
            fill: 0,
        }
    }

    fn tiled(&self) -> CUresult {
        type Function = unsafe extern "C" fn(
            *mut Map,
            u32,
            u32,
            u64,
            *const u64,
            *const u64,
            *const u32,
            *const u32,
            u32,
            u32,
            u32,
            u32,
        ) -> CUresult;
        let (dims, strides, steps) = (start_of(&self.dims), start_of(&self.strides), start_of(&self.steps));
        let Call { map, data_type, rank, address, interleave, swizzle, promotion, fill, .. } = *self;
        let box_dim = start_of(&self.box_dim);
        unsafe {
            let encode: Function = std::mem::transmute(symbol("cuTensorMapEncodeTiled"));
            encode(map, data_type, rank, address, dims, strides, box_dim, steps, interleave, swizzle, promotion, fill)
        }
    }

    fn im2col(&self) -> CUresult {
        type Function = unsafe extern "C" fn(
            *mut Map,
            u32,
            u32,
            u64,
            *const u64,
            *const u64,
            *const i32,
            *const i32,
            u32,
            u32,
            *const u32,
            u32,
            u32,
            u32,
            u32,
        ) -> CUresult;
        let (dims, strides, steps) = (start_of(&self.dims), start_of(&self.strides), start_of(&self.steps));
        let (low, up) = (start_of(&self.lower), start_of(&self.upper));
        let Call { map, data_type, rank, address, channels, pixels, interleave, swizzle, promotion, fill, .. } = *self;
        unsafe {
            let encode: Function = std::mem::transmute(symbol("cuTensorMapEncodeIm2col"));
            encode(
                map, data_type, rank, address, dims, strides, low, up, channels, pixels, steps, interleave, swizzle,
                promotion, fill,
            )
        }
    }
}

fn replace(map: &mut Map, address: u64) -> CUresult {
    type Function = unsafe extern "C" fn(*mut Map, u64) -> CUresult;
    unsafe { std::mem::transmute::<*mut c_void, Function>(symbol("cuTensorMapReplaceAddress"))(map, address) }
}

#[test]
fn an_8_0_has_no_tensor_maps() {
    if real() {
        return;
    }
    let _context = context();
    if attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) >= 9 {
        return; // the process of the next test
    }
    assert_eq!(ATTRIBUTES.map(attribute), [0, 0]);
    let (mut map, address) = (EMPTY, alloc(1 << 20));
    let call = Call::new(&mut map, address);
    assert_eq!(call.tiled(), CUDA_ERROR_NOT_SUPPORTED);
    assert_eq!(call.im2col(), CUDA_ERROR_NOT_SUPPORTED);
    assert_eq!(replace(&mut map, address), CUDA_ERROR_NOT_SUPPORTED);
    assert_eq!(map, EMPTY);
}

#[test]
fn a_9_0_passes_the_tests_of_hopper_and_explains_each_refusal() {
    if real() {
        return;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(["tensor::hopper::", "--nocapture"]).env("VIRTUAL_GPU_SM", "9.0").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("7 passed"), "{out}\n{err}");
    for line in [
        "cuTensorMapEncodeTiled: boxDim[1] is 257: it must be 1 to 256",
        "cuTensorMapEncodeTiled: boxDim[0] is 64, which makes rows of 128 bytes: with a swizzle of 64 bytes it must be at \
         most 64 bytes",
        "cuTensorMapEncodeTiled: globalDim is null",
        "cuTensorMapEncodeTiled: boxDim[1] is 4, no multiple of elementStrides[1], 3: it is rounded up",
        "cuTensorMapEncodeIm2col: pixelBoxLowerCorner[1] is -129: it must be -128 to 127",
        "cuTensorMapEncodeIm2col: pixelsPerColumn is 1025: it must be 1 to 1024",
        "cuTensorMapReplaceAddress: the tensor map was changed after the driver encoded it: its checksum is wrong",
        "cuTensorMapEncodeIm2colWide: only Blackwell has .im2col::w",
    ] {
        assert!(err.lines().any(|found| found == format!("virtual-gpu: {line}")), "{line}\n{err}");
    }
}

mod hopper {
    use super::*;
    use virtual_gpu::tensor_map::{Mode, Swizzle, TensorMap};

    /// A context on a device with TMA.
    fn context() -> Option<Context> {
        let context = super::context();
        (attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) >= 9).then_some(context)
    }

    /// The map in the bytes; none if a card's driver has encoded it.
    fn decoded(map: &Map) -> Option<TensorMap> {
        let bytes: Vec<u8> = map.0.iter().flat_map(|word| word.to_le_bytes()).collect();
        (!real()).then(|| TensorMap::decode(&bytes.try_into().unwrap()).unwrap())
    }

    #[test]
    fn the_attributes_are_set() {
        if context().is_some() {
            assert_eq!(ATTRIBUTES.map(attribute), [1, 1]);
        }
    }

    #[test]
    fn a_tiled_map_holds_its_arguments() {
        let Some(_context) = context() else { return };
        let (mut map, address) = (EMPTY, alloc(1 << 20));
        let mut call = Call::new(&mut map, address + 4096);
        ok(call.tiled());
        assert_ne!(map, EMPTY);
        if let Some(tensor) = decoded(&map) {
            assert_eq!((tensor.address(), tensor.rank(), tensor.swizzle()), (address + 4096, 4, Swizzle::B128));
            assert_eq!(tensor.mode(), Mode::Tiled { box_dim: [64, 4, 2, 1, 1] });
            assert_eq!((tensor.allocation().base, tensor.allocation().bytes), (address, 1 << 20));
        }
        // One dimension has no strides, and a step that does not divide the box is allowed.
        call.steps = Some(vec![1, 3, 1, 1]);
        ok(call.tiled());
        (call.rank, call.strides) = (1, None);
        ok(call.tiled());
    }

    #[test]
    fn an_im2col_map_holds_its_arguments() {
        let Some(_context) = context() else { return };
        let (mut map, address) = (EMPTY, alloc(1 << 20));
        let mut call = Call::new(&mut map, address);
        (call.lower, call.upper) = (Some(vec![-1, -2]), Some(vec![-3, 4]));
        ok(call.im2col());
        if let Some(tensor) = decoded(&map) {
            let (lower, upper) = ([-1, -2, 0], [-3, 4, 0]);
            assert_eq!(tensor.mode(), Mode::Im2col { lower, upper, channels_per_pixel: 64, pixels_per_column: 128 });
        }
    }

    #[test]
    fn a_replaced_address_gives_the_map_of_that_address() {
        let Some(_context) = context() else { return };
        let (mut map, mut other, a, b) = (EMPTY, EMPTY, alloc(1 << 20), alloc(1 << 20));
        ok(Call::new(&mut map, a).tiled());
        ok(Call::new(&mut other, b).tiled());
        assert_ne!(map, other);
        ok(replace(&mut map, b));
        if real() {
            return;
        }
        assert_eq!(map, other);
        // CUTLASS and Triton clear this bit.
        map.0[1] &= !(1 << 21);
        ok(replace(&mut map, a));
        assert_eq!(replace(&mut map, a + 8), CUDA_ERROR_INVALID_VALUE);
        assert_eq!(replace(&mut map, 0), CUDA_ERROR_INVALID_VALUE);
        assert_eq!(replace(&mut EMPTY.clone(), a), CUDA_ERROR_INVALID_VALUE);
        map.0[12] ^= 1;
        assert_eq!(replace(&mut map, a), CUDA_ERROR_INVALID_VALUE);
    }

    #[test]
    fn maps_need_a_context_and_a_place_and_freed_memory_has_none() {
        if real() {
            return;
        }
        let Some(_context) = context() else { return };
        let (mut pair, address) = ([EMPTY; 2], alloc(1 << 20));
        let mut call = Call::new(&mut pair[0], address);
        for (offset, result) in [(0, CUDA_SUCCESS), (64, CUDA_SUCCESS), (32, CUDA_ERROR_INVALID_VALUE)] {
            call.map = (&raw mut pair).cast::<u8>().wrapping_add(offset).cast();
            assert_eq!((call.tiled(), call.im2col()), (result, result), "at {offset}");
        }
        ok(unsafe { sys::cuMemFree_v2(address) });
        call.map = (&raw mut pair).cast();
        assert_eq!(call.tiled(), CUDA_ERROR_INVALID_VALUE);
        let mut none = null_mut();
        ok(unsafe { sys::cuCtxPopCurrent_v2(&mut none) });
        assert_eq!(call.tiled(), CUDA_ERROR_INVALID_CONTEXT);
        ok(unsafe { sys::cuCtxPushCurrent_v2(none) });
    }

    /// A change of valid arguments that makes them invalid.
    type Change = fn(&mut Call);

    /// What cuda.h does not allow.
    const INVALID: &[Change] = &[
        |call| call.map = null_mut(),
        |call| call.data_type = 16,
        |call| call.rank = 0,
        |call| call.rank = 6,
        |call| call.rank = u32::MAX,
        |call| call.address = 0,
        |call| call.address += 8,
        |call| call.dims = None,
        |call| call.strides = None,
        |call| call.steps = None,
        |call| call.dims.as_mut().unwrap()[2] = 0,
        |call| call.dims.as_mut().unwrap()[0] = (1 << 32) + 1,
        |call| call.strides.as_mut().unwrap()[1] += 8,
        |call| call.strides.as_mut().unwrap()[2] = 1 << 40,
        |call| call.steps.as_mut().unwrap()[1] = 0,
        |call| call.steps.as_mut().unwrap()[2] = 9,
        |call| call.interleave = 3,
        |call| call.swizzle = 7,
        |call| call.promotion = 4,
        |call| call.fill = 2,
        |call| (call.fill, call.data_type) = (1, 1),
        |call| call.swizzle = 2,
    ];

    const INVALID_TILED: &[Change] = &[
        |call| call.box_dim = None,
        |call| call.box_dim.as_mut().unwrap()[3] = 0,
        |call| call.box_dim.as_mut().unwrap()[1] = 257,
        |call| call.box_dim.as_mut().unwrap()[0] = 4,
    ];

    const INVALID_IM2COL: &[Change] = &[
        |call| call.rank = 2,
        |call| call.lower = None,
        |call| call.upper = None,
        |call| call.lower.as_mut().unwrap()[1] = -129,
        |call| call.upper.as_mut().unwrap()[0] = 128,
        |call| call.upper.as_mut().unwrap()[1] = -10,
        |call| call.channels = 257,
        |call| call.pixels = 1025,
    ];

    /// What the virtual GPU refuses besides: what only Blackwell has, what it does not implement, memory that no
    /// allocation holds.
    const UNSUPPORTED: &[Change] = &[
        |call| call.data_type = 13,
        |call| call.swizzle = 4,
        |call| call.interleave = 1,
        |call| call.interleave = 2,
        |call| call.fill = 1,
        |call| call.address = 0x1000,
    ];

    #[test]
    fn every_invalid_argument_is_refused_and_the_map_is_left_alone() {
        let Some(_context) = context() else { return };
        let address = alloc(1 << 20);
        let refuses = |changes: &[Change], encode: fn(&Call) -> CUresult| {
            for (index, change) in changes.iter().enumerate() {
                let mut map = EMPTY;
                let mut call = Call::new(&mut map, address);
                ok(encode(&call));
                unsafe { call.map.write(EMPTY) };
                change(&mut call);
                assert_eq!(encode(&call), CUDA_ERROR_INVALID_VALUE, "change {index}: {call:?}");
                assert_eq!(map, EMPTY, "change {index}: {call:?}");
            }
        };
        for encode in [Call::tiled, Call::im2col] as [fn(&Call) -> CUresult; 2] {
            refuses(INVALID, encode);
            if !real() {
                refuses(UNSUPPORTED, encode);
            }
        }
        refuses(INVALID_TILED, Call::tiled);
        refuses(INVALID_IM2COL, Call::im2col);
    }

    #[test]
    fn lookups_find_the_functions_and_the_wide_one_is_not_supported() {
        let Some(_context) = context() else { return };
        for name in [c"cuTensorMapEncodeTiled", c"cuTensorMapEncodeIm2col", c"cuTensorMapReplaceAddress"] {
            let mut address = null_mut();
            ok(unsafe { sys::cuGetProcAddress_v2(name.as_ptr(), &mut address, 12000, 0, null_mut()) });
            assert!(real() || address == symbol(name.to_str().unwrap()));
        }
        if !real() {
            let wide: extern "C" fn() -> CUresult =
                unsafe { std::mem::transmute(symbol("cuTensorMapEncodeIm2colWide")) };
            assert_eq!(wide(), CUDA_ERROR_NOT_SUPPORTED);
        }
    }
}
