//! The element types of tensor maps, and what a load does to an element.

use crate::arith::Rounding;
use crate::arith::convert::f32_to_tf32;
use crate::arith::float::flush32;

/// `CUtensorMapDataType`, without the packed types of Blackwell. The discriminants are CUDA's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Element {
    U8,
    U16,
    U32,
    S32,
    U64,
    S64,
    F16,
    F32,
    F64,
    Bf16,
    F32Ftz,
    Tf32,
    Tf32Ftz,
}

const ALL: [Element; 13] = {
    use Element::*;
    [U8, U16, U32, S32, U64, S64, F16, F32, F64, Bf16, F32Ftz, Tf32, Tf32Ftz]
};

impl Element {
    /// The type of a `CUtensorMapDataType`.
    pub(super) fn from_number(number: u32) -> Option<Element> {
        ALL.get(number as usize).copied()
    }

    pub fn bytes(self) -> usize {
        use Element::*;
        match self {
            U8 => 1,
            U16 | F16 | Bf16 => 2,
            U32 | S32 | F32 | F32Ftz | Tf32 | Tf32Ftz => 4,
            U64 | S64 | F64 => 8,
        }
    }

    pub fn is_float(self) -> bool {
        !matches!(self, Element::U8 | Element::U16 | Element::U32 | Element::S32 | Element::U64 | Element::S64)
    }

    /// Whether a load changes elements of this type. All others are copied.
    pub fn converts(self) -> bool {
        matches!(self, Element::F32Ftz | Element::Tf32 | Element::Tf32Ftz)
    }

    /// The bits in shared memory of a 4-byte element whose bits in global memory are `bits`: TF32 is rounded to the
    /// nearest even, FTZ replaces subnormal numbers by zeros.
    #[inline]
    pub fn load(self, bits: u32) -> u32 {
        let value = f32::from_bits(bits);
        match self {
            Element::F32Ftz => flush32(value).to_bits(),
            Element::Tf32 => f32_to_tf32(value, Rounding::Nearest),
            Element::Tf32Ftz => f32_to_tf32(flush32(value), Rounding::Nearest),
            _ => bits,
        }
    }

    /// [`load`](Element::load) for each element of a run of a box.
    pub fn load_run(self, run: &mut [u8]) {
        if self.converts() {
            for bits in run.as_chunks_mut::<4>().0 {
                *bits = self.load(u32::from_le_bytes(*bits)).to_le_bytes();
            }
        }
    }
}
