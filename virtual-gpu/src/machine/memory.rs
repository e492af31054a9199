//! Global memory: allocations, their contents, and shadow words that record which bytes were written, and by which
//! block.
//!
//! Addresses of device memory are never reused, so a use after free cannot hit a newer allocation. A gap follows each
//! allocation, so an index slightly out of bounds hits no other allocation.
//!
//! Managed memory is the exception: its address is the host's own, so that both sides use the same bytes with no copies.
//! The host may give that address away again after a free. Managed memory counts as written from the start, because
//! the host's writes are ordinary stores that nothing here sees. Races between blocks are still found in it.

use std::alloc::{Layout, alloc_zeroed};
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use thiserror::Error;

use super::order::NUMBER;
use super::reach::{Home, Reach};

/// The errors of host calls on device memory.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MemoryError {
    #[error("{wanted} bytes do not fit: {free} of {total} are free")]
    OutOfMemory { wanted: usize, free: usize, total: usize },
    #[error("{address:#x} is in no allocation")]
    Unknown { address: u64 },
    #[error("{bytes} bytes at {address:#x} leave their allocation ({base:#x}, {size} bytes)")]
    OutOfBounds { address: u64, bytes: usize, base: u64, size: usize },
    #[error("{address:#x} was freed before")]
    DoubleFree { address: u64 },
    /// An operation of another stream, which nothing orders before this one, accessed the same memory.
    #[error("race between streams: {0}")]
    StreamRace(String),
}

/// The address of the first allocation. Far from 0, so that null pointers and small integers hit no allocation.
const FIRST: u64 = 0x7f_0000_0000;
/// The alignment of every allocation.
const ALIGN: u64 = 256;
/// The unused space after each allocation, in bytes.
const GAP: u64 = 4096;
/// The alignment of managed memory.
const PAGE: usize = 4096;
/// The number of freed allocations remembered for error messages.
const REMEMBERED: usize = 1 << 12;

/// A shadow word describes four bytes of memory. Bits 0-3: which bytes were ever written. Bits 4-7: which of them the
/// last writing block wrote. Bits 8-11: which of those it changed. Bits 12-35: the number of that block. Bits 36-63:
/// the number of its launch, or of the copy or fill that wrote last. A launch with no byte in bits 4-7 wrote by a strong
/// store or an atomic.
pub(super) const WRITTEN: u64 = 0xf;
pub(super) const BLOCK: u64 = 0xff_ffff << 12;
pub(super) const LAUNCH: u64 = !0 << 36;

/// The launch and the block in the bits of a shadow word. Larger numbers are truncated, so a race may be overlooked.
pub(super) fn tag(launch: u64, block: u64) -> u64 {
    launch << 36 | block << 12 & BLOCK
}

/// For each shadow word of an access: the byte offset of its four bytes, and the mask of those accessed.
pub(super) fn shadow_words(at: usize, size: usize) -> impl Iterator<Item = (usize, u64)> {
    (at / 4..(at + size).div_ceil(4)).map(move |word| {
        let low = at.max(word * 4) - word * 4;
        let high = (at + size).min(word * 4 + 4) - word * 4;
        (word * 4, (WRITTEN >> (4 - high)) & (WRITTEN << low))
    })
}

pub(super) struct Allocation {
    pub base: u64,
    pub size: usize,
    words: Box<[AtomicU64]>,
    /// The bytes of `words` before the allocation's first: none, but for managed memory, which begins with a page. And how many
    /// follow that may be accessed.
    skip: usize,
    room: usize,
    /// Whether the host reads and writes the same bytes.
    pub managed: bool,
    pub home: Home,
    /// Empty without checks.
    shadow: Box<[AtomicU64]>,
    /// The readers of every four bytes; see `order`.
    readers: OnceLock<Box<[AtomicU64]>>,
    /// The number of the operation that allocated it in a stream's order, or 0.
    pub born: u64,
}

