//! Traps: the errors that stop a kernel, and how they are reported.

use std::fmt;

use thiserror::Error;

/// The kind of an error, named after the check that found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrapKind {
    /// An address outside of every allocation, or in a freed one.
    IllegalAddress,
    MisalignedAddress,
    /// An address outside of the block's shared memory.
    SharedOutOfBounds,
    /// An address outside of the thread's local memory, or of the kernel's parameters.
    LocalOutOfBounds,
    /// A read of global, shared or local memory that was never written.
    Uninitialised,
    /// Two threads of a block accessed the same shared memory with no barrier in between, and one of them wrote.
    SharedRace,
    /// Two blocks wrote different values to the same address, or one read a value that another wrote in the same
    /// launch.
    GlobalRace,
    /// A barrier that not all threads of the block reached.
    PartialBarrier,
    /// A `shfl`, `vote`, `mma`, ... that not all of its lanes execute.
    MissingLanes,
    /// Data of a `cp.async` accessed before its group was waited for, or before a barrier published it; data of a bulk copy read
    /// before its mbarrier's phase was waited for.
    AsyncCopy,
    /// A `wgmma` or a bulk store reads what a thread wrote with no `fence.proxy.async` in between.
    ProxyFence,
    /// Memory is changed that a bulk copy or a `wgmma` still uses, or a block ends before its copies.
    InFlight,
    /// An mbarrier used against its rules.
    Mbarrier,
    /// A bulk copy with a bad address, size, tensor map or coordinates.
    TensorCopy,
    /// A `wgmma` with bad descriptors, without its fence, or whose registers are touched before it was waited for.
    Wgmma,
    /// A `setmaxnreg` against the rules of the block's pool of registers.
    RegisterPool,
    /// A read of what the launch before wrote, ahead of `griddepcontrol.wait`.
    GridDependency,
    /// An access to memory that an operation of another stream wrote, or a write of memory that one read, with nothing that orders
    /// the two.
    StreamRace,
    /// No warp can continue, or the block exceeds the instruction limit.
    Deadlock,
    /// A `trap` instruction, or an instruction with forbidden operands.
    LaunchFailed,
    /// The launch requires more threads or shared memory than the kernel or the device allows.
    LaunchOutOfResources,
    /// The launch is invalid: an empty grid, or parameters of the wrong size.
    InvalidLaunch,
}

impl TrapKind {
    /// The name of the check that found it.
    pub fn name(self) -> &'static str {
        match self {
            TrapKind::IllegalAddress => "illegal address",
            TrapKind::MisalignedAddress => "misaligned address",
            TrapKind::SharedOutOfBounds => "shared memory out of bounds",
            TrapKind::LocalOutOfBounds => "local memory out of bounds",
            TrapKind::Uninitialised => "read of unwritten memory",
            TrapKind::SharedRace => "race on shared memory",
            TrapKind::GlobalRace => "race on global memory",
            TrapKind::PartialBarrier => "barrier not reached by all threads",
            TrapKind::MissingLanes => "lanes missing from a warp instruction",
            TrapKind::AsyncCopy => "asynchronous copy not waited for",
            TrapKind::ProxyFence => "missing proxy fence",
            TrapKind::InFlight => "memory in use by an asynchronous operation",
            TrapKind::Mbarrier => "mbarrier misused",
            TrapKind::TensorCopy => "bulk copy misused",
            TrapKind::Wgmma => "wgmma misused",
            TrapKind::RegisterPool => "setmaxnreg misused",
            TrapKind::GridDependency => "read ahead of griddepcontrol.wait",
            TrapKind::StreamRace => "race between streams",
            TrapKind::Deadlock => "deadlock",
            TrapKind::LaunchFailed => "launch failed",
            TrapKind::LaunchOutOfResources => "out of resources",
            TrapKind::InvalidLaunch => "invalid launch",
        }
    }
}

/// The error that stopped a kernel: its kind, its place and a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trap {
    pub kind: TrapKind,
    pub kernel: String,
    pub block: [u32; 3],
    pub thread: [u32; 3],
    /// The PTX line; 0 if no instruction caused the trap.
    pub ptx_line: usize,
    /// `file:line` of the source, if the PTX has it.
    pub source: Option<String>,
    pub message: String,
}

// Not derived: the derive would treat the field `source` as an underlying error.
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

/// PTX that cannot be loaded: a syntax error, or an unsupported or malformed instruction.
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
