//! The table of an optimiser's launch on a GPU: the parameters that one launch updates, as `kernels/update.cuh` reads
//! them.

use bytemuck::NoUninit;

use crate::Result;
use crate::device::Buffer;
use crate::device::cuda::parts::{self, Parts};
use crate::device::cuda::tiles::THREADS;
use crate::device::cuda::{Buf, Cuda, Geometry, Operand};

/// The kernels' `Item`, in `WORDS` words of eight bytes: the addresses of the parameter, the gradient, each state and
/// the copy; length and rate multiplier; first block and number of parts; the parts' stride in elements and the decay multiplier.
pub(super) type Row<const WORDS: usize> = [u64; WORDS];

/// The rows of a launch; rows without a parameter are zero.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Rows<const WORDS: usize, const ITEMS: usize>([Row<WORDS>; ITEMS]);

// SAFETY: an array of integers has no padding bytes.
unsafe impl<const WORDS: usize, const ITEMS: usize> NoUninit for Rows<WORDS, ITEMS> {}

/// The words of a row without the addresses of states.
const WORDS_WITHOUT_STATES: usize = 6;

/// The most bytes of a launch's arguments, and those that a table leaves to the others.
const ARGUMENTS: usize = 4096;
const OTHER_ARGUMENTS: usize = 64;

/// A parameter of an update, with its gradient and states: their addresses, where null is for none.
pub(super) struct Entry<'a, const STATES: usize> {
    param: u64,
    len: usize,
    copy: u64,
    grad: Summands<'a>,
    states: [u64; STATES],
    multipliers: [f32; 2],
}

impl<'a, const STATES: usize> Entry<'a, STATES> {
    /// `states` are the optimiser's tensors of the parameter's shape, `multipliers` those of its rate and of its decay.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) for a gradient that must be cast; errors of the device.
    pub(super) fn new(
        cuda: &Cuda,
        param: &Buf,
        grad: &'a Buf,
        states: [Option<&Buf>; STATES],
        multipliers: [f32; 2],
    ) -> Result<Self> {
        let optional = |buf: Option<&Buf>| buf.map_or(Ok(0), |buf| cuda.settled(buf));
        let mut addresses = [0; STATES];
        for (address, state) in addresses.iter_mut().zip(states) {
            *address = optional(state)?;
        }
        let (copy, grad) = (optional(param.copy())?, Summands::new(cuda, grad)?);
        Ok(Entry { param: cuda.settled(param)?, len: param.len(), copy, grad, states: addresses, multipliers })
    }

    /// A copy of `grad` to address `to`.
    ///
    /// # Errors
    /// As [`Entry::new`].
    pub(super) fn copy(cuda: &Cuda, to: u64, grad: &'a Buf) -> Result<Self> {
        let (len, grad) = (grad.len(), Summands::new(cuda, grad)?);
        Ok(Entry { param: to, len, copy: 0, grad, states: [0; STATES], multipliers: [0.0; 2] })
    }

    /// A copy of the `len` elements at address `from` to address `to`.
    pub(super) fn copy_within(to: u64, len: usize, from: u64) -> Self {
        Entry { param: to, len, copy: 0, grad: Summands::At(from), states: [0; STATES], multipliers: [0.0; 2] }
    }
}

/// The parameters of one launch.
pub(super) struct Table<'a, const WORDS: usize, const ITEMS: usize> {
    rows: Rows<WORDS, ITEMS>,
    len: usize,
    blocks: usize,
    /// Keeps the gradients' memory alive until the table is dropped, after the launch.
    _grads: Vec<Summands<'a>>,
}

