//! Averages of parameters on the CPU.

use rayon::prelude::*;

use super::{Average, Item};
use crate::Result;
use crate::device::Real;
use crate::device::cpu::{Buf, Cpu};
use crate::ops::finite::{guarded, replace};

/// Elements of a task.
const PIECE: usize = 1 << 15;

impl<T: Real> Average for Cpu<T> {
    fn average(&self, keep: T, items: &mut [Item<'_, Self>], guard: Option<&mut Buf<T>>) -> Result<()> {
        let update = |item: &mut Item<'_, Self>| {
            let pieces = item.average.par_chunks_mut(PIECE).zip(item.param.par_chunks(PIECE));
            let left_out = pieces.map(|(a, w)| {
                let mut left_out = false;
                for (a, &w) in a.iter_mut().zip(w) {
                    let new = w + keep * (*a - w);
                    left_out |= replace([a], [new]);
                }
                left_out
            });
            left_out.reduce(|| false, |a, b| a | b)
        };
        self.run(|| guarded(guard, || items.iter_mut().fold(false, |left_out, item| update(item) | left_out)));
        Ok(())
    }
}
