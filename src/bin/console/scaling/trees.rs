//! NCCL's sum up and down two trees.

use std::cmp::Reverse;
use std::mem::take;

use super::events::Job;
use super::exchange::Messages;

/// Bytes that go on as one, and the fewest such parts of a tree's bytes.
const CHUNK: f64 = 131072.0;
const FEWEST: f64 = 8.0;

/// Two trees of hosts, half of the bytes by each. A host is a chain of ranks, of which the first one is its node in a binary tree;
/// the second tree has the hosts the other way round.
struct Tree {
    per_host: usize,
    hosts: usize,
    turned: bool,
}

impl Tree {
    fn turn(&self, host: usize) -> usize {
        if self.turned { self.hosts - 1 - host } else { host }
    }

    fn parent(&self, rank: usize) -> Option<usize> {
        match (rank % self.per_host, self.turn(rank / self.per_host)) {
            (0, 0) => None,
            (0, at) => Some(self.turn((at - 1) / 2) * self.per_host),
            _ => Some(rank - 1),
        }
    }

    /// The ranks, children before parents: the ends of chains first, then hosts from the leaves of their tree.
    fn order(&self, ranks: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..ranks).collect();
        let place = |rank: usize| (!rank.is_multiple_of(self.per_host), self.turn(rank / self.per_host), rank);
        order.sort_by_key(|&rank| Reverse(place(rank)));
        order
    }
}

/// Chunks go up as soon as the children's are there, and down as soon as the parent has the sum. Returns when each rank has all.
pub fn trees(messages: &mut Messages<'_>, bytes: f64, begin: &[Job]) -> Vec<Job> {
    let (ranks, links) = (begin.len(), messages.links);
    let chunks = (bytes / 2.0 / CHUNK).ceil().max(FEWEST) as usize;
    // A slower link is a longer message.
    let chunk = bytes / 2.0 / chunks as f64 / links.tree_share(bytes);
    let latency = |from: usize, to: usize| links.tree[usize::from(links.host(from) != links.host(to))];
    let mut last: Vec<Vec<Job>> = vec![Vec::new(); ranks];
    for turned in [false, true] {
        let tree = Tree { per_host: links.per_host, hosts: ranks.div_ceil(links.per_host), turned };
        let order = tree.order(ranks);
        // For each rank and chunk, what has to be there before the rank sends it.
        let mut held: Vec<Vec<Vec<Job>>> = begin.iter().map(|&job| vec![vec![job]; chunks]).collect();
        for &rank in &order {
            let Some(to) = tree.parent(rank) else { continue };
            for (at, mut after) in take(&mut held[rank]).into_iter().enumerate() {
                // The receiver has to be there.
                after.push(begin[to]);
                let job = messages.send(rank, to, chunk, latency(rank, to), &after);
                held[to][at].push(job);
            }
        }
        for &rank in order.iter().rev() {
            if let Some(from) = tree.parent(rank) {
                let sums = take(&mut held[from]);
                let send = |after: &Vec<Job>| vec![messages.send(from, rank, chunk, latency(from, rank), after)];
                held[rank] = sums.iter().map(send).collect();
                held[from] = sums;
            }
            last[rank].extend(held[rank].last().into_iter().flatten());
        }
    }
    let done = |(rank, last): (usize, &Vec<Job>)| messages.events.job(messages.on.communicator(rank), 0.0, 0.0, last);
    last.iter().enumerate().map(done).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rank_has_a_way_to_the_root_and_comes_before_its_parent() {
        for (per_host, hosts, turned) in [(8, 1, false), (8, 5, true), (1, 7, false), (4, 16, true)] {
            let tree = Tree { per_host, hosts, turned };
            let order = tree.order(per_host * hosts);
            let place = |rank: usize| order.iter().position(|&other| other == rank);
            let mut roots = 0;
            for &rank in &order {
                match tree.parent(rank) {
                    Some(parent) => assert!(place(rank) < place(parent), "{rank} and {parent}"),
                    None => roots += 1,
                }
            }
            assert_eq!(roots, 1);
        }
    }
}
