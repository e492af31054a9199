// The 1x1 convolutions of the block: products of what a warp has in registers with weights in shared memory, both ways.
#pragma once

#include "gemm/gemm.cuh"

constexpr int CHANNELS = MLPCONV_CHANNELS, WARPS = MLPCONV_WARPS, BLOCK = 32 * WARPS;
// Steps of the tensor core over all channels, and groups of 32 channels, of which each lane of four has 8.
constexpr int K_STEPS = CHANNELS / 16, GROUPS = CHANNELS / 32;
// Lines of 96 channels in shared memory, their chunks permuted so that `ldmatrix` meets no bank twice.
constexpr int LINE = CHANNELS * sizeof(Storage), SQUARE = CHANNELS * LINE;
static_assert(CHANNELS == 96 && WARPS == 8, "lines of three quarters of 256 bytes; the warps' shares of dw");
// Pixels of a tile: ROWS times 16 a warp.
constexpr int FPROP_ROWS = 2, FPROP_PIXELS = 16 * FPROP_ROWS * WARPS;
constexpr int BACKWARD_PIXELS = 16 * WARPS;
static_assert(FPROP_PIXELS == MLPCONV_FPROP_PIXELS && BACKWARD_PIXELS == MLPCONV_BACKWARD_PIXELS, "launches agree");

// Read anew each time, so that no registers hold what follows from it from one part of a tile to the next.
__device__ __forceinline__ int thread() {
    int x;
    asm volatile("mov.u32 %0, %%tid.x;\n" : "=r"(x));
    return x;
}

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

// NaN stays, and -0 does not: with nothing below +0, bits are ordered as values are.
__device__ __forceinline__ float rectify(float value) {
    float rectified;
    asm("max.NaN.f32 %0, %1, 0f00000000;\n" : "=f"(rectified) : "f"(value));
    return rectified;
}

// Bytes that are all the first bit of a byte of `value`; the digits of `selector`, from 8 on, say of which.
__device__ __forceinline__ unsigned spread_signs(unsigned value, unsigned selector) {
    unsigned bytes;
    asm("prmt.b32 %0, %1, %1, %2;\n" : "=r"(bytes) : "r"(value), "r"(selector));
    return bytes;
}

// Keeps the halves of `value` whose halves of `mask`, rectified values, are positive: neither 0 nor the one NaN that
// rounding gives, 0x7fff. Both carry into their first bit here, or neither does.
__device__ __forceinline__ unsigned masked(unsigned value, unsigned mask) {
    return value & spread_signs((mask + 0x7fff7fff) ^ (mask + 0x00010001), 0xbb99);
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
