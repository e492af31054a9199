//! Shards on the CPU.

use std::sync::Arc;

use super::{Addition, Shards};
use crate::device::Real;
use crate::device::cpu::{Buf, Cpu};
use crate::ops::cross_entropy::settle;
use crate::ranks::Group;
use crate::{Error, Result};

impl<T: Real> Shards for Cpu<T> {
    type Communicator = Arc<Group>;

    const VOTES_EVERY: usize = 1;

    fn join(&self, group: &Arc<Group>) -> Result<Arc<Group>> {
        Ok(group.clone())
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

    fn shard_add(&self, nodes: &mut Buf<T>, Addition { to, from }: Addition, len: usize) -> Result<()> {
        let (low, high) = nodes.split_at_mut(to.max(from));
        let (to, from) =
            if to < from { (&mut low[to..][..len], &high[..len]) } else { (&mut high[..len], &low[from..][..len]) };
        self.zip(to, from, |to, from| *to += from);
        Ok(())
    }

    fn shard_clear(&self, nodes: &mut Buf<T>, at: usize, len: usize) -> Result<()> {
        nodes[at..][..len].fill(T::zero());
        Ok(())
    }

    fn all_gather(&self, group: &Arc<Group>, own: &Buf<T>, len: usize, all: &mut Buf<T>) -> Result<()> {
        group.all_gather(bytemuck::cast_slice(&own[..len]), bytemuck::cast_slice_mut(all))
    }

    fn all_reduce(&self, _group: &Arc<Group>, _nodes: &mut Buf<T>, _len: usize) -> Result<()> {
        Err(Error::config("allreduce", "nccl adds on GPUs alone; leave it out, or train on GPUs"))
    }

    fn shard_count(
        &self,
        _group: Option<&Arc<Group>>,
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
