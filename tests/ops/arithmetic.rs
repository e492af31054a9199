//! A model of a backend's rounding, from which the tolerances of all tests are derived.
//!
//! An error has up to two sources. *Sums* round with every term ([`naive::Sum`](crate::naive::Sum) counts them). *Storing* an
//! activation, or the gradient of one, rounds the sum once. Uploading rounds as storing does: most tests draw numbers that
//! need no rounding, and one rounds the reference's numbers in the same way.

use mlpconv::device::Role;

use crate::case::Case;
use crate::naive::Sum;

/// A backend at a precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    CpuF64,
    CpuF32,
    CudaFp32,
    CudaTf32,
    CudaBf16,
}

use Arithmetic::*;

/// The largest error of an element, in two parts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bound {
    /// The error of its sum.
    pub sum: f64,
    /// The error of storing it.
    pub storage: f64,
}

impl Bound {
    pub fn total(self) -> f64 {
        self.sum + self.storage
    }
}

impl Arithmetic {
    pub const ALL: [Arithmetic; 5] = [CpuF64, CpuF32, CudaFp32, CudaTf32, CudaBf16];

    pub fn name(self) -> &'static str {
        match self {
            CpuF64 => "cpu f64",
            CpuF32 => "cpu f32",
            CudaFp32 => "cuda fp32",
            CudaTf32 => "cuda tf32",
            CudaBf16 => "cuda bf16",
        }
    }

    /// The unit roundoff of sums and all other computations, except a convolution's sums.
    pub fn unit(self) -> f64 {
        match self {
            CpuF64 => 2f64.powi(-53),
            _ => 2f64.powi(-24),
        }
    }

    /// The unit roundoff of a convolution's sums. Tensor cores may truncate, which has twice the error of rounding.
    pub fn product_unit(self) -> f64 {
        match self {
            CudaTf32 | CudaBf16 => 2f64.powi(-23),
            _ => self.unit(),
        }
    }

    /// Bits of a stored activation's significand. The host's numbers are `f32` or `f64` at any precision.
    fn stored_bits(self) -> u32 {
        match self {
            CpuF64 => 53,
            CpuF32 | CudaFp32 => 24,
            CudaTf32 => 11,
            CudaBf16 => 8,
        }
    }

    /// The relative error of storing an activation that has been computed with [`Arithmetic::unit`].
    pub fn storage_unit(self) -> f64 {
        match self {
            CudaTf32 | CudaBf16 => 2f64.powi(-(self.stored_bits() as i32)),
            _ => 0.0,
        }
    }

    /// `value` rounded as a stored activation: to nearest. Ties go to even, in TF32 away from zero.
    pub fn stored(self, value: f64) -> f64 {
        match self {
            CpuF64 => value,
            CpuF32 | CudaFp32 => f64::from(value as f32),
            CudaTf32 => round(f64::from(value as f32), self.stored_bits(), Ties::Away),
            CudaBf16 => round(f64::from(value as f32), self.stored_bits(), Ties::ToEven),
        }
    }

    /// `values`, rounded so that storing them as inputs of `case` does not. (A bias is a parameter, which is fp32: it is
    /// unchanged.)
    pub fn exact(self, case: &Case, input: usize, values: Vec<f64>) -> Vec<f64> {
        match case {
            Case::Conv2d(_) if input == 2 => values,
            _ => self.to_bits(values, self.stored_bits()),
        }
    }

    /// `values` with one bit more than a stored one, so that about half of them are ties.
    pub fn ties(self, values: Vec<f64>) -> Vec<f64> {
        self.to_bits(values, self.stored_bits() + 1)
    }

    fn to_bits(self, values: Vec<f64>, bits: u32) -> Vec<f64> {
        // Drawn numbers are f32 from the start.
        if bits >= 24 { values } else { values.into_iter().map(|value| round(value, bits, Ties::ToEven)).collect() }
    }

    /// The largest error of `sum` as a result of `case`, in a buffer of this role.
    pub fn bound(self, case: &Case, role: Role, sum: &Sum) -> Bound {
        let unit = match case {
            Case::Conv2d(_) => self.product_unit(),
            _ => self.unit(),
        };
        let error = sum.tolerance(unit);
        // Storing does not round a number that was only moved, nor a parameter's gradient, which is stored as it is
        // summed.
        let rounded = sum.roundings > 0 && role == Role::Activation;
        let storage = if rounded { self.storage_unit() * (sum.value.abs() + error) } else { 0.0 };
        Bound { sum: error, storage }
    }
}

enum Ties {
    ToEven,
    Away,
}

/// The nearest number whose significand has `bits` bits.
fn round(value: f64, bits: u32, ties: Ties) -> f64 {
    if !value.is_finite() {
        return value;
    }
    let cut = f64::MANTISSA_DIGITS - bits;
    let half = 1u64 << (cut - 1);
    let up = match ties {
        Ties::Away => half,
        Ties::ToEven => half - 1 + (value.to_bits() >> cut & 1),
    };
    // A carry into the exponent gives the right result.
    f64::from_bits((value.to_bits() + up) >> cut << cut)
}

#[test]
fn rounding_by_hand() {
    // 1 + 3/256 lies in the middle of 1 + 2/256 and 1 + 4/256, which are neighbours with 8 bits.
    let middle = 1.0 + 3.0 / 256.0;
    assert_eq!(round(middle, 8, Ties::ToEven), 1.0 + 4.0 / 256.0);
    assert_eq!(round(1.0 + 1.0 / 256.0, 8, Ties::ToEven), 1.0);
    assert_eq!(round(1.0 + 1.0 / 256.0, 8, Ties::Away), 1.0 + 2.0 / 256.0);
    assert_eq!(round(-1.0 - 1.0 / 256.0, 8, Ties::Away), -1.0 - 2.0 / 256.0);
    assert_eq!(round(1.999, 8, Ties::ToEven), 2.0);
    assert_eq!(CudaBf16.stored(3.0), 3.0);
    assert_eq!(CudaFp32.stored(0.1), f64::from(0.1f32));
    assert!((CudaTf32.stored(0.1) - 0.1).abs() <= 0.1 * 2f64.powi(-11));
    assert!((CudaBf16.stored(0.1) - 0.1).abs() > 0.1 * 2f64.powi(-12));
    assert_eq!(CudaTf32.stored(1.0 + 2f64.powi(-11)), 1.0 + 2f64.powi(-10));
}
