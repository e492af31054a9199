//! Matrix products of whole warps, and the loads and stores of their fragments: PTX ISA 9.0, section 9.7.14.5 (Matrix
//! multiply-accumulate operation using `mma` instruction).
//!
//! A fragment is what the registers of a warp's 32 lanes hold of a matrix, `[lane][register]`. A is row-major, B is
//! column-major: `.row.col`, the only layouts of these shapes.
//!
//! The manual leaves open in which order the products of one element are summed, and how sums are rounded, as long as
//! the precision is at least single. Here the sum starts with the element of C and takes the products in the order of
//! `k`, each sum rounded to the nearest `f32`. Products of two `f16`, two `bf16` or two `tf32` fit `f32` exactly, unless
//! they leave its range. Subnormal numbers count in full. NaN comes out as 0x7fffffff.
//!
//! With `.f16` accumulators the sums are the same, and are rounded to the nearest `f16` once, at the end.

use super::Rounding;
use super::float::NAN32;
use super::half::{Half, f16_to_f32, f32_to_f16, widen_f16};

/// The rows of A, C and D.
const M: usize = 16;
/// The columns of B, C and D.
const N: usize = 8;

type Accumulator = [[f32; N]; M];

/// The lane's group (`groupID` in the manual) and its number in the group (`threadID_in_group`).
#[inline]
fn place(lane: usize) -> (usize, usize) {
    (lane / 4, lane % 4)
}

/// `mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32`. Only the upper 19 bits of the registers of A and B count.
pub fn m16n8k8_tf32(a: &[[u32; 4]; 32], b: &[[u32; 2]; 32], c: &[[f32; 4]; 32]) -> [[f32; 4]; 32] {
    let mut rows = [[0.0; 8]; M];
    let mut columns = [[0.0; N]; 8];
    for lane in 0..32 {
        let (group, i) = place(lane);
        rows[group][i] = tf32(a[lane][0]);
        rows[group + 8][i] = tf32(a[lane][1]);
        rows[group][i + 4] = tf32(a[lane][2]);
        rows[group + 8][i + 4] = tf32(a[lane][3]);
        columns[i][group] = tf32(b[lane][0]);
        columns[i + 4][group] = tf32(b[lane][1]);
    }
    let mut d = gather(c);
    multiply(&rows, &columns, &mut d);
    scatter(&d)
}

/// `mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32`.
pub fn m16n8k4_tf32(a: &[[u32; 2]; 32], b: &[[u32; 1]; 32], c: &[[f32; 4]; 32]) -> [[f32; 4]; 32] {
    let mut rows = [[0.0; 4]; M];
    let mut columns = [[0.0; N]; 4];
    for lane in 0..32 {
        let (group, i) = place(lane);
        rows[group][i] = tf32(a[lane][0]);
        rows[group + 8][i] = tf32(a[lane][1]);
        columns[i][group] = tf32(b[lane][0]);
    }
    let mut d = gather(c);
    multiply(&rows, &columns, &mut d);
    scatter(&d)
}

/// `mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32`, and the same with `.bf16`.
pub fn m16n8k16(kind: Half, a: &[[u32; 4]; 32], b: &[[u32; 2]; 32], c: &[[f32; 4]; 32]) -> [[f32; 4]; 32] {
    let mut d = gather(c);
    k16(kind, a, b, &mut d);
    scatter(&d)
}

/// `mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32`, and the same with `.bf16`.
pub fn m16n8k8(kind: Half, a: &[[u32; 2]; 32], b: &[[u32; 1]; 32], c: &[[f32; 4]; 32]) -> [[f32; 4]; 32] {
    let mut d = gather(c);
    k8(kind, a, b, &mut d);
    scatter(&d)
}

/// `mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16`.
pub fn m16n8k16_f16_acc(a: &[[u32; 4]; 32], b: &[[u32; 2]; 32], c: &[[u32; 2]; 32]) -> [[u32; 2]; 32] {
    let mut d = gather_f16(c);
    k16(Half::F16, a, b, &mut d);
    scatter_f16(&d)
}

