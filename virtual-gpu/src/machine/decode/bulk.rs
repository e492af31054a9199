//! Bulk copies (PTX ISA 9.0, "cp.async.bulk", "cp.reduce.async.bulk", "cp.async.bulk.tensor").

use super::memory::atomic_function;
use super::*;
use crate::arith::half::{self, Half};
use Type::{B, S, U};

/// The modifier of completion by an mbarrier.
const BY_MBARRIER: &str = "mbarrier::complete_tx::bytes";

/// The function of a bulk reduction: that of an atomic, and for `.min` and `.max` of 16-bit floats those too.
pub fn bulk_function(name: &str, ty: Type) -> Option<Atomic> {
    let kind = match ty {
        Type::F(16) => Half::F16,
        Type::Bf16 => Half::Bf16,
        _ => return atomic_function(name, ty, true),
    };
    match name {
        "min" => Some(Box::new(move |old, b, _| half::min16(kind, old as u16, b as u16, false, false).into())),
        "max" => Some(Box::new(move |old, b, _| half::max16(kind, old as u16, b as u16, false, false).into())),
        _ => atomic_function(name, ty, true),
    }
}

impl Decoder {
    /// `cp.async.bulk` and `cp.reduce.async.bulk`, of which `async` and `bulk` are taken.
    pub(super) fn bulk_copy(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        if form.take("commit_group") {
            self.operands::<0>(form, operands)?;
            return made(Op::BulkCommit, Class::AsyncCopy);
        }
        if form.take("wait_group") {
            let reads = form.take("read");
            let [left] = self.operands(form, operands)?;
            let left = self.number(form, left)?.min(u64::from(u32::MAX)) as u32;
            return made(Op::BulkWait { left, reads }, Class::AsyncCopy);
        }
        let (tensor, reduces, prefetches) = (form.take("tensor"), form.take("reduce"), form.take("prefetch"));
        let hint = form.take("L2::cache_hint");
        let multicast = form.take("multicast::cluster");
        let into_l2 = prefetches && form.take("L2");
        // The destination's space comes first, then the source's.
        let spaces: Vec<&str> = form.take_all(&["shared::cluster", "shared::cta", "global"]);
        let copy = match (spaces.as_slice(), prefetches) {
            (["shared::cluster" | "shared::cta", "global"], false) if !reduces && form.take(BY_MBARRIER) => {
                self.bulk_load(form, operands, tensor, (multicast, hint))?
            }
            (["shared::cluster", "shared::cta"], false) if !tensor && !reduces && form.take(BY_MBARRIER) => {
                self.bulk_within(form, operands)?
            }
            (["global", "shared::cta"], false) if !multicast && form.take("bulk_group") => {
                self.bulk_store(form, operands, tensor, (reduces, hint))?
            }
            (["global"], true) if into_l2 && !reduces && !multicast => {
                self.bulk_prefetch(form, operands, tensor, hint)?
            }
            _ => return form.unsupported(),
        };
        made(Op::BulkCopy(Box::new(copy)), Class::AsyncCopy)
    }

    /// Checks the operands that follow those of the copy itself: the blocks of a multicast, and the cache policy.
    fn tail(&mut self, form: &Form, rest: &[Operand], multicast: bool, hint: bool) -> Decoded<Option<R>> {
        if rest.len() != usize::from(multicast) + usize::from(hint) {
            return form.fail("a wrong number of operands");
        }
        if hint {
            self.source(form, &rest[rest.len() - 1], B(64))?;
        }
        if multicast { Ok(Some(self.source(form, &rest[0], B(16))?)) } else { Ok(None) }
    }

