//! The sums of matrix products as tensor cores form them.
//!
//! NVIDIA leaves them open. Two groups have measured cards and agree (Mikaitis et al., arXiv 2512.07004, whose models and values
//! are in MATLAB-tensor-core; Li et al., arXiv 2511.10909, MMA-Sim): several products and the element of C are one sum.
//!
//! * A product's significand is not normalised, so it is less than 4, and its exponent is the sum of its factors'. A subnormal
//!   number has the least normal exponent of its type. A zero has none.
//! * All terms are shifted to the largest exponent, or to the least that the core has, and cut off (towards zero) after a few bits
//!   more than C has. Then they are added exactly.
//! * The sum is cut off to an `f32`, subnormal ones included, or rounded to the nearest `f16`. Beyond the range it is infinite.
//!
//! | | bits of a term | products of one sum |
//! |---|---|---|
//! | Ampere, Ada | 24 | 8, or 4 of TF32: the longer `mma` are two sums, one after the other |
//! | Hopper, Blackwell | 25 | all of an instruction |

use super::Rounding;
use super::convert::f64_to_f32;
use super::float::NAN32;
use super::half::{f16_to_f32, f64_to_f16};

/// How matrix products are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// In the order of `k` from C on, each sum rounded to the nearest `f32`: as no card does, but faster here.
    Ordered,
    Core(TensorCore),
}

/// A tensor core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorCore {
    /// Bits of a term behind the point.
    fraction: u32,
    /// Bits of `k` that one sum takes: 128 or 256.
    width: usize,
}

impl TensorCore {
    pub const AMPERE: TensorCore = TensorCore { fraction: 24, width: 128 };
    pub const HOPPER: TensorCore = TensorCore { fraction: 25, width: 256 };

    /// That of a compute capability.
    pub fn of(capability: (u32, u32)) -> Self {
        if capability.0 >= 9 { TensorCore::HOPPER } else { TensorCore::AMPERE }
    }

    /// The least exponent that terms are shifted to, by the models of MATLAB-tensor-core: -132 and -133, or -20 and -21 of f16.
    fn least(self, output: Output) -> i32 {
        let fraction = self.fraction as i32;
        match output {
            Output::F32 => -108 - fraction,
            Output::F16 => 4 - fraction,
        }
    }
}

/// The type of A and B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    Bf16,
    F16,
    Tf32,
}

impl Input {
    /// Bits of the significand behind the point.
    fn fraction(self) -> u32 {
        if self == Input::Bf16 { 7 } else { 10 }
    }

    fn least_exponent(self) -> i32 {
        if self == Input::F16 { -14 } else { -126 }
    }

    /// Bits that an element takes of the core's width.
    fn width(self) -> usize {
        if self == Input::Tf32 { 32 } else { 16 }
    }
}

/// The type of C and D, whose elements are here as `f32` in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    F32,
    F16,
}

/// The exponent of a zero, to which another may be added: far below that of any product.
const NONE: i32 = -10_000;

/// A finite number's significand, with its sign, in units of `2^-fraction`, and its exponent.
#[inline(always)]
fn parts(value: f32, fraction: u32, least: i32) -> (i32, i32) {
    let bits = value.to_bits();
    let (field, mantissa) = ((bits >> 23 & 0xff) as i32, (bits & 0x7f_ffff) as i32);
    let significand = if field == 0 { mantissa } else { mantissa | 1 << 23 };
    let exponent = field.max(1) - 127;
    // Of a narrower type a subnormal number is normal here.
    let shift = (least - exponent).clamp(0, 31);
    let significand = significand >> shift >> (23 - fraction);
    let exponent = if significand == 0 { NONE } else { exponent + shift };
    let sign = bits as i32 >> 31;
    ((significand ^ sign) - sign, exponent)
}

/// A term after the shift: cut off towards zero.
#[inline(always)]
fn shifted(significand: i32, left: u32, right: i32) -> i32 {
    let sign = significand >> 31;
    let magnitude = ((significand ^ sign) - sign) << left >> right.min(31);
    (magnitude ^ sign) - sign
}

/// Columns of B, C and D.
pub const N: usize = 8;

