//! Tensor maps, compared with plain loops over elements and with results that cards have given.

mod encoding;
mod im2col;
mod refusal;
mod store;
mod swizzle;
mod tile;

use virtual_gpu::tensor_map::{Allocation, Arguments, TensorMap, swizzle};

/// A small generator of random numbers (SplitMix64), the same on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `least` to `most`.
    fn range(&mut self, least: i64, most: i64) -> i64 {
        least + (self.next() % (most - least + 1) as u64) as i64
    }
}

/// Where the tensors of these tests begin.
const ADDRESS: u64 = 0x7f_0000_1000;
/// What shared memory holds where nothing was written.
const UNTOUCHED: u8 = 0xcd;

// Numbers of cuda.h.
const U8: u32 = 0;
const U16: u32 = 1;
const U32: u32 = 2;
const F32: u32 = 7;
const F64: u32 = 8;

/// The arguments of an encoding, to be changed by each test.
#[derive(Clone)]
struct Case {
    data_type: u32,
    address: u64,
    allocated: bool,
    dims: Vec<u64>,
    strides: Vec<u64>,
    steps: Vec<u32>,
    interleave: u32,
    swizzle: u32,
    promotion: u32,
    fill: u32,
    box_dim: Vec<u32>,
    lower: Vec<i32>,
    upper: Vec<i32>,
    channels: u32,
    pixels: u32,
}

impl Case {
    /// A dense tensor of 4-byte elements, and a box of four elements.
    fn new(dims: &[u64]) -> Case {
        let rank = dims.len();
        let mut case = Case {
            data_type: U32,
            address: ADDRESS,
            allocated: true,
            dims: dims.to_vec(),
            strides: Vec::new(),
            steps: vec![1; rank],
            interleave: 0,
            swizzle: 0,
            promotion: 0,
            fill: 0,
            box_dim: vec![1; rank],
            lower: vec![0; rank.saturating_sub(2)],
            upper: vec![0; rank.saturating_sub(2)],
            channels: 4,
            pixels: 1,
        };
        case.box_dim[0] = 4;
        case.dense(4, 0);
        case
    }

    /// Strides for elements of `size` bytes, with `padding` more chunks of 16 bytes after each dimension.
    fn dense(&mut self, size: u64, padding: u64) {
        let mut bytes = size;
        self.strides.clear();
        for dim in &self.dims[..self.dims.len() - 1] {
            // Tests with dimensions so large that this overflows set their own strides.
            bytes = bytes.wrapping_mul(*dim).wrapping_add(15 + 16 * padding) & !15;
            self.strides.push(bytes);
        }
    }

    fn arguments(&self) -> Arguments<'_> {
        Arguments {
            data_type: self.data_type,
            address: self.address,
            allocation: self.allocated.then_some(Allocation { base: self.address & !0xff, bytes: 1 << 30 }),
            dims: &self.dims,
            strides: &self.strides,
            element_strides: &self.steps,
            interleave: self.interleave,
            swizzle: self.swizzle,
            l2_promotion: self.promotion,
            oob_fill: self.fill,
        }
    }

    fn tiled(&self) -> Result<TensorMap, String> {
        TensorMap::tiled(&self.arguments(), &self.box_dim)
    }

    fn im2col(&self) -> Result<TensorMap, String> {
        TensorMap::im2col(&self.arguments(), &self.lower, &self.upper, self.channels, self.pixels)
    }

    /// The byte of the tensor's memory that holds the element at `at`; none outside of the tensor.
    fn offset(&self, at: &[i64]) -> Option<u64> {
        let inside = at.iter().zip(&self.dims).all(|(at, dim)| *at >= 0 && (*at as u64) < *dim);
        let outer = || at[1..].iter().zip(&self.strides).map(|(at, stride)| *at as u64 * stride).sum::<u64>();
        inside.then(|| outer() + at[0] as u64 * size(self.data_type))
    }
}

fn size(data_type: u32) -> u64 {
    match data_type {
        U8 => 1,
        U16 | 6 | 9 => 2,
        4 | 5 | F64 => 8,
        _ => 4,
    }
}

