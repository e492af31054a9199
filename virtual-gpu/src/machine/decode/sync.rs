//! Special registers, warp-wide instructions and barriers (PTX ISA 9.0, "Special Registers", "shfl.sync", "Parallel
//! Synchronization and Communication Instructions", "mma").

use super::*;
use crate::arith::half::Half;
use Type::{B, F, S, U};

pub(super) fn special(name: &str) -> Option<Special> {
    let name = name.strip_prefix('%')?;
    if let Some((family, axis)) = name.split_once('.') {
        let axis = match axis {
            "x" => 0,
            "y" => 1,
            "z" => 2,
            _ => return None,
        };
        return Some(match family {
            "tid" => Special::Tid(axis),
            "ntid" => Special::Ntid(axis),
            "ctaid" => Special::Ctaid(axis),
            "nctaid" => Special::Nctaid(axis),
            // A cluster is one block.
            "clusterid" => Special::Ctaid(axis),
            "nclusterid" => Special::Nctaid(axis),
            "cluster_ctaid" => Special::Zero,
            "cluster_nctaid" => Special::One,
            _ => return None,
        });
    }
    Some(match name {
        "laneid" => Special::LaneId,
        "cluster_ctarank" | "is_explicit_cluster" => Special::Zero,
        "cluster_nctarank" => Special::One,
        "warpid" => Special::WarpId,
        "nwarpid" => Special::NWarpId,
        "smid" => Special::SmId,
        "nsmid" => Special::NSmId,
        "gridid" => Special::GridId,
        "lanemask_eq" => Special::MaskEq,
        "lanemask_le" => Special::MaskLe,
        "lanemask_lt" => Special::MaskLt,
        "lanemask_ge" => Special::MaskGe,
        "lanemask_gt" => Special::MaskGt,
        "dynamic_smem_size" => Special::DynamicShared,
        "total_smem_size" => Special::TotalShared,
        "clock" => Special::Clock,
        "clock_hi" => Special::ClockHigh,
        "clock64" => Special::Clock64,
        "globaltimer" => Special::Timer,
        _ => return None,
    })
}

impl Decoder {
    pub(super) fn sync(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        match form.base {
            "shfl" => self.shuffle(form, operands),
            "vote" => self.vote(form, operands),
            "match" => self.matching(form, operands),
            "redux" => self.reduce(form, operands),
            "mma" => self.mma(form, operands),
            "activemask" => {
                if form.ty()? != B(32) {
                    return form.unsupported();
                }
                let [d] = self.operands(form, operands)?;
                let d = self.target(form, d, 32)?;
                made(Op::ActiveMask { d }, Class::Shuffle)
            }
            _ => self.barrier(form, operands),
        }
    }

    fn shuffle(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let sync = form.take("sync");
        let mode = form.any(&[
            ("up", Shuffle::Up),
            ("down", Shuffle::Down),
            ("bfly", Shuffle::Butterfly),
            ("idx", Shuffle::Index),
        ]);
        // The form without `.sync` does not exist from sm_70 on.
        let (true, Some(mode), B(32)) = (sync, mode, form.ty()?) else { return form.unsupported() };
        let [d, a, b, c, mask] = self.operands(form, operands)?;
        let (d, p) = match d {
            Operand::Pair(d, p) => (self.target(form, d, 32)?, self.predicate_target(form, p)?),
            d => (self.target(form, d, 32)?, NOWHERE),
        };
        let a = self.source(form, a, B(32))?;
        let (b, c) = (self.source(form, b, B(32))?, self.source(form, c, B(32))?);
        let mask = self.source(form, mask, B(32))?;
        made(Op::Shuffle { mode, d, p, a, b, c, mask }, Class::Shuffle)
    }

