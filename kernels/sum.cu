// The sum of a value's parts, in the order of `parts.cuh`. All addresses are multiples of 16 bytes.
//
//     sum             to[i] (+)= Σ first[part · stride + i]                    overwrites or adds
//     sum_activated   y[i] = act(Σ first[part · stride + i] + bias[i % k])     overwrites, and y's signs if there is room
//
// Grid: ceil(len / (4 * THREADS)) blocks; with more than SUM_THREADS parts, SUM_THREADS threads share four elements:
// ceil(len / (4 * THREADS / SUM_THREADS)) blocks. Block: THREADS.
//
// `sum_activated` is the epilogue of a convolution's fprop whose sum is split (split-K); `Activate` (gemm/epilogue.cuh) is that
// of one whose sum is not. Split-K is for a convolution of few pixels, which has few blocks: d2l's last 3x3, from 384 to 10
// channels, has 25 at batch 128, each with 108 (bf16) to 216 tiles of K in sequence, on a GPU with room for 528. At
// batch 1 that holds for all convolutions from the second block on. So fprop's sum is split where all splits run at once and
// have four tiles or more. Each split leaves a part of the output in fp32. `sum_activated` adds the parts up at once, for the
// output has many readers. Results differ from those of one block by the order of the additions.
//
// The price is the traffic of the parts, mostly within the second-level cache, and a second launch, which takes about as
// long as five tiles of K: `gemm::fprop_splits` weighs it. The 1x1 convolutions are not split. They have 8 to 24 tiles,
// and those before a pool have to give the bits of the kernel that pools at once (gemm/pooled.cuh).
#include "divide.cuh"
#include "parts.cuh"
#include "signs.cuh"

extern "C" __global__ void __launch_bounds__(THREADS)
    sum(float *to, const float *first, unsigned len, unsigned stride, unsigned count, int accumulate) {
    const Parts parts{first, stride, count};
    const Share share(parts, blockIdx.x, len);
    float4 sum = sum_of(parts, share);
    if (!share.has_sum()) return;
    if (accumulate) sum = load_four(to + share.at, share.there) + sum;
    store_four(to + share.at, share.there, sum);
}

// The bias of four neighbouring elements of an output with k channels.
static __device__ __forceinline__ float4 bias_of(const float *bias, unsigned at, const Divisor &by_k) {
    const unsigned k = by_k.value;
    unsigned column = divide(at, by_k).remainder;
    if (k % 4 == 0) return load_four(bias + column, 4);
    float values[4];
#pragma unroll
    for (float &value : values) {
        value = bias[column];
        column = column + 1 == k ? 0 : column + 1;
    }
    return make_float4(values[0], values[1], values[2], values[3]);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    sum_activated(Rectified y, const float *first, const float *bias, int relu, const __grid_constant__ Divisor by_k,
                 unsigned len, unsigned stride, unsigned count) {
    const Parts parts{first, stride, count};
    const Share share(parts, blockIdx.x, len);
    float4 sum = sum_of(parts, share);
    // All threads of a warp have sums, or none has: the shuffle below is of whole warps.
    if (!share.has_sum()) return;
    if (bias != nullptr && share.there > 0) sum = sum + bias_of(bias, share.at, by_k);
    float value[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (relu) value[i] = value[i] < 0.0f ? 0.0f : value[i];
    }
    store_four(y.values + share.at, share.there, value);
    if (y.signs == nullptr) return;
    unsigned signs = signs_of(value);
    // In bf16 two neighbouring threads have a pack between them.
    if constexpr (VECTOR == 8) signs |= __shfl_down_sync(0xffffffff, signs, 1) << 4;
    if (share.there > 0 && share.at % VECTOR == 0) y.signs[share.at / VECTOR] = static_cast<unsigned char>(signs);
}
