//! AdamW on the CPU.

use rayon::prelude::*;

use super::{AdamW, AdamWStep, Item};
use crate::Result;
use crate::device::Real;
use crate::device::cpu::{Buf, Cpu};
use crate::ops::finite::{guarded, replace};

/// Elements of a task.
const PIECE: usize = 1 << 15;

impl<T: Real> AdamW for Cpu<T> {
    fn adamw(&self, step: &AdamWStep<T>, items: &mut [Item<'_, Self>], guard: Option<&mut Buf<T>>) -> Result<()> {
        let update = |item: &mut Item<'_, Self>| {
            let rate = step.rate * item.rate_multiplier;
            let decay = step.weight_decay * item.decay_multiplier;
            let (kept, pace) = (T::one() - rate * decay, rate * step.corrections[0]);
            let pieces = item.param.par_chunks_mut(PIECE).zip(item.grad.par_chunks(PIECE));
            let averages = item.exp_avg.par_chunks_mut(PIECE).zip(item.exp_avg_sq.par_chunks_mut(PIECE));
            let left_out = pieces.zip(averages).map(|((w, g), (m, v))| {
                let mut left_out = false;
                for (((w, &g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                    let mean = *m + step.exp_avg_weight * (g - *m);
                    let square = step.exp_avg_sq_decay * *v + step.exp_avg_sq_weight * (g * g);
                    let new = *w * kept - pace * (mean / (square.sqrt() * step.corrections[1] + step.eps));
                    left_out |= replace([w, m, v], [new, mean, square]);
                }
                left_out
            });
            left_out.reduce(|| false, |a, b| a | b)
        };
        self.run(|| guarded(guard, || items.iter_mut().fold(false, |left_out, item| update(item) | left_out)));
        Ok(())
    }
}
