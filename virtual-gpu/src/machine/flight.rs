//! What a warp has in flight: its threads' bulk stores and its warpgroup's `wgmma`, in groups that are waited for.
//!
//! Both are executed when they are issued. What remains in flight is their claim on memory and registers.

use super::agent::Agent;
use super::exec::{Done, Env, lanes};
use super::program::*;
use super::shared::Fault;
use super::trap::TrapKind;
use super::warp::Warp;
use crate::arith::tensor_core::Output;

/// A bulk store whose group was not yet waited for.
struct BulkStore {
    lane: usize,
    group: u32,
    /// When it was issued, and where.
    generation: u32,
    at: u32,
    /// Whether its reads were waited for.
    read: bool,
}

/// The bulk stores of a warp's threads. Each thread counts its own groups.
#[derive(Default)]
pub(super) struct BulkStores {
    pending: Vec<BulkStore>,
    groups: [u32; 32],
}

impl BulkStores {
    pub fn clear(&mut self) {
        self.pending.clear();
        self.groups = [0; 32];
    }

    pub fn commit(&mut self, mask: u32) {
        lanes(mask).for_each(|lane| self.groups[lane] += 1);
    }
}

/// What a register is to the `wgmma` that used it last.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    A,
    /// An accumulator: which one, of a matrix of so many columns and of this type.
    D {
        at: usize,
        columns: usize,
        output: Output,
    },
}

/// The `wgmma` of a warp's warpgroup, as this warp sees them, in groups.
#[derive(Default)]
pub(super) struct Matrices {
    /// The groups that were committed, and those that were waited for.
    committed: u32,
    complete: u32,
    /// For each group in flight, and the one that is not committed, the generation of its first `wgmma`.
    pending: Vec<(u32, u32)>,
    /// For each register: the last group that used it, from 1, and how; and whether another instruction has touched it since the
    /// last `wgmma.fence`.
    used: Vec<(u32, Role)>,
    touched: Vec<bool>,
}

impl Matrices {
    pub fn clear(&mut self, program: &Program) {
        (self.committed, self.complete) = (0, 0);
        self.pending.clear();
        self.used.clear();
        self.touched.clear();
        if program.has_wgmma {
            self.used.resize(program.rows, (0, Role::A));
            // The first `wgmma` needs a fence in any case.
            self.touched.resize(program.rows, true);
        }
    }

    pub fn fence(&mut self) {
        self.touched.fill(false);
    }

    pub fn commit(&mut self) {
        self.committed += 1;
    }

    /// What the register is to a `wgmma` in flight.
    fn in_flight(&self, row: R) -> Option<Role> {
        let (group, role) = self.used[row as usize];
        (group > self.complete).then_some(role)
    }
}

