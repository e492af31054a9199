use super::*;
use virtual_gpu::arith::half::{Half, f16_to_f32, f32_to_bf16, f32_to_f16};
use virtual_gpu::arith::mma::*;
use virtual_gpu::arith::tensor_core::{Sums, TensorCore};

const AMPERE: Sums = Sums::Core(TensorCore::AMPERE);
const HOPPER: Sums = Sums::Core(TensorCore::HOPPER);
const SUMS: [Sums; 3] = [Sums::Ordered, AMPERE, HOPPER];

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
        // Of the truncating cores: each of 17 terms and the sum, twice on Ampere.
        24.0 * 2f64.powi(-24),
    );
    [exact, rounded]
}

#[test]
fn half_products_are_within_the_f32_summation_bound() {
    let mut random = Random(61);
    for round in 0..150 {
        let sums = SUMS[round % 3];
        for (kind, bits) in [(Half::F16, 11), (Half::Bf16, 8)] {
            let encode = |v: f32| match kind {
                Half::F16 => f32_to_f16(v, Rounding::Nearest),
                Half::Bf16 => f32_to_bf16(v, Rounding::Nearest),
            };
            for (a, b, c_matrix, tolerance) in operands(&mut random, 16, bits - 1) {
                let (a_lanes, b_lanes) = (paired(&a, a_k16, encode), paired(&b, b_k16, encode));
                let d = m16n8k16(sums, kind, &a_lanes, &b_lanes, &whole(&c_matrix, c, |v| v));
                check(&d, &a, &b, &c_matrix, tolerance);
            }
            for (a, b, c_matrix, tolerance) in operands(&mut random, 8, bits - 1) {
                let (a_lanes, b_lanes) = (paired(&a, a_k8, encode), paired(&b, b_k8, encode));
                let d = m16n8k8(sums, kind, &a_lanes, &b_lanes, &whole(&c_matrix, c, |v| v));
                check(&d, &a, &b, &c_matrix, tolerance);
            }
        }
    }
}

#[test]
fn tf32_products_are_within_the_f32_summation_bound() {
    let mut random = Random(62);
    for round in 0..150 {
        let sums = SUMS[round % 3];
        // The low 13 bits are ignored.
        let noise = random.next() as u32 & 0x1fff;
        let encode = |v: f32| v.to_bits() | noise;
        for (a, b, c_matrix, tolerance) in operands(&mut random, 8, 10) {
            let (a_lanes, b_lanes) = (whole(&a, a_tf32, encode), whole(&b, b_tf32, encode));
            let d = m16n8k8_tf32(sums, &a_lanes, &b_lanes, &whole(&c_matrix, c, |v| v));
            check(&d, &a, &b, &c_matrix, tolerance);
        }
        for (a, b, c_matrix, tolerance) in operands(&mut random, 4, 10) {
            let (a_lanes, b_lanes) = (whole(&a, a_tf32, encode), whole(&b, b_tf32, encode));
            let d = m16n8k4_tf32(sums, &a_lanes, &b_lanes, &whole(&c_matrix, c, |v| v));
            check(&d, &a, &b, &c_matrix, tolerance);
        }
    }
}

