// Loops over whole tensors, a pack of VECTOR elements a thread.
//
// Grid: ceil(len / (THREADS * VECTOR)) blocks of THREADS threads, in x; more do no harm.
#pragma once

#include "storage.cuh"

static_assert(THREADS % 32 == 0 && THREADS >= 32 && THREADS <= 1024, "whole warps, and no more than a block has");

// A number of neighbouring elements, as a type.
template <int WIDTH>
struct Width {
    static constexpr int value = WIDTH;
};

// Calls body(Width<WIDTH>, at) for elements at .. at + WIDTH: for the packs of this thread, or one by one for those at
// the end of the tensor that fill no pack.
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
