//! Softmax cross-entropy on the CPU: on one thread, in order, in f64, because logits are a few thousand numbers.

use super::guard::{LATE, NOW, Policy, SAMPLES_LEFT_OUT, STEPS_LEFT_OUT};
use super::{CrossEntropy, Extents};
use crate::device::Real;
use crate::device::cpu::{Buf, Cpu};
use crate::{Error, Result};

impl<T: Real> CrossEntropy for Cpu<T> {
    fn cross_entropy(
        &self,
        Extents { classes, batch, n }: Extents,
        logits: &Buf<T>,
        labels: &Buf<u8>,
        smoothing: f64,
        mut dlogits: Option<&mut Buf<T>>,
        meter: &mut Buf<T>,
    ) -> Result<()> {
        if let Some(position) = labels.iter().position(|&label| usize::from(label) >= classes) {
            return Err(Error::Label { op: "cross_entropy", label: labels[position], position, classes });
        }
        let (mut loss, mut hits, mut flat) = (0.0, 0usize, 0usize);
        for (i, (row, &label)) in logits.chunks_exact(classes).zip(labels.iter()).enumerate() {
            let label = usize::from(label);
            let mut best = 0;
            for (c, &logit) in row.iter().enumerate() {
                if logit > row[best] {
                    best = c;
                }
            }
            hits += usize::from(best == label);
            flat += usize::from(row.iter().all(|&logit| logit == row[0]));
            // Shifted by the largest logit, no exponential overflows and their sum is at least 1.
            let shifted = |c: usize| (row[c] - row[best]).to_f64();
            let sum: f64 = (0..classes).map(|c| shifted(c).exp()).sum();
            loss += sum.ln() - (1.0 - smoothing) * shifted(label);
            if smoothing > 0.0 {
                loss -= smoothing * (0..classes).map(shifted).sum::<f64>() / classes as f64;
            }
            if let Some(dlogits) = &mut dlogits {
                for c in 0..classes {
                    let onehot = if c == label { 1.0 } else { 0.0 };
                    let target = (1.0 - smoothing) * onehot + smoothing / classes as f64;
                    dlogits[i * classes + c] = T::from_f64((shifted(c).exp() / sum - target) / batch as f64);
                }
            }
        }
        let whole = logits.iter().all(|logit| logit.is_finite());
        let sums = [T::from_f64(loss), T::from_f64(hits as f64), T::from_f64(flat as f64)];
        if Policy::of(meter) == Policy::Shard {
            meter[..3].copy_from_slice(&sums);
            if !whole {
                meter[0] = T::nan();
            }
        } else {
            settle(meter, sums, n, whole);
        }
        Ok(())
    }
}

/// Adds the sums of a step of so many samples, or leaves the step out; `whole` if none of its numbers but these may be other than
/// finite.
pub(crate) fn settle<T: Real>(meter: &mut [T], sums: [T; 3], samples: usize, whole: bool) {
    let late = meter[LATE];
    meter[STEPS_LEFT_OUT] += late;
    meter[LATE] = T::zero();
    let finite = whole && sums[0].is_finite();
    let left_out = match Policy::of(meter) {
        Policy::Count | Policy::Shard => false,
        Policy::Skip => !finite,
        Policy::Stop => !finite || meter[STEPS_LEFT_OUT] > T::zero(),
    };
    meter[NOW] = if left_out { T::one() } else { T::zero() };
    if left_out {
        meter[SAMPLES_LEFT_OUT] += T::from_f64(samples as f64);
        meter[STEPS_LEFT_OUT] += T::one();
    } else {
        meter.iter_mut().zip(sums).for_each(|(meter, sum)| *meter += sum);
    }
}
