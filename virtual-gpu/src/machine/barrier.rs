//! A block's sixteen barriers (PTX ISA 9.0, "bar, barrier").

use super::clock::Clock;

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
    /// A warp of `threads` threads arrives; the predicate of `barrier.red` holds in `votes` of them.
    pub fn arrive(&mut self, threads: usize, votes: u32, clock: &Clock) {
        self.arrived += threads;
        self.clock.merge(clock);
        self.count += votes;
        self.all &= votes as usize == threads;
        self.any |= votes != 0;
    }
}

/// `barrier.cluster` of a cluster of one block, whose arrivals and waits are instructions of their own (PTX ISA 9.0,
/// "barrier.cluster").
#[derive(Default)]
pub(super) struct ClusterBarrier {
    pub arrived: usize,
    pub phase: u32,
    /// What the arrivals of this phase have published, and those of the last.
    pub arriving: Clock,
    pub complete: Clock,
}

impl ClusterBarrier {
    /// Ends the phase when `threads` have arrived; returns whether it did.
    pub fn settle(&mut self, threads: usize) -> bool {
        let ends = self.arrived > 0 && self.arrived >= threads;
        if ends {
            self.arrived = 0;
            self.phase += 1;
            std::mem::swap(&mut self.complete, &mut self.arriving);
            self.arriving.clear();
        }
        ends
    }
}
