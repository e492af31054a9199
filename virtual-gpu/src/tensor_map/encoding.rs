//! The 128 bytes of a `CUtensorMap`.
//!
//! NVIDIA does not document them, and nothing but the driver and TMA reads them, so this layout is our own. A checksum
//! lets a copy refuse bytes that no encoding wrote.
//!
//! | word | bits |
//! | --- | --- |
//! | 0 | 0-31 [`MAGIC`], 32-39 [`VERSION`], 40-43 element, 44-46 rank, 47 im2col, 48-49 swizzle |
//! | 1 | 32-63 checksum of the other words, 0-31 zero, but for [`MEANINGLESS`] |
//! | 2-4 | address of the tensor, base and bytes of its allocation |
//! | 5-7 | 32 bits for each dimension: its size - 1; then 3 bits each: its element stride - 1 |
//! | 8-11 | strides of dimensions 1 to 4 |
//! | 12 | tiled: 8 bits for each dimension: its box - 1. im2col: channels - 1, then pixels - 1 from bit 16 |
//! | 13, 14 | im2col: 16 bits for each offset of the lower corner, of the upper corner |
//! | 15 | zero |

use super::{Allocation, Element, MAX_RANK, Mode, Swizzle, TensorMap};

const MAGIC: u64 = u32::from_le_bytes(*b"VGTM") as u64;
const VERSION: u64 = 1;
/// CUTLASS and Triton clear bit 21 of word 1 after the driver has encoded a map, against an error of some drivers.
const MEANINGLESS: u64 = 1 << 21;

/// A hash of all words but the checksum's own. Each step is a bijection, so a change of one word always changes the sum
/// before its halves are folded.
fn checksum(words: &[u64; 16]) -> u64 {
    let rest = words[..1].iter().chain(&words[2..]);
    let hash = rest.fold(0u64, |hash, word| {
        let mixed = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 29
    });
    (hash ^ hash >> 32) & 0xffff_ffff
}

/// Packs values of `bits` bits each, the first lowest.
fn pack(values: impl IntoIterator<Item = u64>, bits: usize) -> u64 {
    values.into_iter().enumerate().fold(0, |word, (i, value)| word | value << (i * bits))
}

/// The value at `index` of those that [`pack`] packed.
fn unpack(word: u64, index: usize, bits: usize) -> u64 {
    word >> (index * bits) & ((1 << bits) - 1)
}

/// The three offsets of a corner.
fn corner(word: u64) -> [i32; 3] {
    std::array::from_fn(|i| i32::from(unpack(word, i, 16) as u16 as i16))
}

impl TensorMap {
    /// The opaque words of a `CUtensorMap`.
    pub fn encode(&self) -> [u64; 16] {
        let im2col = matches!(self.mode, Mode::Im2col { .. });
        let kind = pack([self.element as u64, self.rank as u64 | u64::from(im2col) << 3, self.swizzle as u64], 4);
        let mut words = [0; 16];
        words[0] = MAGIC | VERSION << 32 | kind << 40;
        words[2..5].copy_from_slice(&[self.address, self.allocation.base, self.allocation.bytes]);
        let steps = pack(self.element_strides.map(|stride| u64::from(stride - 1)), 3);
        let sizes = self.dims.map(|dim| dim - 1);
        words[5] = pack([sizes[0], sizes[1]], 32);
        words[6] = pack([sizes[2], sizes[3]], 32);
        words[7] = pack([sizes[4], steps], 32);
        words[8..12].copy_from_slice(&self.strides[1..]);
        match self.mode {
            Mode::Tiled { box_dim } => words[12] = pack(box_dim.map(|count| u64::from(count - 1)), 8),
            Mode::Im2col { lower, upper, channels_per_pixel, pixels_per_column } => {
                words[12] = pack([u64::from(channels_per_pixel - 1), u64::from(pixels_per_column - 1)], 16);
                let bits = |corner: [i32; 3]| pack(corner.map(|offset| u64::from(offset as u16)), 16);
                words[13..15].copy_from_slice(&[bits(lower), bits(upper)]);
            }
        }
        words[1] = checksum(&words) << 32;
        words
    }

    /// The map that these bytes encode.
    ///
    /// # Errors
    /// If `encode` has not written them, or if they were changed since.
    pub fn decode(bytes: &[u8; 128]) -> Result<TensorMap, String> {
        let words: [u64; 16] = std::array::from_fn(|i| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[i * 8..i * 8 + 8]);
            u64::from_le_bytes(word)
        });
        if words == [0; 16] {
            return Err("the tensor map is all zeros: no cuTensorMapEncode function has written it".to_owned());
        }
        if words[0] & 0xffff_ffff != MAGIC {
            return Err(format!("no tensor map: its first word is {:#x}, not one that this driver encodes", words[0]));
        }
        let version = words[0] >> 32 & 0xff;
        if version != VERSION {
            return Err(format!("the tensor map has version {version} of the encoding: this driver has {VERSION}"));
        }
        if words[1] & !MEANINGLESS != checksum(&words) << 32 {
            return Err("the tensor map was changed after the driver encoded it: its checksum is wrong".to_owned());
        }
        TensorMap::unpacked(&words).ok_or_else(|| "the tensor map has values that the driver never encodes".to_owned())
    }

    /// Reads words with a valid checksum. Every field is in range by its width, but for the three that are checked.
    fn unpacked(words: &[u64; 16]) -> Option<TensorMap> {
        let kind = words[0] >> 40;
        let element = Element::from_number(unpack(kind, 0, 4) as u32)?;
        let rank = unpack(kind, 1, 4) as usize & 7;
        let im2col = kind & 0x80 != 0;
        if !(if im2col { 3..=MAX_RANK } else { 1..=MAX_RANK }).contains(&rank) {
            return None;
        }
        let mode = if im2col {
            Mode::Im2col {
                lower: corner(words[13]),
                upper: corner(words[14]),
                channels_per_pixel: unpack(words[12], 0, 16) as u32 + 1,
                pixels_per_column: unpack(words[12], 1, 16) as u32 + 1,
            }
        } else {
            Mode::Tiled { box_dim: std::array::from_fn(|d| unpack(words[12], d, 8) as u32 + 1) }
        };
        Some(TensorMap {
            element,
            rank,
            address: words[2],
            dims: std::array::from_fn(|d| unpack(words[5 + d / 2], d % 2, 32) + 1),
            strides: [element.bytes() as u64, words[8], words[9], words[10], words[11]],
            element_strides: std::array::from_fn(|d| unpack(words[7] >> 32, d, 3) as u32 + 1),
            swizzle: [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128][unpack(kind, 2, 4) as usize & 3],
            mode,
            allocation: Allocation { base: words[3], bytes: words[4] },
        })
    }
}
