// Max pooling over square windows of NHWC images, overlapping or not, without padding.
//
//     maxpool_fprop   y[n,p,q,c] = max x[n, p*stride + i, q*stride + j, c] over 0 <= i, j < window
//                     index[n,p,q,c] = i*window + j of the first maximum in row-major order (optional: null); a NaN
//                     counts as the maximum, the last NaN if there are several
//     maxpool_dgrad   dx[n,h,w,c] = sum of dy[n,p,q,c] over the windows whose maximum (h, w) was   (overwrites or adds)
//
// Each in two forms: `_packs`, where a thread has VECTOR neighbouring channels (c is a multiple of VECTOR), and one channel a
// thread, for any c. fprop: a thread an output element (or pack); dgrad: a thread an input element, which looks at the
// windows over it in row-major order, so that there is nothing to clear and nothing to add atomically.
//
// Grid: ceil(count / THREADS), `count` being the threads in all. Block: THREADS.
#include "bytes.cuh"
#include "divide.cuh"
#include "elementwise.cuh"

// Extents of a pool. `groups` (channels, or packs of them), `columns` and `rows` are those of the tensor whose elements the
// threads are: the output in fprop, the input in dgrad.
struct Pool {
    unsigned h, w, c, p, q, window, stride;
    Divisor groups, columns, rows;
};

// A window or a stride that is known when the kernel is compiled (others are 0) unrolls loops and makes divisions shifts.

template <int WIDTH, int WINDOW, int STRIDE>
static __device__ __forceinline__ void fprop(Storage *y, unsigned char *index, const Storage *x, const Pool &pool,
                                             unsigned thread) {
    const unsigned window = WINDOW ? WINDOW : pool.window, stride = STRIDE ? STRIDE : pool.stride;
    const auto [pixel, group] = divide(thread, pool.groups);
    const auto [line, column] = divide(pixel, pool.columns);
    const auto [image, row] = divide(line, pool.rows);
    const unsigned channel = group * WIDTH;
    const Storage *corner = x + ((image * pool.h + row * stride) * pool.w + column * stride) * pool.c + channel;

    float best[WIDTH];
    unsigned position[WIDTH];
    load(corner, best);
#pragma unroll
    for (int lane = 0; lane < WIDTH; lane++) position[lane] = 0;
#pragma unroll(WINDOW ? WINDOW : 1)
    for (unsigned i = 0; i < window; i++) {
#pragma unroll(WINDOW ? WINDOW : 1)
        for (unsigned j = 0; j < window; j++) {
            float value[WIDTH];
            load(corner + (i * pool.w + j) * pool.c, value);
#pragma unroll
            for (int lane = 0; lane < WIDTH; lane++) {
                // Strictly greater, so that the first of equals stays.
                const bool greater = value[lane] > best[lane] || value[lane] != value[lane];
                best[lane] = greater ? value[lane] : best[lane];
                position[lane] = greater ? i * window + j : position[lane];
            }
        }
    }
    const unsigned at = thread * WIDTH;
    store(y + at, best);
    if (index != nullptr) store_bytes(index + at, position);
}

template <int WIDTH, int WINDOW, int STRIDE>
static __device__ __forceinline__ void dgrad(Storage *dx, const Storage *dy, const unsigned char *index,
                                             const Pool &pool, unsigned thread, bool accumulate) {
    const unsigned window = WINDOW ? WINDOW : pool.window, stride = STRIDE ? STRIDE : pool.stride;
    const auto [pixel, group] = divide(thread, pool.groups);
    const auto [line, column] = divide(pixel, pool.columns);
    const auto [image, row] = divide(line, pool.rows);
    const unsigned channel = group * WIDTH;
    // The windows that begin at or before this pixel and end after it.
    const unsigned first_p = row < window ? 0 : (row - window) / stride + 1;
    const unsigned first_q = column < window ? 0 : (column - window) / stride + 1;
    const unsigned end_p = min(row / stride + 1, pool.p), end_q = min(column / stride + 1, pool.q);

    float sum[WIDTH];
    const unsigned at = thread * WIDTH;
    if (accumulate) {
        load(dx + at, sum);
    } else {
#pragma unroll
        for (int lane = 0; lane < WIDTH; lane++) sum[lane] = 0.0f;
    }
    for (unsigned p = first_p; p < end_p; p++) {
        for (unsigned q = first_q; q < end_q; q++) {
            const unsigned from = ((image * pool.p + p) * pool.q + q) * pool.c + channel;
            const unsigned here = (row - p * stride) * window + (column - q * stride);
            unsigned position[WIDTH];
            float gradient[WIDTH];
            load_bytes(index + from, position);
            load(dy + from, gradient);
#pragma unroll
            for (int lane = 0; lane < WIDTH; lane++) {
                sum[lane] = position[lane] == here ? sum[lane] + gradient[lane] : sum[lane];
            }
        }
    }
    store(dx + at, sum);
}

template <int WIDTH>
static __device__ __forceinline__ void fprop(Storage *y, unsigned char *index, const Storage *x, const Pool &pool,
                                             unsigned count) {
    const unsigned thread = blockIdx.x * unsigned(THREADS) + threadIdx.x;
    if (thread >= count) return;
    if (pool.window == 3) {
        fprop<WIDTH, 3, 0>(y, index, x, pool, thread);
    } else {
        fprop<WIDTH, 0, 0>(y, index, x, pool, thread);
    }
}

template <int WIDTH>
static __device__ __forceinline__ void dgrad(Storage *dx, const Storage *dy, const unsigned char *index,
                                             const Pool &pool, unsigned count, bool accumulate) {
    const unsigned thread = blockIdx.x * unsigned(THREADS) + threadIdx.x;
    if (thread >= count) return;
    // NiN's own pool, whose divisions are shifts.
    if (pool.window == 3 && pool.stride == 2) {
        dgrad<WIDTH, 3, 2>(dx, dy, index, pool, thread, accumulate);
    } else {
        dgrad<WIDTH, 0, 0>(dx, dy, index, pool, thread, accumulate);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    maxpool_fprop(Storage *y, unsigned char *index, const Storage *x, const Pool pool, unsigned count) {
    fprop<1>(y, index, x, pool, count);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    maxpool_fprop_packs(Storage *y, unsigned char *index, const Storage *x, const Pool pool, unsigned count) {
    fprop<VECTOR>(y, index, x, pool, count);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    maxpool_dgrad(Storage *dx, const Storage *dy, const unsigned char *index, const Pool pool, unsigned count,
                  int accumulate) {
    dgrad<1>(dx, dy, index, pool, count, accumulate);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    maxpool_dgrad_packs(Storage *dx, const Storage *dy, const unsigned char *index, const Pool pool, unsigned count,
                        int accumulate) {
    dgrad<VECTOR>(dx, dy, index, pool, count, accumulate);
}
