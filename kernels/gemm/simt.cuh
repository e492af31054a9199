// fp32 arithmetic: every product is one fused multiply-add, in the order of k (of each of wgrad's groups).
//
// A thread computes 8 rows and WARP_N / 8 columns. K-major operands: it reads two or four steps of a row at a time, and
// its rows lie 4 apart (its columns 8), so that the lanes of a read have neighbouring rows. MN-major operands: it reads
// four neighbouring rows (columns) of a step at a time.
#pragma once

#include "tile.cuh"

#if PRECISION == 0

template <class T, Major A, Major B, bool SUMS>
struct Core {
    using LayoutA = Layout<A, T::M, T::BLOCK>;
    using LayoutB = Layout<B, T::N, T::BLOCK>;
    static constexpr int ROWS = 8, COLUMNS = T::WARP_N / 8;
    static constexpr int SLICES = 2;
    static_assert(T::WARP_M == 32 && COLUMNS % 4 == 0, "4 x 8 lanes");

    float sums[ROWS][COLUMNS];
    // The sum of A's row of this lane (db in wgrad).
    float row_sum;
    unsigned offset_a, offset_b;
    bool summing;

    // The lane's place in 4 rows of 8. The order of lanes is such that neighbours (and neighbours of neighbours) share a
    // row or a column: then the hardware serves 16-byte reads of half a warp at once.
    __device__ static int lane_row() { return (threadIdx.x >> 1 & 1) | (threadIdx.x >> 3 & 2); }
    __device__ static int lane_column() { return (threadIdx.x & 1) | (threadIdx.x >> 1 & 6); }

