//! Executes a warp, one instruction after another, until it waits at a barrier, returns, or its turn ends.

use std::sync::Arc;

use crate::arith::tensor_core::Sums;

use super::barrier::{Barrier, ClusterBarrier};
use super::clock::Clock;
use super::counts::{Class, Counts};
use super::footprint::Footprint;
use super::memory::{Allocation, Memory};
use super::order::Witness;
use super::program::*;
use super::registers::Pool;
use super::shared::{Fault, Shared};
use super::trap::TrapKind;
use super::warp::{State, Wait, Warp};

/// The number of instructions that a warp executes before the next warp's turn.
const TURN: usize = 20_000;

/// The state of a block and of its launch, as its warps use it.
pub(super) struct Env<'a> {
    pub program: &'a Program,
    pub params: &'a [u8],
    pub memory: &'a Memory,
    pub allocations: &'a [Arc<Allocation>],
    /// The index in `allocations` of the last one accessed.
    pub last: usize,
    /// The launch and the block, as this block writes them into shadow words; see `memory::tag`.
    pub tag: u64,
    /// The launch, as it asks which operations of other streams happened before it.
    pub witness: Witness<'a>,
    /// Whether the block has executed an access to global memory that can synchronise with other blocks: an atomic
    /// whose result is kept, or a volatile or otherwise strong load.
    pub acquired: bool,
    /// Whether it has executed one since warps that wait for mbarriers were last let go.
    pub polled: bool,
    /// The launch whose end this one did not wait for, as shadow words have it, or 0; and the same as long as the current warp has
    /// not executed `griddepcontrol.wait`.
    pub ahead: u64,
    pub unwaited: u64,
    pub checks: bool,
    pub sums: Sums,
    /// Present if the launch is counted.
    pub footprint: Option<&'a Footprint>,
    pub count: bool,
    pub counts: Counts,
    pub shared: Shared,
    pub barriers: Vec<Barrier>,
    pub pool: Pool,
    pub cluster: ClusterBarrier,
    pub threads: usize,
    pub local_bytes: usize,
    pub executed: u64,
    pub reusable: Vec<u64>,
}

/// The lanes of a mask, lowest first.
pub(super) fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (mask != 0).then(|| {
            let lane = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            lane
        })
    })
}

pub(super) type Done = Result<(), Box<Fault>>;

impl<'a> Env<'a> {
    fn tally(&mut self, instr: &Instr, mask: u32) {
        let threads = u64::from(mask.count_ones());
        self.counts.classes[instr.class as usize] += threads;
        self.counts.flops += threads * u64::from(instr.flops);
        self.counts.mma += u64::from(instr.class == Class::Mma);
    }

    /// Executes one turn of a warp.
    pub fn run(&mut self, warp: &mut Warp) -> Done {
        let program = self.program;
        for _ in 0..TURN {
            if !warp.settle() {
                warp.state = State::Done;
                return Ok(());
            }
            let pc = warp.now.pc;
            warp.at = pc;
            let instr = &program.code[pc as usize];
            let active = warp.now.mask;
            let mask = active & instr.guard.lanes(&warp.predicates);
            self.executed += 1;
            self.counts.thread_instructions += u64::from(mask.count_ones());
            if self.count {
                self.tally(instr, mask);
            }
            if let Op::Branch { target } = instr.op {
                if mask == active {
                    warp.now.pc = target;
                } else if mask == 0 {
                    warp.now.pc += 1;
                } else {
                    warp.part(mask, target, instr.meet);
                }
                continue;
            }
            if active != warp.live && mask == active && self.lacks(warp, &instr.op, active) && warp.defer() {
                continue;
            }
            if mask != 0 {
                if self.ahead != 0 {
                    self.unwaited = if warp.knowledge.has_grid() { 0 } else { self.ahead };
                }
                if program.has_wgmma && self.checks {
                    self.note_rows(warp, mask)?;
                }
                self.step(warp, instr, mask)?;
            }
            if std::mem::take(&mut warp.again) {
                if warp.state != State::Ready {
                    return Ok(());
                }
                continue;
            }
            warp.now.pc += 1;
            if warp.state != State::Ready {
                return Ok(());
            }
        }
        Ok(())
    }

