//! AdamW on the CPU.

use rayon::prelude::*;

use super::{AdamW, AdamWStep, Item};
use crate::Result;
use crate::device::Real;
use crate::device::cpu::Cpu;

/// Elements of a task.
const PIECE: usize = 1 << 15;

impl<T: Real> AdamW for Cpu<T> {
    fn adamw(&self, step: &AdamWStep<T>, items: &mut [Item<'_, Self>]) -> Result<()> {
        self.run(|| {
            for item in items {
                let rate = step.rate * item.rate_multiplier;
                let (kept, pace) = (T::one() - rate * step.weight_decay, rate * step.corrections[0]);
                let pieces = item.param.par_chunks_mut(PIECE).zip(item.grad.par_chunks(PIECE));
                let averages = item.exp_avg.par_chunks_mut(PIECE).zip(item.exp_avg_sq.par_chunks_mut(PIECE));
                pieces.zip(averages).for_each(|((w, g), (m, v))| {
                    for (((w, &g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                        *m += step.exp_avg_weight * (g - *m);
                        *v = step.exp_avg_sq_decay * *v + step.exp_avg_sq_weight * (g * g);
                        *w = *w * kept - pace * (*m / (v.sqrt() * step.corrections[1] + step.eps));
                    }
                });
            }
        });
        Ok(())
    }
}
