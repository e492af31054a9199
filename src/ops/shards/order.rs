//! The order in which the nodes of a step are added: one binary tree over its shards, whatever the number of ranks.
//!
//! Two nodes of equal size are added when both are there and the left one begins at a multiple of their common size, as a binary
//! counter carries. At last the nodes that are left, each smaller than the one before it, are added from the right. For six shards
//! the sum is `((0 + 1) + (2 + 3)) + (4 + 5)`. A rank that runs shards 2 to 4 of them adds `2 + 3`, and sends that and 4.

use std::ops::Range;

use crate::tape::Shard;
use crate::{Error, Result};

/// An addition of two nodes, by the places at which they lie: the node at `to` becomes the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addition {
    pub to: usize,
    pub from: usize,
}

/// A node of the tree: the sum over the shards from `first` on, `1 << level` of them; it lies at `place`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    first: usize,
    level: u32,
    place: usize,
}

/// The nodes that are there and not yet part of a larger one, from the left to the right.
#[derive(Default)]
struct Open(Vec<Node>);

impl Open {
    /// Takes a node in. Returns the additions that it allows.
    fn take(&mut self, node: Node) -> Vec<Addition> {
        self.0.push(node);
        let mut additions = Vec::new();
        while let [.., left, right] = self.0[..] {
            if left.level != right.level || left.first >> left.level & 1 == 1 {
                break;
            }
            additions.push(Addition { to: left.place, from: right.place });
            self.0.truncate(self.0.len() - 2);
            self.0.push(Node { level: left.level + 1, ..left });
        }
        additions
    }

    /// The additions of what is left, from the right.
    fn close(self) -> Vec<Addition> {
        let pairs = self.0.windows(2).rev();
        pairs.map(|pair| Addition { to: pair[0].place, from: pair[1].place }).collect()
    }
}

/// The order of a step's additions, as one of the ranks sees it. Places count nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    shards: usize,
    ranks: usize,
    own: Range<usize>,
    /// For each own shard the place of its node, and the additions that follow it.
    leaves: Vec<(usize, Vec<Addition>)>,
    /// The additions of the nodes that are left, for a rank that sends their sum alone.
    folds: Vec<Addition>,
    room: usize,
    sent: usize,
    merges: Vec<Addition>,
}

impl Order {
    /// The most shards of a batch: dropout has as many masks ([`Purpose::Dropout`](crate::rng::Purpose::Dropout)).
    pub const MOST: usize = Shard::MOST as usize;

    /// The order of `shards` shards on rank `rank` of `ranks`. Each rank runs neighbouring shards, as many as the others or one
    /// more.
    ///
    /// # Errors
    /// [`Error::Config`] for no shards, more than [`Order::MOST`] or fewer than ranks, and for a rank that is none of them.
    pub fn new(shards: usize, ranks: usize, rank: usize) -> Result<Self> {
        Self::require(shards)?;
        if rank >= ranks {
            return Err(Error::config("ranks", format!("there is no rank {rank} of {ranks}")));
        }
        if shards < ranks {
            let problem = format!("{shards} cannot be shared by {ranks} ranks; start at most as many ranks as shards");
            return Err(Error::config("shards", problem));
        }
        let range = |rank: usize| rank * shards / ranks..(rank + 1) * shards / ranks;
        let own = range(rank);
        let (leaves, room, left) = Self::of(own.clone());
        let folds = left.close();
        let open: Vec<_> = (0..ranks).map(|rank| Self::of(range(rank)).2).collect();
        let sent = open.iter().map(|open| open.0.len()).max().unwrap_or(1);
        let mut all = Open::default();
        let mut merges = Vec::new();
        for (rank, open) in open.iter().enumerate() {
            for (at, node) in open.0.iter().enumerate() {
                merges.extend(all.take(Node { place: at * ranks + rank, ..*node }));
            }
        }
        merges.extend(all.close());
        Ok(Order { shards, ranks, own, leaves, folds, room: room.max(sent), sent, merges })
    }

    /// # Errors
    /// [`Error::Config`] for a number of shards out of its range.
    pub(crate) fn require(shards: usize) -> Result<()> {
        if (1..=Self::MOST).contains(&shards) {
            return Ok(());
        }
        Err(Error::config("shards", format!("{shards} must be between 1 and {}", Self::MOST)))
    }

    /// The places and additions of some shards, the places that they need, and the nodes that are left.
    fn of(shards: Range<usize>) -> (Vec<(usize, Vec<Addition>)>, usize, Open) {
        let (mut open, mut room) = (Open::default(), 0);
        let leaves = shards.map(|first| {
            let place = open.0.len();
            room = room.max(place + 1);
            (place, open.take(Node { first, level: 0, place }))
        });
        let leaves = leaves.collect();
        (leaves, room, open)
    }

