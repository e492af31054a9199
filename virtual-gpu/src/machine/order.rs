//! Order between operations: whether what an operation accesses in global memory was last accessed by one that happened before it.
//!
//! A launch, a copy and a fill each have a number. Shadow words name the last writer of every four bytes by its number, and a second
//! array, which exists only where a question was ever asked, names up to two readers. Which operations happened before which is the
//! driver's knowledge: the machine asks, and remembers the answers.

use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;

use super::exec::{Done, Env};
use super::memory::{Allocation, LAUNCH, WRITTEN, shadow_words};
use super::shared::Fault;
use super::trap::TrapKind;

/// The bits of a number that shadow words have room for.
pub const NUMBER: u64 = (1 << 28) - 1;

/// Asks whether the operation of a number (its low 28 bits) happened before this one; `None`: it did. Otherwise the answer is a
/// clause that names both. The text is what the other operation did to the memory ("wrote them").
pub type Question<'a> = &'a (dyn Fn(u64, &str) -> Option<String> + Sync);

/// An operation on global memory, as others find it.
#[derive(Clone, Copy, Default)]
pub struct Operation<'a> {
    /// From `launch_number`; 0 for an access before which everything happened.
    pub number: u64,
    /// The number of the launch before, if this one may begin ahead of its end, as a programmatic dependent launch may: what that
    /// one wrote, this one may read after `griddepcontrol.wait`.
    pub ahead: Option<u64>,
    /// `None`: everything happened before.
    pub question: Option<Question<'a>>,
}

impl Operation<'_> {
    pub fn numbered(number: u64) -> Self {
        Operation { number, ..Operation::default() }
    }
}

/// How memory is accessed. Strong accesses (atomics, volatile) of two operations are no race.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Touch {
    Read,
    StrongRead,
    Write,
    StrongWrite,
    Free,
}

/// An operation while it is executed, with the answers that it got last.
pub(super) struct Witness<'a> {
    launch: u64,
    question: Option<Question<'a>>,
    /// Operations that happened before, as the `LAUNCH` bits of shadow words, each at the place of its number.
    known: [Cell<u64>; 32],
    /// The operation last found not to have happened before: two streams often read the same memory.
    apart: Cell<u64>,
}

impl<'a> Witness<'a> {
    pub fn of(operation: &Operation<'a>) -> Self {
        let (launch, question) = (operation.number << 36, operation.question);
        Witness { launch, question, known: Default::default(), apart: Cell::new(0) }
    }

    pub fn asks(&self) -> bool {
        self.question.is_some()
    }

    /// The clause that names both operations, if the other did not happen before.
    #[inline]
    fn clash(&self, other: u64, did: &str) -> Option<String> {
        if other == 0 || other == self.launch {
            return None;
        }
        let known = &self.known[(other >> 36) as usize % 32];
        if known.get() == other {
            return None;
        }
        let clash = self.question?(other >> 36, did);
        if clash.is_none() {
            known.set(other);
        }
        clash
    }

