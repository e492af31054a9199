// The first convolution of the fused block: filter and image rows in shared memory, and their product.
//
// The rows of the image under a tile's windows lie in shared memory as rows of one channel (c channels are a factor of
// everything horizontal). A step of the tensor core takes a square of 4x4 taps: lanes read pairs of neighbouring taps, at
// places that differ by constants. 11x11 taps are 9 squares, 144 taps instead of 121. The next tile's rows are copied
// while the other layers of this tile are computed.
#pragma once

#include "layers.cuh"

// Extents. The image's rows are taken as of one channel: w, s, horizontal stride and padding have c as a factor.
// `src/ops/mlpconv/cuda.rs` fills it in.
struct Extents {
    int h, w, r, s, p, q, stride_y, stride_x, pad_y, pad_x, k1, k2, k3;
    // Pixels of an output image; tiles of one image, and of all.
    int pixels, tiles_per_image, tiles;
    // The filter in squares of 4x4 taps, and the bytes of a line of w1 in shared memory.
    int squares_y, squares_x, w1_pitch;
    // Lines of the image in shared memory: their elements, the place of column 0, and whether they are copied 16 bytes at
    // a time.
    int pitch, origin, whole;
    // The floats of a block in `partial`.
    int stride;
    Divisor by_q, by_tiles, by_chunks, by_squares_x;
};

// Loads w1 to shared memory: the taps of each square of 4x4 one after the other, zeros beyond the filter. Lines have an
// odd number of 16-byte chunks, so neighbouring lines start in different banks.
__device__ __forceinline__ void load_filter(unsigned char *to, const Storage *w1, const Extents &e) {
    // Four neighbouring taps are a row of a square; consecutive rows of a filter are neighbours in memory.
    const int rows = e.squares_y * e.squares_x * 4;
#pragma unroll 2
    for (int at = thread(); at < CHANNELS * rows; at += BLOCK) {
        const int line = at / rows, row = at - line * rows, from = channel(line);
        int x;
        const int y = divide(row / 4, e.by_squares_x, x) * 4 + row % 4;
        ushort4 taps = make_ushort4(0, 0, 0, 0);
        if (from < e.k1 && y < e.r) {
            const unsigned short *source = reinterpret_cast<const unsigned short *>(w1) + (from * e.r + y) * e.s + 4 * x;
            const int left = e.s - 4 * x;
            taps.x = source[0];
            if (left > 1) taps.y = source[1];
            if (left > 2) taps.z = source[2];
            if (left > 3) taps.w = source[3];
        }
        *reinterpret_cast<ushort4 *>(to + line * e.w1_pitch + row * 8) = taps;
    }
}

// A tile: pixels [first, end) of image n, the first of which is in output row p.
struct PixelTile {
    int n, first, end, p;
};

// The tiles of a block: every `gridDim.x`-th of all images' tiles.
template <int PIXELS>
struct ImageTiles {
    const Extents &e;
    int at;

    __device__ ImageTiles(const Extents &e) : e(e), at(blockIdx.x) {}
    __device__ bool more() const { return at < e.tiles; }
    __device__ void next() { at += gridDim.x; }
    __device__ PixelTile operator*() const {
        int of_image;
        const int n = divide(at, e.by_tiles, of_image), first = of_image * PIXELS;
        return {n, first, min(first + PIXELS, e.pixels), quotient(first, e.by_q)};
    }
};

// Starts the copies of the image's rows under a tile's windows to shared memory; zeros outside of the image.
__device__ __forceinline__ void load_image(unsigned to, const Storage *x, const PixelTile &tile, const Extents &e) {
    const int rows = (quotient(tile.end - 1, e.by_q) - tile.p) * e.stride_y + 4 * e.squares_y;
    const int top = tile.p * e.stride_y - e.pad_y, chunks = e.pitch / 8;
    const Storage *image = x + static_cast<size_t>(tile.n) * e.h * e.w;
    for (int at = thread(); at < rows * chunks; at += BLOCK) {
        int chunk;
        const int row = top + divide(at, e.by_chunks, chunk), column = 8 * chunk - e.origin;
        const bool inside = static_cast<unsigned>(row) < static_cast<unsigned>(e.h);
        const Storage *from = image + row * e.w + column;
        if (e.whole) {
            copy_async(to + at * 16, from, inside && static_cast<unsigned>(column) < static_cast<unsigned>(e.w));
        } else {
            Chunk values;
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const bool there = inside && static_cast<unsigned>(column + i) < static_cast<unsigned>(e.w);
                values.set(i, there ? from[i] : to_storage(0.0f));
            }
            store_shared4(to + at * 16, values.bits);
        }
    }
}

// The convolution. Patches are read from the rows in shared memory, two neighbouring taps at a time. From one square of taps to
// the next all lanes' places in the image move by the same distance.
template <int ROWS>
__device__ __forceinline__ void convolve(Values<ROWS> &to, unsigned image, unsigned filter, const PixelTile &tile,
                                         int first, const float *bias, const Extents &e) {
    const int lane = thread() % 32, y = lane % 4 / 2, x = lane % 2 * 2, below = 2 * e.pitch * sizeof(Storage);
    unsigned windows[ROWS][2];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            // Pixels beyond the last one compute the last one again.
            int q;
            const int p = divide(min(first + 16 * i + 8 * half + lane / 4, tile.end - 1), e.by_q, q);
            const int row = (p - tile.p) * e.stride_y + y, column = q * e.stride_x + e.origin - e.pad_x + x;
            windows[i][half] = image + (row * e.pitch + column) * sizeof(Storage);
        }
    }
    float sums[ROWS][GROUPS][4][4];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int j = 0; j < 4 * GROUPS; j++) {
#pragma unroll
            for (int element = 0; element < 4; element++) sums[i][j / 4][j % 4][element] = 0.0f;
        }
    }
    unsigned weights = filter + (lane / 16 * 8 + lane % 8) * e.w1_pitch + (lane / 8 % 2) * 16;
#pragma unroll 1
    for (int row = y; row < 4 * e.squares_y; row += 4) {
#pragma unroll 1
        for (int square = 0; square < e.squares_x; square++) {
            // Values beyond the filter's end have weights of zero, but may be infinite: the mask makes them zeros.
            const int left = e.s - 4 * square - x;
            const unsigned mask = left > 1 ? 0xffffffff : left == 1 ? 0x0000ffff : 0;
            const unsigned upper = row < e.r ? mask : 0, lower = row + 2 < e.r ? mask : 0;
            unsigned a[ROWS][4];
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const unsigned at = windows[i][half] + square * (4 * sizeof(Storage));
                    a[i][half] = load_shared(at) & upper;
                    a[i][2 + half] = load_shared(at + below) & lower;
                }
            }
#pragma unroll
            for (int pair = 0; pair < 2 * GROUPS; pair++) {
                unsigned b[4];
                load_matrices(b, weights + pair * 16 * e.w1_pitch);
                const unsigned columns[2][2] = {{b[0], b[1]}, {b[2], b[3]}};
#pragma unroll
                for (int i = 0; i < ROWS; i++) {
                    mma(sums[i][pair / 2][pair % 2 * 2], a[i], columns[0]);
                    mma(sums[i][pair / 2][pair % 2 * 2 + 1], a[i], columns[1]);
                }
            }
            weights += 32;
        }
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            windows[i][0] += 2 * below;
            windows[i][1] += 2 * below;
        }
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int group = 0; group < GROUPS; group++) activate(to, i, group, sums[i][group], bias, e.k1, true);
    }
}
