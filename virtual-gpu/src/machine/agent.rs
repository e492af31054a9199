//! Agents: who accesses a block's shared memory. The clocks tell whose accesses are ordered before.
//!
//! | column of a clock | agent |
//! |---|---|
//! | 0 to 31 | the threads of a warp |
//! | 32 to 39 | the `wgmma` of a warpgroup, which read |
//! | 40 to 63 | the bulk stores of a warp, which read |
//! | one for each mbarrier | the bulk copies that signal it, which write |

/// Columns of warps.
pub(super) const WARPS: usize = 32;
/// The column of the first warpgroup's `wgmma`.
const MATRIX: usize = WARPS;
/// The column of the first warp's bulk stores. Beyond 24 warps several share one.
const BULK: usize = 40;
pub(super) const COLUMNS: usize = 64;

/// Who made an access, in 16 bits: a thread, the agent of a column, or that of an mbarrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agent(u16);

/// An agent, with what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Nobody,
    Thread(usize),
    /// The `wgmma` of the warpgroup of this number.
    Matrix(usize),
    /// The bulk stores of this warp, or of one 24 further.
    Bulk(usize),
    /// The bulk copies that signal the mbarrier of this slot.
    Copies(usize),
}

const COLUMN_AGENTS: u16 = 1024;
const SLOT_AGENTS: u16 = 2048;

/// The most mbarriers that a block may initialise in its life.
pub(super) const MOST_SLOTS: usize = 32_000;

impl Agent {
    pub const NOBODY: Agent = Agent(u16::MAX);

    #[inline]
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
        if column < WARPS { Agent::thread(column * 32) } else { Agent(COLUMN_AGENTS + column as u16) }
    }

    pub fn copies(slot: usize) -> Agent {
        Agent(SLOT_AGENTS + slot as u16)
    }

    #[inline]
    pub fn bits(self) -> u16 {
        self.0
    }

    #[inline]
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

    /// The slot of the mbarrier, of the agent of its copies.
    #[inline]
    pub fn slot(self) -> Option<usize> {
        (self.0 >= SLOT_AGENTS && self != Agent::NOBODY).then(|| usize::from(self.0 - SLOT_AGENTS))
    }
}
