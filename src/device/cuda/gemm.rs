//! The rules for launches of the convolutions' GEMM kernels: the tile, the grid, and the division of long sums
//! (split-K). All of it is arithmetic on extents.

use bytemuck::NoUninit;

use super::convert::Destination;
use super::parts::Parts;
use super::tiles::{FP32_TILES, MMA_TILES, TILE_BYTES, Tile, WGMMA_TILES};
use super::{Geometry, Limits, Precision};
use crate::{Error, Result};

/// The extents of a GEMM: `[m, k] · [k, n]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
}

/// Elements of a 16-byte access.
fn vector(precision: Precision) -> usize {
    match precision {
        Precision::Fp32 | Precision::Tf32 => 4,
        Precision::Bf16 => 8,
    }
}

/// Elements of k in a tile.
pub(crate) fn tile_k(precision: Precision) -> usize {
    TILE_BYTES / 16 * vector(precision)
}

/// Whether all of `channels` can be read 16 bytes at a time.
pub(crate) fn whole_vectors(precision: Precision, channels: &[usize]) -> bool {
    channels.iter().all(|channels| channels % vector(precision) == 0)
}

/// The kernels count rows and columns in ints, those of the last tiles beyond the product included.
///
/// # Errors
/// [`Error::Shape`] for an extent beyond that.
pub(crate) fn require_countable(op: &'static str, extents: &[usize]) -> Result<()> {
    match extents.iter().find(|&&extent| extent > 1 << 30) {
        Some(extent) => Err(Error::shape(op, format!("the kernels count to 2^30, not to {extent}"))),
        None => Ok(()),
    }
}

/// The tiles of a precision, but the larger ones.
pub(super) fn tiles(precision: Precision) -> &'static [Tile] {
    match precision {
        Precision::Fp32 => &FP32_TILES,
        Precision::Tf32 | Precision::Bf16 => &MMA_TILES,
    }
}

/// The tile for a product of `n` columns. The cost is counted in columns: those beyond `n` cost as much as others, and
/// each tile reads the rows of A once more, which costs about as much as 32 columns.
pub(crate) fn tile(precision: Precision, aligned: bool, n: usize) -> &'static Tile {
    let candidates = tiles(precision).iter().filter(|tile| tile.aligned == aligned);
    candidates.min_by_key(|tile| n.div_ceil(tile.n) * (tile.n + 32)).expect("tiles for any extents")
}

/// The fewest tiles of k for which a larger tile pays. Its block is alone on a multiprocessor: its prologue and epilogue, about eight
/// tiles of k (a guess), overlap with nothing, and those of two blocks overlap with each other's products.
const LONG_STEPS: usize = 64;

/// `tile`, or a larger one for products with long sums, if the GPU has its kernels and room for its blocks: that of warpgroups which
/// takes the least time, else the tall one, where they leave no multiprocessor more work than they save. The results are
/// the same bits: each is a sum over k in the same order. (Hopper's `wgmma` adds up as its `mma.sync` does, by all that is published;
/// `tests/ops/warpgroups.rs` asks a card.)
pub(crate) fn enlarged(tile: &'static Tile, product: Product, gpu: &Limits) -> &'static Tile {
    if !tile.aligned || product.k < LONG_STEPS * tile_k(gpu.precision) {
        return tile;
    }
    // Results that the multiprocessor with the most blocks computes.
    let rounds = |tile: &Tile| geometry(tile, product.m, product.n, 1).grid[0].div_ceil(gpu.multiprocessors);
    let results = |tile: &Tile| rounds(tile) * tile.m * tile.n;
    // `mma.sync` reaches five eighths of what `wgmma` does.
    let fast = of_warpgroups(gpu).filter(|wide| 5 * results(wide) <= 8 * results(tile));
    let tall = tile.tall().filter(|tall| has_room(tall, gpu) && results(tall) <= results(tile));
    fast.min_by_key(|wide| rounds(wide) * wide.clocks()).or(tall).unwrap_or(tile)
}

/// The rule for the tile of wgrad of `product`, whose operands are read in 16-byte accesses if it is `aligned`.
pub(crate) type TileRule = fn(aligned: bool, product: Product, gpu: &Limits) -> Tile;

/// The tile of groups of warps for wgrad.
pub(crate) fn grouped_tile(aligned: bool, product: Product, gpu: &Limits) -> Tile {
    tile(gpu.precision, aligned, product.n).grouped()
}

/// The tile for wgrad of a convolution: that of warpgroups which takes the least time, if the GPU has its kernels, it computes few
/// results too many (each of them once a part), and leaves each multiprocessor a long part of the sum; else one of groups of warps.
pub(crate) fn wgrad_tile(aligned: bool, product: Product, gpu: &Limits) -> Tile {
    let portable = grouped_tile(aligned, product, gpu);
    let blocks = |tile: &Tile| geometry(tile, product.m, product.n, 1).grid[0];
    let results = |tile: &Tile| blocks(tile) * tile.m * tile.n;
    let steps = |tile: &Tile| blocks(tile) * product.k.div_ceil(tile_k(gpu.precision)) / gpu.multiprocessors;
    let long = |wide: &Tile| aligned && steps(wide) >= LONG_STEPS / 2;
    let pays = |wide: &&Tile| long(wide) && 4 * results(wide) <= 5 * results(&portable);
    let fast = of_warpgroups(gpu).filter(pays).min_by_key(|wide| blocks(wide) * wide.clocks());
    fast.copied().unwrap_or(portable)
}

/// The tiles of warpgroups that a GPU has kernels and room for.
fn of_warpgroups(gpu: &Limits) -> impl Iterator<Item = &'static Tile> {
    WGMMA_TILES.iter().filter(|tile| gpu.warpgroups && has_room(tile, gpu))
}

