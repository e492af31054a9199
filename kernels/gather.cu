// A batch from a data set that lies on the device: gathered, resized and normalised. Images and labels are bytes.
//
//     x[b] = resize(images[order[*first + b]]) / 255     [n, height, width, channels]
//     y[b] = labels[order[*first + b]]                    `count` images and labels
//
// The resize is Pillow's, bit for bit, as in src/data/resize.rs: each row is filtered and rounded to whole grey levels,
// then each column, each channel by itself; weights have 22 fractional bits. Every position of an axis has the same number of taps (some of
// weight 0); the table of an axis of `to` positions holds the first input of each, then the weights of each.
//
// `gather` is for one channel, `gather_channels` for any number. Below a column is a value, not a pixel: a row of an
// image has width * channels columns, and the taps of a column lie `channels` columns apart.
//
// A block for a tile of an image's output: the source rows under the tile, filtered along their length, lie in shared
// memory (`source_rows` of them at most, `tile_stride` bytes apart, a multiple of 16), from where the columns are
// filtered. Divided by 255 are not pixels but the 256 grey levels there are.
// Grid: n * ceil(height / tile_rows) * ceil(columns / tile_columns), tile_columns a multiple of VECTOR or all columns.
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

struct Batch {
    Storage *x;
    unsigned char *y;
    const unsigned char *images, *labels;
    const unsigned *order, *first;
    unsigned count;
};

struct Tile {
    unsigned rows, columns, stride;
};

// `channels` is a constant of `gather`, so that it has none of the divisions. `scaled` is shared memory.
static __device__ __forceinline__ void gather_tile(const Batch &batch, const Axis &rows, const Axis &columns,
                                                   const Tile &tile, unsigned channels, Storage (&scaled)[256]) {
    extern __shared__ __align__(16) unsigned char filtered[];
    const unsigned height = rows.to, width = columns.to * channels, from_width = columns.from * channels;
    const unsigned tiles_down = (height + tile.rows - 1) / tile.rows;
    const unsigned tiles_across = (width + tile.columns - 1) / tile.columns;
    const unsigned left = blockIdx.x % tiles_across * tile.columns;
    const unsigned top = blockIdx.x / tiles_across % tiles_down * tile.rows;
    const unsigned b = blockIdx.x / tiles_across / tiles_down;
    const unsigned right = min(left + tile.columns, width), bottom = min(top + tile.rows, height);
    // An index that is none reads some image, and nothing beyond the last.
    const size_t index = min(batch.order[*batch.first + b], batch.count - 1);

    // A division, not a product with 1/255, which would round differently.
    for (unsigned grey = threadIdx.x; grey < 256; grey += THREADS) scaled[grey] = to_storage(float(grey) / 255.0f);
    if (threadIdx.x == 0 && left == 0 && top == 0) batch.y[b] = batch.labels[index];

    // First inputs do not decrease from one position to the next.
    const unsigned first_row = rows.first(top), end_row = rows.first(bottom - 1) + rows.taps;
    const unsigned tile_width = right - left;
    const unsigned char *image = batch.images + index * (size_t(rows.from) * from_width);
    for (unsigned i = threadIdx.x; i < (end_row - first_row) * tile_width; i += THREADS) {
        const unsigned row = i / tile_width, column = i % tile_width;
        const unsigned pixel = (left + column) / channels, channel = (left + column) % channels;
        const unsigned char *source =
            image + size_t(first_row + row) * from_width + columns.first(pixel) * channels + channel;
        const int *weights = columns.weights(pixel);
        int sum = 0;
        for (unsigned tap = 0; tap < columns.taps; tap++) sum += weights[tap] * int(source[tap * channels]);
        filtered[row * tile.stride + column] = grey_level(sum);
    }
    __syncthreads();

    Storage *output = batch.x + b * height * width;
    const unsigned packs = (tile_width + VECTOR - 1) / VECTOR;
    for (unsigned i = threadIdx.x; i < (bottom - top) * packs; i += THREADS) {
        const unsigned row = top + i / packs, column = i % packs * VECTOR;
        const unsigned char *above = filtered + (rows.first(row) - first_row) * tile.stride + column;
        const int *weights = rows.weights(row);
        Storage *to = output + row * width + left + column;
        if (column + VECTOR <= tile_width && width % VECTOR == 0) {
            Pack pack;
            blend(pack.lane, above, tile.stride, weights, rows.taps, scaled);
            store_pack(to, pack);
        } else {
            for (unsigned j = 0; j < VECTOR && column + j < tile_width; j++) {
                Storage pixel[1];
                blend(pixel, above + j, tile.stride, weights, rows.taps, scaled);
                to[j] = pixel[0];
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    gather(Storage *x, unsigned char *y, const unsigned char *images, const unsigned char *labels,
           const unsigned *order, const int *row_table, const int *column_table, const unsigned *first, unsigned count,
           unsigned from_height, unsigned from_width, unsigned height, unsigned width, unsigned row_taps,
           unsigned column_taps, unsigned tile_rows, unsigned tile_columns, unsigned tile_stride) {
    __shared__ Storage scaled[256];
    gather_tile({x, y, images, labels, order, first, count}, {row_table, from_height, height, row_taps},
                {column_table, from_width, width, column_taps}, {tile_rows, tile_columns, tile_stride}, 1, scaled);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    gather_channels(Storage *x, unsigned char *y, const unsigned char *images, const unsigned char *labels,
                    const unsigned *order, const int *row_table, const int *column_table, const unsigned *first,
                    unsigned count, unsigned from_height, unsigned from_width, unsigned height, unsigned width,
                    unsigned row_taps, unsigned column_taps, unsigned tile_rows, unsigned tile_columns,
                    unsigned tile_stride, unsigned channels) {
    __shared__ Storage scaled[256];
    gather_tile({x, y, images, labels, order, first, count}, {row_table, from_height, height, row_taps},
                {column_table, from_width, width, column_taps}, {tile_rows, tile_columns, tile_stride}, channels,
                scaled);
}
