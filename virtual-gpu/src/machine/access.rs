//! Loads, stores, atomics and asynchronous copies, with their checks.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::alike::Alike;
use super::counts::Counts;
use super::exec::{Done, Env, lanes};
use super::footprint::SECTOR;
use super::memory::{Allocation, BLOCK, LAUNCH, WRITTEN, shadow_words};
use super::order;
use super::program::*;
use super::shared::{Actor, Fault, Touch};
use super::space::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW};
use super::trap::TrapKind;
use super::warp::{Copying, Warp};
use crate::arith::mma;

fn load(found: &Allocation, at: usize, size: usize) -> u64 {
    match size {
        1 => found.u8(at).load(Relaxed).into(),
        2 => found.u16(at).load(Relaxed).into(),
        4 => found.u32(at).load(Relaxed).into(),
        _ => found.u64(at).load(Relaxed),
    }
}

fn store(found: &Allocation, at: usize, size: usize, value: u64) {
    match size {
        1 => found.u8(at).store(value as u8, Relaxed),
        2 => found.u16(at).store(value as u16, Relaxed),
        4 => found.u32(at).store(value as u32, Relaxed),
        _ => found.u64(at).store(value, Relaxed),
    }
}

/// Bytes from which on a read is first looked at as a whole: one of bulk copies.
const LONG: usize = 32;

impl<'a> Env<'a> {
    /// The allocation that holds the whole access, and the offset in it.
    #[inline]
    pub(super) fn global(
        &mut self,
        address: u64,
        bytes: usize,
        lane: usize,
        verb: &str,
    ) -> Result<(&'a Allocation, usize), Box<Fault>> {
        let allocations = self.allocations;
        let last = allocations.get(self.last);
        let found = match last {
            Some(last) if last.contains(address, bytes) => last,
            _ => {
                let after = allocations.partition_point(|found| found.base <= address);
                match after.checked_sub(1).map(|at| (at, &allocations[at])) {
                    Some((at, found)) if found.contains(address, bytes) => {
                        self.last = at;
                        found
                    }
                    _ => {
                        let place = self.memory.describe(address, allocations);
                        let message = format!("{verb} of {bytes} bytes at {address:#x}: {place}");
                        return Err(Fault::new(TrapKind::IllegalAddress, lane, message));
                    }
                }
            }
        };
        Ok((found, (address - found.base) as usize))
    }

    /// The state space of a generic address, and the address in that space.
    pub(super) fn resolve(area: Area, address: u64) -> (Area, u64) {
        match area {
            Area::Generic => match address {
                SHARED_WINDOW.. if address < SHARED_WINDOW + WINDOW => (Area::Shared, address - SHARED_WINDOW),
                LOCAL_WINDOW.. if address < LOCAL_WINDOW + WINDOW => (Area::Local, address - LOCAL_WINDOW),
                PARAM_WINDOW.. if address < PARAM_WINDOW + WINDOW => (Area::Param, address - PARAM_WINDOW),
                _ => (Area::Global, address),
            },
            area => (area, address),
        }
    }

    pub(super) fn aligned(address: u64, bytes: usize, lane: usize, verb: &str) -> Done {
        if address.is_multiple_of(bytes as u64) {
            return Ok(());
        }
        let message = format!("{verb} of {bytes} bytes at {address:#x}, which is not a multiple of {bytes}");
        Err(Fault::new(TrapKind::MisalignedAddress, lane, message))
    }

    pub(super) fn shared_bounds(
        &self,
        address: u64,
        bytes: usize,
        lane: usize,
        verb: &str,
    ) -> Result<usize, Box<Fault>> {
        let size = self.shared.size();
        match address.checked_add(bytes as u64) {
            Some(end) if end <= size as u64 => Ok(address as usize),
            _ => {
                let message =
                    format!("{verb} of {bytes} bytes at shared address {address:#x}: the block has {size} bytes");
                Err(Fault::new(TrapKind::SharedOutOfBounds, lane, message))
            }
        }
    }