fn has_room(tile: &Tile, gpu: &Limits) -> bool {
    tile.blocks_at_once(gpu.shared_memory) == tile.blocks
}

/// One block for each tile of an `m` × `n` product and each split. The order of n is inner, so that blocks that share
/// rows of A run together.
pub(crate) fn geometry(tile: &Tile, m: usize, n: usize, splits: usize) -> Geometry {
    Geometry {
        grid: [m.div_ceil(tile.m) * n.div_ceil(tile.n), splits, 1],
        block: [tile.threads(), tile.groups, 1],
        shared: tile.shared(),
    }
}

/// Sums over k that may be divided among blocks of threads (split-K).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sums {
    /// Tiles of the product (`blocks`), and its elements (`len`).
    pub(crate) blocks: usize,
    pub(crate) len: usize,
    /// Tiles of k for each group of a block.
    pub(crate) steps: usize,
    /// Slots: blocks of threads that run at once.
    pub(crate) slots: usize,
    /// Bytes of memory traffic for each slot in the time that all slots multiply a tile.
    pub(crate) bytes: usize,
}

/// A division of sums: the number of splits, and the tiles of k that each group of a split takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Splits {
    pub(crate) count: usize,
    pub(crate) tiles: usize,
}

/// The most floats of partial results.
const SCRATCH: usize = 16 << 20;

pub(crate) type SplitRule = fn(Sums) -> Splits;

/// The rule for wgrad. Its parts need no launch of their own: the reader of the gradient adds them up.
pub(crate) fn wgrad_splits(sums: Sums) -> Splits {
    sums.fastest(sums.steps / 8, 0)
}

/// The rule for fprop, which has enough blocks unless images or channels are few. A second launch adds up the parts and
/// costs about as much as five tiles; splits that do not all run at once would rarely be worth it. The parts rarely
/// leave the second-level cache, whose bandwidth is about twice that of memory.
pub(crate) fn fprop_splits(sums: Sums) -> Splits {
    let most = (sums.steps / 4).min(sums.slots / sums.blocks);
    Sums { bytes: 2 * sums.bytes, ..sums }.fastest(most, 5)
}

impl Sums {
    /// The number of splits, up to `most`, that takes the least time, or the lowest number within 1/32 of that: the
    /// estimate is rough, and partial results take memory.
    ///
    /// The time is counted in tiles of k: those of the slot with the most work, eight for a block's prologue and epilogue (a
    /// guess), and, with more than one split, `launch` and the traffic of all partial results to memory and back.
    fn fastest(self, most: usize, launch: usize) -> Splits {
        let Sums { blocks, len, steps, slots, bytes } = self;
        let time = |count: usize| {
            let waves = (blocks * count).div_ceil(slots);
            let partial = if count == 1 { 0 } else { launch + count * len * 2 * size_of::<f32>() / (slots * bytes) };
            waves * (steps.div_ceil(count) + 8) + partial
        };
        let most = most.min(SCRATCH / len).clamp(1, 1024);
        let least = (1..=most).map(time).min().expect("at least one");
        let count = (1..=most).find(|&count| time(count) <= least + least / 32).expect("the fastest");
        // No split is empty: fewer splits of as many tiles would have taken no longer.
        Splits { count, tiles: steps.div_ceil(count) }
    }
}

