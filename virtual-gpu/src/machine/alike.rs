//! Accesses that are alike: a warp reads or writes whole tiles at one time, and most of their words have the same past. What was found
//! for one word and lane is applied to the others for which nothing else could be found.

use super::agent::{Agent, Who};
use super::knowledge::Knowledge;
use super::shared::{Actor, Cell, Fault, MBARRIER, PENDING, READ_STRONG, SPLIT, Shared, Touch, WRITE_STRONG};

/// See [`Cell::key`].
#[derive(Clone, Copy)]
struct Key(u64, u64, u64);

impl Key {
    /// In registers: as an array the compiler compares it in memory, and waits for it to be written.
    #[inline(always)]
    fn is(self, other: Key) -> bool {
        (self.0 ^ other.0) | (self.1 ^ other.1) | (self.2 ^ other.2) == 0
    }
}

impl Cell {
    /// What an access's verdict depends on if it is the same for all threads of the warps that have written and read the word.
    #[inline(always)]
    fn key(&self) -> Key {
        let times = u64::from(self.written) | u64::from(self.read) << 32;
        let agents = u64::from(self.writer.kind()) | u64::from(self.reader.kind()) << 16;
        Key(self.readers, times, agents | u64::from(self.flags) << 32)
    }
}

/// What an access did to a cell: it does the same to others that are alike. Of accesses of one kind, at one time, by one warp or by
/// one agent that is none of its threads.
#[derive(Default)]
pub(super) struct Alike(Option<Known>);

#[derive(Clone, Copy)]
struct Known {
    key: Key,
    after: Cell,
    /// The lanes that made it, if others might not have been allowed to.
    lanes: Option<u32>,
}

impl Known {
    /// What the access did, if it is the same for each lane of the warp and for each thread of the warps that used the word before.
    fn of(before: &Cell, after: &Cell, actor: Actor, touch: Touch) -> Option<Known> {
        const SPECIAL: u32 = WRITE_STRONG | READ_STRONG | PENDING | MBARRIER | SPLIT;
        let reads = matches!(touch, Touch::Read | Touch::AsyncRead);
        let known = |agent: Agent, generation: u32| {
            actor.all(|knowledge| match agent.who() {
                Who::Thread(thread) => knowledge.has_column(actor.lanes, thread / 32, generation),
                _ => knowledge.has(actor.lanes, agent, generation),
            })
        };
        let shown = || match before.writer.who() {
            Who::Thread(thread) if touch == Touch::AsyncRead => {
                actor.all(|knowledge| knowledge.has_fenced_warp(actor.lanes, thread / 32, before.written))
            }
            _ => true,
        };
        // One thread's own reads are known to it, and those that a thread has published alone to who has waited for it.
        let apart = |thread: usize| {
            thread / 32 == actor.thread / 32 || !actor.all(|knowledge| !knowledge.tells_threads_apart(thread / 32))
        };
        let read = match before.reader.who() {
            Who::Thread(thread) if !before.several() => known(before.reader, before.read) || reads && !apart(thread),
            Who::Nobody | Who::Thread(_) => true,
            _ => before.several() || reads || known(before.reader, before.read),
        };
        let repeats = before.flags & SPECIAL == 0
            && after.flags & SPECIAL & !PENDING == 0
            && (before.writer == Agent::NOBODY || known(before.writer, before.written))
            && shown()
            && read;
        let common = actor.all(Knowledge::is_common);
        repeats.then_some(Known { key: before.key(), after: *after, lanes: (!common).then_some(actor.lanes) })
    }
}

impl Shared {
    /// [`touch`](Shared::touch) of many words at one time: what it does to a cell, it does to the next one that is alike.
    #[inline]
    pub fn touch_alike(
        &mut self,
        at: usize,
        size: usize,
        actor: Actor,
        touch: Touch,
        alike: &mut Alike,
    ) -> Result<(), Box<Fault>> {
        if !self.checks {
            return Ok(());
        }
        // Strong accesses are rare, and a write of the same value may leave the readers.
        let repeats =
            matches!(touch, Touch::Read | Touch::Write(true) | Touch::Issue | Touch::AsyncRead | Touch::AsyncWrite);
        if !repeats || !at.is_multiple_of(4) || !size.is_multiple_of(4) {
            return self.touch(at, size, actor, touch);
        }
        let (mut word, end) = (at / 4, (at + size) / 4);
        loop {
            if let Some(Known { key, after, lanes }) = alike.0
                && lanes.is_none_or(|lanes| lanes == actor.lanes)
            {
                let reads = matches!(touch, Touch::Read | Touch::AsyncRead);
                for cell in &mut self.cells[word..end] {
                    if !key.is(cell.key()) {
                        break;
                    }
                    *cell = if reads {
                        Cell { writer: cell.writer, reader: actor.agent, ..after }
                    } else {
                        Cell { writer: actor.agent, ..after }
                    };
                    word += 1;
                }
            }
            if word == end {
                return Ok(());
            }
            let before = self.cells[word];
            self.touch(word * 4, 4, actor, touch)?;
            alike.0 = Known::of(&before, &self.cells[word], actor, touch);
            word += 1;
        }
    }
}
