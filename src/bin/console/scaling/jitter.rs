//! The spread of compute times: why ranks are not ready at the same time.

use std::f64::consts::TAU;

use mlpconv::rng::philox4x32_10;

/// Normal deviates, as functions of where they are used.
#[derive(Clone, Copy, Debug)]
pub struct Jitter {
    /// The standard deviation, as a share of the mean.
    pub share: f64,
    pub seed: u32,
}

impl Jitter {
    /// By how much a shard's compute time differs from the mean: a factor.
    pub fn factor(&self, step: usize, rank: usize, shard: usize) -> f64 {
        let [one, other, ..] = philox4x32_10([step as u32, rank as u32, shard as u32, 0], [self.seed, 0]);
        // Never zero, of which there is no logarithm.
        let unit = |word: u32| (f64::from(word) + 0.5) / 2f64.powi(32);
        let normal = (-2.0 * unit(one).ln()).sqrt() * (TAU * unit(other)).cos();
        (1.0 + self.share * normal).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_have_mean_one_and_the_deviation() {
        let spread = Jitter { share: 0.1, seed: 0 };
        let factors: Vec<f64> = (0..10_000).map(|rank| spread.factor(3, rank, 0)).collect();
        let mean = factors.iter().sum::<f64>() / 1e4;
        let deviation = (factors.iter().map(|factor| (factor - mean).powi(2)).sum::<f64>() / 1e4).sqrt();
        assert!((mean - 1.0).abs() < 4e-3 && (deviation - 0.1).abs() < 4e-3, "{mean} {deviation}");
    }
}
