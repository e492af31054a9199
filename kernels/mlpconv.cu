// The block of a network in network: a convolution and two 1x1 convolutions, a ReLU after each, in one kernel each way.
// What is between the three never leaves the multiprocessor; the backward kernel computes it again. bf16 alone, for
// images of one channel or a few; `src/ops/mlpconv/cuda.rs` says which shapes, and composes all others.
//
//     a1 = relu(patches of x · w1ᵀ + b1)      dz2 = dy · w3, zeroed where a2 is not positive     dw3 = dyᵀ · a2, db3 = Σ dy
//     a2 = relu(a1 · w2ᵀ + b2)                dz1 = dz2 · w2, zeroed where a1 is not positive    dw2 = dz2ᵀ · a1, db2 = Σ dz2
//     y = act(a2 · w3ᵀ + b3)                  (dw1, db1 and dx: conv2d's kernels, from dz1)
//
// a1, a2, dz2 and dz1 are rounded to bf16 as if they were stored, so masks and factors are those of the composition.
//
//     mlpconv_fprop      y, x, w1, b1, w2, b2, w3, b3, relu, extents            overwrites y
//     mlpconv_backward   dz1, partial, x, dy, w1, b1, w2, b2, w3, extents       overwrites dz1; partial[block]: dw3, db3,
//                                                                               dw2, db2
//
// Memory: x, y, dy, dz1 NHWC and w KRSC in Storage; biases and partial results in float. Grid: as many blocks as run at
// once; each keeps the weights in shared memory and goes over tiles of one image's pixels, 32 a warp in fprop, 16
// backward. Block: MLPCONV_WARPS warps.
#include "gemm/gemm.cuh"

#if PRECISION == 2

constexpr int CHANNELS = MLPCONV_CHANNELS, WARPS = MLPCONV_WARPS, BLOCK = 32 * WARPS;
// Steps of the tensor core over all channels, and groups of 32 channels, of which each lane of four has 8.
constexpr int K_STEPS = CHANNELS / 16, GROUPS = CHANNELS / 32;
// Lines of 96 channels in shared memory, their chunks permuted so that `ldmatrix` meets no bank twice.
constexpr int LINE = CHANNELS * sizeof(Storage), SQUARE = CHANNELS * LINE;
static_assert(CHANNELS == 96 && WARPS == 8, "lines of three quarters of 256 bytes; the warps' shares of dw");

// Read anew each time, so that no registers hold what follows from it from one part of a tile to the next.
__device__ __forceinline__ int thread() {
    int x;
    asm volatile("mov.u32 %0, %%tid.x;\n" : "=r"(x));
    return x;
}

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

__device__ __forceinline__ int swizzled(int line, int chunk) { return line * LINE + (chunk ^ (line >> 1 & 3)) * 16; }

// Channels lie in shared memory's weights in the order in which fragments have them: lane t of four has elements 2t and
// 2t + 1 of each 8, which are made 8 neighbouring channels of four such 8. So registers go to memory, and come from there,
// in 16 bytes, and the sums of one layer are the next one's factors as they are.
__device__ __forceinline__ int channel(int place) {
    return place / 32 * 32 + place % 8 / 2 * 8 + place / 8 % 4 * 2 + place % 2;
}

// What a warp has of ROWS times 16 pixels: the fragments of A for the next layer.
template <int ROWS>
struct Values {
    unsigned words[ROWS][K_STEPS][4];

    // A lane's 8 channels of group `group`, of pixel lane / 4 or 8 below it.
    __device__ uint4 chunk(int i, int group, int half) const {
        return make_uint4(words[i][2 * group][half], words[i][2 * group][2 + half], words[i][2 * group + 1][half],
                          words[i][2 * group + 1][2 + half]);
    }
    __device__ void set_chunk(int i, int group, int half, uint4 value) {
        words[i][2 * group][half] = value.x;
        words[i][2 * group][2 + half] = value.y;
        words[i][2 * group + 1][half] = value.z;
        words[i][2 * group + 1][2 + half] = value.w;
    }
};

__device__ __forceinline__ unsigned pack(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    unsigned bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
}

__device__ __forceinline__ float rectify(float value) { return value < 0.0f ? 0.0f : value; }

