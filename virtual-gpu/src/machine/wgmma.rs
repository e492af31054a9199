//! `wgmma.mma_async`: the product of matrices in shared memory by a warpgroup (PTX ISA 9.0, "Asynchronous Warpgroup Level Matrix
//! Multiply-Accumulate Operation").
//!
//! The four warps of a warpgroup meet at the instruction, which is then executed for all. D has 64 rows, 16 for each warp, and
//! lies in the registers as that of `mma.m16n8` does, eight columns after eight. A descriptor says where A or B lies.

use super::clock::{Agent, Knowledge};
use super::exec::{Done, Env};
use super::program::*;
use super::shared::{Actor, Alike, Fault, Touch};
use super::trap::TrapKind;
use super::warp::Warp;
use crate::arith::Rounding;
use crate::arith::half::{f16_to_f32, f32_to_f16};
use crate::arith::mma;
use crate::arith::tensor_core::{Input, Left, M, N, Output, Right, Sums};

/// Rows of a warpgroup's A and D.
const ROWS: usize = 64;
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

/// A matrix as it is read: a row for each row of A or column of B.
type Rows<const K: usize> = Vec<[f32; K]>;

impl Env<'_> {
    /// Executes the instruction at which the four warps of a warpgroup have met. An error comes with the warp's number among them.
    pub(super) fn wgmma(&mut self, warps: &mut [Warp], wgmma: &Wgmma) -> Result<(), (usize, Box<Fault>)> {
        for (index, warp) in warps.iter_mut().enumerate() {
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
        if self.count {
            self.counts.mma += 4;
        }
        Ok(())
    }

    fn wgmma_of<const K: usize>(&mut self, warps: &mut [Warp], wgmma: &Wgmma) -> Result<(), (usize, Box<Fault>)> {
        let mut common = Knowledge::of(warps[0].knowledge.all.clone());
        if self.checks {
            warps[1..].iter().for_each(|warp| common.all.meet(&warp.knowledge.all));
        }
        let mut a: Rows<K> = Vec::new();
        if let MatrixA::Descriptor(descriptor) = wgmma.a {
            a = self.matrix(warps, &common, (descriptor, "A"), ROWS, wgmma, 0)?;
        }
        let b: Rows<K> = self.matrix(warps, &common, (wgmma.b, "B"), wgmma.n, wgmma, 1)?;
        let right = |columns: &[[f32; K]]| std::array::from_fn(|k| std::array::from_fn(|n| columns[n][k]));
        let b: Vec<[[f32; N]; K]> = b.chunks(N).map(right).collect();
        match self.sums {
            Sums::Core(core) => {
                let b: Vec<Right<K>> = b.iter().map(|b| Right::new(wgmma.input, *b)).collect();
                for (index, warp) in warps.iter_mut().enumerate() {
                    let left = Left::new(wgmma.input, self.left(warp, wgmma, &a, index));
                    for (tile, b) in b.iter().enumerate() {
                        let mut sums = self.sums_of(warp, wgmma, tile);
                        core.accumulate(wgmma.output, &left, b, &mut sums);
                        put_sums(warp, wgmma, tile, &sums);
                    }
                }
            }
            Sums::Ordered => {
                for (index, warp) in warps.iter_mut().enumerate() {
                    let left = self.left(warp, wgmma, &a, index);
                    for (tile, b) in b.iter().enumerate() {
                        let mut sums = self.sums_of(warp, wgmma, tile);
                        for (left, sums) in left.as_chunks().0.iter().zip(sums.as_chunks_mut().0) {
                            mma::accumulate(left, b, sums);
                        }
                        put_sums(warp, wgmma, tile, &sums);
                    }
                }
            }
        }
        Ok(())
    }

    /// The 16 rows of A of one warp.
    fn left<const K: usize>(&self, warp: &Warp, wgmma: &Wgmma, a: &[[f32; K]], index: usize) -> [[f32; K]; M] {
        match wgmma.a {
            MatrixA::Descriptor(_) => std::array::from_fn(|row| a[index * M + row]),
            MatrixA::Registers(registers) => {
                let mut values = [[0.0; K]; M];
                for (i, register) in registers.iter().enumerate() {
                    let register = warp.row(&self.program.constants, *register);
                    for (lane, bits) in register.iter().enumerate() {
                        let (row, quarter) = (lane / 4 + i % 2 * 8, lane % 4);
                        let bits = *bits as u32;
                        if K == 8 {
                            values[row][quarter + i / 2 * 4] = element(wgmma, 0, bits);
                        } else {
                            let k = 2 * quarter + i / 2 * 8;
                            values[row][k] = element(wgmma, 0, bits & 0xffff);
                            values[row][k + 1] = element(wgmma, 0, bits >> 16);
                        }
                    }
                }
                values
            }
        }
    }

    /// The warp's 16 rows of eight columns of C, zero unless C is added.
    fn sums_of(&self, warp: &Warp, wgmma: &Wgmma, tile: usize) -> [[f32; N]; M] {
        let mut sums = [[0.0; N]; M];
        // The predicate is the same in all threads.
        if wgmma.adds.lanes(&warp.predicates) == 0 {
            return sums;
        }
        for half in 0..2 {
            for lane in 0..32 {
                let at = &mut sums[lane / 4 + half * 8][lane % 4 * 2..][..2];
                if wgmma.output == Output::F16 {
                    let bits = warp.registers[wgmma.d[tile * 2 + half] as usize][lane];
                    (at[0], at[1]) = (f16_to_f32(bits as u16), f16_to_f32((bits >> 16) as u16));
                } else {
                    for (i, at) in at.iter_mut().enumerate() {
                        let register = wgmma.d[tile * 4 + half * 2 + i];
                        *at = f32::from_bits(warp.registers[register as usize][lane] as u32);
                    }
                }
            }
        }
        sums
    }

    /// Reads `rows` rows of A, or columns of B, with their checks.
    fn matrix<const K: usize>(
        &mut self,
        warps: &[Warp],
        common: &Knowledge,
        (descriptor, name): (R, &str),
        rows: usize,
        wgmma: &Wgmma,
        operand: usize,
    ) -> Result<Rows<K>, (usize, Box<Fault>)> {
        let wrong = |warp: usize, message: String| {
            Err((warp, Fault::new(TrapKind::Wgmma, 0, format!("{message} (of {name})"))))
        };
        let constants = &self.program.constants;
        let bits = warps[0].row(constants, descriptor)[0];
        for (index, warp) in warps.iter().enumerate() {
            if let Some(other) = warp.row(constants, descriptor).iter().find(|other| **other != bits) {
                return wrong(index, format!("the descriptor differs among the threads: {bits:#018x}, {other:#018x}"));
            }
        }
        let found = match Descriptor::decode(bits) {
            Ok(found) => found,
            Err(message) => return wrong(0, message),
        };
        let (warpgroup, thread) = (warps[0].index / 4, warps[0].index * 32);
        let actor = Actor { agent: Agent::matrix(warpgroup), thread, knowledge: common, alone: false };
        let transposed = wgmma.transposed[operand];
        let size = if K == 8 { 4 } else { 2 };
        let elements = CHUNK / size;
        let mut values = vec![[0.0; K]; rows];
        let mut alike = Alike::default();
        let (outer, inner) = if transposed { (K, rows) } else { (rows, K) };
        for i in 0..outer {
            for j in (0..inner).step_by(elements) {
                let (row, k) = if transposed { (j, i) } else { (i, j) };
                let at = found.swizzled(found.chunk(row, k, size, transposed));
                if at + CHUNK > self.shared.size() {
                    let has = self.shared.size();
                    return wrong(
                        0,
                        format!("the descriptor {bits:#018x} leads to {at:#x}, beyond the block's {has} bytes"),
                    );
                }
                let touched = self.shared.touch_alike(at, CHUNK, actor, Touch::AsyncRead, &mut alike);
                touched.map_err(|fault| (0, fault))?;
                for (e, bytes) in self.shared.slice(at, CHUNK).chunks_exact(size).enumerate() {
                    let bits = bytes.iter().rev().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
                    let value = element(wgmma, operand, bits);
                    if transposed {
                        values[row + e][k] = value;
                    } else {
                        values[row][k + e] = value;
                    }
                }
            }
        }
        Ok(values)
    }
}

