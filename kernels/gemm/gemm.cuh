// The GEMM that both convolutions are: a block multiplies its tile's rows of A by its columns of B, `output[m][n] = Σ_k
// A[m][k] · B[n][k]`, with the sources of A and B, the precision's arithmetic and an epilogue as parts.
//
// Tiles of both operands go through a ring of stages in shared memory. In the aligned kernels `cp.async` fills it,
// STAGES - 1 tiles ahead of the arithmetic, with one barrier a tile; while the last step of a tile is multiplied, the
// first fragments of the next are already under way. The others read the next tile into registers while they multiply.
#pragma once

#include "epilogue.cuh"
#include "loader.cuh"
#include "mma.cuh"
#include "simt.cuh"

// Adds up `tiles` tiles of k.
template <class T, class Core, class LoaderA, class LoaderB>
__device__ __forceinline__ void accumulate(Core &core, LoaderA &a, LoaderB &b, int tiles, unsigned shared) {
    constexpr unsigned STAGE = Core::LayoutA::BYTES + Core::LayoutB::BYTES;
    if constexpr (!T::ALIGNED) {
        static_assert(T::STAGES == 2, "one tile is multiplied, one is under way");
        Chunk next_a[Core::LayoutA::PASSES], next_b[Core::LayoutB::PASSES];
        a.gather(next_a);
        b.gather(next_b);
        a.store(shared, next_a);
        b.store(shared, next_b);
#pragma unroll 1
        for (int tile = 0; tile < tiles; tile++) {
            __syncthreads();
            const unsigned stage = shared + tile % 2 * STAGE, other = shared + (tile + 1) % 2 * STAGE;
            if (tile + 1 < tiles) {
                a.gather(next_a);
                b.gather(next_b);
            }
            core.tile(stage);
            if (tile + 1 < tiles) {
                a.store(other, next_a);
                b.store(other, next_b);
            }
        }
        __syncthreads();
    } else {
        constexpr int STAGES = T::STAGES;
        unsigned fill = shared, read = shared;
        const auto next = [&](unsigned &stage) {
            stage += STAGE;
            if (stage == shared + STAGES * STAGE) stage = shared;
        };
#pragma unroll
        for (int tile = 0; tile < STAGES - 1; tile++) {
            if (tile < tiles) {
                a.copy(fill);
                b.copy(fill);
            }
            commit_copies();
            next(fill);
        }
#if PRECISION == 0
#pragma unroll 1
        for (int tile = 0; tile < tiles; tile++) {
            // This tile is here, and all threads are done with the stage that is filled now.
            wait_copies<STAGES - 2>();
            __syncthreads();
            if (tile + STAGES - 1 < tiles) {
                a.copy(fill);
                b.copy(fill);
            }
            commit_copies();
            next(fill);
            core.tile(read);
            next(read);
        }
#else
        wait_copies<STAGES - 2>();
        __syncthreads();
        core.load(read, 0, 0);
#pragma unroll 1
        for (int tile = 0; tile < tiles; tile++) {
            core.load(read, 1, 1);
            next(read);
            if (tile + STAGES - 1 < tiles) {
                a.copy(fill);
                b.copy(fill);
            }
            commit_copies();
            next(fill);
            core.multiply(0);
            // The next tile is here, and all threads have read this one: its stage is the next to be filled.
            wait_copies<STAGES - 2>();
            __syncthreads();
            if (tile + 1 < tiles) core.load(read, 0, 0);
            core.multiply(1);
        }
#endif
        wait_copies<0>();
        __syncthreads();
    }
}

// Its stages, later the warps' slices of results.
extern __shared__ __align__(128) unsigned char shared_memory[];

// One block of the product.
template <class T, Major A, Major B, bool SUMS>
struct Block {
    using Core = ::Core<T, A, B, SUMS>;
    using LayoutA = typename Core::LayoutA;
    using LayoutB = typename Core::LayoutB;
    Core core;

    __device__ Block(bool summing)
        : core(threadIdx.x / 32 / T::WARPS_N, threadIdx.x / 32 % T::WARPS_N,
               summing && threadIdx.x / 32 % T::WARPS_N == 0) {}

    // From the sources' tiles to the output.
    template <class LoaderA, class LoaderB, class Output>
    __device__ void run(LoaderA &a, LoaderB &b, int tiles, const Output &output) {
        accumulate<T>(core, a, b, tiles, shared_address(shared_memory));
        finish<T>(core, shared_address(shared_memory), place<T>(output.n), output);
    }
};

// Splits of the sum over k: split `blockIdx.y` takes `tiles` tiles and leaves its part of the results `stride` elements behind
// that of the split before (`parts.cuh`).
struct Split {
    int stride, tiles;

    // The columns of this split, of k, and their tiles.
    __device__ int begin() const { return blockIdx.y * tiles * TILE_K; }
    __device__ int end(int k) const { return min(k, begin() + tiles * TILE_K); }
    __device__ int count(int k) const { return (end(k) - begin() + TILE_K - 1) / TILE_K; }

    __device__ float *part(float *of) const { return of + static_cast<size_t>(blockIdx.y) * stride; }
};

// wgrad's, whose columns are pixels. What is not wanted is null.
struct GradientSplit : Split {
    float *dw, *db;
    int accumulate_dw, accumulate_db;
};

// wgrad's block with its epilogue, for which `output` makes what takes dw: not before the end, so that no registers hold it
// while tiles are multiplied.
template <class T, class LoaderA, class LoaderB, class Output>
__device__ __forceinline__ void weight_gradient(Block<T, Major::MN, Major::MN, true> &block, LoaderA &a, LoaderB &b,
                                                const GradientSplit &split, int m, int n, int k,
                                                const Output &output) {
    accumulate<T>(block.core, a, b, split.count(k), shared_address(shared_memory));
    if (split.db != nullptr) {
        float *db = split.part(split.db);
        const int first = place<T>(split.dw != nullptr ? n : 1).row + threadIdx.x / 32 / T::WARPS_N * T::WARP_M;
        block.core.each_row_sum([&](int row, float sum) {
            if (first + row < m) {
                float *to = db + first + row;
                *to = split.accumulate_db ? *to + sum : sum;
            }
        });
    }
    if (split.dw != nullptr) {
        finish<T>(block.core, shared_address(shared_memory), place<T>(n), output(split.part(split.dw)));
    }
}
