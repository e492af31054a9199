//! Loads, stores, atomics, asynchronous copies and matrix loads (PTX ISA 9.0, "ld", "st", "atom", "red", "cp.async",
//! "ldmatrix").

use super::*;
use crate::arith::float;
use crate::arith::half::{self, Half};
use Type::{B, F, S, U};

/// Prefixes of cache hints, which change no value.
const HINTS: [&str; 4] = ["L1::", "L2::evict", "L2::64B", "L2::128B"];

impl Decoder {
    /// Instructions without effect here: cache hints, delays, and fences (memory accesses are already in order).
    pub(super) fn nothing(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let known: &[&str] = match form.base {
            "membar" => &["cta", "gl", "sys"],
            "fence" => &["sc", "acq_rel", "acquire", "release", "cta", "gpu", "sys", "cluster"],
            "nanosleep" => &["u32"],
            "pmevent" => &["mask"],
            _ => &[
                "global",
                "local",
                "L1",
                "L2",
                "L2::evict_last",
                "L2::evict_normal",
                "L2::128B",
                "uni",
                "level::eviction_priority",
            ],
        };
        for modifier in known {
            form.take(modifier);
        }
        for operand in operands {
            if let Operand::Name(name) = operand {
                self.register(form, name)?;
            }
        }
        made(Op::Nothing, if matches!(form.base, "membar" | "fence") { Class::Barrier } else { Class::Other })
    }

    pub(super) fn memory(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        match form.base {
            "ld" | "ldu" => self.load(form, operands),
            "st" => self.store(form, operands),
            "atom" | "red" => self.atomic(form, operands),
            "ldmatrix" => self.load_matrix(form, operands),
            "stmatrix" => self.store_matrix(form, operands),
            _ => self.async_copy(form, operands),
        }
    }

    /// `[base+offset]` as a base row and an offset.
    pub(super) fn address(&mut self, form: &Form, operand: &Operand, area: Area) -> Decoded<(R, i64)> {
        let Operand::Address { base, offset } = operand else { return form.fail("an address expected") };
        let Some(name) = base else {
            return Ok((self.constant(0), *offset));
        };
        if let Some(register) = self.find(name) {
            return match register.ty.bits() {
                64 => Ok((register.index, *offset)),
                // 32-bit addresses exist in shared and local memory, and for parameters.
                32 if !matches!(area, Area::Global | Area::Generic) => Ok((register.index, *offset)),
                _ => form.fail(format!("`{name}` is not of the size of an address")),
            };
        }
        let fits = |symbol| match (symbol, area) {
            (Symbol::Global(at), Area::Global | Area::Generic)
            | (Symbol::Shared(at), Area::Shared)
            | (Symbol::Local(at) | Symbol::Call(at), Area::Local)
            | (Symbol::Param(at), Area::Param) => Some(at),
            _ => None,
        };
        match self.symbol(name).map(fits) {
            Some(Some(at)) => Ok((self.constant(at), *offset)),
            Some(None) => form.fail(format!("`{name}` is in another state space")),
            None => form.fail(format!("`{name}` is not declared")),
        }
    }

    fn space(form: &mut Form) -> Area {
        let area = form.any(&[
            ("global", Area::Global),
            ("const", Area::Global),
            ("shared::cta", Area::Shared),
            // The only block of its cluster.
            ("shared::cluster", Area::Shared),
            ("shared", Area::Shared),
            ("local", Area::Local),
            ("param::entry", Area::Param),
            ("param::func", Area::Param),
            ("param", Area::Param),
        ]);
        area.unwrap_or(Area::Generic)
    }

    /// Takes the modifiers of memory ordering; returns whether the operation is strong (PTX ISA 9.0, "Memory
    /// Consistency Model").
    fn strength(form: &mut Form) -> Decoded<bool> {
        let words: &[&str] = match form.base {
            "ld" => &["volatile", "relaxed", "acquire"],
            "st" => &["volatile", "relaxed", "release"],
            "atom" => &["relaxed", "acquire", "release", "acq_rel"],
            "red" => &["relaxed", "release"],
            _ => &[],
        };
        let word = words.iter().find(|word| form.take(word));
        let scope = ["cta", "gpu", "sys", "cluster"].iter().any(|scope| form.take(scope));
        let access = matches!(form.base, "ld" | "st");
        if access && scope != word.is_some_and(|word| *word != "volatile") {
            return form.unsupported();
        }
        if access && word.is_none() {
            form.take("weak");
        }
        Ok(word.is_some())
    }