// Keeps the halves of `value` whose halves of `mask` are positive.
__device__ __forceinline__ unsigned masked(unsigned value, unsigned mask) {
    const unsigned low = __uint_as_float(mask << 16) > 0.0f ? 0x0000ffff : 0;
    const unsigned high = __uint_as_float(mask & 0xffff0000) > 0.0f ? 0xffff0000 : 0;
    return value & (low | high);
}

// The lane's 8 biases of a group; channels that there are not have none.
__device__ __forceinline__ void load_bias(float (&to)[8], const float *bias, int channel, int channels) {
    const bool inside = channel < channels;
    const float4 none = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    const float4 low = inside ? *reinterpret_cast<const float4 *>(bias + channel) : none;
    const float4 high = inside ? *reinterpret_cast<const float4 *>(bias + channel + 4) : none;
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}

// A group's sums of 16 pixels plus bias, rectified and rounded. Channels beyond the last are zero, whatever their sums,
// which may be of an infinite x times zero.
template <int ROWS>
__device__ __forceinline__ void activate(Values<ROWS> &to, int i, int group, const float (&sums)[4][4],
                                         const float *bias, int channels, bool relu) {
    const int first = 32 * group + thread() % 4 * 8;
    float added[8];
    load_bias(added, bias, first, channels);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        unsigned words[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float low = sums[j][2 * half] + added[2 * j], high = sums[j][2 * half + 1] + added[2 * j + 1];
            if (relu) low = rectify(low), high = rectify(high);
            words[j] = first < channels ? pack(low, high) : 0;
        }
        to.set_chunk(i, group, half, make_uint4(words[0], words[1], words[2], words[3]));
    }
}

// Where a lane reads fragments of B from a square of weights.
struct Square {
    // Of pairs of chunks with an even and with an odd number.
    unsigned even, odd;

    // TRANSPOSED: lines are steps of k.
    __device__ Square(unsigned weights, bool transposed) {
        const int lane = thread() % 32, inner = lane >> 3 & 1, outer = lane >> 4;
        const int line = 8 * (transposed ? inner : outer) + lane % 8, chunk = transposed ? outer : inner;
        even = weights + swizzled(line, chunk);
        odd = even ^ 32;
    }
    __device__ unsigned at(int lines, int chunks) const {
        return (chunks % 2 == 0 ? even : odd) + chunks / 2 * 64 + lines * 16 * LINE;
    }
};

// One group of 32 columns of a product with a square of weights.
template <bool TRANSPOSED, int ROWS>
__device__ __forceinline__ void multiply(float (&sums)[ROWS][4][4], const Values<ROWS> &a, const Square &weights,
                                         int group) {
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) sums[i][j][0] = sums[i][j][1] = sums[i][j][2] = sums[i][j][3] = 0.0f;
    }
#pragma unroll
    for (int k = 0; k < K_STEPS; k++) {
#pragma unroll
        for (int pair = 0; pair < 2; pair++) {
            unsigned b[4];
            if constexpr (TRANSPOSED) {
                load_matrices_transposed(b, weights.at(k, 2 * group + pair));
            } else {
                load_matrices(b, weights.at(2 * group + pair, k));
            }
            const unsigned columns[2][2] = {{b[0], b[1]}, {b[2], b[3]}};
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                mma(sums[i][2 * pair], a.words[i][k], columns[0]);
                mma(sums[i][2 * pair + 1], a.words[i][k], columns[1]);
            }
        }
    }
}

// A layer forward.
template <int ROWS>
__device__ __forceinline__ void layer(Values<ROWS> &to, const Values<ROWS> &from, const Square &weights,
                                      const float *bias, int channels, bool relu) {
#pragma unroll
    for (int group = 0; group < GROUPS; group++) {
        float sums[ROWS][4][4];
        multiply<false>(sums, from, weights, group);
#pragma unroll
        for (int i = 0; i < ROWS; i++) activate(to, i, group, sums[i], bias, channels, relu);
    }
}

// A layer backward: the gradient of its input, zeroed where the input is not positive.
template <int ROWS>
__device__ __forceinline__ void layer_back(Values<ROWS> &to, const Values<ROWS> &from, const Square &weights,
                                           const Values<ROWS> &input) {
#pragma unroll
    for (int group = 0; group < GROUPS; group++) {
        float sums[ROWS][4][4];
        multiply<true>(sums, from, weights, group);
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const int k = 2 * group + j / 2, word = j % 2 * 2 + half;
                    const unsigned value = pack(sums[i][j][2 * half], sums[i][j][2 * half + 1]);
                    to.words[i][k][word] = masked(value, input.words[i][k][word]);
                }
            }
        }
    }
}

