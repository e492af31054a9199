//! A block's shared memory, and shadow cells that detect races on it.
//!
//! Two accesses, at least one a write, race unless the earlier one is ordered before the later one (see `clock`), both are strong
//! (atomic, volatile, relaxed), or the later one writes the value already there. Two accesses are ordered only if they are
//!
//! * by one thread,
//! * on both sides of a barrier in which both warps take part (`bar.arrive` orders only the accesses before it),
//! * by one warp, on both sides of a `bar.warp.sync`, for any mask. As in CUDA's manual, shuffles and votes order
//!   nothing,
//! * on both sides of an mbarrier's phase, the earlier one before an arrival, the later one after a wait (see `mbarrier`).
//!
//! Bulk copies and `wgmma` access shared memory through the *async proxy*, and are agents of their own: a copy's writes are
//! ordered once its mbarrier's phase was waited for, the reads of `wgmma` and of bulk stores once their group was. What a thread
//! wrote, they see only after a proxy fence.
//!
//! A word has one shadow cell as long as it is accessed as a whole, then one for each byte.

use super::agent::{Agent, Who};
use super::knowledge::Knowledge;
use super::mbarrier::Mbarriers;
use super::readers::Readers;
use super::trap::TrapKind;
use super::warp::Warp;

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

pub(super) const WRITE_STRONG: u32 = 1;
pub(super) const READ_STRONG: u32 = 2;
/// The target of a `cp.async` that was not yet waited for.
pub(super) const PENDING: u32 = 4;
/// Last written by a `cp.async`.
const ASYNC: u32 = 8;
/// The word's bytes have shadow cells of their own.
pub(super) const SPLIT: u32 = 16;
/// Part of a live mbarrier.
pub(super) const MBARRIER: u32 = 32;
/// The readers have read at different times.
const MANY: u32 = 64;

#[derive(Clone, Copy, PartialEq)]
#[repr(C)]
pub(super) struct Cell {
    /// The columns of those that have read since `reader` was the only reader, all at `read`; 0 while it is. With `MANY` the index
    /// of their list.
    pub readers: u64,
    pub written: u32,
    pub read: u32,
    pub writer: Agent,
    pub reader: Agent,
    pub flags: u32,
}

const UNTOUCHED: Cell =
    Cell { written: 0, read: 0, readers: 0, writer: Agent::NOBODY, reader: Agent::NOBODY, flags: 0 };

impl Cell {
    pub fn several(&self) -> bool {
        self.readers != 0 || self.flags & MANY != 0
    }
}

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
    /// By a `wgmma` or a bulk store, and by a bulk load.
    AsyncRead,
    AsyncWrite,
    /// A read by a bulk copy within shared memory. Nobody is told when it ends, so later writes are not held against it.
    AsyncPeek,
}

/// Who makes an access, for which threads, and what they know.
#[derive(Clone, Copy)]
pub(super) struct Actor<'a> {
    pub agent: Agent,
    /// The thread to name, and the lanes of its warp that make the access together.
    pub thread: usize,
    pub lanes: u32,
    pub knowledge: &'a Knowledge,
    /// The other warps that make it with this one, which must know as much.
    pub beside: &'a [Warp],
    /// Whether the accesses of `thread` itself are ordered before, as they are before its bulk copies. `false` for `ldmatrix` and
    /// `stmatrix`, whose lanes access for each other, and for `wgmma`.
    pub alone: bool,
}

impl<'a> Actor<'a> {
    #[inline]
    pub fn thread(warp: &'a Warp, lane: usize) -> Actor<'a> {
        let thread = warp.index * 32 + lane;
        let (agent, lanes, knowledge) = (Agent::thread(thread), 1 << lane, &warp.knowledge);
        Actor { agent, thread, lanes, knowledge, beside: &[], alone: true }
    }

    #[inline]
    pub fn all(&self, know: impl Fn(&Knowledge) -> bool) -> bool {
        know(self.knowledge) && self.beside.iter().all(|warp| know(&warp.knowledge))
    }
}

#[derive(Default)]
pub(super) struct Shared {
    data: Vec<u8>,
    pub(super) cells: Vec<Cell>,
    bytes: Vec<[Cell; 4]>,
    pub generation: u32,
    pub mbarriers: Mbarriers,
    readers: Readers,
    pub(super) checks: bool,
}

/// The time of an access, and what a cell refers to: the addresses of the mbarriers by their slots, and lists of readers.
struct Now<'a> {
    generation: u32,
    slots: &'a [usize],
    readers: &'a mut Readers,
}