/// Numbers taken apart.
struct Parts<const COLUMNS: usize, const ROWS: usize> {
    significands: [[i32; COLUMNS]; ROWS],
    exponents: [[i32; COLUMNS]; ROWS],
    finite: bool,
    /// Whether those that are not zero are neither very small nor very large.
    moderate: bool,
}

/// The largest exponent of a moderate number, with either sign: products of two, and these in units of a sum's last bit, are normal
/// `f32`, or so small that they are cut off.
const MODERATE: i32 = 50;

impl<const COLUMNS: usize, const ROWS: usize> Parts<COLUMNS, ROWS> {
    #[inline(always)]
    fn of(values: &[[f32; COLUMNS]; ROWS], fraction: u32, least: i32) -> Self {
        let (mut significands, mut exponents) = ([[0; COLUMNS]; ROWS], [[0; COLUMNS]; ROWS]);
        let (mut largest, mut least_found) = (0, 0);
        let taken = significands.as_flattened_mut().iter_mut().zip(exponents.as_flattened_mut());
        for ((significand, exponent), &value) in taken.zip(values.as_flattened()) {
            (*significand, *exponent) = parts(value, fraction, least);
            largest = largest.max(*exponent);
            least_found = least_found.min(if *exponent == NONE { 0 } else { *exponent });
        }
        let moderate = largest <= MODERATE && least_found >= -MODERATE;
        Parts { significands, exponents, finite: largest < 128, moderate }
    }
}

/// Rows of C and D.
pub const M: usize = 16;

/// Sixteen rows of A, taken apart.
pub struct Left<const K: usize> {
    input: Input,
    values: [[f32; K]; M],
    parts: Parts<K, M>,
}

impl<const K: usize> Left<K> {
    pub fn new(input: Input, values: [[f32; K]; M]) -> Self {
        let parts = Parts::of(&values, input.fraction(), input.least_exponent());
        Left { input, values, parts }
    }
}

/// Eight columns of B, with a row for each `k`, taken apart.
pub struct Right<const K: usize> {
    values: [[f32; N]; K],
    parts: Parts<N, K>,
}

impl<const K: usize> Right<K> {
    pub fn new(input: Input, values: [[f32; N]; K]) -> Self {
        let parts = Parts::of(&values, input.fraction(), input.least_exponent());
        Right { values, parts }
    }
}

impl TensorCore {
    /// `sums += a * b`.
    #[inline]
    pub fn accumulate<const K: usize>(self, output: Output, a: &Left<K>, b: &Right<K>, sums: &mut [[f32; N]; M]) {
        let before = *sums;
        if output == Output::F32 && (Product { core: self, a, b }).add_to(sums) {
            return;
        }
        for (m, sums) in sums.iter_mut().enumerate() {
            for (n, sum) in sums.iter_mut().enumerate() {
                let column = b.values.each_ref().map(|b| b[n]);
                *sum = self.element((a.input, output), &a.values[m], column, before[m][n]);
            }
        }
    }

    /// An element of any numbers.
    fn element<const K: usize>(self, (input, output): (Input, Output), a: &[f32; K], b: [f32; K], c: f32) -> f32 {
        let once = (self.width / input.width()).min(K);
        let sum = |c: f32, (a, b): (&[f32], &[f32])| self.sum((input, output), a, b, c);
        a.chunks(once).zip(b.chunks(once)).fold(c, sum)
    }

    /// One sum.
    fn sum(self, (input, output): (Input, Output), a: &[f32], b: &[f32], c: f32) -> f32 {
        if !a.iter().chain(b).chain(&[c]).all(|value| value.is_finite()) {
            // A product of finite numbers is finite, whatever an f32 holds.
            let special = |(a, b): (&f32, &f32)| if a.is_finite() && b.is_finite() { 0.0 } else { a * b };
            let sum = a.iter().zip(b).map(special).sum::<f32>() + if c.is_finite() { 0.0 } else { c };
            return if sum.is_nan() { NAN32 } else { sum };
        }
        let number = |value| parts(value, input.fraction(), input.least_exponent());
        let product = |(a, b): ((i32, i32), (i32, i32))| (a.0 * b.0, a.1 + b.1);
        let products = || a.iter().zip(b).map(|(&a, &b)| product((number(a), number(b))));
        let (c, exponent) = parts(c, 23, -126);
        let top = products().map(|(_, exponent)| exponent).fold(exponent, i32::max).max(self.least(output));
        let left = self.fraction - 2 * input.fraction();
        let term = |(significand, exponent)| i64::from(shifted(significand, left, top - exponent));
        let total: i64 = products().map(term).sum::<i64>() + i64::from(shifted(c, self.fraction - 23, top - exponent));
        let value = total as f64 * power(top - self.fraction as i32);
        match output {
            Output::F16 => f16_to_f32(f64_to_f16(value, Rounding::Nearest)),
            // Cut off the largest number would stay.
            Output::F32 if value.abs() >= power(128) => f32::INFINITY.copysign(value as f32),
            Output::F32 => f64_to_f32(value, Rounding::Zero, false, false),
        }
    }
}

