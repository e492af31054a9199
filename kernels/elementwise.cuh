// A loop over a whole tensor: a thread takes one pack of VECTOR elements.
//
// Grid: ceil(len / (THREADS * VECTOR)) blocks of THREADS threads, in x. Further blocks return at once.
#pragma once

#include "storage.cuh"

static_assert(THREADS % 32 == 0 && THREADS >= 32 && THREADS <= 1024, "whole warps, and no more than a block has");

// A number of neighbouring elements as a type, so that `body` knows it when it is compiled.
template <int WIDTH>
struct Width {
    static constexpr int value = WIDTH;
};

// Calls body(Width<WIDTH>, at) for the elements at .. at + WIDTH of this thread: once for a whole pack, or once for each
// element where the tensor ends within the pack.
template <typename Body>
__device__ __forceinline__ void each_pack(unsigned len, Body body) {
    const unsigned thread = blockIdx.x * unsigned(THREADS) + threadIdx.x;
    if (thread >= (len + VECTOR - 1) / VECTOR) return;
    const unsigned at = thread * VECTOR;
    if (at + VECTOR <= len) {
        body(Width<VECTOR>{}, at);
    } else {
        for (unsigned i = at; i < len; i++) body(Width<1>{}, i);
    }
}
