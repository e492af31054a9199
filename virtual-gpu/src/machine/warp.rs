//! A warp: its registers, its active lanes, and the divergence stack with the lanes that wait to reconverge.

use super::flight::{BulkStores, Matrices};
use super::knowledge::Knowledge;
use super::program::{CONSTANT, END, NOWHERE, P, Program, R, Row};

/// An entry of the divergence stack: the lanes `mask` continue at `pc` and reconverge with the entry below at `meet`.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub pc: u32,
    pub meet: u32,
    pub mask: u32,
    /// The lanes have reached a warp-wide instruction that needs others, and yielded to the other side of their branch.
    pub held: bool,
    /// The lanes wait for an mbarrier, and have yielded as well: how many events there had been.
    pub parked: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    Waiting(Wait),
    Done,
}

/// What a warp waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The barrier of this number.
    Barrier(usize),
    /// A phase of an mbarrier.
    Mbarrier,
    /// The other warps of its warpgroup, to execute a `wgmma` with them.
    Warpgroup,
    /// Registers of the block's pool.
    Registers,
    /// The other threads of the cluster.
    Cluster,
}

/// A `cp.async` that was issued and not yet waited for.
pub(super) struct Copying {
    pub lane: usize,
    /// The number of its group, counted for each lane.
    pub group: u32,
    pub to: usize,
    pub size: usize,
    pub data: [u8; 16],
}

pub(super) struct Warp {
    pub index: usize,
    pub registers: Vec<Row>,
    pub predicates: Vec<u32>,
    pub carry: u32,
    pub now: Frame,
    stack: Vec<Frame>,
    /// The lanes that exist in the block, and those of them that have not returned.
    pub lanes: u32,
    pub live: u32,
    /// The lanes that have accessed shared memory since the warp last waited as a whole, and those that have returned with that
    /// unpublished.
    pub open: u32,
    lost: u32,
    pub state: State,
    pub knowledge: Knowledge,
    /// Whether the instruction is to be executed once more when the warp goes on.
    pub again: bool,
    /// Whether the next wait for an mbarrier gives up.
    pub timed_out: bool,
    pub local: Vec<u8>,
    /// For each byte of `local`: whether it was written.
    pub local_written: Vec<bool>,
    pub copies: Vec<Copying>,
    /// For each lane: the number of cp.async groups it has committed.
    pub groups: [u32; 32],
    pub bulk: BulkStores,
    pub matrices: Matrices,
    /// The phase of the cluster's barrier at which it has arrived and not yet waited.
    pub cluster: Option<u32>,
    /// Registers of each thread, as `setmaxnreg` changes them, and how often it did.
    pub held: (u32, u32),
    /// The address of the last instruction executed.
    pub at: u32,
}

impl Warp {
    pub fn new(index: usize) -> Self {
        Warp {
            index,
            registers: Vec::new(),
            predicates: Vec::new(),
            carry: 0,
            now: Frame { pc: 0, meet: END, mask: 0, held: false, parked: None },
            stack: Vec::new(),
            lanes: 0,
            live: 0,
            open: 0,
            lost: 0,
            state: State::Done,
            knowledge: Knowledge::default(),
            again: false,
            timed_out: false,
            local: Vec::new(),
            local_written: Vec::new(),
            copies: Vec::new(),
            groups: [0; 32],
            bulk: BulkStores::default(),
            matrices: Matrices::default(),
            cluster: None,
            held: (0, 0),
            at: 0,
        }
    }

    pub fn reset(&mut self, program: &Program, lanes: u32, local_bytes: usize) {
        self.registers.clear();
        self.registers.resize(program.rows, [0; 32]);
        self.predicates.clear();
        self.predicates.resize(program.predicates, 0);
        self.predicates[0] = u32::MAX;
        self.carry = 0;
        self.now = Frame { pc: 0, meet: END, mask: lanes, held: false, parked: None };
        self.stack.clear();
        (self.lanes, self.live, self.open, self.lost) = (lanes, lanes, 0, 0);
        self.state = State::Ready;
        self.knowledge.clear();
        (self.again, self.timed_out) = (false, false);
        self.local.clear();
        self.local.resize(local_bytes * 32, 0);
        self.local_written.clear();
        self.local_written.resize(local_bytes * 32, false);
        self.copies.clear();
        self.groups = [0; 32];
        self.bulk.clear();
        self.matrices.clear(program);
        self.cluster = None;
        self.held = (0, 0);
        self.at = 0;
    }

