//! What a warp has in flight: its threads' bulk stores and its warpgroup's `wgmma`, in groups that are waited for.
//!
//! Both are executed when they are issued. What remains in flight is their claim on memory and registers.

use super::clock::Agent;
use super::exec::{Done, Env, lanes};
use super::program::*;
use super::rows::rows;
use super::shared::Fault;
use super::trap::TrapKind;
use super::warp::Warp;

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

/// One `wgmma` that was not yet waited for.
struct Matrix {
    group: u32,
    generation: u32,
    columns: usize,
    d: Vec<R>,
    a: Vec<R>,
}

/// The `wgmma` of a warp's warpgroup, as this warp sees them.
#[derive(Default)]
pub(super) struct Matrices {
    pending: Vec<Matrix>,
    groups: u32,
    /// For each register: whether one in flight uses it, and whether another instruction has touched it since the last
    /// `wgmma.fence`.
    locked: Vec<bool>,
    touched: Vec<bool>,
}

impl Matrices {
    pub fn clear(&mut self, program: &Program) {
        self.pending.clear();
        self.groups = 0;
        self.locked.clear();
        self.touched.clear();
        if program.has_wgmma {
            self.locked.resize(program.rows, false);
            // The first `wgmma` needs a fence in any case.
            self.touched.resize(program.rows, true);
        }
    }

    pub fn fence(&mut self) {
        self.touched.fill(false);
    }

    pub fn commit(&mut self) {
        self.groups += 1;
    }

    fn lock(&mut self) {
        self.locked.fill(false);
        for matrix in &self.pending {
            for row in matrix.d.iter().chain(&matrix.a) {
                self.locked[*row as usize] = true;
            }
        }
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
        let Matrices { pending, groups, .. } = &mut warp.matrices;
        pending.retain(|matrix| u64::from(matrix.group) + u64::from(left) >= u64::from(*groups));
        let oldest = pending.iter().map(|matrix| matrix.generation).min();
        warp.matrices.lock();
        let until = oldest.map_or(self.shared.generation, |oldest| oldest - 1);
        warp.knowledge.all.learn(Agent::matrix(warp.index / 4), until);
        self.shared.generation += 1;
    }

    /// Notes which registers an instruction touches, and checks that no `wgmma` in flight uses them.
    pub(super) fn note_rows(&self, warp: &mut Warp, instr: &Instr, mask: u32) -> Done {
        let Matrices { locked, touched, .. } = &mut warp.matrices;
        let mut wrong = false;
        rows(&instr.op, |row| {
            if row & CONSTANT == 0 {
                wrong |= locked[row as usize];
                touched[row as usize] = true;
            }
        });
        if !wrong {
            return Ok(());
        }
        let message = "this touches a register of a wgmma in flight: no wgmma.wait_group has waited for it";
        Err(Fault::new(TrapKind::Wgmma, mask.trailing_zeros() as usize, message))
    }

    /// A warp issues its part of a `wgmma`: checks its registers, and locks them.
    pub(super) fn wgmma_issued(&self, warp: &mut Warp, wgmma: &Wgmma) -> Done {
        let a = match wgmma.a {
            MatrixA::Registers(rows) => rows.to_vec(),
            MatrixA::Descriptor(_) => Vec::new(),
        };
        let wrong = |message: String| Err(Fault::new(TrapKind::Wgmma, 0, message));
        let Matrices { pending, groups, locked, touched } = &mut warp.matrices;
        let is_register = |row: &&R| **row & CONSTANT == 0;
        for (rows, what) in [(&wgmma.d, "accumulators"), (&a, "registers of A")] {
            if rows.iter().filter(is_register).any(|row| touched[*row as usize]) {
                return wrong(format!("no wgmma.fence since another instruction touched its {what}"));
            }
        }
        // A chain of products on one set of accumulators is the usual case, and needs no look at each.
        for matrix in pending.iter().filter(|matrix| matrix.columns != wgmma.n || matrix.d != wgmma.d) {
            let shares = wgmma.d.iter().any(|row| matrix.d.contains(row));
            if shares {
                return wrong(format!(
                    "its accumulators are those of a wgmma of {} columns in flight, which has another shape",
                    matrix.columns
                ));
            }
        }
        if pending.iter().any(|matrix| matrix.a.iter().any(|row| wgmma.d.contains(row))) {
            return wrong("its accumulators are registers of A of a wgmma in flight".into());
        }
        let a: Vec<R> = a.iter().filter(is_register).copied().collect();
        for row in wgmma.d.iter().chain(&a) {
            locked[*row as usize] = true;
        }
        let (group, generation) = (*groups, self.shared.generation);
        pending.push(Matrix { group, generation, columns: wgmma.n, d: wgmma.d.clone(), a });
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