impl Shared {
    pub fn reset(&mut self, size: usize, checks: bool) {
        self.data.clear();
        self.data.resize(size, 0);
        self.checks = checks;
        self.generation = 1;
        self.mbarriers.clear();
        self.readers.clear();
        if checks {
            self.cells.clear();
            self.cells.resize(size.div_ceil(4), UNTOUCHED);
        }
    }

    pub fn size(&self) -> usize {
        self.data.len()
    }

    #[inline]
    pub fn load(&self, at: usize, size: usize) -> u64 {
        let data = &self.data[at..at + size];
        match *data {
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]).into(),
            [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            [a, b] => u16::from_le_bytes([a, b]).into(),
            _ => data[0].into(),
        }
    }

    pub fn store(&mut self, at: usize, size: usize, value: u64) {
        self.data[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }

    pub fn slice(&self, at: usize, size: usize) -> &[u8] {
        &self.data[at..at + size]
    }

    /// Sixteen bytes, within bounds.
    #[inline]
    pub fn chunk(&self, at: usize) -> &[u8; 16] {
        self.data[at..].first_chunk().expect("the bounds were checked")
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
                let (generation, slots) = (self.generation, self.mbarriers.slots());
                check(cell, from, actor, touch, &mut Now { generation, slots, readers: &mut self.readers })?;
            } else {
                self.touch_bytes(from, until, actor, touch)?;
                return self.touch(until, at + size - until, actor, touch);
            }
            from = until;
        }
        Ok(())
    }

    /// Marks the eight bytes of an mbarrier as such, or no longer.
    pub fn mark_mbarrier(&mut self, at: usize, live: bool) {
        if self.checks {
            for cell in &mut self.cells[at / 4..at / 4 + 2] {
                cell.flags = if live { MBARRIER } else { 0 };
            }
        }
    }

    fn touch_bytes(&mut self, from: usize, until: usize, actor: Actor, touch: Touch) -> Result<(), Box<Fault>> {
        let word = from / 4;
        if self.bytes.len() < self.cells.len() {
            self.bytes.resize(self.cells.len(), [UNTOUCHED; 4]);
        }
        if self.cells[word].flags & SPLIT == 0 {
            let cell = &mut self.cells[word];
            self.bytes[word] = [*cell; 4];
            cell.flags |= SPLIT;
        }
        let (generation, slots) = (self.generation, self.mbarriers.slots());
        for at in from..until {
            let now = &mut Now { generation, slots, readers: &mut self.readers };
            check(&mut self.bytes[word][at % 4], at, actor, touch, now)?;
        }
        if self.bytes[word] == [self.bytes[word][0]; 4] {
            self.cells[word] = self.bytes[word][0];
        }
        Ok(())
    }
}

#[inline]
fn ordered(actor: Actor, agent: Agent, generation: u32) -> bool {
    actor.alone && agent == Agent::thread(actor.thread)
        || actor.all(|knowledge| knowledge.has(actor.lanes, agent, generation))
}

fn fault(kind: TrapKind, actor: Actor, message: String) -> Result<(), Box<Fault>> {
    Err(Fault::new(kind, actor.thread % 32, message))
}

