//! Warp-wide matrix products, and the loads and stores of their fragments: PTX ISA 9.0, "Matrix multiply-accumulate
//! operation using mma instruction".
//!
//! A fragment is the part of a matrix that the registers of a warp's 32 lanes hold, indexed `[lane][register]`. A is
//! row-major and B is column-major: `.row.col`, the only layout of these shapes.
//!
//! The manual leaves open the order in which an element's products are summed and how the sums are rounded, as long as
//! the precision is at least single: [`Sums`] chooses. [`Sums::Ordered`] starts with the element of C and adds the products in
//! the order of `k`; each sum is rounded to the nearest `f32`. Products of two `f16`, two `bf16` or two `tf32` are exact in
//! `f32`, unless they leave its range. With `.f16` accumulators these sums are the same; the final one is rounded to the nearest
//! `f16`. In either case subnormal numbers are not flushed, and a NaN result is 0x7fffffff.

use super::Rounding;
use super::float::NAN32;
use super::half::{Half, f32_to_f16, widen_f16};
use super::tensor_core::{Input, Left, N, Output, Right, Sums};

/// The lane's group (`groupID` in the manual) and its index in the group (`threadID_in_group`).
#[inline]
fn place(lane: usize) -> (usize, usize) {
    (lane / 4, lane % 4)
}

/// The lanes' fragments by group: eight groups of four lanes.
#[inline]
fn groups<T>(lanes: &[T; 32]) -> &[[T; 4]; 8] {
    lanes.as_chunks().0.try_into().expect("eight groups of four lanes")
}

/// `mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32`. Only the upper 19 bits of each register of A and B are used.
pub fn m16n8k8_tf32(sums: Sums, a: &[[u32; 4]; 32], b: &[[u32; 2]; 32], c: &[[f32; 4]; 32]) -> [[f32; 4]; 32] {
    let mut columns = [[0.0; N]; 8];
    for (group, b) in groups(b).iter().enumerate() {
        for (i, b) in b.iter().enumerate() {
            columns[i][group] = tf32(b[0]);
            columns[i + 4][group] = tf32(b[1]);
        }
    }
    multiply(
        (sums, Input::Tf32, Output::F32),
        |group| {
            let [p, q, r, s] = &groups(a)[group];
            [0, 1].map(|i| [p[i], q[i], r[i], s[i], p[i + 2], q[i + 2], r[i + 2], s[i + 2]].map(tf32))
        },
        &columns,
        c,
    )
}

/// `mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32`.
pub fn m16n8k4_tf32(sums: Sums, a: &[[u32; 2]; 32], b: &[[u32; 1]; 32], c: &[[f32; 4]; 32]) -> [[f32; 4]; 32] {
    let mut columns = [[0.0; N]; 4];
    for (group, b) in groups(b).iter().enumerate() {
        for (i, b) in b.iter().enumerate() {
            columns[i][group] = tf32(b[0]);
        }
    }
    multiply(
        (sums, Input::Tf32, Output::F32),
        |group| {
            let [p, q, r, s] = &groups(a)[group];
            [0, 1].map(|i| [p[i], q[i], r[i], s[i]].map(tf32))
        },
        &columns,
        c,
    )
}

/// `mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32`, and the same with `.bf16`.
pub fn m16n8k16(sums: Sums, kind: Half, a: &[[u32; 4]; 32], b: &[[u32; 2]; 32], c: &[[f32; 4]; 32]) -> [[f32; 4]; 32] {
    match kind {
        Half::F16 => k16((sums, Input::F16, Output::F32), widen_f16, a, b, c),
        Half::Bf16 => k16((sums, Input::Bf16, Output::F32), widen_bf16, a, b, c),
    }
}

/// `mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32`, and the same with `.bf16`.
pub fn m16n8k8(sums: Sums, kind: Half, a: &[[u32; 2]; 32], b: &[[u32; 1]; 32], c: &[[f32; 4]; 32]) -> [[f32; 4]; 32] {
    match kind {
        Half::F16 => k8((sums, Input::F16, Output::F32), widen_f16, a, b, c),
        Half::Bf16 => k8((sums, Input::Bf16, Output::F32), widen_bf16, a, b, c),
    }
}

/// `mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16`.
pub fn m16n8k16_f16_acc(sums: Sums, a: &[[u32; 4]; 32], b: &[[u32; 2]; 32], c: &[[u32; 2]; 32]) -> [[u32; 2]; 32] {
    narrow(&k16((sums, Input::F16, Output::F16), widen_f16, a, b, &c.map(|c| widen_pairs(widen_f16, c))))
}

/// `mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16`.
pub fn m16n8k8_f16_acc(sums: Sums, a: &[[u32; 2]; 32], b: &[[u32; 1]; 32], c: &[[u32; 2]; 32]) -> [[u32; 2]; 32] {
    narrow(&k8((sums, Input::F16, Output::F16), widen_f16, a, b, &c.map(|c| widen_pairs(widen_f16, c))))
}