    fn class(area: Area) -> Class {
        match area {
            Area::Global | Area::Generic => Class::Global,
            Area::Shared => Class::Shared,
            Area::Local => Class::Local,
            Area::Param => Class::Constant,
        }
    }

    /// Takes the modifiers that loads and stores share: area, strong, `.nc`, vector length and type.
    fn shape(form: &mut Form) -> Decoded<(Area, bool, bool, usize, Type)> {
        let area = Self::space(form);
        let strong = Self::strength(form)?;
        form.ignore(&HINTS);
        let operators: &[&str] = match form.base {
            "ld" => &["ca", "cg", "cs", "lu", "cv"],
            "st" => &["wb", "cg", "cs", "wt"],
            _ => &[],
        };
        let operator = operators.iter().any(|operator| form.take(operator));
        let fixed = form.base == "ld" && form.take("nc");
        if strong && (operator || fixed) || fixed && area != Area::Global {
            return form.unsupported();
        }
        if form.base == "ldu" && !matches!(area, Area::Global | Area::Generic) {
            return form.unsupported();
        }
        let lanes = form.any(&[("v2", 2), ("v4", 4)]).unwrap_or(1);
        let ty = form.ty()?;
        if !matches!(ty, B(8..=64) | U(_) | S(_) | F(32 | 64)) || lanes * ty.bytes() > 16 {
            return form.unsupported();
        }
        Ok((area, strong, fixed, lanes, ty))
    }

