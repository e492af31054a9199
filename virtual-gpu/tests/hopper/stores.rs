//! Copies and reductions of boxes from shared memory to a tensor.

use super::tiled::{ROOM, coordinates, random, start};
use super::*;
use common::header;

/// Kernels `{name}{rank}`: each copies `bytes` bytes from `from` to shared memory, then the box from there to the tensor.
fn storers(name: &str, instruction: &str, ranks: std::ops::Range<usize>) -> String {
    let mut text = header("sm_90");
    for rank in ranks {
        let (params, loads, list) = coordinates(rank);
        let instruction = instruction.replace("{rank}", &rank.to_string());
        text += &format!(
            ".visible .entry {name}{rank}(.param .align 128 .b8 map[128], .param .u64 from, .param .u32 bytes{params})
{{
.reg .pred %p<4>;
.reg .b32 %r<20>;
.reg .b64 %rd<8>;
.shared .align 1024 .b8 tile[{ROOM}];
mov.b64 %rd0, map;
cvta.param.u64 %rd0, %rd0;
ld.param.u64 %rd1, [from];
ld.param.u32 %r1, [bytes];
{loads}mov.u32 %r0, %tid.x;
mov.u32 %r2, tile;
shl.b32 %r5, %r0, 2;
FILL:
setp.ge.u32 %p1, %r5, %r1;
@%p1 bra FULL;
add.u32 %r6, %r2, %r5;
cvt.u64.u32 %rd2, %r5;
add.u64 %rd2, %rd1, %rd2;
ld.global.u32 %r7, [%rd2];
st.shared.u32 [%r6], %r7;
add.u32 %r5, %r5, 512;
bra FILL;
FULL:
fence.proxy.async.shared::cta;
bar.sync 0;
setp.ne.u32 %p0, %r0, 0;
@%p0 ret;
{instruction} [%rd0, {{{list}}}], [%r2];
cp.async.bulk.commit_group;
cp.async.bulk.wait_group 0;
ret;
}}
"
        );
    }
    text
}

const STORE: &str = "cp.async.bulk.tensor.{rank}d.global.shared::cta.bulk_group";
const PIXELS: &str = "cp.async.bulk.tensor.{rank}d.global.shared::cta.im2col_no_offs.bulk_group";

fn reduction(name: &str) -> String {
    format!("cp.reduce.async.bulk.tensor.{{rank}}d.global.shared::cta.{name}.bulk_group")
}

/// The generated modules, for ptxas.
pub fn modules() -> [String; 4] {
    let [add, inc] = ["add", "inc"].map(|name| storers(name, &reduction(name), 2..3));
    [storers("store", STORE, 1..6), storers("pixels", PIXELS, 3..6), add, inc]
}

/// Runs the kernel, and returns the tensor's bytes.
fn stored(module: CUmodule, name: &str, tensor: &Tensor, count: usize, shared: &[u8], start: &[i32]) -> Vec<u8> {
    let mut args = Args::default().map(&tensor.encode()).ptr(upload(shared)).int(shared.len());
    args = start.iter().fold(args, |args, c| args.int(*c as u32 as usize));
    let what = format!("{name}: {tensor:?} at {start:?}");
    runs(function(module, &format!("{name}{}", start.len())), [1, 1, 1], 128, 0, args, &what);
    download(tensor.address, count)
}

