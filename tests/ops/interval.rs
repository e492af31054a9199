//! A reference that computes with intervals. Each sum is widened by the bound n·u·Σ|a·b| of its rounding to either
//! side. Each value between two layers is rounded as for storage, which makes most intervals a single number again. A
//! mask whose sign is not certain allows both results. A program that rounds where the contract says lies within the
//! intervals; one that rounds elsewhere is unlikely to.

use crate::arithmetic::Arithmetic;

#[derive(Clone, Copy, Debug, Default)]
pub struct Interval {
    pub lo: f64,
    pub hi: f64,
}

impl Interval {
    pub fn of(value: f64) -> Self {
        Interval { lo: value, hi: value }
    }

    fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Interval { lo: f(self.lo), hi: f(self.hi) }
    }

    /// The gradient masked by `value`: itself if `value` is positive, zero if it is not, and both if its sign is not
    /// certain.
    fn masked(self, value: Interval) -> Self {
        let lo = if value.lo > 0.0 { self.lo } else { self.lo.min(0.0) };
        let hi = if value.lo > 0.0 { self.hi } else { self.hi.max(0.0) };
        if value.hi > 0.0 { Interval { lo, hi } } else { Interval::default() }
    }
}

/// A running sum with the bound of its rounding error.
#[derive(Clone, Copy, Default)]
pub struct Sum {
    value: Interval,
    magnitude: f64,
    terms: usize,
}

impl Sum {
    pub fn add(&mut self, a: Interval, b: Interval) {
        let products = [a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi];
        self.value.lo += products.into_iter().fold(f64::INFINITY, f64::min);
        self.value.hi += products.into_iter().fold(f64::NEG_INFINITY, f64::max);
        self.magnitude += products.into_iter().fold(0.0, |largest: f64, product| largest.max(product.abs()));
        self.terms += 1;
    }

    /// The interval of the sum, widened by the rounding error of the program and that of this reference.
    fn rounded(self, unit: f64) -> Interval {
        let error = 2.0 * self.terms as f64 * unit * self.magnitude;
        Interval { lo: self.value.lo - error, hi: self.value.hi + error }
    }
}

/// `out[m][n] = Σ_k a(m, k) · b(n, k)`.
pub fn product(
    [m, n, k]: [usize; 3],
    a: impl Fn(usize, usize) -> Interval,
    b: impl Fn(usize, usize) -> Interval,
) -> Vec<Sum> {
    let mut sums = vec![Sum::default(); m * n];
    for (i, sum) in sums.iter_mut().enumerate() {
        for k in 0..k {
            let (a, b) = (a(i / n, k), b(i % n, k));
            // A term of zero adds no rounding error.
            if [a, b].iter().all(|factor| factor.lo != 0.0 || factor.hi != 0.0) {
                sum.add(a, b);
            }
        }
    }
    sums
}

/// The rounding of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Rounding {
    pub arithmetic: Arithmetic,
    /// The numbers need no rounding.
    pub exact: bool,
}

impl Rounding {
    fn unit(self) -> f64 {
        if self.exact { 0.0 } else { self.arithmetic.product_unit() }
    }

    /// `values` rounded as they are stored.
    pub fn factors(self, values: &[Interval]) -> Vec<Interval> {
        values.iter().map(|value| value.map(|value| self.arithmetic.stored(value))).collect()
    }

    /// The stored activations of a layer, from its sums without the bias, in rows of channels.
    pub fn activations(self, sums: Vec<Sum>, bias: &[f64], relu: bool) -> Vec<Interval> {
        let value = |(i, mut sum): (usize, Sum)| {
            sum.add(Interval::of(bias[i % bias.len()]), Interval::of(1.0));
            sum.rounded(self.unit()).map(|value| self.arithmetic.stored(if relu { value.max(0.0) } else { value }))
        };
        sums.into_iter().enumerate().map(value).collect()
    }

    /// The stored gradient of an activation.
    pub fn gradient(self, sum: Sum) -> Interval {
        sum.rounded(self.unit()).map(|value| self.arithmetic.stored(value))
    }

    /// The stored gradient of the input of a ReLU whose output is `value`.
    pub fn masked(self, sum: Sum, value: Interval) -> Interval {
        sum.rounded(self.unit()).masked(value).map(|value| self.arithmetic.stored(value))
    }

    /// The gradients of parameters, which storing does not round.
    pub fn kept(self, sums: Vec<Sum>) -> Vec<Interval> {
        sums.into_iter().map(|sum| sum.rounded(self.unit())).collect()
    }
}

/// `values` as intervals.
pub fn intervals(values: &[f64]) -> Vec<Interval> {
    values.iter().map(|&value| Interval::of(value)).collect()
}

/// Asserts that the results lie in the reference's intervals, and that these are narrow: single numbers if `exact`.
pub fn within(what: &str, got: &[f64], want: &[Interval], exact: bool) {
    assert_eq!(got.len(), want.len(), "{what}");
    let (mut width, mut size) = (0.0, 0.0);
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(want.lo <= *got && *got <= want.hi, "{what}[{i}] is {got}, not of {want:?}");
        width += want.hi - want.lo;
        size += want.lo.abs().max(want.hi.abs());
    }
    // Wide intervals would make the check useless. Of a few elements one may have cancelled.
    let most = if exact { 0.0 } else { 0.02 * size };
    assert!(width <= most || !exact && got.len() < 8, "{what}: {width} of {size}");
}