    fn local_bounds(&self, address: u64, bytes: usize, lane: usize, verb: &str) -> Result<usize, Box<Fault>> {
        match address.checked_add(bytes as u64) {
            Some(end) if end <= self.local_bytes as u64 => Ok(lane * self.local_bytes + address as usize),
            _ => {
                let has = self.local_bytes;
                let message =
                    format!("{verb} of {bytes} bytes at local address {address:#x}: the thread has {has} bytes");
                Err(Fault::new(TrapKind::LocalOutOfBounds, lane, message))
            }
        }
    }

    pub(super) fn load(&mut self, warp: &mut Warp, access: &Access, mask: u32) -> Done {
        let bytes = access.size * access.lanes;
        let base = *warp.row(&self.program.constants, access.base);
        let mut values = [[0u64; 32]; 4];
        // The lane before, and how many in succession have read from its address.
        let (mut last, mut same) = (0, 0);
        let mut alike = Alike::default();
        for lane in lanes(mask) {
            same = if same > 0 && base[lane] == base[last] { same + 1 } else { 1 };
            let before = std::mem::replace(&mut last, lane);
            let (area, address) = Self::resolve(access.area, base[lane].wrapping_add_signed(access.offset));
            // What two threads may read, and have been noted for, so may the others of their warp if they know the same.
            if same > 2 && area != Area::Local && warp.knowledge.is_common() {
                values.iter_mut().take(access.lanes).for_each(|value| value[lane] = value[before]);
                warp.open |= 1 << lane;
                continue;
            }
            Self::aligned(address, bytes, lane, "read")?;
            match area {
                Area::Shared => {
                    let at = self.shared_bounds(address, bytes, lane, "read")?;
                    warp.open |= 1 << lane;
                    let touch = if access.strong { Touch::StrongRead } else { Touch::Read };
                    self.shared.touch_alike(at, bytes, Actor::thread(warp, lane), touch, &mut alike)?;
                    for (i, value) in values.iter_mut().enumerate().take(access.lanes) {
                        value[lane] = self.shared.load(at + i * access.size, access.size);
                    }
                }
                Area::Local => {
                    let at = self.local_bounds(address, bytes, lane, "read")?;
                    for (i, value) in values.iter_mut().enumerate().take(access.lanes) {
                        let bytes = at + i * access.size..at + (i + 1) * access.size;
                        // One written byte suffices: structures are copied together with their padding.
                        if self.checks && !warp.local_written[bytes.clone()].contains(&true) {
                            let message = format!("read of {} bytes at local address {address:#x}", access.size);
                            let message = message + ": the thread never wrote them";
                            return Err(Fault::new(TrapKind::Uninitialised, lane, message));
                        }
                        value[lane] = little(&warp.local[bytes]);
                    }
                }
                Area::Param => {
                    let end = address.checked_add(bytes as u64).filter(|end| *end <= self.params.len() as u64);
                    if end.is_none() {
                        let message = format!("read of {bytes} bytes at offset {address:#x} of the parameters");
                        return Err(Fault::new(TrapKind::LocalOutOfBounds, lane, message));
                    }
                    for (i, value) in values.iter_mut().enumerate().take(access.lanes) {
                        value[lane] = little(&self.params[address as usize + i * access.size..][..access.size]);
                    }
                }
                _ => {
                    let (found, at) = self.global(address, bytes, lane, "read")?;
                    self.polled |= access.strong;
                    if self.checks {
                        self.acquired |= access.strong;
                        self.readable((found, at), bytes, access.fixed, lane, "read")?;
                        let touch = if access.strong { order::Touch::StrongRead } else { order::Touch::Read };
                        self.in_order((found, at), bytes, touch, lane, "read")?;
                    }
                    for (i, value) in values.iter_mut().enumerate().take(access.lanes) {
                        value[lane] = load(found, at + i * access.size, access.size);
                    }
                }
            }
        }
        if self.count {
            self.measure(access.area, bytes, &base, access.offset, mask, false);
        }
        for (i, row) in values.iter_mut().enumerate().take(access.lanes) {
            if access.regs[i] == NOWHERE {
                continue;
            }
            if access.sign_from != 0 {
                let unused = 64 - access.sign_from;
                for value in row.iter_mut() {
                    *value = ((*value << unused) as i64 >> unused) as u64 & access.keep[i];
                }
            }
            warp.put(access.regs[i], row, mask);
        }
        Ok(())
    }