// w2 or w3 to shared memory, lines and columns in the fragments' order, zeros beyond the last channels.
__device__ __forceinline__ void load_square(unsigned char *to, const Storage *weights, int lines, int columns) {
    for (int at = thread(); at < CHANNELS * CHANNELS / 8; at += BLOCK) {
        const int line = at / (CHANNELS / 8), chunk = at % (CHANNELS / 8), row = channel(line);
        uint4 words = make_uint4(0, 0, 0, 0);
        if (row < lines && 8 * chunk < columns) {
            words = *reinterpret_cast<const uint4 *>(weights + row * columns + 8 * chunk);
        }
        const unsigned all[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            *reinterpret_cast<unsigned *>(to + swizzled(line, chunk / 4 * 4 + i) + chunk % 4 * 4) = all[i];
        }
    }
}

// w1 to shared memory: the taps of each square of 4x4 one after the other, zeros where the filter ends. Lines of an odd
// number of chunks are never at the same bank.
__device__ __forceinline__ void load_filter(unsigned char *to, const Storage *w1, const Extents &e) {
    const int squares = e.squares_y * e.squares_x, items = CHANNELS * squares * 4;
#pragma unroll 2
    for (int at = thread(); at < items; at += BLOCK) {
        // Four taps side by side.
        const int line = at % CHANNELS, row = at / CHANNELS, from = channel(line);
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
    __device__ PixelTile(int tile, int size, const Extents &e) {
        int of_image, rest;
        n = divide(tile, e.by_tiles, of_image);
        first = of_image * size;
        end = min(first + size, e.pixels);
        p = divide(first, e.by_q, rest);
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

// A lane's chunks of `values`, to rows of a tensor of `channels` channels.
template <int ROWS>
__device__ __forceinline__ void store_values(Storage *to, const Values<ROWS> &values, const PixelTile &tile, int first,
                                             int channels, const Extents &e) {
    const int lane = thread() % 32;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int pixel = first + 16 * i + 8 * half + lane / 4;
            Storage *row = to + static_cast<size_t>(tile.n * e.pixels + pixel) * channels;
#pragma unroll
            for (int group = 0; group < GROUPS; group++) {
                const int channel = 32 * group + lane % 4 * 8;
                if (pixel < tile.end && channel < channels) {
                    *reinterpret_cast<uint4 *>(row + channel) = values.chunk(i, group, half);
                }
            }
        }
    }
}

constexpr int FPROP_ROWS = 2, FPROP_PIXELS = 16 * FPROP_ROWS * WARPS;
constexpr int BACKWARD_PIXELS = 16 * WARPS;
static_assert(FPROP_PIXELS == MLPCONV_FPROP_PIXELS && BACKWARD_PIXELS == MLPCONV_BACKWARD_PIXELS, "launches agree");

// Shared memory: w2, w3, backward two tiles of half a block's pixels, w1, the image's rows.
extern "C" __global__ void __launch_bounds__(BLOCK, 1)
    mlpconv_fprop(Storage *y, const Storage *x, const Storage *w1, const float *b1, const Storage *w2, const float *b2,
                  const Storage *w3, const float *b3, int relu, const __grid_constant__ Extents e) {
    const unsigned shared = shared_address(shared_memory);
    const unsigned filter = shared + 2 * SQUARE, image = filter + CHANNELS * e.w1_pitch;
    load_image(image, x, PixelTile(blockIdx.x, FPROP_PIXELS, e), e);
    commit_copies();
    load_square(shared_memory, w2, e.k2, e.k1);
    load_square(shared_memory + SQUARE, w3, e.k3, e.k2);
    load_filter(shared_memory + 2 * SQUARE, w1, e);
    const Square second(shared, false), third(shared + SQUARE, false);
#pragma unroll 1
    for (int at = blockIdx.x; at < e.tiles; at += gridDim.x) {
        const PixelTile tile(at, FPROP_PIXELS, e);
        const int first = tile.first + thread() / 32 * 16 * FPROP_ROWS;
        Values<FPROP_ROWS> even, odd;
        wait_copies<0>();
        __syncthreads();
        convolve(even, image, filter, tile, first, b1, e);
        // The next image arrives while the other two layers are computed.
        __syncthreads();
        if (at + gridDim.x < e.tiles) load_image(image, x, PixelTile(at + gridDim.x, FPROP_PIXELS, e), e);
        commit_copies();
        layer(odd, even, second, b2, e.k2, true);
        layer(even, odd, third, b3, e.k3, relu);
        store_values(y, even, tile, first, e.k3, e);
    }
}

// A warp's share of a dw: 48 rows, 24 columns; and of db, 16 of those rows in three of four warps.
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
        // The third 8 columns, of two steps at once.
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

// 16 pixels of a warp to their lines of a tile of half a block's.
__device__ __forceinline__ void store_lines(unsigned tile, const Values<1> &values) {
    const int lane = thread() % 32, line = thread() / 32 % (WARPS / 2) * 16 + lane / 4;
#pragma unroll
    for (int group = 0; group < GROUPS; group++) {
        const unsigned to = tile + swizzled(line, 4 * group + lane % 4);
        store_shared4(to, values.chunk(0, group, 0));
        store_shared4(to + 8 * LINE, values.chunk(0, group, 1));
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK, 1)
    mlpconv_backward(Storage *dz1, float *partial, const Storage *x, const Storage *dy, const Storage *w1,
                     const float *b1, const Storage *w2, const float *b2, const Storage *w3,
                     const __grid_constant__ Extents e) {
    constexpr int HALF = BACKWARD_PIXELS / 2 * LINE;
    const unsigned shared = shared_address(shared_memory);
    const unsigned left = shared + 2 * SQUARE, right = left + HALF, filter = right + HALF;
    const unsigned image = filter + CHANNELS * e.w1_pitch;
    const int lane = thread() % 32;
    const bool later = thread() / 32 >= WARPS / 2;
    load_image(image, x, PixelTile(blockIdx.x, BACKWARD_PIXELS, e), e);
    commit_copies();
    load_square(shared_memory, w2, e.k2, e.k1);
    load_square(shared_memory + SQUARE, w3, e.k3, e.k2);
    load_filter(shared_memory + 2 * SQUARE + 2 * HALF, w1, e);
    WeightGradient dw2, dw3;
    // Half of the pixels after the other: two tiles of all of them have no room beside the weights.
    const auto add = [&](WeightGradient &dw, const Values<1> &a, const Values<1> &b) {
#pragma unroll 1
        for (int half = 0; half < 2; half++) {
            if (later == (half == 1)) {
                store_lines(left, a);
                store_lines(right, b);
            }
            __syncthreads();
            dw.add(left, right);
            __syncthreads();
        }
    };
#pragma unroll 1
    for (int at = blockIdx.x; at < e.tiles; at += gridDim.x) {
        const PixelTile tile(at, BACKWARD_PIXELS, e);
        const int first = tile.first + thread() / 32 * 16;
        Values<1> gradient, a1, a2;
        // Pixels and channels that there are not have a gradient of zero.
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int pixel = first + 8 * half + lane / 4;
            const Storage *row = dy + static_cast<size_t>(tile.n * e.pixels + pixel) * e.k3;
#pragma unroll
            for (int group = 0; group < GROUPS; group++) {
                const int channel = 32 * group + lane % 4 * 8;
                uint4 value = make_uint4(0, 0, 0, 0);
                if (pixel < tile.end && channel < e.k3) value = *reinterpret_cast<const uint4 *>(row + channel);
                gradient.set_chunk(0, group, half, value);
            }
        }
        wait_copies<0>();
        __syncthreads();
        convolve(a1, image, filter, tile, first, b1, e);
        __syncthreads();
        if (at + gridDim.x < e.tiles) load_image(image, x, PixelTile(at + gridDim.x, BACKWARD_PIXELS, e), e);
        commit_copies();
        layer(a2, a1, Square(shared, false), b2, e.k2, true);
        add(dw3, gradient, a2);
        Values<1> dz2;
        layer_back(dz2, gradient, Square(shared + SQUARE, true), a2);
        add(dw2, dz2, a1);
        layer_back(gradient, dz2, Square(shared, true), a1);
        store_values(dz1, gradient, tile, first, e.k1, e);
    }
    partial += static_cast<size_t>(blockIdx.x) * e.stride;
    dw3.store(partial, partial + e.k3 * e.k2, e.k3, e.k2);
    partial += e.k3 * e.k2 + e.k3;
    dw2.store(partial, partial + e.k2 * e.k1, e.k2, e.k1);
}

#endif
