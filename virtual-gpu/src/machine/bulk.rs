//! Bulk copies between global and shared memory, of consecutive bytes and of tensor maps' boxes (PTX ISA 9.0, "cp.async.bulk",
//! "cp.async.bulk.tensor", "cp.reduce.async.bulk").
//!
//! A copy is executed when it is issued, by an agent of its own: a load's writes are complete for those who have waited for its
//! mbarrier's phase, a store's reads for those who have waited for its group.

use super::agent::Agent;
use super::alike::Alike;
use super::decode::bulk_function;
use super::exec::{Done, Env, lanes};
use super::footprint::SECTOR;
use super::order;
use super::program::*;
use super::shared::{Actor, Fault, Touch};
use super::trap::TrapKind;
use super::warp::Warp;
use crate::ptx::ast::Type;
use crate::tensor_map::{Element, Mode, Swizzle, TensorMap, swizzle};

/// Sizes and addresses of copies without a tensor map are multiples of this.
const ALIGN: u64 = 16;
/// The alignment of a tensor map's box in shared memory.
const BOX_ALIGN: u64 = 128;

/// Why a copy fails: its operands, or an access.
enum Failure {
    Operands(String),
    Access(Box<Fault>),
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure::Operands(message)
    }
}

impl From<Box<Fault>> for Failure {
    fn from(fault: Box<Fault>) -> Failure {
        Failure::Access(fault)
    }
}

type Copied = Result<(), Failure>;

/// A copy that writes shared memory: its agent, and what it did to the last word.
struct Filling {
    agent: Agent,
    alike: Alike,
}

