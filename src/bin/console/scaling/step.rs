//! A training step on ranks: compute, packing, exchange, additions, update, and the vote of the hosts.

use mlpconv::ops::shards::Order;

use super::buckets::Bucket;
use super::events::{Events, Job};
use super::exchange::{Exchange, Messages, Resources};
use super::jitter::Jitter;
use super::links::Links;

/// What a device and its host take, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Forward and backward of all images of a rank.
    pub compute: f64,
    /// The update.
    pub update: f64,
    /// Bytes a microsecond at which gradients are packed, added and unpacked.
    pub memory: f64,
    /// From the end of a launch to the next one.
    pub gap: f64,
    /// The host queues a step.
    pub queue: f64,
    /// A host sends a small message, or takes one.
    pub call: f64,
    /// Steps between two votes. 1: the host waits for each step, as on a CPU, and agrees on the lengths before it exchanges.
    pub votes_every: usize,
}

impl Work {
    /// A launch that packs or unpacks so many bytes.
    fn copy(&self, bytes: f64) -> f64 {
        2.0 * bytes / self.memory + self.gap
    }

    /// A launch with so many additions of parts of nodes; without any there is none.
    fn add(&self, bytes: f64, additions: usize) -> f64 {
        if additions == 0 { 0.0 } else { 3.0 * bytes * additions as f64 / self.memory + self.gap }
    }
}

/// Ranks that train.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub ranks: usize,
    pub shards: usize,
    /// What a node is cut into, in the order of the exchange.
    pub buckets: Vec<Bucket>,
    pub exchange: Exchange,
    /// The sets of links of which the fastest is taken.
    pub links: Vec<Links>,
    pub work: Work,
    pub spread: Jitter,
}

/// The times of a step, in microseconds, means over steps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// From a step's beginning to the next one's.
    pub step: f64,
    /// The mean over ranks of compute and packing.
    pub compute: f64,
    /// By how much the slowest rank's exceeds that.
    pub straggling: f64,
    /// From then on until all ranks have everything: what is not hidden behind the backward pass.
    pub exchange: f64,
    /// What is left of the additions, unpacking, update.
    pub finish: f64,
    /// What hosts take for themselves.
    pub host: f64,
}

/// How a cluster exchanges: by which links, and whether up and down trees.
struct Way<'a> {
    links: &'a Links,
    trees: bool,
}

impl Cluster {
    /// Whether there are nodes at all: one shard of one rank is trained as if there were none.
    fn divided(&self) -> bool {
        self.ranks > 1 || self.shards > 1
    }

    /// Bytes of a node.
    fn node(&self) -> f64 {
        self.buckets.iter().map(|bucket| bucket.bytes).sum()
    }

    fn order(&self, rank: usize) -> Order {
        Order::new(self.shards, self.ranks, rank).expect("a cluster has a shard for each rank")
    }

    /// The bytes that come in to each rank in a step.
    pub fn traffic(&self) -> f64 {
        self.exchange.traffic(self.ranks, self.node(), self.order(0).sent())
    }

