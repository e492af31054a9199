//! What sm_90 has beside copies, mbarriers and `wgmma`: proxy fences, clusters of one block, and hints (PTX ISA 9.0,
//! "membar/fence", "elect.sync", "setmaxnreg", "griddepcontrol", "createpolicy", "mapa", "getctarank", "barrier.cluster").

use super::*;
use Type::{B, U};

impl Decoder {
    /// `fence.proxy` and `fence.mbarrier_init`.
    pub(super) fn proxy_fence(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        form.take("proxy");
        if form.take("mbarrier_init") {
            self.operands::<0>(form, operands)?;
            let whole = form.take("release") & form.take("cluster");
            return if whole { made(Op::InitFence, Class::Barrier) } else { form.unsupported() };
        }
        if form.take("tensormap::generic") {
            // Of a map that the device has changed, which none is: the copies check it.
            let acquires = form.take("acquire");
            if acquires == form.take("release") || !(form.take("gpu") || form.take("cta") || form.take("sys")) {
                return form.unsupported();
            }
            if acquires {
                let [map, size] = self.operands(form, operands)?;
                self.address(form, map, Area::Generic)?;
                if self.number(form, size)? != 128 {
                    return form.fail("a size of 128 expected");
                }
            } else {
                self.operands::<0>(form, operands)?;
            }
            return made(Op::Nothing, Class::Barrier);
        }
        self.operands::<0>(form, operands)?;
        if form.take("alias") {
            return made(Op::Nothing, Class::Barrier);
        }
        if form.take("async::generic") {
            // Orders the other way: what comes after a copy's completion, which the mbarrier has ordered already.
            let whole = form.take("acquire") && form.take("sync_restrict::shared::cluster")
                || form.take("release") && form.take("sync_restrict::shared::cta");
            return if whole && form.take("cluster") { made(Op::Nothing, Class::Barrier) } else { form.unsupported() };
        }
        if !form.take("async") {
            return form.unsupported();
        }
        let in_global = form.take("global");
        let _ = in_global || form.take("shared::cta") || form.take("shared::cluster");
        // Global memory is not followed by proxies.
        made(if in_global { Op::Nothing } else { Op::ProxyFence }, Class::Barrier)
    }

    pub(super) fn prefetch_map(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        form.take("tensormap");
        let area = match () {
            _ if form.take("param") => Area::Param,
            _ if form.take("const") => Area::Global,
            _ => Area::Generic,
        };
        let [map] = self.operands(form, operands)?;
        self.address(form, map, area)?;
        made(Op::Nothing, Class::Other)
    }

    pub(super) fn hopper(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        match form.base {
            "elect" => {
                let [target, mask] = self.operands(form, operands)?;
                let (true, Operand::Pair(d, p)) = (form.take("sync"), target) else { return form.unsupported() };
                let (d, p) = (self.target(form, d, 32)?, self.predicate_target(form, p)?);
                if p == NOWHERE {
                    return form.fail("a predicate expected as destination");
                }
                let mask = self.source(form, mask, B(32))?;
                made(Op::Elect { d, p, mask }, Class::Shuffle)
            }
            "setmaxnreg" => self.set_registers(form, operands),
            "griddepcontrol" => {
                self.operands::<0>(form, operands)?;
                match form.any(&[("wait", true), ("launch_dependents", false)]) {
                    Some(true) => made(Op::GridWait, Class::Barrier),
                    Some(false) => made(Op::Nothing, Class::Barrier),
                    None => form.unsupported(),
                }
            }
            "createpolicy" => self.create_policy(form, operands),
            _ => self.in_cluster(form, operands),
        }
    }

    fn set_registers(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        if self.names.target != 90 || !self.names.specific {
            return form.fail("this form needs `.target sm_90a`");
        }
        let more = form.any(&[("inc", true), ("dec", false)]);
        let aligned = form.take("sync") & form.take("aligned");
        let (Some(more), true, U(32)) = (more, aligned, form.ty()?) else { return form.unsupported() };
        let [count] = self.operands(form, operands)?;
        let count = self.number(form, count)?;
        if !(24..=256).contains(&count) || !count.is_multiple_of(8) {
            return form.fail(format!("{count} registers: 24 to 256 in steps of 8 are allowed"));
        }
        let most = &mut self.program.most_registers;
        *most = Some(most.map_or(count as u32, |most| most.max(count as u32)));
        made(Op::Registers { more, count: count as u32 }, Class::Other)
    }

    /// A cache policy, which changes no value: zero.
    fn create_policy(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        const PRIMARY: [&str; 4] = ["L2::evict_last", "L2::evict_normal", "L2::evict_first", "L2::evict_unchanged"];
        let range = form.take("range");
        let fractional = form.take("fractional");
        let converts = form.take("cvt") && form.take("L2");
        if [range, fractional, converts].iter().filter(|form| **form).count() != 1 {
            return form.unsupported();
        }
        if range {
            form.take("global");
        }
        if !converts && form.take_all(&PRIMARY).is_empty() || form.ty()? != B(64) {
            return form.unsupported();
        }
        let (Some((d, rest)), true) = (operands.split_first(), operands.len() <= 4) else {
            return form.fail("a wrong number of operands");
        };
        match (range, rest) {
            (true, [at, first, all]) => {
                self.address(form, at, Area::Global)?;
                self.source(form, first, U(32))?;
                self.source(form, all, U(32))?;
            }
            (false, [] | [_]) => {}
            _ => return form.fail("a wrong number of operands"),
        }
        let d = self.target(form, d, 64)?;
        let zero = self.constant(0);
        made(Op::Pure { f: lanes::one(|zero: u64| zero), d, s: [zero; 4] }, Class::Other)
    }

    /// `mapa` and `getctarank`: the only block of a cluster is that of rank 0.
    fn in_cluster(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let shared = form.take("shared::cluster");
        let ty = form.ty()?;
        if !matches!(ty, U(32 | 64)) {
            return form.unsupported();
        }
        if form.base == "getctarank" {
            let [d, address] = self.operands(form, operands)?;
            let d = self.target(form, d, 32)?;
            self.source(form, address, ty)?;
            let zero = self.constant(0);
            return made(Op::Pure { f: lanes::one(|zero: u64| zero), d, s: [zero; 4] }, Class::Move);
        }
        let [d, address, rank] = self.operands(form, operands)?;
        let (d, rank) = (self.target(form, d, ty.bits())?, self.source(form, rank, U(32))?);
        let address = match address {
            Operand::Address { .. } if shared => {
                let (base, offset) = self.address(form, address, Area::Shared)?;
                if offset != 0 {
                    return form.fail("an address without an offset expected");
                }
                base
            }
            other => self.source(form, other, ty)?,
        };
        made(Op::MapToRank { d, address, rank }, Class::Move)
    }

    /// `barrier.cluster`: the cluster's only block waits for its own threads. It has a barrier of its
    /// own, in two halves.
    pub(super) fn cluster_barrier(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        self.operands::<0>(form, operands)?;
        form.take("cluster");
        let arrives = form.any(&[("arrive", true), ("wait", false)]);
        let relaxed = form.take("relaxed");
        let ordered = form.take("release") || form.take("acquire");
        form.take("aligned");
        let Some(arrives) = arrives else { return form.unsupported() };
        if relaxed && (ordered || !arrives) {
            return form.unsupported();
        }
        made(Op::ClusterBarrier { arrives, relaxed }, Class::Barrier)
    }
}