    fn vote(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let sync = form.take("sync");
        let mode =
            form.any(&[("all", Vote::All), ("any", Vote::Any), ("uni", Vote::Uniform), ("ballot", Vote::Ballot)]);
        let (true, Some(mode), ty) = (sync, mode, form.ty()?) else { return form.unsupported() };
        let [d, a, mask] = self.operands(form, operands)?;
        let (d, p) = match (mode, ty) {
            (Vote::Ballot, B(32)) => (self.target(form, d, 32)?, NOWHERE),
            (Vote::All | Vote::Any | Vote::Uniform, Type::Pred) => (NOWHERE, self.predicate_target(form, d)?),
            _ => return form.unsupported(),
        };
        let (a, mask) = (self.predicate(form, a)?, self.source(form, mask, B(32))?);
        made(Op::Vote { mode, d, p, a, mask }, Class::Shuffle)
    }

    fn matching(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let mode = form.any(&[("any", false), ("all", true)]);
        let (Some(all), true, ty @ B(32 | 64)) = (mode, form.take("sync"), form.ty()?) else {
            return form.unsupported();
        };
        let [d, a, mask] = self.operands(form, operands)?;
        let (d, p) = match d {
            Operand::Pair(d, p) if all => (self.target(form, d, 32)?, self.predicate_target(form, p)?),
            d => (self.target(form, d, 32)?, NOWHERE),
        };
        let (a, mask) = (self.source(form, a, ty)?, self.source(form, mask, B(32))?);
        made(Op::Match { all, d, p, a, mask }, Class::Shuffle)
    }

    fn reduce(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let sync = form.take("sync");
        let names = ["add", "min", "max", "and", "or", "xor"];
        let name = names.into_iter().find(|name| form.take(name));
        let ty = form.ty()?;
        let f: fn(u32, u32) -> u32 = match (sync, name, ty) {
            (true, Some("add"), U(32) | S(32)) => u32::wrapping_add,
            (true, Some("min"), U(32)) => u32::min,
            (true, Some("max"), U(32)) => u32::max,
            (true, Some("min"), S(32)) => |a, b| (a as i32).min(b as i32) as u32,
            (true, Some("max"), S(32)) => |a, b| (a as i32).max(b as i32) as u32,
            (true, Some("and"), B(32)) => |a, b| a & b,
            (true, Some("or"), B(32)) => |a, b| a | b,
            (true, Some("xor"), B(32)) => |a, b| a ^ b,
            _ => return form.unsupported(),
        };
        let [d, a, mask] = self.operands(form, operands)?;
        let d = self.target(form, d, 32)?;
        let (a, mask) = (self.source(form, a, ty)?, self.source(form, mask, B(32))?);
        made(Op::Reduce { f, d, a, mask }, Class::Shuffle)
    }

    fn barrier(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let class = Class::Barrier;
        if form.base == "bar" && form.take("warp") {
            let [mask] = self.operands(form, operands)?;
            if !form.take("sync") {
                return form.unsupported();
            }
            let mask = self.source(form, mask, B(32))?;
            return made(Op::WarpSync { mask }, class);
        }
        // Without `.aligned`, the lanes of a warp may reach a barrier separately. Here that is a partial barrier all
        // the same.
        form.take("aligned");
        form.take("cta");
        let every = self.constant(0);
        let (nobody, nothing) = ((NOWHERE, NOWHERE), Guard { p: FALSE, negated: false });
        let (kind, (d, p), a, rest) = if form.take("red") {
            let kind = form.any(&[("popc", BarrierKind::Popc), ("and", BarrierKind::And), ("or", BarrierKind::Or)]);
            let Some(kind) = kind else { return form.unsupported() };
            let [d, rest @ .., a] = operands else { return form.fail("operands are missing") };
            let d = match (kind, form.ty()?) {
                (BarrierKind::Popc, U(32)) => (self.target(form, d, 32)?, NOWHERE),
                (BarrierKind::And | BarrierKind::Or, Type::Pred) => (NOWHERE, self.predicate_target(form, d)?),
                _ => return form.unsupported(),
            };
            (kind, d, self.predicate(form, a)?, rest)
        } else if form.take("sync") {
            (BarrierKind::Sync, nobody, nothing, operands)
        } else if form.take("arrive") {
            if operands.len() != 2 {
                return form.fail("2 operands expected");
            }
            (BarrierKind::Arrive, nobody, nothing, operands)
        } else {
            return form.unsupported();
        };
        let (id, count) = match rest {
            [id] => (self.source(form, id, U(32))?, every),
            [id, count] => (self.source(form, id, U(32))?, self.source(form, count, U(32))?),
            _ => return form.fail("a wrong number of operands"),
        };
        made(Op::Barrier { kind, id, count, d, p, a }, class)
    }

