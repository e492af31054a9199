//! A block's sixteen barriers (PTX ISA 9.0, "bar, barrier").

use super::shared::Seen;

#[derive(Clone)]
pub(super) struct Barrier {
    pub arrived: usize,
    /// The number of threads in the barrier's operand, 0 for all of the block; set by the first warp to arrive.
    pub expected: usize,
    pub waiting: Vec<usize>,
    pub seen: Seen,
    pub count: u32,
    pub all: bool,
    pub any: bool,
}

impl Default for Barrier {
    fn default() -> Self {
        Barrier { arrived: 0, expected: 0, waiting: Vec::new(), seen: [0; 32], count: 0, all: true, any: false }
    }
}

impl Barrier {
    /// A warp of `threads` threads arrives; the predicate of `barrier.red` holds in `votes` of them.
    pub fn arrive(&mut self, threads: usize, votes: u32, seen: &Seen) {
        self.arrived += threads;
        for (mine, theirs) in self.seen.iter_mut().zip(seen) {
            *mine = (*mine).max(*theirs);
        }
        self.count += votes;
        self.all &= votes as usize == threads;
        self.any |= votes != 0;
    }
}