/// A product of finite numbers, all of whose sums are formed side by side.
struct Product<'a, const K: usize> {
    core: TensorCore,
    a: &'a Left<K>,
    b: &'a Right<K>,
}

impl<const K: usize> Product<'_, K> {
    /// Adds the product. `false`, and anything in `sums`, if a number is not finite or a sum may be subnormal, which is not done here.
    #[inline]
    fn add_to(&self, sums: &mut [[f32; N]; M]) -> bool {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return unsafe { self.add_to_avx2(sums) };
        }
        // SAFETY: without AVX2 there is nothing to ask for.
        unsafe { self.add_to_by::<false>(sums) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn add_to_avx2(&self, sums: &mut [[f32; N]; M]) -> bool {
        // SAFETY: the caller has asked the processor.
        unsafe { self.add_to_by::<true>(sums) }
    }

    /// # Safety
    /// With `AVX2` the processor has it.
    #[inline(always)]
    unsafe fn add_to_by<const AVX2: bool>(&self, sums: &mut [[f32; N]; M]) -> bool {
        let Product { core, a: Left { input, parts: a, values: a_values }, b: Right { parts: b, values: b_values } } =
            *self;
        let once = (core.width / input.width()).min(K);
        let (fraction, left) = (core.fraction as i32, core.fraction - 2 * input.fraction());
        let moderate = a.moderate && b.moderate;
        for first in (0..K).step_by(once) {
            let c = Parts::of(sums, 23, -126);
            if !(a.finite && b.finite && c.finite) {
                return false;
            }
            let mut tops = c.exponents;
            // The terms of eight products are less than 2^30 together.
            let mut terms = [[[0; N]; M]; 2];
            let mut subnormal = false;
            for m in 0..M {
                let factors = |from: usize, many: usize| Factors {
                    a: (&a.significands[m][from..from + many], &a.exponents[m][from..from + many]),
                    b: (&b.significands[from..from + many], &b.exponents[from..from + many]),
                };
                // SAFETY: as the caller promises; so below.
                unsafe { factors(first, once).top::<AVX2>(&mut tops[m]) };
                for top in &mut tops[m] {
                    // From this exponent on the last bit of a sum is a normal number.
                    subnormal |= (*top < fraction - 126) & (*top > NONE / 2);
                    *top = (*top).max(core.least(Output::F32));
                }
                let scales = tops[m].map(|top| scale(fraction - top.max(-2 * MODERATE)));
                for (half, terms) in terms.iter_mut().enumerate().take(once.div_ceil(8)) {
                    let (from, many) = (first + 8 * half, once.min(8));
                    if moderate {
                        add_moderate(
                            &a_values[m][from..from + many],
                            &b_values[from..from + many],
                            &scales,
                            &mut terms[m],
                        );
                    } else {
                        unsafe { factors(from, many).add::<AVX2>(left, &tops[m], &mut terms[m]) };
                    }
                }
            }
            if subnormal {
                return false;
            }
            for m in 0..M {
                for n in 0..N {
                    let c = shifted(c.significands[m][n], core.fraction - 23, tops[m][n] - c.exponents[m][n]);
                    let total = f64::from(terms[0][m][n]) + f64::from(terms[1][m][n]) + f64::from(c);
                    // 24 bits of 53.
                    let cut = f64::from_bits(total.to_bits() & !((1 << 29) - 1));
                    sums[m][n] = (cut * power(tops[m][n] - fraction)) as f32;
                }
            }
        }
        true
    }
}

