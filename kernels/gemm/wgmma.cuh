// Hopper's tensor-core arithmetic, for bf16: `wgmma`, products of 64 rows by all columns of a tile, which four warps (a
// warpgroup) start together. The tensor core reads both operands from shared memory by itself, so they take neither registers nor
// instructions, and it multiplies while the threads copy the next tiles.
//
// An operand's tile is in one of the layouts that the instruction knows. K-major it is that of `Layout`: lines of 64 bytes,
// whose swizzle is the hardware's of 64 bytes. MN-major it is `Atoms`.
//
// `wgmma` reads through the asynchronous proxy: what threads write is fenced (`publish`) before the barrier that tells of it.
//
// db, the sums of A's rows in wgrad, is a product of 64 rows by 8 columns of ones, in the blocks of the first tile of n.
#pragma once

#include <type_traits>

#include "tile.cuh"

static_assert(PRECISION == 2, "wgmma takes TF32 from K-major operands alone, and no fp32");

// A block computes M x N of the product, each of its warpgroups WARPGROUP_M x N.
template <int M_, int N_, int WARPGROUP_M, int STAGES_>
struct WarpgroupTile : Tile<M_, N_, WARPGROUP_M / 4, N_, STAGES_, true> {
    using Base = Tile<M_, N_, WARPGROUP_M / 4, N_, STAGES_, true>;
    // MN-major columns come in atoms of 64. Behind the stages is B of the product that sums A's rows: 8 columns and 16 lines of ones.
    static constexpr int COLUMNS = (N_ + 63) / 64 * 64, ONES = STAGES_ * (M_ + COLUMNS) * TILE_BYTES, ONES_BYTES = 256;
    static constexpr int STAGE_BYTES = ONES + ONES_BYTES;
    static constexpr int SHARED_BYTES = STAGE_BYTES > Base::SLICE_BYTES ? STAGE_BYTES : Base::SLICE_BYTES;
    // Products of 64 rows that a warpgroup starts for each step of k.
    static constexpr int PRODUCTS = WARPGROUP_M / 64;
    // The tile that is being multiplied, and the one before, which another warpgroup may still multiply.
    static constexpr int BUSY = 2;
    static_assert(WARPGROUP_M % 64 == 0 && STAGES_ > BUSY && M_ % 64 == 0, "whole products");

    // A warp has every fourth 16 rows of its warpgroup's.
    __device__ static int slice_row(int warp, int i) { return (warp / 4 * PRODUCTS + i) * 64 + warp % 4 * 16; }
};

// The layout of an MN-major operand: atoms of 64 columns (128 bytes) by 8 lines of k, whose chunks are swizzled by the line. Those of the
// same columns follow each other. Atoms begin at multiples of 1024 bytes. EXTENT is of whole atoms, so that eight neighbouring threads
// copy a line of one, to all banks.
template <int EXTENT, int BLOCK>
struct Atoms : Layout<Major::MN, EXTENT, BLOCK> {
    using Base = Layout<Major::MN, EXTENT, BLOCK>;
    static constexpr int LINE = 128, COLUMN = Base::LINES * LINE;
    static constexpr int BYTES = EXTENT / 64 * COLUMN, STEP = Base::PER_PASS * LINE;
    static_assert(EXTENT % 64 == 0 && Base::PER_PASS % 8 == 0, "whole atoms, and a thread's lines are permuted alike");

    __device__ static int offset(int line, int chunk) {
        return chunk / 8 * COLUMN + line * LINE + ((chunk ^ line) & 7) * 16;
    }
};

// Makes what this thread has copied or written to shared memory visible to the tensor core.
__device__ __forceinline__ void publish() { asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory"); }

// The sums in registers, and operands in shared memory, are as the program says before the next product.
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"); }

// Waits until at most the PENDING newest groups of products are under way.
template <int PENDING>
__device__ __forceinline__ void wait_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(PENDING) : "memory");
}

// Descriptors of operands, without the address. Of the layout's `leading` and `stride` a K-major one uses the latter alone, from
// eight rows to the next. MN-major, `leading` leads from 64 columns to the next, `stride` from eight values of k to the next.
__device__ constexpr unsigned long long descriptor(unsigned swizzle, int leading, int stride) {
    return static_cast<unsigned long long>(swizzle) << 62 | static_cast<unsigned long long>(stride >> 4) << 32 |
           static_cast<unsigned long long>(leading >> 4) << 16;
}
constexpr unsigned SWIZZLE_NONE = 0, SWIZZLE_128 = 1, SWIZZLE_64 = 2;

