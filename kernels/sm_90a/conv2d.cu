// The passes of a convolution on Hopper in bf16: the kernels of `../conv2d.cu`, with their arguments, in tiles whose products
// are started by warpgroups (`gemm/wgmma.cuh`). A block is alone on its multiprocessor, and its tile is so large that the second-level
// cache keeps up with the tensor core, which 128 x 128 would ask for 1.5 times what it gives.
//
//     conv2d_fprop_TILE, conv2d_dgrad_TILE, conv2d_wgrad_TILE        TILE is one of WGMMA_TILES
#if PRECISION == 2

#define WGMMA
#include "conv2d.cuh"

#define KERNELS(M, N, WARP_M, WARP_N, STAGES, BLOCKS, ALIGNED, SHARED, NAME)                                           \
    using Tile_##NAME = WarpgroupTile<M, N, 4 * WARP_M, STAGES>;                                                       \
    static_assert(Tile_##NAME::SHARED_BYTES == SHARED, "launches and kernels agree");                                  \
    ROWS(Tile_##NAME, BLOCKS, NAME)                                                                                    \
    COLUMNS(Tile_##NAME, BLOCKS, NAME)

WGMMA_TILES(KERNELS)

#endif
