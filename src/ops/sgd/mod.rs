//! SGD's update of all parameters in one call.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::Result;
use crate::device::Device;

/// The settings of one update, the same for every parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep<S> {
    /// The learning rate, before a parameter's `rate_multiplier`.
    pub rate: S,
    pub momentum: S,
    pub nesterov: bool,
    /// The factor of the parameter that is added to its gradient, before a parameter's `decay_multiplier`.
    pub weight_decay: S,
}

/// One parameter of an update.
pub struct Item<'a, D: Device> {
    /// The values, updated in place. All tensors of an item have the same length.
    pub param: &'a mut D::Buf,
    pub grad: &'a D::Buf,
    /// The running sum of gradients; `None` without momentum.
    pub velocity: Option<&'a mut D::Buf>,
    /// The factor of the update's learning rate.
    pub rate_multiplier: D::Scalar,
    /// The factor of the update's weight decay.
    pub decay_multiplier: D::Scalar,
}

/// The kernel of stochastic gradient descent.
pub trait Sgd: Device {
    /// PyTorch's rule, for each parameter `w` with gradient `g`, velocity `v` (zero before the first update), rate
    /// `η = rate · rate_multiplier` and decay `λ = weight_decay · decay_multiplier`:
    ///
    /// `g ← g + λ · w`, `v ← momentum · v + g`, `w ← w − η · (nesterov ? g + momentum · v : v)`.
    ///
    /// Without a velocity, `g ← g + λ · w`, `w ← w − η · g`.
    ///
    /// An element whose new `w` or `v` would not be finite keeps both, and `guard[6] = 1`. With `guard[5] ≠ 0` nothing is
    /// updated at all. `guard` has the words of a running loss
    /// ([`CrossEntropy`](crate::ops::cross_entropy::CrossEntropy::cross_entropy)).
    fn sgd(
        &self,
        step: &SgdStep<Self::Scalar>,
        items: &mut [Item<'_, Self>],
        guard: Option<&mut Self::Buf>,
    ) -> Result<()>;
}
