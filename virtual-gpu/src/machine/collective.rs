//! Warp-wide instructions (shuffles, votes, matches, reductions, `mma`), and the arrival of warps at barriers.

use super::exec::{Done, Env, lanes};
use super::program::*;
use super::shared::Fault;
use super::trap::TrapKind;
use super::warp::{State, Wait, Warp};
use crate::arith::mma;

impl Env<'_> {
    /// Checks that all 32 lanes execute an `.aligned` instruction.
    pub(super) fn whole_warp(&self, mask: u32) -> Done {
        if mask == u32::MAX {
            return Ok(());
        }
        let lane = mask.trailing_zeros() as usize;
        let message = format!("only lanes {mask:#010x} execute this, which the whole warp must");
        Err(Fault::new(TrapKind::MissingLanes, lane, message))
    }

    /// Whether an instruction needs live lanes that are not active here.
    pub(super) fn lacks(&self, warp: &Warp, op: &Op, active: u32) -> bool {
        let wanted = match op {
            Op::Barrier { .. }
            | Op::Mma { .. }
            | Op::LoadMatrix { .. }
            | Op::StoreMatrix { .. }
            | Op::Wgmma(_)
            | Op::WgmmaFence
            | Op::WgmmaCommit
            | Op::WgmmaWait { .. }
            | Op::Registers { .. }
            | Op::ClusterBarrier { .. } => u32::MAX,
            Op::Shuffle { mask, .. }
            | Op::Vote { mask, .. }
            | Op::Match { mask, .. }
            | Op::Reduce { mask, .. }
            | Op::Elect { mask, .. }
            | Op::WarpSync { mask } => {
                let masks = warp.row(&self.program.constants, *mask);
                lanes(active).fold(0, |all, lane| all | masks[lane] as u32)
            }
            _ => return false,
        };
        wanted & warp.live & !active != 0
    }

    /// Checks that exactly the lanes of the instruction's mask execute it. The mask may name lanes that the block's
    /// last warp does not have.
    fn members(&self, warp: &Warp, mask: u32, active: u32) -> Done {
        if !self.checks {
            return Ok(());
        }
        let lane = active.trailing_zeros() as usize;
        if active & !mask != 0 {
            let message = format!("lanes {:#010x} execute this, but are not in the mask {mask:#010x}", active & !mask);
            return Err(Fault::new(TrapKind::MissingLanes, lane, message));
        }
        let missing = mask & warp.lanes & !active;
        if missing != 0 {
            let gone = missing & !warp.live;
            let how = match gone {
                0 => "are elsewhere",
                _ if gone == missing => "have returned (cards go on without them)",
                _ => "have returned or are elsewhere",
            };
            let message = format!("the mask {mask:#010x} names lanes {missing:#010x}, which {how}");
            return Err(Fault::new(TrapKind::MissingLanes, lane, message));
        }
        Ok(())
    }

    /// Executes an instruction once for each distinct mask among its lanes: lanes of the same mask form a group.
    pub(super) fn collective(&mut self, warp: &mut Warp, op: &Op, active: u32) -> Done {
        let (Op::Shuffle { mask, .. }
        | Op::Vote { mask, .. }
        | Op::Match { mask, .. }
        | Op::Reduce { mask, .. }
        | Op::Elect { mask, .. }
        | Op::WarpSync { mask }) = op
        else {
            return self.together(warp, op, active);
        };
        let masks = *warp.row(&self.program.constants, *mask);
        let mut left = active;
        while left != 0 {
            let mask = masks[left.trailing_zeros() as usize];
            let group = lanes(left).filter(|lane| masks[*lane] == mask).fold(0, |group, lane| group | 1u32 << lane);
            self.members(warp, mask as u32, group)?;
            self.together(warp, op, group)?;
            left &= !group;
        }
        Ok(())
    }

    fn together(&mut self, warp: &mut Warp, op: &Op, active: u32) -> Done {
        let constants = &self.program.constants;
        match op {
            Op::Shuffle { mode, d, p, a, b, c, .. } => {
                let (values, by, clamp) =
                    (*warp.row(constants, *a), *warp.row(constants, *b), *warp.row(constants, *c));
                let (mut result, mut valid) = ([0; 32], 0);
                for lane in lanes(active) {
                    let (from, inside) = source_lane(*mode, lane as u32, by[lane] as u32, clamp[lane] as u32);
                    valid |= u32::from(inside) << lane;
                    if self.checks && active >> from & 1 == 0 {
                        let message = format!("lane {lane} reads lane {from}, which does not execute this shuffle");
                        return Err(Fault::new(TrapKind::MissingLanes, lane, message));
                    }
                    result[lane] = values[from as usize];
                }
                warp.put(*d, &result, active);
                warp.put_predicate(*p, valid, active);
            }
            Op::Vote { mode, d, p, a, .. } => {
                let yes = a.lanes(&warp.predicates) & active;
                let all = |holds: bool| if holds { u32::MAX } else { 0 };
                let result = match mode {
                    Vote::All => all(yes == active),
                    Vote::Any => all(yes != 0),
                    Vote::Uniform => all(yes == active || yes == 0),
                    Vote::Ballot => yes,
                };
                warp.put(*d, &[result.into(); 32], active);
                warp.put_predicate(*p, result, active);
            }
            Op::Match { all, d, p, a, .. } => {
                let values = *warp.row(constants, *a);
                let alike =
                    |lane: usize| lanes(active).filter(|i| values[*i] == values[lane]).fold(0, |m, i| m | 1u32 << i);
                let mut result = [0; 32];
                for lane in lanes(active) {
                    let found = alike(lane);
                    result[lane] = if *all && found != active { 0 } else { found.into() };
                }
                let same = alike(active.trailing_zeros() as usize) == active;
                warp.put(*d, &result, active);
                warp.put_predicate(*p, if same { u32::MAX } else { 0 }, active);
            }
            Op::ActiveMask { d } => warp.put(*d, &[active.into(); 32], active),
            Op::Reduce { f, d, a, .. } => {
                let values = warp.row(constants, *a);
                let result = lanes(active).map(|lane| values[lane] as u32).reduce(f).unwrap_or(0);
                warp.put(*d, &[result.into(); 32], active);
            }
            Op::WarpSync { .. } => {
                warp.knowledge.all.learn_warp(warp.index, self.shared.generation);
                warp.knowledge.synchronise(active, warp.live);
                if active == warp.live {
                    warp.open = 0;
                }
                self.shared.generation += 1;
            }
            // Which lane is elected is left open: not the first, which a kernel might count on.
            Op::Elect { d, p, .. } => {
                let elected = active.ilog2();
                warp.put(*d, &[elected.into(); 32], active);
                warp.put_predicate(*p, 1 << elected, active);
            }
            Op::Mma { shape, d, a, b, c } => {
                self.whole_warp(active)?;
                self.mma(warp, *shape, d, a, b, c);
            }
            _ => {}
        }
        Ok(())
    }

    fn mma(&self, warp: &mut Warp, shape: MmaShape, d: &[R; 4], a: &[R; 4], b: &[R; 2], c: &[R; 4]) {
        let constants = &self.program.constants;
        fn gather<const N: usize>(warp: &Warp, constants: &[Row], rows: &[R]) -> [[u32; N]; 32] {
            let mut values = [[0; N]; 32];
            for (i, r) in rows.iter().take(N).enumerate() {
                let row = warp.row(constants, *r);
                for lane in 0..32 {
                    values[lane][i] = row[lane] as u32;
                }
            }
            values
        }
        let sums = gather::<4>(warp, constants, c).map(|lane| lane.map(f32::from_bits));
        let (a4, a2) = (gather::<4>(warp, constants, a), gather::<2>(warp, constants, a));
        let (b2, b1) = (gather::<2>(warp, constants, b), gather::<1>(warp, constants, b));
        let halves = gather::<2>(warp, constants, c);
        let wide = |sums: [[f32; 4]; 32]| sums.map(|lane| lane.map(f32::to_bits));
        let narrow = |sums: [[u32; 2]; 32]| sums.map(|[low, high]| [low, high, 0, 0]);
        let (result, count) = match shape {
            MmaShape::K8Tf32 => (wide(mma::m16n8k8_tf32(self.sums, &a4, &b2, &sums)), 4),
            MmaShape::K4Tf32 => (wide(mma::m16n8k4_tf32(self.sums, &a2, &b1, &sums)), 4),
            MmaShape::K16(kind) => (wide(mma::m16n8k16(self.sums, kind, &a4, &b2, &sums)), 4),
            MmaShape::K8(kind) => (wide(mma::m16n8k8(self.sums, kind, &a2, &b1, &sums)), 4),
            MmaShape::K16HalfSum => (narrow(mma::m16n8k16_f16_acc(self.sums, &a4, &b2, &halves)), 2),
            MmaShape::K8HalfSum => (narrow(mma::m16n8k8_f16_acc(self.sums, &a2, &b1, &halves)), 2),
        };
        for (i, d) in d.iter().take(count).enumerate() {
            let row = std::array::from_fn(|lane| result[lane][i].into());
            warp.put(*d, &row, u32::MAX);
        }
    }

    pub(super) fn barrier(&mut self, warp: &mut Warp, op: &Op, active: u32) -> Done {
        let Op::Barrier { kind, id, count, a, .. } = op else { return Ok(()) };
        let lane = active.trailing_zeros() as usize;
        let constants = &self.program.constants;
        let (id, count) = (warp.row(constants, *id)[lane], warp.row(constants, *count)[lane] as usize);
        let wrong = |kind, message: String| Err(Fault::new(kind, lane, message));
        if id >= 16 {
            return wrong(TrapKind::LaunchFailed, format!("barrier {id} does not exist: there are 16, from 0"));
        }
        if !count.is_multiple_of(32) {
            return wrong(
                TrapKind::LaunchFailed,
                format!("a barrier of {count} threads, which is not a multiple of 32"),
            );
        }
        if active != warp.live {
            let message = format!(
                "barrier {id} is reached by lanes {active:#010x} of a warp, whose lanes {:#010x} are elsewhere",
                warp.live & !active
            );
            return wrong(TrapKind::PartialBarrier, message);
        }
        let votes = (a.lanes(&warp.predicates) & active).count_ones();
        let barrier = &mut self.barriers[id as usize];
        // A barrier with a thread count counts whole warps.
        let threads = if count == 0 { active.count_ones() as usize } else { 32 };
        if barrier.arrived != 0 && barrier.expected != count {
            return wrong(TrapKind::LaunchFailed, format!("barrier {id} is used with different thread counts"));
        }
        barrier.expected = count;
        let live = warp.live;
        warp.knowledge.synchronise(live, live);
        barrier.arrive(threads, votes, active.count_ones(), &warp.knowledge.all);
        if *kind == BarrierKind::Arrive {
            // The barrier does not order this warp's later accesses, so they belong to a new generation.
            barrier.clock.learn_warp(warp.index, self.shared.generation);
            self.shared.generation += 1;
        } else {
            warp.open = 0;
            barrier.waiting.push(warp.index);
            warp.state = State::Waiting(Wait::Barrier(id as usize));
        }
        if count != 0 && barrier.arrived > count {
            return wrong(TrapKind::LaunchFailed, format!("more than {count} threads arrive at barrier {id}"));
        }
        Ok(())
    }

    pub(super) fn cluster_barrier(&mut self, warp: &mut Warp, arrives: bool, relaxed: bool, mask: u32) -> Done {
        let lane = mask.trailing_zeros() as usize;
        let wrong = |kind, message: &str| Err(Fault::new(kind, lane, message));
        if mask != warp.live {
            return wrong(TrapKind::PartialBarrier, "only some of the warp's threads reach the cluster's barrier");
        }
        if arrives {
            if warp.cluster.is_some() {
                return wrong(
                    TrapKind::LaunchFailed,
                    "the warp arrives at the cluster's barrier, but has not waited since it arrived",
                );
            }
            warp.cluster = Some(self.cluster.phase);
            if !relaxed {
                let clock = self.release(warp, mask);
                self.cluster.arriving.merge(&clock);
            }
            return Ok(());
        }
        match warp.cluster {
            None => wrong(TrapKind::LaunchFailed, "the warp waits at the cluster's barrier without having arrived"),
            Some(phase) if phase == self.cluster.phase => {
                warp.state = State::Waiting(Wait::Cluster);
                warp.again = true;
                Ok(())
            }
            Some(_) => {
                warp.cluster = None;
                warp.knowledge.acquire(mask, warp.live, &self.cluster.complete);
                Ok(())
            }
        }
    }
}

/// The source lane of a shuffle, and whether it is inside the lane's segment (PTX ISA 9.0, "shfl.sync").
fn source_lane(mode: Shuffle, lane: u32, by: u32, clamp: u32) -> (u32, bool) {
    let (by, segments, clamp) = (by & 31, clamp >> 8 & 31, clamp & 31);
    let last = lane & segments | clamp & !segments;
    let (from, inside) = match mode {
        Shuffle::Up => (lane.wrapping_sub(by), lane as i32 - by as i32 >= last as i32),
        Shuffle::Down => (lane + by, lane + by <= last),
        Shuffle::Butterfly => (lane ^ by, (lane ^ by) <= last),
        Shuffle::Index => {
            let from = lane & segments | by & !segments;
            (from, from <= last)
        }
    };
    if inside { (from & 31, true) } else { (lane, false) }
}
