//! Stochastic gradient descent on a GPU: one launch for all parameters, as long as the table of them fits its arguments.

use super::{Item, Rule, Sgd};
use crate::Result;
use crate::device::Buffer;
use crate::device::cuda::parts::{self, Parts};
use crate::device::cuda::tiles::{SGD_ITEMS, THREADS};
use crate::device::cuda::{Args, Buf, Cuda, Geometry, Operand};

/// `struct Item` of the kernel: four addresses, length and multiplier, the first block and the number of parts, and how far
/// apart they are.
type Row = [u64; 7];

fn row(
    [param, grad, velocity, copy]: [u64; 4],
    len: usize,
    multiplier: f32,
    first_block: usize,
    [parts, stride]: [usize; 2],
) -> Row {
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let (extent, place) = (pair(len as u32, multiplier.to_bits()), pair(first_block as u32, parts as u32));
    [param, grad, velocity, copy, extent, place, stride as u64]
}

/// A gradient as the update reads it, until this is dropped.
enum Summands<'a> {
    /// It adds them up.
    Parts(Parts),
    /// There is a single one.
    Whole(Operand<'a>),
}

impl<'a> Summands<'a> {
    /// Gradients of parameters are in fp32 as they are; others are cast.
    fn new(cuda: &Cuda, grad: &'a Buf) -> Result<Self> {
        Ok(match cuda.parts_of(grad)? {
            Some(parts) => Summands::Parts(parts),
            None => Summands::Whole(cuda.operand_f32(grad)?),
        })
    }

    fn address(&self) -> u64 {
        match self {
            Summands::Parts(parts) => parts.address(),
            Summands::Whole(grad) => grad.address(),
        }
    }

    /// How many there are, and how far apart.
    fn extents(&self) -> [usize; 2] {
        match self {
            Summands::Parts(parts) => [parts.count(), parts.stride()],
            Summands::Whole(_) => [1, 0],
        }
    }
}

/// The first block of each item, one after the other, and the number of all.
fn first_blocks(blocks: impl Iterator<Item = usize>) -> (Vec<usize>, usize) {
    let (mut first, mut total) = (Vec::new(), 0);
    for blocks in blocks {
        first.push(total);
        total += blocks;
    }
    (first, total)
}

impl Sgd for Cuda {
    fn sgd(&self, rule: &Rule<f32>, items: &mut [Item<'_, Self>]) -> Result<()> {
        let rate = self.rate(rule.rate)?;
        for items in items.chunks_mut(SGD_ITEMS) {
            let grads = items.iter().map(|item| Summands::new(self, item.grad)).collect::<Result<Vec<_>>>()?;
            let lens = items.iter().map(|item| item.param.len());
            let (first, total) =
                first_blocks(lens.zip(&grads).map(|(len, grad)| parts::blocks(len, grad.extents()[0])));
            let mut table = [Row::default(); SGD_ITEMS];
            for (((entry, item), grad), first) in table.iter_mut().zip(items.iter()).zip(&grads).zip(first) {
                let optional = |buf: Option<&Buf>| buf.map_or(Ok(0), |buf| self.settled(buf));
                let (velocity, copy) = (optional(item.velocity.as_deref())?, optional(item.param.copy())?);
                let addresses = [self.settled(item.param)?, grad.address(), velocity, copy];
                *entry = row(addresses, item.param.len(), item.rate_multiplier, first, grad.extents());
            }
            if total == 0 {
                continue;
            }
            let args = Args::new().address(rate.address).value(table).int(items.len());
            let args = args.float(rule.momentum).float(rule.weight_decay).flag(rule.nesterov);
            self.launch("sgd", "sgd", Geometry { grid: [total, 1, 1], block: [THREADS, 1, 1], shared: 0 }, args)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_has_blocks_of_its_own() {
        assert_eq!(first_blocks([1, 1, 2, 0, 1].into_iter()), (vec![0, 1, 2, 4, 4], 5));
        assert_eq!(first_blocks([].into_iter()), (vec![], 0));
    }

    #[test]
    fn the_table_fits_the_arguments_of_a_launch() {
        assert!(size_of::<[Row; SGD_ITEMS]>() + 64 <= 4096);
    }

    #[test]
    fn rows_lie_as_the_kernel_reads_them() {
        let row = row([1, 2, 3, 4], 5, 0.5, 6, [7, 8]);
        let words: &[u32] = bytemuck::cast_slice(&row);
        assert_eq!(words, [1, 0, 2, 0, 3, 0, 4, 0, 5, 0.5f32.to_bits(), 6, 7, 8, 0]);
    }
}
