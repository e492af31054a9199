//! `wgmma.mma_async`: the product of matrices in shared memory by a warpgroup (PTX ISA 9.0, "Asynchronous Warpgroup Level Matrix
//! Multiply-Accumulate Operation").
//!
//! The four warps of a warpgroup meet at the instruction, which is then executed for all. D has 64 rows, 16 for each warp, and
//! lies in the registers as that of `mma.m16n8` does, eight columns after eight. A descriptor says where A or B lies.

use std::ops::Range;

use super::agent::Agent;
use super::alike::Alike;
use super::exec::Env;
use super::program::*;
use super::shared::{Actor, Fault, Touch};
use super::trap::TrapKind;
use super::warp::Warp;
use crate::arith::Rounding;
use crate::arith::half::{f16_to_f32, f32_to_f16};
use crate::arith::mma;
use crate::arith::tensor_core::{Input, Left, M, N, Output, Right, Sums};

/// Bytes that are contiguous wherever the matrix lies.
const CHUNK: usize = 16;

/// A matrix descriptor (PTX ISA 9.0, "Matrix Descriptor Format").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Descriptor {
    start: usize,
    /// Bytes from one core matrix to the next, in the leading dimension and in the other.
    leading: usize,
    stride: usize,
    /// The bytes of a row that are swizzled: 128, 64, 32, or 0.
    width: usize,
}

impl Descriptor {
    fn decode(bits: u64) -> Result<Descriptor, String> {
        let field = |from: u32| (bits >> from & 0x3fff) as usize * 16;
        let width = [0, 128, 64, 32][(bits >> 62) as usize];
        if bits & !(0x3fff | 0x3fff << 16 | 0x3fff << 32 | 7 << 49 | 3 << 62) != 0 {
            return Err(format!("the descriptor {bits:#018x} has bits outside of its fields"));
        }
        if bits >> 49 & 7 != 0 {
            return Err(format!("the descriptor {bits:#018x} has a base offset, which is not supported"));
        }
        let found = Descriptor { start: field(0), leading: field(16), stride: field(32), width };
        // The pattern repeats after eight rows.
        if width != 0 && found.start & (width * 8 - 1) & !(128 - 1) != 0 {
            return Err(format!(
                "the swizzle pattern begins at {:#x}, which is not a multiple of {}, and the base offset is 0",
                found.start,
                width * 8
            ));
        }
        Ok(found)
    }

    /// The address of the chunk that begins with element `k` of row `row`, of elements of `size` bytes, before the swizzle. With
    /// `transposed` the rows, not `k`, are innermost.
    fn chunk(&self, row: usize, k: usize, size: usize, transposed: bool) -> usize {
        let elements = CHUNK / size;
        self.start
            + match (transposed, self.width) {
                (false, 0) => row % 8 * CHUNK + row / 8 * self.stride + k / elements * self.leading,
                (false, width) => row % 8 * width + row / 8 * self.stride + k * size,
                (true, 0) => row / elements * self.stride + k % 8 * CHUNK + k / 8 * self.leading,
                (true, width) => {
                    let along = width / size;
                    row % along * size + row / along * self.leading + k % 8 * width + k / 8 * self.stride
                }
            }
    }

    fn swizzled(&self, address: usize) -> usize {
        address ^ (address >> 7 & (self.width / CHUNK).saturating_sub(1)) << 4
    }
}

/// Where elements go that are read together: the row of A, or the column of B, and the `k` of the first, and whether the next one
/// is of the next row or of the next `k`.
struct Run {
    row: usize,
    k: usize,
    down: bool,
}

/// A warp's part of eight columns of C and D: of each of the 16 rows two adjacent elements for each of four lanes.
type Pairs = [[f32; 2]; M * N / 2];

/// An error comes with the warp's number among the four.
type Executed<T> = Result<T, (usize, Box<Fault>)>;