    pub fn shards(&self) -> usize {
        self.shards
    }

    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// The shards of this rank.
    pub fn own(&self) -> Range<usize> {
        self.own.clone()
    }

    /// For each of the own shards in turn: its number, the place of its node, and the additions that follow.
    pub fn leaves(&self) -> impl Iterator<Item = (usize, usize, &[Addition])> {
        self.own.clone().zip(&self.leaves).map(|(shard, (place, additions))| (shard, *place, &additions[..]))
    }

    /// The nodes that a rank has room for.
    pub fn room(&self) -> usize {
        self.room
    }

    /// The nodes that each rank sends: its first ones. A rank that has fewer sends anything in the place of the rest.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// The additions that leave the sum of the own shards at place 0, for ranks that are not to add in the tree's order.
    pub fn folds(&self) -> &[Addition] {
        &self.folds
    }

    /// The additions of what all ranks have sent, where node `n` of rank `r` lies at place `n · ranks + r`. The sum is at place 0.
    pub fn merges(&self) -> &[Addition] {
        &self.merges
    }

    /// The images of shard `shard` in a batch of `images`: as many as in the others, or one more; none where there are fewer
    /// images than shards.
    pub fn images(&self, shard: usize, images: usize) -> Range<usize> {
        shard * images / self.shards..(shard + 1) * images / self.shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(places: &mut [String], additions: &[Addition]) {
        for &Addition { to, from } in additions {
            assert!(!places[to].is_empty() && !places[from].is_empty(), "both are there");
            places[to] = format!("({}+{})", places[to], places[from]);
            places[from].clear();
        }
    }

    /// The sum as text, by `ranks` ranks.
    fn sum(shards: usize, ranks: usize) -> String {
        let orders: Vec<_> = (0..ranks).map(|rank| Order::new(shards, ranks, rank).unwrap()).collect();
        let mut all = vec![String::new(); ranks * orders[0].sent()];
        for (rank, order) in orders.iter().enumerate() {
            let mut own = vec![String::new(); order.room()];
            for (shard, place, additions) in order.leaves() {
                assert!(own[place].is_empty(), "nothing is overwritten");
                own[place] = shard.to_string();
                add(&mut own, additions);
            }
            assert!(own[order.sent()..].iter().all(String::is_empty), "all that is left is sent");
            for (node, sum) in own[..order.sent()].iter_mut().enumerate() {
                all[node * ranks + rank] = std::mem::take(sum);
            }
            assert_eq!((order.merges(), order.sent()), (orders[0].merges(), orders[0].sent()));
        }
        add(&mut all, orders[0].merges());
        assert!(all[1..].iter().all(String::is_empty), "everything is added: {all:?}");
        all.swap_remove(0)
    }

    #[test]
    fn any_number_of_ranks_adds_in_the_same_order() {
        for shards in 1..=33 {
            let one = sum(shards, 1);
            for ranks in 2..=shards {
                assert_eq!(sum(shards, ranks), one, "{shards} shards on {ranks} ranks");
            }
        }
        assert_eq!(sum(6, 3), "(((0+1)+(2+3))+(4+5))");
        assert_eq!(sum(7, 7), "(((0+1)+(2+3))+((4+5)+6))");
    }

    #[test]
    fn what_cannot_be_shared_is_refused() {
        for (shards, ranks, rank) in [(0, 1, 0), (4097, 1, 0), (2, 3, 0), (4, 2, 2), (1, 0, 0)] {
            let error = Order::new(shards, ranks, rank).unwrap_err();
            assert!(matches!(error, Error::Config { .. }), "{shards} {ranks} {rank}: {error}");
        }
    }

    #[test]
    fn memory_grows_with_the_logarithm() {
        let order = Order::new(1024, 1, 0).unwrap();
        assert_eq!((order.room(), order.sent()), (11, 1));
        let of_eight = Order::new(8, 8, 3).unwrap();
        assert_eq!((of_eight.room(), of_eight.sent(), of_eight.merges().len()), (1, 1, 7));
        assert_eq!(Order::new(6, 4, 1).unwrap().sent(), 2);
    }

    #[test]
    fn every_image_is_in_one_shard() {
        for (shards, images) in [(1, 7), (3, 7), (8, 128), (8, 3), (5, 0)] {
            let order = Order::new(shards, 1, 0).unwrap();
            let all: Vec<_> = (0..shards).flat_map(|shard| order.images(shard, images)).collect();
            assert_eq!(all, (0..images).collect::<Vec<_>>());
        }
        assert_eq!(Order::new(8, 4, 1).unwrap().own(), 2..4);
    }
}
