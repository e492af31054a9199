//! Steps in shards: the batch is cut into parts, each with a gradient of its own, which ranks share among them. The sum of the
//! gradients has the same bits for any number of ranks (`src/ops/shards/`), and so have the weights.

use std::sync::Arc;

use super::exchange::Exchange;
use super::gradients::gradients;
use super::source::Source;
use crate::device::Role;
use crate::device::guard::Policy;
use crate::nn::Module;
use crate::ops::cross_entropy::Meter;
use crate::ops::shards::{Addition, Bucket, Division, Layout, Order};
use crate::ranks::Group;
use crate::tape::{Grads, Mode, Param, ParamId, Shard, Tape};
use crate::{Backend, Error, Result};

/// The division of a trainer's steps, with the memory that it takes. No buffer moves, because recordings have their addresses.
pub(super) struct Shards<B: Backend> {
    /// `None` for a single rank. It goes first where all goes, so that nothing is exchanged any more when the memory goes.
    exchange: Option<Exchange<B>>,
    order: Arc<Order>,
    layout: Layout,
    /// The parameters of the network, in their order.
    params: Vec<ParamId>,
    /// The whole node as a single bucket.
    whole: Arc<[Bucket]>,
    /// The nodes of this rank's shards.
    own: B::Buf,
    /// The words of the shard that is run.
    words: Meter<B>,
    /// The sum.
    sum: Grads<B>,
}

/// A step of the whole batch.
pub(super) struct Step<'a, B: Backend, N> {
    pub(super) net: &'a N,
    pub(super) mode: Mode,
    pub(super) source: &'a Source<'a, B>,
    pub(super) smoothing: f64,
}

/// A shard of a step, as one of the ranks runs it.
struct Leaf<'a> {
    index: usize,
    /// The place of its node, and the additions that follow.
    place: usize,
    additions: &'a [Addition],
    /// Whether the rank has no further one, so that its nodes can go to the others.
    last: bool,
}

impl<B: Backend> Shards<B> {
    /// Divides the steps that train `net`, over the ranks of `group`, whose devices it joins. The sum goes with the guard of `meter`.
    ///
    /// # Errors
    /// [`Error::Config`] for no shards, too many, or fewer than ranks, and for a network without parameters; as [`Shards::join`](crate::ops::shards::Shards::join);
    /// [`Error::Memory`].
    pub(super) fn new(
        backend: &B,
        net: &impl Module<B>,
        meter: &Meter<B>,
        division: &Division,
        group: Option<&Arc<Group>>,
    ) -> Result<Self> {
        let (rank, ranks) = group.map_or((0, 1), |group| (group.rank(), group.ranks()));
        let order = Arc::new(Order::new(division.shards, ranks, rank)?);
        let params: Vec<_> = net.params().into_iter().map(|(_, param)| param).collect();
        if params.is_empty() {
            return Err(Error::config("shards", "the network has no parameters, so there is nothing to be divided"));
        }
        let layout = Layout::new(params.iter().map(|param| param.shape().len()));
        let own = backend.shard_nodes(order.room(), layout.len())?;
        let gradient = |param: &&Param<B>| backend.alloc(Role::Parameter, param.shape().len());
        let gradients = params.iter().map(gradient).collect::<Result<Vec<_>>>()?;
        let sum = Grads::of_params(backend, params.iter().copied().zip(gradients).collect(), meter.guard().clone());
        if let Some(group) = group {
            let lens = params.iter().map(|param| param.shape().to_string()).collect::<Vec<_>>().join(", ");
            let entries = [
                ("shards", division.shards.to_string()),
                ("allreduce", division.all_reduce.to_string()),
                ("bucket", division.bucket.to_string()),
                ("parameters", lens),
            ];
            group.agree("the division of steps", &entries.map(|(name, value)| (name.into(), value)))?;
        }
        let params = params.iter().map(|param| param.id()).collect();
        let words = Meter::with(backend, Policy::Shard)?;
        let exchange = group.filter(|_| ranks > 1);
        let exchange = exchange.map(|group| Exchange::new(backend, &layout, &order, division, group)).transpose()?;
        Ok(Shards { order, whole: layout.buckets(usize::MAX).into(), layout, params, own, words, sum, exchange })
    }

    pub(super) fn order(&self) -> &Order {
        &self.order
    }

    /// The ranks that share the steps; `None` for a single one.
    pub(super) fn group(&self) -> Option<&Arc<Group>> {
        self.exchange.as_ref().map(Exchange::group)
    }

    pub(super) fn communicator(&self) -> Option<&B::Communicator> {
        self.exchange.as_ref().map(Exchange::communicator)
    }

