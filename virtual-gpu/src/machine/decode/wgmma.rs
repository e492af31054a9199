//! `wgmma` (PTX ISA 9.0, "Asynchronous Warpgroup Level Matrix Instructions").

use super::*;
use crate::arith::tensor_core::{Input, Output};
use Type::{B, F};

/// The registers of A in a thread.
const A_REGISTERS: usize = 4;

impl Decoder {
    pub(super) fn wgmma(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        if self.names.target != 90 || !self.names.specific {
            return form.fail("this form needs `.target sm_90a`");
        }
        self.program.has_wgmma = true;
        let name = form.any(&[("fence", 0), ("commit_group", 1), ("wait_group", 2), ("mma_async", 3)]);
        let aligned = form.take("sync") & form.take("aligned");
        let (true, Some(name)) = (aligned, name) else { return form.unsupported() };
        let op = match name {
            0 | 1 => {
                self.operands::<0>(form, operands)?;
                if name == 0 { Op::WgmmaFence } else { Op::WgmmaCommit }
            }
            2 => {
                let [left] = self.operands(form, operands)?;
                Op::WgmmaWait { left: self.number(form, left)?.min(u64::from(u32::MAX)) as u32 }
            }
            _ => return self.mma_async(form, operands),
        };
        made(op, Class::Barrier)
    }

    fn mma_async(&mut self, form: &mut Form, operands: &[Operand]) -> Decoded<Made> {
        let Some((n, k)) = form.take_with(|modifier| {
            let (n, k) = modifier.strip_prefix("m64n")?.split_once('k')?;
            Some((n.parse::<usize>().ok()?, k.parse::<usize>().ok()?))
        }) else {
            return form.unsupported();
        };
        let types = [form.ty()?, form.ty()?, form.ty()?];
        let (input, output) = match (k, types) {
            (16, [F(32), Type::Bf16, Type::Bf16]) => (Input::Bf16, Output::F32),
            (16, [F(32), F(16), F(16)]) => (Input::F16, Output::F32),
            (16, [F(16), F(16), F(16)]) => (Input::F16, Output::F16),
            (8, [F(32), Type::Tf32, Type::Tf32]) => (Input::Tf32, Output::F32),
            _ => return form.unsupported(),
        };
        if !(8..=256).contains(&n) || !n.is_multiple_of(8) {
            return form.fail(format!("{n} columns: 8 to 256 in steps of 8 are allowed"));
        }
        let [d, a, b, adds, rest @ ..] = operands else { return form.fail("operands are missing") };
        let count = if output == Output::F16 { n / 4 } else { n / 2 };
        let d = self.registers(form, d, count)?;
        let d = d.iter().map(|part| self.target(form, part, 32)).collect::<Decoded<Vec<R>>>()?;
        if d.contains(&NOWHERE) || d.iter().collect::<HashSet<_>>().len() != d.len() {
            return form.fail("each accumulator must be a register of its own");
        }
        let a = match a {
            Operand::Vector(parts) => {
                let parts = self.registers(form, a, A_REGISTERS).map(|_| parts)?;
                let mut rows = [0; A_REGISTERS];
                for (row, part) in rows.iter_mut().zip(parts) {
                    *row = self.source(form, part, B(32))?;
                }
                MatrixA::Registers(rows)
            }
            _ => MatrixA::Descriptor(self.source(form, a, B(64))?),
        };
        let b = self.source(form, b, B(64))?;
        let adds = self.predicate(form, adds)?;
        // The signs, then for 16-bit types which of the matrices in shared memory are transposed.
        let in_shared = if matches!(a, MatrixA::Descriptor(_)) { 2 } else { 1 };
        let turns = if input == Input::Tf32 { 0 } else { in_shared };
        if rest.len() != 2 + turns {
            return form.fail(format!("{} operands expected, not {}", 6 + turns, operands.len()));
        }
        let mut negate = [false; 2];
        for (negate, sign) in negate.iter_mut().zip(rest) {
            *negate = match self.number(form, sign)? as i64 {
                1 => false,
                -1 => true,
                other => return form.fail(format!("a sign of {other}: 1 or -1 is expected")),
            };
        }
        let mut transposed = [false; 2];
        for (transposed, turn) in transposed[2 - turns..].iter_mut().zip(&rest[2..]) {
            *transposed = match self.number(form, turn)? {
                turn @ (0 | 1) => turn == 1,
                other => return form.fail(format!("a transposition of {other}: 0 or 1 is expected")),
            };
        }
        let wgmma = Wgmma { n, input, output, d, a, b, adds, negate, transposed };
        // The 2·64·n·k operations, divided among the warpgroup's 128 threads.
        Ok(Made { op: Op::Wgmma(Box::new(wgmma)), class: Class::Mma, flops: (2 * 64 * n * k / 128) as u32 })
    }

    fn registers<'o>(&self, form: &Form, operand: &'o Operand, count: usize) -> Decoded<&'o [Operand]> {
        match operand {
            Operand::Vector(parts) if parts.len() == count => Ok(parts),
            _ => form.fail(format!("{count} registers in braces expected")),
        }
    }
}
