//! What is known to have happened before an access: the vector clocks of a block.
//!
//! Time in a block is counted in generations: every barrier, every `bar.warp.sync` and every release begins a new one. A clock has
//! a column for each agent that accesses shared memory, and in it the last generation whose accesses by that agent are ordered
//! before. Where only some threads of a warp have published what they did, each has a column of its own.

use super::agent::{Agent, COLUMNS, WARPS, Who};

/// Columns for the single threads of a warp, beyond what its own column says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Threads {
    warp: usize,
    seen: [u32; 32],
    fenced: [u32; 32],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    seen: [u32; COLUMNS],
    /// For each warp the last generation that a proxy fence has shown to bulk stores and `wgmma`.
    fenced: [u32; WARPS],
    threads: Vec<Threads>,
    /// For each mbarrier the last generation whose copies are known to be complete.
    copies: Vec<u32>,
    /// The last generation whose initialisations of mbarriers a `fence.mbarrier_init` has published.
    pub inits: u32,
    /// Whether a `griddepcontrol.wait` was executed.
    pub grid: bool,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { seen: [0; COLUMNS], fenced: [0; WARPS], threads: Vec::new(), copies: Vec::new(), inits: 0, grid: false }
    }
}

fn join<const N: usize>(mine: &mut [u32; N], theirs: &[u32; N]) {
    mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
}

impl Clock {
    pub fn clear(&mut self) {
        (self.seen, self.fenced, self.inits, self.grid) = ([0; COLUMNS], [0; WARPS], 0, false);
        self.copies.clear();
        self.threads.clear();
    }

    /// Learns all that `other` knows.
    pub fn merge(&mut self, other: &Clock) {
        join(&mut self.seen, &other.seen);
        join(&mut self.fenced, &other.fenced);
        if self.copies.len() < other.copies.len() {
            self.copies.resize(other.copies.len(), 0);
        }
        for (mine, theirs) in self.copies.iter_mut().zip(&other.copies) {
            *mine = (*mine).max(*theirs);
        }
        self.inits = self.inits.max(other.inits);
        self.grid |= other.grid;
        for theirs in &other.threads {
            let mine = self.threads_of(theirs.warp);
            join(&mut mine.seen, &theirs.seen);
            join(&mut mine.fenced, &theirs.fenced);
        }
        self.fold();
    }

    fn threads_of(&mut self, warp: usize) -> &mut Threads {
        let at = self.threads.iter().position(|threads| threads.warp == warp).unwrap_or_else(|| {
            self.threads.push(Threads { warp, seen: [0; 32], fenced: [0; 32] });
            self.threads.len() - 1
        });
        &mut self.threads[at]
    }

    /// What all threads of a warp have published, the warp has; columns that say no more than the warp's go.
    fn fold(&mut self) {
        let Clock { seen, fenced, threads, .. } = self;
        threads.retain(|of| {
            let least = |columns: &[u32; 32]| columns.iter().copied().min().unwrap_or(0);
            let (seen, fenced) = (&mut seen[of.warp], &mut fenced[of.warp]);
            (*seen, *fenced) = ((*seen).max(least(&of.seen)), (*fenced).max(least(&of.fenced)));
            of.seen.iter().any(|own| own > seen) || of.fenced.iter().any(|own| own > fenced)
        });
    }

    /// All accesses of the agent up to the generation are ordered before.
    pub fn learn(&mut self, agent: Agent, generation: u32) {
        let column = match agent.who() {
            Who::Copies(slot) => {
                if self.copies.len() <= slot {
                    self.copies.resize(slot + 1, 0);
                }
                &mut self.copies[slot]
            }
            Who::Thread(thread) => &mut self.threads_of(thread / 32).seen[thread % 32],
            _ => &mut self.seen[agent.column()],
        };
        *column = (*column).max(generation);
        self.fold();
    }

    /// The same of all threads of a warp.
    pub fn learn_warp(&mut self, warp: usize, generation: u32) {
        self.seen[warp] = self.seen[warp].max(generation);
    }

    /// A proxy fence: whatever is ordered before, bulk stores and `wgmma` see from here on.
    pub fn fence(&mut self) {
        for (fenced, seen) in self.fenced.iter_mut().zip(&self.seen) {
            *fenced = (*fenced).max(*seen);
        }
        for Threads { seen, fenced, .. } in &mut self.threads {
            join(fenced, seen);
        }
    }

    /// The same of the accesses of a warp's threads themselves.
    pub fn fence_own(&mut self, warp: usize, mask: u32, generation: u32) {
        if mask == u32::MAX {
            self.fenced[warp] = generation;
            return;
        }
        let threads = self.threads_of(warp);
        super::exec::lanes(mask).for_each(|lane| threads.fenced[lane] = generation);
        self.fold();
    }

    #[inline]
    pub fn has(&self, agent: Agent, generation: u32) -> bool {
        match agent.slot() {
            None => self.has_column(agent.column(), generation) || self.has_thread(agent, generation),
            Some(slot) => self.copies.get(slot).is_some_and(|seen| generation <= *seen),
        }
    }

    #[inline]
    pub fn has_column(&self, column: usize, generation: u32) -> bool {
        generation <= self.seen[column]
    }

    /// Whether it knows more of some threads of a warp than of all.
    pub fn tells_threads_apart(&self, warp: usize) -> bool {
        self.threads.iter().any(|threads| threads.warp == warp)
    }

    fn has_thread(&self, agent: Agent, generation: u32) -> bool {
        let Who::Thread(thread) = agent.who() else { return false };
        let published = |of: &Threads| of.warp == thread / 32 && generation <= of.seen[thread % 32];
        self.threads.iter().any(published)
    }

    /// Whether a proxy fence has shown a thread's writes of the generation to asynchronous operations.
    pub fn has_fenced(&self, thread: usize, generation: u32) -> bool {
        let shown = |of: &Threads| of.warp == thread / 32 && generation <= of.fenced[thread % 32];
        self.has_fenced_warp(thread / 32, generation) || self.threads.iter().any(shown)
    }

    pub fn has_fenced_warp(&self, warp: usize, generation: u32) -> bool {
        generation <= self.fenced[warp]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_publish_one_by_one_publish_for_their_warp() {
        let mut clock = Clock::default();
        for lane in 0..31 {
            clock.learn(Agent::thread(64 + lane), 5 + lane as u32);
        }
        assert!(clock.has(Agent::thread(64), 5) && !clock.has(Agent::thread(64), 6));
        assert!(!clock.has_column(2, 5), "lane 31 is missing");
        let mut other = Clock::default();
        other.learn(Agent::thread(95), 9);
        clock.merge(&other);
        assert!(clock.has_column(2, 5) && !clock.has_column(2, 6));
        assert!(clock.has(Agent::thread(94), 35), "what single threads have beyond that stays");
        clock.learn_warp(2, 40);
        clock.merge(&Clock::default());
        assert!(clock.threads.is_empty());
    }

    #[test]
    fn a_fence_shows_only_what_its_threads_did_or_know() {
        let mut clock = Clock::default();
        clock.learn_warp(1, 3);
        clock.fence();
        clock.fence_own(0, 0b10, 7);
        assert!(clock.has_fenced(32, 3) && !clock.has_fenced(32, 4));
        assert!(clock.has_fenced(1, 7) && !clock.has_fenced(0, 1));
        assert!(!clock.has(Agent::thread(1), 7), "a fence orders nothing among threads");
    }
}
