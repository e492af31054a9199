//! Shards: the parts of a step's batch, each with a gradient of its own. One device runs its shards in turn; ranks, the processes
//! that train one network together, run some each. The gradients are added in one [order](order::Order), a binary tree over the
//! shards, so that their sum has the same bits for any number of ranks.
//!
//! A *node* is the sum over some neighbouring shards: the gradients of all parameters, one behind the other in fp32 ([`Layout`]),
//! and behind them what the loss has found ([`SUMS`] words).

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod division;
mod order;

use std::ops::Range;
use std::sync::Arc;

use num_traits::Zero;

use crate::device::guard::WORDS;
use crate::device::{Device, Role};
use crate::ranks::Group;
use crate::{Error, Result};
pub use division::{AllReduce, BUCKET, Division};
pub use order::{Addition, Order};

/// The words behind a node's gradients: those of a running loss, of which the sums of losses, hits and flat rows count, and as many
/// more as keep nodes at multiples of 16 bytes.
pub const SUMS: usize = WORDS.next_multiple_of(4);

/// Where the gradient of each parameter lies in a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The first element of each gradient, a multiple of four.
    starts: Vec<usize>,
    sums: usize,
}

impl Layout {
    /// The layout for gradients of these lengths.
    pub fn new(lens: impl IntoIterator<Item = usize>) -> Self {
        let (mut starts, mut sums) = (Vec::new(), 0);
        for len in lens {
            starts.push(sums);
            sums += len.next_multiple_of(4);
        }
        Layout { starts, sums }
    }

    /// The first element of each gradient.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// The first of the loss's [`SUMS`] words.
    pub fn sums(&self) -> usize {
        self.sums
    }

    /// The elements of a node.
    pub fn len(&self) -> usize {
        self.sums + SUMS
    }

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The node cut into buckets, in the order in which a backward pass completes them: from the last parameters to the first ones. A
    /// bucket takes parameters until it has `least` elements; the last bucket has what is left.
    pub fn buckets(&self, least: usize) -> Vec<Bucket> {
        let (mut buckets, mut end) = (Vec::new(), Bucket { params: 0..self.starts.len(), elements: 0..self.len() });
        for (param, &start) in self.starts.iter().enumerate().skip(1).rev() {
            if end.elements.end - start >= least {
                buckets.push(Bucket { params: param..end.params.end, elements: start..end.elements.end });
                end = Bucket { params: 0..param, elements: 0..start };
            }
        }
        buckets.push(end);
        buckets
    }
}

/// A part of a node that ranks exchange as soon as the backward pass has completed it, while the rest is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The parameters, by their numbers.
    pub params: Range<usize>,
    /// Where their gradients lie in a node. Those of the last parameter have the loss's words behind them.
    pub elements: Range<usize>,
}

impl Bucket {
    /// The bucket of nodes of `node` elements that lie one behind the other.
    pub fn of_nodes(&self, node: usize) -> Span {
        Span { first: self.elements.start, stride: node, len: self.elements.len() }
    }
}

/// The same elements of several nodes: those of the node at place `n` begin at element `first + n · stride`. All are multiples of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub first: usize,
    pub stride: usize,
    pub len: usize,
}

impl Span {
    /// The first element of the node at a place.
    pub fn at(self, place: usize) -> usize {
        self.first + place * self.stride
    }
}

/// The kernels of a step in shards.
pub trait Shards: Device {
    /// What joins the device to those of the other ranks.
    type Communicator: Send + Sync;

    /// An exchange that has begun.
    type Request: Send;

    /// The steps between two votes of the ranks on whether to stop: a host that runs ahead of its device asks seldom.
    const VOTES_EVERY: usize;

    /// Checks what can be known of [`Shards::join`] beforehand: that what moves the data is on this machine.
    ///
    /// # Errors
    /// As [`Shards::join`].
    fn can_join(&self) -> Result<()> {
        Ok(())
    }

    /// Joins the devices of a group. All ranks call it.
    ///
    /// # Errors
    /// [`Error::Ranks`] if a rank is lost meanwhile, or if what moves the data cannot be used.
    fn join(&self, group: &Arc<Group>) -> Result<Self::Communicator>;

    /// Tells the communicator that this rank goes on. One that does not for as long as a collective may take fails the group: its
    /// device waits for a rank that hangs.
    fn goes_on(&self, _communicator: &Self::Communicator) {}

