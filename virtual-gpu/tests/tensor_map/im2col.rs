//! Loads in im2col mode, against the operand of a plain convolution and pixels that cards have given.

use super::*;

/// An image tensor with four words a pixel, all of which hold the pixel's number from 1 on.
fn pixels(dims: &[u64], lower: &[i32], upper: &[i32], count: u32) -> Case {
    let mut case = Case::new(&[&[4], dims].concat());
    (case.lower, case.upper, case.pixels) = (lower.to_vec(), upper.to_vec(), count);
    case
}

/// The numbers of the pixels that a load brings; 0 is fill.
#[track_caller]
fn numbers(case: &Case, coords: &[i32], offsets: &[u16]) -> Vec<u32> {
    let map = case.im2col().unwrap();
    let number = |offset: u64| (offset as u32 / 16 + 1).to_le_bytes()[offset as usize % 4];
    let shared = loaded(&map, 0, number, |f| map.visit_im2col(coords, offsets, f)).unwrap();
    shared.chunks(16).map(|pixel| u32::from_le_bytes(pixel[..4].try_into().unwrap())).collect()
}

#[test]
fn images_of_4_by_4_give_the_pixels_that_cards_give() {
    // Triton's tutorial 13-conv-im2col, which runs on Hopper and Blackwell.
    let one = |lower, upper| pixels(&[4, 4, 1], lower, upper, 16);
    let two = |lower, upper| pixels(&[4, 4, 2], lower, upper, 16);
    let all: Vec<u32> = (1..=16).collect();
    assert_eq!(numbers(&one(&[0, 0], &[0, 0]), &[0, 0, 0, 0], &[0, 0]), all);
    let padded = one(&[-1, -1], &[-1, -1]);
    let corner = [0, 0, 0, 0, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11];
    assert_eq!(numbers(&padded, &[0, -1, -1, 0], &[0, 0]), corner);
    assert_eq!(numbers(&padded, &[0, -1, -1, 0], &[1, 1]), all);
    let across: Vec<u32> = (8..=23).collect();
    assert_eq!(numbers(&two(&[0, 0], &[0, 0]), &[0, 3, 1, 0], &[0, 0]), across);
    let corner = [7, 0, 9, 10, 11, 0, 0, 0, 0, 0, 17, 18, 19, 0, 21, 22];
    assert_eq!(numbers(&two(&[-1, -1], &[-1, -1]), &[0, 2, 1, 0], &[0, 0]), corner);
}

#[test]
fn steps_wrap_at_the_end_of_the_box_in_both_ranks() {
    // Measured on a card (Blackwell): 13 pixels with a step of 2 along W; corners list W first.
    let case = |dims: &[u64], corner: &[i32]| {
        let mut case = Case::new(dims);
        (case.lower, case.upper) = (corner.to_vec(), corner.to_vec());
        (case.channels, case.pixels, case.swizzle, case.steps[1]) = (8, 13, 3, 2);
        case
    };
    let check = |case: &Case, coords: &[i32], offsets: &[u16], elements: [u64; 13]| {
        let map = case.im2col().unwrap();
        assert_eq!((map.bytes(), map.pitch(), map.extent()), (416, 128, 1664));
        let shared = loaded(&map, 128, counting, |f| map.visit_im2col(coords, offsets, f)).unwrap();
        let rows: Vec<Vec<_>> =
            elements.iter().map(|pixel| (0..8).map(|c| Some((pixel * 16 + c) * 4)).collect()).collect();
        assert_eq!(shared, expected(case, 128, &rows, counting));
    };
    check(&case(&[16, 5, 8], &[-1]), &[0, 1, 0], &[1], [2, 4, 5, 7, 9, 10, 12, 14, 15, 17, 19, 20, 22]);
    check(&case(&[16, 5, 8, 8], &[-1, 0]), &[0, 1, 0, 0], &[1, 1], [7, 9, 10, 12, 14, 15, 17, 19, 20, 22, 24, 25, 27]);
}

/// A convolution over images: for each spatial dimension, innermost first.
struct Convolution {
    size: Vec<i64>,
    filter: Vec<i64>,
    stride: Vec<i64>,
    dilation: Vec<i64>,
    before: Vec<i64>,
    after: Vec<i64>,
    outputs: Vec<i64>,
}

impl Convolution {
    fn random(random: &mut Random, spatial: usize) -> Convolution {
        let most = [14, 12, 6][spatial - 1];
        let mut all = |least, most| (0..spatial).map(|_| random.range(least, most)).collect::<Vec<i64>>();
        let (size, filter, stride) = (all(1, most), all(1, 3), all(1, 3));
        let (dilation, before, after) = (all(1, 2), all(0, 3), all(0, 3));
        let outputs = (0..spatial)
            .map(|i| (size[i] + before[i] + after[i] - (filter[i] - 1) * dilation[i] - 1).div_euclid(stride[i]) + 1)
            .collect();
        Convolution { size, filter, stride, dilation, before, after, outputs }
    }
}