    /// The fastest way for a bucket of so many bytes, of which each rank sends `sent`, by estimates as NCCL makes them.
    fn way(&self, bytes: f64, sent: usize) -> Way<'_> {
        let (ranks, part) = (self.ranks, bytes / self.ranks as f64);
        let ways = self.links.iter().flat_map(|links| [false, true].map(|trees| Way { links, trees }));
        let time = |way: &Way<'_>| match (self.exchange, way.trees) {
            (Exchange::Gather, false) => way.links.ring(ranks, bytes * sent as f64, 1),
            (Exchange::Nccl, false) => way.links.ring(ranks, part, 2),
            (Exchange::Nccl, true) => way.links.trees(ranks, bytes),
            (Exchange::Scatter, false) => way.links.ring(ranks, part, 1),
            (_, true) => f64::INFINITY,
        };
        ways.min_by(|one, other| time(one).total_cmp(&time(other))).expect("a cluster has links")
    }

    /// The means over `steps` steps.
    pub fn simulate(&self, steps: usize) -> Times {
        let mut ready = vec![0.0; self.ranks];
        let mut times = Times::default();
        let orders: Vec<Order> = (0..self.ranks).map(|rank| self.order(rank)).collect();
        for step in 0..steps {
            let all = self.step(step, &orders, &mut ready);
            for (sum, value) in [
                (&mut times.compute, all.compute),
                (&mut times.straggling, all.straggling),
                (&mut times.exchange, all.exchange),
                (&mut times.finish, all.finish),
            ] {
                *sum += value / steps as f64;
            }
        }
        let device = ready.iter().copied().fold(0.0, f64::max) / steps as f64;
        let Work { queue, votes_every, .. } = self.work;
        let vote = if self.ranks > 1 { self.vote() } else { 0.0 };
        if votes_every == 1 {
            times.host = queue + vote;
            times.step = device + times.host;
        } else {
            // The hosts are ahead of their devices, unless they take longer.
            times.host = queue + vote / votes_every as f64;
            times.step = device.max(times.host);
        }
        times
    }

    /// One step of all devices, which are ready at `ready`, and then again.
    fn step(&self, step: usize, orders: &[Order], ready: &mut [f64]) -> Times {
        let on = Resources { ranks: self.ranks };
        let mut events = Events::default();
        // By buckets and ranks: when the gradients are packed, and when those of all ranks are there.
        let mut packed = vec![Vec::with_capacity(self.ranks); self.buckets.len()];
        let mut computed = Vec::with_capacity(self.ranks);
        for (rank, order) in orders.iter().enumerate() {
            let start = events.start(ready[rank]);
            computed.push(self.compute(&mut events, start, step, rank, order, &mut packed));
        }
        let mut got: Vec<Vec<Job>> = Vec::with_capacity(self.buckets.len());
        if self.ranks > 1 {
            for (bucket, packed) in self.buckets.iter().zip(&packed) {
                // One bucket after the other.
                let begin = |(rank, &packed): (usize, &Job)| {
                    let before = got.last().map(|before| before[rank]);
                    let after: Vec<Job> = before.into_iter().chain([packed]).collect();
                    events.job(on.communicator(rank), 0.0, 0.0, &after)
                };
                let begin: Vec<Job> = packed.iter().enumerate().map(begin).collect();
                got.push(self.exchange(&mut events, &on, &orders[0], bucket.bytes, &begin));
            }
        }
        let mut done = computed.clone();
        for (rank, done) in done.iter_mut().enumerate() {
            for (bucket, got) in self.buckets.iter().zip(&got) {
                let additions = match self.exchange {
                    Exchange::Gather => orders[0].merges().len(),
                    _ => 0,
                };
                let add = self.work.add(bucket.bytes, additions);
                *done = events.job(on.device(rank), add, 0.0, &[*done, got[rank]]);
            }
            let unpack = if self.divided() { self.work.copy(self.node()) } else { 0.0 };
            *done = events.job(on.device(rank), unpack + self.work.update, 0.0, &[*done]);
        }

        let times = events.run();
        let at = |jobs: &[Job]| -> Vec<f64> { jobs.iter().map(|&job| times[job]).collect() };
        let last = |values: &[f64]| values.iter().copied().fold(f64::MIN, f64::max);
        let (computed, done) = (at(&computed), at(&done));
        let end = last(&computed);
        let got = got.last().map_or(end, |got| end.max(last(&at(got))));
        let took = computed.iter().zip(&*ready).map(|(computed, ready)| computed - ready);
        let compute = took.sum::<f64>() / self.ranks as f64;
        let straggling = end - last(ready) - compute;
        ready.copy_from_slice(&done);
        Times { compute, straggling, exchange: got - end, finish: last(&done) - got, ..Times::default() }
    }

    /// Both ways of a rank's shards, and packing: each bucket of the last shard as soon as its gradients are there, other shards
    /// as a whole. Returns the end.
    fn compute(
        &self,
        events: &mut Events,
        start: Job,
        step: usize,
        rank: usize,
        order: &Order,
        packed: &mut [Vec<Job>],
    ) -> Job {
        let (work, device) = (&self.work, Resources { ranks: self.ranks }.device(rank));
        // A rank of more shards than others has more images.
        let each = work.compute * self.ranks as f64 / self.shards as f64;
        // What a library adds, or one rank alone, are sums over all shards of a rank.
        let folds = if self.exchange == Exchange::Nccl || self.ranks == 1 { order.folds().len() } else { 0 };
        let mut job = start;
        let mut leaves = order.leaves().peekable();
        while let Some((shard, _, additions)) = leaves.next() {
            let compute = each * self.spread.factor(step, rank, shard);
            if leaves.peek().is_some() {
                let node = self.node();
                let nodes = work.copy(node) + additions.len() as f64 * work.add(node, 1);
                job = events.job(device, compute + nodes, 0.0, &[job]);
                continue;
            }
            let mut left = 1.0;
            for (bucket, packed) in self.buckets.iter().zip(&mut *packed) {
                let additions = work.add(bucket.bytes, additions.len() + folds);
                let pack = if self.divided() { work.copy(bucket.bytes) + additions } else { 0.0 };
                job = events.job(device, compute * (left - bucket.left) + pack, 0.0, &[job]);
                left = bucket.left;
                packed.push(job);
            }
            job = events.job(device, compute * left, 0.0, &[job]);
        }
        job
    }

    /// The exchange of a bucket. Returns for each rank when it has everything.
    fn exchange(&self, events: &mut Events, on: &Resources, order: &Order, bytes: f64, begin: &[Job]) -> Vec<Job> {
        let (sent, merges) = (order.sent(), order.merges().len());
        let Way { links, trees } = self.way(bytes, sent);
        // On a CPU the ranks agree on the lengths first.
        let agreed = if self.work.votes_every == 1 { self.call(events, on, begin) } else { begin.to_vec() };
        let mut messages = Messages { events, links, on };
        match self.exchange {
            Exchange::Gather => messages.all_gather(bytes * sent as f64, &agreed),
            Exchange::Nccl => messages.all_reduce(bytes, &agreed, trees),
            Exchange::Scatter => {
                let (parts, part) = (messages.scatter(bytes * sent as f64, &agreed), bytes / self.ranks as f64);
                let add = self.work.add(part, merges);
                let sum =
                    |(rank, parts): (usize, &Vec<Job>)| messages.events.job(on.communicator(rank), add, 0.0, parts);
                let sums: Vec<Job> = parts.iter().enumerate().map(sum).collect();
                messages.all_gather(part, &sums)
            }
        }
    }

    /// A call by way of rank 0: all ranks send to it, and it sends the answer to one after the other.
    fn call(&self, events: &mut Events, on: &Resources, begin: &[Job]) -> Vec<Job> {
        let call = self.work.call;
        let part = |(rank, &job): (usize, &Job)| match rank {
            0 => job,
            _ => events.job(on.host(rank), call, 0.0, &[job]),
        };
        let parts: Vec<Job> = begin.iter().enumerate().map(part).collect();
        let all = events.job(on.host(0), 0.0, 0.0, &parts);
        let answer = |rank: usize| match rank {
            0 => all,
            _ => events.job(on.host(0), call, 0.0, &[all]),
        };
        (0..begin.len()).map(answer).collect()
    }

    /// The time of a vote.
    fn vote(&self) -> f64 {
        let (mut events, on) = (Events::default(), Resources { ranks: self.ranks });
        let start = events.start(0.0);
        let answers = self.call(&mut events, &on, &vec![start; self.ranks]);
        let times = events.run();
        answers.iter().map(|&job| times[job]).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Work =
        Work { compute: 1000.0, update: 10.0, memory: 2e6, gap: 1.0, queue: 0.0, call: 2.0, votes_every: 8 };

    fn cluster(ranks: usize, exchange: Exchange) -> Cluster {
        let links = vec![Links::tcp(20.0, 1000.0)];
        let spread = Jitter { share: 0.0, seed: 0 };
        Cluster { ranks, shards: ranks, buckets: whole(4e6), exchange, links, work: WORK, spread }
    }

    /// A node of so many bytes in one bucket.
    fn whole(bytes: f64) -> Vec<Bucket> {
        vec![Bucket { bytes, left: 0.0 }]
    }

    fn close(one: f64, other: f64) {
        assert!((one - other).abs() <= 1e-9 * other.abs().max(1.0), "{one} for {other}");
    }

    #[test]
    fn one_rank_is_compute_and_update() {
        for exchange in [Exchange::Gather, Exchange::Nccl, Exchange::Scatter] {
            let times = cluster(1, exchange).simulate(3);
            close(times.step, 1010.0);
            assert_eq!((times.straggling, times.exchange, cluster(1, exchange).traffic()), (0.0, 0.0, 0.0));
        }
    }

    /// 20 microseconds of latency and 4000 on the link for each of a ring's hops.
    #[test]
    fn a_gather_without_spread_has_its_closed_form() {
        for ranks in [2, 3, 8, 17] {
            let cluster = cluster(ranks, Exchange::Gather);
            let (times, others) = (cluster.simulate(2), (ranks - 1) as f64);
            close(times.exchange, others * (20.0 + 4000.0));
            close(times.exchange, cluster.links[0].ring(ranks, 4e6, 1));
            close(times.step, 1000.0 + 5.0 + times.exchange + (others * 6.0 + 1.0) + 5.0 + 10.0);
            close(cluster.traffic(), others * 4e6);
        }
    }

    #[test]
    fn a_ring_that_adds_has_its_closed_form() {
        for ranks in [2usize, 4, 9] {
            let mut cluster = cluster(ranks, Exchange::Nccl);
            // Without trees: so slow that they are not taken.
            cluster.links[0].tree = [1e6; 2];
            let others = (ranks - 1) as f64;
            close(cluster.simulate(2).exchange, 2.0 * others * (20.0 + 4000.0 / ranks as f64));
            close(cluster.traffic(), 2.0 * others / ranks as f64 * 4e6);
        }
    }

    #[test]
    fn parts_and_their_sums_are_two_halves() {
        let cluster = cluster(4, Exchange::Scatter);
        let times = cluster.simulate(2);
        // Three parts of a quarter one after the other, their addition, and a ring of three hops.
        close(times.exchange, 3.0 * 1000.0 + 20.0 + (3.0 * 6.0 / 4.0 + 1.0) + 3.0 * 1020.0);
        close(times.finish, 5.0 + 10.0);
        close(cluster.traffic(), 2.0 * 3.0 / 4.0 * 4e6);
    }

    #[test]
    fn trees_are_near_the_estimate_of_nccl() {
        for (ranks, protocol, bytes) in
            [(8, 1, 8e6), (64, 1, 8e6), (256, 1, 8e6), (8, 0, 1e5), (64, 0, 1e5), (256, 0, 1e5)]
        {
            let links = Links::gpus(ranks)[protocol].clone();
            let estimate = links.trees(ranks, bytes);
            let mut cluster = Cluster { buckets: whole(bytes), links: vec![links], ..cluster(ranks, Exchange::Nccl) };
            // So slow a ring that it is not taken.
            cluster.links[0].inside.latency = 1e3;
            let ratio = cluster.simulate(1).exchange / estimate;
            assert!((0.5..1.2).contains(&ratio), "{ranks} ranks, {bytes} bytes: {ratio} of {estimate}");
        }
    }

    #[test]
    fn few_bytes_go_by_another_protocol_than_many() {
        for (ranks, bytes, base) in [(8, 1.2e5, 6.8), (8, 8e6, 14.0), (1024, 1.2e5, 6.8), (1024, 8e6, 14.0)] {
            let links = Links::gpus(ranks).to_vec();
            let cluster = Cluster { links, ..cluster(ranks, Exchange::Nccl) };
            assert_eq!(cluster.way(bytes, 1).links.base, base, "{ranks} ranks, {bytes} bytes");
        }
    }

    #[test]
    fn hosts_of_gpus_have_the_closed_form_of_a_ring() {
        for ranks in [8, 32] {
            for links in Links::gpus(ranks) {
                let estimate = links.ring(ranks, 8e6, 1);
                let cluster =
                    Cluster { buckets: whole(8e6), links: vec![links.clone()], ..cluster(ranks, Exchange::Gather) };
                let ratio = cluster.simulate(1).exchange / estimate;
                assert!((0.98..1.02).contains(&ratio), "{ranks} ranks: {ratio} of {estimate}");
            }
        }
    }

    #[test]
    fn the_vote_of_a_cpu_is_part_of_the_step_and_that_of_a_gpu_beside_it() {
        let mut cluster = cluster(3, Exchange::Gather);
        let beside = cluster.simulate(2);
        cluster.work.votes_every = 1;
        let within = cluster.simulate(2);
        // A part comes, and two answers go; once for the vote, once before the exchange.
        close(within.host, 6.0);
        close(within.exchange, beside.exchange + 6.0);
        close(within.step, beside.step + 12.0);
        // Hosts that take longer than their devices hold them up.
        cluster.work.votes_every = 8;
        cluster.work.call = 1e5;
        close(cluster.simulate(2).step, 3e5 / 8.0);
    }

    #[test]
    fn more_of_anything_takes_no_less_time() {
        let time = |change: &dyn Fn(&mut Cluster), exchange| {
            let mut cluster = cluster(8, exchange);
            change(&mut cluster);
            cluster.simulate(2).step
        };
        for exchange in [Exchange::Gather, Exchange::Nccl, Exchange::Scatter] {
            let least = time(&|_| {}, exchange);
            assert!(time(&|cluster| cluster.buckets[0].bytes *= 2.0, exchange) > least);
            assert!(time(&|cluster| cluster.links[0] = Links::tcp(40.0, 1000.0), exchange) > least);
            assert!(time(&|cluster| cluster.links[0] = Links::tcp(20.0, 900.0), exchange) > least);
            assert!(time(&|cluster| cluster.work.compute += 1.0, exchange) > least);
            assert!(time(&|cluster| cluster.spread.share = 0.05, exchange) > least);
            assert!(time(&|cluster| cluster.work.update += 1.0, exchange) > least);
        }
        let steps: Vec<f64> = (1..20).map(|ranks| cluster(ranks, Exchange::Gather).simulate(1).step).collect();
        assert!(steps.is_sorted(), "{steps:?}");
    }

    #[test]
    fn a_step_waits_for_the_slowest_rank() {
        let mut cluster = cluster(64, Exchange::Gather);
        cluster.spread.share = 0.05;
        let times = cluster.simulate(1);
        // The largest of 64 normal deviates is 2.4 on average, times 50 microseconds.
        assert!((80.0..200.0).contains(&times.straggling), "{times:?}");
        let times = cluster.simulate(8);
        close(times.step, times.compute + times.straggling + times.exchange + times.finish);
    }

    #[test]
    fn shards_that_ranks_do_not_share_evenly_send_more_nodes() {
        let cluster = Cluster { shards: 6, ..cluster(4, Exchange::Gather) };
        close(cluster.traffic(), 3.0 * 2.0 * 4e6);
    }

    /// A node of 4 MB in two buckets, of which the first has `left` of the compute before it.
    fn two(left: f64, exchange: Exchange, ranks: usize) -> Cluster {
        let buckets = vec![Bucket { bytes: 3e6, left }, Bucket { bytes: 1e6, left: 0.0 }];
        Cluster { buckets, ..cluster(ranks, exchange) }
    }

    #[test]
    fn a_bucket_is_hidden_whose_exchange_is_shorter_than_what_is_left() {
        for ranks in [2, 4] {
            let mut cluster = two(0.5, Exchange::Gather, ranks);
            // So fast a link that all that is left of the exchange is that of the last bucket.
            cluster.links = vec![Links::tcp(20.0, 1e5)];
            let (times, others) = (cluster.simulate(2), (ranks - 1) as f64);
            close(times.exchange, others * (20.0 + 10.0));
            // Packing in two launches, and the additions of the last bucket behind the exchange: those of the first are beside it.
            close(times.compute, 1000.0 + (3.0 + 1.0) + (1.0 + 1.0));
            let first = others * 4.5 + 1.0;
            close(times.finish, others * 1.5 + 1.0 + (first - times.exchange).max(0.0) + 5.0 + 10.0);
        }
    }

    #[test]
    fn what_is_left_of_a_longer_exchange_shows() {
        for (ranks, left) in [(2, 0.25), (8, 0.25), (8, 0.6)] {
            let (times, others) = (two(left, Exchange::Gather, ranks).simulate(2), (ranks - 1) as f64);
            // From the first bucket to the end of compute there is what is left, and the packing of the last bucket.
            let hidden = 1000.0 * left + 2.0;
            close(times.exchange, others * (20.0 + 3000.0) - hidden + others * (20.0 + 1000.0));
            // The first bucket's additions are done meanwhile.
            close(times.finish, others * 1.5 + 1.0 + 5.0 + 10.0);
        }
    }

    #[test]
    fn buckets_change_no_traffic() {
        for exchange in [Exchange::Gather, Exchange::Nccl, Exchange::Scatter] {
            close(two(0.3, exchange, 6).traffic(), cluster(6, exchange).traffic());
        }
    }

    /// With latency they may be: each bucket has its own.
    #[test]
    fn buckets_without_latency_are_never_slower_than_one() {
        for exchange in [Exchange::Gather, Exchange::Nccl, Exchange::Scatter] {
            for (ranks, left, share) in [(2, 0.0, 0.0), (5, 0.1, 0.05), (8, 0.4, 0.0), (16, 0.6, 0.02)] {
                let time = |mut cluster: Cluster| {
                    cluster.links = vec![Links::tcp(0.0, 1000.0)];
                    cluster.work.gap = 0.0;
                    cluster.spread.share = share;
                    cluster.simulate(3).step
                };
                let (cut, whole) = (time(two(left, exchange, ranks)), time(cluster(ranks, exchange)));
                assert!(cut <= whole + 1e-6, "{} on {ranks} ranks: {cut} for {whole}", exchange.name());
                assert!(left == 0.0 || cut < whole - 1.0, "{} on {ranks} ranks: {cut} for {whole}", exchange.name());
            }
        }
    }

    #[test]
    fn cpus_agree_before_each_bucket() {
        let mut cluster = two(0.0, Exchange::Gather, 3);
        let beside = cluster.simulate(2);
        cluster.work.votes_every = 1;
        close(cluster.simulate(2).exchange, beside.exchange + 2.0 * 6.0);
    }

    #[test]
    fn only_the_last_shard_of_a_rank_is_in_buckets() {
        let cluster = Cluster { shards: 8, ..two(0.5, Exchange::Gather, 2) };
        let times = cluster.simulate(1);
        // Three nodes packed whole, 5 each, and one addition of 7 behind the second; the last one's buckets, 4 and 2, each added twice.
        close(times.compute, 1000.0 + 15.0 + 7.0 + 6.0 + (2.0 * 4.5 + 1.0) + (2.0 * 1.5 + 1.0));
        // Of the last of four shards half is left, and the last bucket's packing and additions.
        close(times.exchange, 3020.0 - (125.0 + 6.0) + 1020.0);
    }
}
