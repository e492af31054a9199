// A batch from a data set that lies on the device: gathered, resized and normalised. Images and labels are bytes.
//
//     x[b] = resize(images[order[*first + b]]) / 255     [n, height, width], one channel
//     y[b] = labels[order[*first + b]]                    `count` images and labels
//
// The resize is Pillow's, bit for bit, as in src/data/resize.rs: each row is filtered and rounded to whole grey levels,
// then each column; weights have 22 fractional bits. Every position of an axis has the same number of taps (some of
// weight 0); the table of an axis of `to` positions holds the first input of each, then the weights of each.
//
// A block for a tile of an image's output: the source rows under the tile, filtered along their length, lie in shared
// memory (`source_rows` of them at most, `tile_stride` bytes apart, a multiple of 16), from where the columns are
// filtered. Divided by 255 are not pixels but the 256 grey levels there are.
// Grid: n * ceil(height / tile_rows) * ceil(width / tile_columns), tile_columns a multiple of VECTOR or all of width.
// Block: THREADS. Dynamic shared memory: source_rows * tile_stride bytes.
// Everything is overwritten.
#include "bytes.cuh"

static_assert(THREADS >= 32 && THREADS % 32 == 0, "whole warps");

constexpr int FRACTION = 22;

// An axis: `to` output positions of `taps` inputs each, out of `from`.
struct Axis {
    const int *table;
    unsigned from, to, taps;

    __device__ __forceinline__ unsigned first(unsigned position) const { return table[position]; }
    __device__ __forceinline__ const int *weights(unsigned position) const { return table + to + position * taps; }
};

static __device__ __forceinline__ unsigned grey_level(int sum) {
    return min((sum + (1 << (FRACTION - 1))) >> FRACTION, 255);
}

// `WIDTH` neighbouring pixels of an output row, out of the filtered source rows from `above` down.
template <int WIDTH>
static __device__ __forceinline__ void blend(Storage (&pixels)[WIDTH], const unsigned char *above, unsigned stride,
                                             const int *weights, unsigned taps, const Storage *scaled) {
    int sum[WIDTH];
#pragma unroll
    for (int i = 0; i < WIDTH; i++) sum[i] = 0;
    for (unsigned tap = 0; tap < taps; tap++) {
        const int weight = weights[tap];
        unsigned grey[WIDTH];
        load_bytes(above + tap * stride, grey);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) sum[i] += weight * int(grey[i]);
    }
#pragma unroll
    for (int i = 0; i < WIDTH; i++) pixels[i] = scaled[grey_level(sum[i])];
}

extern "C" __global__ void __launch_bounds__(THREADS)
    gather(Storage *x, unsigned char *y, const unsigned char *images, const unsigned char *labels,
           const unsigned *order, const int *row_table, const int *column_table, const unsigned *first, unsigned count,
           unsigned from_height, unsigned from_width, unsigned height, unsigned width, unsigned row_taps,
           unsigned column_taps, unsigned tile_rows, unsigned tile_columns, unsigned tile_stride) {
    extern __shared__ __align__(16) unsigned char filtered[];
    __shared__ Storage scaled[256];
    const Axis rows{row_table, from_height, height, row_taps}, columns{column_table, from_width, width, column_taps};
    const unsigned tiles_down = (height + tile_rows - 1) / tile_rows;
    const unsigned tiles_across = (width + tile_columns - 1) / tile_columns;
    const unsigned left = blockIdx.x % tiles_across * tile_columns;
    const unsigned top = blockIdx.x / tiles_across % tiles_down * tile_rows;
    const unsigned b = blockIdx.x / tiles_across / tiles_down;
    const unsigned right = min(left + tile_columns, width), bottom = min(top + tile_rows, height);
    // An index that is none reads some image, and nothing beyond the last.
    const size_t index = min(order[*first + b], count - 1);

    // A division, not a product with 1/255, which would round differently.
    for (unsigned grey = threadIdx.x; grey < 256; grey += THREADS) scaled[grey] = to_storage(float(grey) / 255.0f);
    if (threadIdx.x == 0 && left == 0 && top == 0) y[b] = labels[index];

    // First inputs do not decrease from one position to the next.
    const unsigned first_row = rows.first(top), end_row = rows.first(bottom - 1) + row_taps;
    const unsigned tile_width = right - left;
    const unsigned char *image = images + index * (size_t(from_height) * from_width);
    for (unsigned i = threadIdx.x; i < (end_row - first_row) * tile_width; i += THREADS) {
        const unsigned row = i / tile_width, column = i % tile_width;
        const unsigned char *source = image + size_t(first_row + row) * from_width + columns.first(left + column);
        const int *weights = columns.weights(left + column);
        int sum = 0;
        for (unsigned tap = 0; tap < column_taps; tap++) sum += weights[tap] * int(source[tap]);
        filtered[row * tile_stride + column] = grey_level(sum);
    }
    __syncthreads();

    Storage *output = x + b * height * width;
    const unsigned packs = (tile_width + VECTOR - 1) / VECTOR;
    for (unsigned i = threadIdx.x; i < (bottom - top) * packs; i += THREADS) {
        const unsigned row = top + i / packs, column = i % packs * VECTOR;
        const unsigned char *above = filtered + (rows.first(row) - first_row) * tile_stride + column;
        const int *weights = rows.weights(row);
        Storage *to = output + row * width + left + column;
        if (column + VECTOR <= tile_width && width % VECTOR == 0) {
            Pack pack;
            blend(pack.lane, above, tile_stride, weights, row_taps, scaled);
            store_pack(to, pack);
        } else {
            for (unsigned j = 0; j < VECTOR && column + j < tile_width; j++) {
                Storage pixel[1];
                blend(pixel, above + j, tile_stride, weights, row_taps, scaled);
                to[j] = pixel[0];
            }
        }
    }
}
