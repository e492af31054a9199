//! Averages of parameters over updates, moved on in one call.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::Result;
use crate::device::Device;

/// A parameter and its average.
pub struct Item<'a, D: Device> {
    pub param: &'a D::Buf,
    /// The average, updated in place, of the parameter's length.
    pub average: &'a mut D::Buf,
}

/// The kernel of averages.
pub trait Average: Device {
    /// For each parameter `w` with average `a`: `a ← w + keep · (a − w)`. With `keep = 0` the average becomes `w` itself, to
    /// the bit.
    ///
    /// An element whose new `a` would not be finite keeps it, and `guard[6] = 1`. With `guard[5] ≠ 0` nothing is updated at
    /// all. `guard` is as for [`Sgd::sgd`](crate::ops::sgd::Sgd::sgd).
    fn average(&self, keep: Self::Scalar, items: &mut [Item<'_, Self>], guard: Option<&mut Self::Buf>) -> Result<()>;
}
