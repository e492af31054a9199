// Tensor-core arithmetic, for TF32 and bf16: a warp's fragments from shared memory, and their products.
//
// In 16-byte chunks of k the two types are alike: a fragment of A is 16 rows x 2 chunks, one of B is 8 rows x 2 chunks. An 8x8
// matrix of 16-bit elements is one of 8x4 floats, so `ldmatrix` gives the lanes the right elements of either type where the
// operand is K-major. Where it is MN-major, `ldmatrix.trans` transposes bf16. It cannot transpose floats, so lanes read
// them one by one.
//
// db, the sums of A's rows in wgrad, is one more column of B, of ones, in the warps of the first tile of n: an `mma` for
// each 16 rows, into columns 2i and 2i + 1 of one shared fragment.
#pragma once

#include "tile.cuh"

#if PRECISION != 0

__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if PRECISION == 1
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};\n"
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};\n"
#endif
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Steps of the tensor core in a tile: each takes two chunks of k.
constexpr int STEPS = 2;
// Lines of an MN-major tile in a step.
constexpr int STEP_LINES = TILE_K / STEPS;

// Fragments of COUNT times 16 rows of A or B from row `first` of the tile, each of four 8x8 matrices. ROWS_INNER is the
// order of the four: in A's fragment the two that differ in rows are neighbours, in B's (two fragments of 8 rows) the two
// that differ in chunks.
template <class Layout, Major MAJOR, int COUNT, bool ROWS_INNER>
struct Fragments {
    // Offsets of the lane's reads. K-major: one serves all pairs. MN-major bf16: one for each pair. MN-major floats: they
    // repeat after 32 columns if the warps begin at multiples of 32.
    static constexpr int OFFSETS = MAJOR == Major::K ? 1 : PRECISION == 2 ? COUNT : COUNT % 2 == 0 ? 4 : 2 * COUNT;
    unsigned offset[OFFSETS];

    __device__ Fragments(unsigned operand, int first) {
        const int lane = threadIdx.x % 32;
        // The 8x8 matrix whose row this lane addresses: its place by rows and by chunks of k.
        const int inner = lane >> 3 & 1, outer = lane >> 4;
        const int rows = ROWS_INNER ? inner : outer, chunks = ROWS_INNER ? outer : inner;
        if constexpr (MAJOR == Major::K) {
            offset[0] = operand + Layout::offset(first + 8 * rows + lane % 8, chunks);
        } else if constexpr (PRECISION == 2) {
#pragma unroll
            for (int i = 0; i < COUNT; i++) {
                offset[i] = operand + Layout::offset(8 * chunks + lane % 8, first / 8 + 2 * i + rows);
            }
        } else {
            // A lane reads element lane / 4 of line lane % 4.
#pragma unroll
            for (int i = 0; i < OFFSETS; i++) {
                const int row = first + 8 * i + lane / 4;
                offset[i] = operand + Layout::offset(lane % 4, row / VECTOR) + row % VECTOR * sizeof(Storage);
            }
        }
    }

    // The four registers of pair i at one step of the tile.
    __device__ void load(unsigned (&to)[4], unsigned stage, int i, int step) const {
        if constexpr (MAJOR == Major::K) {
            // The step is bit 1 of the chunk, and the swizzle is an XOR: so is the step.
            load_matrices(to, (stage + offset[0] ^ step * 32) + i * 16 * Layout::PITCH);
        } else if constexpr (PRECISION == 2) {
            load_matrices_transposed(to, stage + offset[i] + step * STEP_LINES * Layout::PITCH);
        } else {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int rows = ROWS_INNER ? j % 2 : j / 2, chunks = ROWS_INNER ? j / 2 : j % 2;
                const int eight = 2 * i + rows;
                to[j] = load_shared(stage + offset[eight % OFFSETS] + eight / OFFSETS * 32 * sizeof(Storage) +
                                    (step * STEP_LINES + 4 * chunks) * Layout::PITCH);
            }
        }
    }
};

// One warp's share of the product. SUMS: also the sums of A's rows.
template <class T, Major A, Major B, bool SUMS>
struct Core {
    using LayoutA = Layout<A, T::M, T::BLOCK>;
    using LayoutB = Layout<B, T::N, T::BLOCK>;
    static constexpr int ROWS = T::WARP_M / 16, COLUMNS = T::WARP_N / 16;
    // The epilogue's slices, of 16 rows each.
    static constexpr int SLICES = ROWS;
    static_assert(T::WARP_M % 16 == 0 && T::WARP_N % 16 == 0, "whole fragments");
    static_assert(!SUMS || ROWS <= 4, "two columns of row sums for each 16 rows");

    float sums[ROWS][COLUMNS][2][4];
    // The sums of all rows: those of the i-th 16 rows are in columns 2i and 2i + 1, in which B's column of ones is 1.
    float row_sums[4];
    // The fragments of a step, and B's of the next one. A's are replaced one by one, which leaves registers for tiles of 96 rows.
    unsigned a[ROWS][4], b[2][COLUMNS][4];
    Fragments<LayoutA, A, ROWS, true> from_a;
    Fragments<LayoutB, B, COLUMNS, false> from_b;
    bool summing;