#[inline]
fn tf32(register: u32) -> f32 {
    f32::from_bits(register & 0xffff_e000)
}

#[inline(always)]
fn widen_bf16(bits: u16) -> f32 {
    f32::from_bits((bits as u32) << 16)
}

/// Unpacks registers of two 16-bit elements each; the first element is in the lower half.
#[inline(always)]
fn widen_pairs<const PAIRS: usize, const K: usize>(widen: impl Fn(u16) -> f32, pairs: [u32; PAIRS]) -> [f32; K] {
    let mut elements = [0.0; K];
    for (two, pair) in elements.as_chunks_mut().0.iter_mut().zip(pairs) {
        *two = [widen(pair as u16), widen((pair >> 16) as u16)];
    }
    elements
}

fn narrow(d: &[[f32; 4]; 32]) -> [[u32; 2]; 32] {
    let half = |v: f32| f32_to_f16(v, Rounding::Nearest) as u32;
    d.map(|[a, b, c, d]| [half(a) | half(b) << 16, half(c) | half(d) << 16])
}

#[inline(always)]
fn k16(
    how: (Sums, Input, Output),
    widen: impl Fn(u16) -> f32 + Copy,
    a: &[[u32; 4]; 32],
    b: &[[u32; 2]; 32],
    c: &[[f32; 4]; 32],
) -> [[f32; 4]; 32] {
    // A register of B holds two rows that are adjacent in k.
    let mut pairs = [[0; N]; 8];
    for (group, b) in groups(b).iter().enumerate() {
        for (i, b) in b.iter().enumerate() {
            pairs[i][group] = b[0];
            pairs[i + 4][group] = b[1];
        }
    }
    multiply(
        how,
        |group| {
            let [p, q, r, s] = &groups(a)[group];
            [0, 1].map(|i| widen_pairs(widen, [p[i], q[i], r[i], s[i], p[i + 2], q[i + 2], r[i + 2], s[i + 2]]))
        },
        &widen_columns::<8, 16>(widen, &pairs),
        c,
    )
}

#[inline(always)]
fn k8(
    how: (Sums, Input, Output),
    widen: impl Fn(u16) -> f32 + Copy,
    a: &[[u32; 2]; 32],
    b: &[[u32; 1]; 32],
    c: &[[f32; 4]; 32],
) -> [[f32; 4]; 32] {
    let mut pairs = [[0; N]; 4];
    for (group, b) in groups(b).iter().enumerate() {
        for (i, b) in b.iter().enumerate() {
            pairs[i][group] = b[0];
        }
    }
    multiply(
        how,
        |group| {
            let [p, q, r, s] = &groups(a)[group];
            [0, 1].map(|i| widen_pairs(widen, [p[i], q[i], r[i], s[i]]))
        },
        &widen_columns::<4, 8>(widen, &pairs),
        c,
    )
}

#[inline(always)]
fn widen_columns<const PAIRS: usize, const K: usize>(
    widen: impl Fn(u16) -> f32,
    pairs: &[[u32; N]; PAIRS],
) -> [[f32; N]; K] {
    let mut columns = [[0.0; N]; K];
    for (two, pairs) in columns.as_chunks_mut().0.iter_mut().zip(pairs) {
        *two = [pairs.map(|pair| widen(pair as u16)), pairs.map(|pair| widen((pair >> 16) as u16))];
    }
    columns
}

/// `a * b + c`, summed and rounded as `how` says. `rows` returns the two rows of A that a group's lanes
/// hold: row `group` and row `group + 8`. The same lanes hold the same rows of C and D.
#[inline(always)]
fn multiply<const K: usize>(
    (sums, input, output): (Sums, Input, Output),
    rows: impl Fn(usize) -> [[f32; K]; 2],
    b: &[[f32; N]; K],
    c: &[[f32; 4]; 32],
) -> [[f32; 4]; 32] {
    let c = groups(c);
    let mut d = [[[0.0; 4]; 4]; 8];
    match sums {
        // Two groups (four rows) at a time: enough independent sums in flight to hide an addition's latency.
        Sums::Ordered => {
            for first in [0, 2, 4, 6] {
                let ([a0, a1], [a2, a3]) = (rows(first), rows(first + 1));
                let ([c0, c1], [c2, c3]) = (gather(&c[first]), gather(&c[first + 1]));
                let mut sums = [c0, c1, c2, c3];
                accumulate(&[a0, a1, a2, a3], b, &mut sums);
                d[first] = scatter(&sums[0], &sums[1]);
                d[first + 1] = scatter(&sums[2], &sums[3]);
            }
        }
        Sums::Core(core) => {
            let mut a = [[0.0; K]; 16];
            let mut sums = [[0.0; N]; 16];
            let two = a.as_chunks_mut().0.iter_mut().zip(sums.as_chunks_mut().0);
            for (group, ((a, sums), c)) in two.zip(c).enumerate() {
                (*a, *sums) = (rows(group), gather(c));
            }
            core.accumulate(output, &Left::new(input, a), &Right::new(input, *b), &mut sums);
            for (d, [upper, lower]) in d.iter_mut().zip(sums.as_chunks().0) {
                *d = scatter(upper, lower);
            }
        }
    }
    let mut lanes = [[0.0; 4]; 32];
    lanes.copy_from_slice(d.as_flattened());
    lanes
}