/// Multiply-adds of a GPU in the time that its memory moves a byte. By the data sheets, in bf16: A100 of 80 GB 76, RTX
/// 4090 82, H200 103, of which `mma.sync` reaches some two thirds; in TF32 half as many. In fp32: H200 7, RTX 3090 19,
/// RTX 4090 41.
fn intensity(precision: Precision) -> usize {
    match precision {
        Precision::Fp32 => 16,
        Precision::Tf32 => 38,
        Precision::Bf16 => 76,
    }
}

/// The division of `product`, with `len` results in all, by `rule`.
pub(crate) fn division(rule: SplitRule, gpu: &Limits, tile: &Tile, product: Product, len: usize) -> Splits {
    let blocks = geometry(tile, product.m, product.n, 1).grid[0];
    let tile_k = tile_k(gpu.precision);
    let steps = product.k.div_ceil(tile_k).div_ceil(tile.groups);
    let slots = tile.blocks_at_once(gpu.shared_memory).max(1) * gpu.multiprocessors;
    let bytes = tile.groups * tile.m * tile.n * tile_k / intensity(gpu.precision);
    rule(Sums { blocks, len, steps, slots, bytes })
}

/// The kernels' `Split`: the distance of the parts in floats, and the tiles of k of each group.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Split {
    stride: i32,
    tiles: i32,
}

impl Split {
    pub(crate) fn new(splits: Splits, parts: Option<&Parts>) -> Self {
        Split { stride: parts.map_or(0, Parts::stride) as i32, tiles: splits.tiles as i32 }
    }
}

/// The kernels' `GradientSplit`: the division of wgrad's sum, and the addresses of its results.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct GradientSplit {
    split: Split,
    dw: u64,
    db: u64,
    accumulate_dw: i32,
    accumulate_db: i32,
}

impl GradientSplit {
    /// For the destinations of dw and db, as far as they are wanted.
    pub(crate) fn new(split: Split, [dw, db]: [Option<&Destination<'_>>; 2]) -> Self {
        let address = |grad: Option<&Destination<'_>>| grad.map_or(0, Destination::address);
        let accumulate = |grad: Option<&Destination<'_>>| grad.is_some_and(Destination::accumulate).into();
        let (accumulate_dw, accumulate_db) = (accumulate(dw), accumulate(db));
        GradientSplit { split, dw: address(dw), db: address(db), accumulate_dw, accumulate_db }
    }
}

// SAFETY: words.
unsafe impl NoUninit for Split {}
// SAFETY: no gaps between the fields.
unsafe impl NoUninit for GradientSplit {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cuda::tiles::TALL_TILES;

    /// A GPU as large as an H200, without kernels of its own.
    fn gpu(precision: Precision) -> Limits {
        Limits { warpgroups: false, ..Limits::h200(precision) }
    }

    #[test]
    fn long_sums_of_many_rows_have_tall_tiles() {
        let name = |precision, aligned, m, n, k| {
            enlarged(tile(precision, aligned, n), Product { m, n, k }, &gpu(precision)).name()
        };
        // fprop and dgrad of d2l's 5×5 at batch 128: ten rounds of 128 rows are five of 256, and six are four of 192.
        assert_eq!(name(Precision::Bf16, true, 80_000, 256, 2400), "256x128");
        assert_eq!(name(Precision::Tf32, true, 86_528, 96, 6400), "192x96");
        // Of its 3×3, three rounds of 128 rows would be two of 256.
        assert_eq!(name(Precision::Bf16, true, 15_488, 384, 2304), "128x128");
        assert_eq!(name(Precision::Bf16, true, 18_432, 256, 3456), "128x128");
        // Short sums, few columns, plain multiply-adds, and channels that are no whole accesses.
        assert_eq!(name(Precision::Bf16, true, 80_000, 256, 256), "128x128");
        assert_eq!(name(Precision::Bf16, true, 80_000, 10, 3456), "128x32");
        assert_eq!(name(Precision::Fp32, true, 80_000, 256, 2400), "128x128");
        assert_eq!(name(Precision::Bf16, false, 80_000, 96, 2400), "128x96_any");
    }

