//! Registers: PTX has as many as it likes, most of them for a few instructions. Those that are never needed at one time share a row,
//! so that a warp's registers stay in the processor's cache, and few must be cleared when a block begins.
//!
//! A row is needed from the first place to the last at which its register may be read later: linear scan (Poletto and Sarkar, 1999),
//! with the ends of intervals by liveness. The lanes of a warp may be on different sides of a branch, and each writes its own part of
//! a row, so that it is enough to look at the paths of one thread.

use super::flow::Graph;
use super::program::{Guard, Program, R};
use super::rows::{Use, rows};

/// A set of registers.
#[derive(Clone)]
struct Set(Vec<u64>);

impl Set {
    fn new(rows: usize) -> Set {
        Set(vec![0; rows.div_ceil(64)])
    }

    fn insert(&mut self, row: R) {
        self.0[row as usize / 64] |= 1 << (row % 64);
    }

    fn has(&self, row: R) -> bool {
        self.0[row as usize / 64] >> (row % 64) & 1 == 1
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0
            .iter()
            .enumerate()
            .flat_map(|(i, word)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| i * 64 + bit))
    }
}

/// A kernel whose sets of registers would be larger, in bits, keeps a row for each register: no compiler makes one.
const MOST: usize = 1 << 28;

/// Gives registers that are never needed together one row.
pub(super) fn allocate(program: &mut Program, graph: &Graph) {
    if graph.ranges.len().saturating_mul(program.rows) > MOST {
        return;
    }
    let intervals = intervals(program, graph);
    let mut order: Vec<usize> = (0..program.rows).filter(|row| intervals[*row].0 <= intervals[*row].1).collect();
    order.sort_unstable_by_key(|row| intervals[*row].0);
    let (mut place, mut busy, mut free, mut count) = (vec![0; program.rows], Vec::new(), Vec::new(), 0);
    for row in order {
        let (from, until) = intervals[row];
        // The last reader and the next writer of a row are never one instruction.
        busy.retain(|(end, at): &(usize, R)| {
            let stays = *end >= from;
            if !stays {
                free.push(*at);
            }
            stays
        });
        let at = free.pop().unwrap_or_else(|| {
            count += 1;
            count - 1
        });
        place[row] = at;
        busy.push((until, at));
    }
    for instr in &mut program.code {
        rows(&mut instr.op, |row, _| *row = place[*row as usize]);
    }
    program.specials.iter_mut().for_each(|(_, row)| *row = place[*row as usize]);
    program.rows = count as usize;
}

/// For each register the first and the last place where it is needed; the first is larger for one that is nowhere.
fn intervals(program: &mut Program, graph: &Graph) -> Vec<(usize, usize)> {
    let (blocks, rows_before) = (graph.ranges.len(), program.rows);
    let mut intervals = vec![(usize::MAX, 0); rows_before];
    let mut touch = |row: usize, at: usize| {
        let (from, until) = &mut intervals[row];
        (*from, *until) = ((*from).min(at), (*until).max(at));
    };
    // They are set before the first instruction.
    program.specials.iter().for_each(|(_, row)| touch(*row as usize, 0));
    let (mut needs, mut sets) = (vec![Set::new(rows_before); blocks], vec![Set::new(rows_before); blocks]);
    for (block, range) in graph.ranges.iter().enumerate() {
        for at in range.clone() {
            let instr = &mut program.code[at];
            // A guarded write leaves some lanes as they were.
            let whole = instr.guard == Guard::ALWAYS;
            rows(&mut instr.op, |row, how| {
                touch(*row as usize, at);
                if !sets[block].has(*row) {
                    let set = if how == Use::Write && whole { &mut sets } else { &mut needs };
                    set[block].insert(*row);
                }
            });
        }
    }
    // What each block needs at its begin, from the end back until nothing changes.
    let mut begins = needs;
    let ends = |begins: &[Set], block: usize| {
        let mut end = Set::new(rows_before);
        for next in graph.successors[block].iter().filter(|next| **next < blocks) {
            end.0.iter_mut().zip(&begins[*next].0).for_each(|(end, begin)| *end |= begin);
        }
        end
    };
    let mut changed = true;
    while changed {
        changed = false;
        for block in (0..blocks).rev() {
            let end = ends(&begins, block);
            for ((begin, end), set) in begins[block].0.iter_mut().zip(&end.0).zip(&sets[block].0) {
                let more = *begin | end & !set;
                changed |= more != *begin;
                *begin = more;
            }
        }
    }
    for (block, range) in graph.ranges.iter().enumerate() {
        begins[block].iter().for_each(|row| touch(row, range.start));
        ends(&begins, block).iter().for_each(|row| touch(row, range.end - 1));
    }
    intervals
}
