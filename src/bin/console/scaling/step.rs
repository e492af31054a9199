//! A training step on ranks: compute, packing, exchange, additions, update, and the vote of the hosts.

use mlpconv::ops::shards::Order;

use super::events::{Events, Job};
use super::exchange::{Exchange, Messages, Resources};
use super::links::Links;
use super::spread::Spread;

/// What a device and its host take, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Forward and backward of all images of a rank.
    pub compute: f64,
    /// The update.
    pub update: f64,
    /// A node packed, or unpacked.
    pub copy: f64,
    /// A node added to another.
    pub add: f64,
    /// The host queues a step.
    pub queue: f64,
    /// A host sends a small message, or takes one.
    pub call: f64,
    /// Steps between two votes. 1: the host waits for each step, as on a CPU, and agrees on the lengths before it exchanges.
    pub votes_every: usize,
}

/// Ranks that train.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub ranks: usize,
    pub shards: usize,
    /// Bytes of a node.
    pub node: f64,
    pub exchange: Exchange,
    /// The sets of links of which the fastest is taken.
    pub links: Vec<Links>,
    pub work: Work,
    pub spread: Spread,
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
    /// From then on until all ranks have everything.
    pub exchange: f64,
    /// Additions after the exchange (or between its halves), unpacking, update.
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

    fn order(&self, rank: usize) -> Order {
        Order::new(self.shards, self.ranks, rank).expect("a cluster has a shard for each rank")
    }

    /// The bytes that come in to each rank in a step.
    pub fn traffic(&self) -> f64 {
        self.exchange.traffic(self.ranks, self.node, self.order(0).sent())
    }

    /// The fastest way, by estimates as NCCL makes them.
    fn way(&self, sent: usize) -> Way<'_> {
        let (ranks, bytes) = (self.ranks, self.node * sent as f64);
        let ways = self.links.iter().flat_map(|links| [false, true].map(|trees| Way { links, trees }));
        let time = |way: &Way<'_>| match (self.exchange, way.trees) {
            (Exchange::Gather, false) => way.links.ring(ranks, bytes, 1),
            (Exchange::Nccl, false) => way.links.ring(ranks, self.node / ranks as f64, 2),
            (Exchange::Nccl, true) => way.links.trees(ranks, self.node),
            (Exchange::Scatter, false) => way.links.ring(ranks, self.node / ranks as f64, 1),
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
        let Work { compute, update, copy, add, votes_every, .. } = self.work;
        let mut events = Events::default();
        let mut computed = Vec::with_capacity(self.ranks);
        for (rank, order) in orders.iter().enumerate() {
            let device = on.device(rank);
            let mut job = events.start(ready[rank]);
            // A rank of more shards than others has more images.
            let each = compute * self.ranks as f64 / self.shards as f64;
            for (shard, _, additions) in order.leaves() {
                job = events.job(device, each * self.spread.factor(step, rank, shard), 0.0, &[job]);
                if self.divided() {
                    job = events.job(device, copy + add * additions.len() as f64, 0.0, &[job]);
                }
            }
            if self.exchange == Exchange::Nccl || self.ranks == 1 {
                job = events.job(device, add * order.folds().len() as f64, 0.0, &[job]);
            }
            computed.push(job);
        }
        let order = &orders[0];
        let (sent, merges) = (order.sent(), order.merges().len() as f64);
        let mut got = computed.clone();
        let mut between = 0.0;
        if self.ranks > 1 {
            let Way { links, trees } = self.way(sent);
            // On a CPU the ranks agree on the lengths first.
            let begin = if votes_every == 1 { self.call(&mut events, &on, &computed) } else { computed.clone() };
            let mut messages = Messages { events: &mut events, links, on: &on };
            let bytes = self.node * sent as f64;
            got = match self.exchange {
                Exchange::Gather => messages.all_gather(bytes, &begin),
                Exchange::Nccl => messages.all_reduce(bytes, &begin, trees),
                Exchange::Scatter => {
                    let parts = messages.scatter(bytes, &begin);
                    // All additions of a part are one pass over it.
                    between = add * merges / self.ranks as f64;
                    let sum =
                        |(rank, part): (usize, &Vec<Job>)| messages.events.job(on.device(rank), between, 0.0, part);
                    let sums: Vec<Job> = parts.iter().enumerate().map(sum).collect();
                    messages.all_gather(self.node / self.ranks as f64, &sums)
                }
            };
        }
        let additions = if self.exchange == Exchange::Gather && self.ranks > 1 { add * merges } else { 0.0 };
        let finish = additions + update + if self.divided() { copy } else { 0.0 };
        let finish = |(rank, &job): (usize, &Job)| events.job(on.device(rank), finish, 0.0, &[job]);
        let done: Vec<Job> = got.iter().enumerate().map(finish).collect();

        let times = events.run();
        let at = |jobs: &[Job]| -> Vec<f64> { jobs.iter().map(|&job| times[job]).collect() };
        let (computed, got, done) = (at(&computed), at(&got), at(&done));
        let last = |values: &[f64]| values.iter().copied().fold(f64::MIN, f64::max);
        let took = computed.iter().zip(&*ready).map(|(computed, ready)| computed - ready);
        let compute = took.sum::<f64>() / self.ranks as f64;
        let straggling = last(&computed) - last(ready) - compute;
        ready.copy_from_slice(&done);
        Times {
            compute,
            straggling,
            exchange: last(&got) - last(&computed) - between,
            finish: last(&done) - last(&got) + between,
            ..Times::default()
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
        Work { compute: 1000.0, update: 10.0, copy: 3.0, add: 5.0, queue: 0.0, call: 2.0, votes_every: 8 };

    fn cluster(ranks: usize, exchange: Exchange) -> Cluster {
        let links = vec![Links::tcp(20.0, 1000.0)];
        let spread = Spread { share: 0.0, seed: 0 };
        Cluster { ranks, shards: ranks, node: 4e6, exchange, links, work: WORK, spread }
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
            close(times.step, 1000.0 + 3.0 + times.exchange + others * 5.0 + 10.0 + 3.0);
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
        // Three parts of a quarter one after the other, and a ring of three hops.
        close(times.exchange, 3.0 * 1000.0 + 20.0 + 3.0 * 1020.0);
        close(times.finish, 3.0 * 5.0 / 4.0 + 10.0 + 3.0);
        close(cluster.traffic(), 2.0 * 3.0 / 4.0 * 4e6);
    }

    #[test]
    fn trees_are_near_the_estimate_of_nccl() {
        for ranks in [8, 64, 256] {
            let [links, _] = Links::gpus();
            let estimate = links.trees(ranks, 8e6);
            let mut cluster = Cluster { node: 8e6, links: vec![links], ..cluster(ranks, Exchange::Nccl) };
            // So slow a ring that it is not taken.
            cluster.links[0].inside.latency = 1e3;
            let ratio = cluster.simulate(1).exchange / estimate;
            assert!((0.5..1.2).contains(&ratio), "{ranks} ranks: {ratio} of {estimate}");
        }
    }

    #[test]
    fn hosts_of_gpus_have_the_closed_form_of_a_ring() {
        for links in Links::gpus() {
            for ranks in [8, 32] {
                let estimate = links.ring(ranks, 8e6, 1);
                let cluster = Cluster { node: 8e6, links: vec![links.clone()], ..cluster(ranks, Exchange::Gather) };
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
            assert!(time(&|cluster| cluster.node *= 2.0, exchange) > least);
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
}
