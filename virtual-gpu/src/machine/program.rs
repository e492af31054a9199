//! A decoded kernel, in the form that the executor runs.

use super::counts::Class;
use crate::arith::half::Half;
use crate::arith::tensor_core::{Input, Output};

/// One register of a warp: a value for each lane, zero-extended to 64 bits.
pub(super) type Row = [u64; 32];

/// The index of a row: of the kernel's constants if `CONSTANT` is set, else of the warp's registers.
pub(super) type R = u32;
pub(super) const CONSTANT: R = 1 << 31;
/// The destination of a result that is discarded.
pub(super) const NOWHERE: R = u32::MAX;

/// The index of a predicate, which has one bit for each lane.
pub(super) type P = u32;
pub(super) const TRUE: P = 0;
pub(super) const FALSE: P = 1;

pub(super) type One = dyn Fn(&mut Row, &Row) + Send + Sync;
pub(super) type Two = dyn Fn(&mut Row, &Row, &Row) + Send + Sync;
pub(super) type Three = dyn Fn(&mut Row, &Row, &Row, &Row) + Send + Sync;
pub(super) type Four = dyn Fn(&mut Row, &Row, &Row, &Row, &Row) + Send + Sync;
/// Maps three values and a carry-in to a value and a carry-out.
pub(super) type Carrying = dyn Fn(u64, u64, u64, bool) -> (u64, bool) + Send + Sync;

/// Arithmetic on whole rows. The caller selects the lanes that keep the result.
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

/// A predicate, possibly negated.
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

/// The operands of a load or store: up to four values of `size` bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    pub area: Area,
    pub base: R,
    pub offset: i64,
    pub size: usize,
    pub lanes: usize,
    /// `.volatile`, `.relaxed`, ...: does not race with other strong accesses.
    pub strong: bool,
    /// `.nc`: reads through a cache that need not see the launch's own writes.
    pub fixed: bool,
    pub regs: [R; 4],
    /// For loads: the width to sign-extend from (0: none), and for each register the mask of its bits.
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
    /// The places in a cluster of one block, and its sizes.
    Zero,
    One,
}

#[derive(Clone, Debug)]
pub(super) enum MbarrierOp {
    Init {
        count: R,
    },
    Inval,
    /// `expect_tx`, and with the sign -1 `complete_tx`.
    ExpectBytes {
        bytes: R,
        sign: i64,
    },
    Arrive {
        d: R,
        count: R,
        /// Of `arrive.expect_tx`.
        bytes: Option<R>,
        /// `arrive_drop`: later phases expect as many arrivals less.
        drops: bool,
        /// Not `.noComplete`.
        completes: bool,
        relaxed: bool,
    },
    Wait {
        p: P,
        phase: R,
        parity: bool,
        /// `try_wait`.
        blocks: bool,
        relaxed: bool,
    },
    /// `cp.async.mbarrier.arrive`; `counted` with `.noinc`.
    CopiesArrive {
        counted: bool,
    },
}

/// What a bulk copy moves, by its side in global memory.
#[derive(Clone, Debug)]
pub(super) enum Bulk {
    /// Consecutive bytes, to shared memory, from it, or into the L2 cache: the last does nothing.
    Load {
        from: (R, i64),
    },
    Store {
        to: (R, i64),
    },
    Prefetch {
        from: (R, i64),
    },
    /// From shared memory to shared memory.
    Within {
        from: (R, i64),
    },
    /// Registers, as `st.async` stores them: values of so many bytes.
    Values {
        values: Vec<R>,
        bytes: usize,
    },
    /// Loads, stores and prefetches of a tensor map's box.
    TensorLoad {
        map: (R, i64),
        coords: Vec<R>,
        offsets: Option<Vec<R>>,
    },
    TensorStore {
        map: (R, i64),
        coords: Vec<R>,
        im2col: bool,
    },
    TensorPrefetch {
        map: (R, i64),
        coords: Vec<R>,
        offsets: Option<Vec<R>>,
    },
}

pub(super) struct BulkCopy {
    pub bulk: Bulk,
    /// The place in shared memory.
    pub shared: (R, i64),
    /// Bytes, without a tensor map.
    pub size: R,
    pub mbarrier: (R, i64),
    /// The blocks of the cluster that receive a load.
    pub multicast: Option<R>,
    /// Of `cp.reduce`.
    pub reduction: Option<Reduction>,
}

