//! What is known to have happened before an access: the vector clocks of a block.
//!
//! Time in a block is counted in generations: every barrier, every `bar.warp.sync` and every release begins a new one. A clock
//! has a column for each agent that accesses shared memory, and in it the last generation whose accesses by that agent are
//! ordered before.
//!
//! | column | agent |
//! |---|---|
//! | 0 to 31 | the threads of a warp |
//! | 32 to 39 | the `wgmma` of a warpgroup, which read |
//! | 40 to 63 | the bulk stores of a warp, which read |
//! | one for each mbarrier | the bulk copies that signal it, which write |

/// The column of the first warpgroup's `wgmma`.
const MATRIX: usize = 32;
/// The column of the first warp's bulk stores. Beyond 24 warps several share one.
const BULK: usize = 40;
const COLUMNS: usize = 64;

/// Who made an access, in 16 bits: a thread, the agent of a column, or that of an mbarrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agent(pub u16);

/// An agent, with what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Nobody,
    Thread(usize),
    /// The `wgmma` of the warpgroup of this number.
    Matrix(usize),
    /// The bulk stores of this warp, or of one 24 or 48 further.
    Bulk(usize),
    /// The bulk copies that signal the mbarrier of this slot.
    Copies(usize),
}

const COLUMN_AGENTS: u16 = 1024;
const SLOT_AGENTS: u16 = 2048;

impl Agent {
    pub const NOBODY: Agent = Agent(u16::MAX);

    pub fn thread(thread: usize) -> Agent {
        Agent(thread as u16)
    }

    pub fn matrix(warpgroup: usize) -> Agent {
        Agent(COLUMN_AGENTS + (MATRIX + warpgroup) as u16)
    }

    pub fn bulk(warp: usize) -> Agent {
        Agent(COLUMN_AGENTS + (BULK + warp % (COLUMNS - BULK)) as u16)
    }

    /// The agent of a column; of a warp's threads the first.
    pub fn of_column(column: usize) -> Agent {
        if column < MATRIX { Agent::thread(column * 32) } else { Agent(COLUMN_AGENTS + column as u16) }
    }

    pub fn copies(slot: usize) -> Agent {
        Agent(SLOT_AGENTS + slot as u16)
    }

    pub fn who(self) -> Who {
        match self.0 {
            u16::MAX => Who::Nobody,
            thread @ 0..COLUMN_AGENTS => Who::Thread(thread.into()),
            column @ COLUMN_AGENTS..SLOT_AGENTS => match usize::from(column - COLUMN_AGENTS) {
                column @ MATRIX..BULK => Who::Matrix(column - MATRIX),
                column => Who::Bulk(column.saturating_sub(BULK)),
            },
            slot => Who::Copies((slot - SLOT_AGENTS).into()),
        }
    }

    /// The column, of an agent that has one.
    #[inline]
    pub fn column(self) -> usize {
        if self.0 < COLUMN_AGENTS { usize::from(self.0) / 32 } else { usize::from(self.0 - COLUMN_AGENTS) % COLUMNS }
    }
}

/// The most mbarriers that a block may initialise in its life.
pub(super) const MOST_SLOTS: usize = 32_000;

/// A thread's accesses that are ordered, of a warp whose other threads' are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Single {
    thread: u16,
    seen: u32,
    fenced: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    seen: [u32; COLUMNS],
    /// For each warp the last generation that a proxy fence has shown to bulk stores and `wgmma`.
    fenced: [u32; MATRIX],
    /// For each mbarrier the last generation whose copies are known to be complete.
    copies: Vec<u32>,
    singles: Vec<Single>,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { seen: [0; COLUMNS], fenced: [0; MATRIX], copies: Vec::new(), singles: Vec::new() }
    }
}

impl Clock {
    pub fn clear(&mut self) {
        (self.seen, self.fenced) = ([0; COLUMNS], [0; MATRIX]);
        self.copies.clear();
        self.singles.clear();
    }

    /// Learns all that `other` knows.
    pub fn merge(&mut self, other: &Clock) {
        for (mine, theirs) in self.seen.iter_mut().zip(&other.seen) {
            *mine = (*mine).max(*theirs);
        }
        for (mine, theirs) in self.fenced.iter_mut().zip(&other.fenced) {
            *mine = (*mine).max(*theirs);
        }
        if self.copies.len() < other.copies.len() {
            self.copies.resize(other.copies.len(), 0);
        }
        for (mine, theirs) in self.copies.iter_mut().zip(&other.copies) {
            *mine = (*mine).max(*theirs);
        }
        for single in &other.singles {
            self.single(*single);
        }
        let seen = &self.seen;
        let fenced = &self.fenced;
        self.singles.retain(|single| {
            let warp = usize::from(single.thread) / 32;
            single.seen > seen[warp] || single.fenced > fenced[warp]
        });
    }

    fn single(&mut self, new: Single) {
        match self.singles.iter_mut().find(|known| known.thread == new.thread) {
            Some(known) => (known.seen, known.fenced) = (known.seen.max(new.seen), known.fenced.max(new.fenced)),
            None => self.singles.push(new),
        }
    }