    /// The lanes of which all is known that they did when these lanes publish what they did: those that do not exist too, and those
    /// that had nothing left to publish when they returned.
    pub fn publishing(&self, mask: u32) -> u32 {
        mask | !self.live & !self.lost
    }

    #[inline(always)]
    pub fn row<'a>(&'a self, constants: &'a [Row], r: R) -> &'a Row {
        if r & CONSTANT != 0 { &constants[(r & !CONSTANT) as usize] } else { &self.registers[r as usize] }
    }

    #[inline(always)]
    pub fn put(&mut self, d: R, value: &Row, mask: u32) {
        if d == NOWHERE {
            return;
        }
        let row = &mut self.registers[d as usize];
        if mask == u32::MAX {
            *row = *value;
            return;
        }
        for i in 0..32 {
            row[i] = if mask >> i & 1 == 1 { value[i] } else { row[i] };
        }
    }

    #[inline(always)]
    pub fn put_predicate(&mut self, p: P, value: u32, mask: u32) {
        if p != NOWHERE {
            let old = &mut self.predicates[p as usize];
            *old = *old & !mask | value & mask;
        }
    }

    /// Divergence: the lanes `taken` branch to `target`, the others fall through; all reconverge at `meet`.
    pub fn part(&mut self, taken: u32, target: u32, meet: u32) {
        let Frame { pc, mask, .. } = self.now;
        if meet != END {
            self.stack.push(Frame { pc: meet, ..self.now });
        }
        self.stack.push(Frame { pc: pc + 1, meet, mask: mask & !taken, held: false, parked: None });
        self.now = Frame { pc: target, meet, mask: taken, held: false, parked: None };
    }

    /// Yields to the other side of a branch, so that a warp-wide instruction can run with the lanes of both. If both
    /// sides wait at the same instruction, merges them. `false`: there is no other side, or it waits at another
    /// instruction.
    ///
    /// Sides that reconverge only at the kernel's end can thus merge earlier, except for lanes that return before.
    #[cold]
    pub fn defer(&mut self) -> bool {
        match self.stack.last_mut() {
            Some(other) if other.meet != self.now.meet || other.mask == 0 => false,
            Some(other) if !other.held => {
                self.now.held = true;
                std::mem::swap(&mut self.now, other);
                true
            }
            Some(other) if other.pc == self.now.pc => {
                self.now.mask |= other.mask;
                self.stack.pop();
                true
            }
            _ => false,
        }
    }

    /// Lets the other side of a branch run while these lanes wait for an mbarrier. `false`: there is none, or it waits too, and no
    /// event has come since.
    #[cold]
    pub fn park(&mut self, events: u64) -> bool {
        match self.stack.last_mut() {
            Some(other)
                if other.meet == self.now.meet && other.mask != 0 && !other.held && other.parked != Some(events) =>
            {
                self.now.parked = Some(events);
                std::mem::swap(&mut self.now, other);
                true
            }
            _ => false,
        }
    }

    /// The other side of a branch, if it waits for an mbarrier.
    pub fn parked(&self) -> Option<&Frame> {
        let other = self.stack.last()?;
        (other.meet == self.now.meet && other.mask != 0 && !other.held && other.parked.is_some()).then_some(other)
    }

    /// Goes on with the other side of a branch.
    pub fn switch(&mut self) {
        if let Some(other) = self.stack.last_mut() {
            self.now.parked.get_or_insert(0);
            std::mem::swap(&mut self.now, other);
        }
    }

    pub fn exit(&mut self, lanes: u32) {
        self.lost |= lanes & self.open;
        self.live &= !lanes;
        self.now.mask &= !lanes;
        for frame in &mut self.stack {
            frame.mask &= !lanes;
        }
    }

    /// Pops the divergence stack while the current lanes have reconverged or returned. `false`: no lane is left.
    #[inline]
    pub fn settle(&mut self) -> bool {
        while self.now.pc == self.now.meet || self.now.mask == 0 {
            match self.stack.pop() {
                Some(frame) => self.now = frame,
                None => return false,
            }
        }
        true
    }
}