    #[test]
    fn long_sums_on_hopper_have_tiles_of_warpgroups() {
        let chosen = |precision, m, n, k| {
            let product = Product { m, n, k };
            let tile = enlarged(tile(precision, true, n), product, &Limits::h200(precision));
            (tile.name(), geometry(tile, m, n, 1).grid[0])
        };
        // fprop and dgrad of d2l's 5×5 and 3×3 at batch 128: four rounds, two, one and one.
        for (m, n, k, wanted) in [
            (80_000, 256, 2400, ("192x256", 417)),
            (86_528, 96, 6400, ("384x96", 226)),
            (15_488, 384, 2304, ("256x192", 122)),
            (18_432, 256, 3456, ("192x256", 96)),
        ] {
            assert_eq!(chosen(Precision::Bf16, m, n, k), (wanted.0.to_owned(), wanted.1));
        }
        // Where few rows or columns would leave most of a tile or of the GPU idle, and in TF32.
        assert_eq!(chosen(Precision::Bf16, 3125, 256, 2400).0, "128x128");
        assert_eq!(chosen(Precision::Bf16, 80_000, 10, 3456).0, "128x32");
        assert_eq!(chosen(Precision::Tf32, 80_000, 256, 2400).0, "256x128");
    }

    #[test]
    fn wgrad_on_hopper_has_tiles_of_warpgroups() {
        let chosen = |m, n, k| wgrad_tile(true, Product { m, n, k }, &Limits::h200(Precision::Bf16)).name();
        // d2l's 5×5 and 3×3; its first layer, and the one of ten classes, are smaller than a tile.
        for (m, n, wanted) in
            [(256, 2400, "256x192"), (384, 2304, "192x256"), (96, 144, "128x96"), (10, 3456, "128x128")]
        {
            assert_eq!(chosen(m, n, 15_488), wanted, "{m} × {n}");
        }
        // Of eight images.
        assert_eq!([chosen(256, 2400, 5000), chosen(384, 2304, 968)], ["128x128"; 2]);
    }

    /// The extents of `tests/ops/tall.rs`, of one image and of two.
    #[test]
    fn two_images_of_the_tests_are_computed_in_tall_tiles_and_one_in_others() {
        for (multiprocessors, n) in [1, 16, 84, 108, 128, 132].into_iter().flat_map(|count| [(count, 96), (count, 128)])
        {
            let rows = |images: usize, shared_memory| {
                let gpu = Limits { multiprocessors, shared_memory, ..gpu(Precision::Bf16) };
                let product = Product { m: images * 50 * multiprocessors * 17, n, k: 25 * 96 };
                enlarged(tile(Precision::Bf16, true, n), product, &gpu).m
            };
            let high = if n == 96 { 192 } else { 256 };
            assert_eq!(
                [1, 2].map(|images| rows(images, 163 << 10)),
                [128, high],
                "{multiprocessors} multiprocessors, {n}"
            );
            // Where a multiprocessor has 100 KiB, two blocks of 192×96 have no room.
            assert_eq!(rows(2, 99 << 10), if n == 96 { 128 } else { 256 });
        }
    }

    #[test]
    fn blocks_run_at_once_as_far_as_shared_memory_has_room() {
        // Of compute capability 8.0, 8.6 and 8.9, and 9.0.
        for (kib, wanted) in [(163, [2, 4, 1]), (99, [2, 2, 1]), (227, [2, 4, 1])] {
            let of = |tile: Tile| tile.blocks_at_once(kib << 10);
            assert_eq!([MMA_TILES[0], MMA_TILES[2], MMA_TILES[0].grouped()].map(of), wanted, "{kib} KiB");
        }
    }

