//! What the driver refuses to encode: the requirements of cuda.h at `cuTensorMapEncodeTiled` and
//! `cuTensorMapEncodeIm2col`, and what this driver does not implement. A refusal names the argument, its value and what is
//! allowed.

use std::fmt::Display;

use super::{Allocation, Element, Mode, Swizzle, TensorMap};

pub const MAX_RANK: usize = 5;

/// The arguments that both kinds of map have. Numbers of enumerations are cuda.h's.
#[derive(Debug, Clone, Copy)]
pub struct Arguments<'a> {
    pub data_type: u32,
    pub address: u64,
    /// The allocation that holds `address`.
    pub allocation: Option<Allocation>,
    /// As long as the rank.
    pub dims: &'a [u64],
    /// One fewer than the rank: dimension 0 has no stride.
    pub strides: &'a [u64],
    /// As long as the rank.
    pub element_strides: &'a [u32],
    pub interleave: u32,
    pub swizzle: u32,
    pub l2_promotion: u32,
    pub oob_fill: u32,
}

fn in_range<T: Display + PartialOrd>(name: impl Display, value: T, least: T, most: T) -> Result<(), String> {
    if least <= value && value <= most {
        Ok(())
    } else {
        Err(format!("{name} is {value}: it must be {least} to {most}"))
    }
}

/// Checks a rank, before the arrays are read whose lengths it states.
pub fn check_rank(rank: u32, im2col: bool) -> Result<usize, String> {
    in_range("tensorRank", rank, if im2col { 3 } else { 1 }, MAX_RANK as u32)?;
    Ok(rank as usize)
}

fn check_address(address: u64, allocation: Option<Allocation>) -> Result<Allocation, String> {
    if address == 0 {
        return Err("globalAddress is null".to_owned());
    }
    if !address.is_multiple_of(16) {
        return Err(format!("globalAddress is {address:#x}: it must be a multiple of 16"));
    }
    allocation.ok_or_else(|| format!("globalAddress is {address:#x}: it is in no allocation of device memory"))
}

fn check_modes(arguments: &Arguments) -> Result<(Element, Swizzle), String> {
    let Arguments { data_type, interleave, swizzle, l2_promotion, oob_fill, .. } = *arguments;
    if (13..=15).contains(&data_type) {
        return Err(format!("tensorDataType is {data_type}: packed 4-bit and 6-bit values need Blackwell"));
    }
    let element = Element::from_number(data_type)
        .ok_or_else(|| format!("tensorDataType is {data_type}: it must be 0 to 12, a CUtensorMapDataType"))?;
    match interleave {
        0 => {}
        1 | 2 => {
            return Err(format!("interleave is {interleave}, {}B: only NONE (0) is supported here", interleave * 16));
        }
        _ => return Err(format!("interleave is {interleave}: it must be 0 to 2, a CUtensorMapInterleave")),
    }
    let swizzle = match swizzle {
        0 => Swizzle::None,
        1 => Swizzle::B32,
        2 => Swizzle::B64,
        3 => Swizzle::B128,
        4..=6 => {
            return Err(format!("swizzle is {swizzle}: atoms of 32 and 64 bytes need Blackwell; 0 to 3 are allowed"));
        }
        _ => return Err(format!("swizzle is {swizzle}: it must be 0 to 3, a CUtensorMapSwizzle")),
    };
    in_range("l2Promotion", l2_promotion, 0, 3)?;
    match oob_fill {
        0 => Ok((element, swizzle)),
        1 if !element.is_float() => {
            Err(format!("oobFill is 1, NaN, for the integers of tensorDataType {data_type}: it must be NONE (0)"))
        }
        1 => {
            Err("oobFill is 1, NaN: NVIDIA does not document its bits; only NONE (0), zeros, is supported here"
                .to_owned())
        }
        _ => Err(format!("oobFill is {oob_fill}: it must be 0 or 1, a CUtensorMapFloatOOBfill")),
    }
}

/// Checks a row of the box, the only part that must suit the chunks of shared memory.
fn check_row(name: &str, count: u32, element: Element, swizzle: Swizzle) -> Result<(), String> {
    let bytes = count as usize * element.bytes();
    let row = format!("{name} is {count}, which makes rows of {bytes} bytes");
    if !bytes.is_multiple_of(16) {
        return Err(format!("{row}: it must be a multiple of 16 bytes"));
    }
    match swizzle.width() {
        0 => Ok(()),
        width if bytes <= width => Ok(()),
        width => Err(format!("{row}: with a swizzle of {width} bytes it must be at most {width} bytes")),
    }
}

/// `values`, followed by `rest` up to the greatest rank. Another number of values than `count` is the caller's mistake.
fn padded<T: Copy, const N: usize>(name: &str, values: &[T], count: usize, rest: T) -> Result<[T; N], String> {
    if values.len() != count || count > N {
        return Err(format!("{name} has {} values: it must have {count}", values.len()));
    }
    let mut all = [rest; N];
    all[..count].copy_from_slice(values);
    Ok(all)
}