/// `mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16`.
pub fn m16n8k8_f16_acc(a: &[[u32; 2]; 32], b: &[[u32; 1]; 32], c: &[[u32; 2]; 32]) -> [[u32; 2]; 32] {
    let mut d = gather_f16(c);
    k8(Half::F16, a, b, &mut d);
    scatter_f16(&d)
}

#[inline]
fn tf32(register: u32) -> f32 {
    f32::from_bits(register & 0xffff_e000)
}

fn k16(kind: Half, a: &[[u32; 4]; 32], b: &[[u32; 2]; 32], d: &mut Accumulator) {
    // A register holds two elements that are neighbours in k.
    let mut rows = [[0; 8]; M];
    let mut columns = [[0; N]; 8];
    for lane in 0..32 {
        let (group, i) = place(lane);
        rows[group][i] = a[lane][0];
        rows[group + 8][i] = a[lane][1];
        rows[group][i + 4] = a[lane][2];
        rows[group + 8][i + 4] = a[lane][3];
        columns[i][group] = b[lane][0];
        columns[i + 4][group] = b[lane][1];
    }
    multiply(&widen_rows::<8, 16>(kind, &rows), &widen_columns::<8, 16>(kind, &columns), d);
}

fn k8(kind: Half, a: &[[u32; 2]; 32], b: &[[u32; 1]; 32], d: &mut Accumulator) {
    let mut rows = [[0; 4]; M];
    let mut columns = [[0; N]; 4];
    for lane in 0..32 {
        let (group, i) = place(lane);
        rows[group][i] = a[lane][0];
        rows[group + 8][i] = a[lane][1];
        columns[i][group] = b[lane][0];
    }
    multiply(&widen_rows::<4, 8>(kind, &rows), &widen_columns::<4, 8>(kind, &columns), d);
}

/// The lower and the upper element of a register.
#[inline(always)]
fn widen(kind: Half, pair: u32) -> (f32, f32) {
    match kind {
        Half::F16 => (widen_f16(pair as u16), widen_f16((pair >> 16) as u16)),
        Half::Bf16 => (f32::from_bits(pair << 16), f32::from_bits(pair & 0xffff_0000)),
    }
}

#[inline]
fn widen_rows<const PAIRS: usize, const K: usize>(kind: Half, pairs: &[[u32; PAIRS]; M]) -> [[f32; K]; M] {
    let mut rows = [[0.0; K]; M];
    for (row, pairs) in rows.iter_mut().zip(pairs) {
        for (two, &pair) in row.chunks_exact_mut(2).zip(pairs) {
            (two[0], two[1]) = widen(kind, pair);
        }
    }
    rows
}

#[inline]
fn widen_columns<const PAIRS: usize, const K: usize>(kind: Half, pairs: &[[u32; N]; PAIRS]) -> [[f32; N]; K] {
    let mut columns = [[0.0; N]; K];
    for (two, pairs) in columns.chunks_exact_mut(2).zip(pairs) {
        let (even, odd) = two.split_at_mut(1);
        for n in 0..N {
            (even[0][n], odd[0][n]) = widen(kind, pairs[n]);
        }
    }
    columns
}

/// Where the registers of C and D lie: row and first column of two, of each pair of registers of a lane.
#[inline]
fn pairs_of(lane: usize) -> [(usize, usize); 2] {
    let (group, i) = place(lane);
    [(group, 2 * i), (group + 8, 2 * i)]
}

fn gather(c: &[[f32; 4]; 32]) -> Accumulator {
    let mut matrix = [[0.0; N]; M];
    for (lane, registers) in c.iter().enumerate() {
        for (two, (row, column)) in registers.chunks_exact(2).zip(pairs_of(lane)) {
            matrix[row][column] = two[0];
            matrix[row][column + 1] = two[1];
        }
    }
    matrix
}