/// Zeroed words; `None` if the host lacks the memory, where `vec!` would abort the process.
fn zeroed(words: usize) -> Option<Box<[AtomicU64]>> {
    let layout = Layout::array::<AtomicU64>(words).ok()?;
    if layout.size() == 0 {
        return Some(Box::default());
    }
    // SAFETY: the layout is not empty. All-zero bytes are valid `AtomicU64`s. The box frees the memory with the layout
    // of a slice of `words`, by which it was allocated. Pages that are never touched stay unmapped.
    unsafe {
        let first = alloc_zeroed(layout).cast::<AtomicU64>();
        (!first.is_null()).then(|| Box::from_raw(std::ptr::slice_from_raw_parts_mut(first, words)))
    }
}

impl Allocation {
    fn new(base: u64, size: usize, home: Home, checks: bool) -> Option<Self> {
        let shadow = if checks { zeroed(size.div_ceil(4))? } else { Box::default() };
        let (words, room, readers) = (zeroed(size.div_ceil(8))?, size.div_ceil(8) * 8, OnceLock::new());
        Some(Allocation { base, size, words, skip: 0, room, managed: false, home, shadow, readers, born: 0 })
    }

    /// Memory at its real address, in whole pages of its own. An unused page follows it.
    fn managed(size: usize, home: Home, checks: bool) -> Option<Self> {
        let words = zeroed(size.div_ceil(8).checked_add(3 * PAGE / 8)?)?;
        let start = words.as_ptr().expose_provenance();
        let first = start.next_multiple_of(PAGE);
        let shadow = if checks { zeroed(size.div_ceil(4))? } else { Box::default() };
        let (base, skip, room) = (first as u64, first - start, size.next_multiple_of(8));
        let readers = OnceLock::new();
        let made = Allocation { base, size, words, skip, room, managed: true, home, shadow, readers, born: 0 };
        made.mark(0, size, 0);
        Some(made)
    }

    pub fn contains(&self, address: u64, bytes: usize) -> bool {
        address >= self.base
            && (address - self.base).checked_add(bytes as u64).is_some_and(|end| end <= self.size as u64)
    }

