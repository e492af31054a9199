//! A kernel, decoded: what the executor runs.

use super::counts::Class;
use crate::arith::half::Half;

/// One register of a warp: a value for each lane. Narrower values are kept zero-extended.
pub(super) type Row = [u64; 32];

/// Index of a row. With `CONSTANT` set, of the kernel's constants; else of the warp's registers.
pub(super) type R = u32;
pub(super) const CONSTANT: R = 1 << 31;
/// A destination that nobody wants.
pub(super) const NOWHERE: R = u32::MAX;

/// Index of a predicate: a bit for each lane.
pub(super) type P = u32;
pub(super) const TRUE: P = 0;
pub(super) const FALSE: P = 1;

pub(super) type One = dyn Fn(&mut Row, &Row) + Send + Sync;
pub(super) type Two = dyn Fn(&mut Row, &Row, &Row) + Send + Sync;
pub(super) type Three = dyn Fn(&mut Row, &Row, &Row, &Row) + Send + Sync;
pub(super) type Four = dyn Fn(&mut Row, &Row, &Row, &Row, &Row) + Send + Sync;
/// Three values and a carry, to a value and a carry.
pub(super) type Carrying = dyn Fn(u64, u64, u64, bool) -> (u64, bool) + Send + Sync;

/// Arithmetic on whole rows; which lanes keep the result is not its concern.
pub(super) enum Pure {
    One(Box<One>),
    Two(Box<Two>),
    Three(Box<Three>),
    Four(Box<Four>),
}

pub(super) type Compare = Box<dyn Fn(&Row, &Row) -> u32 + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logic {
    And,
    Or,
    Xor,
}

impl Logic {
    pub fn apply(self, a: u32, b: u32) -> u32 {
        match self {
            Logic::And => a & b,
            Logic::Or => a | b,
            Logic::Xor => a ^ b,
        }
    }
}

/// A predicate, perhaps negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guard {
    pub p: P,
    pub negated: bool,
}

impl Guard {
    pub const ALWAYS: Guard = Guard { p: TRUE, negated: false };

    pub fn lanes(self, preds: &[u32]) -> u32 {
        preds[self.p as usize] ^ if self.negated { u32::MAX } else { 0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    Global,
    Shared,
    Local,
    Param,
    Generic,
}

/// A load's or store's shape: up to four values of `size` bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    pub area: Area,
    pub base: R,
    pub offset: i64,
    pub size: usize,
    pub lanes: usize,
    /// `.volatile`, `.relaxed`, ...: no race with its like.
    pub strong: bool,
    /// `.nc`: through a cache that the launch's own writes need not reach.
    pub fixed: bool,
    pub regs: [R; 4],
    /// Loads: how many bits to sign-extend from (0: none), and what the registers hold.
    pub sign_from: u32,
    pub keep: [u64; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BarrierKind {
    Sync,
    Arrive,
    Popc,
    And,
    Or,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MmaShape {
    K8Tf32,
    K4Tf32,
    K16(Half),
    K8(Half),
    K16HalfSum,
    K8HalfSum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    Tid(usize),
    Ntid(usize),
    Ctaid(usize),
    Nctaid(usize),
    LaneId,
    WarpId,
    NWarpId,
    SmId,
    NSmId,
    GridId,
    MaskEq,
    MaskLe,
    MaskLt,
    MaskGe,
    MaskGt,
    DynamicShared,
    TotalShared,
    Clock,
    ClockHigh,
    Clock64,
    Timer,
}

pub(super) type Atomic = Box<dyn Fn(u64, u64, u64) -> u64 + Send + Sync>;

pub(super) enum Op {
    Pure {
        f: Pure,
        d: R,
        s: [R; 4],
    },
    /// `setp`: `p` and `q` are the comparison and its opposite, each combined with `with`.
    /// On packed halves, `g` compares the upper ones for `q`.
    Compare {
        f: Compare,
        g: Option<Compare>,
        a: R,
        b: R,
        p: P,
        q: P,
        with: Option<(Logic, Guard)>,
    },
    /// `set`: the comparison as a value.
    CompareValue {
        f: Compare,
        a: R,
        b: R,
        d: R,
        yes: u64,
        with: Option<(Logic, Guard)>,
    },
    /// Parts of a row, each with how far it is shifted.
    Unpack {
        a: R,
        mask: u64,
        parts: Vec<(R, u32)>,
    },
    Select {
        d: R,
        a: R,
        b: R,
        p: Guard,
    },
    Predicate {
        d: P,
        logic: Logic,
        a: Guard,
        b: Guard,
    },
    /// `add.cc`, `madc`, ...: values with a carry in and out.
    Carry {
        f: Box<Carrying>,
        d: R,
        s: [R; 3],
        input: bool,
        output: bool,
    },
    Clock {
        d: R,
    },
    Branch {
        target: u32,
    },
    Exit,
    Trap,
    Nothing,
    Load(Access),
    Store(Access),
    Atomic {
        access: Access,
        f: Atomic,
        /// What it is on shared memory, if that differs and a generic address may lead there.
        on_shared: Option<Atomic>,
        b: R,
        c: R,
    },
    Shuffle {
        mode: Shuffle,
        d: R,
        p: P,
        a: R,
        b: R,
        c: R,
        mask: R,
    },
    Vote {
        mode: Vote,
        d: R,
        p: P,
        a: Guard,
        mask: R,
    },
    Match {
        all: bool,
        d: R,
        p: P,
        a: R,
        mask: R,
    },
    ActiveMask {
        d: R,
    },
    Reduce {
        f: fn(u32, u32) -> u32,
        d: R,
        a: R,
        mask: R,
    },
    WarpSync {
        mask: R,
    },
    Barrier {
        kind: BarrierKind,
        id: R,
        count: R,
        d: R,
        p: P,
        a: Guard,
    },
    AsyncCopy {
        to: R,
        to_offset: i64,
        from: R,
        from_offset: i64,
        size: usize,
        source_size: R,
        ignore: Guard,
    },
    AsyncCommit,
    /// `None`: all of them.
    AsyncWait {
        left: Option<u32>,
    },
    LoadMatrix {
        base: R,
        offset: i64,
        d: [R; 4],
        count: usize,
        trans: bool,
    },
    Mma {
        shape: MmaShape,
        d: [R; 4],
        a: [R; 4],
        b: [R; 2],
        c: [R; 4],
    },
}

pub(super) struct Instr {
    pub op: Op,
    pub guard: Guard,
    pub line: u32,
    /// Number of `.file`, line; 0 where unknown.
    pub location: (u32, u32),
    pub class: Class,
    /// Floating-point operations of one thread.
    pub flops: u32,
    /// Branches: where its lanes meet again.
    pub meet: u32,
}

/// The end of the code, as a meeting point.
pub(super) const END: u32 = u32::MAX;

#[derive(Default)]
pub(super) struct Program {
    pub code: Vec<Instr>,
    pub constants: Vec<Row>,
    /// Rows of registers, special ones included.
    pub rows: usize,
    pub predicates: usize,
    pub specials: Vec<(Special, R)>,
}
