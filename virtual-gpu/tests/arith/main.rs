//! The arithmetic of single instructions, compared with results computed in another way.

mod approx;
mod convert;
mod float;
mod half;
mod integer;
mod mma;

use std::cmp::Ordering;
use virtual_gpu::arith::Rounding;

const ROUNDINGS: [Rounding; 4] = [Rounding::Nearest, Rounding::Zero, Rounding::Down, Rounding::Up];

/// A small generator of random numbers (SplitMix64), the same on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An edge value in one case of four, else random bits.
    fn f32(&mut self) -> f32 {
        let bits = self.next();
        if bits >> 62 == 0 { EDGES32[(bits % EDGES32.len() as u64) as usize] } else { f32::from_bits(bits as u32) }
    }

    fn f64(&mut self) -> f64 {
        let bits = self.next();
        let edges = EDGES64.len() as u64;
        if bits >> 62 == 0 { EDGES64[(bits % edges) as usize] } else { f64::from_bits(self.next()) }
    }

    /// A number between 2^-e and 2^e, of either sign.
    fn near_one(&mut self, e: i32) -> f64 {
        let bits = self.next();
        let exponent = (self.next() % (2 * e as u64)) as i64 - e as i64 + 1023;
        f64::from_bits((bits & 0x800f_ffff_ffff_ffff) | (exponent as u64) << 52)
    }
}

const EDGES32: [f32; 24] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1.5,
    -2.0,
    3.0,
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    f32::from_bits(1),
    f32::from_bits(0x8000_0001),
    f32::from_bits(0x007f_ffff),
    f32::from_bits(0x807f_ffff),
    f32::from_bits(0x0080_0001),
    1.0 + f32::EPSILON,
    1.0 - f32::EPSILON / 2.0,
    16777216.0,
    16777217.0,
];

const EDGES64: [f64; 18] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -1.5,
    f64::MAX,
    f64::MIN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    f64::MIN_POSITIVE,
    -f64::MIN_POSITIVE,
    f64::from_bits(1),
    f64::from_bits(0x8000_0000_0000_0001),
    f64::from_bits(0x000f_ffff_ffff_ffff),
    1.0 + f64::EPSILON,
    1.0 - f64::EPSILON / 2.0,
];

/// The directed rounding of an exact value, given the nearest float and how it compares to the exact value.
macro_rules! directed {
    ($nearest:expr, $order:expr, $rounding:expr) => {{
        let (nearest, order): (_, Ordering) = ($nearest, $order);
        let toward_zero = if nearest > 0.0 { Rounding::Down } else { Rounding::Up };
        match (if $rounding == Rounding::Zero { toward_zero } else { $rounding }, order) {
            (Rounding::Down, Ordering::Greater) => nearest.next_down(),
            (Rounding::Up, Ordering::Less) => nearest.next_up(),
            _ => nearest,
        }
    }};
}
use directed;

/// Equal bits, or both NaN.
fn same32(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

fn same64(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}