    fn parts<'o>(form: &Form, operand: &'o Operand, lanes: usize) -> Decoded<&'o [Operand]> {
        let parts = match operand {
            Operand::Vector(parts) => parts.as_slice(),
            single => std::slice::from_ref(single),
        };
        if parts.len() == lanes {
            Ok(parts)
        } else {
            form.fail(format!("{lanes} registers expected, not {}", parts.len()))
        }
    }

    fn load(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let constant = form.name.contains(".const");
        let (area, strong, fixed, lanes, ty) = Self::shape(form)?;
        let [d, address] = self.operands(form, operands)?;
        let area = self.place(address, area);
        let (base, offset) = self.address(form, address, area)?;
        let (mut regs, mut keep) = ([NOWHERE; 4], [0; 4]);
        for (i, part) in Self::parts(form, d, lanes)?.iter().enumerate() {
            let Some(register) = self.any_target(form, part)? else { continue };
            if register.ty.bits() < ty.bits() {
                return form.fail("the register is too small");
            }
            regs[i] = register.index;
            keep[i] = u64::MAX >> (64 - register.ty.bits());
        }
        let sign_from = if ty.signed() && ty.bits() < 64 { ty.bits() } else { 0 };
        let access = Access { area, base, offset, size: ty.bytes(), lanes, strong, fixed, regs, sign_from, keep };
        made(Op::Load(access), if constant { Class::Constant } else { Self::class(area) })
    }

    fn store(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let (area, strong, fixed, lanes, ty) = Self::shape(form)?;
        let [address, s] = self.operands(form, operands)?;
        let area = self.place(address, area);
        if area == Area::Param || fixed || form.name.contains(".const") {
            return form.unsupported();
        }
        let (base, offset) = self.address(form, address, area)?;
        let mut regs = [NOWHERE; 4];
        for (i, part) in Self::parts(form, s, lanes)?.iter().enumerate() {
            regs[i] = match part {
                Operand::Name(name) if self.find(name).is_some() => {
                    let register = self.register(form, name)?;
                    if register.ty == Type::Pred || register.ty.bits() < ty.bits() {
                        return form.fail(format!("`{name}` is too small"));
                    }
                    register.index
                }
                other => self.source(form, other, ty)?,
            };
        }
        let (size, keep) = (ty.bytes(), [0; 4]);
        let access = Access { area, base, offset, size, lanes, strong, fixed, regs, sign_from: 0, keep };
        made(Op::Store(access), Self::class(area))
    }

    fn atomic(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let area = Self::space(form);
        Self::strength(form)?;
        if matches!(area, Area::Local | Area::Param) || form.name.contains(".const") {
            return form.unsupported();
        }
        let noftz = form.take("noftz");
        let names = ["add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"];
        let Some(name) = names.into_iter().find(|name| form.take(name)) else { return form.unsupported() };
        let ty = form.ty()?;
        if noftz != (name == "add" && matches!(ty, F(16) | Type::F16x2 | Type::Bf16 | Type::Bf16x2)) {
            return form.unsupported();
        }
        let Some(f) = atomic_function(name, ty, area != Area::Shared) else { return form.unsupported() };
        let on_shared =
            if area == Area::Generic && (name, ty) == ("add", F(32)) { atomic_function(name, ty, false) } else { None };
        let returns = form.base == "atom";
        let wanted = 2 + usize::from(returns) + usize::from(name == "cas");
        if operands.len() != wanted || (name == "exch" || name == "cas") && !returns {
            return form.fail(format!("{wanted} operands expected, not {}", operands.len()));
        }
        let d = if returns { self.target(form, &operands[0], ty.bits())? } else { NOWHERE };
        let rest = &operands[usize::from(returns)..];
        let (base, offset) = self.address(form, &rest[0], area)?;
        let b = self.source(form, &rest[1], ty)?;
        let c = if name == "cas" { self.source(form, &rest[2], ty)? } else { b };
        let (size, keep, regs) = (ty.bytes(), [0; 4], [d, NOWHERE, NOWHERE, NOWHERE]);
        let access =
            Access { area, base, offset, size, lanes: 1, strong: true, fixed: false, regs, sign_from: 0, keep };
        let flops = u32::from(name == "add" && matches!(ty, F(_)));
        Ok(Made { op: Op::Atomic { access, f, on_shared, b, c }, class: Class::Atomic, flops })
    }

    fn load_matrix(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let whole = form.take("sync") & form.take("aligned") & form.take("m8n8");
        let count = form.any(&[("x1", 1), ("x2", 2), ("x4", 4)]);
        let trans = form.take("trans");
        let area = Self::space(form);
        let (true, Some(count), B(16)) = (whole, count, form.ty()?) else { return form.unsupported() };
        if area != Area::Shared {
            return form.unsupported();
        }
        let [d, address] = self.operands(form, operands)?;
        let mut rows = [NOWHERE; 4];
        for (i, part) in Self::parts(form, d, count)?.iter().enumerate() {
            rows[i] = self.target(form, part, 32)?;
        }
        let (base, offset) = self.address(form, address, area)?;
        made(Op::LoadMatrix { base, offset, d: rows, count, trans }, Class::Shared)
    }

    fn store_matrix(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let whole = form.take("sync") & form.take("aligned") & form.take("m8n8");
        let count = form.any(&[("x1", 1), ("x2", 2), ("x4", 4)]);
        let trans = form.take("trans");
        let area = Self::space(form);
        let (true, Some(count), B(16), Area::Shared | Area::Generic) = (whole, count, form.ty()?, area) else {
            return form.unsupported();
        };
        let [address, s] = self.operands(form, operands)?;
        let mut rows = [NOWHERE; 4];
        for (i, part) in Self::parts(form, s, count)?.iter().enumerate() {
            rows[i] = self.source(form, part, B(32))?;
        }
        let (base, offset) = self.address(form, address, area)?;
        made(Op::StoreMatrix { area, base, offset, s: rows, count, trans }, Class::Shared)
    }

    fn async_copy(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        if !form.take("async") {
            return form.unsupported();
        }
        if form.take("bulk") {
            return self.bulk_copy(form, operands);
        }
        if form.name.contains(".mbarrier.") {
            return self.copies_arrive(form, operands);
        }
        if form.take("commit_group") {
            self.operands::<0>(form, operands)?;
            return made(Op::AsyncCommit, Class::AsyncCopy);
        }
        if form.take("wait_all") {
            self.operands::<0>(form, operands)?;
            return made(Op::AsyncWait { left: None }, Class::AsyncCopy);
        }
        if form.take("wait_group") {
            let [left] = self.operands(form, operands)?;
            let left = self.number(form, left)?.min(u64::from(u32::MAX)) as u32;
            return made(Op::AsyncWait { left: Some(left) }, Class::AsyncCopy);
        }
        let only_global = form.take("cg");
        if !only_global && !form.take("ca") {
            return form.unsupported();
        }
        form.ignore(&["L2::64B", "L2::128B", "L2::256B"]);
        if !(form.take("shared") || form.take("shared::cta")) || !form.take("global") || operands.len() < 3 {
            return form.unsupported();
        }
        let (to, to_offset) = self.address(form, &operands[0], Area::Shared)?;
        let (from, from_offset) = self.address(form, &operands[1], Area::Global)?;
        let size = self.number(form, &operands[2])? as usize;
        if !matches!((size, only_global), (16, _) | (4 | 8, false)) {
            return form.fail("the size must be 4, 8 or 16 bytes, with `.cg` 16");
        }
        let (mut source_size, mut ignore) = (self.constant(size as u64), Guard { p: FALSE, negated: false });
        match operands.get(3) {
            None => {}
            Some(Operand::Name(name)) if self.find(name).is_some_and(|found| found.ty == Type::Pred) => {
                ignore = self.predicate(form, &operands[3])?;
            }
            Some(other) => source_size = self.source(form, other, U(32))?,
        }
        if operands.len() > 4 {
            return form.fail("too many operands");
        }
        made(Op::AsyncCopy { to, to_offset, from, from_offset, size, source_size, ignore }, Class::AsyncCopy)
    }
}