impl Env<'_> {
    /// Executes the instruction at which the four warps of a warpgroup have met.
    pub(super) fn wgmma(&mut self, warps: &mut [Warp], wgmma: &Wgmma) -> Executed<()> {
        let adds = wgmma.adds.lanes(&warps[0].predicates);
        for (index, warp) in warps.iter_mut().enumerate() {
            let mixed = if matches!(adds, 0 | u32::MAX) { adds ^ wgmma.adds.lanes(&warp.predicates) } else { adds };
            if mixed != 0 {
                let message = "the predicate that adds C (scale-d) differs among the threads of the warpgroup";
                return Err((index, Fault::new(TrapKind::Wgmma, mixed.trailing_zeros() as usize, message)));
            }
            if self.checks {
                self.wgmma_issued(warp, wgmma).map_err(|fault| (index, fault))?;
            }
        }
        if wgmma.input == Input::Tf32 {
            self.wgmma_of::<8>(warps, wgmma)?;
        } else {
            self.wgmma_of::<16>(warps, wgmma)?;
        }
        self.shared.generation += 1;
        Ok(())
    }

    fn wgmma_of<const K: usize>(&mut self, warps: &mut [Warp], wgmma: &Wgmma) -> Executed<()> {
        let mut b = vec![[[0.0; N]; K]; wgmma.n / N];
        let found = self.descriptor(warps, wgmma.b, 1)?;
        // Of B each warp reads all, so each must know that it may.
        self.read(warps, (0, &warps[1..]), &found, 0..wgmma.n, wgmma, |Run { row, k, down }, values| {
            if down {
                b[row / N][k][row % N..][..values.len()].copy_from_slice(values);
            } else {
                let tile = &mut b[row / N][k..];
                tile.iter_mut().zip(values).for_each(|(to, value)| to[row % N] = *value);
            }
        })?;
        let a = match wgmma.a {
            MatrixA::Descriptor(descriptor) => Some(self.descriptor(warps, descriptor, 0)?),
            MatrixA::Registers(_) => None,
        };
        let core = match self.sums {
            Sums::Core(core) => Some((core, b.iter().map(|b| Right::new(wgmma.input, *b)).collect::<Vec<Right<K>>>())),
            Sums::Ordered => None,
        };
        for index in 0..warps.len() {
            let left = self.left(warps, index, wgmma, a.as_ref())?;
            let warp = &mut warps[index];
            match &core {
                Some((core, b)) => {
                    let left = Left::new(wgmma.input, left);
                    accumulate(warp, wgmma, |tile, sums| core.accumulate(wgmma.output, &left, &b[tile], sums));
                }
                None => accumulate(warp, wgmma, |tile, sums| {
                    for (left, sums) in left.as_chunks().0.iter().zip(sums.as_chunks_mut().0) {
                        mma::accumulate(left, &b[tile], sums);
                    }
                }),
            }
        }
        Ok(())
    }

    /// The 16 rows of A of one warp.
    fn left<const K: usize>(
        &mut self,
        warps: &[Warp],
        index: usize,
        wgmma: &Wgmma,
        descriptor: Option<&Operand>,
    ) -> Executed<[[f32; K]; M]> {
        let mut rows = [[0.0; K]; M];
        if let Some(found) = descriptor {
            let first = index * M;
            self.read(warps, (index, &[]), found, first..first + M, wgmma, |Run { row, k, down }, values| {
                if down {
                    let rows = &mut rows[row - first..];
                    rows.iter_mut().zip(values).for_each(|(to, value)| to[k] = *value);
                } else {
                    rows[row - first][k..][..values.len()].copy_from_slice(values);
                }
            })?;
        }
        if let MatrixA::Registers(registers) = wgmma.a {
            for (i, register) in registers.iter().enumerate() {
                let register = warps[index].row(&self.program.constants, *register);
                for (lane, bits) in register.iter().enumerate() {
                    let (row, quarter) = (lane / 4 + i % 2 * 8, lane % 4);
                    let mut chunk = [0; CHUNK];
                    chunk[..4].copy_from_slice(&(*bits as u32).to_le_bytes());
                    let values = widen(wgmma.input, &chunk, wgmma.negate[0]);
                    if K == 8 {
                        rows[row][quarter + i / 2 * 4] = values[0];
                    } else {
                        rows[row][2 * quarter + i / 2 * 8..][..2].copy_from_slice(&values[..2]);
                    }
                }
            }
        }
        Ok(rows)
    }

    /// The matrix of a descriptor, which is the same in all threads.
    fn descriptor(&self, warps: &[Warp], register: R, number: usize) -> Executed<Operand> {
        let wrong = |warp: usize, message: String| {
            Err((warp, Fault::new(TrapKind::Wgmma, 0, format!("{message} (of {})", NAMES[number]))))
        };
        let constants = &self.program.constants;
        let bits = warps[0].row(constants, register)[0];
        for (index, warp) in warps.iter().enumerate() {
            let rest = warp.row(constants, register);
            // Without an early exit it is a few comparisons of vectors.
            if rest.iter().fold(0, |all, other| all | other ^ bits) != 0 {
                let other = rest.iter().find(|other| **other != bits).unwrap_or(&bits);
                return wrong(index, format!("the descriptor differs among the threads: {bits:#018x}, {other:#018x}"));
            }
        }
        match Descriptor::decode(bits) {
            Ok(descriptor) => Ok(Operand { number, descriptor, bits }),
            Err(message) => wrong(0, message),
        }
    }

    /// Reads rows of A, or columns of B, with their checks: by one of the warps, and others beside it.
    fn read(
        &mut self,
        warps: &[Warp],
        (index, beside): (usize, &[Warp]),
        Operand { number, descriptor, bits }: &Operand,
        rows: Range<usize>,
        wgmma: &Wgmma,
        mut put: impl FnMut(Run, &[f32]),
    ) -> Executed<()> {
        let warp = &warps[index];
        let (agent, thread) = (Agent::matrix(warp.index / 4), warp.index * 32);
        let actor = Actor { agent, thread, lanes: u32::MAX, knowledge: &warp.knowledge, beside, alone: false };
        let (down, negate, name) = (wgmma.transposed[*number], wgmma.negate[*number], NAMES[*number]);
        let (size, depth) = if wgmma.input == Input::Tf32 { (4, 8) } else { (2, 16) };
        let elements = CHUNK / size;
        let mut alike = Alike::default();
        let mut chunk = |row: usize, k: usize| {
            let at = descriptor.swizzled(descriptor.chunk(row, k, size, down));
            if at + CHUNK > self.shared.size() {
                let has = self.shared.size();
                let message =
                    format!("the descriptor {bits:#018x} leads to {at:#x}, beyond the block's {has} bytes (of {name})");
                return Err((0, Fault::new(TrapKind::Wgmma, 0, message)));
            }
            let touched = self.shared.touch_alike(at, CHUNK, actor, Touch::AsyncRead, &mut alike);
            touched.map_err(|fault| (index, fault))?;
            let values = widen(wgmma.input, self.shared.chunk(at), negate);
            put(Run { row, k, down }, &values[..elements]);
            Ok(())
        };
        if down {
            (0..depth).try_for_each(|k| rows.clone().step_by(elements).try_for_each(|row| chunk(row, k)))
        } else {
            rows.clone().try_for_each(|row| (0..depth).step_by(elements).try_for_each(|k| chunk(row, k)))
        }
    }
}