/// The byte of global memory at an offset from the tensor's address: never zero, as fill is.
fn memory(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 | 1
}

/// The memory of `memory`, but 4-byte words that count from 1.
fn counting(offset: u64) -> u8 {
    (offset as u32 / 4 + 1).to_le_bytes()[offset as usize % 4]
}

/// Shared memory after a load to `base`, and the bytes that it has written. `visit` gives the runs.
fn loaded(
    map: &TensorMap,
    base: u64,
    memory: impl Fn(u64) -> u8,
    visit: impl FnOnce(&mut dyn FnMut(usize, usize, Option<u64>) -> Result<(), String>) -> Result<(), String>,
) -> Result<Vec<u8>, String> {
    let mut shared = vec![UNTOUCHED; base as usize + map.extent()];
    let mut written = 0;
    visit(&mut |offset, bytes, address| {
        assert!(bytes > 0);
        written += bytes;
        for i in 0..bytes {
            let at = swizzle(map.swizzle(), base + (offset + i) as u64) as usize;
            assert_eq!(shared[at], UNTOUCHED, "{at} is written twice");
            shared[at] = address.map_or(0, |address| memory(address + i as u64 - ADDRESS));
        }
        Ok(())
    })?;
    assert_eq!(written, map.bytes());
    Ok(shared)
}

/// PTX ISA, "Swizzling modes": the chunks of 16 bytes in each line of 128 bytes. Later lines repeat them.
const CHUNKS_OF_32B: [[u64; 8]; 2] = [[0, 1, 2, 3, 4, 5, 6, 7], [1, 0, 3, 2, 5, 4, 7, 6]];
const CHUNKS_OF_64B: [[u64; 8]; 4] =
    [[0, 1, 2, 3, 4, 5, 6, 7], [1, 0, 3, 2, 5, 4, 7, 6], [2, 3, 0, 1, 6, 7, 4, 5], [3, 2, 1, 0, 7, 6, 5, 4]];
const CHUNKS_OF_128B: [[u64; 8]; 8] = [
    [0, 1, 2, 3, 4, 5, 6, 7],
    [1, 0, 3, 2, 5, 4, 7, 6],
    [2, 3, 0, 1, 6, 7, 4, 5],
    [3, 2, 1, 0, 7, 6, 5, 4],
    [4, 5, 6, 7, 0, 1, 2, 3],
    [5, 4, 7, 6, 1, 0, 3, 2],
    [6, 7, 4, 5, 2, 3, 0, 1],
    [7, 6, 5, 4, 3, 2, 1, 0],
];

/// The address of a byte under a swizzle of cuda.h, by the tables.
fn placed(swizzle: u32, address: u64) -> u64 {
    let (line, chunk) = (address / 128, (address / 16 % 8) as usize);
    let chunk = match swizzle {
        1 => CHUNKS_OF_32B[line as usize % 2][chunk],
        2 => CHUNKS_OF_64B[line as usize % 4][chunk],
        3 => CHUNKS_OF_128B[line as usize % 8][chunk],
        _ => chunk as u64,
    };
    line * 128 + chunk * 16 + address % 16
}

/// Shared memory as it must be after a load to `base` of rows of elements, each at an offset of the tensor or fill.
fn expected(case: &Case, base: u64, rows: &[Vec<Option<u64>>], memory: impl Fn(u64) -> u8) -> Vec<u8> {
    let size = size(case.data_type);
    let width = [0, 32, 64, 128][case.swizzle as usize];
    let pitch = (rows[0].len() as u64 * size).max(width);
    let mut shared = vec![UNTOUCHED; (base + rows.len() as u64 * pitch) as usize];
    for (y, row) in rows.iter().enumerate() {
        for (x, element) in row.iter().enumerate() {
            for byte in 0..size {
                let at = placed(case.swizzle, base + y as u64 * pitch + x as u64 * size + byte);
                shared[at as usize] = element.map_or(0, |offset| memory(offset + byte));
            }
        }
    }
    shared
}
