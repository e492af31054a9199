// A batch from a data set that lies on the device: gathered, changed, resized and normalised. Images and labels are bytes.
//
//     x[b] = level(resize(change(images[order[*first + b]])))     [n, height, width, channels]
//     y[b] = labels[order[*first + b]]                             `count` images and labels
//
// A level is levels[channel][grey], [channels, 256] in fp32. `transforms[*first + b]` says what `change` does (src/data/augmentation.rs):
// of the mirrored image, pixel (row - down, column - right) goes to (row, column); black is what comes from outside, and what
// is erased. Without transforms images are resized as they are.
//
// The resize is Pillow's, bit for bit, as in src/data/resize.rs: each row is filtered and rounded to whole grey levels,
// then each column, each channel by itself; weights have 22 fractional bits. Every position of an axis has the same number of taps (some of
// weight 0); the table of an axis of `to` positions holds the first input of each, then the weights of each.
//
// `gather` is for one channel, `gather_channels` for any number; `_changed` are those with transforms. Below a column is a
// value, not a pixel: a row of an image has width * channels columns, and the taps of a column lie `channels` columns apart.
//
// A block for a tile of an image's output: the source rows under the tile, filtered along their length, lie in shared
// memory (`source_rows` of them at most, `tile_stride` bytes apart, a multiple of 16), from where the columns are
// filtered. Of one channel, the levels lie in shared memory too, as they are stored.
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

struct Batch {
    Storage *x;
    unsigned char *y;
    const unsigned char *images, *labels;
    const unsigned *order;
    const int *transforms;
    const float *levels;
    const unsigned *first;
    unsigned count;
};

constexpr unsigned TRANSFORM_WORDS = 7, LEVELS = 256;

// An image as it is.
struct Same {
    const unsigned char *image;
    unsigned width, channels;

    __device__ __forceinline__ Same(const unsigned char *image, const Batch &, unsigned, const Axis &, const Axis &columns,
                                    unsigned channels)
        : image(image), width(columns.from), channels(channels) {}

    __device__ __forceinline__ int operator()(unsigned row, unsigned column, unsigned channel) const {
        return image[(size_t(row) * width + column) * channels + channel];
    }
};

// An image as its transform changes it.
struct Changed {
    const unsigned char *image;
    unsigned height, width, channels;
    int mirrored, down, right;
    unsigned top, bottom, left, end;

    __device__ __forceinline__ Changed(const unsigned char *image, const Batch &batch, unsigned place, const Axis &rows,
                                       const Axis &columns, unsigned channels)
        : image(image), height(rows.from), width(columns.from), channels(channels) {
        const int *transform = batch.transforms + size_t(place) * TRANSFORM_WORDS;
        mirrored = transform[0];
        down = transform[1];
        right = transform[2];
        top = transform[3];
        bottom = transform[4];
        left = transform[5];
        end = transform[6];
    }

    __device__ __forceinline__ int operator()(unsigned row, unsigned column, unsigned channel) const {
        // What lies before the first is far beyond the last.
        const unsigned y = row - down, x = column - right;
        const bool erased = row >= top && row < bottom && column >= left && column < end;
        if (erased || y >= height || x >= width) return 0;
        return image[(size_t(y) * width + (mirrored ? width - 1 - x : x)) * channels + channel];
    }
};

// `WIDTH` neighbouring pixels of an output row, out of the filtered source rows from `above` down.
template <int WIDTH, typename Level>
static __device__ __forceinline__ void blend(Storage (&pixels)[WIDTH], const unsigned char *above, unsigned stride,
                                             const int *weights, unsigned taps, const Level &level) {
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
    for (int i = 0; i < WIDTH; i++) pixels[i] = level(grey_level(sum[i]), i);
}

struct Tile {
    unsigned rows, columns, stride;
};

