// The 1x1 convolution as three GEMMs: an NHWC image is a matrix [pixels][channels].
//
//     GEMM       M x N x K        A [M][K]         B [N][K]         output [M][N]
//     fprop      m x k x c        x, K-major       w, K-major       y = act(sum + bias)
//     dgrad      m x c x k        dy, K-major      w, MN-major      dx (+)= sum, masked
//     wgrad      k x c x m        dy, MN-major     x, MN-major      dw (+)= sum, db (+)= Σ dy
//
// Kernels, arguments, grids and blocks are those of `conv2d.cu` (`pointwise_fprop_TILE` and so on), with the extents m, c, k.
//
// `pointwise_maxpool_fprop_TILE` pools the output of fprop before it leaves the block. It writes the maxima and, unless `index`
// is null, their positions, both as `maxpool.cu` does. Channels are multiples of VECTOR. The rows of a block are a strip, the
// pixels of as many whole windows as fit (gemm/pooled.cuh). Grid: strips x tiles of k.
#include "gemm/gemm.cuh"
#include "gemm/pooled.cuh"

template <class T>
__device__ __forceinline__ void fprop(const Rectified &y, const Storage *x, const Storage *w, const float *bias,
                                      int relu, int m, int c, int k) {
    Block<T, Major::K, Major::K, false> block(false);
    const Place at = place<T>(k);
    using LayoutA = typename decltype(block)::LayoutA;
    using LayoutB = typename decltype(block)::LayoutB;
    Loader<LayoutA, MatrixLines<LayoutA>> a(0, x, at.row, m, c);
    Loader<LayoutB, MatrixLines<LayoutB>> b(LayoutA::BYTES, w, at.column, k, c);
    block.run(a, b, (c + TILE_K - 1) / TILE_K, Activate{y, bias, relu, m, k});
}

template <class T>
__device__ __forceinline__ void maxpool_fprop(const Rectified &y, unsigned char *index, const Storage *x, const Storage *w,
                                              const float *bias, int relu, const Strips &strips, int c, int k) {
    Block<T, Major::K, Major::K, false> block(false);
    const Place at = place<T>(k);
    const Strip strip = strips.strip(at.row / T::M);
    using LayoutA = typename decltype(block)::LayoutA;
    using LayoutB = typename decltype(block)::LayoutB;
    Loader<LayoutA, MatrixLines<LayoutA>> a(0, x, strip.first, strip.end, c);
    Loader<LayoutB, MatrixLines<LayoutB>> b(LayoutA::BYTES, w, at.column, k, c);
    accumulate<T>(block.core, a, b, (c + TILE_K - 1) / TILE_K, shared_address(shared_memory));
    pool_block<T>(block.core, y, index, bias, relu, strips, k);
}

template <class T>
__device__ __forceinline__ void dgrad(Storage *dx, const Storage *dy, const Storage *w, const MaskedBy &mask,
                                      int accumulate, int m, int c, int k) {
    Block<T, Major::K, Major::MN, false> block(false);
    const Place at = place<T>(c);
    using LayoutA = typename decltype(block)::LayoutA;
    using LayoutB = typename decltype(block)::LayoutB;
    Loader<LayoutA, MatrixLines<LayoutA>> a(0, dy, at.row, m, k);
    Loader<LayoutB, MatrixColumns<LayoutB>> b(LayoutA::BYTES, w, at.column, c, 0, k);
    block.run(a, b, (k + TILE_K - 1) / TILE_K, Mask{dx, mask, accumulate, m, c});
}

template <class T>
__device__ __forceinline__ void wgrad(const GradientSplit &split, const Storage *x, const Storage *dy, int m, int c,
                                      int k) {
    // For db alone the launch has the first tile of n alone.
    const Place at = place<T>(split.dw != nullptr ? c : 1);
    Block<T, Major::MN, Major::MN, true> block(split.db != nullptr && at.column == 0);
    using LayoutA = typename decltype(block)::LayoutA;
    using LayoutB = typename decltype(block)::LayoutB;
    const int begin = split.template begin<T>(), end = split.template end<T>(m);
    Loader<LayoutA, MatrixColumns<LayoutA>> a(0, dy, at.row, k, begin, end);
    Loader<LayoutB, MatrixColumns<LayoutB>> b(LayoutA::BYTES, x, at.column, c, begin, end);
    weight_gradient<T>(block, a, b, split, k, c, m,
                       [&](float *dw) { return Add{dw, split.accumulate_dw, k, c}; });
}

#define KERNELS(M, N, WARP_M, WARP_N, STAGES, BLOCKS, ALIGNED, SHARED, NAME)                                           \
    using Tile_##NAME = Tile<M, N, WARP_M, WARP_N, STAGES, ALIGNED>;                                                   \
    static_assert(Tile_##NAME::SHARED_BYTES == SHARED, "launches and kernels agree");                                  \
    static_assert(BLOCKS % WGRAD_GROUPS == 0, "groups in place of blocks");                                            \
    extern "C" __global__ void __launch_bounds__(Tile_##NAME::BLOCK, BLOCKS)                                           \
        pointwise_fprop_##NAME(Rectified y, const Storage *x, const Storage *w, const float *bias, int relu,           \
                               int m, int c, int k) {                                                                  \
        fprop<Tile_##NAME>(y, x, w, bias, relu, m, c, k);                                                              \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(Tile_##NAME::BLOCK, BLOCKS)                                           \
        pointwise_dgrad_##NAME(Storage *dx, const Storage *dy, const Storage *w, MaskedBy mask, int accumulate,        \
                               int m, int c, int k) {                                                                  \
        dgrad<Tile_##NAME>(dx, dy, w, mask, accumulate, m, c, k);                                                      \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(Tile_##NAME::BLOCK * WGRAD_GROUPS, BLOCKS / WGRAD_GROUPS)             \
        pointwise_wgrad_##NAME(const __grid_constant__ GradientSplit split, const Storage *x, const Storage *dy,       \
                               int m, int c, int k) {                                                                  \
        wgrad<Tile_##NAME::Grouped>(split, x, dy, m, c, k);                                                            \
    }                                                                                                                  \
    POOLED_##ALIGNED(BLOCKS, NAME)

#define POOLED_true(BLOCKS, NAME)                                                                                      \
    extern "C" __global__ void __launch_bounds__(Tile_##NAME::BLOCK, BLOCKS)                                           \
        pointwise_maxpool_fprop_##NAME(Rectified y, unsigned char *index, const Storage *x, const Storage *w,          \
                                       const float *bias, int relu, const __grid_constant__ Strips strips,             \
                                       int c, int k) {                                                                 \
        maxpool_fprop<Tile_##NAME>(y, index, x, w, bias, relu, strips, c, k);                                          \
    }
#define POOLED_false(BLOCKS, NAME)

#if PRECISION == 0
FP32_TILES(KERNELS)
#else
MMA_TILES(KERNELS)
#endif