/// A matrix in shared memory: the first operand or the second.
struct Operand {
    number: usize,
    descriptor: Descriptor,
    bits: u64,
}

const NAMES: [&str; 2] = ["A", "B"];

/// The elements of 16 bytes, four of TF32 or eight, negated if asked.
#[inline(always)]
fn widen(input: Input, chunk: &[u8; CHUNK], negate: bool) -> [f32; 8] {
    let sign = u32::from(negate) << 31;
    let half = |e: usize| u16::from_le_bytes([chunk[2 * e], chunk[2 * e + 1]]);
    match input {
        Input::Bf16 => std::array::from_fn(|e| f32::from_bits(u32::from(half(e)) << 16 ^ sign)),
        Input::F16 => std::array::from_fn(|e| f32::from_bits(f16_to_f32(half(e)).to_bits() ^ sign)),
        Input::Tf32 => {
            let mut values = [0.0; 8];
            for (value, bytes) in values.iter_mut().zip(chunk.as_chunks().0) {
                // The lower bits are not read.
                *value = f32::from_bits(u32::from_le_bytes(*bytes) & 0xffff_e000 ^ sign);
            }
            values
        }
    }
}

/// Adds to a warp's rows of D, eight columns at a time. Without C they begin as zero.
fn accumulate(warp: &mut Warp, wgmma: &Wgmma, mut add: impl FnMut(usize, &mut [[f32; N]; M])) {
    let adds = wgmma.adds.lanes(&warp.predicates) != 0;
    let registers = if wgmma.output == Output::F16 { 2 } else { 4 };
    for (tile, d) in wgmma.d.chunks_exact(registers).enumerate() {
        let mut pairs: Pairs = [[0.0; 2]; M * N / 2];
        if adds {
            load_sums(warp, d, &mut pairs);
        }
        let mut sums = [[0.0; N]; M];
        sums.as_flattened_mut().copy_from_slice(pairs.as_flattened());
        add(tile, &mut sums);
        pairs.as_flattened_mut().copy_from_slice(sums.as_flattened());
        keep_sums(warp, d, &pairs);
    }
}

