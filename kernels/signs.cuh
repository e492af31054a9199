// Signs: where the output of a ReLU is positive, a bit for each element, a byte for each pack of VECTOR elements.
//
// A gradient is zeroed where the output of its ReLU is not positive. dgrad needs no more of that output than the signs. So the
// kernels that write large rectified tensors in training (fprop, the pools) write the signs too, and dgrad reads these: a
// sixteenth of the bytes in bf16. For d2l's second block that is 0.02 MB of an image instead of 0.32, twice.
//
// There are no signs where the channels are no multiple of VECTOR, nor from `relu_fprop` and dropout, whose outputs are read
// as values. Without signs dgrad reads the values. `Buf` (`src/device/cuda/buf.rs`) drops the signs as soon as another kernel
// writes the value.
#pragma once

#include "storage.cuh"

static_assert(VECTOR <= 8, "a bit for each element of a pack");

// The output of a ReLU, and room for its signs (null: none).
struct Rectified {
    Storage *values;
    unsigned char *signs;
};

// The mask of a gradient: the signs of a ReLU's output, or else its values. If both are null there is no mask.
struct MaskedBy {
    const Storage *values;
    const unsigned char *signs;
};

// The signs of a pack, or of the part of a pack that a thread has: those of the values as they are stored.
template <int N>
__device__ __forceinline__ unsigned char signs_of(const float (&values)[N]) {
    static_assert(N <= VECTOR, "a byte for a pack");
    unsigned bits = 0;
#pragma unroll
    for (int i = 0; i < N; i++) bits |= to_float(to_storage(values[i])) > 0.0f ? 1u << i : 0u;
    return static_cast<unsigned char>(bits);
}

// Zeroes the values of elements at .. at + N where the tensor is not positive. N is 1 where the tensor has signs and the
// kernel's rows are no whole packs.
template <int N>
__device__ __forceinline__ void mask_by_signs(float (&values)[N], const unsigned char *signs, int at) {
    static_assert(N == 1 || N == VECTOR, "one element or a whole pack");
    const unsigned bits = signs[at / VECTOR] >> (N == 1 ? at % VECTOR : 0);
#pragma unroll
    for (int i = 0; i < N; i++) values[i] = bits >> i & 1 ? values[i] : 0.0f;
}
