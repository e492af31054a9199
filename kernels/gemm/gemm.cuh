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

// wgrad's splits of the sum over k: split `blockIdx.y` takes `tiles` tiles. With more than one split the results go to
// `partial[split][stride]`, dw first, then db, for `reduce_splits`; with one, straight to dw and db. What is not wanted
// is null.
struct Split {
    float *dw, *db, *partial;
    int stride, tiles, accumulate_dw, accumulate_db;

    // The columns (pixels) of this split.
    __device__ int begin() const { return blockIdx.y * tiles * TILE_K; }
    __device__ int end(int k) const { return min(k, begin() + tiles * TILE_K); }
};

// wgrad's block with its epilogue.
template <class T, class LoaderA, class LoaderB>
__device__ __forceinline__ void weight_gradient(Block<T, Major::MN, Major::MN, true> &block, LoaderA &a, LoaderB &b,
                                                const Split &split, int m, int n, int k) {
    const int tiles = (split.end(k) - split.begin() + TILE_K - 1) / TILE_K;
    accumulate<T>(block.core, a, b, tiles, shared_address(shared_memory));
    float *dw = split.dw, *db = split.db;
    bool accumulate_dw = split.accumulate_dw, accumulate_db = split.accumulate_db;
    if (split.partial != nullptr) {
        float *partial = split.partial + static_cast<size_t>(blockIdx.y) * split.stride;
        if (db != nullptr) db = partial + (dw != nullptr ? m * n : 0);
        if (dw != nullptr) dw = partial;
        accumulate_dw = accumulate_db = false;
    }
    if (db != nullptr) {
        const int first = place<T>(split.dw != nullptr ? n : 1).row + threadIdx.x / 32 / T::WARPS_N * T::WARP_M;
        block.core.each_row_sum([&](int row, float sum) {
            if (first + row < m) {
                float *to = db + first + row;
                *to = accumulate_db ? *to + sum : sum;
            }
        });
    }
    if (dw != nullptr) {
        finish<T>(block.core, shared_address(shared_memory), place<T>(n), Add{dw, accumulate_dw, m, n});
    }
}

// The sum of wgrad's splits: `dw[i] (+)= Σ partial[split][i]`, and db likewise, which lies behind dw in each partial
// result. The order of the additions is fixed. Grid: ceil(length / 128). Block: 32 x 8 threads in a row; each of the 8
// adds up every eighth split of 4 elements, then the first adds those 8.
__device__ __forceinline__ void reduce_splits(const Split &split, int dw_length, int length, int splits) {
    static_assert(THREADS == 256, "32 x 8");
    __shared__ float4 parts[8][32];
    const int x = threadIdx.x % 32, y = threadIdx.x / 32;
    const int first = (blockIdx.x * 32 + x) * 4;
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    const auto add = [&](const float4 &value) {
        sum = make_float4(sum.x + value.x, sum.y + value.y, sum.z + value.z, sum.w + value.w);
    };
    const float *from = split.partial + first;
    if (first + 4 <= length) {
#pragma unroll 4
        for (int i = y; i < splits; i += 8) {
            add(*reinterpret_cast<const float4 *>(from + static_cast<size_t>(i) * split.stride));
        }
    } else {
        for (int i = y; i < splits; i += 8) {
            const float *at = from + static_cast<size_t>(i) * split.stride;
            const float last[3] = {first < length ? at[0] : 0.0f, first + 1 < length ? at[1] : 0.0f,
                                   first + 2 < length ? at[2] : 0.0f};
            add(make_float4(last[0], last[1], last[2], 0.0f));
        }
    }
    parts[y][x] = sum;
    __syncthreads();
    if (y == 0) {
#pragma unroll
        for (int other = 1; other < 8; other++) add(parts[other][x]);
        if (first + 4 <= dw_length) {
            float4 *to = reinterpret_cast<float4 *>(split.dw + first);
            if (split.accumulate_dw) add(*to);
            *to = sum;
        } else {
            const float values[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int at = first + i;
                if (at < length) {
                    const bool in_dw = at < dw_length;
                    float *to = in_dw ? split.dw + at : split.db + (at - dw_length);
                    const bool adds = in_dw ? split.accumulate_dw : split.accumulate_db;
                    *to = adds ? *to + values[i] : values[i];
                }
            }
        }
    }
}
