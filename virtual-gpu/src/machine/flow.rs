//! Reconvergence: each divergent branch reconverges at its immediate post-dominator.
//!
//! If one side of a branch returns early, the kernel's end is the only post-dominator. The remaining lanes would then
//! reach a later barrier in parts. Jumps to a mere `ret` are therefore removed from the graph first, and lanes that
//! take one are not waited for. They are kept where no other path leads to the end, as in a loop that only a return
//! leaves.

use std::ops::Range;

use super::program::{END, Guard, Instr, Op};

/// The control flow of a kernel.
pub(super) struct Graph {
    /// The instructions of each block: control enters at the first and leaves at the last.
    pub ranges: Vec<Range<usize>>,
    /// Where control may go from each block. The number of blocks stands for the kernel's end.
    pub successors: Vec<Vec<usize>>,
}

impl Graph {
    pub fn of(code: &[Instr]) -> Graph {
        let starts = block_starts(code);
        let blocks = starts.len();
        let ends = starts.iter().skip(1).copied().chain([code.len()]);
        let ranges: Vec<Range<usize>> = starts.iter().zip(ends).map(|(start, end)| *start..end).collect();
        let block_of = |at: u32| starts.partition_point(|start| *start <= at as usize) - 1;
        let leaving = |(block, range): (usize, &Range<usize>)| {
            let last = &code[range.end - 1];
            let (always, next) = (last.guard == Guard::ALWAYS, block + 1);
            match last.op {
                Op::Branch { target } if always => vec![block_of(target)],
                Op::Branch { target } => vec![block_of(target), next],
                Op::Exit | Op::Trap if always => vec![blocks],
                Op::Exit | Op::Trap => vec![blocks, next],
                _ => vec![next],
            }
        };
        let successors = ranges.iter().enumerate().map(leaving).collect();
        Graph { ranges, successors }
    }
}

/// Sets `meet`, the reconvergence point, of every branch.
pub(super) fn reconverge(code: &mut [Instr], Graph { ranges, successors }: &Graph) {
    let blocks = ranges.len();
    let leaves = |block: usize| {
        block == blocks
            || code[ranges[block].clone()]
                .iter()
                .all(|instr| matches!(instr.op, Op::Exit | Op::Trap | Op::Nothing) && instr.guard == Guard::ALWAYS)
                && matches!(code[ranges[block].end - 1].op, Op::Exit | Op::Trap)
    };
    let staying: Vec<Vec<usize>> = successors
        .iter()
        .map(|next| match next.as_slice() {
            [a, b] if leaves(*a) && !leaves(*b) => vec![*b],
            [a, b] if leaves(*b) && !leaves(*a) => vec![*a],
            next => next.to_vec(),
        })
        .collect();
    let (post, full) = (post_dominators(&staying), post_dominators(successors));
    for block in 0..blocks {
        let meet = post[block].or(full[block]).unwrap_or(blocks);
        code[ranges[block].end - 1].meet = if meet >= blocks { END } else { ranges[meet].start as u32 };
    }
}

fn block_starts(code: &[Instr]) -> Vec<usize> {
    let mut starts = vec![0];
    for (at, instr) in code.iter().enumerate() {
        match instr.op {
            Op::Branch { target } => starts.extend([target as usize, at + 1]),
            Op::Exit | Op::Trap => starts.push(at + 1),
            _ => {}
        }
    }
    starts.sort_unstable();
    starts.dedup();
    starts.retain(|start| *start < code.len());
    starts
}

/// The immediate post-dominator of each block; the number of blocks stands for the kernel's end. `None` for a block
/// from which the end is unreachable. (The algorithm of Cooper, Harvey and Kennedy on the reversed graph.)
fn post_dominators(successors: &[Vec<usize>]) -> Vec<Option<usize>> {
    let end = successors.len();
    let mut predecessors = vec![Vec::new(); end + 1];
    for (block, next) in successors.iter().enumerate() {
        for to in next {
            predecessors[*to].push(block);
        }
    }
    // Post-order of the reversed graph from the end. Iterative, because long code would overflow the stack.
    let mut order = Vec::new();
    let mut number = vec![usize::MAX; end + 1];
    let mut seen = vec![false; end + 1];
    let mut stack = vec![(end, 0)];
    seen[end] = true;
    while let Some((block, child)) = stack.pop() {
        if let Some(next) = predecessors[block].get(child) {
            stack.push((block, child + 1));
            if !seen[*next] {
                seen[*next] = true;
                stack.push((*next, 0));
            }
        } else {
            number[block] = order.len();
            order.push(block);
        }
    }
    const NONE: usize = usize::MAX;
    let mut idom = vec![NONE; end + 1];
    idom[end] = end;
    let mut changed = true;
    while changed {
        changed = false;
        for block in order.iter().rev().copied().filter(|block| *block != end) {
            let mut new = NONE;
            for next in successors[block].iter().copied().filter(|next| idom[*next] != NONE) {
                new = if new == NONE { next } else { intersect(new, next, &idom, &number) };
            }
            if new != NONE && idom[block] != new {
                idom[block] = new;
                changed = true;
            }
        }
    }
    idom.into_iter().map(|meet| (meet != NONE).then_some(meet)).take(end).collect()
}

fn intersect(mut a: usize, mut b: usize, idom: &[usize], number: &[usize]) -> usize {
    while a != b {
        while number[a] < number[b] {
            a = idom[a];
        }
        while number[b] < number[a] {
            b = idom[b];
        }
    }
    a
}
