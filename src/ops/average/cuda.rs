//! Averages of parameters on a GPU: one launch of `kernels/average.cu` for every `SGD_ITEMS` parameters, as many as the
//! launch's arguments hold.

use super::{Average, Item};
use crate::Result;
use crate::device::cuda::tiles::SGD_ITEMS;
use crate::device::cuda::{Args, Buf, Cuda};
use crate::ops::update::{Entry, Table};

impl Average for Cuda {
    fn average(&self, keep: f32, items: &mut [Item<'_, Self>], guard: Option<&mut Buf>) -> Result<()> {
        let guard = guard.map_or(Ok(0), |words| self.changed(words))?;
        let keep = self.keep(keep)?;
        for items in items.chunks(SGD_ITEMS) {
            // An average moves by its parameter as a parameter does by its gradient.
            let entries = items.iter().map(|item| Entry::new(self, item.average, item.param, [None], [1.0; 2]));
            let table = Table::<7, SGD_ITEMS>::new(entries.collect::<Result<_>>()?);
            let Some(geometry) = table.geometry() else { continue };
            let args = Args::new().address(guard).address(keep.address).value(table.rows()).int(table.len());
            self.launch("average", "average", geometry, args)?;
        }
        Ok(())
    }
}
