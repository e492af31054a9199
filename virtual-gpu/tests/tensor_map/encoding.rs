//! The 128 bytes of a map, and what a load does to an element.

use super::*;
use virtual_gpu::tensor_map::{Element, Mode, Swizzle};

fn bytes(words: [u64; 16]) -> [u8; 128] {
    let mut bytes = [0; 128];
    for (to, word) in bytes.chunks_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn maps() -> Vec<TensorMap> {
    let mut random = Random(3);
    let mut maps = Vec::new();
    for round in 0..500 {
        let rank = round % 5 + 1;
        let dims: Vec<u64> = (0..rank).map(|_| 1 + (random.next() & 0xffff_ffff)).collect();
        let mut case = Case::new(&dims);
        case.data_type = random.range(0, 12) as u32;
        case.address = (random.next() >> 8) & !15;
        case.strides = (1..rank).map(|_| (random.next() >> 24) & !15).collect();
        case.steps = (0..rank).map(|_| random.range(1, 8) as u32).collect();
        case.swizzle = random.range(0, 3) as u32;
        case.box_dim = (0..rank).map(|_| random.range(1, 256) as u32).collect();
        case.box_dim[0] = (32 / size(case.data_type)) as u32;
        maps.push(case.tiled().unwrap());
        if rank >= 3 {
            let bound = [1 << 15, 1 << 7, 1 << 4][rank - 3];
            (case.steps[rank - 1], case.channels) = (1, case.box_dim[0]);
            case.dims[1..rank - 1].iter_mut().for_each(|dim| *dim |= 1 << 17);
            case.lower = (2..rank).map(|_| random.range(-bound, bound - 1) as i32).collect();
            case.upper = (2..rank).map(|_| random.range(-bound, bound - 1) as i32).collect();
            case.pixels = random.range(1, 1024) as u32;
            maps.push(case.im2col().unwrap());
        }
    }
    // The extremes of every field.
    let mut case = Case::new(&[1 << 32; 5]);
    (case.strides, case.steps, case.box_dim) = (vec![(1 << 40) - 16; 4], vec![8; 5], vec![256; 5]);
    maps.push(case.tiled().unwrap());
    maps
}

#[test]
fn every_map_survives_its_encoding() {
    for map in maps() {
        assert_eq!(TensorMap::decode(&bytes(map.encode())).as_ref(), Ok(&map));
    }
}

#[test]
fn a_decoded_map_names_what_was_encoded() {
    let mut case = Case::new(&[64, 9, 9, 2]);
    (case.data_type, case.swizzle, case.channels, case.pixels) = (11, 3, 32, 128);
    case.lower = vec![-1, -2];
    let map = TensorMap::decode(&bytes(case.im2col().unwrap().encode())).unwrap();
    assert_eq!((map.element(), map.rank(), map.address(), map.swizzle()), (Element::Tf32, 4, ADDRESS, Swizzle::B128));
    assert_eq!(map.allocation(), Allocation { base: ADDRESS & !0xff, bytes: 1 << 30 });
    let mode = Mode::Im2col { lower: [-1, -2, 0], upper: [0; 3], channels_per_pixel: 32, pixels_per_column: 128 };
    assert_eq!(map.mode(), mode);
}

#[test]
fn any_changed_bit_is_refused_but_the_one_that_cutlass_clears() {
    let maps = maps();
    for map in [&maps[0], &maps[4], &maps[7], &maps[maps.len() - 1]] {
        let words = map.encode();
        for bit in 0..1024 {
            let mut changed = words;
            changed[bit / 64] ^= 1 << (bit % 64);
            let decoded = TensorMap::decode(&bytes(changed));
            if bit == 64 + 21 {
                assert_eq!(decoded.as_ref(), Ok(map));
            } else {
                let why = decoded.expect_err(&format!("bit {bit}"));
                let wanted = match bit {
                    0..32 => "no tensor map",
                    32..40 => "version",
                    _ => "was changed after the driver encoded it",
                };
                assert!(why.contains(wanted), "bit {bit}: {why}");
            }
        }
    }
}

#[test]
fn bytes_that_no_encoding_wrote_are_refused() {
    let zeros = TensorMap::decode(&[0; 128]).unwrap_err();
    assert_eq!(zeros, "the tensor map is all zeros: no cuTensorMapEncode function has written it");
    let first = Case::new(&[8, 8]).tiled().unwrap().encode()[0];
    let mut random = Random(4);
    for _ in 0..10_000 {
        let mut words = [0; 16];
        words.fill_with(|| random.next());
        let why = TensorMap::decode(&bytes(words)).unwrap_err();
        assert!(why.starts_with("no tensor map: its first word is 0x"), "{why}");
        // The beginning of a map with anything after it.
        words[0] = first;
        assert!(TensorMap::decode(&bytes(words)).is_err());
    }
}

#[test]
fn a_replaced_address_keeps_the_rest() {
    let mut case = Case::new(&[64, 9]);
    let map = case.tiled().unwrap();
    case.address = ADDRESS + 0x1230;
    let moved = map.replace_address(case.address, case.arguments().allocation).unwrap();
    assert_eq!(moved, case.tiled().unwrap());
    assert!(map.replace_address(ADDRESS + 8, None).unwrap_err().contains("it must be a multiple of 16"));
    assert!(map.replace_address(ADDRESS, None).unwrap_err().contains("it is in no allocation of device memory"));
    assert_eq!(map.replace_address(0, None).unwrap_err(), "globalAddress is null");
}

#[test]
fn loads_round_tf32_to_the_nearest_even_and_flush_subnormals_where_the_type_says_so() {
    // Half of a unit in the last place is 0x1000.
    let rounded = [
        (0x3f80_0000, 0x3f80_0000),
        (0x3f80_0fff, 0x3f80_0000),
        (0x3f80_1000, 0x3f80_0000),
        (0x3f80_1001, 0x3f80_2000),
        (0x3f80_3000, 0x3f80_4000),
        (0xbf80_3000, 0xbf80_4000),
        (0x7f7f_ffff, 0x7f80_0000),
        (0x7f80_0000, 0x7f80_0000),
        (0x8000_0000, 0x8000_0000),
    ];
    for (bits, wanted) in rounded {
        assert_eq!((Element::Tf32.load(bits), Element::Tf32Ftz.load(bits)), (wanted, wanted), "{bits:#x}");
        assert_eq!((Element::F32Ftz.load(bits), Element::F32.load(bits)), (bits, bits));
    }
    for (bits, wanted) in [(0x0000_1001, 0x0000_2000), (0x007f_ffff, 0x0080_0000), (0x8000_3000, 0x8000_4000)] {
        let zero = bits & 0x8000_0000;
        assert_eq!((Element::Tf32.load(bits), Element::Tf32Ftz.load(bits)), (wanted, zero), "{bits:#x}");
        assert_eq!((Element::F32Ftz.load(bits), Element::F32.load(bits)), (zero, bits));
    }
    assert!(
        f32::from_bits(Element::Tf32.load(0x7fff_ffff)).is_nan()
            && f32::from_bits(Element::Tf32.load(0xff80_0001)).is_nan()
    );
    let mut run = [0x3f80_1001u32.to_le_bytes(), 0x3f80_0001u32.to_le_bytes()].concat();
    Element::F32.load_run(&mut run);
    assert_eq!(run[..4], 0x3f80_1001u32.to_le_bytes());
    Element::Tf32.load_run(&mut run);
    assert_eq!(run, [0x3f80_2000u32.to_le_bytes(), 0x3f80_0000u32.to_le_bytes()].concat());
}