    fn mma(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let layout = form.take("sync") & form.take("aligned") & form.take("row") & form.take("col");
        let shape = form.any(&[("m16n8k16", 16), ("m16n8k8", 8), ("m16n8k4", 4)]);
        let types = [form.ty()?, form.ty()?, form.ty()?, form.ty()?];
        let (true, Some(k)) = (layout, shape) else { return form.unsupported() };
        use MmaShape::*;
        let (shape, a_count, b_count, d_count) = match (k, types) {
            (8, [F(32), Type::Tf32, Type::Tf32, F(32)]) => (K8Tf32, 4, 2, 4),
            (4, [F(32), Type::Tf32, Type::Tf32, F(32)]) => (K4Tf32, 2, 1, 4),
            (16, [F(32), F(16), F(16), F(32)]) => (K16(Half::F16), 4, 2, 4),
            (16, [F(32), Type::Bf16, Type::Bf16, F(32)]) => (K16(Half::Bf16), 4, 2, 4),
            (8, [F(32), F(16), F(16), F(32)]) => (K8(Half::F16), 2, 1, 4),
            (8, [F(32), Type::Bf16, Type::Bf16, F(32)]) => (K8(Half::Bf16), 2, 1, 4),
            (16, [F(16), F(16), F(16), F(16)]) => (K16HalfSum, 4, 2, 2),
            (8, [F(16), F(16), F(16), F(16)]) => (K8HalfSum, 2, 1, 2),
            _ => return form.unsupported(),
        };
        let [d, a, b, c] = self.operands(form, operands)?;
        let list = |operand: &Operand, count: usize| match operand {
            Operand::Vector(parts) if parts.len() == count => Ok(parts.clone()),
            single if count == 1 => Ok(vec![single.clone()]),
            _ => form.fail(format!("{count} registers expected")),
        };
        let sum = if d_count == 2 { B(32) } else { F(32) };
        let mut rows = [[0; 4]; 4];
        for (i, part) in list(d, d_count)?.iter().enumerate() {
            rows[0][i] = self.target(form, part, 32)?;
        }
        for (which, (operand, count, ty)) in
            [(a, a_count, B(32)), (b, b_count, B(32)), (c, d_count, sum)].into_iter().enumerate()
        {
            for (i, part) in list(operand, count)?.iter().enumerate() {
                rows[which + 1][i] = self.source(form, part, ty)?;
            }
        }
        // The rest of a shorter fragment repeats its first register.
        for (rows, count) in rows.iter_mut().zip([d_count, a_count, b_count, d_count]) {
            let first = rows[0];
            rows[count..].fill(first);
        }
        let [d, a, b, c] = rows;
        // The warp's 2·16·8·k operations, divided among its 32 threads.
        Ok(Made { op: Op::Mma { shape, d, a, b: [b[0], b[1]], c }, class: Class::Mma, flops: 2 * 16 * 8 * k / 32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_registers_are_found_by_name_and_axis() {
        assert_eq!(special("%tid.y"), Some(Special::Tid(1)));
        assert_eq!(special("%lanemask_lt"), Some(Special::MaskLt));
        assert_eq!(special("%tid.w"), None);
        assert_eq!(special("tid.x"), None);
    }
}
