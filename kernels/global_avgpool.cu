// Global average pooling: the mean of each channel of an NHWC image.
//
//     global_avgpool_fprop   y[n,c] = scale * sum of x[n,h,w,c] over h, w         (scale is 1 / (h*w))
//     global_avgpool_dgrad   dx[n,h,w,c] = dy[n,c] * scale, then 0 where mask[n,h,w,c] is not positive
//                            (overwrites or adds; the mask applies to the sum; null: no mask)
//
// fprop: a block takes AVGPOOL_CHANNELS channels of an image, with AVGPOOL_SUMS threads for each channel. Thread i adds up the
// pixels i, i + AVGPOOL_SUMS and so on, in order. Then one thread for each channel adds those sums, in order.
// Grid: n * ceil(c / AVGPOOL_CHANNELS). Block: THREADS.
//
// dgrad: a thread takes one element, or in `_packs` VECTOR channels of a pixel (c is a multiple of VECTOR).
// Grid: ceil(count / THREADS), `count` being the number of threads. Block: THREADS.
#include "elementwise.cuh"

constexpr int SUMS = AVGPOOL_SUMS;
static_assert(SUMS * AVGPOOL_CHANNELS == THREADS && AVGPOOL_CHANNELS % 32 == 0, "each channel has as many threads");

extern "C" __global__ void __launch_bounds__(THREADS)
    global_avgpool_fprop(Storage *y, const Storage *x, unsigned c, unsigned pixels, float scale) {
    __shared__ float sums[SUMS][AVGPOOL_CHANNELS];
    const unsigned groups = (c + AVGPOOL_CHANNELS - 1) / AVGPOOL_CHANNELS;
    const unsigned image = blockIdx.x / groups, lane = threadIdx.x % AVGPOOL_CHANNELS;
    const unsigned channel = blockIdx.x % groups * AVGPOOL_CHANNELS + lane, part = threadIdx.x / AVGPOOL_CHANNELS;

    float sum = 0.0f;
    if (channel < c) {
        const Storage *from = x + image * pixels * c + channel;
        for (unsigned pixel = part; pixel < pixels; pixel += SUMS) sum += to_float(from[pixel * c]);
    }
    sums[part][lane] = sum;
    __syncthreads();
    if (part == 0 && channel < c) {
#pragma unroll
        for (int i = 1; i < SUMS; i++) sum += sums[i][lane];
        y[image * c + channel] = to_storage(sum * scale);
    }
}

template <int WIDTH>
static __device__ __forceinline__ void dgrad(Storage *dx, const Storage *dy, const Storage *mask, unsigned c,
                                             unsigned pixels, float scale, unsigned count, bool accumulate) {
    const unsigned thread = blockIdx.x * unsigned(THREADS) + threadIdx.x;
    if (thread >= count) return;
    const unsigned groups = c / WIDTH, image = thread / groups / pixels, at = thread * WIDTH;
    float gradient[WIDTH];
    load(dy + image * c + thread % groups * WIDTH, gradient);
#pragma unroll
    // `__fmul_rn` is never fused with a following addition, so the bits are the CPU's.
    for (int i = 0; i < WIDTH; i++) gradient[i] = __fmul_rn(gradient[i], scale);
    if (accumulate) {
        float old[WIDTH];
        load(dx + at, old);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) gradient[i] = old[i] + gradient[i];
    }
    if (mask != nullptr) {
        float input[WIDTH];
        load(mask + at, input);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) gradient[i] = input[i] > 0.0f ? gradient[i] : 0.0f;
    }
    store(dx + at, gradient);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    global_avgpool_dgrad(Storage *dx, const Storage *dy, const Storage *mask, unsigned c, unsigned pixels, float scale,
                         unsigned count, int accumulate) {
    dgrad<1>(dx, dy, mask, c, pixels, scale, count, accumulate);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    global_avgpool_dgrad_packs(Storage *dx, const Storage *dy, const Storage *mask, unsigned c, unsigned pixels,
                               float scale, unsigned count, int accumulate) {
    dgrad<VECTOR>(dx, dy, mask, c, pixels, scale, count, accumulate);
}