    fn step(&mut self, warp: &mut Warp, instr: &Instr, mask: u32) -> Done {
        let constants = &self.program.constants;
        match &instr.op {
            Op::Pure { f, d, s } => {
                let mut value = [0; 32];
                let row = |i: usize| warp.row(constants, s[i]);
                match f {
                    Pure::One(f) => f(&mut value, row(0)),
                    Pure::Two(f) => f(&mut value, row(0), row(1)),
                    Pure::Three(f) => f(&mut value, row(0), row(1), row(2)),
                    Pure::Four(f) => f(&mut value, row(0), row(1), row(2), row(3)),
                }
                warp.put(*d, &value, mask);
            }
            Op::Compare { f, g, a, b, p, q, with } => {
                let (a, b) = (warp.row(constants, *a), warp.row(constants, *b));
                let yes = f(a, b);
                let no = g.as_ref().map_or(!yes, |g| g(a, b));
                let combine = |value| with.map_or(value, |(logic, c)| logic.apply(value, c.lanes(&warp.predicates)));
                let (yes, no) = (combine(yes), combine(no));
                warp.put_predicate(*p, yes, mask);
                warp.put_predicate(*q, no, mask);
            }
            Op::CompareValue { f, a, b, d, yes, with } => {
                let mut holds = f(warp.row(constants, *a), warp.row(constants, *b));
                if let Some((logic, c)) = with {
                    holds = logic.apply(holds, c.lanes(&warp.predicates));
                }
                let value = std::array::from_fn(|i| if holds >> i & 1 == 1 { *yes } else { 0 });
                warp.put(*d, &value, mask);
            }
            Op::Unpack { a, mask: keep, parts } => {
                let a = *warp.row(constants, *a);
                for (d, shift) in parts {
                    warp.put(*d, &a.map(|a| a >> shift & keep), mask);
                }
            }
            Op::Select { d, a, b, p } => {
                let p = p.lanes(&warp.predicates);
                let (a, b) = (warp.row(constants, *a), warp.row(constants, *b));
                let value = std::array::from_fn(|i| if p >> i & 1 == 1 { a[i] } else { b[i] });
                warp.put(*d, &value, mask);
            }
            Op::Predicate { d, logic, a, b } => {
                let value = logic.apply(a.lanes(&warp.predicates), b.lanes(&warp.predicates));
                warp.put_predicate(*d, value, mask);
            }
            Op::Carry { f, d, s, input, output } => {
                let (a, b, c) = (warp.row(constants, s[0]), warp.row(constants, s[1]), warp.row(constants, s[2]));
                let mut carry = 0;
                let value = std::array::from_fn(|i| {
                    let (value, out) = f(a[i], b[i], c[i], *input && warp.carry >> i & 1 == 1);
                    carry |= u32::from(out) << i;
                    value
                });
                warp.put(*d, &value, mask);
                if *output {
                    warp.carry = warp.carry & !mask | carry & mask;
                }
            }
            Op::Clock { d } => warp.put(*d, &[self.executed; 32], mask),
            Op::Exit => {
                if self.checks {
                    self.bulk_at_exit(warp, mask)?;
                    self.wgmma_at_exit(warp)?;
                }
                warp.exit(mask);
                // The remaining lanes continue behind this instruction.
            }
            Op::Trap => {
                let lane = mask.trailing_zeros() as usize;
                return Err(Fault::new(
                    TrapKind::LaunchFailed,
                    lane,
                    "the kernel executed `trap` or failed an assertion",
                ));
            }
            Op::Branch { .. } | Op::Nothing => {}
            Op::Load(access) => self.load(warp, access, mask)?,
            Op::Store(access) => self.store(warp, access, mask)?,
            Op::Atomic { .. } => self.atomic(warp, &instr.op, mask)?,
            Op::AsyncCopy { .. } => self.async_copy(warp, &instr.op, mask)?,
            Op::AsyncCommit => {
                for lane in lanes(mask) {
                    warp.groups[lane] += 1;
                }
            }
            Op::AsyncWait { left } => self.complete_async_copies(warp, *left, mask)?,
            Op::LoadMatrix { base, offset, d, count, trans } => {
                self.load_matrix(warp, (*base, *offset), &d[..*count], *trans, mask)?;
            }
            Op::StoreMatrix { area, base, offset, s, count, trans } => {
                self.store_matrix(warp, (*area, *base, *offset), &s[..*count], *trans, mask)?;
            }
            Op::Barrier { .. } => self.barrier(warp, &instr.op, mask)?,
            Op::Mbarrier { .. } => self.mbarrier(warp, &instr.op, mask)?,
            Op::ProxyFence => {
                let mut clock = warp.knowledge.common(mask);
                clock.fence();
                clock.fence_own(warp.index, warp.publishing(mask), self.shared.generation);
                warp.knowledge.acquire(mask, warp.live, &clock);
                self.shared.generation += 1;
            }
            Op::BulkCopy(copy) => self.bulk_copy(warp, copy, mask)?,
            Op::BulkCommit => warp.bulk.commit(mask),
            Op::BulkWait { left, reads } => self.bulk_wait(warp, *left, *reads, mask),
            Op::Wgmma(_) => {
                self.whole_warp(mask)?;
                warp.state = State::Waiting(Wait::Warpgroup);
            }
            Op::WgmmaFence => {
                self.whole_warp(mask)?;
                warp.matrices.fence();
            }
            Op::WgmmaCommit => {
                self.whole_warp(mask)?;
                warp.matrices.commit();
            }
            Op::WgmmaWait { left } => {
                self.whole_warp(mask)?;
                self.wgmma_wait(warp, *left);
            }
            Op::Registers { more, count } => self.set_registers(warp, *more, *count, mask)?,
            Op::InitFence => self.mbarriers_published(warp, mask),
            Op::GridWait => {
                let mut known = Clock::default();
                known.grid = true;
                warp.knowledge.acquire(mask, warp.live, &known);
            }
            Op::ClusterBarrier { arrives, relaxed } => self.cluster_barrier(warp, *arrives, *relaxed, mask)?,
            Op::MapToRank { d, address, rank } => {
                let (address, ranks) = (*warp.row(constants, *address), *warp.row(constants, *rank));
                if let Some(lane) = lanes(mask).find(|lane| ranks[*lane] != 0) {
                    let message = format!("rank {} of a cluster that has one block", ranks[lane]);
                    return Err(Fault::new(TrapKind::LaunchFailed, lane, message));
                }
                warp.put(*d, &address, mask);
            }
            _ => self.collective(warp, &instr.op, mask)?,
        }
        Ok(())
    }
}