    fn bulk_load(
        &mut self,
        form: &mut Form,
        operands: &[Operand],
        tensor: bool,
        (multicast, hint): (bool, bool),
    ) -> Decoded<BulkCopy> {
        let rank = if tensor { self.rank(form)? } else { 0 };
        let im2col = tensor && form.take("im2col");
        if tensor && !im2col {
            form.take("tile");
        }
        let few = || form.fail("operands are missing");
        let Some((to, rest)) = operands.split_first() else { return few() };
        let Some((from, rest)) = rest.split_first() else { return few() };
        let none = self.constant(0);
        let (size, rest) = match (tensor, rest) {
            (false, [size, rest @ ..]) => (self.source(form, size, U(32))?, rest),
            (true, rest) => (none, rest),
            _ => return few(),
        };
        let Some((mbarrier, mut rest)) = rest.split_first() else { return few() };
        let bulk = if tensor {
            let (map, coords) = self.tensor_operand(form, from, rank)?;
            let mut offsets = None;
            if im2col {
                let Some((within, left)) = rest.split_first() else { return few() };
                offsets = Some(self.im2col_offsets(form, within, rank)?);
                rest = left;
            }
            Bulk::TensorLoad { map, coords, offsets }
        } else {
            Bulk::Load { from: self.address(form, from, Area::Global)? }
        };
        let shared = self.address(form, to, Area::Shared)?;
        let mbarrier = self.address(form, mbarrier, Area::Shared)?;
        let multicast = self.tail(form, rest, multicast, hint)?;
        Ok(BulkCopy { bulk, shared, size, mbarrier, multicast, reduction: None })
    }