#[test]
fn loads_are_the_operand_of_a_plain_convolution() {
    let (mut random, mut tried) = (Random(2), 0);
    while tried < 400 {
        let spatial = tried % 3 + 1;
        let convolution = Convolution::random(&mut random, spatial);
        let Convolution { size, filter, stride, dilation, before, after, outputs } = &convolution;
        if outputs.iter().any(|count| *count < 1) {
            continue;
        }
        tried += 1;
        let (channels, images) = (random.range(1, 5) * 4, random.range(1, 4));
        let dims: Vec<u64> = [channels].iter().chain(size).chain([&images]).map(|dim| *dim as u64).collect();
        let mut case = Case::new(&dims);
        case.dense(4, random.range(0, 1) as u64);
        case.swizzle = random.range(0, 3) as u32;
        case.channels =
            [4, 8, 16, 32][random.range(0, if case.swizzle == 0 { 3 } else { case.swizzle.into() }) as usize];
        case.pixels = random.range(1, 70) as u32;
        for i in 0..spatial {
            case.lower[i] = -before[i] as i32;
            case.upper[i] = (after[i] - (filter[i] - 1) * dilation[i]) as i32;
            case.steps[i + 1] = stride[i] as u32;
        }
        let map = case.im2col().unwrap();
        let positions = outputs.iter().product::<i64>() * images;
        for _ in 0..6 {
            // A block of outputs that may reach beyond the last image, at one place of the filter.
            let first = random.range(0, positions - 1);
            let place: Vec<i64> = (0..spatial).map(|i| random.range(0, filter[i] - 1)).collect();
            let channel = random.range(0, channels + 3);
            let split = |mut position: i64| {
                let mut at = Vec::new();
                for count in outputs {
                    at.push(position % count);
                    position /= count;
                }
                (at, position)
            };
            let row = |position: i64| {
                let (output, image) = split(position);
                let element = |c: i64| {
                    let mut at = vec![channel + c];
                    at.extend((0..spatial).map(|i| output[i] * stride[i] - before[i] + place[i] * dilation[i]));
                    at.push(image);
                    case.offset(&at)
                };
                (0..case.channels.into()).map(element).collect::<Vec<_>>()
            };
            let rows: Vec<Vec<_>> = (first..first + i64::from(case.pixels)).map(row).collect();
            let (output, image) = split(first);
            let mut coords = vec![channel as i32];
            coords.extend((0..spatial).map(|i| (output[i] * stride[i] - before[i]) as i32));
            coords.push(image as i32);
            let offsets: Vec<u16> = (0..spatial).map(|i| (place[i] * dilation[i]) as u16).collect();
            let base = 128 * random.range(0, 9) as u64;
            let shared = loaded(&map, base, memory, |f| map.visit_im2col(&coords, &offsets, f)).unwrap();
            assert!(shared == expected(&case, base, &rows, memory), "{map:?} at {coords:?}, {offsets:?}");
        }
    }
}

#[test]
fn base_pixels_outside_of_the_box_and_wrong_instructions_are_refused() {
    let case = pixels(&[9, 7, 2], &[-1, -2], &[-2, 1], 5);
    let map = case.im2col().unwrap();
    let visit = |coords: &[i32], offsets: &[u16]| map.visit_im2col::<String>(coords, offsets, |_, _, _| Ok(()));
    for (w, h) in [(-1, -2), (6, 7), (0, 0)] {
        assert_eq!(visit(&[0, w, h, 0], &[0, 0]), Ok(()));
    }
    for (w, h, expected) in [
        (-2, 0, "W of the base pixel is -2: the box of base pixels goes from -1 to 6"),
        (7, 0, "W of the base pixel is 7: the box of base pixels goes from -1 to 6"),
        (0, -3, "H of the base pixel is -3: the box of base pixels goes from -2 to 7"),
        (0, 8, "H of the base pixel is 8: the box of base pixels goes from -2 to 7"),
    ] {
        assert_eq!(visit(&[0, w, h, 0], &[0, 0]).unwrap_err(), expected);
    }
    let wide = visit(&[0, 0, 0, 0], &[0, 256]).unwrap_err();
    assert_eq!(wide, "the im2col offset of H is 256: it must be at most 255");
    assert_eq!(visit(&[0, 0, 0, 0], &[0]).unwrap_err(), "1 im2col offsets: a tensor map of rank 4 needs 2");
    let short = visit(&[0, 0, 0], &[0]).unwrap_err();
    assert_eq!(short, "an instruction with 3 coordinates, but a tensor map of rank 4");
    let tile = map.visit_tile::<String>(&[0, 0, 0, 0], |_, _, _| Ok(())).unwrap_err();
    assert_eq!(tile, "an instruction in tile mode, but a tensor map in im2col mode");
    // Images before the first and after the last are fill.
    for image in [-3, 2, 1000] {
        assert_eq!(numbers(&case, &[0, 0, 0, image], &[0, 0]), [0; 5]);
    }
}
