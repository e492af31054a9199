// The block's first convolution: filter and image in shared memory, and their product.
#pragma once

#include "layers.cuh"

// The extents. The image's rows are taken as of one channel: w, s, and what is horizontal have c as a factor.
// `src/ops/mlpconv/cuda.rs` fills it in.
struct Extents {
    int h, w, r, s, p, q, stride_y, stride_x, pad_y, pad_x, k1, k2, k3;
    // Pixels of an output image; tiles of one, and of all.
    int pixels, tiles_per_image, tiles;
    // The filter in squares of 4x4 taps, and the bytes of a line of w1 in shared memory.
    int squares_y, squares_x, w1_pitch;
    // The part of an image in shared memory: elements of a line, column 0's place in it; whether 16 bytes can be copied.
    int pitch, origin, whole;
    // A block's length in `partial`.
    int stride;
    Divisor by_q, by_tiles, by_chunks, by_squares_x;
};

// w1 to shared memory: the taps of each square of 4x4 one after the other, zeros where the filter ends. Lines of an odd
// number of chunks are never at the same bank.
__device__ __forceinline__ void load_filter(unsigned char *to, const Storage *w1, const Extents &e) {
    // Four taps side by side are a row of a square; a filter's rows one after the other are neighbours in memory.
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

// A tile: pixels [first, end) of image n, which are of output rows p and below.
struct PixelTile {
    int n, first, end, p;
};

// A block's tiles: every so many-th of all images'.
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

// Starts to bring the rows of the image that a tile's windows see to shared memory, zeros where there is no image.
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

// The convolution: its patches are read from the rows in shared memory, two neighbouring taps at a time. A step of the
// tensor core takes a square of 4x4 taps, so that its lanes' places in the image differ from square to square by the
// same distance for all of them.
template <int ROWS>
__device__ __forceinline__ void convolve(Values<ROWS> &to, unsigned image, unsigned filter, const PixelTile &tile,
                                         int first, const float *bias, const Extents &e) {
    const int lane = thread() % 32, y = lane % 4 / 2, x = lane % 2 * 2, below = 2 * e.pitch * sizeof(Storage);
    unsigned windows[ROWS][2];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            // Pixels beyond the last compute what that one does.
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
            // What is read beyond the filter's end may be anything, an infinity too, and has weights of zero.
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
