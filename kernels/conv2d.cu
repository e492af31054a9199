// Convolution of any filter, stride and padding as implicit GEMMs: no im2col matrix is ever in memory.
//
//     GEMM       M x N x K                    A [M][K]                   B [N][K]            output [M][N]
//     fprop      n·p·q x k x r·s·c            patches of x, K-major      w, K-major          y = act(sum + bias)
//     dgrad      n·h·w x c x r·s·k            gathered dy, K-major       w, MN-major         dx (+)= sum, masked
//     wgrad      k x r·s·c x n·p·q            dy, MN-major               patches, MN-major   dw (+)= sum, db (+)= Σ dy
//
// K-major: K runs along memory. MN-major: the rows of A, or the columns of the output for B, run along memory.
//
//     conv2d_fprop_TILE         y, x, w, bias or null, relu, extents   overwrites y, and its signs if there is room
//     conv2d_fprop_parts_TILE   parts, split, x, w, extents            leaves parts of Σ, which `sum_activated` makes y
//     conv2d_dgrad_TILE         dx, dy, w, mask, accumulate, extents   overwrites dx or adds; a mask zeroes the sum
//     conv2d_wgrad_TILE         split, x, dy, extents                  overwrites dw and db or adds, or leaves them in parts
//     conv2d_space_to_depth, conv2d_filters_to_depth                   few channels become many: see the end of this file
//
// In aligned dgrad each tap has whole tiles of k, filled up with zeros.
// y and mask are `Rectified` and `MaskedBy` of `signs.cuh`.
// Memory: x, y, dx, dy NHWC and w KRSC in Storage; bias, dw, db in float. TILE is one of `src/device/cuda/tiles.rs`:
// MxN, and `_any` for extents that are no multiples of VECTOR; tall ones have fprop and dgrad alone. Grid: tiles of m times
// tiles of n, the latter inner (where the sum is split, y = splits). Block: the tile's warps, in wgrad WGRAD_GROUPS times as many
// (y = groups).
// `gemm/gemm.cuh` explains the GEMM.
#include "conv2d.cuh"

#define TALL(M, N, WARP_M, WARP_N, STAGES, BLOCKS, ALIGNED, SHARED, NAME)                                              \
    using Tile_##NAME = Tile<M, N, WARP_M, WARP_N, STAGES, ALIGNED>;                                                   \
    static_assert(Tile_##NAME::SHARED_BYTES == SHARED, "launches and kernels agree");                                  \
    ROWS(Tile_##NAME, BLOCKS, NAME)

#define KERNELS(M, N, WARP_M, WARP_N, STAGES, BLOCKS, ALIGNED, SHARED, NAME)                                           \
    TALL(M, N, WARP_M, WARP_N, STAGES, BLOCKS, ALIGNED, SHARED, NAME)                                                  \
    static_assert(BLOCKS % WGRAD_GROUPS == 0, "groups in place of blocks");                                            \
    extern "C" __global__ void __launch_bounds__(Tile_##NAME::BLOCK, BLOCKS)                                           \
        conv2d_fprop_parts_##NAME(float *parts, const __grid_constant__ Split split, const Storage *x,                 \
                                  const Storage *w, const __grid_constant__ Convolution g) {                           \
        using T = Tile_##NAME;                                                                                         \
        fprop<T>(x, w, g, split.begin<T>(), split.count<T>(g.taps), Add{split.part(parts), 0, g.pixels, g.k});         \
    }                                                                                                                  \
    COLUMNS(Tile_##NAME::Grouped, BLOCKS / WGRAD_GROUPS, NAME)

#if PRECISION == 0
FP32_TILES(KERNELS)
#else
MMA_TILES(KERNELS)
TALL_TILES(TALL)
#endif

// Space-to-depth: a strided convolution of few channels becomes one of stride 1 over blocks of stride x stride pixels, whose
// pixels are its channels. 11x11 at stride 4 over one channel becomes 3x3 over 16 channels, which the kernels read 16 bytes at
// a time. Padding becomes zeros, and so do taps beyond the filter.
//
//     conv2d_space_to_depth     to[n][h'][w'][s·s·c] = x            a thread for each pack of `to`
//     conv2d_filters_to_depth   to[k][r'][s'][s·s·c] = w            a thread for each element of `to`
//
// The epilogue of wgrad, `AddToFilter`, brings dw back.
struct SpaceToDepth {
    int h, w, c, r, s, stride, pad;
    // Rows and columns of blocks in the image, and in the filter.
    int rows, columns, filter_rows, filter_columns;
    // Elements of a block, and of a line of it; then as above.
    Divisor by_depth, by_line, by_c, by_rows, by_columns, by_filter_rows, by_filter_columns;
};

extern "C" __global__ void __launch_bounds__(THREADS)
    conv2d_space_to_depth(Storage *to, const Storage *x, const __grid_constant__ SpaceToDepth g, unsigned packs) {
    const unsigned pack = blockIdx.x * unsigned(THREADS) + threadIdx.x;
    if (pack >= packs) return;
    const auto [block, first] = divide(pack * VECTOR, g.by_depth);
    const auto [line, column] = divide(block, g.by_columns);
    const auto [n, row] = divide(line, g.by_rows);
    const auto [down, in_line] = divide(first, g.by_line);
    const auto [right, channel] = divide(in_line, g.by_c);
    // Left of the image or above it they wrap around, and are not inside.
    unsigned h = row * g.stride + down - g.pad;
    const unsigned left = column * g.stride - g.pad;
    unsigned element = ((n * g.h + h) * g.w + left) * g.c + in_line, of_line = in_line, w = left + right, c = channel;
    Pack values;
#pragma unroll
    for (unsigned i = 0; i < VECTOR; i++) {
        const bool inside = h < unsigned(g.h) && w < unsigned(g.w);
        values.lane[i] = inside ? x[element] : to_storage(0.0f);
        // To the next element of the block: elements of a line are neighbours in memory.
        ++element;
        if (++c == unsigned(g.c)) c = 0, ++w;
        if (++of_line == g.by_line.value) {
            of_line = c = 0, w = left, ++h;
            element += (g.w - g.stride) * g.c;
        }
    }
    store_pack(to + size_t(pack) * VECTOR, values);
}

// The index in the filter of element `at` of the filter after space-to-depth; -1 for taps beyond the filter.
static __device__ __forceinline__ int tap_of_block(unsigned at, const SpaceToDepth &g) {
    const auto [block, in] = divide(at, g.by_depth);
    const auto [rest, column] = divide(block, g.by_filter_columns);
    const auto [k, row] = divide(rest, g.by_filter_rows);
    const auto [down, in_line] = divide(in, g.by_line);
    const auto [right, c] = divide(in_line, g.by_c);
    const unsigned r = row * g.stride + down, s = column * g.stride + right;
    return r < unsigned(g.r) && s < unsigned(g.s) ? int(((k * g.r + r) * g.s + s) * g.c + c) : -1;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    conv2d_filters_to_depth(Storage *to, const Storage *w, const __grid_constant__ SpaceToDepth g, unsigned length) {
    const unsigned at = blockIdx.x * unsigned(THREADS) + threadIdx.x;
    if (at >= length) return;
    const int tap = tap_of_block(at, g);
    to[at] = tap < 0 ? to_storage(0.0f) : w[tap];
}
