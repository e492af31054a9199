// The GEMM of both convolutions, output[m][n] = Σ_k A[m][k] · B[n][k], the output row-major. A block multiplies its
// tile's rows of A by its columns of B. The sources of A and B, the arithmetic of the precision and the epilogue are
// parameters.
//
//     tile.cuh          the tile of a block, and the layout of an operand in shared memory
//     memory.cuh        cp.async, ldmatrix
//     loader.cuh        global memory to shared memory; matrices as sources
//     convolution.cuh   the operands of a convolution as sources
//     mma.cuh           the arithmetic of TF32 and bf16: fragments, mma.sync
//     wgmma.cuh         the arithmetic of bf16 on Hopper, of files that define WGMMA
//     simt.cuh          the arithmetic of fp32
//     epilogue.cuh      bias, ReLU, mask, addition, and the way back to global memory
//     pooled.cuh        the epilogue with a max pool
//
// From global memory to the tensor core:
//
// 1. A source gives the address of a thread's 16-byte chunk in each line of the tile, and tells whether it is inside.
// 2. `cp.async` copies the chunk to shared memory, zeros where it is outside (padding, the ends of m, n and k). A ring of 3 or
//    4 stages holds tiles of 64 bytes of K: STAGES - 1 copies are under way while a tile is multiplied. There is one
//    barrier a tile.
// 3. The chunks of a line are swizzled in shared memory, so that neither copies nor reads have bank conflicts. The virtual GPU
//    counts none in any of these kernels.
// 4. `ldmatrix` reads fragments in the order of `mma`, the transposed form where the operand is MN-major.
// 5. `mma` adds up in fp32, in registers, 64 x 64 results a warp: of the operands' bytes that come from shared memory, each is
//    used often enough. While a step is multiplied, the fragments of the next one are read: B's before it, A's each in the place of the
//    one that has just been multiplied.
// 6. The epilogue adds the bias in registers and sends the results through shared memory to global memory.
//
// In tiles of warpgroups (Hopper, bf16) the tensor core does 4 and 5 by itself: `wgmma.cuh`.
//
// The `_any` kernels, for channels that are no multiple of VECTOR, read the next tile to registers while they multiply, and then
// store chunks as the others do. They read single elements; of weights, matrices and wgrad's patches whose own channels are
// whole chunks, they read chunks.
//
// wgrad's blocks have two groups of warps (sliced K). A multiprocessor needs two blocks' warps to be busy, and each of two
// blocks would leave a part of 128 x 128 floats; so one block has the warps of two. Each group has stages and sums of its
// own and multiplies half of the block's tiles of k; there is no barrier between the groups before the end. Then each
// gives half of its sums to the other through shared memory, adds up, and writes the rows that it kept. (Of large tiles a
// multiprocessor has one such block, and no other block multiplies while it begins and ends.) In bf16 at batch 128
// (measured/STEP.md) this halves the parts of a step. As two blocks they took 1.61 MB of traffic for each image, 14 % of
// all; now they take 0.79 MB. `gemm::wgrad_splits` weighs the traffic of the parts against idle multiprocessors, and of
// splits that take about the same time it chooses the fewest.
#pragma once

#include "epilogue.cuh"
#include "loader.cuh"
#ifdef WGMMA
#include "wgmma.cuh"
#else
#include "mma.cuh"
#include "simt.cuh"
#endif

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
        constexpr int STAGES = T::STAGES, AHEAD = STAGES - T::BUSY;
        unsigned fill = shared, read = shared;
        const auto next = [&](unsigned &stage) {
            stage += STAGE;
            if (stage == shared + STAGES * STAGE) stage = shared;
        };
#pragma unroll
        for (int tile = 0; tile < AHEAD; tile++) {
            if (tile < tiles) {
                a.copy(fill);
                b.copy(fill);
            }
            commit_copies();
            next(fill);
        }
#if defined(WGMMA)
#pragma unroll 1
        for (int tile = 0; tile < tiles; tile++) {
            // This tile has arrived. All warpgroups have multiplied the tile before the last, whose stage is filled next.
            wait_copies<AHEAD - 1>();
            publish();
            T::synchronize();
            core.tile(read);
            next(read);
            if (tile + AHEAD < tiles) {
                a.copy(fill);
                b.copy(fill);
            }
            commit_copies();
            next(fill);
            wait_products<1>();
        }
        core.finish();
#elif PRECISION == 0
#pragma unroll 1
        for (int tile = 0; tile < tiles; tile++) {
            // This tile has arrived, and all threads have read the stage that is filled next.
            wait_copies<AHEAD - 1>();
            T::synchronize();
            if (tile + AHEAD < tiles) {
                a.copy(fill);
                b.copy(fill);
            }
            commit_copies();
            next(fill);
            core.tile(read);
            next(read);
        }
#else
        wait_copies<AHEAD - 1>();
        T::synchronize();
        core.load_a(read, 0);
        core.load_b(read, 0, 0);