pub(super) enum Reduction {
    /// The function, and the bytes of an element.
    Typed(Atomic, usize),
    /// By the tensor map's type: the operation's name.
    ByMap(&'static str),
}

/// The operand A of a `wgmma`.
#[derive(Clone, Copy, Debug)]
pub(super) enum MatrixA {
    Descriptor(R),
    Registers([R; 4]),
}

pub(super) struct Wgmma {
    /// Columns of B, C and D.
    pub n: usize,
    pub input: Input,
    pub output: Output,
    pub d: Vec<R>,
    pub a: MatrixA,
    pub b: R,
    /// Whether C is added.
    pub adds: Guard,
    pub negate: [bool; 2],
    /// Whether A and B lie with M or N, not K, innermost.
    pub transposed: [bool; 2],
}

pub(super) type Atomic = Box<dyn Fn(u64, u64, u64) -> u64 + Send + Sync>;

pub(super) enum Op {
    Pure {
        f: Pure,
        d: R,
        s: [R; 4],
    },
    /// `setp`: `p` receives the comparison and `q` its negation, each combined with `with`. For packed halves, `g`
    /// compares the upper halves for `q`.
    Compare {
        f: Compare,
        g: Option<Compare>,
        a: R,
        b: R,
        p: P,
        q: P,
        with: Option<(Logic, Guard)>,
    },
    /// `set`: the comparison as a value, `yes` if it holds and 0 if not.
    CompareValue {
        f: Compare,
        a: R,
        b: R,
        d: R,
        yes: u64,
        with: Option<(Logic, Guard)>,
    },
    /// Splits a row into parts: the destination of each, and the shift that brings it to bit 0.
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
    /// `add.cc`, `madc`, ...: arithmetic with carry-in and carry-out.
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
        /// The function on shared memory, if it differs and a generic address may point there.
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
    /// Waits until at most `left` groups are pending; `None`: for all copies.
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
    StoreMatrix {
        area: Area,
        base: R,
        offset: i64,
        s: [R; 4],
        count: usize,
        trans: bool,
    },
    Elect {
        d: R,
        p: P,
        mask: R,
    },
    /// `fence.proxy.async`.
    ProxyFence,
    /// `fence.mbarrier_init`.
    InitFence,
    Mbarrier {
        area: Area,
        base: R,
        offset: i64,
        kind: MbarrierOp,
    },
    BulkCopy(Box<BulkCopy>),
    BulkCommit,
    /// Waits until at most `left` groups of bulk stores are pending; for their reads only, or for their writes as well.
    BulkWait {
        left: u32,
        reads: bool,
    },
    Wgmma(Box<Wgmma>),
    WgmmaFence,
    WgmmaCommit,
    WgmmaWait {
        left: u32,
    },
    /// `setmaxnreg`.
    Registers {
        more: bool,
        count: u32,
    },
    /// `griddepcontrol.wait`.
    GridWait,
    /// One half of `barrier.cluster`.
    ClusterBarrier {
        arrives: bool,
        relaxed: bool,
    },
    /// `mapa`.
    MapToRank {
        d: R,
        address: R,
        rank: R,
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
    /// The number of the `.file` and the line; 0 if unknown.
    pub location: (u32, u32),
    pub class: Class,
    /// Floating-point operations for each thread.
    pub flops: u32,
    /// For branches: the address at which the lanes reconverge.
    pub meet: u32,
}

/// The reconvergence point of lanes that meet only at the end of the code.
pub(super) const END: u32 = u32::MAX;

#[derive(Default)]
pub(super) struct Program {
    pub code: Vec<Instr>,
    pub constants: Vec<Row>,
    /// The number of register rows, special registers included.
    pub rows: usize,
    pub predicates: usize,
    pub specials: Vec<(Special, R)>,
    /// Whether there is a `wgmma`, for which the registers that an instruction touches are noted.
    pub has_wgmma: bool,
    /// If so, for each instruction.
    pub touched: Vec<Box<[R]>>,
    /// The largest number of registers that a `setmaxnreg` names, and how many a thread has before the first; none where ptxas
    /// ignores it.
    pub most_registers: Option<u32>,
    pub entry_registers: Option<u32>,
}