    fn at<T>(&self, offset: usize) -> &T {
        assert!(offset + size_of::<T>() <= self.room && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: aligned by the line above, since `skip` is a multiple of 8, and in bounds, since `words` has that many
        // bytes after `skip`. `T` is always an atomic, valid for every bit pattern and under concurrent access.
        unsafe { &*(self.words.as_ptr() as *const u8).add(self.skip + offset).cast::<T>() }
    }

    pub fn u8(&self, offset: usize) -> &AtomicU8 {
        self.at(offset)
    }

    pub fn u16(&self, offset: usize) -> &AtomicU16 {
        self.at(offset)
    }

    pub fn u32(&self, offset: usize) -> &AtomicU32 {
        self.at(offset)
    }

    pub fn u64(&self, offset: usize) -> &AtomicU64 {
        self.at(offset)
    }

    /// The shadow word of the four bytes that hold `offset`; `None` without checks.
    pub fn shadow(&self, offset: usize) -> Option<&AtomicU64> {
        self.shadow.get(offset / 4)
    }

    /// The shadow words of a run of whole words; none without checks.
    pub fn shadows(&self, offset: usize, bytes: usize) -> &[AtomicU64] {
        self.shadow.get(offset / 4..(offset + bytes) / 4).unwrap_or_default()
    }

    /// The readers of every four bytes; `None` without checks, or if the host lacks the memory.
    pub fn readers(&self) -> Option<&[AtomicU64]> {
        let readers = self.readers.get_or_init(|| zeroed(self.shadow.len()).unwrap_or_default());
        (!readers.is_empty()).then_some(readers)
    }

    /// Marks bytes as written by the copy or fill of a number.
    fn mark(&self, offset: usize, bytes: usize, number: u64) {
        for (word, mask) in shadow_words(offset, bytes) {
            let Some(shadow) = self.shadow(word) else { return };
            let written = |before: u64| number << 36 | mask << 4 | before & WRITTEN | mask;
            if mask == WRITTEN {
                shadow.store(written(0), Relaxed);
            } else {
                let _ = shadow.fetch_update(Relaxed, Relaxed, |before| Some(written(before)));
            }
        }
    }

    pub fn write(&self, offset: usize, from: &[u8], number: u64) {
        let head = offset.next_multiple_of(8).min(offset + from.len()) - offset;
        for (i, byte) in from[..head].iter().enumerate() {
            self.u8(offset + i).store(*byte, Relaxed);
        }
        let mut chunks = from[head..].chunks_exact(8);
        let mut at = offset + head;
        for chunk in &mut chunks {
            self.u64(at).store(u64::from_ne_bytes(chunk.try_into().unwrap_or_default()), Relaxed);
            at += 8;
        }
        for (i, byte) in chunks.remainder().iter().enumerate() {
            self.u8(at + i).store(*byte, Relaxed);
        }
        self.mark(offset, from.len(), number);
    }

    pub fn read(&self, offset: usize, into: &mut [u8]) {
        let head = offset.next_multiple_of(8).min(offset + into.len()) - offset;
        for (i, byte) in into[..head].iter_mut().enumerate() {
            *byte = self.u8(offset + i).load(Relaxed);
        }
        let mut chunks = into[head..].chunks_exact_mut(8);
        let mut at = offset + head;
        for chunk in &mut chunks {
            chunk.copy_from_slice(&self.u64(at).load(Relaxed).to_ne_bytes());
            at += 8;
        }
        for (i, byte) in chunks.into_remainder().iter_mut().enumerate() {
            *byte = self.u8(at + i).load(Relaxed);
        }
    }
}

/// All live allocations at one moment, in order of address.
pub(super) type Snapshot = Arc<Vec<Arc<Allocation>>>;

#[derive(Default)]
struct Table {
    live: BTreeMap<u64, Arc<Allocation>>,
    freed: BTreeMap<u64, usize>,
    next: u64,
    /// The bytes in use on each device.
    used: Vec<usize>,
    snapshot: Option<Snapshot>,
}

pub(super) struct Memory {
    table: Mutex<Table>,
    /// The bytes of each device.
    total: usize,
    checks: bool,
}

impl Memory {
    pub fn new(total: usize, devices: usize, checks: bool) -> Self {
        let table = Table { next: FIRST, used: vec![0; devices], ..Table::default() };
        Memory { table: Mutex::new(table), total, checks }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Allocates device memory, or with `managed` memory that the host uses at the same address.
    /// `number` is the operation's that allocates in a stream's order, else 0.
    pub fn alloc(&self, bytes: usize, home: Home, managed: bool, number: u64) -> Result<u64, MemoryError> {
        let mut table = self.table();
        // A device that does not exist has no memory.
        let free = table.used.get(home.device).map_or(0, |used| self.total - used);
        let full = MemoryError::OutOfMemory { wanted: bytes, free, total: self.total };
        if bytes > free {
            return Err(full);
        }
        let made = match managed {
            true => Allocation::managed(bytes, home, self.checks),
            false => Allocation::new(table.next, bytes, home, self.checks),
        };
        let mut made = made.ok_or(full)?;
        made.born = number & NUMBER;
        let base = made.base;
        if managed {
            // The host has given these addresses out again, so they are not those that were freed.
            table.freed.retain(|start, size| start + *size as u64 <= base || *start >= base + bytes as u64);
        } else {
            table.next = (base + bytes as u64 + GAP).next_multiple_of(ALIGN);
        }
        if let Some(used) = table.used.get_mut(home.device) {
            *used += bytes;
        }
        table.live.insert(base, Arc::new(made));
        table.snapshot = None;
        Ok(base)
    }

    pub fn free(&self, address: u64) -> Result<(), MemoryError> {
        let mut table = self.table();
        let Some(gone) = table.live.remove(&address) else {
            let freed = table.freed.contains_key(&address);
            return Err(if freed { MemoryError::DoubleFree { address } } else { MemoryError::Unknown { address } });
        };
        if let Some(used) = table.used.get_mut(gone.home.device) {
            *used -= gone.size;
        }
        table.freed.insert(address, gone.size);
        if table.freed.len() > REMEMBERED {
            table.freed.pop_first();
        }
        table.snapshot = None;
        Ok(())
    }

    /// Free and total bytes of a device.
    pub fn usage(&self, device: usize) -> (usize, usize) {
        (self.total - self.table().used.get(device).unwrap_or(&self.total), self.total)
    }

    /// The live allocations within a launch's reach.
    pub fn snapshot(&self, reach: &Reach) -> Snapshot {
        let mut table = self.table();
        if table.snapshot.is_none() {
            table.snapshot = Some(Arc::new(table.live.values().cloned().collect()));
        }
        let all = table.snapshot.clone().unwrap_or_default();
        let within = |found: &Allocation| found.managed || reach.covers(found.home);
        match all.iter().all(|found| within(found)) {
            true => all,
            false => Arc::new(all.iter().filter(|found| within(found)).cloned().collect()),
        }
    }

    /// The allocation that holds `address`. An empty allocation holds its base address.
    pub fn find(&self, address: u64) -> Option<Arc<Allocation>> {
        let table = self.table();
        let (_, found) = table.live.range(..=address).next_back()?;
        (address - found.base < found.size.max(1) as u64).then(|| found.clone())
    }

    pub fn locate(&self, address: u64, bytes: usize) -> Result<(Arc<Allocation>, usize), MemoryError> {
        let found = self.find(address).ok_or(MemoryError::Unknown { address })?;
        if !found.contains(address, bytes) {
            return Err(MemoryError::OutOfBounds { address, bytes, base: found.base, size: found.size });
        }
        let offset = (address - found.base) as usize;
        Ok((found, offset))
    }

    /// The position of `address` relative to live and freed allocations, in words for an error message. `within` is the
    /// launch's snapshot: an allocation of another device that is not in it is out of the launch's reach.
    pub fn describe(&self, address: u64, within: &[Arc<Allocation>]) -> String {
        let table = self.table();
        if let Some((base, size)) = table.freed.range(..=address).next_back()
            && address - base < *size as u64
        {
            return format!("{} bytes into an allocation of {size} bytes at {base:#x} that was freed", address - base);
        }
        let below = table.live.range(..=address).next_back().map(|(_, found)| {
            let into = address - found.base;
            if into < found.size as u64 {
                let several = table.used.len() > 1;
                let barred = several && within.binary_search_by_key(&found.base, |known| known.base).is_err();
                let why = if barred { found.home.barred() } else { String::new() };
                (0, format!("{into} bytes into the allocation of {} bytes at {:#x}{why}", found.size, found.base))
            } else {
                let past = into - found.size as u64;
                let text =
                    format!("{past} bytes past the end of the allocation of {} bytes at {:#x}", found.size, found.base);
                (past, text)
            }
        });
        let above = table.live.range((Excluded(address), Unbounded)).next().map(|(base, found)| {
            (
                base - address,
                format!("{} bytes before the allocation of {} bytes at {base:#x}", base - address, found.size),
            )
        });
        match below.into_iter().chain(above).min() {
            Some((_, text)) => text,
            None => "there are no allocations".to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_beyond_the_hosts_memory_fail_with_out_of_memory() {
        let memory = Memory::new(usize::MAX, 1, true);
        for bytes in [usize::MAX, usize::MAX / 2, 1 << 60] {
            assert!(
                matches!(memory.alloc(bytes, Home::default(), false, 0), Err(MemoryError::OutOfMemory { .. })),
                "{bytes}"
            );
        }
        assert!(
            memory.alloc(0, Home::default(), false, 0).is_ok() && memory.alloc(16, Home::default(), true, 0).is_ok()
        );
    }
}
