//! Stochastic gradient descent on a GPU: one launch of `kernels/sgd.cu` for every `SGD_ITEMS` parameters, as many as
//! the launch's arguments hold.

use super::{Item, Sgd, SgdStep};
use crate::Result;
use crate::device::cuda::tiles::SGD_ITEMS;
use crate::device::cuda::{Args, Buf, Cuda};
use crate::ops::update::{Entry, Table};

impl Sgd for Cuda {
    fn sgd(&self, step: &SgdStep<f32>, items: &mut [Item<'_, Self>], guard: Option<&mut Buf>) -> Result<()> {
        let guard = guard.map_or(Ok(0), |words| self.changed(words))?;
        let rate = self.rate(step.rate)?;
        for items in items.chunks(SGD_ITEMS) {
            let entries = items.iter().map(|item| {
                let multipliers = [item.rate_multiplier, item.decay_multiplier];
                Entry::new(self, item.param, item.grad, [item.velocity.as_deref()], multipliers)
            });
            let table = Table::<7, SGD_ITEMS>::new(entries.collect::<Result<_>>()?);
            let Some(geometry) = table.geometry() else { continue };
            let args = Args::new().address(guard).address(rate.address).value(table.rows()).int(table.len());
            let args = args.float(step.momentum).float(step.weight_decay).flag(step.nesterov);
            self.launch("sgd", "sgd", geometry, args)?;
        }
        Ok(())
    }
}
