//! Loads in tile mode, against a loop over the elements of the box.

use super::*;

/// The rows of a box, by a loop over its elements.
fn rows(case: &Case, coords: &[i32]) -> Vec<Vec<Option<u64>>> {
    let rank = case.dims.len();
    let step = |d: usize| if d == 0 { 1 } else { case.steps[d] };
    let counts: Vec<u32> = (0..rank).map(|d| case.box_dim[d].div_ceil(step(d))).collect();
    let outer: u32 = counts[1..].iter().product();
    let element = |row: u32, x: u32| {
        let (mut at, mut rest) = (vec![i64::from(coords[0]) + i64::from(x)], row);
        for d in 1..rank {
            at.push(i64::from(coords[d]) + i64::from(rest % counts[d] * step(d)));
            rest /= counts[d];
        }
        case.offset(&at)
    };
    (0..outer).map(|row| (0..counts[0]).map(|x| element(row, x)).collect()).collect()
}

#[track_caller]
fn check(case: &Case, coords: &[i32], base: u64) {
    let map = case.tiled().unwrap();
    let shared = loaded(&map, base, memory, |f| map.visit_tile(coords, f)).unwrap();
    let rows = rows(case, coords);
    assert!(shared == expected(case, base, &rows, memory), "{map:?} at {coords:?}");
    assert_eq!(map.bytes() as u64, rows.len() as u64 * rows[0].len() as u64 * size(case.data_type));
}

#[test]
fn boxes_of_every_rank_have_the_tensors_elements_and_zeros_outside() {
    let mut random = Random(1);
    for round in 0..3000 {
        let rank = round % 5 + 1;
        let dims: Vec<u64> = (0..rank).map(|_| random.range(1, 40) as u64).collect();
        let mut case = Case::new(&dims);
        case.data_type = [U8, U16, U32, F64][random.range(0, 3) as usize];
        let size = size(case.data_type);
        case.dense(size, random.range(0, 2) as u64);
        case.swizzle = random.range(0, 3) as u32;
        let most = [256 / size, 32, 64, 128][case.swizzle as usize] / 16;
        case.box_dim[0] = (random.range(1, most.min(8) as i64) as u64 * 16 / size) as u32;
        for d in 1..rank {
            case.box_dim[d] = random.range(1, 6) as u32;
            case.steps[d] = if random.range(0, 2) == 0 { random.range(1, 8) as u32 } else { 1 };
        }
        // A multiple of the bytes of a load may lie before the tensor, and beyond it.
        let coords: Vec<i32> =
            (0..rank).map(|d| random.range(-i64::from(case.box_dim[d]) - 2, dims[d] as i64 + 2) as i32).collect();
        check(&case, &coords, 128 * random.range(0, 9) as u64);
    }
}

#[test]
fn element_strides_round_the_count_up_and_narrow_rows_get_a_line_each() {
    // Measured on a card (Blackwell): 8 words under a swizzle of 128 bytes, 5 rows with a step of 2.
    let mut case = Case::new(&[32, 8]);
    (case.box_dim, case.steps, case.swizzle) = (vec![8, 5], vec![1, 2], 3);
    let map = case.tiled().unwrap();
    assert_eq!((map.bytes(), map.extent(), map.pitch()), (96, 384, 128));
    assert_eq!(map.warning().unwrap(), "boxDim[1] is 5, no multiple of elementStrides[1], 2: it is rounded up");
    let shared = loaded(&map, 0, counting, |f| map.visit_tile(&[0, 0], f)).unwrap();
    let words: Vec<(usize, u32)> = (0..96)
        .map(|i| (4 * i, u32::from_le_bytes(shared[4 * i..4 * i + 4].try_into().unwrap())))
        .filter(|word| word.1 != 0xcdcd_cdcd)
        .collect();
    let chunks = [(0, 1), (16, 5), (128, 69), (144, 65), (288, 129), (304, 133)];
    let wanted: Vec<(usize, u32)> =
        chunks.into_iter().flat_map(|(at, value)| (0..4).map(move |i| (at + 4 * i, value + i as u32))).collect();
    assert_eq!(words, wanted);
}

#[test]
fn the_first_element_stride_is_ignored() {
    let mut case = Case::new(&[32, 8]);
    for step in [0, 2, 8, 99] {
        case.steps[0] = step;
        let map = case.tiled().unwrap();
        assert_eq!((map.bytes(), map.warning()), (16, None));
        check(&case, &[3, 0], 0);
    }
}

#[test]
fn boxes_far_outside_are_fill_without_overflow() {
    let mut case = Case::new(&[1 << 32, 1 << 32, 3]);
    (case.strides, case.box_dim) = (vec![(1 << 40) - 16, 0], vec![8, 3, 2]);
    let map = case.tiled().unwrap();
    for at in [i32::MIN, -100, -1, i32::MAX] {
        let (mut addresses, mut bytes) = (Vec::new(), 0);
        let result: Result<(), String> = map.visit_tile(&[at, at, 1], |_, count, address| {
            addresses.extend(address);
            bytes += count;
            Ok(())
        });
        assert_eq!((result, bytes), (Ok(()), map.bytes()));
        if at == i32::MAX {
            // (2^31 - 1) strides of almost 2^40 bytes are more than 64 bits: no address of any allocation.
            assert_eq!(addresses, [u64::MAX; 6]);
        }
        if at < -8 {
            assert_eq!(addresses, []);
        }
    }
}

#[test]
fn a_stride_of_zero_repeats_a_row() {
    let mut case = Case::new(&[8, 4]);
    (case.strides, case.box_dim) = (vec![0], vec![8, 4]);
    check(&case, &[0, 0], 0);
}

#[test]
fn the_visitors_error_ends_the_walk_and_other_instructions_are_refused() {
    let case = Case::new(&[8, 4]);
    let map = case.tiled().unwrap();
    let mut calls = 0;
    let stop = map.visit_tile(&[0, 0], |_, _, _| {
        calls += 1;
        Err("enough".to_owned())
    });
    assert_eq!((stop, calls), (Err("enough".to_owned()), 1));
    let fail = |result: Result<(), String>| result.unwrap_err();
    assert_eq!(
        fail(map.visit_tile(&[0, 0, 0], |_, _, _| Ok(()))),
        "an instruction with 3 coordinates, but a tensor map of rank 2"
    );
    assert_eq!(
        fail(map.visit_im2col(&[0, 0], &[], |_, _, _| Ok(()))),
        "an instruction in im2col mode, but a tensor map in tile mode"
    );
}
