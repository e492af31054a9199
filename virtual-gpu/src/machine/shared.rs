//! A block's shared memory, and shadow cells that detect races on it.
//!
//! Time in a block is counted in generations: every barrier and every `bar.warp.sync` begins a new one. For each warp
//! of the block, itself included, a warp knows the last generation whose accesses are ordered before its own. Two
//! accesses by different threads, at least one a write, race unless the earlier one is ordered in this way, both are
//! strong (atomic, volatile, relaxed), or the later one writes the value already there. Two accesses are ordered only
//! if they are
//!
//! * by one thread,
//! * on both sides of a barrier in which both warps take part (`bar.arrive` orders only the accesses before it),
//! * by one warp, on both sides of a `bar.warp.sync`, for any mask. As in CUDA's manual, shuffles and votes order
//!   nothing.
//!
//! A word has one shadow cell as long as it is accessed as a whole, then one for each byte.

use super::trap::TrapKind;

/// The error of one lane, which stops its warp.
pub(super) struct Fault {
    pub kind: TrapKind,
    pub lane: usize,
    pub message: String,
}

impl Fault {
    pub fn new(kind: TrapKind, lane: usize, message: impl Into<String>) -> Box<Fault> {
        Box::new(Fault { kind, lane, message: message.into() })
    }
}

/// For each warp of the block: the last generation whose accesses are known to have happened.
pub(super) type Seen = [u32; 32];

const NOBODY: u16 = u16::MAX;
const WRITE_STRONG: u8 = 1;
const READ_STRONG: u8 = 2;
/// The target of a `cp.async` that was not yet waited for.
const PENDING: u8 = 4;
/// Last written by a `cp.async`.
const ASYNC: u8 = 8;
/// The word's bytes have shadow cells of their own.
const SPLIT: u8 = 16;

#[derive(Clone, Copy, PartialEq)]
struct Cell {
    written: u32,
    read: u32,
    /// The warps that have read since `reader` was the only reader; 0 while it is.
    readers: u32,
    writer: u16,
    reader: u16,
    flags: u8,
}

const UNTOUCHED: Cell = Cell { written: 0, read: 0, readers: 0, writer: NOBODY, reader: NOBODY, flags: 0 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    Read,
    /// A write; `true` if it changes the value.
    Write(bool),
    Atomic,
    StrongRead,
    StrongWrite(bool),
    /// The issue and the completion of a `cp.async`.
    Issue,
    Arrive,
}

/// The thread that makes an access.
#[derive(Clone, Copy)]
pub(super) struct Actor<'a> {
    pub thread: usize,
    pub seen: &'a Seen,
    /// Whether the access is the thread's own, and so ordered after its earlier ones. `false` for `ldmatrix`, whose
    /// lanes read for each other.
    pub alone: bool,
}

#[derive(Default)]
pub(super) struct Shared {
    data: Vec<u8>,
    cells: Vec<Cell>,
    bytes: Vec<[Cell; 4]>,
    pub generation: u32,
    checks: bool,
}

impl Shared {
    pub fn reset(&mut self, size: usize, checks: bool) {
        self.data.clear();
        self.data.resize(size, 0);
        self.checks = checks;
        self.generation = 1;
        if checks {
            self.cells.clear();
            self.cells.resize(size.div_ceil(4), UNTOUCHED);
        }
    }

    pub fn size(&self) -> usize {
        self.data.len()
    }

    pub fn load(&self, at: usize, size: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&self.data[at..at + size]);
        u64::from_le_bytes(bytes)
    }

    pub fn store(&mut self, at: usize, size: usize, value: u64) {
        self.data[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }

    pub fn slice(&self, at: usize, size: usize) -> &[u8] {
        &self.data[at..at + size]
    }

    pub fn slice_mut(&mut self, at: usize, size: usize) -> &mut [u8] {
        &mut self.data[at..at + size]
    }

    /// Checks and records an access. The caller has checked the bounds.
    #[inline]
    pub fn touch(&mut self, at: usize, size: usize, actor: Actor, touch: Touch) -> Result<(), Box<Fault>> {
        if !self.checks {
            return Ok(());
        }
        let mut from = at;
        while from < at + size {
            let word = from / 4;
            let until = (at + size).min(word * 4 + 4);
            let cell = &mut self.cells[word];
            if cell.flags & SPLIT == 0 && until - from == 4 {
                check(cell, from, actor, touch, self.generation)?;
            } else {
                self.touch_bytes(from, until, actor, touch)?;
            }
            from = until;
        }
        Ok(())
    }

    fn touch_bytes(&mut self, from: usize, until: usize, actor: Actor, touch: Touch) -> Result<(), Box<Fault>> {
        let word = from / 4;
        if self.bytes.len() < self.cells.len() {
            self.bytes.resize(self.cells.len(), [UNTOUCHED; 4]);
        }
        if self.cells[word].flags & SPLIT == 0 {
            self.bytes[word] = [self.cells[word]; 4];
            self.cells[word].flags |= SPLIT;
        }
        for at in from..until {
            check(&mut self.bytes[word][at % 4], at, actor, touch, self.generation)?;
        }
        if self.bytes[word] == [self.bytes[word][0]; 4] {
            self.cells[word] = self.bytes[word][0];
        }
        Ok(())
    }
}

