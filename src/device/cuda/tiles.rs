//! The constants that launches and kernels share. They exist once, here; `build.rs` includes this file and hands them to
//! nvcc as `-D`.

/// Threads of a block of the element-wise kernels.
pub const THREADS: usize = 256;

/// Running sums of a value in parts. Where there are more parts, as many threads share four elements.
pub const SUM_THREADS: usize = 8;

/// Running sums of a channel of a global average, one a thread, and the channels of a block.
pub const AVGPOOL_SUMS: usize = 8;
pub const AVGPOOL_CHANNELS: usize = THREADS / AVGPOOL_SUMS;

/// The side of the squares that a block of flatten transposes.
pub const FLATTEN_TILE: usize = 32;

/// Parameters that one launch of an optimiser updates: as many as its arguments have room for.
pub const SGD_ITEMS: usize = 64;
pub const ADAMW_ITEMS: usize = 60;

/// Additions of nodes in one launch: those of 64 ranks.
pub const SHARD_ADDITIONS: usize = 63;

/// The most bytes of shared memory of a block of the gather: few enough for several blocks on a multiprocessor.
pub const GATHER_SHARED: usize = 32 << 10;

/// Bytes of K in a tile of the GEMM.
pub const TILE_BYTES: usize = 64;

/// The fused block (mlpconv): columns that are computed of each product, and warps of a block of threads.
pub const MLPCONV_CHANNELS: usize = 96;
pub const MLPCONV_WARPS: usize = 8;

/// The fused block: pixels of a tile, 32 a warp forward. Backward it is 16, since dw takes most registers.
pub const MLPCONV_FPROP_PIXELS: usize = 256;
pub const MLPCONV_BACKWARD_PIXELS: usize = 128;

/// The fused block: bytes of shared memory of each kernel's blocks for d2l's first block. The launches' tests check them, and
/// `kernels/measured/RESOURCES.md` lists them.
pub const MLPCONV_D2L_SHARED: [(&str, usize); 4] = [
    ("mlpconv_fprop", 80_384),
    ("mlpconv_backward", 101_376),
    ("mlpconv_maxpool_fprop", 161_984),
    ("mlpconv_maxpool_backward", 123_840),
];

/// The pair of 1×1 convolutions in one kernel: the most channels, and the pixels of a block, a thread each.
pub const PAIR_CHANNELS: usize = 16;
pub const PAIR_PIXELS: usize = 128;

/// The pair: the most blocks of the backward kernel, each of which leaves a part. They fill a large GPU, and are few to add up.
pub const PAIR_BLOCKS: usize = 256;

/// Groups of warps in a block of wgrad (sliced K), each with the warps of a block of the other passes. The groups share the
/// block's part of the sum over pixels and add up their sums through shared memory. So a multiprocessor with as many warps
/// leaves half as many partial results in global memory. There are two groups, since each gives half of its sums to the other.
pub const WGRAD_GROUPS: usize = 2;

/// The tile of a GEMM kernel's block; `kernels/gemm/tile.cuh` says what limits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Rows and columns of the product that a block computes.
    pub m: usize,
    pub n: usize,
    /// Rows and columns of the product that a warp computes.
    pub warp_m: usize,
    pub warp_n: usize,
    /// Tiles of the operands in shared memory.
    pub stages: usize,
    /// Blocks on a multiprocessor, which bounds the registers of a thread: 128 for two blocks of 256 threads.
    pub blocks: usize,
    /// Groups of warps: each computes the whole tile over a share of K.
    pub groups: usize,
    /// Whether operands are copied 16 bytes at a time: channels have to be a multiple of as many elements.
    pub aligned: bool,
    /// Whether warpgroups multiply, by `wgmma`: each warp has a quarter of the rows of its warpgroup.
    pub warpgroups: bool,
}

const fn tile([m, n]: [usize; 2], [warp_m, warp_n]: [usize; 2], stages: usize, blocks: usize) -> Tile {
    Tile { m, n, warp_m, warp_n, stages, blocks, groups: 1, aligned: true, warpgroups: false }
}

const fn warpgroups([m, n]: [usize; 2], rows: usize, stages: usize) -> Tile {
    Tile { warpgroups: true, ..tile([m, n], [rows / 4, n], stages, 1) }
}

/// Plain multiply-adds: fp32.
pub const FP32_TILES: [Tile; 3] = [
    tile([128, 128], [32, 64], 3, 2),
    tile([128, 32], [32, 32], 4, 4),
    Tile { aligned: false, ..tile([128, 32], [32, 32], 2, 4) },
];

/// Tensor cores: TF32 and bf16.
pub const MMA_TILES: [Tile; 4] = [
    tile([128, 128], [64, 64], 3, 2),
    tile([128, 96], [64, 48], 3, 2),
    tile([128, 32], [32, 32], 4, 4),
    Tile { aligned: false, ..tile([128, 96], [64, 48], 2, 2) },
];

/// Tensor cores, for fprop and dgrad of many rows and long sums. Each has another way to ask less of shared memory and of the
/// second-level cache. Of 256×128, eight warps are in one block in place of two, and both halves of its rows multiply the columns that
/// it copied once. Of 192×96, a warp's tile has as many results for each line that it reads as 64×64 has.
/// (wgrad's groups are two blocks in one already, and its sums of rows are of 64.)
pub const TALL_TILES: [Tile; 2] = [tile([256, 128], [64, 64], 3, 1), tile([192, 96], [96, 48], 3, 2)];