template <Major MAJOR>
__device__ __forceinline__ unsigned long long operand(unsigned from) {
    constexpr unsigned long long FORM = MAJOR == Major::K ? descriptor(SWIZZLE_64, 16, 8 * TILE_BYTES)
                                                          : descriptor(SWIZZLE_128, TILE_K * 128, 8 * 128);
    return FORM | (from & 0x3ffff) >> 4;
}

#define SUMS_8(i)                                                                                                      \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]),        \
        "+f"(d[i + 7])
#define SUMS_16(i) SUMS_8(i), SUMS_8(i + 8)
#define SUMS_48(i) SUMS_16(i), SUMS_16(i + 16), SUMS_16(i + 32)
#define NAMES_0 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define NAMES_16 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_32 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define NAMES_48 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define NAMES_64 "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define NAMES_80 "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define NAMES_96 "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define NAMES_112 "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define NAMES_TO_48 NAMES_0 ", " NAMES_16 ", " NAMES_32
#define NAMES_TO_96 NAMES_TO_48 ", " NAMES_48 ", " NAMES_64 ", " NAMES_80
#define NAMES_TO_128 NAMES_TO_96 ", " NAMES_96 ", " NAMES_112

// d += a · b of 64 x COLUMNS sums and 16 values of k. ALONG_A, ALONG_B: the operand is MN-major.
#define PRODUCT(COLUMNS, NAMES, A, B, MAJOR_A, MAJOR_B, ...)                                                           \
    template <bool ALONG_A, bool ALONG_B>                                                                              \
    __device__ __forceinline__ void start_product(float (&d)[COLUMNS / 2], unsigned long long a,                       \
                                                  unsigned long long b) {                                              \
        asm volatile("{\n.reg .pred add;\nsetp.eq.u32 add, 0, 0;\n"                                                    \
                     "wgmma.mma_async.sync.aligned.m64n" #COLUMNS "k16.f32.bf16.bf16 {" NAMES "}, " A ", " B           \
                     ", add, 1, 1, " MAJOR_A ", " MAJOR_B ";\n}\n"                                                     \
                     : __VA_ARGS__                                                                                     \
                     : "l"(a), "l"(b), "n"(int(ALONG_A)), "n"(int(ALONG_B)));                                          \
    }
