//! Where lanes that part ways meet again: the immediate post-dominator of each branch.

use super::program::{END, Instr, Op};

/// Fills in `meet` of every branch.
pub(super) fn reconverge(code: &mut [Instr]) {
    let starts = block_starts(code);
    let blocks = starts.len();
    let block_of = |at: u32| starts.partition_point(|start| *start <= at as usize) - 1;
    // Block number `blocks` is the end.
    let successors: Vec<Vec<usize>> = (0..blocks)
        .map(|block| {
            let last = starts.get(block + 1).map_or(code.len(), |next| *next) - 1;
            let always = code[last].guard == super::program::Guard::ALWAYS;
            let next = if block + 1 < blocks { block + 1 } else { blocks };
            match code[last].op {
                Op::Branch { target } if always => vec![block_of(target)],
                Op::Branch { target } => vec![block_of(target), next],
                Op::Exit | Op::Trap if always => vec![blocks],
                Op::Exit | Op::Trap => vec![blocks, next],
                _ => vec![next],
            }
        })
        .collect();
    let post = post_dominators(&successors);
    for block in 0..blocks {
        let last = starts.get(block + 1).map_or(code.len(), |next| *next) - 1;
        let meet = post[block];
        code[last].meet = if meet >= blocks { END } else { starts[meet] as u32 };
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

/// The immediate post-dominator of each block; the number of blocks stands for the end, which is also the answer for
/// blocks from which the end cannot be reached. (Cooper, Harvey and Kennedy's algorithm on the reversed graph.)
fn post_dominators(successors: &[Vec<usize>]) -> Vec<usize> {
    let end = successors.len();
    let mut predecessors = vec![Vec::new(); end + 1];
    for (block, next) in successors.iter().enumerate() {
        for to in next {
            predecessors[*to].push(block);
        }
    }
    // Post-order of the reversed graph from the end, without recursion: code may be long.
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
    idom.into_iter().map(|meet| if meet == NONE { end } else { meet }).take(end).collect()
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