#[test]
fn f16_accumulators_round_once_a_sum() {
    let mut random = Random(63);
    let encode = |v: f32| f32_to_f16(v, Rounding::Nearest);
    let decode =
        |d: [[u32; 2]; 32]| d.map(|[x, y]| [x as u16, (x >> 16) as u16, y as u16, (y >> 16) as u16].map(f16_to_f32));
    for round in 0..150 {
        let sums = SUMS[round % 3];
        let [(a, b, c_matrix, _), _] = operands(&mut random, 16, 10);
        let d = m16n8k16_f16_acc(
            sums,
            &paired(&a, a_k16, encode),
            &paired(&b, b_k16, encode),
            &paired(&c_matrix, c, encode),
        );
        check(&decode(d), &a, &b, &c_matrix, 0.0);
        let [(a, b, c_matrix, _), _] = operands(&mut random, 8, 10);
        let d =
            m16n8k8_f16_acc(sums, &paired(&a, a_k8, encode), &paired(&b, b_k8, encode), &paired(&c_matrix, c, encode));
        check(&decode(d), &a, &b, &c_matrix, 0.0);
    }
    // 2048 + 16 / 8 is 2050 if rounded once at the end; rounded at every step it would stay 2048.
    let (one, eighth) = ([[0x3c00_3c00; 4]; 32], [[0x3000_3000; 2]; 32]);
    // Ampere rounds after eight products, 2049 to 2048 each time; and 65504 + 8 to 65504, where 65504 + 16 is infinite.
    let (most, ones) = ([[0x7bff_7bff; 2]; 32], one.map(|r| [r[0], r[1]]));
    for (sums, sum, large) in [
        (Sums::Ordered, 0x6801_6801, 0x7c00_7c00),
        (HOPPER, 0x6801_6801, 0x7c00_7c00),
        (AMPERE, 0x6800_6800, 0x7bff_7bff),
    ] {
        assert_eq!(m16n8k16_f16_acc(sums, &one, &eighth, &[[0x6800_6800; 2]; 32]), [[sum; 2]; 32], "{sums:?}");
        assert_eq!(m16n8k16_f16_acc(sums, &one, &ones, &most), [[large; 2]; 32], "{sums:?}");
    }
}

/// The order that the module promises of [`Sums::Ordered`]: C first, then the products in the order of k, each sum rounded.
#[test]
fn sums_start_with_c_and_follow_k() {
    let ones = [[0x3c00_3c00; 4]; 32];
    let c_matrix = [[16777216.0; 4]; 32];
    let b = [[0x3c00_3c00; 2]; 32];
    assert_eq!(m16n8k16(Sums::Ordered, Half::F16, &ones, &b, &c_matrix), c_matrix);
    assert_eq!(m16n8k16(Sums::Ordered, Half::F16, &ones, &b, &[[16777200.0; 4]; 32]), c_matrix);
}

/// What the two cores do otherwise, worked out by hand from the rule: terms of C = 2^24 end at 2^-1 on Hopper, at 1 on Ampere.
#[test]
fn cores_cut_terms_off_after_25_or_24_bits() {
    let row = |value: u32| [[value | value << 16; 4]; 32];
    let column = [[0x3f80_3f80; 2]; 32];
    let c = [[16777216.0; 4]; 32];
    for (a, hopper, ampere) in [
        // Sixteen times 1, 0.75, 0.5, 0.25, -0.5. What is cut off is lost; the sum, cut off too, is even.
        (0x3f80, 16.0, 16.0),
        (0x3f40, 8.0, 0.0),
        (0x3f00, 8.0, 0.0),
        (0x3e80, 0.0, 0.0),
        // Below 2^24 sums are odd as well.
        (0xbf00, -8.0, 0.0),
    ] {
        let sum = |sums| m16n8k16(sums, Half::Bf16, &row(a), &column, &c)[7][2] - 16777216.0;
        assert_eq!([sum(HOPPER), sum(AMPERE)], [hopper, ampere], "{a:#06x}");
    }
    // A product's significand is up to 4: 1.5 * 1.5 counts as 2.25 * 2^0, so the last bit is that of 2^0, not of 2^1.
    let wide = m16n8k16(HOPPER, Half::Bf16, &row(0x3fc0), &[[0x3fc0_3fc0; 2]; 32], &[[2f32.powi(-25); 4]; 32]);
    assert_eq!(wide[0][0], 36.0);
    // Two sums of eight products on Ampere: the first is cut off to an even number, and moves the point.
    let halves = |sums| m16n8k16(sums, Half::Bf16, &row(0x3f00), &column, &[[16777215.0; 4]; 32])[0][0];
    assert_eq!([halves(HOPPER), halves(AMPERE)], [16777222.0, 16777218.0]);
    // Zeros give +0, whatever their signs.
    assert_eq!(m16n8k16(HOPPER, Half::Bf16, &row(0x8000), &column, &[[-0.0; 4]; 32])[0][0].to_bits(), 0);
    // The largest number and a little is infinite; a subnormal sum stays one.
    let most = [[f32::MAX; 4]; 32];
    assert_eq!(m16n8k16(HOPPER, Half::Bf16, &row(0x7f00), &column, &most)[0][0], f32::INFINITY);
    assert_eq!(m16n8k16(HOPPER, Half::Bf16, &row(0x0001), &column, &[[0.0; 4]; 32])[0][0], 16.0 * 2f32.powi(-133));
}