PRODUCT(8, "%0, %1, %2, %3", "%4", "%5", "%6", "%7", "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]))
PRODUCT(96, NAMES_TO_48, "%48", "%49", "%50", "%51", SUMS_48(0))
PRODUCT(192, NAMES_TO_96, "%96", "%97", "%98", "%99", SUMS_48(0), SUMS_48(48))
PRODUCT(256, NAMES_TO_128, "%128", "%129", "%130", "%131", SUMS_48(0), SUMS_48(48), SUMS_16(96), SUMS_16(112))

template <Major MAJOR, int EXTENT, int BLOCK>
using Operand =
    std::conditional_t<MAJOR == Major::K, Layout<Major::K, EXTENT, BLOCK>, Atoms<(EXTENT + 63) / 64 * 64, BLOCK>>;

// One warpgroup's share of the product, of which each warp has 16 of every 64 rows. SUMS: also the sums of A's rows.
template <class T, Major A, Major B, bool SUMS>
struct Core {
    using LayoutA = Operand<A, T::M, T::BLOCK>;
    using LayoutB = Operand<B, T::N, T::BLOCK>;
    static constexpr int SLICES = T::PRODUCTS, STEPS = 2;
    // Bytes from a step of k to the next.
    static constexpr int STEP_A = (A == Major::K ? TILE_BYTES : TILE_K * 128) / STEPS;
    static constexpr int STEP_B = (B == Major::K ? TILE_BYTES : TILE_K * 128) / STEPS;
    // Bytes from 64 rows of A to the next.
    static constexpr int ROWS = A == Major::K ? 64 * TILE_BYTES : TILE_K * 128;

    float sums[T::PRODUCTS][T::N / 2];
    // All columns of a row are the same.
    float row_sums[SUMS ? T::PRODUCTS : 1][4];
    // The offset of the warpgroup's rows in a stage.
    unsigned rows;
    bool summing;

    // The shuffle tells the compiler that the warpgroup is uniform in a warp.
    __device__ Core(int warp, int, bool summing)
        : rows(__shfl_sync(0xffffffff, warp / 4, 0) * T::PRODUCTS * ROWS), summing(summing) {
#pragma unroll
        for (int i = 0; i < T::PRODUCTS; i++) {
#pragma unroll
            for (int e = 0; e < T::N / 2; e++) sums[i][e] = 0.0f;
#pragma unroll
            for (int e = 0; e < 4; e++) row_sums[SUMS ? i : 0][e] = 0.0f;
        }
        if constexpr (SUMS) {
            // Published and told of with the first tile.
            if (threadIdx.x < T::ONES_BYTES / 4) {
                store_shared(shared_address(shared_memory) + T::ONES + threadIdx.x * 4, __uint_as_float(0x3f803f80));
            }
        }
    }

    // Starts the products of a tile.
    __device__ void tile(unsigned stage) {
        if constexpr (SUMS) {
            if (summing) {
                begin_products();
                const auto ones = descriptor(SWIZZLE_NONE, 128, 128) | (shared_address(shared_memory) + T::ONES) >> 4;
#pragma unroll
                for (int step = 0; step < STEPS; step++) {
#pragma unroll
                    for (int i = 0; i < T::PRODUCTS; i++) {
                        const auto a = operand<A>(stage + rows + i * ROWS + step * STEP_A);
                        start_product<A == Major::MN, false>(row_sums[i], a, ones);
                    }
                }
            }
        }
        begin_products();
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            const auto b = operand<B>(stage + LayoutA::BYTES + step * STEP_B);
#pragma unroll
            for (int i = 0; i < T::PRODUCTS; i++) {
                const auto a = operand<A>(stage + rows + i * ROWS + step * STEP_A);
                start_product<A == Major::MN, B == Major::MN>(sums[i], a, b);
            }
        }
        commit_products();
    }

    // Waits for all products. No use of a sum moves to before this.
    __device__ void finish() {
        wait_products<0>();
#pragma unroll
        for (int i = 0; i < T::PRODUCTS; i++) {
#pragma unroll
            for (int e = 0; e < T::N / 2; e++) asm volatile("" : "+f"(sums[i][e])::"memory");
#pragma unroll
            for (int e = 0; e < 4 && SUMS; e++) asm volatile("" : "+f"(row_sums[i][e])::"memory");
        }
    }

    // Calls `store(row of the tile, sum)` for the sums of A's rows.
    template <class Store>
    __device__ void each_row_sum(Store store) const {
        const int lane = threadIdx.x % 32;
        if (!summing || lane % 4 != 0) return;
#pragma unroll
        for (int i = 0; i < T::PRODUCTS; i++) {
            const int row = T::slice_row(threadIdx.x / 32, i) + lane / 4;
            store(row, row_sums[i][0]);
            store(row + 8, row_sums[i][2]);
        }
    }

    // Adds `value(column of the tile)` to all sums of each column.
    template <class Value>
    __device__ void add_to_columns(Value value) {
#pragma unroll
        for (int j = 0; j < T::N / 8; j++) {
            const int column = 8 * j + threadIdx.x % 4 * 2;
            const float one = value(column), other = value(column + 1);
#pragma unroll
            for (int i = 0; i < T::PRODUCTS; i++) {
                float *sum = sums[i] + 4 * j;
                sum[0] += one, sum[1] += other, sum[2] += one, sum[3] += other;
            }
        }
    }

    // The layout of a slice of 16 rows of floats: half a warp writes eight floats of each of four rows, which begin in different
    // quarters of the banks.
    static constexpr int PITCH = T::N + 8;
    static_assert(T::N % 32 == 0, "the padding moves rows by a quarter of the banks");
    __device__ static int place(int row, int column) { return row * PITCH + column; }

    // Writes slice `i`.
    __device__ void write(int i, unsigned slice) const {
        const unsigned to = slice + place(threadIdx.x % 32 / 4, threadIdx.x % 4 * 2) * sizeof(float);
#pragma unroll
        for (int j = 0; j < T::N / 8; j++) {
            const float *sum = sums[i] + 4 * j;
            store_shared2(to + 8 * j * sizeof(float), make_float2(sum[0], sum[1]));
            store_shared2(to + (8 * PITCH + 8 * j) * sizeof(float), make_float2(sum[2], sum[3]));
        }
    }
};