impl Env<'_> {
    pub(super) fn bulk_copy(&mut self, warp: &mut Warp, copy: &BulkCopy, mask: u32) -> Done {
        for lane in lanes(mask) {
            self.bulk_copy_of(warp, copy, lane).map_err(|failure| match failure {
                Failure::Operands(message) => Fault::new(TrapKind::TensorCopy, lane, message),
                Failure::Access(fault) => fault,
            })?;
        }
        Ok(())
    }

    /// The copy that one thread issues.
    fn bulk_copy_of(&mut self, warp: &mut Warp, copy: &BulkCopy, lane: usize) -> Copied {
        let constants = &self.program.constants;
        let value = |row: R| warp.row(constants, row)[lane];
        let address = |(row, offset): (R, i64)| value(row).wrapping_add_signed(offset);
        let coords = |rows: &[R]| -> Vec<i32> { rows.iter().map(|row| value(*row) as i32).collect() };
        let offsets = |rows: &Option<Vec<R>>| -> Option<Vec<u16>> {
            rows.as_ref().map(|rows| rows.iter().map(|row| value(*row) as u16).collect())
        };
        let (shared, size, mbarrier) = (address(copy.shared), value(copy.size) as u32 as usize, address(copy.mbarrier));
        if let Some(blocks) = copy.multicast.map(value)
            && blocks & 0xffff != 1
        {
            return Err(format!("a multicast to the blocks {blocks:#06x}, but the cluster has one block").into());
        }
        match &copy.bulk {
            Bulk::Load { from } => {
                let from = address(*from);
                let to = self.plain(lane, shared, from, size)?;
                let at = self.mbarrier_signalled(warp, lane, mbarrier)?;
                self.load_run(warp, lane, &mut self.filling(at), (Swizzle::None, to), (from, size), None)?;
                Ok(self.complete_copy(warp, lane, at, size)?)
            }
            Bulk::Store { to } => {
                let to = address(*to);
                let from = self.plain(lane, shared, to, size)?;
                let function = match &copy.reduction {
                    Some(Reduction::Typed(function, bytes)) => Some((function, *bytes)),
                    _ => None,
                };
                let unit = function.map_or(8, |(_, bytes)| bytes);
                let alike = &mut Alike::default();
                self.store_run((warp, lane), alike, (Swizzle::None, from), (to, size), unit, function.map(|it| it.0))?;
                self.bulk_store_issued(warp, lane);
                Ok(())
            }
            Bulk::Prefetch { from } => {
                let (from, size) = (address(*from), size);
                if !from.is_multiple_of(ALIGN) || !(size as u64).is_multiple_of(ALIGN) {
                    return Err(format!("{size} bytes from {from:#x}: both must be multiples of {ALIGN}").into());
                }
                Ok(())
            }
            Bulk::Within { from } => {
                let from = address(*from);
                let to = self.plain(lane, shared, from, size)?;
                let from = self.shared_bounds(from, size, lane, "bulk copy")?;
                let at = self.mbarrier_signalled(warp, lane, mbarrier)?;
                let agent = Agent::bulk(warp.index);
                let actor = Actor { agent, ..Actor::thread(warp, lane) };
                self.shared.touch(from, size, actor, Touch::AsyncPeek)?;
                let data = self.shared.slice(from, size).to_vec();
                self.write_run(warp, lane, &mut self.filling(at), (Swizzle::None, to), &data)?;
                Ok(self.complete_copy(warp, lane, at, size)?)
            }
            Bulk::Values { values, bytes } => {
                let data: Vec<u8> =
                    values.iter().flat_map(|row| value(*row).to_le_bytes().into_iter().take(*bytes)).collect();
                let to = Self::resolve(Area::Shared, shared).1;
                Self::aligned(to, data.len(), lane, "st.async")?;
                let to = self.shared_bounds(to, data.len(), lane, "st.async")?;
                let at = self.mbarrier_signalled(warp, lane, mbarrier)?;
                self.write_run(warp, lane, &mut self.filling(at), (Swizzle::None, to), &data)?;
                Ok(self.complete_copy(warp, lane, at, data.len())?)
            }
            Bulk::TensorLoad { map, coords: at, offsets: within } => {
                let (at, within) = (coords(at), offsets(within));
                let map = self.tensor_map(lane, address(*map))?;
                let to = self.boxed(&map, shared)?;
                let signalled = self.mbarrier_signalled(warp, lane, mbarrier)?;
                let (mode, element, mut filling) = (map.swizzle(), map.element(), self.filling(signalled));
                let visit = |offset: usize, bytes: usize, from: Option<u64>| {
                    let to = (mode, to + offset);
                    match from {
                        Some(from) => self.load_run(warp, lane, &mut filling, to, (from, bytes), Some(element)),
                        None => self.write_run(warp, lane, &mut filling, to, &vec![0; bytes]),
                    }
                };
                match &within {
                    Some(within) => map.visit_im2col(&at, within, visit)?,
                    None => map.visit_tile(&at, visit)?,
                }
                Ok(self.complete_copy(warp, lane, signalled, map.bytes())?)
            }
            Bulk::TensorStore { map, coords: at, im2col } => {
                let at = coords(at);
                let map = self.tensor_map(lane, address(*map))?;
                if *im2col != matches!(map.mode(), Mode::Im2col { .. }) {
                    return Err("the tensor map is in another mode than the store".to_string().into());
                }
                let from = self.boxed(&map, shared)?;
                let (mode, element) = (map.swizzle(), map.element());
                let function = match &copy.reduction {
                    Some(Reduction::ByMap(name)) => match reduction(name, element) {
                        Some(function) => Some(function),
                        None => return Err(format!(".{name} does not exist for elements of {element:?}").into()),
                    },
                    _ => None,
                };
                let mut alike = Alike::default();
                map.visit_store(&at, |offset, bytes, to| {
                    let from = (mode, from + offset);
                    self.store_run((warp, lane), &mut alike, from, (to, bytes), element.bytes(), function.as_ref())
                })?;
                self.bulk_store_issued(warp, lane);
                Ok(())
            }
            Bulk::TensorPrefetch { map, coords: at, offsets: within } => {
                let (at, within) = (coords(at), offsets(within));
                let map = self.tensor_map(lane, address(*map))?;
                // It moves nothing, so its box may be of any size: the first row tells whether the map takes the coordinates.
                let enough = |_: usize, _: usize, _: Option<u64>| Err(None);
                let refused: Option<String> = match &within {
                    Some(within) => map.visit_im2col(&at, within, enough),
                    None => map.visit_tile(&at, enough),
                }
                .err()
                .flatten();
                refused.map_or(Ok(()), |message| Err(message.into()))
            }
        }
    }

    /// The place in shared memory of a copy of consecutive bytes.
    fn plain(&self, lane: usize, shared: u64, global: u64, size: usize) -> Result<usize, Failure> {
        let shared = Self::resolve(Area::Shared, shared).1;
        for (what, value) in [("size", size as u64), ("shared address", shared), ("global address", global)] {
            if !value.is_multiple_of(ALIGN) {
                return Err(format!("the {what} {value:#x} is not a multiple of {ALIGN}").into());
            }
        }
        Ok(self.shared_bounds(shared, size, lane, "bulk copy")?)
    }

    /// The place in shared memory of a tensor map's box.
    fn boxed(&self, map: &TensorMap, shared: u64) -> Result<usize, Failure> {
        if !shared.is_multiple_of(BOX_ALIGN) {
            return Err(
                format!("the box lies at shared address {shared:#x}, which is not a multiple of {BOX_ALIGN}").into()
            );
        }
        let (extent, has) = (map.extent(), self.shared.size());
        match shared.checked_add(extent as u64) {
            Some(end) if end <= has as u64 => Ok(shared as usize),
            _ => {
                Err(format!("a box of {extent} bytes at shared address {shared:#x}, but the block has {has} bytes")
                    .into())
            }
        }
    }

    fn mbarrier_signalled(&self, warp: &Warp, lane: usize, address: u64) -> Result<usize, Failure> {
        let at = self.mbarrier_at(Area::Shared, address, lane)?;
        self.mbarrier_of(warp, lane, at)?;
        Ok(at)
    }

    /// The tensor map at a generic address, whose tensor must still be there.
    fn tensor_map(&mut self, lane: usize, address: u64) -> Result<TensorMap, Failure> {
        if !address.is_multiple_of(64) {
            return Err(format!("a tensor map at {address:#x}, which is not a multiple of 64").into());
        }
        let mut bytes = [0; 128];
        match Self::resolve(Area::Generic, address) {
            (Area::Param, at) => match self.params.get(at as usize..).and_then(|rest| rest.first_chunk()) {
                Some(found) => bytes = *found,
                None => {
                    return Err(format!("a tensor map at offset {at:#x} of the parameters, which end before").into());
                }
            },
            (Area::Global, at) => {
                let (found, at) = self.global(at, bytes.len(), lane, "read of a tensor map")?;
                if self.checks {
                    self.readable((found, at), bytes.len(), false, lane, "read of a tensor map")?;
                    self.in_order((found, at), bytes.len(), order::Touch::Read, lane, "read of a tensor map")?;
                }
                found.read(at, &mut bytes);
            }
            _ => {
                return Err(
                    format!("a tensor map at {address:#x}, which is neither a parameter nor in global memory").into()
                );
            }
        }
        let map = TensorMap::decode(&bytes)?;
        let identity = map.allocation();
        let known = self.allocations.binary_search_by_key(&identity.base, |found| found.base);
        if known.is_err() {
            let place = self.memory.describe(map.address(), self.allocations);
            return Err(format!("the tensor map's memory cannot be accessed: {:#x} is {place}", map.address()).into());
        }
        Ok(map)
    }

    /// A copy that signals an mbarrier.
    fn filling(&self, mbarrier: usize) -> Filling {
        Filling { agent: self.copies_to(mbarrier), alike: Alike::default() }
    }

    /// Loads a run of consecutive bytes.
    fn load_run(
        &mut self,
        warp: &Warp,
        lane: usize,
        filling: &mut Filling,
        to: (Swizzle, usize),
        (from, bytes): (u64, usize),
        element: Option<Element>,
    ) -> Copied {
        let (found, at) = self.global(from, bytes, lane, "bulk copy")?;
        if self.checks {
            self.readable((found, at), bytes, false, lane, "bulk copy")?;
            self.in_order((found, at), bytes, order::Touch::Read, lane, "bulk copy")?;
        }
        let mut data = vec![0; bytes];
        found.read(at, &mut data);
        if let Some(element) = element {
            element.load_run(&mut data);
        }
        if self.count {
            self.count_run(from, bytes, lane, false);
        }
        self.write_run(warp, lane, filling, to, &data)
    }

    /// Writes a run of consecutive bytes, which a swizzle permutes by chunks.
    fn write_run(
        &mut self,
        warp: &Warp,
        lane: usize,
        Filling { agent, alike }: &mut Filling,
        (mode, to): (Swizzle, usize),
        data: &[u8],
    ) -> Copied {
        let actor = Actor { agent: *agent, ..Actor::thread(warp, lane) };
        for (at, from, bytes) in pieces(mode, to, data.len()) {
            self.shared.touch_alike(at, bytes, actor, Touch::AsyncWrite, alike)?;
            self.shared.slice_mut(at, bytes).copy_from_slice(&data[from..from + bytes]);
        }
        Ok(())
    }

    /// Stores a run of consecutive bytes by elements of `unit` bytes, or updates the elements by `function`.
    fn store_run(
        &mut self,
        (warp, lane): (&Warp, usize),
        alike: &mut Alike,
        (mode, from): (Swizzle, usize),
        (to, bytes): (u64, usize),
        unit: usize,
        function: Option<&Atomic>,
    ) -> Copied {
        let agent = Agent::bulk(warp.index);
        let actor = Actor { agent, ..Actor::thread(warp, lane) };
        let mut data = vec![0; bytes];
        for (at, into, bytes) in pieces(mode, from, bytes) {
            self.shared.touch_alike(at, bytes, actor, Touch::AsyncRead, alike)?;
            data[into..into + bytes].copy_from_slice(self.shared.slice(at, bytes));
        }
        let (found, at) = self.global(to, bytes, lane, "bulk store")?;
        for (i, element) in data.chunks_exact(unit).enumerate() {
            let (at, value) =
                (at + i * unit, element.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)));
            match function {
                Some(function) => {
                    self.update_global(found, at, unit, lane, |old| function(old, value, value))?;
                }
                None => self.store_global(found, at, unit, value, false, lane)?,
            }
        }
        if self.count {
            self.count_run(to, bytes, lane, true);
        }
        Ok(())
    }

    /// Counts the bytes and the sectors of a run.
    fn count_run(&mut self, address: u64, bytes: usize, lane: usize, write: bool) {
        let sectors = address / SECTOR..(address + bytes as u64).div_ceil(SECTOR);
        let (number, fresh) =
            (sectors.end - sectors.start, sectors.filter(|sector| self.is_fresh(sector * SECTOR, lane, write)).count());
        let counts = &mut self.counts;
        if write {
            counts.global_store_bytes += bytes as u64;
            counts.global_store_sectors += number;
            counts.global_store_footprint += fresh as u64;
        } else {
            counts.global_load_bytes += bytes as u64;
            counts.global_load_sectors += number;
            counts.global_load_footprint += fresh as u64;
        }
    }
}

/// The parts of a run that are consecutive in shared memory: the address, the offset in the run, and the bytes.
fn pieces(mode: Swizzle, start: usize, bytes: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let (at, left) = (start + done, bytes - done);
        let part = match mode {
            Swizzle::None => left,
            _ => left.min(16 - at % 16),
        };
        let piece = (swizzle(mode, at as u64) as usize, done, part);
        done += part;
        (part > 0).then_some(piece)
    })
}

/// The function of a reduction on elements of a tensor map.
fn reduction(name: &str, element: Element) -> Option<Atomic> {
    let ty = match element {
        Element::U32 => Type::U(32),
        Element::S32 => Type::S(32),
        Element::U64 => Type::U(64),
        Element::S64 => Type::S(64),
        Element::F32 | Element::F32Ftz => Type::F(32),
        Element::F16 => Type::F(16),
        Element::Bf16 => Type::Bf16,
        _ => return None,
    };
    let ty = match (name, ty) {
        ("and" | "or" | "xor", Type::U(bits) | Type::S(bits)) => Type::B(bits),
        _ => ty,
    };
    bulk_function(name, ty)
}