    __device__ Core(int warp_m, int warp_n, bool summing) : row_sum(0.0f), summing(summing) {
        const int row = warp_m * T::WARP_M, column = warp_n * T::WARP_N;
        if constexpr (A == Major::K) {
            offset_a = LayoutA::offset(row + lane_row(), 0);
        } else {
            offset_a = LayoutA::offset(0, row / 4 + lane_row());
        }
        if constexpr (B == Major::K) {
            offset_b = LayoutA::BYTES + LayoutB::offset(column + lane_column(), 0);
        } else {
            offset_b = LayoutA::BYTES + LayoutB::offset(0, column / 4 + lane_column());
        }
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
#pragma unroll
            for (int j = 0; j < COLUMNS; j++) sums[i][j] = 0.0f;
        }
    }

    // Steps of k in a read: as many as 128 registers allow, so that two blocks of 256 threads fit a multiprocessor.
    static constexpr int DEPTH = A == Major::K && B == Major::K ? 4 : 2;

    // Reads DEPTH steps of all rows of A, from step `k` of the tile.
    __device__ static void load_rows(float (&to)[DEPTH][ROWS], unsigned from, int k) {
        if constexpr (A == Major::K) {
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                // Four rows further, the swizzle has bit 1 of the chunk flipped.
                const unsigned at = (from ^ k * 4 ^ 32 * (i % 2)) + i * 4 * LayoutA::PITCH;
                if constexpr (DEPTH == 4) {
                    const float4 value = load_shared4(at);
                    to[0][i] = value.x, to[1][i] = value.y, to[2][i] = value.z, to[3][i] = value.w;
                } else {
                    const float2 value = load_shared2(at);
                    to[0][i] = value.x, to[1][i] = value.y;
                }
            }
        } else {
#pragma unroll
            for (int step = 0; step < DEPTH; step++) {
#pragma unroll
                for (int i = 0; i < ROWS; i += 4) {
                    const float4 value = load_shared4(from + (k + step) * LayoutA::PITCH + i * 4 * sizeof(float));
                    to[step][i] = value.x, to[step][i + 1] = value.y;
                    to[step][i + 2] = value.z, to[step][i + 3] = value.w;
                }
            }
        }
    }

    __device__ void tile(unsigned stage) {
        // Unrolled further, the compiler would read ahead until it spills registers.
#pragma unroll (A == Major::K && B == Major::MN ? 2 : 1)
        for (int k = 0; k < TILE_K; k += DEPTH) {
            float a[DEPTH][ROWS];
            load_rows(a, stage + offset_a, k);
            if constexpr (B == Major::K) {
                static_assert(A == Major::K, "four steps at once");
#pragma unroll
                for (int j = 0; j < COLUMNS; j++) {
                    // Eight rows further, the swizzle is the same.
                    const float4 b = load_shared4((stage + offset_b ^ k * 4) + j * 8 * LayoutB::PITCH);
#pragma unroll
                    for (int i = 0; i < ROWS; i++) {
                        sums[i][j] = fmaf(a[0][i], b.x, sums[i][j]);
                        sums[i][j] = fmaf(a[1][i], b.y, sums[i][j]);
                        sums[i][j] = fmaf(a[2][i], b.z, sums[i][j]);
                        sums[i][j] = fmaf(a[3][i], b.w, sums[i][j]);
                    }
                }
            } else {
#pragma unroll
                for (int step = 0; step < DEPTH; step++) {
#pragma unroll
                    for (int j = 0; j < COLUMNS; j += 4) {
                        const unsigned at = stage + offset_b + (k + step) * LayoutB::PITCH;
                        const float4 b = load_shared4(at + j * 8 * sizeof(float));
#pragma unroll
                        for (int i = 0; i < ROWS; i++) {
                            sums[i][j] = fmaf(a[step][i], b.x, sums[i][j]);
                            sums[i][j + 1] = fmaf(a[step][i], b.y, sums[i][j + 1]);
                            sums[i][j + 2] = fmaf(a[step][i], b.z, sums[i][j + 2]);
                            sums[i][j + 3] = fmaf(a[step][i], b.w, sums[i][j + 3]);
                        }
                    }
                }
            }
        }
        if constexpr (SUMS) {
            if (summing) {
                static_assert(A == Major::MN, "lines across the rows");
                const unsigned first = threadIdx.x / 32 / T::WARPS_N * T::WARP_M;
                const unsigned from = stage + (first + threadIdx.x % 32) * sizeof(float);
#pragma unroll 4
                for (int k = 0; k < TILE_K; k++) row_sum += __uint_as_float(load_shared(from + k * LayoutA::PITCH));
            }
        }
    }

    __device__ static int row(int i) {
        return A == Major::K ? lane_row() + 4 * i : lane_row() * 4 + i / 4 * 16 + i % 4;
    }

    // Adds `value(column of the warp's tile)` to all sums of each column.
    template <class Value>
    __device__ void add_to_columns(Value value) {
        static_assert(B == Major::K, "columns lie 8 apart");
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) {
            const float addend = value(lane_column() + 8 * j);
#pragma unroll
            for (int i = 0; i < ROWS; i++) sums[i][j] += addend;
        }
    }

    // The layout of a slice of 16 rows of floats. B K-major: a write is of eight neighbours of each of four rows, and
    // eight floats of padding let these rows begin in different quarters of the banks. B MN-major: a write is of 16
    // neighbours of each of two rows, next to each other or four apart, and in one of the two neighbouring sixteens trade
    // places.
    static constexpr int PITCH = T::WARP_N + (B == Major::K ? 8 : 0);
    __device__ static int place(int row, int column) {
        return row * PITCH + (B == Major::K ? column : column ^ (row >> (A == Major::K ? 0 : 2) & 1) << 4);
    }

    // Writes slice `slice_index`.
    __device__ void write(int slice_index, unsigned slice) const {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const auto &value = sums[4 * slice_index + i];
            if constexpr (B == Major::K) {
                const unsigned at = slice + place(row(i), lane_column()) * sizeof(float);
#pragma unroll
                for (int j = 0; j < COLUMNS; j++) store_shared(at + 8 * j * sizeof(float), value[j]);
            } else {
                const unsigned at = slice + place(row(i), lane_column() * 4) * sizeof(float);
#pragma unroll
                for (int j = 0; j < COLUMNS; j += 4) {
                    const float4 four = make_float4(value[j], value[j + 1], value[j + 2], value[j + 3]);
                    store_shared4(at + 8 * j * sizeof(float), four);
                }
            }
        }
    }

    // Calls `use(number, sum, sum, sum, sum)` for slice `slice_index`, with four of the thread's sums at a time.
    template <class Use>
    __device__ void each_four(int slice_index, Use use) {
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) {
            float *sum = sums[4 * slice_index + i / (COLUMNS / 4)] + i % (COLUMNS / 4) * 4;
            use(i, sum[0], sum[1], sum[2], sum[3]);
        }
    }

    // Calls `store(row of the warp's tile, column, value)` for all sums.
    template <class Store>
    __device__ void each_sum(Store store) const {
        static_assert(B == Major::K, "columns lie 8 apart");
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
#pragma unroll
            for (int j = 0; j < COLUMNS; j++) {
                const float value[1] = {sums[i][j]};
                store(row(i), lane_column() + 8 * j, value);
            }
        }
    }

    // Calls `store(row of the warp's tile, sum)` for the sum of A's row.
    template <class Store>
    __device__ void each_row_sum(Store store) const {
        if constexpr (SUMS) {
            if (summing) store(threadIdx.x % 32, row_sum);
        }
    }
};

#endif
