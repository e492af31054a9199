// The sum of a value's parts: to[i] (+)= Σ first[part · stride + i], in the order of `parts.cuh`. `to` is overwritten, or
// added to. Parts begin at multiples of 16 bytes, and so does `to`.
//
// Grid: ceil(len / (4 * THREADS)) blocks, and where there are more parts than SUM_THREADS, as many threads to four elements:
// ceil(len / (4 * THREADS / SUM_THREADS)). Block: THREADS.
#include "parts.cuh"

extern "C" __global__ void __launch_bounds__(THREADS)
    sum(float *to, const float *first, unsigned len, unsigned stride, unsigned count, int accumulate) {
    const Parts parts{first, stride, count};
    const Share share(parts, blockIdx.x, len);
    float4 sum = sum_of(parts, share);
    if (!share.has_sum()) return;
    if (accumulate) sum = load_four(to + share.at, share.there) + sum;
    store_four(to + share.at, share.there, sum);
}
