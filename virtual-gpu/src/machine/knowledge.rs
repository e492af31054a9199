//! What the lanes of a warp know: all of them, and beyond that some of them, which have waited for an mbarrier or fenced alone.

use super::agent::Agent;
use super::clock::Clock;

#[derive(Default)]
pub(super) struct Knowledge {
    pub all: Clock,
    some: Vec<(u32, Clock)>,
}

impl Knowledge {
    pub fn clear(&mut self) {
        self.all.clear();
        self.some.clear();
    }

    /// The lanes `mask` of a warp whose lanes `live` are left learn what `clock` knows.
    pub fn acquire(&mut self, mask: u32, live: u32, clock: &Clock) {
        if mask & live == live {
            self.all.merge(clock);
        } else {
            self.of_some(mask).merge(clock);
        }
    }

    /// The clock of some lanes only.
    fn of_some(&mut self, mask: u32) -> &mut Clock {
        let at = self.some.iter().position(|(lanes, _)| *lanes == mask).unwrap_or_else(|| {
            self.some.push((mask, Clock::default()));
            self.some.len() - 1
        });
        &mut self.some[at].1
    }

    /// What every lane of `mask` knows.
    pub fn common(&self, mask: u32) -> Clock {
        let mut clock = self.all.clone();
        for (_, some) in self.some.iter().filter(|(lanes, _)| mask & !lanes == 0) {
            clock.merge(some);
        }
        clock
    }

    /// What the lanes of `mask` know together.
    pub fn together(&self, mask: u32) -> Clock {
        let mut clock = self.all.clone();
        for (_, some) in self.some.iter().filter(|(lanes, _)| mask & lanes != 0) {
            clock.merge(some);
        }
        clock
    }

    /// The lanes of `mask` wait for each other.
    pub fn synchronise(&mut self, mask: u32, live: u32) {
        if self.some.is_empty() {
            return;
        }
        let clock = self.together(mask);
        self.acquire(mask, live, &clock);
        if mask & live == live {
            self.some.clear();
        }
    }

    /// Whether all lanes know the same.
    #[inline]
    pub fn is_common(&self) -> bool {
        self.some.is_empty()
    }

    /// Whether every lane of `mask` knows that the agent's accesses of the generation are ordered before.
    #[inline]
    pub fn has(&self, mask: u32, agent: Agent, generation: u32) -> bool {
        self.all.has(agent, generation) || self.some_have(mask, |clock| clock.has(agent, generation))
    }

    #[inline]
    pub fn has_column(&self, mask: u32, column: usize, generation: u32) -> bool {
        self.all.has_column(column, generation) || self.some_have(mask, |clock| clock.has_column(column, generation))
    }

    pub fn has_fenced(&self, mask: u32, thread: usize, generation: u32) -> bool {
        self.all.has_fenced(thread, generation) || self.some_have(mask, |clock| clock.has_fenced(thread, generation))
    }

    /// The same of all threads of a warp.
    pub fn has_fenced_warp(&self, mask: u32, warp: usize, generation: u32) -> bool {
        self.all.has_fenced_warp(warp, generation)
            || self.some_have(mask, |clock| clock.has_fenced_warp(warp, generation))
    }

    /// Whether a lane knows more of some threads of a warp than of all.
    pub fn tells_threads_apart(&self, warp: usize) -> bool {
        self.all.tells_threads_apart(warp) || self.some.iter().any(|(_, clock)| clock.tells_threads_apart(warp))
    }

    /// Whether the initialisations of mbarriers of the generation are published.
    pub fn has_init(&self, mask: u32, generation: u32) -> bool {
        generation <= self.all.inits || self.some_have(mask, |clock| generation <= clock.inits)
    }

    /// Whether a lane knows that the launch before has ended.
    pub fn has_grid(&self) -> bool {
        self.all.grid || self.some.iter().any(|(_, clock)| clock.grid)
    }

    fn some_have(&self, mask: u32, has: impl Fn(&Clock) -> bool) -> bool {
        self.some.iter().any(|(lanes, clock)| mask & !lanes == 0 && has(clock))
    }
}
