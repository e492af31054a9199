//! Steps in shards: the batch is cut into parts, each with a gradient of its own, which ranks share among them. The sum of the
//! gradients has the same bits for any number of ranks (`src/ops/shards/`), and so have the weights.

use std::sync::Arc;

use super::gradients::gradients;
use super::source::Source;
use crate::device::Role;
use crate::device::guard::Policy;
use crate::nn::Module;
use crate::ops::cross_entropy::Meter;
use crate::ops::shards::{AllReduce, Layout, Order};
use crate::ranks::Group;
use crate::tape::{Grads, Mode, Param, ParamId, Shard, Tape};
use crate::{Backend, Error, Result};

/// The division of a trainer's steps, with the memory that it takes. No buffer moves, because recordings have their addresses.
pub(super) struct Shards<B: Backend> {
    order: Order,
    layout: Layout,
    /// The parameters of the network, in their order.
    params: Vec<ParamId>,
    /// The nodes of this rank's shards.
    own: B::Buf,
    all_reduce: AllReduce,
    /// What all ranks have sent; `None` for a single rank, and where a library adds.
    all: Option<B::Buf>,
    /// The words of the shard that is run.
    words: Meter<B>,
    /// The sum.
    sum: Grads<B>,
    ranks: Option<Ranks<B>>,
}

struct Ranks<B: Backend> {
    group: Arc<Group>,
    communicator: B::Communicator,
}

impl<B: Backend> Shards<B> {
    /// Divides the steps that train `net` into `shards` shards, over the ranks of `group`, whose devices it joins. The sum goes
    /// with the guard of `meter`.
    ///
    /// # Errors
    /// [`Error::Config`] for no shards, too many, or fewer than ranks; as [`Shards::join`](crate::ops::shards::Shards::join);
    /// [`Error::Memory`].
    pub(super) fn new(
        backend: &B,
        net: &impl Module<B>,
        meter: &Meter<B>,
        shards: usize,
        all_reduce: AllReduce,
        group: Option<&Arc<Group>>,
    ) -> Result<Self> {
        let (rank, ranks) = group.map_or((0, 1), |group| (group.rank(), group.ranks()));
        let order = Order::new(shards, ranks, rank)?;
        let params: Vec<_> = net.params().into_iter().map(|(_, param)| param).collect();
        let layout = Layout::new(params.iter().map(|param| param.shape().len()));
        // Every element is there before something is added to it.
        let zeros = |nodes: usize| -> Result<B::Buf> {
            let len = nodes.checked_mul(layout.len()).ok_or_else(|| Error::memory(usize::MAX))?;
            let mut zeros = backend.alloc(Role::Parameter, len)?;
            backend.fill(&mut zeros, num_traits::Zero::zero())?;
            Ok(zeros)
        };
        let own = zeros(order.room())?;
        let all = (ranks > 1 && all_reduce == AllReduce::Tree).then(|| zeros(ranks * order.sent())).transpose()?;
        let gradient = |param: &&Param<B>| backend.alloc(Role::Parameter, param.shape().len());
        let gradients = params.iter().map(gradient).collect::<Result<Vec<_>>>()?;
        let sum = Grads::of_params(backend, params.iter().copied().zip(gradients).collect(), meter.guard().clone());
        if let Some(group) = group {
            let entries = [("shards", shards.to_string()), ("allreduce", all_reduce.to_string())];
            let lens = params.iter().map(|param| param.shape().to_string()).collect::<Vec<_>>().join(", ");
            let entries = entries.into_iter().chain([("parameters", lens)]);
            group.agree(
                "the division of steps",
                &entries.map(|(name, value)| (name.into(), value)).collect::<Vec<_>>(),
            )?;
        }
        let params = params.iter().map(|param| param.id()).collect();
        let words = Meter::with(backend, Policy::Shard)?;
        let join = |group: &Arc<Group>| -> Result<Ranks<B>> {
            Ok(Ranks { group: group.clone(), communicator: backend.join(group)? })
        };
        let ranks = group.filter(|_| ranks > 1).map(join).transpose()?;
        Ok(Shards { order, layout, params, own, all_reduce, all, words, sum, ranks })
    }

    pub(super) fn order(&self) -> &Order {
        &self.order
    }

    /// The ranks that share the steps; `None` for a single one.
    pub(super) fn group(&self) -> Option<&Arc<Group>> {
        self.ranks.as_ref().map(|ranks| &ranks.group)
    }

    pub(super) fn communicator(&self) -> Option<&B::Communicator> {
        self.ranks.as_ref().map(|ranks| &ranks.communicator)
    }

    /// The gradients of a step, summed over all shards. It adds the step to `meter`.
    ///
    /// # Errors
    /// [`Error::Config`] for a network with other parameters than the one that the steps were divided for, or of which one has no
    /// gradient; as a step.
    pub(super) fn gradients(
        &mut self,
        backend: &B,
        net: &impl Module<B>,
        mode: Mode,
        source: &Source<'_, B>,
        smoothing: f64,
        meter: &mut Meter<B>,
    ) -> Result<&Grads<B>> {
        let params = net.params();
        if !params.iter().map(|(_, param)| param.id()).eq(self.params.iter().copied()) {
            let problem = "the network has other parameters than when the steps were divided; divide them again";
            return Err(Error::config("shards", problem));
        }
        let (node, batch) = (self.layout.len(), source.batch());
        if batch == 0 {
            return Err(Error::shape("shards", "a step needs an image at least"));
        }
        for (index, place, additions) in self.order.leaves() {
            let images = self.order.images(index, batch);
            if images.is_empty() {
                backend.shard_clear(&mut self.own, place * node, node)?;
            } else {
                let (x, shape, labels) = source.part(backend, images)?;
                let tape = Tape::new(backend, mode).of_shard(Some(Shard { index: index as u32, batch }));
                let grads = gradients(net, tape, x, shape, labels, smoothing, &mut self.words)?;
                let words = self.words.guard().words();
                let mut tensors = Vec::with_capacity(params.len() + 1);
                for ((name, param), start) in params.iter().zip(self.layout.starts()) {
                    let none = || Error::config("shards", format!("the loss does not depend on parameter {name}"));
                    tensors.push((grads.of_param(param).ok_or_else(none)?, place * node + start));
                }
                tensors.push((&*words, place * node + self.layout.sums()));
                backend.shard_pack(&tensors, &mut self.own)?;
            }
            for addition in additions {
                backend.shard_add(&mut self.own, addition.times(node), node)?;
            }
        }
        let (sum, merges) = match (&self.ranks, &mut self.all) {
            (Some(ranks), Some(all)) => {
                backend.all_gather(&ranks.communicator, &self.own, self.order.sent() * node, all)?;
                (all, self.order.merges())
            }
            _ => (&mut self.own, self.order.folds()),
        };
        for addition in merges {
            backend.shard_add(sum, addition.times(node), node)?;
        }
        if let (Some(ranks), AllReduce::Nccl) = (&self.ranks, self.all_reduce) {
            backend.all_reduce(&ranks.communicator, sum, node)?;
        }
        let mut gradients: Vec<_> = self.sum.all_mut().zip(self.layout.starts().iter().copied()).collect();
        backend.shard_unpack(sum, &mut gradients)?;
        let communicator = self.ranks.as_ref().map(|ranks| &ranks.communicator);
        let sums = self.layout.sums();
        backend.shard_count(communicator, sum, sums, batch, &mut meter.guard().words())?;
        meter.count(batch);
        Ok(&self.sum)
    }
}