    /// The gradients of a step, summed over all shards. It adds the step to `meter`.
    ///
    /// # Errors
    /// [`Error::Config`] for a network with other parameters than the one that the steps were divided for, or of which one has no
    /// gradient; as a step.
    pub(super) fn gradients(
        &mut self,
        backend: &B,
        step: &Step<'_, B, impl Module<B>>,
        meter: &mut Meter<B>,
    ) -> Result<&Grads<B>> {
        if !step.net.params().iter().map(|(_, param)| param.id()).eq(self.params.iter().copied()) {
            let problem = "the network has other parameters than when the steps were divided; divide them again";
            return Err(Error::config("shards", problem));
        }
        let batch = step.source.batch();
        if batch == 0 {
            return Err(Error::shape("shards", "a step needs an image at least"));
        }
        let order = self.order.clone();
        let mut leaves = order.leaves().map(|(index, place, additions)| {
            let last = index + 1 == order.own().end;
            Leaf { index, place, additions, last }
        });
        let ran = leaves.try_for_each(|leaf| self.run(backend, step, &leaf));
        match &mut self.exchange {
            Some(exchange) => exchange.finish(backend, &mut self.own, ran)?,
            None => {
                ran?;
                backend.shard_add(&mut self.own, self.whole[0].of_nodes(self.layout.len()), self.order.folds())?;
            }
        }
        let place = |at: usize| self.exchange.as_ref().map_or(at, |exchange| exchange.place(at));
        let sum = self.exchange.as_ref().map_or(&self.own, |exchange| exchange.sum(&self.own));
        let places = self.layout.starts().iter().map(|&start| place(start));
        backend.shard_unpack(sum, &mut self.sum.all_mut().zip(places).collect::<Vec<_>>())?;
        let (communicator, sums) = (self.exchange.as_ref().map(Exchange::communicator), place(self.layout.sums()));
        backend.shard_count(communicator, sum, sums, batch, &mut meter.guard().words())?;
        meter.count(batch);
        Ok(&self.sum)
    }

    /// Runs a shard. Each bucket of its node is packed and added as soon as the backward pass has it; those of the last shard go to the
    /// other ranks at once.
    fn run(&mut self, backend: &B, step: &Step<'_, B, impl Module<B>>, leaf: &Leaf<'_>) -> Result<()> {
        let &Step { net, mode, source, smoothing } = step;
        let Shards { order, layout, whole, own, words, exchange, .. } = self;
        let (node, batch) = (layout.len(), source.batch());
        let mut exchange = exchange.as_mut().filter(|_| leaf.last);
        let buckets = exchange.as_ref().map_or(&*whole, |exchange| exchange.buckets()).clone();
        let mut left = buckets.iter().enumerate().peekable();
        // What is packed is added, and goes to the other ranks if nothing more is.
        let mut hand_on = |backend: &B, own: &mut B::Buf, (number, bucket): (usize, &Bucket)| {
            backend.shard_add(own, bucket.of_nodes(node), leaf.additions)?;
            exchange.as_mut().map_or(Ok(()), |exchange| exchange.begin(backend, number, own))
        };
        let images = order.images(leaf.index, batch);
        if images.is_empty() {
            backend.shard_clear(own, leaf.place * node, node)?;
            return left.try_for_each(|bucket| hand_on(backend, own, bucket));
        }
        let params = net.params();
        let none = |param: usize| {
            let name = params.get(param).map_or("", |(name, _)| name);
            Error::config("shards", format!("the loss does not depend on parameter {name}"))
        };
        let tape = Tape::new(backend, mode).of_shard(Some(Shard { index: leaf.index as u32, batch }))?;
        let (part, guard) = (source.part(backend, images)?, words.guard().clone());
        let grads = gradients(net, tape, part, smoothing, words, &mut |grads| {
            let done = |grads: &Grads<B>, bucket: &Bucket| {
                params[bucket.params.clone()].iter().all(|(_, param)| grads.is_complete(param))
            };
            while let Some((number, bucket)) = left.next_if(|(_, bucket)| done(grads, bucket)) {
                let (backend, sums) = (grads.backend(), guard.words());
                let mut tensors = Vec::with_capacity(bucket.params.len() + 1);
                for param in bucket.params.clone() {
                    let gradient = grads.of_param(params[param].1).ok_or_else(|| none(param))?;
                    tensors.push((gradient, leaf.place * node + layout.starts()[param]));
                }
                if bucket.elements.contains(&layout.sums()) {
                    tensors.push((&*sums, leaf.place * node + layout.sums()));
                }
                backend.shard_pack(&tensors, own)?;
                hand_on(backend, own, (number, bucket))?;
            }
            Ok(())
        })?;
        // What is never complete was never used.
        match (0..params.len()).find(|&param| !grads.is_complete(params[param].1)) {
            Some(param) => Err(none(param)),
            None => Ok(()),
        }
    }
}