    /// From shared memory to that of a block of the cluster, of which there is one.
    fn bulk_within(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<BulkCopy> {
        let [to, from, size, mbarrier] = self.operands(form, operands)?;
        let bulk = Bulk::Within { from: self.address(form, from, Area::Shared)? };
        let shared = self.address(form, to, Area::Shared)?;
        let size = self.source(form, size, U(32))?;
        let mbarrier = self.address(form, mbarrier, Area::Shared)?;
        Ok(BulkCopy { bulk, shared, size, mbarrier, multicast: None, reduction: None })
    }

    fn bulk_store(
        &mut self,
        form: &mut Form,
        operands: &[Operand],
        tensor: bool,
        (reduces, hint): (bool, bool),
    ) -> Decoded<BulkCopy> {
        let none = self.constant(0);
        const NAMES: [&str; 8] = ["add", "min", "max", "inc", "dec", "and", "or", "xor"];
        let name = if reduces { NAMES.into_iter().find(|name| form.take(name)) } else { None };
        if reduces && name.is_none() {
            return form.unsupported();
        }
        if tensor {
            let rank = self.rank(form)?;
            let im2col = form.take("im2col_no_offs");
            if im2col && rank < 3 {
                return form.fail("im2col needs three dimensions");
            }
            if !im2col {
                form.take("tile");
            }
            let [to, from, rest @ ..] = operands else { return form.fail("operands are missing") };
            let (map, coords) = self.tensor_operand(form, to, rank)?;
            let bulk = Bulk::TensorStore { map, coords, im2col };
            let shared = self.address(form, from, Area::Shared)?;
            self.tail(form, rest, false, hint)?;
            let reduction = name.map(Reduction::ByMap);
            return Ok(BulkCopy { bulk, shared, size: none, mbarrier: (none, 0), multicast: None, reduction });
        }
        let reduction = match name {
            None => None,
            Some(name) => {
                let noftz = form.take("noftz");
                let ty = form.ty()?;
                let half = matches!(ty, Type::F(16) | Type::Bf16);
                match bulk_function(name, ty) {
                    Some(function) if noftz == (half && name == "add") => Some(Reduction::Typed(function, ty.bytes())),
                    _ => return form.unsupported(),
                }
            }
        };
        let [to, from, size, rest @ ..] = operands else { return form.fail("operands are missing") };
        let bulk = Bulk::Store { to: self.address(form, to, Area::Global)? };
        let shared = self.address(form, from, Area::Shared)?;
        let size = self.source(form, size, U(32))?;
        self.tail(form, rest, false, hint)?;
        Ok(BulkCopy { bulk, shared, size, mbarrier: (none, 0), multicast: None, reduction })
    }

    fn bulk_prefetch(&mut self, form: &mut Form, operands: &[Operand], tensor: bool, hint: bool) -> Decoded<BulkCopy> {
        let none = self.constant(0);
        let nothing = |bulk, size| BulkCopy {
            bulk,
            shared: (none, 0),
            size,
            mbarrier: (none, 0),
            multicast: None,
            reduction: None,
        };
        if !tensor {
            let [from, size, rest @ ..] = operands else { return form.fail("operands are missing") };
            let from = self.address(form, from, Area::Global)?;
            let size = self.source(form, size, U(32))?;
            self.tail(form, rest, false, hint)?;
            return Ok(nothing(Bulk::Prefetch { from }, size));
        }
        let rank = self.rank(form)?;
        let im2col = form.take("im2col");
        if !im2col {
            form.take("tile");
        }
        let Some((from, mut rest)) = operands.split_first() else { return form.fail("operands are missing") };
        let (map, coords) = self.tensor_operand(form, from, rank)?;
        let mut offsets = None;
        if im2col {
            let Some((within, left)) = rest.split_first() else { return form.fail("operands are missing") };
            offsets = Some(self.im2col_offsets(form, within, rank)?);
            rest = left;
        }
        self.tail(form, rest, false, hint)?;
        Ok(nothing(Bulk::TensorPrefetch { map, coords, offsets }, none))
    }

    /// `st.async` to the only block of a cluster.
    pub(super) fn store_async(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        form.take("weak");
        let whole = form.take("async") & form.take("shared::cluster") & form.take(BY_MBARRIER);
        let count = form.any(&[("v2", 2), ("v4", 4)]).unwrap_or(1);
        let ty = form.ty()?;
        if !whole || !matches!(ty, B(32 | 64) | U(32 | 64) | S(32 | 64) | Type::F(32 | 64)) {
            return form.unsupported();
        }
        let [to, values, mbarrier] = self.operands(form, operands)?;
        let parts = match values {
            Operand::Vector(parts) => parts.as_slice(),
            single => std::slice::from_ref(single),
        };
        if parts.len() != count {
            return form.fail(format!("{count} values expected, not {}", parts.len()));
        }
        let values = parts.iter().map(|part| self.source(form, part, ty)).collect::<Decoded<Vec<R>>>()?;
        let shared = self.address(form, to, Area::Shared)?;
        let mbarrier = self.address(form, mbarrier, Area::Shared)?;
        let bulk = Bulk::Values { values, bytes: ty.bytes() };
        let size = self.constant(0);
        let copy = BulkCopy { bulk, shared, size, mbarrier, multicast: None, reduction: None };
        made(Op::BulkCopy(Box::new(copy)), Class::AsyncCopy)
    }

    fn rank(&self, form: &mut Form) -> Decoded<usize> {
        match form.any(&[("1d", 1), ("2d", 2), ("3d", 3), ("4d", 4), ("5d", 5)]) {
            Some(rank) => Ok(rank),
            None => form.unsupported(),
        }
    }

    /// `[map, {c0, c1}]`.
    #[allow(clippy::type_complexity)]
    fn tensor_operand(&mut self, form: &Form, operand: &Operand, rank: usize) -> Decoded<((R, i64), Vec<R>)> {
        let Operand::Tensor { base, offset, coords } = operand else {
            return form.fail("a tensor map with coordinates, `[map, {c0, ...}]`, expected");
        };
        if coords.len() != rank {
            return form.fail(format!("{rank} coordinates expected, not {}", coords.len()));
        }
        let map = Operand::Address { base: Some(base.clone()), offset: *offset };
        let map = self.address(form, &map, Area::Generic)?;
        let coords = coords.iter().map(|at| self.source(form, at, S(32))).collect::<Decoded<_>>()?;
        Ok((map, coords))
    }

    /// `{offW, offH}`, of 16 bits each.
    fn im2col_offsets(&mut self, form: &Form, operand: &Operand, rank: usize) -> Decoded<Vec<R>> {
        let Operand::Vector(parts) = operand else { return form.fail("im2col offsets expected") };
        if rank < 3 || parts.len() != rank - 2 {
            return form.fail(format!("{} im2col offsets expected, not {}", rank.saturating_sub(2), parts.len()));
        }
        parts.iter().map(|part| self.source(form, part, U(16))).collect()
    }
}
