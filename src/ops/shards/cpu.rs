//! Shards on the CPU.

use std::ops::Range;
use std::sync::Arc;

use super::{Addition, Shards, Span};
use crate::device::Real;
use crate::device::cpu::{Buf, Cpu};
use crate::ops::cross_entropy::settle;
use crate::ranks::{Gatherer, Gathering, Group};
use crate::{Error, Result};

/// A gathering that has begun, and the first element of those that it fills.
pub struct Request {
    gathering: Gathering,
    to: usize,
}

impl<T: Real> Shards for Cpu<T> {
    type Communicator = Gatherer;

    type Request = Request;

    const VOTES_EVERY: usize = 1;

    fn join(&self, group: &Arc<Group>) -> Result<Gatherer> {
        Gatherer::new(group)
    }

    fn shard_pack(&self, gradients: &[(&Buf<T>, usize)], nodes: &mut Buf<T>) -> Result<()> {
        for &(gradient, place) in gradients {
            nodes[place..][..gradient.len()].copy_from_slice(gradient);
        }
        Ok(())
    }

    fn shard_unpack(&self, nodes: &Buf<T>, gradients: &mut [(&mut Buf<T>, usize)]) -> Result<()> {
        for (gradient, place) in gradients {
            let len = gradient.len();
            gradient.copy_from_slice(&nodes[*place..][..len]);
        }
        Ok(())
    }

    fn shard_add(&self, nodes: &mut Buf<T>, span: Span, additions: &[Addition]) -> Result<()> {
        for &Addition { to, from } in additions {
            let (to, from, len) = (span.at(to), span.at(from), span.len);
            let (low, high) = nodes.split_at_mut(to.max(from));
            let (to, from) =
                if to < from { (&mut low[to..][..len], &high[..len]) } else { (&mut high[..len], &low[from..][..len]) };
            self.zip(to, from, |to, from| *to += from);
        }
        Ok(())
    }

    fn shard_clear(&self, nodes: &mut Buf<T>, at: usize, len: usize) -> Result<()> {
        nodes[at..][..len].fill(T::zero());
        Ok(())
    }

    fn all_gather(
        &self,
        gatherer: &Gatherer,
        own: &Buf<T>,
        from: Range<usize>,
        _all: &mut Buf<T>,
        to: usize,
    ) -> Result<Request> {
        Ok(Request { gathering: gatherer.begin(bytemuck::cast_slice(&own[from]))?, to })
    }

    fn all_reduce(&self, _gatherer: &Gatherer, _nodes: &mut Buf<T>, _part: Range<usize>) -> Result<Request> {
        Err(Error::config("allreduce", "nccl adds on GPUs alone; leave it out, or train on GPUs"))
    }

    fn complete(&self, _gatherer: &Gatherer, Request { gathering, to }: Request, all: &mut Buf<T>) -> Result<()> {
        let gathered = gathering.wait()?;
        bytemuck::cast_slice_mut(&mut all[to..])[..gathered.len()].copy_from_slice(&gathered);
        Ok(())
    }

    fn shard_count(
        &self,
        _gatherer: Option<&Gatherer>,
        nodes: &Buf<T>,
        at: usize,
        samples: usize,
        meter: &mut Buf<T>,
    ) -> Result<()> {
        let sums = [nodes[at], nodes[at + 1], nodes[at + 2]];
        settle(meter, sums, samples, sums[0].is_finite());
        Ok(())
    }
}
