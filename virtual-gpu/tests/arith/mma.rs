use super::*;
use virtual_gpu::arith::half::{Half, f16_to_f32, f32_to_bf16, f32_to_f16};
use virtual_gpu::arith::mma::*;

/// A row-major matrix.
#[derive(Clone)]
struct Matrix {
    columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    fn new(rows: usize, columns: usize, mut value: impl FnMut() -> f32) -> Matrix {
        Matrix { columns, values: (0..rows * columns).map(|_| value()).collect() }
    }

    fn at(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.columns + column]
    }
}

// The (row, column) of a lane's elements `a0`, `a1`, ... by the manual's figures.

fn groups(lane: usize) -> (usize, usize) {
    (lane >> 2, lane % 4)
}

/// m16n8k16, 16-bit A: row is groupID for a0, a1, a4, a5, else groupID + 8; column is threadID_in_group * 2 + (i & 1),
/// and 8 more from a4 on.
fn a_k16(lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = groups(lane);
    let row = if i < 2 || (4..6).contains(&i) { group } else { group + 8 };
    (row, thread * 2 + (i & 1) + if i >= 4 { 8 } else { 0 })
}

/// m16n8k16, 16-bit B: row is threadID_in_group * 2 + (i & 1), and 8 more from b2 on; column is groupID.
fn b_k16(lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = groups(lane);
    (thread * 2 + (i & 1) + if i >= 2 { 8 } else { 0 }, group)
}

/// m16n8k8, 16-bit A: row is groupID for a0, a1, else groupID + 8; column is threadID_in_group * 2 + (i & 1).
fn a_k8(lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = groups(lane);
    (if i < 2 { group } else { group + 8 }, thread * 2 + (i & 1))
}

/// m16n8k8, 16-bit B: row is threadID_in_group * 2 + i; column is groupID.
fn b_k8(lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = groups(lane);
    (thread * 2 + i, group)
}

/// m16n8k8, tf32 A: row is groupID for a0, a2, else groupID + 8; column is threadID_in_group, and 4 more from a2 on.
fn a_tf32(lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = groups(lane);
    (if i.is_multiple_of(2) { group } else { group + 8 }, if i < 2 { thread } else { thread + 4 })
}

/// m16n8k8, tf32 B: row is threadID_in_group, and 4 more for b1; column is groupID.
fn b_tf32(lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = groups(lane);
    (if i == 0 { thread } else { thread + 4 }, group)
}

/// C and D of all shapes: row is groupID for c0, c1, else groupID + 8; column is threadID_in_group * 2 + (i & 1).
fn c(lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = groups(lane);
    (if i < 2 { group } else { group + 8 }, thread * 2 + (i & 1))
}

type Place = fn(usize, usize) -> (usize, usize);

/// Fragments with one element in a register.
fn whole<const R: usize, T: Copy + Default>(m: &Matrix, place: Place, encode: impl Fn(f32) -> T) -> [[T; R]; 32] {
    std::array::from_fn(|lane| {
        std::array::from_fn(|i| {
            let (row, column) = place(lane, i);
            encode(m.at(row, column))
        })
    })
}

/// Fragments with two elements in a register, the first in the lower half.
fn paired<const R: usize>(m: &Matrix, place: Place, encode: impl Fn(f32) -> u16) -> [[u32; R]; 32] {
    std::array::from_fn(|lane| {
        std::array::from_fn(|register| {
            let half = |i| {
                let (row, column) = place(lane, i);
                encode(m.at(row, column)) as u32
            };
            half(2 * register) | half(2 * register + 1) << 16
        })
    })
}

fn check(d: &[[f32; 4]; 32], a: &Matrix, b: &Matrix, c_matrix: &Matrix, tolerance: f64) {
    for (lane, registers) in d.iter().enumerate() {
        for (i, &got) in registers.iter().enumerate() {
            let (row, column) = c(lane, i);
            let (mut exact, mut magnitude) = (c_matrix.at(row, column) as f64, c_matrix.at(row, column).abs() as f64);
            for k in 0..a.columns {
                let product = a.at(row, k) as f64 * b.at(k, column) as f64;
                exact += product;
                magnitude += product.abs();
            }
            let error = (got as f64 - exact).abs();
            assert!(error <= tolerance * magnitude, "({row}, {column}): {got} {exact}");
        }
    }
}