/// The value of an element of A (0) or B (1).
#[inline(always)]
fn element(wgmma: &Wgmma, operand: usize, bits: u32) -> f32 {
    let value = match wgmma.input {
        Input::Bf16 => f32::from_bits(bits << 16),
        Input::F16 => f16_to_f32(bits as u16),
        // The lower bits are not read.
        Input::Tf32 => f32::from_bits(bits & 0xffff_e000),
    };
    if wgmma.negate[operand] { -value } else { value }
}

fn put_sums(warp: &mut Warp, wgmma: &Wgmma, tile: usize, sums: &[[f32; N]; M]) {
    let half_bits = |value: f32| u64::from(f32_to_f16(value, Rounding::Nearest));
    for half in 0..2 {
        if wgmma.output == Output::F16 {
            let row = std::array::from_fn(|lane| {
                let at = &sums[lane / 4 + half * 8][lane % 4 * 2..];
                half_bits(at[0]) | half_bits(at[1]) << 16
            });
            warp.registers[wgmma.d[tile * 2 + half] as usize] = row;
            continue;
        }
        for i in 0..2 {
            let row = std::array::from_fn(|lane| sums[lane / 4 + half * 8][lane % 4 * 2 + i].to_bits().into());
            warp.registers[wgmma.d[tile * 4 + half * 2 + i] as usize] = row;
        }
    }
}

/// A warp alone cannot execute a `wgmma`.
pub(super) fn check_warp(warp: &Warp, mask: u32) -> Done {
    if mask == u32::MAX {
        return Ok(());
    }
    let lane = (!mask & warp.lanes).trailing_zeros() as usize % 32;
    let message = format!("only lanes {mask:#010x} execute this, which all threads of the warpgroup must");
    Err(Fault::new(TrapKind::MissingLanes, lane, message))
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
