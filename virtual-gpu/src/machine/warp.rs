//! A warp: registers, the lanes that are at work, and where the others wait to be met.

use super::program::{CONSTANT, END, NOWHERE, P, Program, R, Row};
use super::shared::Seen;

/// Lanes that go on at `pc` once those before them in the stack have come to `meet`.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub pc: u32,
    pub meet: u32,
    pub mask: u32,
    /// These lanes have come to what they do with others, and let the other side of their branch go first.
    pub held: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// At this barrier.
    Waiting(usize),
    Done,
}

/// A copy that was issued and not waited for.
pub(super) struct Copying {
    pub lane: usize,
    /// Which of its lane's groups it belongs to.
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
    /// Lanes that the block has, and those of them that have not returned.
    pub lanes: u32,
    pub live: u32,
    pub state: State,
    pub seen: Seen,
    pub local: Vec<u8>,
    /// Which of its bytes were written.
    pub local_written: Vec<bool>,
    pub copies: Vec<Copying>,
    /// Groups that each lane has committed.
    pub groups: [u32; 32],
    /// Where it stopped last.
    pub at: u32,
}

impl Warp {
    pub fn new(index: usize) -> Self {
        Warp {
            index,
            registers: Vec::new(),
            predicates: Vec::new(),
            carry: 0,
            now: Frame { pc: 0, meet: END, mask: 0, held: false },
            stack: Vec::new(),
            lanes: 0,
            live: 0,
            state: State::Done,
            seen: [0; 32],
            local: Vec::new(),
            local_written: Vec::new(),
            copies: Vec::new(),
            groups: [0; 32],
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
        self.now = Frame { pc: 0, meet: END, mask: lanes, held: false };
        self.stack.clear();
        (self.lanes, self.live) = (lanes, lanes);
        self.state = State::Ready;
        self.seen = [0; 32];
        self.local.clear();
        self.local.resize(local_bytes * 32, 0);
        self.local_written.clear();
        self.local_written.resize(local_bytes * 32, false);
        self.copies.clear();
        self.groups = [0; 32];
        self.at = 0;
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

    /// Some lanes branch, the others do not.
    pub fn part(&mut self, taken: u32, target: u32, meet: u32) {
        let Frame { pc, mask, .. } = self.now;
        if meet != END {
            self.stack.push(Frame { pc: meet, ..self.now });
        }
        self.stack.push(Frame { pc: pc + 1, meet, mask: mask & !taken, held: false });
        self.now = Frame { pc: target, meet, mask: taken, held: false };
    }

    /// Lets the other side of a branch go first, and on with it if both have come to the same instruction. `false`:
    /// there is none, or it waits elsewhere.
    ///
    /// What meets only where the kernel ends may still come together before: all but the lanes that return on the way.
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

    pub fn exit(&mut self, lanes: u32) {
        self.live &= !lanes;
        self.now.mask &= !lanes;
        for frame in &mut self.stack {
            frame.mask &= !lanes;
        }
    }

    /// Goes on with the lanes below, where the current ones have met them or are gone. `false`: nobody is left.
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
