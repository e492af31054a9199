//! `mbarrier` and `cp.async.mbarrier.arrive` (PTX ISA 9.0, "mbarrier").

use super::*;
use Type::{B, U};

impl Decoder {
    pub(super) fn mbarrier(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        const NAMES: [&str; 9] = [
            "init",
            "inval",
            "arrive",
            "arrive_drop",
            "expect_tx",
            "complete_tx",
            "test_wait",
            "try_wait",
            "pending_count",
        ];
        // `arrive.expect_tx` has two of the names.
        let Some(name) = NAMES.into_iter().find(|name| form.take(name)) else { return form.unsupported() };
        if name == "pending_count" {
            return self.pending_count(form, operands);
        }
        let expects = name.starts_with("arrive") && form.take("expect_tx");
        let completes = !(name.starts_with("arrive") && form.take("noComplete"));
        let parity = name.ends_with("wait") && form.take("parity");
        let relaxed = Self::order(form, name)?;
        let (area, remote) = match () {
            _ if form.take("shared::cta") || form.take("shared") => (Area::Shared, false),
            _ if form.take("shared::cluster") => (Area::Shared, true),
            _ => (Area::Generic, false),
        };
        let arrives = name.starts_with("arrive");
        if form.ty()? != B(64) || remote && !(arrives || name.ends_with("_tx")) || !completes && (expects || remote) {
            return form.unsupported();
        }
        let (d, rest) = match (arrives, name.ends_with("wait"), operands) {
            // The results of arrivals and waits come first; an arrival elsewhere has none, or none that is kept.
            (true, ..) if remote && matches!(operands.first(), Some(Operand::Address { .. })) => (None, operands),
            (true, _, [d, rest @ ..]) | (_, true, [d, rest @ ..]) => (Some(d), rest),
            _ => (None, operands),
        };
        let Some((address, rest)) = rest.split_first() else { return form.fail("operands are missing") };
        let (base, offset) = self.address(form, address, area)?;
        let one = self.constant(1);
        let kind = match (name, rest) {
            ("init", [count]) => MbarrierOp::Init { count: self.source(form, count, U(32))? },
            ("inval", []) => MbarrierOp::Inval,
            ("expect_tx", [bytes]) => MbarrierOp::ExpectBytes { bytes: self.source(form, bytes, U(32))?, sign: 1 },
            ("complete_tx", [bytes]) => MbarrierOp::ExpectBytes { bytes: self.source(form, bytes, U(32))?, sign: -1 },
            ("arrive" | "arrive_drop", [] | [_]) => {
                let d = match d {
                    Some(d) => self.target(form, d, 64)?,
                    None => NOWHERE,
                };
                if remote && d != NOWHERE {
                    return form.fail("an arrival at another block's mbarrier has no result: `_` is expected");
                }
                let last = rest.first().map(|last| self.source(form, last, U(32))).transpose()?;
                let (count, bytes) = match (expects, last) {
                    (true, None) => return form.fail("the number of bytes is missing"),
                    (true, bytes) => (one, bytes),
                    (false, count) => (count.unwrap_or(one), None),
                };
                if !completes && rest.is_empty() {
                    return form.fail("the number of arrivals is missing");
                }
                MbarrierOp::Arrive { d, count, bytes, drops: name == "arrive_drop", completes, relaxed }
            }
            ("test_wait" | "try_wait", [phase, limit @ ..]) => {
                let blocks = name == "try_wait";
                if limit.len() > usize::from(blocks) {
                    return form.fail("too many operands");
                }
                if let [limit] = limit {
                    self.source(form, limit, U(32))?;
                }
                let Some(p) = d else { return form.fail("a predicate expected as destination") };
                let p = self.predicate_target(form, p)?;
                let phase = self.source(form, phase, if parity { U(32) } else { B(64) })?;
                MbarrierOp::Wait { p, phase, parity, blocks, relaxed }
            }
            _ => return form.fail("a wrong number of operands"),
        };
        made(Op::Mbarrier { area, base, offset, kind }, Class::Barrier)
    }

    /// Takes the memory order and the scope; returns whether the operation orders nothing.
    fn order(form: &mut Form, name: &str) -> Decoded<bool> {
        let own = if name.ends_with("wait") { "acquire" } else { "release" };
        let relaxed = form.take("relaxed");
        let ordered = relaxed || form.take(own);
        let scope = form.take("cta") || form.take("cluster");
        let may = name.starts_with("arrive") || name.ends_with("wait") || name.ends_with("_tx");
        if ordered != scope || scope && !may {
            return form.unsupported();
        }
        Ok(relaxed)
    }

    fn pending_count(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        if form.ty()? != B(64) {
            return form.unsupported();
        }
        let [d, state] = self.operands(form, operands)?;
        let (d, state) = (self.target(form, d, 32)?, self.source(form, state, B(64))?);
        let f = lanes::one(|state: u64| state as u32);
        made(Op::Pure { f, d, s: [state; 4] }, Class::Barrier)
    }

    /// `cp.async.mbarrier.arrive`.
    pub(super) fn copies_arrive(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let whole = form.take("mbarrier") & form.take("arrive");
        let counted = form.take("noinc");
        let area = if form.take("shared::cta") || form.take("shared") { Area::Shared } else { Area::Generic };
        if !whole || form.ty()? != B(64) {
            return form.unsupported();
        }
        let [address] = self.operands(form, operands)?;
        let (base, offset) = self.address(form, address, area)?;
        made(Op::Mbarrier { area, base, offset, kind: MbarrierOp::CopiesArrive { counted } }, Class::AsyncCopy)
    }
}