    /// All accesses of the agent up to the generation are ordered before.
    pub fn learn(&mut self, agent: Agent, generation: u32) {
        match agent.who() {
            Who::Copies(slot) => {
                if self.copies.len() <= slot {
                    self.copies.resize(slot + 1, 0);
                }
                self.copies[slot] = self.copies[slot].max(generation);
            }
            Who::Thread(thread) => {
                self.single(Single { thread: thread as u16, seen: generation, fenced: 0 });
            }
            _ => {
                let column = &mut self.seen[agent.column()];
                *column = (*column).max(generation);
            }
        }
    }

    /// The same of all threads of a warp.
    pub fn learn_warp(&mut self, warp: usize, generation: u32) {
        self.seen[warp] = self.seen[warp].max(generation);
    }

    /// A proxy fence of the threads `mask` of `warp`: whatever is ordered before, their own accesses included, bulk stores and
    /// `wgmma` see from here on.
    pub fn fence(&mut self, warp: usize, mask: u32, whole: bool, generation: u32) {
        for (fenced, seen) in self.fenced.iter_mut().zip(&self.seen) {
            *fenced = (*fenced).max(*seen);
        }
        for single in &mut self.singles {
            single.fenced = single.seen;
        }
        if whole {
            self.fenced[warp] = generation;
        } else {
            for lane in super::exec::lanes(mask) {
                let thread = (warp * 32 + lane) as u16;
                self.single(Single { thread, seen: generation, fenced: generation });
            }
        }
    }

    #[inline]
    pub fn has(&self, agent: Agent, generation: u32) -> bool {
        if agent.0 < SLOT_AGENTS {
            return generation <= self.seen[agent.column()] || self.has_single(agent, generation, false);
        }
        self.copies.get(usize::from(agent.0 - SLOT_AGENTS)).is_some_and(|seen| generation <= *seen)
    }

    #[inline]
    pub fn has_column(&self, column: usize, generation: u32) -> bool {
        generation <= self.seen[column]
    }

    /// Whether a proxy fence has shown the thread's writes of the generation to asynchronous operations.
    pub fn has_fenced(&self, agent: Agent, generation: u32) -> bool {
        generation <= self.fenced[agent.column() % MATRIX] || self.has_single(agent, generation, true)
    }

    fn has_single(&self, agent: Agent, generation: u32, fenced: bool) -> bool {
        let of = |single: &Single| if fenced { single.fenced } else { single.seen };
        self.singles.iter().any(|single| single.thread == agent.0 && generation <= of(single))
    }

    /// What both know: of the warps that execute an instruction together.
    pub fn meet(&mut self, other: &Clock) {
        for (mine, theirs) in self.seen.iter_mut().zip(&other.seen) {
            *mine = (*mine).min(*theirs);
        }
        for (mine, theirs) in self.fenced.iter_mut().zip(&other.fenced) {
            *mine = (*mine).min(*theirs);
        }
        self.copies.truncate(other.copies.len());
        for (mine, theirs) in self.copies.iter_mut().zip(&other.copies) {
            *mine = (*mine).min(*theirs);
        }
        self.singles.retain_mut(|single| {
            let agent = Agent(single.thread);
            single.seen = if other.has(agent, single.seen) { single.seen } else { 0 };
            single.fenced = if other.has_fenced(agent, single.fenced) { single.fenced } else { 0 };
            single.seen > 0
        });
    }
}

/// What the lanes of a warp know: all of them, and beyond that some of them, which have waited for an mbarrier or fenced alone.
#[derive(Clone, Default)]
pub(super) struct Knowledge {
    pub all: Clock,
    some: Vec<(u32, Clock)>,
}

impl Knowledge {
    pub fn of(all: Clock) -> Knowledge {
        Knowledge { all, some: Vec::new() }
    }

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

    /// Whether all lanes know the same.
    #[inline]
    pub fn is_common(&self) -> bool {
        self.some.is_empty()
    }

    /// The clock of some lanes only.
    pub fn of_some(&mut self, mask: u32) -> &mut Clock {
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

    #[inline]
    pub fn has(&self, lane: usize, agent: Agent, generation: u32) -> bool {
        self.all.has(agent, generation) || self.some_have(lane, |clock| clock.has(agent, generation))
    }

    #[inline]
    pub fn has_column(&self, lane: usize, column: usize, generation: u32) -> bool {
        self.all.has_column(column, generation) || self.some_have(lane, |clock| clock.has_column(column, generation))
    }

    pub fn has_fenced(&self, lane: usize, agent: Agent, generation: u32) -> bool {
        self.all.has_fenced(agent, generation) || self.some_have(lane, |clock| clock.has_fenced(agent, generation))
    }

    fn some_have(&self, lane: usize, has: impl Fn(&Clock) -> bool) -> bool {
        self.some.iter().any(|(lanes, clock)| lanes >> lane & 1 == 1 && has(clock))
    }
}