    __device__ Core(int warp_m, int warp_n, bool summing)
        : from_a(0, warp_m * T::WARP_M), from_b(LayoutA::BYTES, warp_n * T::WARP_N), summing(summing) {
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
#pragma unroll
                for (int j = 0; j < COLUMNS; j++) sums[i][j][0][e] = sums[i][j][1][e] = 0.0f;
                row_sums[e] = 0.0f;
            }
        }
    }

    __device__ void load_a(unsigned stage, int step) {
#pragma unroll
        for (int i = 0; i < ROWS; i++) from_a.load(a[i], stage, i, step);
    }

    __device__ void load_b(unsigned stage, int step, int buffer) {
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) from_b.load(b[buffer][j], stage, j, step);
    }

    // Multiplies A's fragments by B's in `buffer`. MORE: each fragment of A is replaced as soon as it is multiplied, by that of `step` in
    // `stage`.
    template <bool MORE>
    __device__ void multiply(int buffer, unsigned stage = 0, int step = 0) {
        if constexpr (SUMS) {
            if (summing) {
                constexpr unsigned ONE = PRECISION == 1 ? 0x3f800000 : 0x3f803f80;
#pragma unroll
                for (int i = 0; i < ROWS; i++) {
                    const unsigned one = threadIdx.x % 32 / 8 == i ? ONE : 0;
                    const unsigned ones[2] = {one, one};
                    mma(row_sums, a[i], ones);
                }
            }
        }
        const auto &right = b[buffer];
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
#pragma unroll
            for (int j = 0; j < COLUMNS; j++) {
                const unsigned columns[2][2] = {{right[j][0], right[j][1]}, {right[j][2], right[j][3]}};
                mma(sums[i][j][0], a[i], columns[0]);
                mma(sums[i][j][1], a[i], columns[1]);
            }
            if constexpr (MORE) from_a.load(a[i], stage, i, step);
        }
    }

    // Multiplies a whole tile without reading fragments of the next.
    __device__ void tile(unsigned stage) {
        load_a(stage, 0);
        load_b(stage, 0, 0);
        load_b(stage, 1, 1);
        multiply<true>(0, stage, 1);
        multiply<false>(1);
    }

    // Adds `value(column of the warp's tile)` to all sums of each column.
    template <class Value>
    __device__ void add_to_columns(Value value) {
#pragma unroll
        for (int j = 0; j < 2 * COLUMNS; j++) {
            const int column = 8 * j + threadIdx.x % 4 * 2;
            const float one = value(column), other = value(column + 1);
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                auto &sum = sums[i][j / 2][j % 2];
                sum[0] += one, sum[1] += other, sum[2] += one, sum[3] += other;
            }
        }
    }

    // The layout of a slice of 16 rows of floats. Half a warp writes eight floats of each of four rows at once. Eight floats of
    // padding let those rows begin in different quarters of the banks. Rows of 48 floats begin in alternate halves of the
    // banks: there neighbouring eights trade places in every second pair of rows (TRADES), without padding, since
    // readers go on from one row to the next within a pass.
    static constexpr bool TRADES = T::WARP_N % 32 == 16;
    static constexpr int PITCH = T::WARP_N + (TRADES ? 0 : 8);
    __device__ static int place(int row, int column) {
        return row * PITCH + (TRADES ? column ^ (row & 2) << 2 : column);
    }

    // Writes slice `i`.
    __device__ void write(int i, unsigned slice) const {
        const int row = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
        const unsigned even = slice + place(row, column) * sizeof(float);
        const unsigned odd = slice + place(row, column + 8) * sizeof(float);
#pragma unroll
        for (int j = 0; j < 2 * COLUMNS; j++) {
            const auto &value = sums[i][j / 2][j % 2];
            const unsigned at = (j % 2 == 0 ? even : odd) + j / 2 * 16 * sizeof(float);
            store_shared2(at, make_float2(value[0], value[1]));
            store_shared2(at + 8 * PITCH * sizeof(float), make_float2(value[2], value[3]));
        }
    }

    // Calls `use(number, sum, sum, sum, sum)` for slice `i`, with four of the lane's sums at a time.
    template <class Use>
    __device__ void each_four(int i, Use use) {
#pragma unroll
        for (int j = 0; j < 2 * COLUMNS; j++) {
            auto &sum = sums[i][j / 2][j % 2];
            use(j, sum[0], sum[1], sum[2], sum[3]);
        }
    }

    // Calls `store(row of the warp's tile, first column, values)` for all sums, neighbouring columns together.
    template <class Store>
    __device__ void each_sum(Store store) const {
        const int row = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
#pragma unroll
            for (int j = 0; j < 2 * COLUMNS; j++) {
                const auto &sum = sums[i][j / 2][j % 2];
                const float upper[2] = {sum[0], sum[1]}, lower[2] = {sum[2], sum[3]};
                store(16 * i + row, 8 * j + column, upper);
                store(16 * i + row + 8, 8 * j + column, lower);
            }
        }
    }

    // Calls `store(row of the warp's tile, sum)` for the sums of A's rows.
    template <class Store>
    __device__ void each_row_sum(Store store) const {
        if constexpr (SUMS) {
            const int lane = threadIdx.x % 32;
            if (summing && lane % 4 < ROWS) {
                store(lane % 4 * 16 + lane / 4, row_sums[0]);
                store(lane % 4 * 16 + lane / 4 + 8, row_sums[2]);
            }
        }
    }
};

#endif
