// The GEMM that both convolutions are: a block multiplies its tile's rows of A by its columns of B, `output[m][n] = Σ_k
// A[m][k] · B[n][k]`, with the sources of A and B, the precision's arithmetic and an epilogue as parts.
//
// Tiles of both operands go through a ring of stages in shared memory. In the aligned kernels `cp.async` fills it,
// STAGES - 1 tiles ahead of the arithmetic, with one barrier a tile; while the last step of a tile is multiplied, the
// first fragments of the next are already under way. The others read the next tile into registers while they multiply.
//
// wgrad's blocks have two groups of warps, which share its tiles of k and in the end exchange their sums.
#pragma once

#include "epilogue.cuh"
#include "loader.cuh"
#include "mma.cuh"
#include "simt.cuh"

// Adds up `tiles` tiles of k, at least one.
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
            T::synchronize();
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
        T::synchronize();
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
            T::synchronize();
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
        T::synchronize();
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
            T::synchronize();
            if (tile + 1 < tiles) core.load(read, 0, 0);
            core.multiply(1);
        }
#endif
        wait_copies<0>();
        T::synchronize();
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

// Splits of the sum over k: each group of split `blockIdx.y` takes `tiles` tiles, and the split leaves its part of the results
// `stride` elements behind that of the split before (`parts.cuh`).
struct Split {
    int stride, tiles;

    // This group's columns, of k, and their tiles: fewer at the end, or none.
    template <class T>
    __device__ int begin() const {
        return (blockIdx.y * T::GROUPS + T::group()) * tiles * TILE_K;
    }
    template <class T>
    __device__ int end(int k) const {
        return min(k, begin<T>() + tiles * TILE_K);
    }
    template <class T>
    __device__ int count(int k) const {
        return (end<T>(k) - begin<T>() + TILE_K - 1) / TILE_K;
    }

    __device__ float *part(float *of) const { return of + static_cast<size_t>(blockIdx.y) * stride; }
};

// wgrad's, whose columns are pixels. What is not wanted is null.
struct GradientSplit : Split {
    float *dw, *db;
    int accumulate_dw, accumulate_db;
};

// Hands the slices of 16 rows that the other group is to finish to it, through shared memory at `to`, and adds up what came
// from it at `from`: group g finishes slices g, g + 2 and so on.
template <class T, class Core>
struct Exchange {
    static_assert(T::GROUPS == 2 && Core::SLICES % 2 == 0, "half of the slices each");
    // Of a slice a lane has fours of values, a warp all of them in 512 bytes each.
    static constexpr int FOURS = T::WARP_N / 8, WARP_BYTES = Core::SLICES / 2 * FOURS * 512;
    static constexpr int ROW_SUMS = T::BLOCK / 32 * WARP_BYTES;
    // Eight floats more after every 32, for a warp's come from rows 0 to 7, 16 to 23, 32 to 39 and 48 to 55.
    __device__ static constexpr int row_sum(int row) { return ROW_SUMS + (row + row / 32 * 8) * sizeof(float); }
    static_assert(row_sum(T::M) <= T::SHARED_BYTES, "room for slices and sums of rows");

    __device__ static unsigned place(unsigned shared, int slice, int four) {
        return shared + threadIdx.x / 32 * WARP_BYTES + (slice / 2 * FOURS + four) * 512 + threadIdx.x % 32 * 16;
    }

    __device__ static void give(Core &core, unsigned to) {
#pragma unroll
        for (int i = 0; i < Core::SLICES; i++) {
            if (i % 2 == T::group()) continue;
            core.each_four(i, [&](int four, float &a, float &b, float &c, float &d) {
                store_shared4(place(to, i, four), make_float4(a, b, c, d));
            });
        }
    }

    __device__ static void take(Core &core, unsigned from) {
#pragma unroll
        for (int i = 0; i < Core::SLICES; i++) {
            if (i % 2 != T::group()) continue;
            core.each_four(i, [&](int four, float &a, float &b, float &c, float &d) {
                const float4 other = load_shared4(place(from, i, four));
                a += other.x, b += other.y, c += other.z, d += other.w;
            });
        }
    }
};

// wgrad's block with its epilogue, for which `output` makes what takes dw: not before the end, so that no registers hold it
// while tiles are multiplied.
template <class T, class LoaderA, class LoaderB, class Output>
__device__ __forceinline__ void weight_gradient(Block<T, Major::MN, Major::MN, true> &block, LoaderA &a, LoaderB &b,
                                                const GradientSplit &split, int m, int n, int k,
                                                const Output &output) {
    using Exchange = ::Exchange<T, typename Block<T, Major::MN, Major::MN, true>::Core>;
    const int tiles = split.template count<T>(k);
    if (tiles > 0) accumulate<T>(block.core, a, b, tiles, T::stages(shared_address(shared_memory)));
    // This group's room, and the other's.
    const unsigned own = T::stages(shared_address(shared_memory));
    const unsigned other = shared_address(shared_memory) + (1 - T::group()) * T::SHARED_BYTES;
    Exchange::give(block.core, own);
    const int row_of_warp = threadIdx.x / 32 / T::WARPS_N * T::WARP_M;
    if (T::group() == 1) {
        block.core.each_row_sum([&](int row, float sum) { store_shared(own + Exchange::row_sum(row_of_warp + row), sum); });
    }
    __syncthreads();
    Exchange::take(block.core, other);
    if (split.db != nullptr && T::group() == 0) {
        float *db = split.part(split.db);
        const int first = place<T>(split.dw != nullptr ? n : 1).row + row_of_warp;
        block.core.each_row_sum([&](int row, float sum) {
            sum += __uint_as_float(load_shared(other + Exchange::row_sum(row_of_warp + row)));
            if (first + row < m) {
                float *to = db + first + row;
                *to = split.accumulate_db ? *to + sum : sum;
            }
        });
    }
    if (split.dw != nullptr) {
        __syncthreads();
        finish<T>(block.core, own, place<T>(n), output(split.part(split.dw)));
    }
}