impl Env<'_> {
    /// A thread issues a bulk store.
    pub(super) fn bulk_store_issued(&mut self, warp: &mut Warp, lane: usize) {
        let (group, generation, at) = (warp.bulk.groups[lane], self.shared.generation, warp.at);
        warp.bulk.pending.push(BulkStore { lane, group, generation, at, read: false });
        self.shared.generation += 1;
    }

    pub(super) fn bulk_wait(&mut self, warp: &mut Warp, left: u32, reads: bool, mask: u32) {
        let BulkStores { pending, groups } = &mut warp.bulk;
        let ends = |store: &BulkStore| {
            mask >> store.lane & 1 == 1 && u64::from(store.group) + u64::from(left) < groups[store.lane].into()
        };
        pending.iter_mut().filter(|store| ends(store)).for_each(|store| store.read = true);
        if !reads {
            pending.retain(|store| !ends(store));
        }
        if self.checks {
            let oldest = pending.iter().filter(|store| !store.read).map(|store| store.generation).min();
            let until = oldest.map_or(self.shared.generation, |oldest| oldest - 1);
            let mut clock = warp.knowledge.common(mask);
            clock.learn(Agent::bulk(warp.index), until);
            warp.knowledge.acquire(mask, warp.live, &clock);
            self.shared.generation += 1;
        }
    }

    /// Checks that threads that return have no bulk store that still reads the block's shared memory.
    pub(super) fn bulk_at_exit(&self, warp: &mut Warp, mask: u32) -> Done {
        let unread = |store: &&BulkStore| mask >> store.lane & 1 == 1 && !store.read;
        let Some(&BulkStore { lane, at, .. }) = warp.bulk.pending.iter().find(unread) else { return Ok(()) };
        let line = self.program.code[warp.at as usize].line;
        warp.at = at;
        let message = format!(
            "the thread returns at PTX line {line} while this bulk store may still read shared memory: its group was not \
             committed and waited for"
        );
        Err(Fault::new(TrapKind::InFlight, lane, message))
    }

    pub(super) fn wgmma_wait(&mut self, warp: &mut Warp, left: u32) {
        let matrices = &mut warp.matrices;
        matrices.complete = matrices.complete.max(matrices.committed.saturating_sub(left));
        matrices.pending.retain(|(group, _)| *group > matrices.complete);
        let until = matrices.pending.first().map_or(self.shared.generation, |(_, oldest)| oldest - 1);
        warp.knowledge.all.learn(Agent::matrix(warp.index / 4), until);
        self.shared.generation += 1;
    }

    /// Notes which registers an instruction touches, and checks that no `wgmma` in flight uses them.
    pub(super) fn note_rows(&self, warp: &mut Warp, mask: u32) -> Done {
        let matrices = &mut warp.matrices;
        let mut wrong = false;
        for row in &self.program.touched[warp.at as usize] {
            wrong |= matrices.in_flight(*row).is_some();
            matrices.touched[*row as usize] = true;
        }
        if !wrong {
            return Ok(());
        }
        let message = "this touches a register of a wgmma in flight: no wgmma.wait_group has waited for it";
        Err(Fault::new(TrapKind::Wgmma, mask.trailing_zeros() as usize, message))
    }

    /// A warp issues its part of a `wgmma`: checks its registers, and notes what they are used for.
    pub(super) fn wgmma_issued(&self, warp: &mut Warp, wgmma: &Wgmma) -> Done {
        let a = match &wgmma.a {
            MatrixA::Registers(rows) => &rows[..],
            MatrixA::Descriptor(_) => &[],
        };
        let a = || a.iter().copied().filter(|row| row & CONSTANT == 0);
        let wrong = |message: String| Err(Fault::new(TrapKind::Wgmma, 0, message));
        let matrices = &mut warp.matrices;
        let touched = |row: &R| matrices.touched[*row as usize];
        for (found, what) in
            [(wgmma.d.iter().any(touched), "accumulators"), (a().any(|row| touched(&row)), "registers of A")]
        {
            if found {
                return wrong(format!("no wgmma.fence since another instruction touched its {what}"));
            }
        }
        let (columns, output) = (wgmma.n, wgmma.output);
        for (at, row) in wgmma.d.iter().enumerate() {
            match matrices.in_flight(*row) {
                Some(Role::A) => return wrong("its accumulators are registers of A of a wgmma in flight".into()),
                Some(Role::D { columns: others, .. }) if others != columns => {
                    return wrong(format!(
                        "its accumulators are those of a wgmma of {others} columns in flight, which has another shape"
                    ));
                }
                Some(role) if role != (Role::D { at, columns, output }) => {
                    return wrong("its accumulators are those of a wgmma in flight in another order or type".into());
                }
                _ => {}
            }
        }
        if a().any(|row| matches!(matrices.in_flight(row), Some(Role::D { .. }))) {
            return wrong("its registers of A are accumulators of a wgmma in flight".into());
        }
        let group = matrices.committed + 1;
        for (at, row) in wgmma.d.iter().enumerate() {
            matrices.used[*row as usize] = (group, Role::D { at, columns, output });
        }
        a().for_each(|row| matrices.used[row as usize] = (group, Role::A));
        if matrices.pending.last().is_none_or(|(last, _)| *last != group) {
            matrices.pending.push((group, self.shared.generation));
        }
        Ok(())
    }

    /// A warp may not return before its `wgmma` are complete.
    pub(super) fn wgmma_at_exit(&self, warp: &Warp) -> Done {
        if warp.matrices.pending.is_empty() {
            return Ok(());
        }
        let message = "the warp returns while a wgmma is in flight: wgmma.wait_group is missing";
        Err(Fault::new(TrapKind::Wgmma, 0, message))
    }
}