/// The two rows of C that a group holds; each lane has two adjacent elements of each row.
#[inline(always)]
fn gather(c: &[[f32; 4]; 4]) -> [[f32; N]; 2] {
    let [p, q, r, s] = c;
    [[p[0], p[1], q[0], q[1], r[0], r[1], s[0], s[1]], [p[2], p[3], q[2], q[3], r[2], r[3], s[2], s[3]]]
}

/// The inverse of [`gather`], for D.
#[inline(always)]
fn scatter(x: &[f32; N], y: &[f32; N]) -> [[f32; 4]; 4] {
    [[x[0], x[1], y[0], y[1]], [x[2], x[3], y[2], y[3]], [x[4], x[5], y[4], y[5]], [x[6], x[7], y[6], y[7]]]
}

/// Four rows of `sums += a * b`: for each `k` in order one product and one sum, each rounded. A NaN becomes `NAN32`.
#[inline]
pub fn accumulate<const K: usize>(a: &[[f32; K]; 4], b: &[[f32; N]; K], sums: &mut [[f32; N]; 4]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx") {
        // SAFETY: the processor has AVX.
        unsafe { accumulate_avx(a, b, sums) };
        return;
    }
    accumulate_anywhere(a, b, sums);
}

#[allow(clippy::needless_range_loop)] // Index loops: the simplest form, and the compiler vectorises it.
fn accumulate_anywhere<const K: usize>(a: &[[f32; K]; 4], b: &[[f32; N]; K], sums: &mut [[f32; N]; 4]) {
    for (a, sum) in a.iter().zip(sums) {
        for k in 0..K {
            for n in 0..N {
                sum[n] += a[k] * b[k][n];
            }
        }
        for sum in sum {
            *sum = if sum.is_nan() { NAN32 } else { *sum };
        }
    }
}

/// [`accumulate_anywhere`] with a row of sums in each register. Fused multiply-adds would change the bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
fn accumulate_avx<const K: usize>(a: &[[f32; K]; 4], b: &[[f32; N]; K], sums: &mut [[f32; N]; 4]) {
    use std::arch::x86_64::{
        _CMP_UNORD_Q, _mm256_add_ps, _mm256_blendv_ps, _mm256_cmp_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_set1_ps,
        _mm256_storeu_ps,
    };

    // SAFETY (here and below): a row is eight f32, and the instructions ask for no alignment.
    let mut rows = sums.each_ref().map(|row| unsafe { _mm256_loadu_ps(row.as_ptr()) });
    for (k, b) in b.iter().enumerate() {
        let b = unsafe { _mm256_loadu_ps(b.as_ptr()) };
        for (row, a) in rows.iter_mut().zip(a) {
            *row = _mm256_add_ps(*row, _mm256_mul_ps(_mm256_set1_ps(a[k]), b));
        }
    }
    for (sum, row) in sums.iter_mut().zip(rows) {
        let row = _mm256_blendv_ps(row, _mm256_set1_ps(NAN32), _mm256_cmp_ps::<_CMP_UNORD_Q>(row, row));
        unsafe { _mm256_storeu_ps(sum.as_mut_ptr(), row) };
    }
}

/// `ldmatrix.m8n8.b16` for one matrix: the register of each lane. A lane receives two adjacent elements of a row, or
/// with `.trans` of a column; the element with the lower index is in the lower half.
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

/// The (row, column) of each of the two elements of an 8 by 8 matrix that a lane's register holds.
#[inline]
fn elements(lane: usize, trans: bool) -> [(usize, usize); 2] {
    let (group, i) = place(lane);
    [2 * i, 2 * i + 1].map(|along| if trans { (along, group) } else { (group, along) })
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn avx_and_portable_sums_have_the_same_bits() {
        if !is_x86_feature_detected!("avx") {
            return;
        }
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            // Magnitudes around one, so that every sum is rounded.
            f32::from_bits(state & 0x81ff_ffff | 0x3e00_0000)
        };
        for _ in 0..1000 {
            let a: [[f32; 16]; 4] = std::array::from_fn(|_| std::array::from_fn(|_| next()));
            let b: [[f32; N]; 16] = std::array::from_fn(|_| std::array::from_fn(|_| next()));
            let mut anywhere = std::array::from_fn(|_| std::array::from_fn(|_| next()));
            let mut avx = anywhere;
            accumulate_anywhere(&a, &b, &mut anywhere);
            // SAFETY: the processor has AVX.
            unsafe { accumulate_avx(&a, &b, &mut avx) };
            assert_eq!(anywhere.as_flattened(), avx.as_flattened());
        }
    }
}
