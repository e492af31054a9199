//! Stores: runs outside of the tensor are left out.

use super::*;

/// The bytes that a store writes, as (offset in the box, offset in the tensor), in order.
fn stored(map: &TensorMap, coords: &[i32]) -> Result<Vec<(usize, u64)>, String> {
    let mut bytes = Vec::new();
    map.visit_store::<String>(coords, |offset, count, address| {
        bytes.extend((0..count).map(|i| (offset + i, address - ADDRESS + i as u64)));
        Ok(())
    })?;
    Ok(bytes)
}

#[test]
fn stores_write_only_what_is_inside_of_the_tensor() {
    let mut case = Case::new(&[10, 5, 3]);
    case.dense(4, 1);
    (case.box_dim, case.steps) = (vec![8, 4, 2], vec![1, 2, 1]);
    let map = case.tiled().unwrap();
    for (x, y, z) in [(0, 0, 0), (4, 2, 1), (9, 4, 2), (10, 0, 0), (0, 5, 0), (0, 0, 3)] {
        let mut wanted = Vec::new();
        for (row, (dz, dy)) in [(0, 0), (0, 2), (1, 0), (1, 2)].into_iter().enumerate() {
            for dx in 0..8 {
                if let Some(offset) = case.offset(&[x + dx, y + dy, z + dz]) {
                    wanted.extend((0..4).map(|i| (row * 32 + dx as usize * 4 + i, offset + i as u64)));
                }
            }
        }
        assert_eq!(stored(&map, &[x as i32, y as i32, z as i32]).unwrap(), wanted);
    }
    let start = stored(&map, &[0, -1, 0]).unwrap_err();
    assert_eq!(start, "start coordinate 1 of a store is -1: it must not be negative");
}

#[test]
fn im2col_stores_need_a_box_within_the_image() {
    let mut case = Case::new(&[4, 5, 4, 2]);
    case.pixels = 7;
    (case.lower, case.upper) = (vec![1, 0], vec![-1, 0]);
    let map = case.im2col().unwrap();
    // Base pixels have W from 1 to 3; the last image ends after three of them.
    let pixels: Vec<u64> = stored(&map, &[0, 2, 2, 1]).unwrap().iter().step_by(16).map(|byte| byte.1 / 16).collect();
    assert_eq!(pixels, [32, 33, 36, 37, 38]);
    let channel = stored(&map, &[-4, 2, 2, 1]).unwrap_err();
    assert_eq!(channel, "start coordinate 0 of a store is -4: it must not be negative");
    assert!(stored(&map, &[0, 0, 2, 1]).unwrap_err().contains("W of the base pixel is 0"));
    for (lower, upper) in [([-1, 0], [0, 0]), ([0, 0], [0, 1])] {
        (case.lower, case.upper) = (lower.to_vec(), upper.to_vec());
        let why = stored(&case.im2col().unwrap(), &[0, 0, 0, 0]).unwrap_err();
        assert!(why.starts_with("a store through an im2col tensor map whose box leaves the image"), "{why}");
    }
}
