//! The order of chunks in shared memory, against the tables of the PTX manual.

use super::*;
use virtual_gpu::tensor_map::Swizzle;

#[test]
fn swizzles_permute_chunks_as_the_manuals_tables() {
    for (number, mode) in [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128].into_iter().enumerate() {
        for address in 0..1 << 14 {
            assert_eq!(swizzle(mode, address), placed(number as u32, address), "{mode:?} {address:#x}");
        }
    }
}

#[test]
fn boxes_of_any_aligned_base_follow_the_absolute_address() {
    // 32 x 8 words, as measured on a card: at a base of 128 the first line is the second of the pattern.
    for (mode, width) in [(1, 8), (2, 16), (3, 32)] {
        for base in [0, 128, 640] {
            let mut case = Case::new(&[32, 8]);
            (case.swizzle, case.box_dim) = (mode, vec![width, 8]);
            let map = case.tiled().unwrap();
            let shared = loaded(&map, base, counting, |f| map.visit_tile(&[0, 0], f)).unwrap();
            let element = |x: i64, y: i64| case.offset(&[x, y]);
            let rows: Vec<Vec<_>> = (0..8).map(|y| (0..i64::from(width)).map(|x| element(x, y)).collect()).collect();
            assert_eq!(shared, expected(&case, base, &rows, counting), "swizzle {mode}, base {base}");
            if base == 128 {
                assert_eq!(shared[128..132], 5u32.to_le_bytes(), "the second chunk comes first");
            }
        }
    }
}
