// Values in parts. Blocks that divide a sum among them (wgrad its pixels, the fused block and the pair their tiles) leave one
// part each, and the value is the sum of the parts. A value that lies in one piece is one part.
//
// Nobody adds the parts up before the value is read. In training the reader is the optimiser, which sums four elements' parts
// where it would read the gradient, so dw and db are never written. For any other reader the kernel `sum` adds the parts up
// first: `src/device/cuda/buf.rs` gives no address of a value whose parts are pending. A gradient that is added to another
// is summed at once. The price is memory: the parts of all layers wait for the update.
//
// The order of the additions is fixed and the same for every reader. Part i belongs to running sum i % SUM_THREADS, and the
// running sums are added in order. With more than SUM_THREADS parts, SUM_THREADS threads share four elements, a running sum
// each. With fewer, a running sum is a part, and one thread adds them.
#pragma once

// Reads the first `there` of a thread's four elements (all of them from 4 on); the others are 0. `from` is a multiple of
// 16 bytes.
__device__ __forceinline__ float4 load_four(const float *from, unsigned there) {
    if (there >= 4) return *reinterpret_cast<const float4 *>(from);
    return make_float4(there > 0 ? from[0] : 0.0f, there > 1 ? from[1] : 0.0f, there > 2 ? from[2] : 0.0f, 0.0f);
}

__device__ __forceinline__ void store_four(float *to, unsigned there, const float4 &value) {
    if (there >= 4) {
        *reinterpret_cast<float4 *>(to) = value;
    } else {
        if (there > 0) to[0] = value.x;
        if (there > 1) to[1] = value.y;
        if (there > 2) to[2] = value.z;
    }
}

__device__ __forceinline__ float4 operator+(const float4 &a, const float4 &b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// `count` parts: the first begins at `first`, each of the others `stride` elements after the one before it.
struct Parts {
    const float *first;
    unsigned stride, count;

    // The number of threads that share four elements.
    __device__ unsigned sharers() const { return count > SUM_THREADS ? SUM_THREADS : 1; }
};

// A thread's share of a value: its four elements in block `block`, and its running sum.
struct Share {
    unsigned at, there, running;

    __device__ Share(const Parts &parts, unsigned block, unsigned len) {
        const unsigned fours = THREADS / parts.sharers();
        at = (block * fours + threadIdx.x % fours) * 4;
        there = at < len ? len - at : 0;
        running = threadIdx.x / fours;
    }

    // Of the threads that share four elements, one gets the sum.
    __device__ bool has_sum() const { return running == 0; }
};

// The sum, in the threads that have it. All threads of the block call this.
__device__ __forceinline__ float4 sum_of(const Parts &parts, const Share &share) {
    static_assert(THREADS % (32 * SUM_THREADS) == 0, "a warp adds the same parts");
    const unsigned sharers = parts.sharers();
    const auto add_up = [&](unsigned there) {
        const float *from = parts.first + static_cast<size_t>(share.running) * parts.stride + share.at;
        float4 sum = load_four(from, there);
#pragma unroll 4
        for (unsigned i = share.running + sharers; i < parts.count; i += sharers) {
            from += static_cast<size_t>(sharers) * parts.stride;
            sum = sum + load_four(from, there);
        }
        return sum;
    };
    // Two loops, so that the one for four whole elements tests nothing in each part.
    float4 sum = share.there >= 4 ? add_up(4) : add_up(share.there);
    if (sharers > 1) {
        constexpr unsigned FOURS = THREADS / SUM_THREADS;
        __shared__ float4 running[SUM_THREADS][FOURS];
        running[share.running][threadIdx.x % FOURS] = sum;
        __syncthreads();
        if (share.has_sum()) {
#pragma unroll
            for (unsigned other = 1; other < SUM_THREADS; other++) sum = sum + running[other][threadIdx.x % FOURS];
        }
    }
    return sum;
}