#[inline]
fn check(cell: &mut Cell, at: usize, actor: Actor, touch: Touch, now: &mut Now) -> Result<(), Box<Fault>> {
    if touch == Touch::Arrive {
        (cell.written, cell.flags) = (now.generation, cell.flags & !PENDING);
        return Ok(());
    }
    if cell.flags & (PENDING | MBARRIER) != 0 {
        return busy(cell, at, actor, touch, now);
    }
    let strong = matches!(touch, Touch::Atomic | Touch::StrongRead | Touch::StrongWrite(_));
    let excused = strong && cell.flags & WRITE_STRONG != 0;
    let writer_ordered = cell.writer == Agent::NOBODY || excused || ordered(actor, cell.writer, cell.written);
    match touch {
        Touch::Read | Touch::StrongRead | Touch::AsyncRead | Touch::AsyncPeek => {
            if cell.writer == Agent::NOBODY {
                return fault(
                    TrapKind::Uninitialised,
                    actor,
                    format!("shared address {at:#x} is read, but was never written"),
                );
            }
            if !writer_ordered {
                return unordered_read(cell, at, actor, now);
            }
            if matches!(touch, Touch::AsyncRead | Touch::AsyncPeek) {
                fenced(cell, at, actor, now)?;
            }
            if touch == Touch::AsyncPeek {
                return Ok(());
            }
            note_read(cell, actor, strong, now);
        }
        _ => {
            let changes = !matches!(touch, Touch::Write(false) | Touch::StrongWrite(false));
            if !writer_ordered && changes {
                return unordered_write(at, actor, touch, now, (cell.writer, "wrote"));
            }
            let read_excused = cell.reader == Agent::NOBODY || strong && cell.flags & READ_STRONG != 0;
            if !read_excused && changes && !readers_ordered(cell, actor, now.readers) {
                return unordered_write(at, actor, touch, now, (unordered_reader(cell, actor, now.readers), "read"));
            }
            if touch == Touch::Atomic && cell.writer == Agent::NOBODY {
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
                *cell = Cell { written: now.generation, writer: actor.agent, flags, ..UNTOUCHED };
            } else if writer_ordered {
                (cell.written, cell.writer) = (now.generation, actor.agent);
                cell.flags = flags | cell.flags & (READ_STRONG | MANY);
            }
        }
    }
    Ok(())
}

/// An access to what no access may touch now.
#[cold]
fn busy(cell: &Cell, at: usize, actor: Actor, touch: Touch, now: &Now) -> Result<(), Box<Fault>> {
    let reads = matches!(touch, Touch::Read | Touch::StrongRead | Touch::AsyncRead | Touch::AsyncPeek);
    let verb = if reads { "read" } else { "overwritten" };
    if cell.flags & MBARRIER != 0 {
        let message =
            format!("shared address {at:#x} is {verb}, where a live mbarrier lies: mbarrier.inval is missing");
        return fault(TrapKind::Mbarrier, actor, message);
    }
    let message = format!(
        "shared address {at:#x} is {verb} while a cp.async of {} to it is pending: its group was not waited for",
        now.name(cell.writer)
    );
    fault(TrapKind::AsyncCopy, actor, message)
}

#[cold]
fn unordered_read(cell: &Cell, at: usize, actor: Actor, now: &Now) -> Result<(), Box<Fault>> {
    let (kind, why) = match cell.writer.who() {
        Who::Copies(_) => (
            TrapKind::AsyncCopy,
            format!("{} filled; the reader has not waited for the phase that it completed", now.name(cell.writer)),
        ),
        _ if cell.flags & ASYNC != 0 => (
            TrapKind::AsyncCopy,
            format!(
                "{} filled by cp.async; it waited for the copy, but no barrier since then published it",
                now.name(cell.writer)
            ),
        ),
        _ => (TrapKind::SharedRace, format!("{} wrote with no barrier in between", now.name(cell.writer))),
    };
    fault(kind, actor, format!("shared address {at:#x} is read, which {why}"))
}

/// Checks that a proxy fence has shown the word to the async proxy.
#[inline]
fn fenced(cell: &Cell, at: usize, actor: Actor, now: &Now) -> Result<(), Box<Fault>> {
    let Who::Thread(writer) = cell.writer.who() else { return Ok(()) };
    if actor.all(|knowledge| knowledge.has_fenced(actor.lanes, writer, cell.written)) {
        return Ok(());
    }
    let message = format!(
        "{} reads shared address {at:#x}, which {} wrote with no fence.proxy.async since then",
        now.name(actor.agent),
        now.name(cell.writer)
    );
    fault(TrapKind::ProxyFence, actor, message)
}

