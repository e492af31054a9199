//! Stochastic gradient descent on a GPU: one launch for all parameters, as long as the table of them fits its arguments.

use super::{Item, Rule, Sgd};
use crate::Result;
use crate::device::Buffer;
use crate::device::cuda::tiles::{SGD_ITEMS, THREADS};
use crate::device::cuda::{Args, Buf, Cuda, Geometry};

/// Elements of a block.
const PIECE: usize = 4 * THREADS;

/// `struct Item` of the kernel: four addresses, length and multiplier, the first block and nothing.
type Row = [u64; 6];

fn row([param, grad, velocity, copy]: [u64; 4], len: usize, multiplier: f32, first_block: usize) -> Row {
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    [param, grad, velocity, copy, pair(len as u32, multiplier.to_bits()), pair(first_block as u32, 0)]
}

/// The first block of each item, one after the other, and the number of all.
fn blocks(lens: impl Iterator<Item = usize>) -> (Vec<usize>, usize) {
    let (mut first, mut total) = (Vec::new(), 0);
    for len in lens {
        first.push(total);
        total += len.div_ceil(PIECE);
    }
    (first, total)
}

impl Sgd for Cuda {
    fn sgd(&self, rule: &Rule<f32>, items: &mut [Item<'_, Self>]) -> Result<()> {
        let rate = self.rate(rule.rate)?;
        for items in items.chunks_mut(SGD_ITEMS) {
            let (first, total) = blocks(items.iter().map(|item| item.param.len()));
            // Gradients of parameters are in fp32 as they are; others are cast, and live until the launch.
            let grads = items.iter().map(|item| self.operand_f32(item.grad)).collect::<Result<Vec<_>>>()?;
            let mut table = [Row::default(); SGD_ITEMS];
            for (((entry, item), grad), first) in table.iter_mut().zip(items.iter()).zip(&grads).zip(first) {
                let velocity = item.velocity.as_deref().map_or(0, Buf::address);
                let addresses = [item.param.address(), grad.address(), velocity, item.param.copy_address()];
                *entry = row(addresses, item.param.len(), item.rate_multiplier, first);
            }
            if total == 0 {
                continue;
            }
            let args = Args::new().address(rate.address).value(table).int(items.len());
            let args = args.float(rule.momentum).float(rule.weight_decay).flag(rule.nesterov);
            self.launch("sgd", "sgd", Geometry { grid: [total, 1, 1], block: THREADS, shared: 0 }, args)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_has_blocks_of_its_own() {
        assert_eq!(blocks([1, PIECE, PIECE + 1, 0, 5].into_iter()), (vec![0, 1, 2, 4, 4], 5));
        assert_eq!(blocks([].into_iter()), (vec![], 0));
    }

    #[test]
    fn the_table_fits_the_arguments_of_a_launch() {
        assert!(size_of::<[Row; SGD_ITEMS]>() + 64 <= 4096);
    }

    #[test]
    fn rows_lie_as_the_kernel_reads_them() {
        let row = row([1, 2, 3, 4], 5, 0.5, 6);
        let words: &[u32] = bytemuck::cast_slice(&row);
        assert_eq!(words, [1, 0, 2, 0, 3, 0, 4, 0, 5, 0.5f32.to_bits(), 6, 0]);
    }
}
