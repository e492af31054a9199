//! Sums and gatherings between 1, 2, 3, 4 and 8 ranks.

use super::nccl::{Comm, IN_PROGRESS, SUCCESS, Type};
use super::world::*;

/// Values of a rank that are whole numbers, whose sums are exact in every order.
fn values(rank: usize, count: usize) -> Vec<u32> {
    (0..count).map(|i| (i * (rank + 3) + 17 * rank) as u32 % 1000).collect()
}

/// The sum over all ranks.
fn sums(ranks: usize, count: usize) -> Vec<u32> {
    let all: Vec<Vec<u32>> = (0..ranks).map(|rank| values(rank, count)).collect();
    (0..count).map(|i| all.iter().map(|values| values[i]).sum()).collect()
}

fn reduces<T: Type>(world: &World, comm: Comm, count: usize, of: fn(u32) -> T) {
    let all = |values: Vec<u32>| values.into_iter().map(of).collect::<Vec<T>>();
    let (own, expected) = (all(values(world.rank, count)), all(sums(world.ranks, count)));
    let (send, recv) = (world.upload(&own), world.room::<T>(count));
    world.all_reduce::<T>(comm, send, recv, count);
    // In place.
    let both = world.upload(&own);
    world.all_reduce::<T>(comm, both, both, count);
    world.wait();
    assert_eq!(world.read::<T>(recv, count), expected);
    assert_eq!(world.read::<T>(both, count), expected);
    assert_eq!(world.read::<T>(send, count), own);
}

fn gathers<T: Type>(world: &World, comm: Comm, count: usize, of: fn(u32) -> T) {
    let own = |rank: usize| values(rank, count).into_iter().map(of).collect::<Vec<T>>();
    let expected = (0..world.ranks).map(own).collect::<Vec<_>>().concat();
    let (send, recv) = (world.upload(&own(world.rank)), world.room::<T>(world.ranks * count));
    world.all_gather::<T>(comm, send, recv, count);
    let both = world.room::<T>(world.ranks * count);
    let part = both + (world.rank * count * size_of::<T>()) as u64;
    world.write(part, &own(world.rank));
    world.all_gather::<T>(comm, part, both, count);
    world.wait();
    assert_eq!(world.read::<T>(recv, world.ranks * count), expected);
    assert_eq!(world.read::<T>(both, world.ranks * count), expected);
}

/// Eager collectives of all types and some lengths, in place and not.
fn everything(world: &World) {
    let comm = world.comm(world.ranks % 2 == 1);
    let (mut ranks, mut rank) = (0, -1);
    world.ok(unsafe { (world.nccl.ncclCommCount)(comm, &mut ranks) });
    world.ok(unsafe { (world.nccl.ncclCommUserRank)(comm, &mut rank) });
    assert_eq!((ranks as usize, rank as usize), (world.ranks, world.rank));
    for count in [1, 5, 1000] {
        reduces(world, comm, count, |value| value as f32);
        gathers(world, comm, count, |value| value as u8);
    }
    reduces(world, comm, 9, f64::from);
    reduces(world, comm, 9, |value| -(value as i32));
    reduces(world, comm, 9, |value| value);
    reduces(world, comm, 9, |value| -i64::from(value));
    reduces(world, comm, 9, u64::from);
    gathers(world, comm, 13, |value| value as f32);
    gathers(world, comm, 13, |value| -(value as i32));
    gathers(world, comm, 13, u64::from);
    // Larger than what fits in a socket's buffer.
    reduces(world, comm, 1 << 18, |value| value as f32);
    world.destroy(comm);
}

#[test]
fn one_rank() {
    run(1, &[], |world| everything(world));
}

#[test]
fn two_ranks() {
    run(2, &[], |world| everything(world));
}

#[test]
fn three_ranks() {
    run(3, &[("VIRTUAL_NCCL_ORDER", "tree")], |world| everything(world));
}

#[test]
fn four_ranks() {
    run(4, &[("VIRTUAL_NCCL_ORDER", "shuffled")], |world| everything(world));
}

#[test]
fn eight_ranks() {
    run(8, &[("VIRTUAL_NCCL_DELAY", "2")], |world| everything(world));
}

#[test]
fn a_group_does_its_calls_at_its_end_in_their_order() {
    run(2, &[], |world| {
        for blocking in [true, false] {
            let comm = world.comm(blocking);
            let (a, all) = (world.upload(&[world.rank as f32 + 1.0; 4]), world.room::<f32>(8));
            unsafe {
                world.ok((world.nccl.ncclGroupStart)());
                world.ok((world.nccl.ncclGroupStart)());
                world.ok((world.nccl.ncclAllReduce)(a, a, 4, f32::NUMBER, 0, comm, world.stream));
                world.ok((world.nccl.ncclGroupEnd)());
                world.ok((world.nccl.ncclAllGather)(a, all, 4, f32::NUMBER, comm, world.stream));
                world.wait();
                assert_eq!(world.read::<f32>(a, 4), [world.rank as f32 + 1.0; 4], "nothing was done yet");
                let result = (world.nccl.ncclGroupEnd)();
                assert_eq!(result, if blocking { SUCCESS } else { IN_PROGRESS });
                world.settle(comm, result);
            }
            world.wait();
            assert_eq!(world.read::<f32>(a, 4), [3.0; 4]);
            assert_eq!(world.read::<f32>(all, 8), [3.0; 8]);
            world.destroy(comm);
        }
    });
}

#[test]
fn two_communicators_at_once() {
    run(3, &[("VIRTUAL_NCCL_DELAY", "5:1")], |world| {
        let (one, two) = (world.comm(true), world.comm(false));
        let (a, b) = (world.upload(&[1.0f32; 3]), world.upload(&[2.0f32; 3]));
        for _ in 0..3 {
            world.all_reduce::<f32>(one, a, a, 3);
            world.all_reduce::<f32>(two, b, b, 3);
        }
        world.wait();
        assert_eq!((world.read::<f32>(a, 3), world.read::<f32>(b, 3)), (vec![27.0; 3], vec![54.0; 3]));
        world.destroy(two);
        world.destroy(one);
    });
}
