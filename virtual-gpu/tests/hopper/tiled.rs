//! Copies of boxes from a tensor into shared memory, compared with a plain walk over the box.

use super::*;
use common::header;

/// The most bytes of a box in these tests.
pub const ROOM: usize = 40960;
/// What shared memory holds where a copy writes nothing.
pub const UNTOUCHED: u8 = 0xaa;

/// A list of the registers `%r10`, ... with the coordinates, and the statements that load them.
pub fn coordinates(rank: usize) -> (String, String, String) {
    let params: String = (0..rank).map(|i| format!(", .param .u32 c{i}")).collect();
    let loads: String = (0..rank).map(|i| format!("ld.param.u32 %r{}, [c{i}];\n", 10 + i)).collect();
    let list: Vec<String> = (0..rank).map(|i| format!("%r{}", 10 + i)).collect();
    (params, loads, list.join(", "))
}

/// Kernels `load1` to `load5` and `im2col3` to `im2col5`. Each fills shared memory with a pattern, copies one box to its
/// start, waits, and writes all of it out.
pub fn loaders() -> String {
    let mut text = header("sm_90");
    for (name, mode, rank) in (1..6).map(|r| ("load", "", r)).chain((3..6).map(|r| ("im2col", ".im2col", r))) {
        let (params, loads, list) = coordinates(rank);
        let right: String = (0..rank.saturating_sub(2)).map(|i| format!(", .param .u16 o{i}")).collect();
        let (params, offset_loads, offsets) = if mode.is_empty() {
            (params, String::new(), String::new())
        } else {
            let loads = (0..rank - 2).map(|i| format!("ld.param.u16 %rs{i}, [o{i}];\n")).collect();
            let list: Vec<String> = (0..rank - 2).map(|i| format!("%rs{i}")).collect();
            (params + &right, loads, format!(", {{{}}}", list.join(", ")))
        };
        text += &format!(
            ".visible .entry {name}{rank}(.param .align 128 .b8 map[128], .param .u64 out, .param .u32 bytes{params})
{{
.reg .pred %p<4>;
.reg .b16 %rs<4>;
.reg .b32 %r<20>;
.reg .b64 %rd<8>;
.shared .align 1024 .b8 tile[{ROOM}];
.shared .align 8 .b64 full;
mov.b64 %rd0, map;
cvta.param.u64 %rd0, %rd0;
ld.param.u64 %rd1, [out];
ld.param.u32 %r1, [bytes];
{loads}{offset_loads}mov.u32 %r0, %tid.x;
mov.u32 %r2, tile;
mov.u32 %r3, full;
mov.u32 %r4, %r0;
FILL:
shl.b32 %r5, %r4, 2;
add.u32 %r6, %r2, %r5;
st.shared.u32 [%r6], 0xaaaaaaaa;
add.u32 %r4, %r4, 128;
setp.lt.u32 %p1, %r4, {words};
@%p1 bra FILL;
fence.proxy.async;
setp.ne.u32 %p0, %r0, 0;
@!%p0 mbarrier.init.shared::cta.b64 [%r3], 1;
bar.sync 0;
@%p0 bra WAIT;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], %r1;
cp.async.bulk.tensor.{rank}d.shared::cluster.global{mode}.mbarrier::complete_tx::bytes [%r2], [%rd0, {{{list}}}], [%r3]{offsets};
WAIT:
mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r3], 0;
@!%p1 bra WAIT;
mov.u32 %r4, %r0;
DUMP:
shl.b32 %r5, %r4, 2;
add.u32 %r6, %r2, %r5;
ld.shared.u32 %r7, [%r6];
cvt.u64.u32 %rd2, %r5;
add.u64 %rd2, %rd1, %rd2;
st.global.u32 [%rd2], %r7;
add.u32 %r4, %r4, 128;
setp.lt.u32 %p1, %r4, {words};
@%p1 bra DUMP;
ret;
}}
",
            words = ROOM / 4
        );
    }
    text
}

/// What shared memory holds after a copy of the box at `start` of a tensor whose values are `values`.
pub fn loaded(tensor: &Tensor, values: &[u8], start: &[i32], offsets: &[u16]) -> Vec<u8> {
    let (size, columns) = (tensor.kind.size(), tensor.extents()[0]);
    let mut shared = vec![UNTOUCHED; ROOM];
    for (i, from) in tensor.walk(start, offsets).into_iter().enumerate() {
        let to = tensor.place(i / columns, i % columns);
        match from {
            Some(from) => shared[to..to + size].copy_from_slice(&values[from..from + size]),
            None => shared[to..to + size].fill(0),
        }
    }
    shared
}