/// 2 to the power of an exponent that a normal `f64` has.
#[inline(always)]
fn power(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

/// The same as an `f32`.
#[inline(always)]
fn scale(exponent: i32) -> f32 {
    f32::from_bits(((127 + exponent) as u32) << 23)
}

/// Adds the products of moderate numbers to eight sums, in units of their last bits: products are exact in `f32`, and so is a
/// product with a power of two, whose conversion to an integer cuts off as the core does.
#[inline(always)]
fn add_moderate(a: &[f32], b: &[[f32; N]], scales: &[f32; N], terms: &mut [i32; N]) {
    // One sum takes four products, or eight, or sixteen.
    for (a, b) in a.as_chunks::<4>().0.iter().zip(b.as_chunks::<4>().0) {
        for (a, b) in a.iter().zip(b) {
            for n in 0..N {
                // SAFETY: a product's significand is less than 4, so this is finite and less than 2^(fraction + 2).
                terms[n] += unsafe { (a * b[n] * scales[n]).to_int_unchecked::<i32>() };
            }
        }
    }
}

/// The factors of eight sums: significands and exponents of a row of A, and of as many rows of B.
struct Factors<'a> {
    a: (&'a [i32], &'a [i32]),
    b: (&'a [[i32; N]], &'a [[i32; N]]),
}

impl Factors<'_> {
    /// The largest exponents.
    ///
    /// # Safety
    /// With `AVX2` the processor has it.
    #[inline(always)]
    unsafe fn top<const AVX2: bool>(&self, top: &mut [i32; N]) {
        #[cfg(target_arch = "x86_64")]
        if AVX2 {
            // SAFETY: as the caller promises.
            return unsafe { self.top_avx2(top) };
        }
        for (a, b) in self.a.1.iter().zip(self.b.1) {
            for n in 0..N {
                top[n] = top[n].max(a + b[n]);
            }
        }
    }

    /// Adds the products, shifted to the largest exponents.
    ///
    /// # Safety
    /// With `AVX2` the processor has it.
    #[inline(always)]
    unsafe fn add<const AVX2: bool>(&self, left: u32, top: &[i32; N], terms: &mut [i32; N]) {
        #[cfg(target_arch = "x86_64")]
        if AVX2 {
            // SAFETY: as the caller promises.
            return unsafe { self.add_avx2(left, top, terms) };
        }
        let (a, b) = (self.a.0.iter().zip(self.a.1), self.b.0.iter().zip(self.b.1));
        for (a, b) in a.zip(b) {
            for n in 0..N {
                terms[n] += shifted(a.0 * b.0[n], left, top[n] - a.1 - b.1[n]);
            }
        }
    }
}