#pragma unroll 1
        for (int tile = 0; tile < tiles; tile++) {
            core.load_b(read, 1, 1);
            if (tile + AHEAD < tiles) {
                a.copy(fill);
                b.copy(fill);
            }
            commit_copies();
            next(fill);
            core.template multiply<true>(0, read, 1);
            // The next tile has arrived, and all threads have read this one: its stage is the next to be filled.
            wait_copies<AHEAD - 1>();
            T::synchronize();
            // Behind the last tile it is read once more, so that no branch is in the way.
            if (tile + 1 < tiles) next(read);
            core.load_b(read, 0, 0);
            core.template multiply<true>(1, read, 0);
        }
#endif
        wait_copies<0>();
        T::synchronize();
    }
}

// One block of the product. SUMS: also the sums of A's rows.
template <class T, Major A, Major B, bool SUMS>
struct Block {
    using Core = ::Core<T, A, B, SUMS>;
    using LayoutA = typename Core::LayoutA;
    using LayoutB = typename Core::LayoutB;
    Core core;

    __device__ Block(bool summing)
        : core(threadIdx.x / 32 / T::WARPS_N, threadIdx.x / 32 % T::WARPS_N,
               summing && threadIdx.x / 32 % T::WARPS_N == 0) {}

    // Multiplies all tiles and applies the epilogue.
    template <class LoaderA, class LoaderB, class Output>
    __device__ void run(LoaderA &a, LoaderB &b, int tiles, const Output &output) {
        accumulate<T>(core, a, b, tiles, shared_address(shared_memory));
        finish<T>(core, shared_address(shared_memory), place<T>(output.n), output);
    }
};

// Split-K: each group of split `blockIdx.y` takes `tiles` tiles of k, and the split leaves a part of the results, `stride`
// elements after that of the split before it (`parts.cuh`).
struct Split {
    int stride, tiles;

    // This group's range of k, and its tiles: fewer at the end, or none.
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

// The split of wgrad, whose k is pixels, with its results. A gradient that is not wanted is null.
struct GradientSplit : Split {
    float *dw, *db;
    int accumulate_dw, accumulate_db;
};

// The exchange of sums between two groups. Group g finishes slices g, g + 2 and so on, of 16 rows each. `give` writes the other
// group's slices to shared memory at `to`; `take` adds those that the other group wrote at `from`.
template <class T, class Core>
struct Exchange {
    static_assert(T::GROUPS == 2 && Core::SLICES % 2 == 0, "half of the slices each");
    // A lane has FOURS times four values of a slice. Each four is an access of 16 bytes, of 512 bytes for the warp.
    static constexpr int FOURS = T::WARP_N / 8, WARP_BYTES = Core::SLICES / 2 * FOURS * 512;
    static constexpr int ROW_SUMS = T::BLOCK / 32 * WARP_BYTES;
    // Eight floats of padding after every 32: a warp's sums are those of rows 0 to 7, 16 to 23, 32 to 39 and 48 to 55.
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

// A block of wgrad with its epilogue. `output` makes the epilogue of dw only after the tiles are multiplied, so that no
// registers hold it meanwhile.
template <class T, class LoaderA, class LoaderB, class Output>
__device__ __forceinline__ void weight_gradient(Block<T, Major::MN, Major::MN, true> &block, LoaderA &a, LoaderB &b,
                                                const GradientSplit &split, int m, int n, int k,
                                                const Output &output) {
    const int tiles = split.template count<T>(k);
    // In a tile of warpgroups, which has a single group, there are some: no split is empty.
    if (tiles > 0) accumulate<T>(block.core, a, b, tiles, T::stages(shared_address(shared_memory)));
    // The shared memory of this group.
    const unsigned own = T::stages(shared_address(shared_memory));
    const auto put_db = [&](int row, float sum) {
        const int at = place<T>(split.dw != nullptr ? n : 1).row + row;
        if (at < m) {
            float *to = split.part(split.db) + at;
            *to = split.accumulate_db ? *to + sum : sum;
        }
    };
    if constexpr (T::GROUPS == 1) {
        if (split.db != nullptr) block.core.each_row_sum(put_db);
    } else {
        using Exchange = ::Exchange<T, typename Block<T, Major::MN, Major::MN, true>::Core>;
        const unsigned other = shared_address(shared_memory) + (1 - T::group()) * T::SHARED_BYTES;
        Exchange::give(block.core, own);
        const int first = threadIdx.x / 32 / T::WARPS_N * T::WARP_M;
        if (T::group() == 1) {
            block.core.each_row_sum([&](int row, float sum) { store_shared(own + Exchange::row_sum(first + row), sum); });
        }
        __syncthreads();
        Exchange::take(block.core, other);
        if (split.db != nullptr && T::group() == 0) {
            block.core.each_row_sum([&](int row, float sum) {
                put_db(first + row, sum + __uint_as_float(load_shared(other + Exchange::row_sum(first + row))));
            });
        }
        if (split.dw != nullptr) __syncthreads();
    }
    if (split.dw != nullptr) finish<T>(block.core, own, place<T>(n), output(split.part(split.dw)));
}
