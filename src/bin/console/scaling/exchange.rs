//! The ways in which ranks exchange gradients, as messages over links.

use super::events::{Events, Job, Resource};
use super::links::{Links, NIC};
use super::trees::trees;

/// How ranks get the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// `--allreduce tree`: all nodes go to all ranks, and each adds all of them.
    Gather,
    /// `--allreduce nccl`: NCCL adds on the way.
    Nccl,
    /// Not built: each rank gets its part of all nodes, adds it in the tree's order, and all gather the sums.
    Scatter,
}

impl Exchange {
    pub fn name(self) -> &'static str {
        match self {
            Exchange::Gather => "tree",
            Exchange::Nccl => "nccl",
            Exchange::Scatter => "scattered tree",
        }
    }

    /// The bytes that come in to each rank, of nodes of `bytes`, `sent` of each rank.
    pub fn traffic(self, ranks: usize, bytes: f64, sent: usize) -> f64 {
        let (others, sent) = ((ranks - 1) as f64, sent as f64);
        match self {
            Exchange::Gather => others * bytes * sent,
            Exchange::Nccl => 2.0 * others / ranks as f64 * bytes,
            Exchange::Scatter => others / ranks as f64 * bytes * (sent + 1.0),
        }
    }
}

/// Devices, the ways out of them, hosts, and communicators, as resources.
pub struct Resources {
    pub ranks: usize,
}

impl Resources {
    pub fn device(&self, rank: usize) -> Resource {
        rank
    }

    /// The way from a rank to others of its host, or to other hosts.
    fn way(&self, links: &Links, from: usize, to: usize) -> Resource {
        if links.host(from) == links.host(to) { self.ranks + from } else { 2 * self.ranks + links.host(from) }
    }

    /// A rank's own NIC.
    fn nic(&self, rank: usize) -> Resource {
        3 * self.ranks + rank
    }

    pub fn host(&self, rank: usize) -> Resource {
        4 * self.ranks + rank
    }

    /// What exchanges beside the device: a stream of its own, or a thread.
    pub fn communicator(&self, rank: usize) -> Resource {
        5 * self.ranks + rank
    }
}

/// Messages between ranks, by one set of links.
pub struct Messages<'a> {
    pub events: &'a mut Events,
    pub links: &'a Links,
    pub on: &'a Resources,
}

impl Messages<'_> {
    /// A message, over the way that leads there.
    pub fn send(&mut self, from: usize, to: usize, bytes: f64, latency: f64, after: &[Job]) -> Job {
        let busy = self.links.link(from, to).busy(bytes);
        self.events.job(self.on.way(self.links, from, to), busy, latency, after)
    }

    /// Around the ring, `rounds` times: each rank sends `bytes` of its own, and what it has received. Returns the last arrivals, by
    /// rank.
    fn ring(&mut self, bytes: f64, rounds: usize, begin: &[Job]) -> Vec<Job> {
        let ranks = begin.len();
        let pieces = (bytes / self.links.piece).ceil().max(1.0) as usize;
        // What each rank sends next, piece by piece.
        let mut held: Vec<Vec<Job>> = begin.iter().map(|&job| vec![job; pieces]).collect();
        for _ in 0..rounds * (ranks - 1) {
            let mut arrived = vec![Vec::new(); ranks];
            for (from, parts) in held.iter().enumerate() {
                let to = (from + 1) % ranks;
                let latency = self.links.link(from, to).latency;
                for &part in parts {
                    // The receiver has to be there. (So is the sender: it has received before, but for the first round.)
                    let job = self.send(from, to, bytes / pieces as f64, latency, &[part, begin[to]]);
                    arrived[to].push(job);
                }
            }
            held = arrived;
        }
        held.iter().map(|parts| parts[parts.len() - 1]).collect()
    }

    /// Each rank's `bytes` to all others. Returns for each rank when it has all.
    pub fn all_gather(&mut self, bytes: f64, begin: &[Job]) -> Vec<Job> {
        let begin = self.begin(begin);
        self.ring(bytes, 1, &begin)
    }

    /// The sum of all ranks' `bytes`, around a ring or up and down trees.
    pub fn all_reduce(&mut self, bytes: f64, begin: &[Job], up_and_down: bool) -> Vec<Job> {
        let begin = self.begin(begin);
        if up_and_down { trees(self, bytes, &begin) } else { self.ring(bytes / begin.len() as f64, 2, &begin) }
    }

    /// Each rank's part of all ranks' `bytes` to it: an Nth from each other rank. Returns for each rank what it waits for.
    pub fn scatter(&mut self, bytes: f64, begin: &[Job]) -> Vec<Vec<Job>> {
        let begin = self.begin(begin);
        let (ranks, part) = (begin.len(), bytes / begin.len() as f64);
        let mut arrived = vec![Vec::new(); ranks];
        // Everyone sends to its next one first, then to the one after it.
        for distance in 1..ranks {
            for from in 0..ranks {
                let to = (from + distance) % ranks;
                let job = if self.links.host(from) == self.links.host(to) || self.links.per_host == 1 {
                    self.send(from, to, part, self.links.link(from, to).latency, &[begin[from], begin[to]])
                } else {
                    let busy = self.links.overhead + part / NIC;
                    self.events.job(self.on.nic(from), busy, self.links.between.latency, &[begin[from], begin[to]])
                };
                arrived[to].push(job);
            }
        }
        arrived
    }

    /// What a collective takes before its first message.
    fn begin(&mut self, begin: &[Job]) -> Vec<Job> {
        let base = self.links.base;
        let start = |(rank, &job): (usize, &Job)| self.events.job(self.on.communicator(rank), base, 0.0, &[job]);
        begin.iter().enumerate().map(start).collect()
    }
}
