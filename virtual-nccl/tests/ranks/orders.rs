//! The bits of sums in each order, and that all ranks have the same.

use super::world::*;

const RANKS: usize = 4;
const COUNT: usize = 9;

/// Terms whose sum depends on the order.
fn term(rank: usize, i: usize) -> f32 {
    [1e8, 1.0, -1e8, 3.0][(rank + i) % 4] + i as f32 * 0.1
}

/// The sum that the stand-in makes, the same on all ranks, of three collectives one after the other.
fn sums(world: &World) -> [Vec<f32>; 3] {
    let comm = world.comm(true);
    let own: Vec<f32> = (0..COUNT).map(|i| term(world.rank, i)).collect();
    let (a, b) = (world.upload(&own), world.room::<f32>(COUNT));
    let result = [0, 1, 2].map(|_| {
        world.all_reduce::<f32>(comm, a, b, COUNT);
        world.wait();
        world.read::<f32>(b, COUNT)
    });
    let all = world.room::<f32>(RANKS * COUNT);
    world.all_gather::<f32>(comm, b, all, COUNT);
    world.wait();
    assert_eq!(world.read::<f32>(all, RANKS * COUNT), result[2].repeat(RANKS));
    world.destroy(comm);
    result
}

#[test]
fn the_ring_starts_behind_each_parts_rank() {
    run(RANKS, &[], |world| {
        let expected: Vec<f32> = (0..COUNT)
            .map(|i| {
                let part = i / COUNT.div_ceil(RANKS);
                let terms = [1, 2, 3, 4].map(|step| term((part + step) % RANKS, i));
                ((terms[0] + terms[1]) + terms[2]) + terms[3]
            })
            .collect();
        assert_eq!(sums(world), [0, 1, 2].map(|_| expected.clone()));
    });
}

#[test]
fn the_tree_adds_pairs() {
    run(RANKS, &[("VIRTUAL_NCCL_ORDER", "tree")], |world| {
        let sum = |i: usize| (term(0, i) + term(1, i)) + (term(2, i) + term(3, i));
        let expected: Vec<f32> = (0..COUNT).map(sum).collect();
        assert_eq!(sums(world), [0, 1, 2].map(|_| expected.clone()));
    });
}

#[test]
fn a_seed_gives_the_same_bits_again() {
    run(RANKS, &[("VIRTUAL_NCCL_ORDER", "shuffled:5")], |world| {
        let first = sums(world);
        assert!(first[0] != first[1] || first[1] != first[2], "each collective has an order of its own: {first:?}");
        world.say("sums", &first.concat().iter().flat_map(|sum| sum.to_le_bytes()).collect::<Vec<u8>>());
        assert_eq!(world.hear("sums", 0), world.hear("sums", world.rank));
    });
}