    pub(super) fn store(&mut self, warp: &mut Warp, access: &Access, mask: u32) -> Done {
        let bytes = access.size * access.lanes;
        let base = *warp.row(&self.program.constants, access.base);
        let mut alike = Alike::default();
        for lane in lanes(mask) {
            let (area, address) = Self::resolve(access.area, base[lane].wrapping_add_signed(access.offset));
            Self::aligned(address, bytes, lane, "write")?;
            let values: [u64; 4] = std::array::from_fn(|i| match access.regs[i] {
                NOWHERE => 0,
                r => warp.row(&self.program.constants, r)[lane],
            });
            match area {
                Area::Shared => {
                    let at = self.shared_bounds(address, bytes, lane, "write")?;
                    warp.open |= 1 << lane;
                    for (i, value) in values.iter().copied().enumerate().take(access.lanes) {
                        let at = at + i * access.size;
                        let keep = u64::MAX >> (64 - 8 * access.size);
                        let new = value & keep;
                        let changes = self.checks && self.shared.load(at, access.size) != new;
                        let touch = if access.strong { Touch::StrongWrite(changes) } else { Touch::Write(changes) };
                        self.shared.touch_alike(at, access.size, Actor::thread(warp, lane), touch, &mut alike)?;
                        self.shared.store(at, access.size, new);
                    }
                }
                Area::Local => {
                    let at = self.local_bounds(address, bytes, lane, "write")?;
                    for (i, value) in values.iter().copied().enumerate().take(access.lanes) {
                        let bytes = value.to_le_bytes();
                        let at = at + i * access.size;
                        warp.local[at..][..access.size].copy_from_slice(&bytes[..access.size]);
                        warp.local_written[at..][..access.size].fill(true);
                    }
                }
                Area::Param => return Err(Fault::new(TrapKind::LaunchFailed, lane, "parameters are read-only")),
                _ => {
                    let (found, at) = self.global(address, bytes, lane, "write")?;
                    for (i, value) in values.iter().copied().enumerate().take(access.lanes) {
                        self.store_global(found, at + i * access.size, access.size, value, access.strong, lane)?;
                    }
                }
            }
        }
        if self.count {
            self.measure(access.area, bytes, &base, access.offset, mask, true);
        }
        Ok(())
    }

    pub(super) fn store_global(
        &self,
        found: &Allocation,
        at: usize,
        size: usize,
        value: u64,
        strong: bool,
        lane: usize,
    ) -> Done {
        if !self.checks {
            store(found, at, size, value);
            return Ok(());
        }
        let touch = if strong { order::Touch::StrongWrite } else { order::Touch::Write };
        self.in_order((found, at), size, touch, lane, "write")?;
        let old = load(found, at, size);
        let new = value & (u64::MAX >> (64 - 8 * size));
        store(found, at, size, new);
        for (word, mask) in shadow_words(at, size) {
            let Some(shadow) = found.shadow(word) else { continue };
            let changed = if old != new { mask << 8 } else { 0 };
            let mine = match strong {
                true if size < 4 => 0,
                true => self.tag & LAUNCH,
                false => self.tag | mask << 4 | changed,
            };
            let kept = |before: u64| {
                let same = before & (LAUNCH | BLOCK) == self.tag && !strong;
                mine | (before & WRITTEN | mask) | if same { before & (WRITTEN << 4 | WRITTEN << 8) } else { 0 }
            };
            let before = if mask == WRITTEN {
                shadow.swap(kept(shadow.load(Relaxed)), Relaxed)
            } else {
                let before = shadow.fetch_update(Relaxed, Relaxed, |before| Some(kept(before)));
                before.unwrap_or_else(|before| before)
            };
            let raced = !strong
                && !self.acquired
                && before & mask << 4 != 0
                && self.by_another(before)
                // Two writes of the same value are no race: no reader can tell them apart.
                && old != new
                && load(found, at, size) == new;
            if raced {
                let block = (before & BLOCK) >> 12;
                let message = format!(
                    "write of {size} bytes at {:#x}, {at} bytes into the allocation of {} bytes at {:#x}: block number \
                     {block} of this launch wrote another value there",
                    found.base + at as u64,
                    found.size,
                    found.base
                );
                return Err(Fault::new(TrapKind::GlobalRace, lane, message));
            }
        }
        Ok(())
    }