/// Lane 4r + c holds the pair of row r and of columns 2c and 2c + 1, and that of row r + 8: in a register for each element, or in
/// one for a pair of f16.
fn load_sums(warp: &Warp, d: &[R], pairs: &mut Pairs) {
    let bits = |register: R| &warp.registers[register as usize];
    for (half, pairs) in pairs.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        match *d {
            [a, b, c, d] => {
                let (first, second) = if half == 0 { (bits(a), bits(b)) } else { (bits(c), bits(d)) };
                for (pair, (first, second)) in pairs.iter_mut().zip(first.iter().zip(second)) {
                    *pair = [f32::from_bits(*first as u32), f32::from_bits(*second as u32)];
                }
            }
            _ => {
                for (pair, bits) in pairs.iter_mut().zip(bits(d[half])) {
                    *pair = [f16_to_f32(*bits as u16), f16_to_f32((*bits >> 16) as u16)];
                }
            }
        }
    }
}

fn keep_sums(warp: &mut Warp, d: &[R], pairs: &Pairs) {
    let half_bits = |value: f32| u64::from(f32_to_f16(value, Rounding::Nearest));
    for (half, pairs) in pairs.as_chunks::<32>().0.iter().enumerate() {
        match *d {
            [a, b, c, d] => {
                for (i, register) in (if half == 0 { [a, b] } else { [c, d] }).into_iter().enumerate() {
                    let row = &mut warp.registers[register as usize];
                    row.iter_mut().zip(pairs).for_each(|(bits, pair)| *bits = pair[i].to_bits().into());
                }
            }
            _ => {
                let row = &mut warp.registers[d[half] as usize];
                row.iter_mut()
                    .zip(pairs)
                    .for_each(|(bits, pair)| *bits = half_bits(pair[0]) | half_bits(pair[1]) << 16);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_taken_apart() {
        let bits = 0x4000 >> 4 | 1 << 16 | (1024u64 >> 4) << 32 | 1 << 62;
        let found = Descriptor::decode(bits).expect("a descriptor");
        assert_eq!(found, Descriptor { start: 0x4000, leading: 16, stride: 1024, width: 128 });
        assert!(Descriptor::decode(bits | 1 << 14).is_err());
        assert!(Descriptor::decode(bits | 1 << 49).is_err());
        assert!(Descriptor::decode(bits + (128 >> 4)).is_err());
        assert!(Descriptor::decode(bits + (32 >> 4)).is_ok());
    }

    #[test]
    fn the_swizzle_exchanges_chunks_of_a_row() {
        let of = |width| Descriptor { start: 0, leading: 0, stride: 0, width };
        assert_eq!([0, 128, 256, 128 * 7].map(|at| of(128).swizzled(at)), [0, 144, 288, 1008]);
        assert_eq!([0, 128, 256, 384].map(|at| of(64).swizzled(at)), [0, 144, 288, 432]);
        assert_eq!([0, 128, 256, 384].map(|at| of(32).swizzled(at)), [0, 144, 256, 400]);
        assert_eq!(of(0).swizzled(128), 128);
    }
}