// `Source` reads the image. Of ONE channel, `channels` is a constant, so that there are none of the divisions.
template <typename Source, bool ONE>
static __device__ __forceinline__ void gather_tile(const Batch &batch, const Axis &rows, const Axis &columns,
                                                   const Tile &tile, unsigned any_channels) {
    extern __shared__ __align__(16) unsigned char filtered[];
    __shared__ Storage stored[ONE ? LEVELS : 1];
    const unsigned channels = ONE ? 1 : any_channels;
    const unsigned height = rows.to, width = columns.to * channels, from_width = columns.from * channels;
    const unsigned tiles_down = (height + tile.rows - 1) / tile.rows;
    const unsigned tiles_across = (width + tile.columns - 1) / tile.columns;
    const unsigned left = blockIdx.x % tiles_across * tile.columns;
    const unsigned top = blockIdx.x / tiles_across % tiles_down * tile.rows;
    const unsigned b = blockIdx.x / tiles_across / tiles_down;
    const unsigned right = min(left + tile.columns, width), bottom = min(top + tile.rows, height);
    // An index that is none reads some image, and nothing beyond the last.
    const unsigned place = *batch.first + b;
    const size_t index = min(batch.order[place], batch.count - 1);

    if constexpr (ONE) {
        for (unsigned grey = threadIdx.x; grey < LEVELS; grey += THREADS) stored[grey] = to_storage(batch.levels[grey]);
    }
    if (threadIdx.x == 0 && left == 0 && top == 0) batch.y[b] = batch.labels[index];

    // First inputs do not decrease from one position to the next.
    const unsigned first_row = rows.first(top), end_row = rows.first(bottom - 1) + rows.taps;
    const unsigned tile_width = right - left;
    const Source source(batch.images + index * (size_t(rows.from) * from_width), batch, place, rows, columns, channels);
    for (unsigned i = threadIdx.x; i < (end_row - first_row) * tile_width; i += THREADS) {
        const unsigned row = i / tile_width, column = i % tile_width;
        const unsigned pixel = (left + column) / channels, channel = (left + column) % channels;
        const unsigned first = columns.first(pixel);
        const int *weights = columns.weights(pixel);
        int sum = 0;
        for (unsigned tap = 0; tap < columns.taps; tap++) sum += weights[tap] * source(first_row + row, first + tap, channel);
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
        const auto level = [&](unsigned grey, unsigned lane) {
            if constexpr (ONE) {
                return stored[grey];
            } else {
                return to_storage(batch.levels[(left + column + lane) % channels * LEVELS + grey]);
            }
        };
        if (column + VECTOR <= tile_width && width % VECTOR == 0) {
            Pack pack;
            blend(pack.lane, above, tile.stride, weights, rows.taps, level);
            store_pack(to, pack);
        } else {
            for (unsigned j = 0; j < VECTOR && column + j < tile_width; j++) {
                Storage pixel[1];
                blend(pixel, above + j, tile.stride, weights, rows.taps, [&](unsigned grey, unsigned) { return level(grey, j); });
                to[j] = pixel[0];
            }
        }
    }
}

#define GATHER(NAME, SOURCE, ONE)                                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                                      \
        NAME(Storage *x, unsigned char *y, const unsigned char *images, const unsigned char *labels, const unsigned *order,    \
             const int *transforms, const float *levels, const int *row_table, const int *column_table, const unsigned *first, \
             unsigned count, unsigned from_height, unsigned from_width, unsigned height, unsigned width, unsigned row_taps,    \
             unsigned column_taps, unsigned tile_rows, unsigned tile_columns, unsigned tile_stride, unsigned channels) {       \
        gather_tile<SOURCE, ONE>({x, y, images, labels, order, transforms, levels, first, count},                              \
                                 {row_table, from_height, height, row_taps}, {column_table, from_width, width, column_taps},   \
                                 {tile_rows, tile_columns, tile_stride}, channels);                                            \
    }

GATHER(gather, Same, true)
GATHER(gather_channels, Same, false)
GATHER(gather_changed, Changed, true)
GATHER(gather_channels_changed, Changed, false)
