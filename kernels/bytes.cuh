// Packs of bytes: one byte for each element of a pack of `Storage`, read and written in one access. Pools keep the positions of
// their maxima as bytes.
#pragma once

#include "storage.cuh"

struct alignas(VECTOR) BytePack {
    unsigned char lane[VECTOR];
};

// The integer type of that access.
#if PRECISION == 2
using ByteBits = uint2;
#else
using ByteBits = unsigned;
#endif
static_assert(sizeof(ByteBits) == VECTOR && sizeof(BytePack) == VECTOR, "a byte for each element of a pack");

// Reads WIDTH neighbouring bytes: 1, or VECTOR at an address that is a multiple of VECTOR.
template <int WIDTH>
__device__ __forceinline__ void load_bytes(const unsigned char *from, unsigned (&values)[WIDTH]) {
    static_assert(WIDTH == 1 || WIDTH == VECTOR, "one byte or a whole pack");
    if constexpr (WIDTH == 1) {
        values[0] = *from;
    } else {
        const ByteBits bits = *reinterpret_cast<const ByteBits *>(from);
        BytePack pack;
        memcpy(&pack, &bits, sizeof pack);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) values[i] = pack.lane[i];
    }
}

template <int WIDTH>
__device__ __forceinline__ void store_bytes(unsigned char *to, const unsigned (&values)[WIDTH]) {
    static_assert(WIDTH == 1 || WIDTH == VECTOR, "one byte or a whole pack");
    if constexpr (WIDTH == 1) {
        *to = values[0];
    } else {
        BytePack pack;
#pragma unroll
        for (int i = 0; i < WIDTH; i++) pack.lane[i] = values[i];
        ByteBits bits;
        memcpy(&bits, &pack, sizeof bits);
        *reinterpret_cast<ByteBits *>(to) = bits;
    }
}