impl<'a, const WORDS: usize, const ITEMS: usize> Table<'a, WORDS, ITEMS> {
    /// The table of at most `ITEMS` entries.
    pub(super) fn new<const STATES: usize>(entries: Vec<Entry<'a, STATES>>) -> Self {
        const { assert!(STATES + WORDS_WITHOUT_STATES == WORDS, "a word for each state") };
        const { assert!(size_of::<Rows<WORDS, ITEMS>>() + OTHER_ARGUMENTS <= ARGUMENTS, "the table fits a launch") };
        debug_assert!(entries.len() <= ITEMS, "{} entries for a table of {ITEMS}", entries.len());
        let blocks = entries.iter().map(|entry| parts::blocks(entry.len, entry.grad.extents()[0]));
        let (first, blocks) = first_blocks(blocks);
        let mut rows = Rows([[0; WORDS]; ITEMS]);
        for ((row, entry), first) in rows.0.iter_mut().zip(&entries).zip(first) {
            let ends = [entry.param, entry.grad.address(), entry.copy];
            *row = self::row(ends, entry.states, entry.len, entry.multipliers, first, entry.grad.extents());
        }
        let len = entries.len();
        Table { rows, len, blocks, _grads: entries.into_iter().map(|entry| entry.grad).collect() }
    }

    pub(super) fn rows(&self) -> Rows<WORDS, ITEMS> {
        self.rows
    }

    /// The number of parameters.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The launch geometry; `None` if there are no elements to update.
    pub(super) fn geometry(&self) -> Option<Geometry> {
        let geometry = Geometry { grid: [self.blocks, 1, 1], block: [THREADS, 1, 1], shared: 0 };
        (self.blocks > 0).then_some(geometry)
    }
}

fn row<const STATES: usize, const WORDS: usize>(
    [param, grad, copy]: [u64; 3],
    states: [u64; STATES],
    len: usize,
    [rate, decay]: [f32; 2],
    first_block: usize,
    [parts, stride]: [usize; 2],
) -> Row<WORDS> {
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let (extent, place) = (pair(len as u32, rate.to_bits()), pair(first_block as u32, parts as u32));
    let gaps = pair(stride as u32, decay.to_bits());
    let words = [param, grad].into_iter().chain(states).chain([copy, extent, place, gaps]);
    let mut row = [0; WORDS];
    row.iter_mut().zip(words).for_each(|(to, word)| *to = word);
    row
}

/// A gradient as the update kernel reads it. It keeps the memory alive until it is dropped.
enum Summands<'a> {
    /// Several parts, which the kernel adds up.
    Parts(Parts),
    /// A single tensor.
    Whole(Operand<'a>),
    /// An address in memory that the caller keeps.
    At(u64),
}

impl<'a> Summands<'a> {
    /// A parameter's gradient is fp32 already; a gradient of another type is cast.
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
            Summands::At(address) => *address,
        }
    }

    /// The number of parts, and their stride in elements.
    fn extents(&self) -> [usize; 2] {
        match self {
            Summands::Parts(parts) => [parts.count(), parts.stride()],
            Summands::Whole(_) | Summands::At(_) => [1, 0],
        }
    }
}

/// The first block of each item, by a prefix sum of the numbers of blocks, and the total.
fn first_blocks(blocks: impl Iterator<Item = usize>) -> (Vec<usize>, usize) {
    let (mut first, mut total) = (Vec::new(), 0);
    for blocks in blocks {
        first.push(total);
        total += blocks;
    }
    (first, total)
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
    fn rows_lie_as_the_kernels_read_them() {
        let one: Row<7> = row([1, 2, 4], [3], 5, [0.5, 0.25], 6, [7, 8]);
        let words: &[u32] = bytemuck::cast_slice(&one);
        assert_eq!(words, [1, 0, 2, 0, 3, 0, 4, 0, 5, 0.5f32.to_bits(), 6, 7, 8, 0.25f32.to_bits()]);
        let two: Row<8> = row([1, 2, 5], [3, 4], 6, [0.5, 0.0], 7, [8, 9]);
        let words: &[u32] = bytemuck::cast_slice(&two);
        assert_eq!(words, [1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0.5f32.to_bits(), 7, 8, 9, 0]);
    }
}