    /// Whether the shadow word was last written by another block of this launch.
    #[inline]
    fn by_another(&self, shadow: u64) -> bool {
        shadow & LAUNCH == self.tag & LAUNCH && (shadow ^ self.tag) & BLOCK != 0
    }

    /// Checks a read of global memory. Its bytes must have been written. If another block of this launch wrote them,
    /// this block must have executed a synchronising access (`acquired`). A `fixed` (`.nc`) read must not see bytes
    /// that this launch wrote.
    #[inline]
    pub(super) fn readable(
        &self,
        (found, at): (&Allocation, usize),
        bytes: usize,
        fixed: bool,
        lane: usize,
        verb: &str,
    ) -> Done {
        if bytes >= LONG && at.is_multiple_of(4) && bytes.is_multiple_of(4) {
            let old = |shadow: &AtomicU64| {
                let shadow = shadow.load(Relaxed);
                let launch = shadow & LAUNCH;
                let ahead = self.unwaited != 0 && launch == self.unwaited;
                shadow & WRITTEN == WRITTEN && launch != self.tag & LAUNCH && !ahead
            };
            if found.shadows(at, bytes).iter().all(old) {
                return Ok(());
            }
        }
        for (word, mask) in shadow_words(at, bytes) {
            let Some(shadow) = found.shadow(word) else { return Ok(()) };
            let shadow = shadow.load(Relaxed);
            let unwritten = shadow & mask != mask;
            let changed = shadow & mask << 8 != 0 && (shadow ^ self.tag) & LAUNCH == 0;
            if self.unwaited != 0 && shadow & mask << 4 != 0 && shadow & LAUNCH == self.unwaited {
                return Err(ahead((found, at), bytes, lane, verb));
            }
            if unwritten || changed && (fixed || !self.acquired && self.by_another(shadow)) {
                let why = if unwritten {
                    "they were never written".to_string()
                } else if fixed {
                    "this launch wrote them, and an ld.global.nc need not see the launch's own writes".to_string()
                } else {
                    let block = (shadow & BLOCK) >> 12;
                    format!("block number {block} of this launch wrote them, and this block has not waited for another")
                };
                return Err(unreadable(unwritten, (found, at), bytes, lane, verb, &why));
            }
        }
        Ok(())
    }

    pub(super) fn atomic(&mut self, warp: &mut Warp, op: &Op, mask: u32) -> Done {
        let Op::Atomic { access, f, on_shared, b, c } = op else { return Ok(()) };
        let size = access.size;
        let base = *warp.row(&self.program.constants, access.base);
        let (b, c) = (*warp.row(&self.program.constants, *b), *warp.row(&self.program.constants, *c));
        let mut result = [0; 32];
        for lane in lanes(mask) {
            let (area, address) = Self::resolve(access.area, base[lane].wrapping_add_signed(access.offset));
            Self::aligned(address, size, lane, "atomic update")?;
            let update = |old| f(old, b[lane], c[lane]);
            result[lane] = match area {
                Area::Shared => {
                    let at = self.shared_bounds(address, size, lane, "atomic update")?;
                    warp.open |= 1 << lane;
                    self.shared.touch(at, size, Actor::thread(warp, lane), Touch::Atomic)?;
                    let old = self.shared.load(at, size);
                    let new = on_shared.as_ref().map_or_else(|| update(old), |f| f(old, b[lane], c[lane]));
                    self.shared.store(at, size, new);
                    old
                }
                Area::Global | Area::Generic => {
                    let (found, at) = self.global(address, size, lane, "atomic update")?;
                    let old = self.update_global(found, at, size, lane, update)?;
                    // An old value that is kept may tell the block that another block has written its data.
                    self.acquired |= self.checks && access.regs[0] != NOWHERE;
                    self.polled = true;
                    old
                }
                _ => return Err(Fault::new(TrapKind::IllegalAddress, lane, "atomic update of local memory")),
            };
        }
        if self.count {
            self.measure(access.area, size, &base, access.offset, mask, true);
        }
        warp.put(access.regs[0], &result, mask);
        Ok(())
    }