    /// Checks an access against the last writer and, if it writes, the last readers; records it if it reads. The error is the clause
    /// that names both operations, with the offset of the first four bytes.
    pub fn check(&self, found: &Allocation, at: usize, bytes: usize, touch: Touch) -> Result<(), (usize, String)> {
        if self.question.is_none() {
            return Ok(());
        }
        let readers = found.readers();
        let strong = matches!(touch, Touch::StrongRead | Touch::StrongWrite);
        for (word, mask) in shadow_words(at, bytes) {
            let Some(shadow) = found.shadow(word) else { return Ok(()) };
            let shadow = shadow.load(Relaxed);
            let (writer, wrote) = (shadow & LAUNCH, shadow >> 4 & WRITTEN);
            let clash = if writer == 0 {
                // Memory is allocated in the order of a stream, too.
                if touch == Touch::Free { None } else { self.clash(found.born << 36, "allocated them") }
            } else if wrote & mask != 0 || wrote == 0 && !strong {
                self.clash(writer, "wrote them")
            } else {
                None
            };
            let Some(readers) = readers.and_then(|readers| readers.get(word / 4)) else {
                clash.map_or(Ok(()), |clash| Err((word, clash)))?;
                continue;
            };
            let before = readers.load(Relaxed);
            let slots = [before & 0xffff_ffff, before >> 32];
            let clash = clash.or_else(|| {
                if matches!(touch, Touch::Read | Touch::StrongRead) {
                    return None;
                }
                let overlapping = slots.into_iter().filter(|slot| slot & mask != 0);
                overlapping.filter_map(|slot| self.clash(reader(slot), "read them")).next()
            });
            clash.map_or(Ok(()), |clash| Err((word, clash)))?;
            // A strong read may overlap a strong write; which reads are strong is not recorded.
            if touch == Touch::Read {
                let after = self.noted(slots, mask);
                if after != before {
                    readers.store(after, Relaxed);
                }
            }
        }
        Ok(())
    }

    /// The two readers of a word after this read. One that happened before this operation gives way: what follows this one follows
    /// it, too. Of three that nothing orders one is forgotten, so a race may be overlooked.
    fn noted(&self, [a, b]: [u64; 2], mask: u64) -> u64 {
        let mine = self.launch >> 32 | mask;
        if reader(a) == self.launch {
            return a | mask | b << 32;
        }
        if reader(b) == self.launch {
            return a | (b | mask) << 32;
        }
        // One that read other bytes as well stays in any case.
        if a & 15 & !mask == 0 && self.follows(reader(a)) { mine | b << 32 } else { a | mine << 32 }
    }

    fn follows(&self, other: u64) -> bool {
        if other != 0 && self.apart.get() == other {
            return false;
        }
        let follows = self.clash(other, "read them").is_none();
        if !follows {
            self.apart.set(other);
        }
        follows
    }
}

/// A reader's number, as the `LAUNCH` bits of a shadow word. A slot holds it in bits 4-31, and the bytes read in bits 0-3.
fn reader(slot: u64) -> u64 {
    slot << 32 & LAUNCH
}

/// The message of a race: the access, and what `Witness::check` found.
pub(super) fn raced(
    verb: &str,
    (found, at): (&Allocation, usize),
    bytes: usize,
    (word, clash): (usize, String),
) -> String {
    let (address, size, base) = (found.base + at as u64, found.size, found.base);
    let from = if word > at { format!(", from {:#x} on", base + word as u64) } else { String::new() };
    let place = format!("{at} bytes into the allocation of {size} bytes at {base:#x}{from}");
    format!("{verb} of {bytes} bytes at {address:#x}, {place}: {clash}")
}

impl Env<'_> {
    /// Checks an access of a kernel against operations of other streams.
    #[inline]
    pub(super) fn in_order(
        &self,
        (found, at): (&Allocation, usize),
        bytes: usize,
        touch: Touch,
        lane: usize,
        verb: &str,
    ) -> Done {
        if !self.witness.asks() {
            return Ok(());
        }
        self.witness
            .check(found, at, bytes, touch)
            .map_err(|race| Fault::new(TrapKind::StreamRace, lane, raced(verb, (found, at), bytes, race)))
    }

    /// Names this launch as the last writer of a word that an atomic changes. The mask of written bytes stays empty, which tells an
    /// atomic from a store. What the launch itself stored there stays as it is, for the checks between blocks.
    pub(super) fn mark_atomic(&self, found: &Allocation, at: usize, size: usize) {
        if size < 4 || !self.witness.asks() {
            return;
        }
        for (word, _) in shadow_words(at, size) {
            let Some(shadow) = found.shadow(word) else { return };
            let own = self.tag & LAUNCH;
            let marked = |before: u64| (before & LAUNCH != own).then_some(own | before & WRITTEN);
            // An error means that the launch is named already.
            let _ = shadow.fetch_update(Relaxed, Relaxed, marked);
        }
    }
}
