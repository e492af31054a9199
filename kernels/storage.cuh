// The storage type of numbers. A module is compiled for one precision:
//
//     PRECISION   0 (fp32)   1 (tf32)                           2 (bf16)
//     Storage     float      float, the last 13 bits zero       __nv_bfloat16
//     rounding    none       to nearest, ties away from zero    to nearest even
//
// `Storage` is the type of activations, of their gradients, and of the copies of weights that are multiplied. Parameters,
// their gradients, velocities and meters are float in every precision, and so is all arithmetic: kernels load with
// `to_float`, compute, and round once, in `to_storage` (pairs of bf16 by an intrinsic that rounds alike). So the operands of an `mma` are what lies in memory: no main loop
// rounds. (The tensor core would drop the 13 bits of any other float. sm_80's `cvt` to TF32 has no other rounding.)
#pragma once

#include <cfloat>
#include <cuda_bf16.h>

#ifndef PRECISION
#error "compile with -DPRECISION=0 (fp32), 1 (tf32) or 2 (bf16)"
#endif

#if PRECISION == 2
using Storage = __nv_bfloat16;
#elif PRECISION == 0 || PRECISION == 1
using Storage = float;
#else
#error "PRECISION is 0 (fp32), 1 (tf32) or 2 (bf16)"
#endif

// Elements of a 16-byte access, the widest there is.
constexpr int VECTOR = 16 / sizeof(Storage);

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }

// The largest finite element.
#if PRECISION == 2
constexpr float STORAGE_MAX = 0x1.fep127f;
__device__ __forceinline__ Storage to_storage(float value) { return __float2bfloat16_rn(value); }
#elif PRECISION == 1
constexpr float STORAGE_MAX = 0x1.ffcp127f;
__device__ __forceinline__ Storage to_storage(float value) {
    unsigned rounded;
    asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(rounded) : "f"(value));
    return __uint_as_float(rounded);
}
#else
constexpr float STORAGE_MAX = FLT_MAX;
__device__ __forceinline__ Storage to_storage(float value) { return value; }
#endif

// VECTOR elements, read and written in one access at a multiple of 16 bytes. Where the rows of a tensor are no multiple of
// VECTOR, kernels take one element at a time.
struct alignas(16) Pack {
    Storage lane[VECTOR];
};

__device__ __forceinline__ Pack load_pack(const Storage *from) {
    const uint4 bits = *reinterpret_cast<const uint4 *>(from);
    Pack pack;
    memcpy(&pack, &bits, sizeof pack);
    return pack;
}

__device__ __forceinline__ void store_pack(Storage *to, const Pack &pack) {
    uint4 bits;
    memcpy(&bits, &pack, sizeof pack);
    *reinterpret_cast<uint4 *>(to) = bits;
}

// Reads WIDTH neighbouring elements as floats: 1, or VECTOR. Kernels are written once for both widths.
template <int WIDTH>
__device__ __forceinline__ void load(const Storage *from, float (&values)[WIDTH]) {
    static_assert(WIDTH == 1 || WIDTH == VECTOR, "one element or a whole pack");
    if constexpr (WIDTH == 1) {
        values[0] = to_float(*from);
    } else {
        const Pack pack = load_pack(from);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) values[i] = to_float(pack.lane[i]);
    }
}

template <int WIDTH>
__device__ __forceinline__ void store(Storage *to, const float (&values)[WIDTH]) {
    static_assert(WIDTH == 1 || WIDTH == VECTOR, "one element or a whole pack");
    if constexpr (WIDTH == 1) {
        *to = to_storage(values[0]);
    } else {
        Pack pack;
#pragma unroll
        for (int i = 0; i < WIDTH; i++) pack.lane[i] = to_storage(values[i]);
        store_pack(to, pack);
    }
}

// Four elements as one access at a multiple of its size.
struct alignas(4 * sizeof(Storage)) Four {
    Storage lane[4];
};

// Writes the first `there` of four neighbouring elements, four in one access.
__device__ __forceinline__ void store_four(Storage *to, unsigned there, const float (&values)[4]) {
    Four four;
#pragma unroll
    for (int i = 0; i < 4; i++) four.lane[i] = to_storage(values[i]);
    if (there >= 4) {
        *reinterpret_cast<Four *>(to) = four;
    } else {
#pragma unroll
        for (unsigned i = 0; i < 3; i++) {
            if (i < there) to[i] = four.lane[i];
        }
    }
}
