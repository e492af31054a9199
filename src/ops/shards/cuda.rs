//! Shards on a GPU: launches of `kernels/shards.cu`; NCCL moves nodes between GPUs.

use std::ops::Range;
use std::sync::Arc;

use bytemuck::NoUninit;

use super::{Addition, Shards, Span};
use crate::Result;
use crate::device::Buffer;
use crate::device::cuda::nccl::Nccl;
use crate::device::cuda::tiles::{SGD_ITEMS, SHARD_ADDITIONS};
use crate::device::cuda::{Args, Buf, Communicator, Cuda, Geometry, Request};
use crate::ops::update::{Entry, Table};
use crate::ranks::Group;

/// The kernel's `Additions`: places `to` and `from`; those beyond their number are zero.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Additions([[u32; 2]; SHARD_ADDITIONS]);

// SAFETY: an array of integers has no padding bytes.
unsafe impl NoUninit for Additions {}

/// The address of element `at`.
fn element(base: u64, at: usize) -> u64 {
    base + (at * size_of::<f32>()) as u64
}

impl Cuda {
    /// Copies each entry's gradient, or the sum of its parts, to its parameter's place.
    fn shard_copy<'a>(&self, entries: impl Iterator<Item = Result<Entry<'a, 1>>>) -> Result<()> {
        let mut entries = entries.peekable();
        while entries.peek().is_some() {
            let some = entries.by_ref().take(SGD_ITEMS).collect::<Result<Vec<_>>>()?;
            let table = Table::<7, SGD_ITEMS>::new(some);
            let Some(geometry) = table.geometry() else { continue };
            self.launch("shards", "shard_copy", geometry, Args::new().value(table.rows()).int(table.len()))?;
        }
        Ok(())
    }
}

impl Shards for Cuda {
    type Communicator = Communicator;

    type Request = Request;

    const VOTES_EVERY: usize = 8;

    fn can_join(&self) -> Result<()> {
        Nccl::load().map(drop)
    }

    fn join(&self, group: &Arc<Group>) -> Result<Communicator> {
        Communicator::join(self, group)
    }

    fn goes_on(&self, communicator: &Communicator) {
        communicator.goes_on();
    }

    fn shard_pack(&self, gradients: &[(&Buf, usize)], nodes: &mut Buf) -> Result<()> {
        let base = self.changed(nodes)?;
        self.shard_copy(gradients.iter().map(|&(gradient, place)| Entry::copy(self, element(base, place), gradient)))
    }

    fn shard_unpack(&self, nodes: &Buf, gradients: &mut [(&mut Buf, usize)]) -> Result<()> {
        let base = self.settled(nodes)?;
        self.shard_copy(gradients.iter_mut().map(|(gradient, place)| {
            let len = gradient.len();
            Ok(Entry::copy_within(gradient.overwritten(), len, element(base, *place)))
        }))
    }

    fn shard_add(&self, nodes: &mut Buf, span: Span, additions: &[Addition]) -> Result<()> {
        let first = element(self.changed(nodes)?, span.first);
        for some in additions.chunks(SHARD_ADDITIONS) {
            let mut pairs = [[0; 2]; SHARD_ADDITIONS];
            let places = some.iter().map(|addition| [addition.to as u32, addition.from as u32]);
            pairs.iter_mut().zip(places).for_each(|(pair, places)| *pair = places);
            let args =
                Args::new().value(Additions(pairs)).int(some.len()).address(first).int(span.stride).int(span.len);
            self.launch("shards", "shard_add", Geometry::linear(span.len.div_ceil(4)), args)?;
        }
        Ok(())
    }

    fn shard_clear(&self, nodes: &mut Buf, at: usize, len: usize) -> Result<()> {
        let base = self.changed(nodes)?;
        self.clear_at(element(base, at), len)
    }

    fn all_gather(
        &self,
        communicator: &Communicator,
        own: &Buf,
        from: Range<usize>,
        all: &mut Buf,
        to: usize,
    ) -> Result<Request> {
        let (own, all) = (element(self.settled(own)?, from.start), element(self.changed(all)?, to));
        communicator.all_gather(self, own, all, from.len())
    }

    fn all_reduce(&self, communicator: &Communicator, nodes: &mut Buf, part: Range<usize>) -> Result<Request> {
        communicator.all_reduce(self, element(self.changed(nodes)?, part.start), part.len())
    }

    fn complete(&self, communicator: &Communicator, request: Request, _nodes: &mut Buf) -> Result<()> {
        communicator.complete(self, request)
    }

    fn shard_count(
        &self,
        communicator: Option<&Communicator>,
        nodes: &Buf,
        at: usize,
        samples: usize,
        meter: &mut Buf,
    ) -> Result<()> {
        let sums = element(self.settled(nodes)?, at);
        let lost = communicator.map_or(0, Communicator::lost);
        let args = Args::new().address(self.changed(meter)?).address(sums).address(lost).float(samples as f32);
        self.launch("shards", "shard_count", Geometry { grid: [1; 3], block: [32, 1, 1], shared: 0 }, args)
    }
}