/// Copies the box at `start` by the kernel, and compares all of shared memory.
#[track_caller]
pub fn check(module: CUmodule, tensor: &Tensor, values: &[u8], start: &[i32], offsets: &[u16], out: u64) {
    let name = if matches!(tensor.boxed, common::tensor::Boxed::Tiled(_)) { "load" } else { "im2col" };
    let mut args = Args::default().map(&tensor.encode()).ptr(out).int(tensor.bytes());
    args = start.iter().fold(args, |args, c| args.int(*c as u32 as usize));
    args = offsets.iter().fold(args, |args, o| args.half(*o));
    let what = format!("{tensor:?} at {start:?} {offsets:?}");
    runs(function(module, &format!("{name}{}", start.len())), [1, 1, 1], 128, 0, args, &what);
    let (found, wanted) = (download::<u8>(out, ROOM), loaded(tensor, values, start, offsets));
    if let Some(at) = (0..ROOM).find(|at| found[*at] != wanted[*at]) {
        panic!("{what}: byte {at} of shared memory is {:#x}, not {:#x}", found[at], wanted[at]);
    }
}

/// A tensor with random extents, padded strides and a random box, and its values.
pub fn random(rng: &mut Rng, rank: usize, kind: Kind, swizzle: u32) -> (Tensor, Vec<u8>) {
    let size = kind.size();
    // The first extent of the box: a multiple of 16 bytes, within the swizzle.
    let most = if swizzle == 0 { 128 } else { swizzle as usize };
    let inner = 16 * (1 + rng.below(most / 16)) / size;
    let mut dims = vec![1 + rng.below(2 * inner + 3)];
    let (mut boxed, mut steps) = (vec![inner as u32], vec![1u32]);
    let mut room = most;
    for _ in 1..rank {
        dims.push(1 + rng.below(9));
        let extent = (1 + rng.below(9)).min(ROOM / room).max(1);
        // A step divides the box's extent: the manual leaves open how a part counts.
        let step = if rng.below(4) == 0 { 2 } else { 1 };
        boxed.push((extent * step) as u32);
        steps.push(step as u32);
        room *= extent;
    }
    let mut strides = Vec::new();
    let mut bytes = dims[0] * size;
    for dim in &dims[1..] {
        bytes = bytes.next_multiple_of(16) + 16 * rng.below(2);
        strides.push(bytes as u64);
        bytes *= dim;
    }
    let values: Vec<u8> = (0..bytes.next_multiple_of(16)).map(|_| rng.bits() as u8).collect();
    let dims: Vec<u64> = dims.iter().map(|dim| *dim as u64).collect();
    let tensor = Tensor { strides, ..Tensor::tiled(kind, upload(&values), &dims, &boxed) };
    (tensor.stepped(&steps).swizzled(swizzle), values)
}

/// A start inside the tensor, on its edges or outside.
pub fn start(rng: &mut Rng, tensor: &Tensor) -> Vec<i32> {
    let reach = tensor.extents().iter().zip(&tensor.steps).map(|(e, s)| *e as i32 * *s as i32).collect::<Vec<_>>();
    let along = |(dim, reach): (&u64, i32)| match rng.below(3) {
        0 => 0,
        1 => rng.below(*dim as usize) as i32,
        _ => rng.below(*dim as usize + 2 * reach as usize) as i32 - reach,
    };
    tensor.dims.iter().zip(reach).map(along).collect()
}

#[test]
fn boxes_of_every_rank_type_and_swizzle_are_loaded_with_zeros_outside() {
    let Some(_context) = hopper() else { return };
    let module = compile(&loaders());
    let out = alloc(ROOM);
    let mut rng = Rng(41);
    // Types without a conversion: all bits are kept.
    for kind in [Kind::U8, Kind::U16, Kind::U32, Kind::I32, Kind::U64, Kind::I64] {
        for rank in 1..6 {
            for swizzle in [0, 32, 64, 128] {
                let (tensor, values) = random(&mut rng, rank, kind, swizzle);
                for _ in 0..2 {
                    let start = start(&mut rng, &tensor);
                    check(module, &tensor, &values, &start, &[], out);
                }
            }
        }
    }
}

