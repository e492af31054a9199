//! AdamW on a GPU: one launch of `kernels/adamw.cu` for every `ADAMW_ITEMS` parameters, as many as the launch's
//! arguments hold.

use super::{AdamW, AdamWStep, Item};
use crate::Result;
use crate::device::cuda::tiles::ADAMW_ITEMS;
use crate::device::cuda::{Args, Buf, Cuda};
use crate::ops::update::{Entry, Table};

impl AdamW for Cuda {
    fn adamw(&self, step: &AdamWStep<f32>, items: &mut [Item<'_, Self>], guard: Option<&mut Buf>) -> Result<()> {
        let guard = guard.map_or(Ok(0), |words| self.changed(words))?;
        let scalars = self.rate_and_corrections(step.rate, step.corrections)?;
        for items in items.chunks(ADAMW_ITEMS) {
            let entries = items.iter().map(|item| {
                let states = [Some(&*item.exp_avg), Some(&*item.exp_avg_sq)];
                Entry::new(self, item.param, item.grad, states, [item.rate_multiplier, item.decay_multiplier])
            });
            let table = Table::<8, ADAMW_ITEMS>::new(entries.collect::<Result<_>>()?);
            let Some(geometry) = table.geometry() else { continue };
            let args = Args::new().address(guard).address(scalars.address).value(table.rows()).int(table.len());
            let args = args.float(step.weight_decay).float(step.exp_avg_weight);
            let args = args.float(step.exp_avg_sq_decay).float(step.exp_avg_sq_weight).float(step.eps);
            self.launch("adamw", "adamw", geometry, args)?;
        }
        Ok(())
    }
}