/// Small integers, for which products and sums are exact, and numbers of `bits` bits, whose sums are rounded.
fn operands(random: &mut Random, k: usize, bits: i32) -> [(Matrix, Matrix, Matrix, f64); 2] {
    let mut integer = || (random.next() % 17) as f32 - 8.0;
    let exact =
        (Matrix::new(16, k, &mut integer), Matrix::new(k, 8, &mut integer), Matrix::new(16, 8, &mut integer), 0.0);
    let scale = 2f32.powi(bits - 1);
    let mut any = || ((random.next() >> 40) as f32 / 16777216.0 * 2.0 * scale).round() / scale - 1.0;
    let rounded = (
        Matrix::new(16, k, &mut any),
        Matrix::new(k, 8, &mut any),
        Matrix::new(16, 8, &mut any),
        18.0 * 2f64.powi(-24),
    );
    [exact, rounded]
}

#[test]
fn half_products_are_within_the_f32_summation_bound() {
    let mut random = Random(61);
    for _ in 0..100 {
        for (kind, bits) in [(Half::F16, 11), (Half::Bf16, 8)] {
            let encode = |v: f32| match kind {
                Half::F16 => f32_to_f16(v, Rounding::Nearest),
                Half::Bf16 => f32_to_bf16(v, Rounding::Nearest),
            };
            for (a, b, c_matrix, tolerance) in operands(&mut random, 16, bits - 1) {
                let d =
                    m16n8k16(kind, &paired(&a, a_k16, encode), &paired(&b, b_k16, encode), &whole(&c_matrix, c, |v| v));
                check(&d, &a, &b, &c_matrix, tolerance);
            }
            for (a, b, c_matrix, tolerance) in operands(&mut random, 8, bits - 1) {
                let d =
                    m16n8k8(kind, &paired(&a, a_k8, encode), &paired(&b, b_k8, encode), &whole(&c_matrix, c, |v| v));
                check(&d, &a, &b, &c_matrix, tolerance);
            }
        }
    }
}

#[test]
fn tf32_products_are_within_the_f32_summation_bound() {
    let mut random = Random(62);
    for _ in 0..100 {
        // The low 13 bits are ignored.
        let noise = random.next() as u32 & 0x1fff;
        let encode = |v: f32| v.to_bits() | noise;
        for (a, b, c_matrix, tolerance) in operands(&mut random, 8, 10) {
            let d = m16n8k8_tf32(&whole(&a, a_tf32, encode), &whole(&b, b_tf32, encode), &whole(&c_matrix, c, |v| v));
            check(&d, &a, &b, &c_matrix, tolerance);
        }
        for (a, b, c_matrix, tolerance) in operands(&mut random, 4, 10) {
            let d = m16n8k4_tf32(&whole(&a, a_tf32, encode), &whole(&b, b_tf32, encode), &whole(&c_matrix, c, |v| v));
            check(&d, &a, &b, &c_matrix, tolerance);
        }
    }
}

#[test]
fn f16_accumulators_round_once_at_the_end() {
    let mut random = Random(63);
    let encode = |v: f32| f32_to_f16(v, Rounding::Nearest);
    let decode =
        |d: [[u32; 2]; 32]| d.map(|[x, y]| [x as u16, (x >> 16) as u16, y as u16, (y >> 16) as u16].map(f16_to_f32));
    for _ in 0..100 {
        let [(a, b, c_matrix, _), _] = operands(&mut random, 16, 10);
        let d = m16n8k16_f16_acc(&paired(&a, a_k16, encode), &paired(&b, b_k16, encode), &paired(&c_matrix, c, encode));
        check(&decode(d), &a, &b, &c_matrix, 0.0);
        let [(a, b, c_matrix, _), _] = operands(&mut random, 8, 10);
        let d = m16n8k8_f16_acc(&paired(&a, a_k8, encode), &paired(&b, b_k8, encode), &paired(&c_matrix, c, encode));
        check(&decode(d), &a, &b, &c_matrix, 0.0);
    }
    // 2048 + 16 / 8 is 2050 if rounded once at the end; rounded at every step it would stay 2048.
    let (one, eighth) = ([[0x3c00_3c00; 4]; 32], [[0x3000_3000; 2]; 32]);
    assert_eq!(m16n8k16_f16_acc(&one, &eighth, &[[0x6800_6800; 2]; 32]), [[0x6801_6801; 2]; 32]);
    // Overflow.
    assert_eq!(m16n8k16_f16_acc(&one, &one.map(|r| [r[0], r[1]]), &[[0x7bff_7bff; 2]; 32]), [[0x7c00_7c00; 2]; 32]);
}

