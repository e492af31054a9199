// dw and db of the fused block's 1x1 convolutions, divided among the warps of a block.
//
// Each warp has 48 x 24 elements of dw3 and of dw2 in registers, over all pixels of the block. The factors go through shared
// memory, half a tile at a time; just that fits: 99 KiB, the most that a block has on compute capability 8.6 and 8.9.
#pragma once

#include "layers.cuh"

// A warp's share: 48 rows and 24 columns of dw, and, in three of four warps, 16 of those rows of db.
struct WeightGradient {
    static constexpr int ROWS = 3, COLUMNS = 3;
    float sums[ROWS][COLUMNS][4], row_sums[4];

    __device__ WeightGradient() {
#pragma unroll
        for (int element = 0; element < 4; element++) {
#pragma unroll
            for (int i = 0; i < ROWS * COLUMNS; i++) sums[i / COLUMNS][i % COLUMNS][element] = 0.0f;
            row_sums[element] = 0.0f;
        }
    }

    // Adds leftᵀ · right over half a tile's pixels.
    __device__ void add(unsigned left, unsigned right) {
        const int lane = thread() % 32, warp = thread() / 32, line = lane % 8;
        const int first_row = warp / 4 * 6, first_column = warp % 4 * 3;
        const int inner = lane >> 3 & 1, outer = lane >> 4;
        unsigned rows[ROWS];
#pragma unroll
        for (int i = 0; i < ROWS; i++) rows[i] = left + swizzled(8 * outer + line, first_row + 2 * i + inner);
        const unsigned two = right + swizzled(8 * inner + line, first_column + outer);
        // The third 8 columns, read for two steps at once.
        const unsigned one = right + swizzled(lane, first_column + 2);
#pragma unroll 1
        for (int steps = 0; steps < BACKWARD_PIXELS / 2 / 32; steps++) {
            unsigned last[4];
            load_matrices_transposed(last, one + steps * 32 * LINE);
#pragma unroll
            for (int step = 0; step < 2; step++) {
                const unsigned down = (2 * steps + step) * 16 * LINE;
                unsigned a[ROWS][4], b[4];
#pragma unroll
                for (int i = 0; i < ROWS; i++) load_matrices_transposed(a[i], rows[i] + down);
                load_matrices_transposed(b, two + down);
                const unsigned columns[COLUMNS][2] = {
                    {b[0], b[1]}, {b[2], b[3]}, {last[2 * step], last[2 * step + 1]}};
#pragma unroll
                for (int i = 0; i < ROWS; i++) {
#pragma unroll
                    for (int j = 0; j < COLUMNS; j++) mma(sums[i][j], a[i], columns[j]);
                    constexpr unsigned ones[2] = {0x3f803f80, 0x3f803f80};
                    if (warp % 4 == i) mma(row_sums, a[i], ones);
                }
            }
        }
    }

    __device__ void store(float *dw, float *db, int rows, int columns) const {
        const int lane = thread() % 32, warp = thread() / 32;
        const int first_row = warp / 4 * 48 + lane / 4, first_column = warp % 4 * 24 + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int row = first_row + 16 * i + 8 * half;
                if (row < rows) {
#pragma unroll
                    for (int j = 0; j < COLUMNS; j++) {
                        const int column = first_column + 8 * j;
                        const float2 value = make_float2(sums[i][j][2 * half], sums[i][j][2 * half + 1]);
                        if (column < columns) *reinterpret_cast<float2 *>(dw + row * columns + column) = value;
                    }
                    if (warp % 4 == i && lane % 4 == 0) db[row] = row_sums[2 * half];
                }
            }
        }
    }
};

// Stores 16 pixels of a warp to their lines of a tile of half a block's pixels.
__device__ __forceinline__ void store_lines(unsigned tile, const Values<1> &values) {
    const int lane = thread() % 32, line = thread() / 32 % (WARPS / 2) * 16 + lane / 4;
#pragma unroll
    for (int group = 0; group < GROUPS; group++) {
        const unsigned to = tile + swizzled(line, 4 * group + lane % 4);
        store_shared4(to, values.chunk(0, group, 0));
        store_shared4(to + 8 * LINE, values.chunk(0, group, 1));
    }
}
