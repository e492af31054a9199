// Convolution of any filter, stride and padding as implicit GEMMs: no im2col matrix is ever in memory.
//
//     GEMM       M x N x K                    A [M][K]                   B [N][K]            output [M][N]
//     fprop      n·p·q x k x r·s·c            patches of x, K-major      w, K-major          y = act(sum + bias)
//     dgrad      n·h·w x c x r·s·k            gathered dy, K-major       w, MN-major         dx (+)= sum, masked
//     wgrad      k x r·s·c x n·p·q            dy, MN-major               patches, MN-major   dw (+)= sum, db (+)= Σ dy
//
//     conv2d_fprop_TILE   y, x, w, bias or null, relu, extents          overwrites y
//     conv2d_dgrad_TILE   dx, dy, w, mask or null, accumulate, extents  overwrites dx or adds; a mask zeroes the sum
//     conv2d_wgrad_TILE   split, x, dy, extents                         overwrites dw and db or adds, or fills `partial`
//     conv2d_reduce       split, lengths, splits                        dw and db are (or get added) `partial`'s sums
//
// Memory: x, y, dx, dy NHWC and w KRSC in Storage; bias, dw, db in float. TILE is one of `src/device/cuda/tiles.rs`:
// MxN, and `_any` for extents that are no multiples of VECTOR. Grid: tiles of m times tiles of n, the latter inner (in
// wgrad, y = splits). Block: the tile's warps.
#include "gemm/convolution.cuh"
#include "gemm/gemm.cuh"

template <class T>
__device__ __forceinline__ void fprop(Storage *y, const Storage *x, const Storage *w, const float *bias, int relu,
                                      const Convolution &g) {
    Block<T, Major::K, Major::K, false> block(false);
    const Place at = place<T>(g.k);
    using LayoutA = typename decltype(block)::LayoutA;
    using LayoutB = typename decltype(block)::LayoutB;
    Loader<LayoutA, PatchLines<LayoutA, T::ALIGNED>> a(0, g, x, at.row);
    Loader<LayoutB, MatrixLines<LayoutB>> b(LayoutA::BYTES, w, at.column, g.k, g.taps);
    block.run(a, b, (g.taps + TILE_K - 1) / TILE_K, Activate{y, bias, relu, g.pixels, g.k});
}

template <class T>
__device__ __forceinline__ void dgrad(Storage *dx, const Storage *dy, const Storage *w, const Storage *mask,
                                      int accumulate, const Convolution &g) {
    Block<T, Major::K, Major::MN, false> block(false);
    const Place at = place<T>(g.c);
    using LayoutA = typename decltype(block)::LayoutA;
    using LayoutB = typename decltype(block)::LayoutB;
    Loader<LayoutA, GradientLines<LayoutA, T::ALIGNED>> a(0, g, dy, at.row);
    Loader<LayoutB, FilterColumns<LayoutB>> b(LayoutA::BYTES, g, w, at.column);
    block.run(a, b, (g.gradient_taps + TILE_K - 1) / TILE_K, Mask{dx, mask, accumulate, g.n * g.h * g.w, g.c});
}

template <class T>
__device__ __forceinline__ void wgrad(const Split &split, const Storage *x, const Storage *dy, const Convolution &g) {
    // Whoever wants db alone launches the first tile of n alone.
    const Place at = place<T>(split.dw != nullptr ? g.taps : 1);
    Block<T, Major::MN, Major::MN, true> block(split.db != nullptr && at.column == 0);
    using LayoutA = typename decltype(block)::LayoutA;
    using LayoutB = typename decltype(block)::LayoutB;
    const int begin = split.begin(), end = split.end(g.pixels);
    Loader<LayoutA, MatrixColumns<LayoutA>> a(0, dy, at.row, g.k, begin, end);
    Loader<LayoutB, PatchColumns<LayoutB, T::ALIGNED>> b(LayoutA::BYTES, g, x, at.column, begin, end);
    weight_gradient<T>(block, a, b, split, g.k, g.taps, g.pixels);
}

#define KERNELS(M, N, WARP_M, WARP_N, STAGES, BLOCKS, ALIGNED, SHARED, NAME)                                           \
    using Tile_##NAME = Tile<M, N, WARP_M, WARP_N, STAGES, ALIGNED>;                                                   \
    static_assert(Tile_##NAME::SHARED_BYTES == SHARED, "launches and kernels agree");                                  \
    extern "C" __global__ void __launch_bounds__(Tile_##NAME::BLOCK, BLOCKS)                                           \
        conv2d_fprop_##NAME(Storage *y, const Storage *x, const Storage *w, const float *bias, int relu,               \
                            const __grid_constant__ Convolution g) {                                                   \
        fprop<Tile_##NAME>(y, x, w, bias, relu, g);                                                                    \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(Tile_##NAME::BLOCK, BLOCKS)                                           \
        conv2d_dgrad_##NAME(Storage *dx, const Storage *dy, const Storage *w, const Storage *mask, int accumulate,     \
                            const __grid_constant__ Convolution g) {                                                   \
        dgrad<Tile_##NAME>(dx, dy, w, mask, accumulate, g);                                                            \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(Tile_##NAME::BLOCK, BLOCKS)                                           \
        conv2d_wgrad_##NAME(const __grid_constant__ Split split, const Storage *x, const Storage *dy,                  \
                            const __grid_constant__ Convolution g) {                                                   \
        wgrad<Tile_##NAME>(split, x, dy, g);                                                                           \
    }

#if PRECISION == 0
FP32_TILES(KERNELS)
#else
MMA_TILES(KERNELS)
#endif

extern "C" __global__ void __launch_bounds__(THREADS)
    conv2d_reduce(const __grid_constant__ Split split, int dw_length, int length, int splits) {
    reduce_splits(split, dw_length, length, splits);
}
