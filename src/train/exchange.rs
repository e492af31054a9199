//! The exchange of a step's gradients between ranks, bucket by bucket, while the backward pass goes on.

use std::sync::Arc;

use crate::ops::shards::{AllReduce, Bucket, Division, Layout, Order, Span};
use crate::ranks::Group;
use crate::{Backend, Result};

/// What joins a rank to the others, and the memory for what they send. No buffer moves, because recordings have their addresses.
pub(super) struct Exchange<B: Backend> {
    group: Arc<Group>,
    communicator: B::Communicator,
    order: Arc<Order>,
    /// The elements of a node.
    node: usize,
    /// What is exchanged at once, in the order in which the backward pass completes it.
    buckets: Arc<[Bucket]>,
    /// What all ranks have sent, bucket by bucket; `None` where a library adds.
    all: Option<B::Buf>,
    /// The exchanges of this step, in their order.
    begun: Vec<B::Request>,
}

impl<B: Backend> Exchange<B> {
    /// Joins the device to those of `group`.
    ///
    /// # Errors
    /// As [`Shards::join`](crate::ops::shards::Shards::join); [`Error::Memory`](crate::Error::Memory).
    pub(super) fn new(
        backend: &B,
        layout: &Layout,
        order: &Arc<Order>,
        division: &Division,
        group: &Arc<Group>,
    ) -> Result<Self> {
        let (node, sent) = (layout.len(), order.ranks() * order.sent());
        let tree = division.all_reduce == AllReduce::Tree;
        let all = tree.then(|| backend.shard_nodes(sent, node)).transpose()?;
        let (buckets, begun) = (layout.buckets(division.bucket).into(), Vec::new());
        let communicator = backend.join(group)?;
        Ok(Exchange { group: group.clone(), communicator, order: order.clone(), node, buckets, all, begun })
    }

    pub(super) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    pub(super) fn communicator(&self) -> &B::Communicator {
        &self.communicator
    }

    pub(super) fn buckets(&self) -> &Arc<[Bucket]> {
        &self.buckets
    }

    /// Where a bucket of what all ranks have sent lies.
    fn span(&self, bucket: &Bucket) -> Span {
        let (start, len) = (bucket.elements.start, bucket.elements.len());
        Span { first: self.order.ranks() * self.order.sent() * start, stride: len, len }
    }

    /// The sum's buffer, once the exchange is [finished](Exchange::finish); `own` where a library has added.
    pub(super) fn sum<'a>(&'a self, own: &'a B::Buf) -> &'a B::Buf {
        self.all.as_ref().unwrap_or(own)
    }

    /// Where element `at` of a node lies in the sum's buffer.
    pub(super) fn place(&self, at: usize) -> usize {
        let bucket = self.buckets.iter().find(|bucket| self.all.is_some() && bucket.elements.contains(&at));
        bucket.map_or(at, |bucket| self.span(bucket).first + at - bucket.elements.start)
    }

    /// Begins to exchange bucket number `number` of this rank's nodes, to which nothing is added any more.
    ///
    /// # Errors
    /// As [`Shards::all_gather`](crate::ops::shards::Shards::all_gather).
    pub(super) fn begin(&mut self, backend: &B, number: usize, own: &mut B::Buf) -> Result<()> {
        let bucket = &self.buckets[number];
        let (elements, span) = (bucket.elements.clone(), self.span(bucket));
        let Some(all) = &mut self.all else {
            backend.shard_add(own, bucket.of_nodes(self.node), self.order.folds())?;
            self.begun.push(backend.all_reduce(&self.communicator, own, elements)?);
            return Ok(());
        };
        for sent in 0..self.order.sent() {
            let from = sent * self.node + elements.start..sent * self.node + elements.end;
            let to = span.at(sent * self.order.ranks());
            self.begun.push(backend.all_gather(&self.communicator, own, from, all, to)?);
        }
        Ok(())
    }

    /// Completes what has begun, and adds it. Where `so_far` has failed it completes as well, for it uses memory until then. If the
    /// others wait for the rest of it, the group fails: they would take what this rank sends next for that.
    ///
    /// # Errors
    /// That of `so_far`; as [`Shards::complete`](crate::ops::shards::Shards::complete).
    pub(super) fn finish(&mut self, backend: &B, own: &mut B::Buf, so_far: Result<()>) -> Result<()> {
        let each = if self.all.is_some() { self.order.sent() } else { 1 };
        let mut begun = std::mem::take(&mut self.begun).into_iter();
        if let Err(error) = &so_far
            && (1..each * self.buckets.len()).contains(&begun.len())
        {
            self.group.fail(&error.to_string());
        }
        let mut done = so_far;
        for bucket in self.buckets.iter() {
            let span = self.span(bucket);
            let nodes = self.all.as_mut().unwrap_or(own);
            for request in begun.by_ref().take(each) {
                done = done.and(backend.complete(&self.communicator, request, nodes));
            }
            if let (Ok(()), Some(all)) = (&done, &mut self.all) {
                done = backend.shard_add(all, span, self.order.merges());
            }
        }
        done
    }
}