/// The two loops with a vector of eight: left to the compiler they took twice the time.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm_cvtsi32_si128, _mm256_abs_epi32, _mm256_add_epi32, _mm256_loadu_si256, _mm256_max_epi32,
        _mm256_mullo_epi32, _mm256_set1_epi32, _mm256_sign_epi32, _mm256_sll_epi32, _mm256_srlv_epi32,
        _mm256_storeu_si256, _mm256_sub_epi32,
    };

    use super::{Factors, N};

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(values: &[i32; N]) -> __m256i {
        // SAFETY: eight numbers, of any alignment.
        unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn store(values: &mut [i32; N], vector: __m256i) {
        // SAFETY: eight numbers, of any alignment.
        unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), vector) };
    }

    impl Factors<'_> {
        #[inline]
        #[target_feature(enable = "avx2")]
        pub fn top_avx2(&self, top: &mut [i32; N]) {
            let mut largest = load(top);
            for (a, b) in self.a.1.iter().zip(self.b.1) {
                largest = _mm256_max_epi32(largest, _mm256_add_epi32(_mm256_set1_epi32(*a), load(b)));
            }
            store(top, largest);
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        pub fn add_avx2(&self, left: u32, top: &[i32; N], terms: &mut [i32; N]) {
            let (mut sum, top, left) = (load(terms), load(top), _mm_cvtsi32_si128(left as i32));
            let (a, b) = (self.a.0.iter().zip(self.a.1), self.b.0.iter().zip(self.b.1));
            for (a, b) in a.zip(b) {
                let product = _mm256_mullo_epi32(_mm256_set1_epi32(*a.0), load(b.0));
                // A shift by 32 or more, of a zero among others, gives zero.
                let right = _mm256_sub_epi32(_mm256_sub_epi32(top, _mm256_set1_epi32(*a.1)), load(b.1));
                let magnitude = _mm256_srlv_epi32(_mm256_sll_epi32(_mm256_abs_epi32(product), left), right);
                sum = _mm256_add_epi32(sum, _mm256_sign_epi32(magnitude, product));
            }
            store(terms, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of magnitudes from subnormal to huge, if `spread` is so large, with zeros and now and then an infinity among them.
    fn number(state: &mut u64, input: Input, spread: u64) -> f32 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = *state >> 32;
        if random.is_multiple_of(11) {
            return 0.0;
        }
        let exponent = match input {
            Input::F16 => 127 - (random >> 8) % spread.min(24) + 5,
            _ => 128 - spread / 2 + (random >> 8) % spread,
        };
        let mantissa = (random as u32 & 0x7f_ffff) >> (23 - input.fraction()) << (23 - input.fraction());
        let value = f32::from_bits((random as u32 & 1) << 31 | (exponent as u32) << 23 | mantissa);
        // A subnormal f16 has fewer bits.
        if input == Input::F16 { f16_to_f32(f64_to_f16(f64::from(value), Rounding::Zero)) } else { value }
    }

    #[test]
    fn whole_products_and_single_elements_have_the_same_bits() {
        let mut state = 1;
        for core in [TensorCore::AMPERE, TensorCore::HOPPER] {
            for (input, spread) in [
                (Input::Bf16, 4),
                (Input::Bf16, 40),
                (Input::Bf16, 256),
                (Input::F16, 24),
                (Input::Tf32, 4),
                (Input::Tf32, 256),
            ] {
                for _ in 0..300 {
                    let a: [[f32; 16]; M] = [(); M].map(|()| [(); 16].map(|()| number(&mut state, input, spread)));
                    let b: [[f32; N]; 16] = [(); 16].map(|()| [(); N].map(|()| number(&mut state, input, spread)));
                    let c: [[f32; N]; M] =
                        [(); M].map(|()| [(); N].map(|()| number(&mut state, Input::Tf32, spread) * 1.000_001));
                    let element =
                        |m: usize, n: usize| core.element((input, Output::F32), &a[m], b.map(|b| b[n]), c[m][n]);
                    let mut sums = c;
                    let (left, right) = (Left::new(input, a), Right::new(input, b));
                    core.accumulate(Output::F32, &left, &right, &mut sums);
                    let mut portable = c;
                    // SAFETY: no AVX2 is asked for.
                    let usual = unsafe { Product { core, a: &left, b: &right }.add_to_by::<false>(&mut portable) };
                    assert!(usual || spread > 40, "{core:?} {input:?} {spread} is done element by element");
                    for m in 0..M {
                        for n in 0..N {
                            let wanted = element(m, n).to_bits();
                            assert_eq!(sums[m][n].to_bits(), wanted, "{core:?} {input:?} {spread}");
                            assert!(!usual || portable[m][n].to_bits() == wanted, "{core:?} {input:?} {spread}");
                        }
                    }
                }
            }
        }
    }

    /// Rows and columns that tiles have too many are zero, beside numbers of any size.
    #[test]
    fn zeros_are_summed_side_by_side() {
        let (mut a, mut b, mut sums) = ([[8.0; 16]; M], [[1024.0; N]; 16], [[0.0; N]; M]);
        (a[3], sums[0][0]) = ([0.0; 16], 1.0);
        b.iter_mut().for_each(|b| b[5] = 0.0);
        let (a, b) = (Left::new(Input::Bf16, a), Right::new(Input::Bf16, b));
        assert!((Product { core: TensorCore::HOPPER, a: &a, b: &b }).add_to(&mut sums));
        assert_eq!([sums[0][0], sums[3][0], sums[0][5], sums[1][1]], [131_073.0, 0.0, 0.0, 131_072.0]);
    }
}