    /// Room for `count` nodes of `len` elements, all 0: each is there before something is added to it.
    ///
    /// # Errors
    /// [`Error::Memory`] if the device has too little free memory.
    fn shard_nodes(&self, count: usize, len: usize) -> Result<Self::Buf> {
        let len = count.checked_mul(len).ok_or_else(|| Error::memory(usize::MAX))?;
        let mut nodes = self.alloc(Role::Parameter, len)?;
        self.fill(&mut nodes, Zero::zero())?;
        Ok(nodes)
    }

    /// `nodes[place .. place + gradient.len()] = gradient` for each gradient and place. Places are multiples of four.
    fn shard_pack(&self, gradients: &[(&Self::Buf, usize)], nodes: &mut Self::Buf) -> Result<()>;

    /// `gradient = nodes[place .. place + gradient.len()]` for each gradient and place. Places are multiples of four.
    fn shard_unpack(&self, nodes: &Self::Buf, gradients: &mut [(&mut Self::Buf, usize)]) -> Result<()>;

    /// Adds nodes in `span` of each, one addition after the other: that at place `to` becomes its sum with the one at place `from`.
    fn shard_add(&self, nodes: &mut Self::Buf, span: Span, additions: &[Addition]) -> Result<()>;

    /// `nodes[at .. at + len] = 0`, all multiples of four.
    fn shard_clear(&self, nodes: &mut Self::Buf, at: usize, len: usize) -> Result<()>;

    /// Begins to gather from all ranks: `all[to + rank · len ..][.. len] = own[from]` of that rank, by elements, where `len` is
    /// the length of `from`. Until it is [complete](Shards::complete) the device may go on with all that leaves these elements alone. All ranks begin the same
    /// exchanges in the same order, and complete them in it.
    ///
    /// # Errors
    /// [`Error::Ranks`] if a rank is lost, here or in [`Shards::complete`]. An asynchronous device may learn of
    /// it later; from then on [`Shards::shard_count`] leaves every step out.
    fn all_gather(
        &self,
        communicator: &Self::Communicator,
        own: &Self::Buf,
        from: Range<usize>,
        all: &mut Self::Buf,
        to: usize,
    ) -> Result<Self::Request>;

    /// Begins to add up over all ranks, in the order that the devices' library takes: `nodes[part] = Σ nodes[part]`.
    ///
    /// # Errors
    /// As [`Shards::all_gather`]; [`Error::Config`] for a device that has no such library.
    fn all_reduce(
        &self,
        communicator: &Self::Communicator,
        nodes: &mut Self::Buf,
        part: Range<usize>,
    ) -> Result<Self::Request>;

    /// Completes an exchange that was to write `nodes`: what the device does from now on sees what was exchanged. Every exchange that
    /// has begun has to be completed before its buffers go, for it uses them until then.
    ///
    /// # Errors
    /// As [`Shards::all_gather`].
    fn complete(&self, communicator: &Self::Communicator, request: Self::Request, nodes: &mut Self::Buf) -> Result<()>;

    /// Adds the sums of a step of `samples` samples, `nodes[at .. at + 3]`, to the running loss `meter`, or leaves the step out, as
    /// [`cross_entropy`](crate::ops::cross_entropy::CrossEntropy::cross_entropy) does with those of a whole batch. A step that
    /// misses what a lost rank was to send is left out in any case: `meter[5] = 1`, and `meter[8] += 1`.
    fn shard_count(
        &self,
        communicator: Option<&Self::Communicator>,
        nodes: &Self::Buf,
        at: usize,
        samples: usize,
        meter: &mut Self::Buf,
    ) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_begin_at_multiples_of_four() {
        let layout = Layout::new([3, 8, 1]);
        assert_eq!((layout.starts(), layout.sums(), layout.len()), (&[0, 4, 12][..], 16, 16 + SUMS));
    }

    #[test]
    fn buckets_begin_with_the_last_parameters() {
        let layout = Layout::new([3, 8, 1, 20]);
        let cut = |least| -> Vec<_> {
            layout.buckets(least).into_iter().map(|Bucket { params, elements }| (params, elements)).collect()
        };
        assert_eq!(cut(usize::MAX), [(0..4, 0..36 + SUMS)]);
        assert_eq!(cut(20 + SUMS + 1), [(2..4, 12..36 + SUMS), (0..2, 0..12)]);
        assert_eq!(cut(1), [(3..4, 16..36 + SUMS), (2..3, 12..16), (1..2, 4..12), (0..1, 0..4)]);
    }
}
