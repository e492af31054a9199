//! Arguments that must be refused, and the greatest that are allowed.

use super::*;

/// A change of valid arguments, and what the refusal must say.
type Refusal = (fn(&mut Case), &'static str);

const COMMON: &[Refusal] = &[
    (|case| case.data_type = 16, "tensorDataType is 16: it must be 0 to 12, a CUtensorMapDataType"),
    (|case| case.data_type = 13, "tensorDataType is 13: packed 4-bit and 6-bit values need Blackwell"),
    (|case| case.data_type = 15, "tensorDataType is 15: packed 4-bit and 6-bit values need Blackwell"),
    (|case| case.address = 0, "globalAddress is null"),
    (|case| case.address += 8, "globalAddress is 0x7f00001008: it must be a multiple of 16"),
    (|case| case.allocated = false, "globalAddress is 0x7f00001000: it is in no allocation of device memory"),
    (|case| case.dims[1] = 0, "globalDim[1] is 0: it must be 1 to 4294967296"),
    (|case| case.dims[2] = (1 << 32) + 1, "globalDim[2] is 4294967297: it must be 1 to 4294967296"),
    (|case| case.strides[0] += 8, "globalStrides[0] is 264: it must be a multiple of 16 bytes, and less than 2^40"),
    (|case| case.strides[1] = 1 << 40, "globalStrides[1] is 1099511627776: it must be a multiple of 16 bytes, and"),
    (|case| case.strides.truncate(1), "globalStrides has 1 values: it must have 2"),
    (|case| case.steps[1] = 0, "elementStrides[1] is 0: it must be 1 to 8"),
    (|case| case.steps[2] = 9, "elementStrides[2] is 9: it must be 1 to 8"),
    (|case| case.steps.truncate(2), "elementStrides has 2 values: it must have 3"),
    (|case| case.interleave = 1, "interleave is 1, 16B: only NONE (0) is supported here"),
    (|case| case.interleave = 2, "interleave is 2, 32B: only NONE (0) is supported here"),
    (|case| case.interleave = 3, "interleave is 3: it must be 0 to 2, a CUtensorMapInterleave"),
    (|case| case.swizzle = 4, "swizzle is 4: atoms of 32 and 64 bytes need Blackwell; 0 to 3 are allowed"),
    (|case| case.swizzle = 7, "swizzle is 7: it must be 0 to 3, a CUtensorMapSwizzle"),
    (|case| case.promotion = 4, "l2Promotion is 4: it must be 0 to 3"),
    (|case| case.fill = 1, "oobFill is 1, NaN, for the integers of tensorDataType 2: it must be NONE (0)"),
    (|case| (case.fill, case.data_type) = (1, F32), "oobFill is 1, NaN: NVIDIA does not document its bits"),
    (|case| case.fill = 2, "oobFill is 2: it must be 0 or 1, a CUtensorMapFloatOOBfill"),
];

const TILED: &[Refusal] = &[
    (|case| *case = Case { dims: Vec::new(), ..case.clone() }, "tensorRank is 0: it must be 1 to 5"),
    (|case| *case = Case::new(&[8; 6]), "tensorRank is 6: it must be 1 to 5"),
    (|case| case.box_dim[1] = 0, "boxDim[1] is 0: it must be 1 to 256"),
    (|case| case.box_dim[2] = 257, "boxDim[2] is 257: it must be 1 to 256"),
    (|case| case.box_dim.truncate(2), "boxDim has 2 values: it must have 3"),
    (|case| case.box_dim[0] = 6, "boxDim[0] is 6, which makes rows of 24 bytes: it must be a multiple of 16 bytes"),
    (
        |case| (case.box_dim[0], case.swizzle) = (12, 1),
        "boxDim[0] is 12, which makes rows of 48 bytes: with a swizzle of 32 bytes it must be at most 32 bytes",
    ),
    (|case| (case.box_dim[0], case.swizzle) = (20, 2), "with a swizzle of 64 bytes it must be at most 64 bytes"),
    (|case| (case.box_dim[0], case.swizzle) = (36, 3), "with a swizzle of 128 bytes it must be at most 128 bytes"),
];

const IM2COL: &[Refusal] = &[
    (|case| *case = Case::new(&[8; 2]), "tensorRank is 2: it must be 3 to 5"),
    (|case| *case = Case::new(&[8; 6]), "tensorRank is 6: it must be 3 to 5"),
    (|case| case.lower[0] = 1 << 15, "pixelBoxLowerCorner[0] is 32768: it must be -32768 to 32767"),
    (|case| case.upper[0] = -(1 << 15) - 1, "pixelBoxUpperCorner[0] is -32769: it must be -32768 to 32767"),
    (|case| case.lower.clear(), "pixelBoxLowerCorner has 0 values: it must have 1"),
    (
        |case| {
            *case = Case::new(&[64, 9, 9, 2]);
            case.upper[1] = 128;
        },
        "pixelBoxUpperCorner[1] is 128: it must be -128 to 127",
    ),
    (
        |case| {
            *case = Case::new(&[64, 9, 9, 9, 2]);
            case.lower[2] = -17;
        },
        "pixelBoxLowerCorner[2] is -17: it must be -16 to 15",
    ),
    (
        |case| (case.lower[0], case.upper[0]) = (-2, -11),
        "the box of base pixels is empty: along W it begins at -2 (pixelBoxLowerCorner[0]) and ends at -3 \
         (globalDim[1] - 1 + pixelBoxUpperCorner[0])",
    ),
    (|case| case.channels = 0, "channelsPerPixel is 0: it must be 1 to 256"),
    (|case| case.channels = 260, "channelsPerPixel is 260: it must be 1 to 256"),
    (
        |case| case.channels = 6,
        "channelsPerPixel is 6, which makes rows of 24 bytes: it must be a multiple of 16 bytes",
    ),
    (|case| (case.channels, case.swizzle) = (36, 3), "with a swizzle of 128 bytes it must be at most 128 bytes"),
    (|case| case.pixels = 0, "pixelsPerColumn is 0: it must be 1 to 1024"),
    (|case| case.pixels = 1025, "pixelsPerColumn is 1025: it must be 1 to 1024"),
    (|case| case.steps[2] = 2, "elementStrides[2] is 2: steps over images are not supported here, it must be 1"),
];

fn check(name: &str, refusals: &[Refusal], encode: fn(&Case) -> Result<TensorMap, String>) {
    for (change, expected) in refusals {
        let mut case = Case::new(&[64, 9, 2]);
        encode(&case).expect(name);
        change(&mut case);
        let why = encode(&case).expect_err(expected);
        assert!(why.starts_with(expected) || expected.starts_with("with") && why.ends_with(expected), "{name}: {why}");
    }
}

#[test]
fn each_invalid_argument_is_named_with_its_value_and_what_is_allowed() {
    check("tiled", COMMON, Case::tiled);
    check("tiled", TILED, Case::tiled);
    check("im2col", COMMON, Case::im2col);
    check("im2col", IM2COL, Case::im2col);
}

#[test]
fn the_bounds_themselves_are_allowed() {
    let mut case = Case::new(&[1 << 32, 1, 1 << 32, 7, 3]);
    case.strides = vec![(1 << 40) - 16, 0, 16, 48];
    (case.steps, case.box_dim) = (vec![1, 8, 1, 8, 1], vec![256; 5]);
    case.tiled().unwrap();
    case.box_dim[0] = 32;
    for (swizzle, width) in [(1, 8), (2, 16), (3, 32)] {
        (case.swizzle, case.box_dim[0], case.channels) = (swizzle, width, width);
        case.tiled().unwrap();
        (case.lower, case.upper, case.pixels) = (vec![-16, 0, -16], vec![15, 15, -6], 1024);
        case.im2col().unwrap();
    }
    let mut line = Case::new(&[1000]);
    line.box_dim[0] = 256;
    assert_eq!(line.tiled().unwrap().bytes(), 1024);
}