    #[test]
    fn columns_choose_their_tile() {
        let name = |precision, aligned, n| tile(precision, aligned, n).name();
        for (n, wanted) in [(1, "128x32"), (10, "128x32"), (32, "128x32"), (48, "128x96"), (96, "128x96")] {
            assert_eq!(name(Precision::Bf16, true, n), wanted, "{n}");
        }
        for (n, wanted) in [(128, "128x128"), (192, "128x96"), (256, "128x128"), (384, "128x128"), (2400, "128x128")] {
            assert_eq!(name(Precision::Tf32, true, n), wanted, "{n}");
        }
        assert_eq!(name(Precision::Bf16, false, 10), "128x96_any");
        for (n, wanted) in [(10, "128x32"), (64, "128x32"), (96, "128x128"), (256, "128x128")] {
            assert_eq!(name(Precision::Fp32, true, n), wanted, "{n}");
        }
        assert_eq!(name(Precision::Fp32, false, 1000), "128x32_any");
    }

    #[test]
    fn blocks_cover_the_product() {
        let tiles = FP32_TILES.into_iter().chain(MMA_TILES);
        for tile in tiles.flat_map(|tile| [tile, tile.grouped()]).chain(TALL_TILES).chain(WGMMA_TILES) {
            for (m, n) in [(1, 1), (128, 96), (129, 97), (373_248, 96), (10, 3456)] {
                let Geometry { grid: [blocks, splits, 1], block: [threads, groups, 1], shared } =
                    geometry(&tile, m, n, 3)
                else {
                    panic!("a third dimension")
                };
                assert_eq!((blocks, splits), (m.div_ceil(tile.m) * n.div_ceil(tile.n), 3));
                assert!(threads == tile.threads() && groups == tile.groups);
                assert!(threads * groups * tile.blocks <= 512);
                if tile.warpgroups {
                    assert_eq!(tile.blocks_at_once(Limits::h200(Precision::Bf16).shared_memory), 1);
                    continue;
                }
                assert!(threads <= 256);
                // Where a multiprocessor has 100 KiB (compute capability 8.6 and 8.9), of which each block costs one.
                let fit = tile.blocks_at_once(99 << 10);
                assert!(fit >= tile.blocks.div_ceil(2) && fit * (shared + 1024) <= 100 << 10);
            }
        }
    }

    fn sums([blocks, steps, len, slots]: [usize; 4]) -> Sums {
        Sums { blocks, len, steps, slots, bytes: 6_000 }
    }

    #[test]
    fn splits_cover_the_sum() {
        for (blocks, steps, len) in [(1, 1, 1), (1, 11_664, 9312), (38, 2704, 614_656), (27, 100, 34_570), (7, 7, 70)] {
            let Splits { count, tiles } = wgrad_splits(sums([blocks, steps, len, 264]));
            assert!(count * tiles >= steps && (count - 1) * tiles < steps, "{blocks} {steps}: {count} × {tiles}");
            assert!(count == 1 || tiles >= 8 && count * len <= SCRATCH + len);
        }
        assert_eq!(wgrad_splits(sums([1, 1, 1, 264])).count, 1);
        assert_eq!(wgrad_splits(sums([1, 11_664, 9312, 264])), Splits { count: 243, tiles: 48 });
        // Without a cost of parts, the division is as fine as fills the multiprocessors best.
        let free = Sums { bytes: 1 << 30, ..sums([38, 1250, 614_656, 132]) };
        assert!(wgrad_splits(free).count > wgrad_splits(Sums { bytes: 6_000, ..free }).count);
    }

    /// The network's convolutions at batch 128, on 132 multiprocessors: tile, blocks and splits of wgrad, in bf16.
    #[test]
    fn the_network_fills_a_large_gpu() {
        let layers = [
            // pixels, c, k, taps; tiles of fprop and dgrad; wgrad's tile, blocks and splits of two groups
            (373_248usize, 96, 96, 1, "128x96", "128x96", ("128x96", 1, 125)),
            (86_528, 96, 256, 25, "128x128", "128x96", ("128x128", 38, 3)),
            (86_528, 256, 256, 1, "128x128", "128x128", ("128x128", 4, 33)),
            (18_432, 256, 384, 9, "128x128", "128x128", ("128x128", 54, 2)),
            (18_432, 384, 384, 1, "128x128", "128x128", ("128x128", 9, 12)),
        ];
        for (pixels, c, k, taps, fprop, dgrad, wgrad) in layers {
            let of = |n| tile(Precision::Bf16, true, n);
            assert_eq!((of(k).name().as_str(), of(c).name().as_str()), (fprop, dgrad), "{c} to {k}");
            let (wide, product) = (of(c * taps).grouped(), Product { m: k, n: c * taps, k: pixels });
            let len = k * (c * taps + 1);
            let blocks = geometry(&wide, k, c * taps, 1).grid[0];
            let splits = division(wgrad_splits, &Limits::h200(Precision::Bf16), &wide, product, len);
            assert_eq!((wide.name().as_str(), blocks, splits.count), wgrad, "{c} to {k}");
        }
    }

