//! Tensor maps: encoding them for TMA. The rules are in [`tensor_map`](crate::tensor_map), which knows no driver.
//!
//! The functions need a current context, as their results in cuda.h imply: the address of the tensor must be in an
//! allocation, which the map remembers.

use super::abi::{In, Out};
use super::boundary::{Outcome, answer, say, within};
use super::error::{CUresult, Code, Fault};
use super::work::Current;
use crate::tensor_map::{Allocation, Arguments, TensorMap, check_rank};

/// A `CUtensorMap`: 128 opaque bytes.
type Opaque = [u64; 16];

/// `CUtensorMap` has an alignment of 64 bytes in CUDA 12, of 128 in CUDA 13.
const ALIGN: usize = 64;

/// Prefixes the reason of a refusal with the function's name.
fn refused(function: &str, why: impl std::fmt::Display) -> Fault {
    Code::InvalidValue.because(format!("{function}: {why}"))
}

/// Checks what all functions require: a device with TMA, and a place for the map.
fn check(cx: &Current, function: &str, map: Out<Opaque>) -> Outcome {
    let (major, minor) = cx.driver.settings.compute_capability;
    if major < 9 {
        let why = format!("{function}: a device of compute capability {major}.{minor} has no TMA, which needs 9.0");
        return Err(Code::NotSupported.because(why));
    }
    match map.address() {
        0 => Err(refused(function, "tensorMap is null")),
        at if at.is_multiple_of(ALIGN) => Ok(()),
        at => Err(refused(function, format!("tensorMap is {at:#x}: it must be a multiple of {ALIGN}"))),
    }
}

fn allocation(cx: &Current, address: u64) -> Option<Allocation> {
    cx.driver.machine.allocation(address).map(|(base, bytes)| Allocation { base, bytes: bytes as u64 })
}

/// The arrays and numbers that both encodings take, in the order of their parameters.
struct Parameters {
    data_type: u32,
    rank: u32,
    address: u64,
    dims: In<u64>,
    strides: In<u64>,
    element_strides: In<u32>,
    modes: [u32; 4],
}

/// Writes the map that `make` makes of the arguments and the rank.
fn encode(
    function: &str,
    im2col: bool,
    map: Out<Opaque>,
    parameters: &Parameters,
    make: impl FnOnce(&Arguments, usize) -> Result<TensorMap, String>,
) -> CUresult {
    within(|cx| {
        check(cx, function, map)?;
        let encoded = || {
            let rank = check_rank(parameters.rank, im2col)?;
            let [interleave, swizzle, l2_promotion, oob_fill] = parameters.modes;
            let arguments = Arguments {
                data_type: parameters.data_type,
                address: parameters.address,
                allocation: allocation(cx, parameters.address),
                dims: &read("globalDim", parameters.dims, rank)?,
                strides: &read("globalStrides", parameters.strides, rank - 1)?,
                element_strides: &read("elementStrides", parameters.element_strides, rank)?,
                interleave,
                swizzle,
                l2_promotion,
                oob_fill,
            };
            make(&arguments, rank)
        };
        let encoded = encoded().map_err(|why: String| refused(function, why))?;
        if let Some(warning) = encoded.warning() {
            say(format_args!("{function}: {warning}"));
        }
        map.put(encoded.encode())
    })
}

/// The elements of an array. One of no elements may be null.
fn read<T: Copy>(name: &str, array: In<T>, count: usize) -> Result<Vec<T>, String> {
    (0..count).map(|index| array.at(index).map_err(|_| format!("{name} is null"))).collect()
}

#[unsafe(no_mangle)]
extern "C" fn cuTensorMapEncodeTiled(
    map: Out<Opaque>,
    data_type: u32,
    rank: u32,
    address: u64,
    dims: In<u64>,
    strides: In<u64>,
    box_dim: In<u32>,
    element_strides: In<u32>,
    interleave: u32,
    swizzle: u32,
    l2_promotion: u32,
    oob_fill: u32,
) -> CUresult {
    let modes = [interleave, swizzle, l2_promotion, oob_fill];
    let parameters = Parameters { data_type, rank, address, dims, strides, element_strides, modes };
    encode("cuTensorMapEncodeTiled", false, map, &parameters, |arguments, rank| {
        TensorMap::tiled(arguments, &read("boxDim", box_dim, rank)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuTensorMapEncodeIm2col(
    map: Out<Opaque>,
    data_type: u32,
    rank: u32,
    address: u64,
    dims: In<u64>,
    strides: In<u64>,
    lower: In<i32>,
    upper: In<i32>,
    channels_per_pixel: u32,
    pixels_per_column: u32,
    element_strides: In<u32>,
    interleave: u32,
    swizzle: u32,
    l2_promotion: u32,
    oob_fill: u32,
) -> CUresult {
    let modes = [interleave, swizzle, l2_promotion, oob_fill];
    let parameters = Parameters { data_type, rank, address, dims, strides, element_strides, modes };
    encode("cuTensorMapEncodeIm2col", true, map, &parameters, |arguments, rank| {
        let lower = read("pixelBoxLowerCorner", lower, rank - 2)?;
        let upper = read("pixelBoxUpperCorner", upper, rank - 2)?;
        TensorMap::im2col(arguments, &lower, &upper, channels_per_pixel, pixels_per_column)
    })
}

/// Its instructions, `.im2col::w`, exist from compute capability 10.0 on, and are not implemented here.
#[unsafe(no_mangle)]
extern "C" fn cuTensorMapEncodeIm2colWide() -> CUresult {
    answer(|| Err(Code::NotSupported.because("cuTensorMapEncodeIm2colWide: only Blackwell has .im2col::w")))
}

#[unsafe(no_mangle)]
extern "C" fn cuTensorMapReplaceAddress(map: Out<Opaque>, address: u64) -> CUresult {
    const NAME: &str = "cuTensorMapReplaceAddress";
    within(|cx| {
        check(cx, NAME, map)?;
        let mut bytes = [0; 128];
        for (to, word) in bytes.chunks_exact_mut(8).zip(map.get()?) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        let replaced = TensorMap::decode(&bytes).and_then(|map| map.replace_address(address, allocation(cx, address)));
        map.put(replaced.map_err(|why| refused(NAME, why))?.encode())
    })
}