/// Warpgroups, for products of many results and long sums in bf16 on Hopper. Each is as large as registers allow: 64×256, 128×192 or
/// 128×96 sums of a warpgroup, beside what addresses take. The stages take the shared memory that a single block can have.
pub const WGMMA_TILES: [Tile; 3] =
    [warpgroups([192, 256], 64, 7), warpgroups([256, 192], 128, 7), warpgroups([384, 96], 128, 6)];

impl Tile {
    /// The tall tile of as many columns, for an aligned tile of tensor cores.
    pub fn tall(&self) -> Option<&'static Tile> {
        let has_tall = self.aligned && MMA_TILES.contains(self);
        TALL_TILES.iter().find(|tall| has_tall && tall.n == self.n)
    }

    /// The tile for wgrad: larger blocks, fewer to a multiprocessor.
    pub const fn grouped(self) -> Tile {
        assert!(self.blocks.is_multiple_of(WGRAD_GROUPS), "groups take the place of blocks");
        Tile { groups: WGRAD_GROUPS, blocks: self.blocks / WGRAD_GROUPS, ..self }
    }

    /// Threads of a group.
    pub const fn threads(&self) -> usize {
        32 * self.warps()
    }

    const fn warps(&self) -> usize {
        (self.m / self.warp_m) * (self.n / self.warp_n)
    }

    /// Clocks that a block of warpgroups takes, alone on its multiprocessor, for a tile of k of bf16: for its products, 2048 multiply-adds a
    /// clock, or for its operands' bytes, 34 a clock from the second-level cache (an H200, see `mlpconv model`).
    pub const fn clocks(&self) -> usize {
        let (products, bytes) = (self.m * self.n * TILE_BYTES / 2 / 2048, (self.m + self.n) * TILE_BYTES / 34);
        if products > bytes { products } else { bytes }
    }

    /// Bytes of a block's shared memory: the stages of its groups. In the epilogue each warp has 16 rows of results there.
    pub const fn shared(&self) -> usize {
        // Columns of an operand that lies along them come in atoms of 64, and 256 bytes are ones, by which rows are summed.
        let (columns, ones) = if self.warpgroups { (self.n.next_multiple_of(64), 256) } else { (self.n, 0) };
        let stages = self.stages * (self.m + columns) * TILE_BYTES + ones;
        let slices = self.warps() * 16 * (self.warp_n + 8) * size_of::<f32>();
        self.groups * if stages > slices { stages } else { slices }
    }

    /// Blocks that run at once on a multiprocessor with room for a block of `shared_memory` bytes: as many as registers are divided
    /// for, if they have room. A block takes 1 KiB of a multiprocessor's shared memory besides its own, and so does the largest.
    pub const fn blocks_at_once(&self, shared_memory: usize) -> usize {
        let fit = (shared_memory + 1024) / (self.shared() + 1024);
        if fit < self.blocks { fit } else { self.blocks }
    }

    /// The end of its kernels' names.
    pub fn name(&self) -> String {
        format!("{}x{}{}", self.m, self.n, if self.aligned { "" } else { "_any" })
    }
}

/// A list of tiles as the text of a macro: it expands macro `X` for each tile.
fn list(tiles: &[Tile]) -> String {
    let expand = |tile: &Tile| {
        let Tile { m, n, warp_m, warp_n, stages, blocks, aligned, .. } = tile;
        let (shared, name) = (tile.shared(), tile.name());
        format!("X({m},{n},{warp_m},{warp_n},{stages},{blocks},{aligned},{shared},{name})")
    };
    tiles.iter().map(expand).collect::<Vec<_>>().join(" ")
}

/// The constants as macros of the kernels: names and values.
pub fn defines() -> Vec<(String, String)> {
    let constants = [
        ("THREADS", THREADS),
        ("SUM_THREADS", SUM_THREADS),
        ("AVGPOOL_SUMS", AVGPOOL_SUMS),
        ("AVGPOOL_CHANNELS", AVGPOOL_CHANNELS),
        ("FLATTEN_TILE", FLATTEN_TILE),
        ("SGD_ITEMS", SGD_ITEMS),
        ("ADAMW_ITEMS", ADAMW_ITEMS),
        ("SHARD_ADDITIONS", SHARD_ADDITIONS),
        ("TILE_BYTES", TILE_BYTES),
        ("MLPCONV_CHANNELS", MLPCONV_CHANNELS),
        ("MLPCONV_WARPS", MLPCONV_WARPS),
        ("MLPCONV_FPROP_PIXELS", MLPCONV_FPROP_PIXELS),
        ("MLPCONV_BACKWARD_PIXELS", MLPCONV_BACKWARD_PIXELS),
        ("PAIR_CHANNELS", PAIR_CHANNELS),
        ("PAIR_PIXELS", PAIR_PIXELS),
        ("WGRAD_GROUPS", WGRAD_GROUPS),
    ];
    let lists = [
        ("FP32_TILES(X)", &FP32_TILES[..]),
        ("MMA_TILES(X)", &MMA_TILES),
        ("TALL_TILES(X)", &TALL_TILES),
        ("WGMMA_TILES(X)", &WGMMA_TILES),
    ];
    let lists = lists.map(|(name, tiles)| (name, list(tiles)));
    let constants = constants.map(|(name, value)| (name, value.to_string()));
    constants.into_iter().chain(lists).map(|(name, value)| (name.into(), value)).collect()
}
