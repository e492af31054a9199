//! im2col copies: the values that were measured on cards, and random boxes compared with a plain walk.

use super::tiled::{ROOM, check, loaders};
use super::*;

/// Loads 16 pixels of one channel of four bytes (of four channels, the least that a map allows), and returns the channel.
fn pixels(module: CUmodule, tensor: &Tensor, start: [i32; 4], offsets: [u16; 2]) -> Vec<u32> {
    let out = alloc(ROOM);
    let mut args = Args::default().map(&tensor.encode()).ptr(out).int(tensor.bytes());
    args = start.iter().fold(args, |args, c| args.int(*c as u32 as usize));
    args = offsets.iter().fold(args, |args, o| args.half(*o));
    runs(function(module, "im2col4"), [1, 1, 1], 128, 0, args, "im2col4");
    download::<u32>(out, 64).chunks(4).map(|pixel| pixel[0]).collect()
}

/// 4 x 4 images whose pixels are numbered row by row from 1. The expected values come from Triton's tutorial on im2col,
/// whose authors ran it on cards.
#[test]
fn base_pixels_advance_as_measured_on_cards() {
    let Some(_context) = hopper() else { return };
    let module = compile(&loaders());
    let images = |n: u32, lower: i32, upper: i32| {
        let values: Vec<u32> = (0..n * 64).map(|i| if i % 4 == 0 { i / 4 + 1 } else { 0 }).collect();
        let corners: (&[i32], &[i32]) = (&[lower, lower], &[upper, upper]);
        Tensor::im2col(Kind::U32, upload(&values), &[4, 4, 4, u64::from(n)], corners, (4, 16))
    };
    let counted: Vec<u32> = (1..17).collect();
    assert_eq!(pixels(module, &images(1, 0, 0), [0; 4], [0; 2]), counted);
    let padded = images(1, -1, -1);
    let shifted = [0, 0, 0, 0, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11];
    assert_eq!(pixels(module, &padded, [0, -1, -1, 0], [0; 2]), shifted);
    assert_eq!(pixels(module, &padded, [0, -1, -1, 0], [1, 1]), counted);
    assert_eq!(pixels(module, &images(2, 0, 0), [0, 3, 1, 0], [0; 2]), (8..24).collect::<Vec<u32>>());
    let wrapped = [7, 0, 9, 10, 11, 0, 0, 0, 0, 0, 17, 18, 19, 0, 21, 22];
    assert_eq!(pixels(module, &images(2, -1, -1), [0, 2, 1, 0], [0; 2]), wrapped);
}

#[test]
fn im2col_boxes_of_every_rank_equal_a_plain_walk() {
    let Some(_context) = hopper() else { return };
    let module = compile(&loaders());
    let out = alloc(ROOM);
    let mut rng = Rng(43);
    for round in 0..90 {
        let rank = 3 + round % 3;
        let kind = [Kind::U16, Kind::U32, Kind::U8][rng.below(3)];
        let swizzle = [0, 32, 64, 128][rng.below(4)];
        let most = if swizzle == 0 { 128 } else { swizzle as usize };
        let channels = 16 * (1 + rng.below(most / 16)) / kind.size();
        let depth = 16 / kind.size() * (1 + rng.below(10));
        let mut dims = vec![depth as u64];
        let (mut lower, mut upper, mut steps) = (Vec::new(), Vec::new(), vec![1]);
        let (mut start, mut offsets) = (vec![(rng.below(depth) / 4 * 4) as i32], Vec::new());
        for _ in 0..rank - 2 {
            let extent = 1 + rng.below(7) as i32;
            let (taps, pad, step) = (1 + rng.below(3) as i32, rng.below(3) as i32, 1 + rng.below(3) as i32);
            // The box of base pixels has at least one pixel.
            let up = (pad - (taps - 1)).max(1 - extent - pad);
            let count = (extent + up + pad - 1) / step + 1;
            dims.push(extent as u64);
            lower.push(-pad);
            upper.push(up);
            steps.push(step as u32);
            start.push(rng.below(count as usize) as i32 * step - pad);
            offsets.push(rng.below(taps as usize) as u16);
        }
        let images = 1 + rng.below(3);
        dims.push(images as u64);
        steps.push(1);
        start.push(rng.below(images) as i32);
        let count = dims.iter().product::<u64>() as usize * kind.size();
        let values: Vec<u8> = (0..count).map(|_| rng.bits() as u8).collect();
        let pixels = 1 + rng.below(200) as u32;
        let tensor = Tensor::im2col(kind, upload(&values), &dims, (&lower, &upper), (channels as u32, pixels));
        check(module, &tensor.stepped(&steps).swizzled(swizzle), &values, &start, &offsets, out);
    }
}
