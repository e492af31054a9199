// The sum of a value's parts, in the order of `parts.cuh`. All begin at multiples of 16 bytes.
//
//     sum             to[i] (+)= Σ first[part · stride + i]                    overwrites or adds
//     sum_activated   y[i] = act(Σ first[part · stride + i] + bias[i % k])     overwrites, and y's signs if there is room
//
// The latter is the epilogue of a convolution whose sum has been divided, `Activate` (gemm/epilogue.cuh) where it has not.
//
// Grid: ceil(len / (4 * THREADS)) blocks, and where there are more parts than SUM_THREADS, as many threads to four elements:
// ceil(len / (4 * THREADS / SUM_THREADS)). Block: THREADS.
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

// The bias of four neighbouring elements, of rows of k.
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

// What a thread stores at once.
struct alignas(4 * sizeof(Storage)) Four {
    Storage lane[4];
};

extern "C" __global__ void __launch_bounds__(THREADS)
    sum_activated(Rectified y, const float *first, const float *bias, int relu, const __grid_constant__ Divisor by_k,
                 unsigned len, unsigned stride, unsigned count) {
    const Parts parts{first, stride, count};
    const Share share(parts, blockIdx.x, len);
    float4 sum = sum_of(parts, share);
    // Of a warp all threads have sums, or none.
    if (!share.has_sum()) return;
    if (bias != nullptr && share.there > 0) sum = sum + bias_of(bias, share.at, by_k);
    float value[4] = {sum.x, sum.y, sum.z, sum.w};
    Four four;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (relu) value[i] = value[i] < 0.0f ? 0.0f : value[i];
        four.lane[i] = to_storage(value[i]);
    }
    if (share.there >= 4) {
        *reinterpret_cast<Four *>(y.values + share.at) = four;
    } else {
#pragma unroll
        for (unsigned i = 0; i < 3; i++) {
            if (i < share.there) y.values[share.at + i] = four.lane[i];
        }
    }
    if (y.signs == nullptr) return;
    unsigned signs = signs_of(value);
    // A pack may be two threads'.
    if constexpr (VECTOR == 8) signs |= __shfl_down_sync(0xffffffff, signs, 1) << 4;
    if (share.there > 0 && share.at % VECTOR == 0) y.signs[share.at / VECTOR] = static_cast<unsigned char>(signs);
}
