//! The constants that launches and kernels share. They exist once, here; `build.rs` includes this file and hands them to
//! nvcc as `-D`.

/// Threads of a block of the kernels that go over elements one after the other.
pub const THREADS: usize = 256;

/// Running sums of a value that lies in parts, and the threads that share them where there are more parts than these.
pub const SUM_THREADS: usize = 8;

/// Running sums of a global average, to which its pixels go in turn, and the channels of a block, a thread each sum.
pub const AVGPOOL_SUMS: usize = 8;
pub const AVGPOOL_CHANNELS: usize = THREADS / AVGPOOL_SUMS;

/// The side of the squares in which flatten transposes.
pub const FLATTEN_TILE: usize = 32;

/// Parameters that one launch of an optimiser updates: as many as its arguments have room for.
pub const SGD_ITEMS: usize = 64;
pub const ADAMW_ITEMS: usize = 60;

/// Bytes of shared memory that a block of the gather may have. Several blocks fit a multiprocessor.
pub const GATHER_SHARED: usize = 32 << 10;

/// Bytes of the GEMM's K that a tile spans.
pub const TILE_BYTES: usize = 64;

/// Columns that the block of a network in network computes of each product, and the warps of a block of threads.
pub const MLPCONV_CHANNELS: usize = 96;
pub const MLPCONV_WARPS: usize = 8;

/// Pixels of its tiles: 32 a warp, and 16 where results of the warps' own take most registers.
pub const MLPCONV_FPROP_PIXELS: usize = 256;
pub const MLPCONV_BACKWARD_PIXELS: usize = 128;

/// Bytes of shared memory that a block of each kernel takes for d2l's first block: the launches' tests hold them, and
/// `kernels/RESOURCES.md` has them.
pub const MLPCONV_D2L_SHARED: [(&str, usize); 4] = [
    ("mlpconv_fprop", 80_384),
    ("mlpconv_backward", 101_376),
    ("mlpconv_maxpool_fprop", 161_984),
    ("mlpconv_maxpool_backward", 123_840),
];

/// The most channels that a pair of 1×1 convolutions has in one kernel, and the pixels of its blocks, a thread each.
pub const PAIR_CHANNELS: usize = 16;
pub const PAIR_PIXELS: usize = 128;

/// The most parts in which the pair leaves its gradients: enough blocks to fill a large GPU, and few to be added up.
pub const PAIR_BLOCKS: usize = 256;

/// Groups of warps in wgrad's blocks, each as many warps as the blocks of the other passes have. They share the block's part of
/// the sum over pixels and add up what they have in shared memory, so a multiprocessor that is as full leaves half as
/// many partial results in global memory. They exchange halves of their sums, so there are two.
pub const WGRAD_GROUPS: usize = 2;

/// How a GEMM kernel's block divides its work; `kernels/README.md` says what to consider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Rows and columns of the product that a block computes.
    pub m: usize,
    pub n: usize,
    /// The same of one warp.
    pub warp_m: usize,
    pub warp_n: usize,
    /// Tiles of the operands in shared memory.
    pub stages: usize,
    /// Blocks that a multiprocessor has registers for (128 registers a thread where two blocks are of 256 threads).
    pub blocks: usize,
    /// Groups of warps that each compute all of the tile, of a share of the sum.
    pub groups: usize,
    /// Whether operands are copied 16 bytes at a time, which takes channels that are a multiple of as many elements.
    pub aligned: bool,
}

const fn tile([m, n]: [usize; 2], [warp_m, warp_n]: [usize; 2], stages: usize, blocks: usize) -> Tile {
    Tile { m, n, warp_m, warp_n, stages, blocks, groups: 1, aligned: true }
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

impl Tile {
    /// The same for wgrad: larger blocks, of which there are fewer at a time.
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

    /// Bytes of a block's shared memory: its groups' stages, where each warp later finds room for 16 rows of results.
    pub const fn shared(&self) -> usize {
        let stages = self.stages * (self.m + self.n) * TILE_BYTES;
        let slices = self.warps() * 16 * (self.warp_n + 8) * size_of::<f32>();
        self.groups * if stages > slices { stages } else { slices }
    }

    /// What ends the names of its kernels.
    pub fn name(&self) -> String {
        format!("{}x{}{}", self.m, self.n, if self.aligned { "" } else { "_any" })
    }
}

/// A list of tiles as a macro that hands each tile to macro `X`.
fn list(tiles: &[Tile]) -> String {
    let expand = |tile: &Tile| {
        let Tile { m, n, warp_m, warp_n, stages, blocks, aligned, .. } = tile;
        let (shared, name) = (tile.shared(), tile.name());
        format!("X({m},{n},{warp_m},{warp_n},{stages},{blocks},{aligned},{shared},{name})")
    };
    tiles.iter().map(expand).collect::<Vec<_>>().join(" ")
}

/// Each constant as the kernels' preprocessor sees it.
pub fn defines() -> Vec<(String, String)> {
    let constants = [
        ("THREADS", THREADS),
        ("SUM_THREADS", SUM_THREADS),
        ("AVGPOOL_SUMS", AVGPOOL_SUMS),
        ("AVGPOOL_CHANNELS", AVGPOOL_CHANNELS),
        ("FLATTEN_TILE", FLATTEN_TILE),
        ("SGD_ITEMS", SGD_ITEMS),
        ("ADAMW_ITEMS", ADAMW_ITEMS),
        ("TILE_BYTES", TILE_BYTES),
        ("MLPCONV_CHANNELS", MLPCONV_CHANNELS),
        ("MLPCONV_WARPS", MLPCONV_WARPS),
        ("MLPCONV_FPROP_PIXELS", MLPCONV_FPROP_PIXELS),
        ("MLPCONV_BACKWARD_PIXELS", MLPCONV_BACKWARD_PIXELS),
        ("PAIR_CHANNELS", PAIR_CHANNELS),
        ("PAIR_PIXELS", PAIR_PIXELS),
        ("WGRAD_GROUPS", WGRAD_GROUPS),
    ];
    let lists = [("FP32_TILES(X)", list(&FP32_TILES)), ("MMA_TILES(X)", list(&MMA_TILES))];
    let constants = constants.map(|(name, value)| (name, value.to_string()));
    constants.into_iter().chain(lists).map(|(name, value)| (name.into(), value)).collect()
}