    #[test]
    fn few_blocks_divide_their_sums() {
        for (blocks, steps, len) in [(1, 1, 1), (1, 7, 250), (10, 75, 160_000), (131, 400, 1 << 22), (3, 1 << 20, 5)] {
            let Splits { count, tiles } = fprop_splits(sums([blocks, steps, len, 264]));
            assert!(count * tiles >= steps && (count - 1) * tiles < steps, "{blocks} {steps}: {count} × {tiles}");
            assert!(count == 1 || tiles >= 4 && count * len <= SCRATCH && blocks * count <= 264 && count <= 1024);
        }
        // One split: for as many blocks as run at once, and for sums as short as the cost of a division.
        assert_eq!(fprop_splits(sums([264, 1000, 264 << 14, 264])).count, 1);
        assert_eq!(fprop_splits(sums([1, 8, 1 << 14, 264])).count, 1);
        // The network's last 3×3 at batch 128 in bf16, and three of its convolutions at batch 1.
        for (blocks, steps, len, slots, wanted) in [
            (25, 108, 32_000, 528, (18, 6)),
            (10, 75, 160_000, 264, (11, 7)),
            (3, 72, 46_464, 264, (15, 5)),
            (1, 108, 250, 528, (27, 4)),
        ] {
            let Splits { count, tiles } = fprop_splits(sums([blocks, steps, len, slots]));
            assert_eq!((count, tiles), wanted, "{blocks} blocks of {steps}");
        }
        // Its others at batch 128 on 132 multiprocessors have more blocks than run at once.
        assert_eq!(fprop_splits(sums([363, 144, 15_488 * 384, 264])).count, 1);
    }

    /// Bytes of all gradients' parts in a step of the network at batch 128 and 224×224, on 132 multiprocessors, in bf16.
    #[test]
    fn the_networks_parts_have_room() {
        assert_eq!(parts_of_a_step(&gpu(Precision::Bf16)), [58_766_096, 58_989_584]);
        assert_eq!(parts_of_a_step(&Limits::h200(Precision::Bf16)), [93_678_864, 93_902_352]);
    }

    /// With the second and third layer alone, and fused.
    fn parts_of_a_step(gpu: &Limits) -> [usize; 2] {
        let bytes = |(pixels, c, k, taps, dw_len): (usize, usize, usize, usize, usize)| {
            let aligned = whole_vectors(Precision::Bf16, &[c, k]);
            let (product, len) = (Product { m: k, n: c * taps, k: pixels }, dw_len.next_multiple_of(4) + k);
            let rule: TileRule = if taps == 1 { grouped_tile } else { wgrad_tile };
            let tile = rule(aligned, product, gpu);
            let splits = division(wgrad_splits, gpu, &tile, product, len);
            splits.count * len.next_multiple_of(4) * size_of::<f32>()
        };
        let layer = |pixels: usize, c, k, taps| (128 * pixels * pixels, c, k, taps, k * c * taps);
        // In blocks of 4×4 pixels.
        let first = (128 * 53 * 53, 16, 96, 9, 96 * 11 * 11);
        let others = [(25, 96, 256, 25), (25, 256, 256, 1), (25, 256, 256, 1), (11, 256, 384, 9), (11, 384, 384, 1)];
        let last = [(11, 384, 384, 1), (5, 384, 10, 9)];
        let rest = others.into_iter().chain(last).map(|(pixels, c, k, taps)| layer(pixels, c, k, taps));
        // The last two layers leave 25 parts, of two lengths of 100 and two of 10.
        let pair = 25 * (2 * 100 + 2 * 12) * size_of::<f32>();
        let rest: usize = rest.chain([first]).map(bytes).sum::<usize>() + pair;
        // The fused block's 128 blocks leave a part each.
        [2 * bytes(layer(53, 96, 96, 1)), 128 * 2 * 96 * 97 * size_of::<f32>()].map(|first_block| rest + first_block)
    }
}
