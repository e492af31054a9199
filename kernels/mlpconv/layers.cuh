// The 1x1 convolutions of the fused block: values in registers times weights in shared memory, both ways.
//
// A warp has 16 or 32 pixels and all 96 channels. The sums of two neighbouring groups of 8 columns are, rounded and packed, a
// fragment of A of the next product: no value goes through shared memory between the layers. The weights' rows and columns
// lie in shared memory in such an order that a lane's sums are 8 neighbouring channels. So y and dz1 are written, and dy is
// read, in 16 bytes a lane.
#pragma once

#include "gemm/gemm.cuh"

constexpr int CHANNELS = MLPCONV_CHANNELS, WARPS = MLPCONV_WARPS, BLOCK = 32 * WARPS;
// Steps of the tensor core over all channels, and groups of 32 channels; each lane of four has 8 channels of a group.
constexpr int K_STEPS = CHANNELS / 16, GROUPS = CHANNELS / 32;
// Bytes of a line of 96 channels in shared memory, and of a square of them. Chunks are swizzled: `ldmatrix` has no bank
// conflicts.
constexpr int LINE = CHANNELS * sizeof(Storage), SQUARE = CHANNELS * LINE;
static_assert(CHANNELS == 96 && WARPS == 8, "lines of three quarters of 256 bytes; the warps' shares of dw");
// Pixels of a tile: 16 times FPROP_ROWS a warp, backward 16.
constexpr int FPROP_ROWS = 2, FPROP_PIXELS = 16 * FPROP_ROWS * WARPS;
constexpr int BACKWARD_PIXELS = 16 * WARPS;
static_assert(FPROP_PIXELS == MLPCONV_FPROP_PIXELS && BACKWARD_PIXELS == MLPCONV_BACKWARD_PIXELS, "launches agree");

// The thread's number, read anew at each call (volatile), so that no register holds values derived from it across a tile.
__device__ __forceinline__ int thread() {
    int x;
    asm volatile("mov.u32 %0, %%tid.x;\n" : "=r"(x));
    return x;
}

__device__ __forceinline__ int swizzled(int line, int chunk) { return line * LINE + (chunk ^ (line >> 1 & 3)) * 16; }

// The channel at a place of the weights in shared memory. Lane t of four has elements 2t and 2t + 1 of each 8 in a
// fragment. The order makes the elements of a lane in four such 8 be 8 neighbouring channels. So registers are stored and
// loaded in 16 bytes, and the sums of one layer are the factors of the next one without a change.
__device__ __forceinline__ int channel(int place) {
    return place / 32 * 32 + place % 8 / 2 * 8 + place / 8 % 4 * 2 + place % 2;
}

// The values of ROWS times 16 pixels in a warp: the fragments of A for the next layer.
template <int ROWS>
struct Values {
    unsigned words[ROWS][K_STEPS][4];

    // A lane's 8 channels of group `group`: of pixel lane / 4 (half 0) or lane / 4 + 8 (half 1).
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

// NaN stays NaN, and -0 becomes +0: without anything below +0, bits are ordered as values are.
__device__ __forceinline__ float rectify(float value) {
    float rectified;
    asm("max.NaN.f32 %0, %1, 0f00000000;\n" : "=f"(rectified) : "f"(value));
    return rectified;
}

// Spreads sign bits: byte i of the result is 8 copies of the first bit of one byte of `value`, the byte of digit i of
// `selector` less 8.
__device__ __forceinline__ unsigned spread_signs(unsigned value, unsigned selector) {
    unsigned bytes;
    asm("prmt.b32 %0, %1, %1, %2;\n" : "=r"(bytes) : "r"(value), "r"(selector));
    return bytes;
}

// Keeps the halves of `value` whose halves of `mask`, rectified values, are positive: neither 0 nor 0x7fff, the only NaN that
// rounding gives. The two additions differ in a half's first bit where the value is positive, and only there.
__device__ __forceinline__ unsigned masked(unsigned value, unsigned mask) {
    return value & spread_signs((mask + 0x7fff7fff) ^ (mask + 0x00010001), 0xbb99);
}

// Loads the lane's 8 biases of a group; 0 beyond the last channel.
__device__ __forceinline__ void load_bias(float (&to)[8], const float *bias, int channel, int channels) {
    const bool inside = channel < channels;
    const float4 none = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    const float4 low = inside ? *reinterpret_cast<const float4 *>(bias + channel) : none;
    const float4 high = inside ? *reinterpret_cast<const float4 *>(bias + channel + 4) : none;
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}

// Adds the bias to a group's sums of 16 pixels, rectifies and rounds. Channels beyond the last are set to zero: their
// sums may be NaN, of an infinite x times zero.
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

// A lane's addresses for fragments of B in a square of weights.
struct Square {
    // The addresses of even and of odd pairs of chunks.
    unsigned even, odd;

    // `transposed`: lines are steps of k.
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

// Computes one group of 32 columns of a product with a square of weights.
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

// Loads w2 or w3 to shared memory: lines and columns in the fragments' order, zeros beyond the last channels.
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
