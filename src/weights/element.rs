//! The types of elements that weights files have, and how each becomes f32.

use safetensors::Dtype;

/// For the message about a tensor of another type.
pub(super) const TYPES: &str = "weights are F32, F16, BF16 or F64";

/// A type of elements in a file: its width in bytes, and the conversion of an element's bytes.
pub(super) struct Element {
    pub(super) width: usize,
    pub(super) to_f32: fn(&[u8]) -> f32,
}

/// How elements of type `dtype` become f32; `None` for a type that weights do not have.
pub(super) fn element(dtype: Dtype) -> Option<Element> {
    let (width, to_f32): (usize, fn(&[u8]) -> f32) = match dtype {
        Dtype::F32 => (4, |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        Dtype::F64 => (8, |b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32),
        // bf16 is the upper half of an f32.
        Dtype::BF16 => (2, |b| f32::from_le_bytes([0, 0, b[0], b[1]])),
        Dtype::F16 => (2, |b| from_f16(u16::from_le_bytes([b[0], b[1]]))),
        _ => return None,
    };
    Some(Element { width, to_f32 })
}

/// The value of an IEEE half: 1 bit of sign, 5 of exponent (bias 15), 10 of fraction.
fn from_f16(bits: u16) -> f32 {
    let bits = u32::from(bits);
    let (sign, exponent, fraction) = (bits >> 15 << 31, bits >> 10 & 0x1f, bits & 0x3ff);
    let magnitude = match exponent {
        // Subnormal: the fraction counts steps of 2⁻²⁴.
        0 => (fraction as f32 / 16_777_216.0).to_bits(),
        0x1f => 0xff << 23 | fraction << 13,
        _ => (exponent + 127 - 15) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
            let magnitude = match exponent {
                0 => fraction / 1024.0 * 2f64.powi(-14),
                31 if fraction == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
            };
            let value = f64::from(from_f16(bits));
            assert_eq!(value.is_sign_negative(), bits >> 15 == 1, "{bits:#06x}");
            assert!(value.abs() == magnitude || value.is_nan() && magnitude.is_nan(), "{bits:#06x}: {value}");
        }
    }
}
