//! AdamW's update of all parameters in one call.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::Result;
use crate::device::{Device, Real};

/// The settings of one update, the same for every parameter, in the form that kernels multiply by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep<S> {
    /// The learning rate, before a parameter's `rate_multiplier`.
    pub rate: S,
    /// The share of a parameter that an update at rate 1 subtracts, before a parameter's `decay_multiplier`.
    pub weight_decay: S,
    /// 1 − β₁.
    pub exp_avg_weight: S,
    /// β₂.
    pub exp_avg_sq_decay: S,
    /// 1 − β₂.
    pub exp_avg_sq_weight: S,
    /// Added to the square root in the denominator.
    pub eps: S,
    /// 1 / (1 − β₁ᵗ) and 1 / √(1 − β₂ᵗ), see [`corrections`].
    pub corrections: [S; 2],
}

/// The bias corrections of update `t` (from 1): 1 / (1 − β₁ᵗ) and 1 / √(1 − β₂ᵗ). They correct for averages that begin
/// at zero.
pub fn corrections([beta1, beta2]: [f64; 2], t: u64) -> [f64; 2] {
    // Rounding `t` beyond 2⁵³ is harmless: both powers are zero by then.
    let t = t as f64;
    [1.0 / (1.0 - beta1.powf(t)), 1.0 / (1.0 - beta2.powf(t)).sqrt()]
}

impl<S: Real> AdamWStep<S> {
    /// The settings of update `t` (from 1). Each number is computed in f64 and rounded once.
    pub fn new(rate: f64, [beta1, beta2]: [f64; 2], eps: f64, weight_decay: f64, t: u64) -> Self {
        AdamWStep {
            rate: S::from_f64(rate),
            weight_decay: S::from_f64(weight_decay),
            exp_avg_weight: S::from_f64(1.0 - beta1),
            exp_avg_sq_decay: S::from_f64(beta2),
            exp_avg_sq_weight: S::from_f64(1.0 - beta2),
            eps: S::from_f64(eps),
            corrections: corrections([beta1, beta2], t).map(S::from_f64),
        }
    }
}

/// One parameter of an update.
pub struct Item<'a, D: Device> {
    /// The values, updated in place. All tensors of an item have the same length.
    pub param: &'a mut D::Buf,
    pub grad: &'a D::Buf,
    /// The running average of gradients.
    pub exp_avg: &'a mut D::Buf,
    /// The running average of squared gradients.
    pub exp_avg_sq: &'a mut D::Buf,
    /// The factor of the update's learning rate.
    pub rate_multiplier: D::Scalar,
    /// The factor of the update's weight decay.
    pub decay_multiplier: D::Scalar,
}

/// The kernel of AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019).
pub trait AdamW: Device {
    /// PyTorch's rule, for each parameter `w` with gradient `g`, averages `m` and `v` (zero before the first update), rate
    /// `η = rate · rate_multiplier` and decay `λ = weight_decay · decay_multiplier`, at update `t` (from 1):
    ///
    /// `m ← m + (1 − β₁) · (g − m)`, `v ← β₂ · v + (1 − β₂) · g²`,
    /// `w ← w · (1 − η · λ) − η / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + eps)`.
    ///
    /// An element whose new `w`, `m` or `v` would not be finite keeps all three, and `guard[6] = 1`. With `guard[5] ≠ 0`
    /// nothing is updated at all. `guard` is as for [`Sgd::sgd`](crate::ops::sgd::Sgd::sgd).
    fn adamw(
        &self,
        step: &AdamWStep<Self::Scalar>,
        items: &mut [Item<'_, Self>],
        guard: Option<&mut Self::Buf>,
    ) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After one update the averages are (1 − β₁) · g and (1 − β₂) · g²; corrected, they are g and g².
    #[test]
    fn the_first_update_is_corrected_to_the_gradient() {
        let (betas, g) = ([0.9, 0.999], 0.3f64);
        let [mean, root] = corrections(betas, 1);
        let (m, v) = ((1.0 - betas[0]) * g, (1.0 - betas[1]) * g * g);
        assert!((m * mean - g).abs() < 1e-12 && (v.sqrt() * root - g).abs() < 1e-12);
    }

    #[test]
    fn later_corrections_fall_to_one() {
        for t in [10_000_000, u64::MAX] {
            assert_eq!(corrections([0.9, 0.999], t), [1.0, 1.0]);
        }
        assert_eq!(corrections([0.0, 0.0], 1), [1.0, 1.0], "no average, no correction");
    }
}
