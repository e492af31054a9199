//! What stops a kernel, and how it is told.

use std::fmt;

use thiserror::Error;

/// What went wrong, in the terms of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrapKind {
    /// Outside of every allocation, or in one that was freed.
    IllegalAddress,
    MisalignedAddress,
    /// Outside of the block's shared memory.
    SharedOutOfBounds,
    /// Outside of the thread's local memory, or of the kernel's parameters.
    LocalOutOfBounds,
    /// A read of global, shared or local memory that nobody wrote.
    Uninitialised,
    /// Two threads of a block, no barrier between them, and one of them wrote.
    SharedRace,
    /// Two blocks wrote different values to the same place, or one read what another wrote in the same launch.
    GlobalRace,
    /// A barrier that not every thread of the block reached.
    PartialBarrier,
    /// A `shfl`, `vote`, `mma`, ... without some of its lanes.
    MissingLanes,
    /// Data of a `cp.async` touched before its group was waited for, or before a barrier published it.
    AsyncCopy,
    /// Nothing can go on, or nothing ends.
    Deadlock,
    /// `trap`, or an instruction given what it forbids.
    LaunchFailed,
    /// The launch asks for more than the device has.
    LaunchOutOfResources,
    /// The launch makes no sense: an empty grid, parameters of the wrong size.
    InvalidLaunch,
}

impl TrapKind {
    /// The check's name.
    pub fn name(self) -> &'static str {
        match self {
            TrapKind::IllegalAddress => "illegal address",
            TrapKind::MisalignedAddress => "misaligned address",
            TrapKind::SharedOutOfBounds => "shared memory out of bounds",
            TrapKind::LocalOutOfBounds => "local memory out of bounds",
            TrapKind::Uninitialised => "read of unwritten memory",
            TrapKind::SharedRace => "race on shared memory",
            TrapKind::GlobalRace => "race on global memory",
            TrapKind::PartialBarrier => "barrier reached by a part",
            TrapKind::MissingLanes => "lanes missing",
            TrapKind::AsyncCopy => "cp.async not waited for",
            TrapKind::Deadlock => "deadlock",
            TrapKind::LaunchFailed => "launch failed",
            TrapKind::LaunchOutOfResources => "out of resources",
            TrapKind::InvalidLaunch => "invalid launch",
        }
    }
}

/// A kernel stopped: where, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trap {
    pub kind: TrapKind,
    pub kernel: String,
    pub block: [u32; 3],
    pub thread: [u32; 3],
    /// 0 where no instruction is to blame.
    pub ptx_line: usize,
    /// `file:line`, where the PTX says.
    pub source: Option<String>,
    pub message: String,
}

// Not derived: the derive would take `source` for an underlying error.
impl std::error::Error for Trap {}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([bx, by, bz], [tx, ty, tz]) = (self.block, self.thread);
        write!(f, "{}: {} [kernel {}", self.kind.name(), self.message, self.kernel)?;
        if self.ptx_line != 0 {
            write!(f, ", block ({bx}, {by}, {bz}), thread ({tx}, {ty}, {tz}), PTX line {}", self.ptx_line)?;
        }
        if let Some(source) = &self.source {
            write!(f, ", {source}")?;
        }
        write!(f, "]")
    }
}

/// PTX that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("PTX line {line}: {message}")]
pub struct LoadError {
    pub line: usize,
    pub message: String,
}

impl LoadError {
    pub(crate) fn new(line: usize, message: impl Into<String>) -> Self {
        LoadError { line, message: message.into() }
    }
}