fn scatter(d: &Accumulator) -> [[f32; 4]; 32] {
    let canonical = |v: f32| if v.is_nan() { NAN32 } else { v };
    let mut registers = [[0.0; 4]; 32];
    for (lane, registers) in registers.iter_mut().enumerate() {
        for (two, (row, column)) in registers.chunks_exact_mut(2).zip(pairs_of(lane)) {
            two[0] = canonical(d[row][column]);
            two[1] = canonical(d[row][column + 1]);
        }
    }
    registers
}

fn gather_f16(c: &[[u32; 2]; 32]) -> Accumulator {
    let mut matrix = [[0.0; N]; M];
    for (lane, registers) in c.iter().enumerate() {
        for (&pair, (row, column)) in registers.iter().zip(pairs_of(lane)) {
            matrix[row][column] = f16_to_f32(pair as u16);
            matrix[row][column + 1] = f16_to_f32((pair >> 16) as u16);
        }
    }
    matrix
}

fn scatter_f16(d: &Accumulator) -> [[u32; 2]; 32] {
    let half = |v: f32| f32_to_f16(v, Rounding::Nearest) as u32;
    let mut registers = [[0; 2]; 32];
    for (lane, registers) in registers.iter_mut().enumerate() {
        for (pair, (row, column)) in registers.iter_mut().zip(pairs_of(lane)) {
            *pair = half(d[row][column]) | half(d[row][column + 1]) << 16;
        }
    }
    registers
}

/// `d += a * b`, by the rule at the top of this file.
fn multiply<const K: usize>(a: &[[f32; K]; M], b: &[[f32; N]; K], d: &mut Accumulator) {
    // Four rows at a time keep enough sums in flight to hide an addition's latency, and still fit the registers.
    const ROWS: usize = 4;
    for (a, d) in a.chunks_exact(ROWS).zip(d.chunks_exact_mut(ROWS)) {
        let mut sums = [[0.0; N]; ROWS];
        sums.copy_from_slice(d);
        for k in 0..K {
            for (sum, a) in sums.iter_mut().zip(a) {
                for n in 0..N {
                    sum[n] += a[k] * b[k][n];
                }
            }
        }
        d.copy_from_slice(&sums);
    }
}

/// The matrix whose row the address of `lane` names in `ldmatrix` and `stmatrix`, and that row: lanes 0 to 7 for the
/// first matrix, 8 to 15 for the second, and so on. With `.x1` only the addresses of the first 8 lanes count, with
/// `.x2` those of the first 16.
#[inline]
pub fn ldmatrix_address(lane: usize) -> (usize, usize) {
    (lane / 8, lane % 8)
}

/// `ldmatrix.m8n8.b16` for one matrix: the register of each lane. A lane gets two neighbours of a row, or with `.trans`
/// of a column, the one with the lower index in the lower half.
#[inline]
pub fn ldmatrix(rows: &[[u16; 8]; 8], trans: bool) -> [u32; 32] {
    std::array::from_fn(|lane| {
        let [low, high] = elements(lane, trans).map(|(row, column)| rows[row][column]);
        low as u32 | (high as u32) << 16
    })
}

/// `stmatrix.m8n8.b16` for one matrix: the inverse of [`ldmatrix`].
#[inline]
pub fn stmatrix(registers: &[u32; 32], trans: bool) -> [[u16; 8]; 8] {
    let mut rows = [[0; 8]; 8];
    for (lane, &register) in registers.iter().enumerate() {
        let [low, high] = elements(lane, trans);
        rows[low.0][low.1] = register as u16;
        rows[high.0][high.1] = (register >> 16) as u16;
    }
    rows
}

/// The row and the column of the two elements of an 8 by 8 matrix that a lane's register holds.
#[inline]
fn elements(lane: usize, trans: bool) -> [(usize, usize); 2] {
    let (group, i) = place(lane);
    [2 * i, 2 * i + 1].map(|along| if trans { (along, group) } else { (group, along) })
}
