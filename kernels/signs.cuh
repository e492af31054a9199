// Where a rectified tensor is positive: a byte for each pack of VECTOR elements, a bit for each element. The way back masks
// gradients by it, and reads a sixteenth of what the values take.
#pragma once

#include "storage.cuh"

static_assert(VECTOR <= 8, "a bit for each element of a pack");

// An output, and room for its signs, or null.
struct Rectified {
    Storage *values;
    unsigned char *signs;
};

// What a gradient is masked by: an input's signs, or else its values, or, if both are null, nothing.
struct MaskedBy {
    const Storage *values;
    const unsigned char *signs;
};

// Of a pack's values that are stored, or of those that a thread has of it.
template <int N>
__device__ __forceinline__ unsigned char signs_of(const float (&values)[N]) {
    static_assert(N <= VECTOR, "a byte for a pack");
    unsigned bits = 0;
#pragma unroll
    for (int i = 0; i < N; i++) bits |= to_float(to_storage(values[i])) > 0.0f ? 1u << i : 0u;
    return static_cast<unsigned char>(bits);
}

// Zeroes the values, of elements `at` and so on, where the tensor is not positive. One element at a time is for a tensor whose
// signs are there and whose rows, seen otherwise, are no whole packs.
template <int N>
__device__ __forceinline__ void mask_by_signs(float (&values)[N], const unsigned char *signs, int at) {
    static_assert(N == 1 || N == VECTOR, "one element or a whole pack");
    const unsigned bits = signs[at / VECTOR] >> (N == 1 ? at % VECTOR : 0);
#pragma unroll
    for (int i = 0; i < N; i++) values[i] = bits >> i & 1 ? values[i] : 0.0f;
}
