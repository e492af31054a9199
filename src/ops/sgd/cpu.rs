//! Stochastic gradient descent on the CPU.

use rayon::prelude::*;

use super::{Item, Sgd, SgdStep};
use crate::Result;
use crate::device::Real;
use crate::device::cpu::{Buf, Cpu};
use crate::ops::finite::{guarded, replace};

/// Elements of a task.
const PIECE: usize = 1 << 15;

impl<T: Real> Sgd for Cpu<T> {
    fn sgd(&self, step: &SgdStep<T>, items: &mut [Item<'_, Self>], guard: Option<&mut Buf<T>>) -> Result<()> {
        let moved = |[rate, decay]: [T; 2], w: &mut [T], g: &[T], v: &mut [T]| {
            let mut left_out = false;
            for ((w, &g), v) in w.iter_mut().zip(g).zip(v) {
                let g = g + decay * *w;
                let velocity = step.momentum * *v + g;
                let new = *w - rate * if step.nesterov { g + step.momentum * velocity } else { velocity };
                left_out |= replace([w, v], [new, velocity]);
            }
            left_out
        };
        let unmoved = |[rate, decay]: [T; 2], w: &mut [T], g: &[T]| {
            let mut left_out = false;
            for (w, &g) in w.iter_mut().zip(g) {
                let new = *w - rate * (g + decay * *w);
                left_out |= replace([w], [new]);
            }
            left_out
        };
        let update = |item: &mut Item<'_, Self>| {
            let own = [step.rate * item.rate_multiplier, step.weight_decay * item.decay_multiplier];
            let pieces = item.param.par_chunks_mut(PIECE).zip(item.grad.par_chunks(PIECE));
            let either = |a, b| a | b;
            match &mut item.velocity {
                Some(velocity) => {
                    let pieces = pieces.zip(velocity.par_chunks_mut(PIECE));
                    pieces.map(|((w, g), v)| moved(own, w, g, v)).reduce(|| false, either)
                }
                None => pieces.map(|(w, g)| unmoved(own, w, g)).reduce(|| false, either),
            }
        };
        self.run(|| guarded(guard, || items.iter_mut().fold(false, |left_out, item| update(item) | left_out)));
        Ok(())
    }
}