    /// Replaces a number in global memory by `update` of it; returns the old one.
    pub(super) fn update_global(
        &self,
        found: &Allocation,
        at: usize,
        size: usize,
        lane: usize,
        update: impl Fn(u64) -> u64,
    ) -> Result<u64, Box<Fault>> {
        if self.checks {
            self.readable((found, at), size, false, lane, "atomic update")?;
            self.in_order((found, at), size, order::Touch::StrongWrite, lane, "atomic update")?;
            self.mark_atomic(found, at, size);
        }
        Ok(match size {
            2 => {
                found.u16(at).fetch_update(Relaxed, Relaxed, |old| Some(update(old.into()) as u16)).map_or(0, u64::from)
            }
            4 => {
                found.u32(at).fetch_update(Relaxed, Relaxed, |old| Some(update(old.into()) as u32)).map_or(0, u64::from)
            }
            _ => found.u64(at).fetch_update(Relaxed, Relaxed, |old| Some(update(old))).unwrap_or_default(),
        })
    }

    pub(super) fn async_copy(&mut self, warp: &mut Warp, op: &Op, mask: u32) -> Done {
        let Op::AsyncCopy { to, to_offset, from, from_offset, size, source_size, ignore } = op else { return Ok(()) };
        let constants = &self.program.constants;
        let (to, from) = (*warp.row(constants, *to), *warp.row(constants, *from));
        let wanted = *warp.row(constants, *source_size);
        let ignored = ignore.lanes(&warp.predicates);
        // The lanes that read at all. A lane that reads no bytes may have any source address.
        let mut read = 0;
        let mut alike = Alike::default();
        warp.open |= mask;
        for lane in lanes(mask) {
            let (target, source) =
                (to[lane].wrapping_add_signed(*to_offset), from[lane].wrapping_add_signed(*from_offset));
            Self::aligned(target, *size, lane, "cp.async")?;
            let at = self.shared_bounds(target, *size, lane, "cp.async")?;
            let bytes = if ignored >> lane & 1 == 1 { 0 } else { wanted[lane] as usize };
            if bytes > *size {
                let message = format!("cp.async of {size} bytes with a source size of {bytes} bytes");
                return Err(Fault::new(TrapKind::LaunchFailed, lane, message));
            }
            let mut data = [0; 16];
            if bytes > 0 {
                Self::aligned(source, *size, lane, "cp.async")?;
                let (found, from) = self.global(source, bytes, lane, "cp.async")?;
                if self.checks {
                    self.readable((found, from), bytes, false, lane, "cp.async")?;
                    self.in_order((found, from), bytes, order::Touch::Read, lane, "cp.async")?;
                }
                read |= 1 << lane;
                found.read(from, &mut data[..bytes]);
            }
            self.shared.touch_alike(at, *size, Actor::thread(warp, lane), Touch::Issue, &mut alike)?;
            warp.copies.push(Copying { lane, group: warp.groups[lane], to: at, size: *size, data });
        }
        if self.count {
            self.measure(Area::Global, *size, &from, *from_offset, read, false);
            self.measure(Area::Shared, *size, &to, *to_offset, mask, true);
        }
        Ok(())
    }