/// Products that cards have computed: `../shared/data` beside the repository, or the folder in `VIRTUAL_GPU_MEASURED`.
#[test]
fn cores_have_the_bits_of_cards() {
    let folder = std::env::var_os("VIRTUAL_GPU_MEASURED").map_or_else(
        || std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")),
        std::path::PathBuf::from,
    );
    for (card, sums) in [("h100-mma", HOPPER), ("a100-mma", AMPERE)] {
        for kind in ["bf16", "f16", "tf32"] {
            let path = folder.join(card).join(format!("{kind}.txt"));
            let Ok(text) = std::fs::read_to_string(&path) else {
                eprintln!("not compared, as it is not there: {}", path.display());
                continue;
            };
            let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
            let mut right = 0;
            for line in &lines {
                let bits: Vec<u32> =
                    line.split_whitespace().map(|word| u32::from_str_radix(word, 16).expect("hexadecimal")).collect();
                let (number, k) = (|i: usize| f32::from_bits(bits[i]), bits.len() / 2 - 1);
                let a = Matrix { columns: 16, values: (0..256).map(|i| if i < k { number(i) } else { 0.0 }).collect() };
                let b = |i: usize| if i.is_multiple_of(8) && i / 8 < k { number(k + i / 8) } else { 0.0 };
                let b = Matrix { columns: 8, values: (0..128).map(b).collect() };
                let c_lanes = [[number(2 * k), 0.0, 0.0, 0.0]; 32];
                let halves = |kind: Half| {
                    let encode = |v: f32| match kind {
                        Half::F16 => f32_to_f16(v, Rounding::Nearest),
                        Half::Bf16 => f32_to_bf16(v, Rounding::Nearest),
                    };
                    m16n8k16(sums, kind, &paired(&a, a_k16, encode), &paired(&b, b_k16, encode), &c_lanes)
                };
                let d = match kind {
                    "bf16" => halves(Half::Bf16),
                    "f16" => halves(Half::F16),
                    _ => {
                        let (a, b) = (whole(&a, a_tf32, f32::to_bits), whole(&b, b_tf32, f32::to_bits));
                        let (a4, b4) = (a.map(|[x, y, ..]: [u32; 4]| [x, y]), b.map(|[x, _]: [u32; 2]| [x]));
                        let d = m16n8k8_tf32(sums, &a, &b, &c_lanes);
                        assert_eq!(d[0][0], m16n8k4_tf32(sums, &a4, &b4, &c_lanes)[0][0]);
                        d
                    }
                };
                right += usize::from(d[0][0].to_bits() == bits[2 * k + 1]);
            }
            eprintln!("{card} {kind}: {right} of {} products have the card's bits", lines.len());
            assert_eq!(right, lines.len(), "{card} {kind}");
        }
    }
}

#[test]
fn infinities_propagate_and_nans_are_canonical() {
    let ones = [[0x3f80_3f80; 4]; 32];
    let mut b = [[0x3f80_3f80; 2]; 32];
    b[5][0] = 0x3f80_7f80; // k = 2, n = 1: infinity
    let mut c_matrix = [[1.0; 4]; 32];
    c_matrix[0][1] = f32::NEG_INFINITY; // (0, 1)
    c_matrix[31][3] = f32::from_bits(0xff80_0001); // (15, 7)
    for sums in SUMS {
        let d = m16n8k16(sums, Half::Bf16, &ones, &b, &c_matrix);
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
        let d = m16n8k8(sums, Half::F16, &[[0x3c00_3c00; 2]; 32], &[[0x0001_0001; 1]; 32], &[[0.0; 4]; 32]);
        assert_eq!(d, [[2f32.powi(-21); 4]; 32]);
        let d = m16n8k8(sums, Half::F16, &tiny, &[[0x7c01_0000; 1]; 32], &[[0.0; 4]; 32]);
        assert!(d.as_flattened().iter().all(|v| v.to_bits() == 0x7fff_ffff));
    }
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
}