impl TensorMap {
    /// A map with the arguments that both kinds have, still without its box.
    fn common(arguments: &Arguments, im2col: bool) -> Result<TensorMap, String> {
        let rank = check_rank(u32::try_from(arguments.dims.len()).unwrap_or(u32::MAX), im2col)?;
        let (element, swizzle) = check_modes(arguments)?;
        let allocation = check_address(arguments.address, arguments.allocation)?;
        for (d, dim) in arguments.dims.iter().enumerate() {
            in_range(format_args!("globalDim[{d}]"), *dim, 1, 1 << 32)?;
        }
        for (d, stride) in arguments.strides.iter().enumerate() {
            if !stride.is_multiple_of(16) || *stride >= 1 << 40 {
                return Err(format!(
                    "globalStrides[{d}] is {stride}: it must be a multiple of 16 bytes, and less than 2^40"
                ));
            }
        }
        // The first is ignored: dimension 0 has no stride without interleaving.
        for (d, stride) in arguments.element_strides.iter().enumerate().skip(1) {
            in_range(format_args!("elementStrides[{d}]"), *stride, 1, 8)?;
        }
        let outer: [u64; MAX_RANK - 1] = padded("globalStrides", arguments.strides, rank - 1, 0)?;
        let mut element_strides = padded("elementStrides", arguments.element_strides, rank, 1)?;
        element_strides[0] = 1;
        Ok(TensorMap {
            element,
            rank,
            address: arguments.address,
            dims: padded("globalDim", arguments.dims, rank, 1)?,
            strides: [element.bytes() as u64, outer[0], outer[1], outer[2], outer[3]],
            element_strides,
            swizzle,
            mode: Mode::Tiled { box_dim: [1; MAX_RANK] },
            allocation,
        })
    }

    /// The map that `cuTensorMapEncodeTiled` encodes.
    ///
    /// # Errors
    /// The first argument that is not allowed.
    pub fn tiled(arguments: &Arguments, box_dim: &[u32]) -> Result<TensorMap, String> {
        let map = TensorMap::common(arguments, false)?;
        for (d, count) in box_dim.iter().enumerate() {
            in_range(format_args!("boxDim[{d}]"), *count, 1, 256)?;
        }
        let box_dim: [u32; MAX_RANK] = padded("boxDim", box_dim, map.rank, 1)?;
        check_row("boxDim[0]", box_dim[0], map.element, map.swizzle)?;
        Ok(TensorMap { mode: Mode::Tiled { box_dim }, ..map })
    }

    /// The map that `cuTensorMapEncodeIm2col` encodes. The corners list W, H, D: innermost first, as everything else does.
    /// cuda.h writes {D, H, W}, but CUTLASS and Triton pass W first, and cards read it so.
    ///
    /// # Errors
    /// The first argument that is not allowed.
    pub fn im2col(
        arguments: &Arguments,
        lower: &[i32],
        upper: &[i32],
        channels_per_pixel: u32,
        pixels_per_column: u32,
    ) -> Result<TensorMap, String> {
        let map = TensorMap::common(arguments, true)?;
        let (least, most) = [(-1 << 15, (1 << 15) - 1), (-128, 127), (-16, 15)][map.rank - 3];
        for (name, corner) in [("pixelBoxLowerCorner", lower), ("pixelBoxUpperCorner", upper)] {
            for (i, offset) in corner.iter().enumerate() {
                in_range(format_args!("{name}[{i}]"), *offset, least, most)?;
            }
        }
        let lower: [i32; 3] = padded("pixelBoxLowerCorner", lower, map.rank - 2, 0)?;
        let upper: [i32; 3] = padded("pixelBoxUpperCorner", upper, map.rank - 2, 0)?;
        for i in 0..map.rank - 2 {
            let last = map.dims[i + 1] as i64 - 1 + i64::from(upper[i]);
            if i64::from(lower[i]) > last {
                return Err(format!(
                    "the box of base pixels is empty: along {} it begins at {} (pixelBoxLowerCorner[{i}]) and ends at \
                     {last} (globalDim[{}] - 1 + pixelBoxUpperCorner[{i}])",
                    ["W", "H", "D"][i],
                    lower[i],
                    i + 1
                ));
            }
        }
        in_range("channelsPerPixel", channels_per_pixel, 1, 256)?;
        in_range("pixelsPerColumn", pixels_per_column, 1, 1024)?;
        check_row("channelsPerPixel", channels_per_pixel, map.element, map.swizzle)?;
        let images = map.element_strides[map.rank - 1];
        if images != 1 {
            return Err(format!(
                "elementStrides[{}] is {images}: steps over images are not supported here, it must be 1",
                map.rank - 1
            ));
        }
        Ok(TensorMap { mode: Mode::Im2col { lower, upper, channels_per_pixel, pixels_per_column }, ..map })
    }

    /// The map of another tensor that differs in its address only.
    ///
    /// # Errors
    /// If a map must not have this address.
    pub fn replace_address(&self, address: u64, allocation: Option<Allocation>) -> Result<TensorMap, String> {
        Ok(TensorMap { address, allocation: check_address(address, allocation)?, ..self.clone() })
    }

    /// What is allowed, but probably a mistake: a box that its element strides do not divide. cuda.h says that the count
    /// is rounded up, and cards of another generation were measured to do so.
    pub fn warning(&self) -> Option<String> {
        let Mode::Tiled { box_dim } = self.mode else { return None };
        let d = (0..self.rank).find(|d| !box_dim[*d].is_multiple_of(self.element_strides[*d]))?;
        let (count, stride) = (box_dim[d], self.element_strides[d]);
        Some(format!("boxDim[{d}] is {count}, no multiple of elementStrides[{d}], {stride}: it is rounded up"))
    }
}
