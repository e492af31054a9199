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

/// Who made an access, in 16 bits: the column, or beyond these the slot of an mbarrier, and in the last five bits the lane of a
/// thread.
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

const LANE: u16 = 31;

/// The most mbarriers that a block may initialise in its life, at different addresses.
pub(super) const MOST_SLOTS: usize = 1900;

impl Agent {
    pub const NOBODY: Agent = Agent(u16::MAX);

    #[inline]
    pub fn thread(thread: usize) -> Agent {
        Agent(thread as u16)
    }

    pub fn matrix(warpgroup: usize) -> Agent {
        Agent::of_column(MATRIX + warpgroup)
    }

    pub fn bulk(warp: usize) -> Agent {
        Agent::of_column(BULK + warp % (COLUMNS - BULK))
    }

    /// The agent of a column; of a warp's threads the first.
    pub fn of_column(column: usize) -> Agent {
        Agent((column * 32) as u16)
    }

    pub fn copies(slot: usize) -> Agent {
        Agent::of_column(COLUMNS + slot)
    }

    /// The same for all threads of a warp, and different for all others.
    #[inline(always)]
    pub fn kind(self) -> u16 {
        self.0 & !LANE
    }

    #[inline]
    pub fn who(self) -> Who {
        match usize::from(self.0 / 32) {
            _ if self == Agent::NOBODY => Who::Nobody,
            0..WARPS => Who::Thread(self.0.into()),
            column @ MATRIX..BULK => Who::Matrix(column - MATRIX),
            column @ BULK..COLUMNS => Who::Bulk(column - BULK),
            slot => Who::Copies(slot - COLUMNS),
        }
    }

    /// The column, of an agent that has one.
    #[inline]
    pub fn column(self) -> usize {
        usize::from(self.0 / 32) % COLUMNS
    }

    /// The slot of the mbarrier, of the agent of its copies.
    #[inline]
    pub fn slot(self) -> Option<usize> {
        (self != Agent::NOBODY).then(|| usize::from(self.0 / 32).checked_sub(COLUMNS)).flatten()
    }
}
