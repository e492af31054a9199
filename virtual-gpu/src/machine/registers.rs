//! `setmaxnreg`: a block's warpgroups move registers among themselves through a pool (PTX ISA 9.0, "setmaxnreg").
//!
//! How many registers a thread has at the start is ptxas' choice: with nvcc 13.0 the largest number that the kernel asks for, or
//! all that its threads' share of the multiprocessor allows, if that is less.

use super::exec::{Done, Env};
use super::program::Program;
use super::shared::Fault;
use super::trap::TrapKind;
use super::warp::{State, Wait, Warp};

/// The registers of a multiprocessor.
const ALL: u64 = 65536;

/// The registers of a thread at the start, of a kernel of at most `threads` threads of which `blocks` blocks shall fit, whose largest
/// `setmaxnreg` is of `most`.
pub(super) fn entry_registers(most: u32, threads: usize, blocks: u64) -> u32 {
    let share = ALL / (threads as u64).saturating_mul(blocks).max(1) / 8 * 8;
    most.min(share as u32)
}

/// The registers that a block has beyond those that its threads hold.
#[derive(Default)]
pub(super) struct Pool {
    free: u32,
    /// Whether some were freed since the warps that wait for them were told.
    freed: bool,
    /// The registers of a thread at the start; none if the kernel moves none.
    pub entry: Option<u32>,
}

impl Pool {
    pub fn of(program: &Program) -> Pool {
        Pool { free: 0, freed: false, entry: program.entry_registers }
    }

    /// Whether registers were freed since this was asked.
    pub fn take_freed(&mut self) -> bool {
        std::mem::take(&mut self.freed)
    }
}

impl Env<'_> {
    pub(super) fn set_registers(&mut self, warp: &mut Warp, more: bool, count: u32, mask: u32) -> Done {
        self.whole_warp(mask)?;
        let wrong = |message: String| Err(Fault::new(TrapKind::RegisterPool, 0, message));
        let Some(entry) = self.pool.entry else {
            return wrong(
                "ptxas ignores setmaxnreg in a kernel without .maxntid and .minnctapersm (__launch_bounds__(threads, 1))"
                    .into(),
            );
        };
        let (held, changes) = warp.held;
        let held = if changes == 0 { entry } else { held };
        if more && count < held || !more && count > held {
            let (verb, side) = if more { ("inc", "less") } else { ("dec", "more") };
            return wrong(format!(
                "setmaxnreg.{verb} to {count} registers, which is {side} than the {held} that a thread has"
            ));
        }
        let moved = 32 * count.abs_diff(held);
        if more {
            if self.pool.free < moved {
                warp.state = State::Waiting(Wait::Registers);
                warp.again = true;
                return Ok(());
            }
            self.pool.free -= moved;
        } else {
            self.pool.free += moved;
            self.pool.freed = true;
        }
        warp.held = (count, changes + 1);
        Ok(())
    }

    /// Every warp of a warpgroup executes the same `setmaxnreg`.
    pub(super) fn registers_at_end(&self, warps: &[Warp]) -> Result<(), (usize, Fault)> {
        for warpgroup in warps.chunks(4) {
            if let ([Warp { index, held: (_, 1..), .. }, ..], 1..4) = (warpgroup, warpgroup.len()) {
                let message = format!("a setmaxnreg by {} warps, where a warpgroup has four", warpgroup.len());
                return Err((*index, *Fault::new(TrapKind::RegisterPool, 0, message)));
            }
            if let Some(odd) = warpgroup.iter().find(|warp| warp.held != warpgroup[0].held) {
                let state = |warp: &Warp| {
                    let (held, changes) = warp.held;
                    let held = if changes == 0 { self.pool.entry.unwrap_or(held) } else { held };
                    format!("warp {} has {held} registers after {changes} setmaxnreg", warp.index)
                };
                let message = format!("{}, and {} of the same warpgroup", state(&warpgroup[0]), state(odd));
                return Err((odd.index, *Fault::new(TrapKind::RegisterPool, 0, message)));
            }
        }
        Ok(())
    }
}
