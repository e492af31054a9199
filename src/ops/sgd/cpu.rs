//! Stochastic gradient descent on the CPU.

use rayon::prelude::*;

use super::{Item, Sgd, SgdStep};
use crate::Result;
use crate::device::Real;
use crate::device::cpu::Cpu;

/// Elements of a task.
const PIECE: usize = 1 << 15;

impl<T: Real> Sgd for Cpu<T> {
    fn sgd(&self, step: &SgdStep<T>, items: &mut [Item<'_, Self>]) -> Result<()> {
        self.run(|| {
            for item in items {
                let rate = step.rate * item.rate_multiplier;
                let pieces = item.param.par_chunks_mut(PIECE).zip(item.grad.par_chunks(PIECE));
                match &mut item.velocity {
                    Some(velocity) => pieces.zip(velocity.par_chunks_mut(PIECE)).for_each(|((w, g), v)| {
                        for ((w, &g), v) in w.iter_mut().zip(g).zip(v) {
                            let g = g + step.weight_decay * *w;
                            *v = step.momentum * *v + g;
                            *w -= rate * if step.nesterov { g + step.momentum * *v } else { *v };
                        }
                    }),
                    None => pieces.for_each(|(w, g)| {
                        for (w, &g) in w.iter_mut().zip(g) {
                            *w -= rate * (g + step.weight_decay * *w);
                        }
                    }),
                }
            }
        });
        Ok(())
    }
}
