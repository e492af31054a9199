//! The main loop of a kernel: of the loops that multiply most the innermost, if it can be one that loads.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::code::{Counts, Function, Instruction};

/// What a warp executes in one round of the main loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MainLoop {
    /// On every way round that loads the next tile; on every way round at all, if no loop loads.
    pub usual: Counts,
    /// On some of those ways only, such as at a new tap of the filter.
    pub seldom: Counts,
}

/// Straight lines of instructions, and what may follow each.
struct Graph<'a> {
    instructions: &'a [Instruction],
    lines: Vec<[usize; 2]>,
    next: Vec<Vec<usize>>,
    before: Vec<Vec<usize>>,
}

impl<'a> Graph<'a> {
    fn new(instructions: &'a [Instruction]) -> Self {
        let mut starts = BTreeSet::from([0]);
        for (at, instruction) in instructions.iter().enumerate() {
            if let Some(successors) = instruction.successors(at) {
                starts.extend(successors.into_iter().chain([at + 1]));
            }
        }
        starts.retain(|start| *start < instructions.len());
        let starts: Vec<usize> = starts.into_iter().collect();
        let ends = starts.iter().copied().skip(1).chain([instructions.len()]);
        let lines: Vec<[usize; 2]> = starts.iter().copied().zip(ends).map(|(start, end)| [start, end]).collect();
        let line_at = |at: usize| starts.binary_search(&at).ok();
        let next: Vec<Vec<usize>> = lines
            .iter()
            .map(|&[_, end]| {
                let successors = instructions[end - 1].successors(end - 1).unwrap_or_else(|| vec![end]);
                successors.into_iter().filter_map(line_at).collect()
            })
            .collect();
        let mut before = vec![Vec::new(); lines.len()];
        for (line, after) in next.iter().enumerate() {
            after.iter().for_each(|&after| before[after].push(line));
        }
        Graph { instructions, lines, next, before }
    }

    /// The lines that can be reached from the first one.
    fn reached(&self) -> Vec<usize> {
        let (mut seen, mut open) = (BTreeSet::from([0]), vec![0]);
        while let Some(line) = open.pop() {
            open.extend(self.next[line].iter().copied().filter(|&next| seen.insert(next)));
        }
        seen.into_iter().collect()
    }

    /// The lines on every way from the first one to each: by the definition, until nothing changes.
    fn dominators(&self) -> BTreeMap<usize, BTreeSet<usize>> {
        let reached = self.reached();
        let all: BTreeSet<usize> = reached.iter().copied().collect();
        let mut dominators: BTreeMap<usize, BTreeSet<usize>> =
            reached.iter().map(|&line| (line, if line == 0 { BTreeSet::from([0]) } else { all.clone() })).collect();
        loop {
            let mut changed = false;
            for &line in &reached[1..] {
                let known = self.before[line].iter().filter_map(|before| dominators.get(before));
                let common = known.cloned().reduce(|one, other| &one & &other);
                let mut own = common.expect("a line that is reached has one before it");
                own.insert(line);
                changed |= dominators[&line] != own;
                dominators.insert(line, own);
            }
            if !changed {
                return dominators;
            }
        }
    }

    /// The natural loops: by head, the lines of each.
    fn loops(&self) -> BTreeMap<usize, BTreeSet<usize>> {
        let dominators = self.dominators();
        let mut loops: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (&line, of) in &dominators {
            for &head in self.next[line].iter().filter(|next| of.contains(next)) {
                let body = loops.entry(head).or_insert_with(|| BTreeSet::from([head]));
                let mut open = vec![line];
                while let Some(line) = open.pop() {
                    if dominators.contains_key(&line) && body.insert(line) {
                        open.extend(&self.before[line]);
                    }
                }
            }
        }
        loops
    }

    fn of(&self, line: usize) -> &[Instruction] {
        let [start, end] = self.lines[line];
        &self.instructions[start..end]
    }

    fn counts<'b>(&self, lines: impl Iterator<Item = &'b usize>) -> Counts {
        Counts::of(lines.flat_map(|&line| self.of(line)))
    }

    /// Whether there is a way round from `head` that leaves `without` out, and loads if `loading`.
    fn avoids(&self, head: usize, body: &BTreeSet<usize>, without: usize, loading: bool) -> bool {
        if without == head {
            return false;
        }
        // A line, and whether something has been loaded before its end.
        let loads = |line: usize| !loading || self.of(line).iter().any(Instruction::loads);
        let (mut seen, mut open) = (BTreeSet::new(), vec![(head, loads(head))]);
        while let Some((line, loaded)) = open.pop() {
            for &next in self.next[line].iter().filter(|next| body.contains(next) && **next != without) {
                if next == head {
                    if loaded {
                        return true;
                    }
                } else if seen.insert((next, loaded || loads(next))) {
                    open.push((next, loaded || loads(next)));
                }
            }
        }
        false
    }
}

impl MainLoop {
    /// `None` if the function has no loop.
    pub fn of(function: &Function<'_>) -> Option<Self> {
        let graph = Graph::new(&function.instructions);
        let (head, body) = graph.loops().into_iter().max_by_key(|(_, body)| {
            let counts = graph.counts(body.iter());
            let all = || body.iter().flat_map(|&line| graph.of(line));
            let floats = all().filter(|instruction| instruction.opcode.starts_with("FFMA")).count();
            (counts.tensor, floats, all().any(Instruction::loads), Reverse(counts.instructions()))
        })?;
        let loading = body.iter().any(|&line| graph.of(line).iter().any(Instruction::loads));
        let (seldom, usual): (Vec<usize>, Vec<usize>) =
            body.iter().partition(|&&line| graph.avoids(head, &body, line, loading));
        Some(MainLoop { usual: graph.counts(usual.iter()), seldom: graph.counts(seldom.iter()) })
    }
}

#[test]
fn a_tap_in_a_loop_is_seldom() {
    let instruction =
        |opcode: &str, target: Option<usize>, conditional| Instruction { opcode: opcode.into(), target, conditional };
    let plain = |opcode| instruction(opcode, None, false);
    // A loop from 1 to 8: the copies (3 to 6) are left out in the last rounds, and the tap (5) is seldom new.
    let instructions = vec![
        plain("MOV"),
        plain("HMMA.16816.F32.BF16"),
        instruction("BRA", Some(7), true),
        plain("LDGSTS.E.BYPASS.128"),
        instruction("BRA", Some(6), true),
        plain("IMAD"),
        plain("LDGSTS.E.BYPASS.128"),
        plain("LDSM.16.M88.4"),
        instruction("BRA", Some(1), true),
        plain("EXIT"),
    ];
    let found = MainLoop::of(&Function { name: "", instructions }).unwrap();
    let Counts { tensor, global, shared, other, passes, fma, .. } = found.usual;
    assert_eq!((tensor, global, shared, other, passes, fma), (1, 2, 1, 3, 12, 0));
    assert_eq!(found.seldom, Counts { fma: 1, ..Counts::default() });
    assert_eq!(MainLoop::of(&Function { name: "", instructions: vec![plain("MOV"), plain("EXIT")] }), None);
}