fn ordered(actor: Actor, thread: u16, generation: u32) -> bool {
    actor.alone && usize::from(thread) == actor.thread || generation <= actor.seen[usize::from(thread) / 32]
}

fn fault(kind: TrapKind, actor: Actor, message: String) -> Result<(), Box<Fault>> {
    Err(Fault::new(kind, actor.thread % 32, message))
}

#[inline]
fn check(cell: &mut Cell, at: usize, actor: Actor, touch: Touch, now: u32) -> Result<(), Box<Fault>> {
    let me = actor.thread as u16;
    if touch == Touch::Arrive {
        (cell.written, cell.flags) = (now, cell.flags & !PENDING);
        return Ok(());
    }
    if cell.flags & PENDING != 0 {
        let verb = if matches!(touch, Touch::Read | Touch::StrongRead) { "read" } else { "overwritten" };
        let message = format!(
            "shared address {at:#x} is {verb} while a cp.async of thread {} to it is pending: its group was not waited \
             for",
            cell.writer
        );
        return fault(TrapKind::AsyncCopy, actor, message);
    }
    let strong = matches!(touch, Touch::Atomic | Touch::StrongRead | Touch::StrongWrite(_));
    let excused = strong && cell.flags & WRITE_STRONG != 0;
    let writer_ordered = cell.writer == NOBODY || excused || ordered(actor, cell.writer, cell.written);
    match touch {
        Touch::Read | Touch::StrongRead => {
            if cell.writer == NOBODY {
                return fault(
                    TrapKind::Uninitialised,
                    actor,
                    format!("shared address {at:#x} is read, but was never written"),
                );
            }
            if !writer_ordered && cell.flags & ASYNC != 0 {
                let message = format!(
                    "shared address {at:#x} is read, which thread {} filled by cp.async; it waited for the copy, \
                     but no barrier since then published it",
                    cell.writer
                );
                return fault(TrapKind::AsyncCopy, actor, message);
            }
            if !writer_ordered {
                let message = format!(
                    "shared address {at:#x} is read, which thread {} wrote with no barrier in between",
                    cell.writer
                );
                return fault(TrapKind::SharedRace, actor, message);
            }
            note_read(cell, me, actor, now, strong);
        }
        _ => {
            let changes = !matches!(touch, Touch::Write(false) | Touch::StrongWrite(false));
            if !writer_ordered && changes {
                let message = format!(
                    "shared address {at:#x} is written, which thread {} wrote with no barrier in between",
                    cell.writer
                );
                return fault(TrapKind::SharedRace, actor, message);
            }
            let read_excused = cell.reader == NOBODY || strong && cell.flags & READ_STRONG != 0;
            if !read_excused && changes && !readers_ordered(cell, actor) {
                let message = format!(
                    "shared address {at:#x} is written, which thread {} read with no barrier in between",
                    cell.reader
                );
                return fault(TrapKind::SharedRace, actor, message);
            }
            if touch == Touch::Atomic && cell.writer == NOBODY {
                let message = format!("shared address {at:#x} is updated, but was never written");
                return fault(TrapKind::Uninitialised, actor, message);
            }
            let flags = match touch {
                Touch::Issue => PENDING | ASYNC,
                _ if strong => WRITE_STRONG,
                _ => 0,
            };
            // A write of the same value keeps the readers: a later change may still race with them.
            if changes {
                *cell = Cell { written: now, writer: me, flags, ..UNTOUCHED };
            } else if writer_ordered {
                (cell.written, cell.writer, cell.flags) = (now, me, flags | cell.flags & READ_STRONG);
            }
        }
    }
    Ok(())
}

fn readers_ordered(cell: &Cell, actor: Actor) -> bool {
    if cell.readers == 0 {
        return ordered(actor, cell.reader, cell.read);
    }
    let mut left = cell.readers;
    while left != 0 {
        if cell.read > actor.seen[left.trailing_zeros() as usize] {
            return false;
        }
        left &= left - 1;
    }
    true
}

#[inline]
fn note_read(cell: &mut Cell, me: u16, actor: Actor, now: u32, strong: bool) {
    if cell.reader == me && cell.readers == 0 || cell.reader == NOBODY || readers_ordered(cell, actor) {
        (cell.reader, cell.read, cell.readers) = (me, now, 0);
        cell.flags = cell.flags & !READ_STRONG | if strong { READ_STRONG } else { 0 };
        return;
    }
    if cell.readers == 0 {
        cell.readers = 1 << (cell.reader / 32);
    }
    cell.readers |= 1 << (me / 32);
    (cell.reader, cell.read) = (me, now);
    if !strong {
        cell.flags &= !READ_STRONG;
    }
}
