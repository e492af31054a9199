//! A block's sixteen barriers (PTX ISA 9.0, "bar, barrier").

use super::clock::Clock;
use super::warp::Warp;

#[derive(Clone)]
pub(super) struct Barrier {
    pub arrived: usize,
    /// The number of threads in the barrier's operand, 0 for all of the block; set by the first warp to arrive.
    pub expected: usize,
    pub waiting: Vec<usize>,
    /// What the warps that have arrived know.
    pub clock: Clock,
    pub count: u32,
    pub all: bool,
    pub any: bool,
}

impl Default for Barrier {
    fn default() -> Self {
        Barrier {
            arrived: 0,
            expected: 0,
            waiting: Vec::new(),
            clock: Clock::default(),
            count: 0,
            all: true,
            any: false,
        }
    }
}

impl Barrier {
    /// A warp arrives, which counts as `threads` threads; the predicate of `barrier.red` holds in `votes` of its `voters`.
    pub fn arrive(&mut self, threads: usize, votes: u32, voters: u32, clock: &Clock) {
        self.arrived += threads;
        self.clock.merge(clock);
        self.count += votes;
        self.all &= votes == voters;
        self.any |= votes != 0;
    }
}

/// `barrier.cluster` of a cluster of one block, whose arrivals and waits are instructions of their own (PTX ISA 9.0,
/// "barrier.cluster").
#[derive(Default)]
pub(super) struct ClusterBarrier {
    pub phase: u32,
    /// What the arrivals of this phase have published, and those of the last.
    pub arriving: Clock,
    pub complete: Clock,
}

impl ClusterBarrier {
    /// Ends the phase if all threads have arrived that have not returned; returns whether they have.
    pub fn settle(&mut self, warps: &[Warp], generation: &mut u32) -> bool {
        let mut live = warps.iter().filter(|warp| warp.live != 0).peekable();
        let ends = live.peek().is_some() && live.all(|warp| warp.cluster == Some(self.phase));
        if ends {
            self.phase += 1;
            std::mem::swap(&mut self.complete, &mut self.arriving);
            self.complete.inits = *generation;
            *generation += 1;
            self.arriving.clear();
        }
        ends
    }
}