/// The order that the module promises: C first, then the products in the order of k, each sum rounded.
#[test]
fn sums_start_with_c_and_follow_k() {
    let ones = [[0x3c00_3c00; 4]; 32];
    let c_matrix = [[16777216.0; 4]; 32];
    let b = [[0x3c00_3c00; 2]; 32];
    assert_eq!(m16n8k16(Half::F16, &ones, &b, &c_matrix), c_matrix);
    assert_eq!(m16n8k16(Half::F16, &ones, &b, &[[16777200.0; 4]; 32]), c_matrix);
}

#[test]
fn infinities_propagate_and_nans_are_canonical() {
    let ones = [[0x3f80_3f80; 4]; 32];
    let mut b = [[0x3f80_3f80; 2]; 32];
    b[5][0] = 0x3f80_7f80; // k = 2, n = 1: infinity
    let mut c_matrix = [[1.0; 4]; 32];
    c_matrix[0][1] = f32::NEG_INFINITY; // (0, 1)
    c_matrix[31][3] = f32::from_bits(0xff80_0001); // (15, 7)
    let d = m16n8k16(Half::Bf16, &ones, &b, &c_matrix);
    for (lane, registers) in d.iter().enumerate() {
        for (i, &got) in registers.iter().enumerate() {
            let wanted = match c(lane, i) {
                (0, 1) | (15, 7) => 0x7fff_ffff,
                (_, 1) => f32::INFINITY.to_bits(),
                _ => 17f32.to_bits(),
            };
            assert_eq!(got.to_bits(), wanted, "{:?}", c(lane, i));
        }
    }
    // Subnormal f16 are not flushed; a NaN of f16 gives a NaN.
    let tiny = [[0x0001_0001; 2]; 32];
    let d = m16n8k8(Half::F16, &[[0x3c00_3c00; 2]; 32], &[[0x0001_0001; 1]; 32], &[[0.0; 4]; 32]);
    assert_eq!(d, [[2f32.powi(-21); 4]; 32]);
    let d = m16n8k8(Half::F16, &tiny, &[[0x7c01_0000; 1]; 32], &[[0.0; 4]; 32]);
    assert!(d.as_flattened().iter().all(|v| v.to_bits() == 0x7fff_ffff));
}

#[test]
fn ldmatrix_and_stmatrix_follow_the_manuals_figure() {
    let rows: [[u16; 8]; 8] = std::array::from_fn(|row| std::array::from_fn(|column| (row * 16 + column) as u16));
    let plain = ldmatrix(&rows, false);
    let transposed = ldmatrix(&rows, true);
    for lane in 0..32 {
        // The manual's figure: lanes 0 to 3 hold two elements each of the first row, lanes 4 to 7 of the second.
        let (row, column) = (lane / 4, lane % 4 * 2);
        assert_eq!(plain[lane], rows[row][column] as u32 | (rows[row][column + 1] as u32) << 16);
        assert_eq!(transposed[lane], rows[column][row] as u32 | (rows[column + 1][row] as u32) << 16);
    }
    assert_eq!(plain[5], 0x0013_0012);
    assert_eq!(transposed[5], 0x0031_0021);
    assert_eq!(stmatrix(&plain, false), rows);
    assert_eq!(stmatrix(&transposed, true), rows);
    assert_eq!([0, 7, 8, 31].map(ldmatrix_address), [(0, 0), (0, 7), (1, 0), (3, 7)]);
}