#[test]
fn boxes_of_every_rank_type_and_swizzle_are_stored_within_the_bounds_only() {
    let Some(_context) = hopper() else { return };
    let module = compile(&storers("store", STORE, 1..6));
    let mut rng = Rng(44);
    for kind in [Kind::U8, Kind::U16, Kind::U32, Kind::U64] {
        for rank in 1..6 {
            for swizzle in [0, 32, 64, 128] {
                let (tensor, mut values) = random(&mut rng, rank, kind, swizzle);
                // Of a store's element strides the manual says little.
                let tensor = tensor.stepped(&vec![1; rank]);
                if tensor.room() > ROOM {
                    continue;
                }
                let start: Vec<i32> = start(&mut rng, &tensor).iter().map(|c| (*c).max(0)).collect();
                let shared: Vec<u8> = (0..tensor.room()).map(|_| rng.bits() as u8).collect();
                let found = stored(module, "store", &tensor, values.len(), &shared, &start);
                let (size, columns) = (kind.size(), tensor.extents()[0]);
                for (i, to) in tensor.walk(&start, &[]).into_iter().enumerate() {
                    let from = tensor.place(i / columns, i % columns);
                    if let Some(to) = to {
                        values[to..to + size].copy_from_slice(&shared[from..from + size]);
                    }
                }
                assert!(found == values, "{tensor:?} at {start:?}");
            }
        }
    }
}

/// A store in im2col mode takes the box of pixels of a tensor's own corners, without offsets.
#[test]
fn im2col_stores_write_pixels_in_order() {
    let Some(_context) = hopper() else { return };
    let module = compile(&storers("pixels", PIXELS, 3..6));
    let values = vec![9u8; 32 * 5 * 4 * 3];
    let dims = [32, 5, 4, 3];
    let tensor = Tensor::im2col(Kind::U8, upload(&values), &dims, (&[0, 0], &[0, 0]), (16, 23));
    let shared: Vec<u8> = (0..16 * 23).map(|i| (i % 199) as u8).collect();
    let start = [16, 3, 1, 1];
    let found = stored(module, "pixels", &tensor, values.len(), &shared, &start);
    let mut wanted = values;
    for (i, to) in tensor.walk(&start, &[0, 0]).into_iter().enumerate() {
        wanted[to.expect("inside")] = shared[i];
    }
    assert_eq!(found, wanted);
}

#[test]
fn reductions_combine_with_the_tensors_type() {
    let Some(_context) = hopper() else { return };
    type Combine = fn(u32, u32) -> u32;
    let float = |a: u32, b: u32| (f32::from_bits(a) + f32::from_bits(b)).to_bits();
    let table: [(&str, Kind, Combine); 12] = [
        ("add", Kind::U32, u32::wrapping_add),
        ("add", Kind::I32, u32::wrapping_add),
        ("add", Kind::F32, float),
        ("min", Kind::U32, u32::min),
        ("min", Kind::I32, |a, b| (a as i32).min(b as i32) as u32),
        ("max", Kind::U32, u32::max),
        ("max", Kind::I32, |a, b| (a as i32).max(b as i32) as u32),
        ("and", Kind::U32, |a, b| a & b),
        ("or", Kind::U32, |a, b| a | b),
        ("xor", Kind::U32, |a, b| a ^ b),
        // The old value is the first, the limit the second.
        ("inc", Kind::U32, |a, b| if a >= b { 0 } else { a + 1 }),
        ("dec", Kind::U32, |a, b| if a == 0 || a > b { b } else { a - 1 }),
    ];
    for (name, kind, combine) in table {
        let module = compile(&storers(name, &reduction(name), 2..3));
        let mut rng = Rng(45);
        let mut value = || if kind == Kind::F32 { rng.float().to_bits() } else { rng.bits() as u32 >> rng.below(32) };
        let old: Vec<u32> = (0..20 * 7).map(|_| value()).collect();
        let new: Vec<u32> = (0..8 * 4).map(|_| value()).collect();
        let tensor = Tensor::tiled(kind, upload(&old), &[20, 7], &[8, 4]);
        let shared: Vec<u8> = new.iter().flat_map(|value| value.to_le_bytes()).collect();
        let start = [14, 5];
        let found = stored(module, name, &tensor, 4 * old.len(), &shared, &start);
        let mut wanted = old;
        for (i, to) in tensor.walk(&start, &[]).into_iter().enumerate() {
            if let Some(to) = to {
                wanted[to / 4] = combine(wanted[to / 4], new[i]);
            }
        }
        let found: Vec<u32> = found.chunks(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
        assert_eq!(found, wanted, "{name} {kind:?}");
    }
}
