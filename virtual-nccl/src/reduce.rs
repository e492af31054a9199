//! The orders in which an all-reduce adds the ranks' values, and in which an all-gather's pieces arrive.
//!
//! Floating-point sums depend on the order, and NCCL promises none: it chooses an algorithm by size and topology. A program whose
//! results must not depend on that choice is tested with several orders.

use crate::call::{Call, Kind, Type};
use crate::random::Random;

/// `VIRTUAL_NCCL_ORDER`. With n ranks and values x₀ … xₙ₋₁ of one element:
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The elements are cut into n parts of equal length, ⌈count / n⌉, the last ones shorter. Part p is summed along the ring from
    /// the rank after p: ((xₚ₊₁ + xₚ₊₂) + …) + xₚ.
    Ring,
    /// Pairs, then pairs of pairs: (x₀ + x₁) + (x₂ + x₃). A rank without a partner joins a level above: ((x₀ + x₁) + x₂).
    Tree,
    /// One after the other, in a permutation of the ranks that each collective draws anew from the seed and its number.
    Shuffled(u64),
}

impl Order {
    /// The result of a collective whose inputs all have the length that it states: for an all-reduce the sum, for an all-gather the
    /// inputs one after the other.
    pub fn combine(self, call: &Call, number: u64, inputs: &[Vec<u8>]) -> Vec<u8> {
        match (call.kind, call.of) {
            (Kind::AllGather, _) => inputs.concat(),
            (_, Type::Int32 | Type::Uint32) => {
                self.sum(number, inputs, u32::from_le_bytes, u32::wrapping_add, u32::to_le_bytes)
            }
            (_, Type::Int64 | Type::Uint64) => {
                self.sum(number, inputs, u64::from_le_bytes, u64::wrapping_add, u64::to_le_bytes)
            }
            (_, Type::Float64) => self.sum(number, inputs, f64::from_le_bytes, |a, b| a + b, f64::to_le_bytes),
            // The other types are refused by `Call::new`.
            _ => self.sum(number, inputs, f32::from_le_bytes, |a, b| a + b, f32::to_le_bytes),
        }
    }

    /// The pieces of a collective's output, as ranges of bytes, in the order in which they are sent to a rank.
    pub fn pieces(self, call: &Call, number: u64, rank: usize, ranks: usize) -> Vec<std::ops::Range<usize>> {
        let bytes = call.input();
        if call.kind == Kind::AllReduce {
            return std::iter::once(0..bytes).collect();
        }
        let mut from: Vec<usize> = (0..ranks).collect();
        match self {
            // Its own, then what its neighbour before it passes on.
            Order::Ring => from.sort_by_key(|other| (rank + ranks - other) % ranks),
            // Its own, its partner's, its partners' partners'.
            Order::Tree => from.sort_by_key(|other| rank ^ other),
            Order::Shuffled(seed) => from = Random::new(seed ^ number ^ (rank as u64) << 32).permutation(ranks),
        }
        from.into_iter().map(|other| other * bytes..(other + 1) * bytes).collect()
    }

    fn sum<T: Copy, const BYTES: usize>(
        self,
        number: u64,
        inputs: &[Vec<u8>],
        from: fn([u8; BYTES]) -> T,
        add: fn(T, T) -> T,
        to: fn(T) -> [u8; BYTES],
    ) -> Vec<u8> {
        let values = |input: &Vec<u8>| input.as_chunks::<BYTES>().0.iter().map(|bytes| from(*bytes)).collect();
        let mut inputs: Vec<Vec<T>> = inputs.iter().map(values).collect();
        let (ranks, count) = (inputs.len(), inputs.first().map_or(0, Vec::len));
        let in_turn = |order: &[usize], element: usize| {
            let mut terms = order.iter().map(|rank| inputs[*rank][element]);
            let first = terms.next();
            terms.fold(first, |sum, term| sum.map(|sum| add(sum, term)))
        };
        let sums: Vec<T> = match self {
            Order::Ring => {
                let part = count.div_ceil(ranks.max(1)).max(1);
                let order = |part: usize| (1..=ranks).map(|step| (part + step) % ranks).collect::<Vec<usize>>();
                let orders: Vec<_> = (0..ranks).map(order).collect();
                (0..count).filter_map(|element| in_turn(&orders[element / part], element)).collect()
            }
            Order::Shuffled(seed) => {
                let order = Random::new(seed ^ number).permutation(ranks);
                (0..count).filter_map(|element| in_turn(&order, element)).collect()
            }
            Order::Tree => {
                let mut step = 1;
                while step < ranks {
                    for left in (0..ranks - step).step_by(2 * step) {
                        let (before, after) = inputs.split_at_mut(left + step);
                        before[left].iter_mut().zip(&after[0]).for_each(|(sum, term)| *sum = add(*sum, *term));
                    }
                    step *= 2;
                }
                inputs.swap_remove(0)
            }
        };
        sums.into_iter().flat_map(to).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Terms of which every order has another sum: 1 is lost beside 1e8, and 1e8 - 1e8 is 0.
    const TERMS: [f32; 4] = [1e8, 1.0, -1e8, 1.0];

    fn sum(order: Order, count: usize) -> Vec<f32> {
        let inputs: Vec<Vec<u8>> =
            TERMS.iter().map(|term| vec![*term; count].into_iter().flat_map(f32::to_le_bytes).collect()).collect();
        let call = Call { kind: Kind::AllReduce, count: count as u64, of: Type::Float32 };
        order.combine(&call, 0, &inputs).as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    #[test]
    fn the_ring_begins_each_part_after_its_rank() {
        let [a, b, c, d] = TERMS;
        let parts = [((b + c) + d) + a, ((c + d) + a) + b, ((d + a) + b) + c, ((a + b) + c) + d];
        // Nine elements are parts of 3, 3, 3 and 0.
        let expected: Vec<f32> = (0..9).map(|element| parts[element / 3]).collect();
        assert_eq!(sum(Order::Ring, 9), expected);
        assert_eq!(sum(Order::Ring, 4), parts);
        assert_eq!(sum(Order::Ring, 1), parts[..1]);
    }

    #[test]
    fn the_tree_adds_pairs() {
        let [a, b, c, d] = TERMS;
        assert_eq!(sum(Order::Tree, 2), [(a + b) + (c + d); 2]);
    }

    #[test]
    fn seeds_and_numbers_shuffle_differently() {
        let sums = |seed: u64| sum(Order::Shuffled(seed), 1)[0].to_bits();
        let all: std::collections::HashSet<u32> = (0..20).map(sums).collect();
        assert!(all.len() > 1, "{all:?}");
        assert_eq!(sums(7), sums(7));
    }

    #[test]
    fn every_rank_gets_every_piece_once() {
        let call = Call { kind: Kind::AllGather, count: 3, of: Type::Uint8 };
        for order in [Order::Ring, Order::Tree, Order::Shuffled(1)] {
            for (ranks, rank) in [(1, 0), (3, 1), (8, 5)] {
                let mut pieces = order.pieces(&call, 4, rank, ranks);
                if !matches!(order, Order::Shuffled(_)) {
                    assert_eq!(pieces[0], 3 * rank..3 * rank + 3);
                }
                pieces.sort_by_key(|piece| piece.start);
                assert_eq!(pieces, (0..ranks).map(|other| 3 * other..3 * other + 3).collect::<Vec<_>>());
            }
        }
    }
}