    /// Completes the copies of all but the last `left` groups. `None` also completes copies not yet in a group.
    pub(super) fn complete_async_copies(&mut self, warp: &mut Warp, left: Option<u32>, mask: u32) -> Done {
        let copies = std::mem::take(&mut warp.copies);
        for copy in copies {
            let ends = left.is_none_or(|left| u64::from(copy.group) + u64::from(left) < warp.groups[copy.lane].into());
            if mask >> copy.lane & 1 == 1 && ends {
                self.shared.slice_mut(copy.to, copy.size).copy_from_slice(&copy.data[..copy.size]);
                self.shared.touch(copy.to, copy.size, Actor::thread(warp, copy.lane), Touch::Arrive)?;
            } else {
                warp.copies.push(copy);
            }
        }
        Ok(())
    }

    pub(super) fn load_matrix(
        &mut self,
        warp: &mut Warp,
        (base, offset): (R, i64),
        d: &[R],
        trans: bool,
        mask: u32,
    ) -> Done {
        self.whole_warp(mask)?;
        let base = *warp.row(&self.program.constants, base);
        let mut alike = Alike::default();
        warp.open |= mask;
        for (matrix, d) in d.iter().enumerate() {
            let mut rows = [[0u16; 8]; 8];
            for (i, row) in rows.iter_mut().enumerate() {
                let lane = matrix * 8 + i;
                let address = base[lane].wrapping_add_signed(offset);
                Self::aligned(address, 16, lane, "ldmatrix")?;
                let at = self.shared_bounds(address, 16, lane, "ldmatrix")?;
                // A race is reported for the lane that supplied the address; other lanes receive the values as well.
                let actor = Actor { alone: false, ..Actor::thread(warp, lane) };
                self.shared.touch_alike(at, 16, actor, Touch::Read, &mut alike)?;
                for (value, bytes) in row.iter_mut().zip(self.shared.slice(at, 16).as_chunks().0) {
                    *value = u16::from_le_bytes(*bytes);
                }
            }
            let value = mma::ldmatrix(&rows, trans).map(u64::from);
            warp.put(*d, &value, mask);
            if self.count {
                let addresses = std::array::from_fn(|i| base[matrix * 8 + i % 8]);
                self.measure(Area::Shared, 16, &addresses, offset, 0xff, false);
            }
        }
        Ok(())
    }

    pub(super) fn store_matrix(
        &mut self,
        warp: &mut Warp,
        (area, base, offset): (Area, R, i64),
        s: &[R],
        trans: bool,
        mask: u32,
    ) -> Done {
        self.whole_warp(mask)?;
        let base = *warp.row(&self.program.constants, base);
        warp.open |= mask;
        for (matrix, s) in s.iter().enumerate() {
            let rows = mma::stmatrix(&warp.row(&self.program.constants, *s).map(|value| value as u32), trans);
            for (i, row) in rows.iter().enumerate() {
                let lane = matrix * 8 + i;
                let address = base[lane].wrapping_add_signed(offset);
                let (area, address) = Self::resolve(area, address);
                if area != Area::Shared {
                    let message = format!("stmatrix at {address:#x}, which is not in shared memory");
                    return Err(Fault::new(TrapKind::IllegalAddress, lane, message));
                }
                Self::aligned(address, 16, lane, "stmatrix")?;
                let at = self.shared_bounds(address, 16, lane, "stmatrix")?;
                let mut bytes = [0; 16];
                for (two, value) in bytes.as_chunks_mut().0.iter_mut().zip(row) {
                    *two = value.to_le_bytes();
                }
                let changes = self.shared.slice(at, 16) != bytes;
                let actor = Actor { alone: false, ..Actor::thread(warp, lane) };
                self.shared.touch(at, 16, actor, Touch::Write(changes))?;
                self.shared.slice_mut(at, 16).copy_from_slice(&bytes);
            }
            if self.count {
                let addresses = std::array::from_fn(|i| base[matrix * 8 + i % 8]);
                self.measure(Area::Shared, 16, &addresses, offset, 0xff, true);
            }
        }
        Ok(())
    }

