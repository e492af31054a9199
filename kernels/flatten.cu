// Flattening: NHWC images become rows in PyTorch's order, [c, h, w], and back. An image is a matrix [h*w, c] here and [c, h*w]
// there, so flattening transposes it.
//
//     flatten_fprop   y[n, c*pixels + pixel] = x[n, pixel, c]
//     flatten_dgrad   dx[n, pixel, c] = dy[n, c*pixels + pixel]      (overwrites or adds)
//
// A block transposes a square of FLATTEN_TILE x FLATTEN_TILE elements through shared memory, so that neighbouring threads
// read and write neighbouring elements.
// Grid: n * ceil(pixels / FLATTEN_TILE) * ceil(c / FLATTEN_TILE). Block: THREADS.
#include "elementwise.cuh"

constexpr int STEP = THREADS / FLATTEN_TILE;
static_assert(STEP * FLATTEN_TILE == THREADS && FLATTEN_TILE % STEP == 0, "the block fills a tile in whole steps");

// to [n, columns, rows] = from [n, rows, columns]
static __device__ __forceinline__ void transpose(Storage *to, const Storage *from, unsigned rows, unsigned columns,
                                                 bool accumulate) {
    // The padding column spreads a column of the tile over all banks: no bank conflicts.
    __shared__ float tile[FLATTEN_TILE][FLATTEN_TILE + 1];
    const unsigned tiles_down = (rows + FLATTEN_TILE - 1) / FLATTEN_TILE;
    const unsigned tiles_across = (columns + FLATTEN_TILE - 1) / FLATTEN_TILE;
    const unsigned across = blockIdx.x % tiles_across * FLATTEN_TILE;
    const unsigned down = blockIdx.x / tiles_across % tiles_down * FLATTEN_TILE;
    const unsigned image = blockIdx.x / tiles_across / tiles_down * rows * columns;
    const unsigned x = threadIdx.x % FLATTEN_TILE, y = threadIdx.x / FLATTEN_TILE;

#pragma unroll
    for (int i = 0; i < FLATTEN_TILE; i += STEP) {
        if (down + y + i < rows && across + x < columns) {
            tile[y + i][x] = to_float(from[image + (down + y + i) * columns + across + x]);
        }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < FLATTEN_TILE; i += STEP) {
        if (across + y + i < columns && down + x < rows) {
            Storage *element = to + image + (across + y + i) * rows + down + x;
            const float value = tile[x][y + i];
            *element = to_storage(accumulate ? to_float(*element) + value : value);
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    flatten_fprop(Storage *y, const Storage *x, unsigned c, unsigned pixels) {
    transpose(y, x, pixels, c, false);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    flatten_dgrad(Storage *dx, const Storage *dy, unsigned c, unsigned pixels, int accumulate) {
    transpose(dx, dy, c, pixels, accumulate);
}