/// The function of an atomic: the old value and the operands to the new value (PTX ISA 9.0, "atom"). An `.f32` addition
/// flushes subnormal numbers on global memory (`flush`), but not on shared memory.
pub(super) fn atomic_function(name: &str, ty: Type, flush: bool) -> Option<Atomic> {
    let nearest = float::Mode::NEAREST;
    let single = float::Mode { ftz: flush, ..nearest };
    Some(match (name, ty) {
        ("add", U(32) | S(32)) => Box::new(|old, b, _| (old as u32).wrapping_add(b as u32).into()),
        ("add", U(64)) => Box::new(|old, b, _| old.wrapping_add(b)),
        ("add", F(32)) => Box::new(move |old, b, _| {
            float::add32(f32::from_bits(old as u32), f32::from_bits(b as u32), single).to_bits().into()
        }),
        ("add", F(64)) => {
            Box::new(move |old, b, _| float::add64(f64::from_bits(old), f64::from_bits(b), nearest).to_bits())
        }
        ("add", F(16)) => Box::new(move |old, b, _| half::add16(Half::F16, old as u16, b as u16, nearest).into()),
        ("add", Type::Bf16) => Box::new(move |old, b, _| half::add16(Half::Bf16, old as u16, b as u16, nearest).into()),
        ("add", Type::F16x2 | Type::Bf16x2) => {
            let kind = if ty == Type::F16x2 { Half::F16 } else { Half::Bf16 };
            Box::new(move |old, b, _| {
                lanes::halves(old as u32, b as u32, 0, |x, y, _| half::add16(kind, x, y, nearest)).into()
            })
        }
        ("min", U(32 | 64)) => Box::new(|old, b, _| old.min(b)),
        ("max", U(32 | 64)) => Box::new(|old, b, _| old.max(b)),
        ("min", S(32)) => Box::new(|old, b, _| (old as i32).min(b as i32) as u32 as u64),
        ("max", S(32)) => Box::new(|old, b, _| (old as i32).max(b as i32) as u32 as u64),
        ("min", S(64)) => Box::new(|old, b, _| (old as i64).min(b as i64) as u64),
        ("max", S(64)) => Box::new(|old, b, _| (old as i64).max(b as i64) as u64),
        ("and", B(32 | 64)) => Box::new(|old, b, _| old & b),
        ("or", B(32 | 64)) => Box::new(|old, b, _| old | b),
        ("xor", B(32 | 64)) => Box::new(|old, b, _| old ^ b),
        ("exch", B(32 | 64)) => Box::new(|_, b, _| b),
        ("cas", B(16 | 32 | 64)) => Box::new(|old, b, c| if old == b { c } else { old }),
        ("inc", U(32)) => Box::new(|old, b, _| if old >= b { 0 } else { old + 1 }),
        ("dec", U(32)) => Box::new(|old, b, _| if old == 0 || old > b { b } else { old - 1 }),
        _ => return None,
    })
}