    /// Whether this is the launch's first access to the sector.
    pub(super) fn is_fresh(&mut self, address: u64, lane: usize, write: bool) -> bool {
        let Some(footprint) = self.footprint else { return false };
        // The access itself has already found the allocation.
        let Ok((allocation, _)) = self.global(address, 1, lane, "count") else { return false };
        footprint.first(self.last, allocation, address, write)
    }

    /// Counts the sectors or the bank conflicts of an access.
    fn measure(&mut self, area: Area, bytes: usize, base: &Row, offset: i64, mask: u32, write: bool) {
        let Some(first) = lanes(mask).next() else { return };
        let (area, _) = Self::resolve(area, base[first].wrapping_add_signed(offset));
        let addresses = lanes(mask).map(|lane| Self::resolve(area, base[lane].wrapping_add_signed(offset)).1);
        let mut units = std::mem::take(&mut self.reusable);
        units.clear();
        match area {
            Area::Global | Area::Generic => {
                units.extend(addresses.flat_map(|at| at / SECTOR..=(at + bytes as u64 - 1) / SECTOR));
                units.sort_unstable();
                units.dedup();
                let fresh = units.iter().filter(|&&unit| self.is_fresh(unit * SECTOR, first, write)).count();
                let asked = u64::from(mask.count_ones()) * bytes as u64;
                let counts = &mut self.counts;
                let (total, sectors, footprint) = if write {
                    let Counts { global_store_bytes, global_store_sectors, global_store_footprint, .. } = counts;
                    (global_store_bytes, global_store_sectors, global_store_footprint)
                } else {
                    let Counts { global_load_bytes, global_load_sectors, global_load_footprint, .. } = counts;
                    (global_load_bytes, global_load_sectors, global_load_footprint)
                };
                *total += asked;
                *sectors += units.len() as u64;
                *footprint += fresh as u64;
            }
            Area::Shared => {
                self.counts.shared_accesses += 1;
                // An access is split into groups of lanes that together request 128 bytes.
                let group = (128 / bytes.max(4)).clamp(1, 32);
                let window = if base[first] >= SHARED_WINDOW { SHARED_WINDOW } else { 0 };
                for start in (0..32).step_by(group) {
                    units.clear();
                    let members = lanes(mask & (u32::MAX >> (32 - group)) << start);
                    units.extend(members.flat_map(|lane| {
                        let at = base[lane].wrapping_add_signed(offset).wrapping_sub(window);
                        at / 4..=(at + bytes as u64 - 1) / 4
                    }));
                    units.sort_unstable();
                    units.dedup();
                    let mut banks = [0u64; 32];
                    for word in &units {
                        banks[(*word % 32) as usize] += 1;
                    }
                    self.counts.shared_bank_conflicts += banks.into_iter().max().unwrap_or(0).saturating_sub(1);
                }
            }
            _ => {}
        }
        self.reusable = units;
    }
}

/// A read of what the launch before wrote, with nothing that waits for its end.
#[cold]
fn ahead((found, at): (&Allocation, usize), bytes: usize, lane: usize, verb: &str) -> Box<Fault> {
    let address = found.base + at as u64;
    let message = format!(
        "{verb} of {bytes} bytes at {address:#x}, which the launch before wrote: this one may begin ahead of its end, and the warp \
         has not executed griddepcontrol.wait"
    );
    Fault::new(TrapKind::GridDependency, lane, message)
}

#[cold]
fn unreadable(
    unwritten: bool,
    (found, at): (&Allocation, usize),
    bytes: usize,
    lane: usize,
    verb: &str,
    why: &str,
) -> Box<Fault> {
    let kind = if unwritten { TrapKind::Uninitialised } else { TrapKind::GlobalRace };
    let (address, size, base) = (found.base + at as u64, found.size, found.base);
    let place = format!("{at} bytes into the allocation of {size} bytes at {base:#x}");
    Fault::new(kind, lane, format!("{verb} of {bytes} bytes at {address:#x}, {place}: {why}"))
}

fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
