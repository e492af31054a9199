// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011): random words as a function of a counter and a key. `src/rng.rs` computes
// the same words on the CPU.
//
// Element i of a stream is word i % 4 of the four words for counter [i / 4, step, epoch, purpose], keyed by the seed.
#pragma once

// A stream without its epoch and step: those change from replay to replay of a graph, so they lie in device memory.
struct Stream {
    unsigned seed_low, seed_high;
    unsigned purpose;
};

// The position in training.
struct Progress {
    unsigned epoch, step;
};

__device__ __forceinline__ uint4 philox(uint4 counter, uint2 key) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const unsigned low0 = 0xD2511F53u * counter.x, high0 = __umulhi(0xD2511F53u, counter.x);
        const unsigned low1 = 0xCD9E8D57u * counter.z, high1 = __umulhi(0xCD9E8D57u, counter.z);
        counter = make_uint4(high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0);
        key = make_uint2(key.x + 0x9E3779B9u, key.y + 0xBB67AE85u);
    }
    return counter;
}

// The words of elements 4 * block .. 4 * block + 4.
__device__ __forceinline__ uint4 words(const Stream &stream, Progress progress, unsigned block) {
    return philox(make_uint4(block, progress.step, progress.epoch, stream.purpose),
                  make_uint2(stream.seed_low, stream.seed_high));
}