#[test]
fn floats_are_loaded_as_they_are_and_tf32_rounded_to_nearest_even() {
    let Some(_context) = hopper() else { return };
    let module = compile(&loaders());
    let out = alloc(ROOM);
    let mut rng = Rng(42);
    let mut values = rng.floats(60 * 9);
    // Ties, and values beside them.
    for (i, bits) in
        [0x3f80_1000u32, 0x3f80_3000, 0x3f80_0fff, 0x3f80_1001, 0xbf80_1000, 0x3fff_f000].iter().enumerate()
    {
        values[i] = f32::from_bits(*bits);
    }
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let at = upload(&bytes);
    let tensor = Tensor::tiled(Kind::F32, at, &[60, 9], &[32, 8]).swizzled(128);
    check(module, &tensor, &bytes, &[0, 0], &[], out);
    check(module, &tensor, &bytes, &[40, -3], &[], out);
    let rounded: Vec<u8> = values
        .iter()
        .map(|value| value.to_bits())
        .flat_map(|bits| ((bits + 0xfff + (bits >> 13 & 1)) & !0x1fff).to_le_bytes())
        .collect();
    check(module, &Tensor { kind: Kind::Tf32, ..tensor }, &rounded, &[0, 0], &[], out);
    for kind in [Kind::Bf16, Kind::F16, Kind::F64] {
        let columns = 60 * 4 / kind.size() as u64;
        let bytes: Vec<u8> = match kind {
            Kind::F64 => values.chunks(2).flat_map(|v| f64::from(v[0]).to_le_bytes()).collect(),
            // Halves of either type that are no NaN.
            _ => values.iter().flat_map(|v| [bf16(*v), bf16(*v) & 0x3fff]).flat_map(u16::to_le_bytes).collect(),
        };
        let at = upload(&bytes);
        check(module, &Tensor::tiled(kind, at, &[columns, 9], &[16, 5]), &bytes, &[8, 6], &[], out);
    }
}

/// Rows narrower than the swizzle: each takes the swizzle's width, and the gaps keep what they held.
#[test]
fn rows_narrower_than_the_swizzle_take_its_width() {
    let Some(_context) = hopper() else { return };
    let module = compile(&loaders());
    let out = alloc(ROOM);
    let values: Vec<u8> = (0..64 * 20).map(|i| (i * 7 % 251) as u8).collect();
    let at = upload(&values);
    for (inner, swizzle) in [(32, 128), (16, 32), (48, 64), (80, 128)] {
        let tensor = Tensor::tiled(Kind::U8, at, &[64, 20], &[inner, 9]).swizzled(swizzle);
        assert_eq!((tensor.bytes(), tensor.pitch()), (inner as usize * 9, swizzle as usize));
        check(module, &tensor, &values, &[16, 3], &[], out);
    }
}

#[test]
fn maps_beyond_the_limits_are_refused() {
    let Some(_context) = hopper() else { return };
    let at = alloc(1 << 20);
    let fine = Tensor::tiled(Kind::Bf16, at, &[64, 64], &[64, 64]).swizzled(128);
    fine.encode();
    let images = Tensor::im2col(Kind::Bf16, at, &[64, 8, 8, 2], (&[-1, -1], &[-1, -1]), (64, 64)).swizzled(128);
    images.encode();
    let with = |change: &dyn Fn(&mut Tensor)| {
        let mut tensor = fine.clone();
        change(&mut tensor);
        tensor
    };
    let boxed = |extents: &[u32]| common::tensor::Boxed::Tiled(extents.into());
    let im2col = |lower: [i32; 2], upper: [i32; 2], channels, pixels| Tensor {
        boxed: common::tensor::Boxed::Im2col { lower: lower.into(), upper: upper.into(), channels, pixels },
        ..images.clone()
    };
    let refused = [
        ("address", with(&|t| t.address += 8)),
        ("stride", with(&|t| t.strides[0] = 136)),
        ("stride of 2^40", with(&|t| t.strides[0] = 1 << 40)),
        ("extent 0", with(&|t| t.dims[1] = 0)),
        ("extent above 2^32", with(&|t| t.dims[1] = (1 << 32) + 1)),
        ("box 0", with(&|t| t.boxed = boxed(&[64, 0]))),
        ("box 257", with(&|t| t.boxed = boxed(&[64, 257]))),
        ("row of the box wider than the swizzle", with(&|t| t.boxed = boxed(&[72, 64]))),
        ("row of the box no multiple of 16 bytes", with(&|t| t.boxed = boxed(&[12, 64]))),
        ("step 0", with(&|t| t.steps[1] = 0)),
        ("step 9", with(&|t| t.steps[1] = 9)),
        ("corner below -128", im2col([-129, 0], [0, 0], 64, 64)),
        ("corner above 127", im2col([0, 0], [128, 0], 64, 64)),
        ("channels above 256", im2col([0, 0], [0, 0], 257, 64)),
        ("pixels above 1024", im2col([0, 0], [0, 0], 64, 1025)),
        ("channels wider than the swizzle", im2col([0, 0], [0, 0], 72, 64)),
        ("im2col of rank 2", Tensor { dims: vec![64, 64], strides: vec![128], steps: vec![1, 1], ..images.clone() }),
    ];
    for (name, tensor) in refused {
        assert_eq!(tensor.try_encode(), Err(CUresult::CUDA_ERROR_INVALID_VALUE), "{name}: {tensor:?}");
    }
}