#[cold]
fn unordered_write(
    at: usize,
    actor: Actor,
    touch: Touch,
    now: &Now,
    (other, verb): (Agent, &str),
) -> Result<(), Box<Fault>> {
    let by = if touch == Touch::AsyncWrite { format!(" by {}", now.name(actor.agent)) } else { String::new() };
    let (kind, why) = match other.who() {
        Who::Thread(_) => {
            (TrapKind::SharedRace, format!("which {} {verb} with no barrier in between", now.name(other)))
        }
        Who::Copies(_) => {
            (TrapKind::InFlight, format!("which {} may still fill: nobody has waited for its phase", now.name(other)))
        }
        _ => (TrapKind::InFlight, format!("which {} may still read: its group was not waited for", now.name(other))),
    };
    fault(kind, actor, format!("shared address {at:#x} is written{by}, {why}"))
}

impl Now<'_> {
    fn name(&self, agent: Agent) -> String {
        match agent.who() {
            Who::Nobody => "nobody".to_string(),
            Who::Thread(thread) => format!("thread {thread}"),
            Who::Matrix(warpgroup) => format!("a wgmma of warpgroup {warpgroup}"),
            Who::Bulk(warp) => format!("a bulk store of warp {warp}"),
            Who::Copies(slot) => match self.slots.get(slot) {
                Some(at) => format!("a bulk copy to the mbarrier at {at:#x}"),
                None => "a bulk copy".to_string(),
            },
        }
    }
}

#[inline]
fn readers_ordered(cell: &Cell, actor: Actor, readers: &Readers) -> bool {
    if !cell.several() {
        return ordered(actor, cell.reader, cell.read);
    }
    unordered_column(cell, actor, readers).is_none()
}

/// Of several readers the column of one that is not ordered.
fn unordered_column(cell: &Cell, actor: Actor, readers: &Readers) -> Option<usize> {
    let has = |column, generation| actor.all(|knowledge| knowledge.has_column(actor.lanes, column, generation));
    if cell.flags & MANY != 0 {
        return readers.of(cell.readers).find(|(column, read)| !has(*column, *read)).map(|(column, _)| column);
    }
    let mut left = cell.readers;
    while left != 0 {
        let column = left.trailing_zeros() as usize;
        if !has(column, cell.read) {
            return Some(column);
        }
        left &= left - 1;
    }
    None
}

/// The reader to name: the last one, if it may be the one that is not ordered.
fn unordered_reader(cell: &Cell, actor: Actor, readers: &Readers) -> Agent {
    match unordered_column(cell, actor, readers) {
        Some(column) if column != cell.reader.column() => Agent::of_column(column),
        _ => cell.reader,
    }
}

#[inline]
fn note_read(cell: &mut Cell, actor: Actor, strong: bool, now: &mut Now) {
    let (me, readers, now) = (actor.agent, &mut *now.readers, now.generation);
    // Lanes of a warp mostly read what others of it do.
    if cell.read == now && cell.flags & (MANY | READ_STRONG) == 0 && cell.readers >> me.column() & 1 == 1 {
        cell.reader = me;
        return;
    }
    let several = cell.several();
    if cell.reader == me && !several || cell.reader == Agent::NOBODY || readers_ordered(cell, actor, readers) {
        (cell.reader, cell.read, cell.readers) = (me, now, 0);
        cell.flags = cell.flags & !(READ_STRONG | MANY) | if strong { READ_STRONG } else { 0 };
        return;
    }
    if !several {
        cell.readers = 1 << cell.reader.column();
    }
    if cell.flags & MANY == 0 && cell.read != now {
        (cell.readers, cell.flags) = (readers.list(cell.readers, cell.read), cell.flags | MANY);
    }
    if cell.flags & MANY != 0 {
        cell.readers = readers.with(cell.readers, me, now);
    } else {
        cell.readers |= 1 << me.column();
    }
    (cell.reader, cell.read) = (me, now);
    if !strong {
        cell.flags &= !READ_STRONG;
    }
}
