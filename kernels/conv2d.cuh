// The passes as GEMMs of tile T, for `conv2d.cu`, whose head says what they compute, and for the files of newer
// architectures.
#pragma once

#include "gemm/convolution.cuh"
#include "gemm/gemm.cuh"

// Adds up `tiles` tiles of K from column `begin` on.
template <class T, class Output>
__device__ __forceinline__ void fprop(const Storage *x, const Storage *w, const Convolution &g, int begin, int tiles,
                                      const Output &output) {
    Block<T, Major::K, Major::K, false> block(false);
    const Place at = place<T>(g.k);
    using LayoutA = typename decltype(block)::LayoutA;
    using LayoutB = typename decltype(block)::LayoutB;
    Loader<LayoutA, PatchLines<LayoutA, T::ALIGNED>> a(0, g, x, at.row, begin);
    Loader<LayoutB, MatrixLines<LayoutB>> b(LayoutA::BYTES, w, at.column, g.k, g.taps, begin);
    block.run(a, b, tiles, output);
}

template <class T>
__device__ __forceinline__ void dgrad(Storage *dx, const Storage *dy, const Storage *w, const MaskedBy &mask,
                                      int accumulate, const Convolution &g) {
    Block<T, Major::K, Major::MN, false> block(false);
    const Place at = place<T>(g.c);
    using LayoutA = typename decltype(block)::LayoutA;
    using LayoutB = typename decltype(block)::LayoutB;
    Loader<LayoutA, GradientLines<LayoutA, T::ALIGNED>> a(0, g, dy, at.row);
    Loader<LayoutB, FilterColumns<LayoutB, T::ALIGNED>> b(LayoutA::BYTES, g, w, at.column);
    const int tiles = T::ALIGNED ? g.filter * ((g.k + TILE_K - 1) / TILE_K) : (g.gradient_taps + TILE_K - 1) / TILE_K;
    block.run(a, b, tiles, Mask{dx, mask, accumulate, g.n * g.h * g.w, g.c});
}

// The epilogue of wgrad: `Add`. After space-to-depth it adds each tap at its place in the filter before space-to-depth,
// and drops the taps beyond that filter.
struct AddToFilter {
    static constexpr int WIDTH = Add::WIDTH;
    const Convolution &g;
    float *dw;
    int accumulate, m, n;

    template <class Core>
    __device__ void begin(Core &, int) const {}

    template <int N>
    __device__ void operator()(int row, int column, float (&value)[N]) const {
        if (g.block == 0) {
            Add{dw, accumulate, m, n}(row, column, value);
            return;
        }
        int line, first;
#pragma unroll
        for (int i = 0; i < N; i++) {
            // Neighbours in a line of a block of pixels are neighbours in a line of the filter.
            if (i == 0 || g.block_line % N != 0) {
                int s, in_block, in_line;
                const int r = divide(divide(column + i, g.by_c, in_block), g.by_s, s);
                line = r * g.block + divide(in_block, g.by_block_line, in_line);
                first = s * g.block_line + in_line - i;
            }
            if (line < g.filter_lines && first + i < g.filter_line) {
                float *at = dw + (row * g.filter_lines + line) * g.filter_line + first + i;
                *at = accumulate ? *at + value[i] : value[i];
            }
        }
    }
};

template <class T>
__device__ __forceinline__ void wgrad(const GradientSplit &split, const Storage *x, const Storage *dy,
                                      const Convolution &g) {
    // For db alone the launch has the first tile of n alone.
    const Place at = place<T>(split.dw != nullptr ? g.taps : 1);
    Block<T, Major::MN, Major::MN, true> block(split.db != nullptr && at.column == 0);
    using LayoutA = typename decltype(block)::LayoutA;
    using LayoutB = typename decltype(block)::LayoutB;
    const int begin = split.template begin<T>(), end = split.template end<T>(g.pixels);
    Loader<LayoutA, MatrixColumns<LayoutA>> a(0, dy, at.row, g.k, begin, end);
    Loader<LayoutB, PatchColumns<LayoutB, T::ALIGNED>> b(LayoutA::BYTES, g, x, at.column, begin, end);
    weight_gradient<T>(block, a, b, split, g.k, g.taps, g.pixels,
                       [&](float *dw) { return AddToFilter{g, dw, split.accumulate_dw, g.k, g.taps}; });
}

// The kernels of fprop and dgrad for tile type T, with BLOCKS of its blocks on a multiprocessor.
#define ROWS(T, BLOCKS, NAME)                                                                                          \
    extern "C" __global__ void __launch_bounds__(T::BLOCK, BLOCKS)                                                     \
        conv2d_fprop_##NAME(Rectified y, const Storage *x, const Storage *w, const float *bias, int relu,              \
                            const __grid_constant__ Convolution g) {                                                   \
        fprop<T>(x, w, g, 0, (g.taps + TILE_K - 1) / TILE_K, Activate{y, bias, relu, g.pixels, g.k});                  \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(T::BLOCK, BLOCKS)                                                     \
        conv2d_dgrad_##NAME(Storage *dx, const Storage *dy, const Storage *w, MaskedBy mask, int accumulate,           \
                            const __grid_constant__ Convolution g) {                                                   \
        dgrad<T>(dx, dy, w, mask, accumulate, g);                                                                      \
    }

// That of wgrad.
#define COLUMNS(T, BLOCKS, NAME)                                                                                       \
    extern "C" __global__ void __launch_bounds__(T::BLOCK *T::GROUPS, BLOCKS)                                          \
        conv2d_wgrad_##NAME(const __grid_constant__ GradientSplit split, const Storage *x, const Storage *dy,          \
                            const __grid_constant__ Convolution g) {                                                   \
        wgrad<T>(split, x, dy, g);                                                                                     \
    }
