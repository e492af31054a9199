// Max pooling over square windows of NHWC images, overlapping or not, without padding.
//
//     maxpool_fprop   y[n,p,q,c] = max x[n, p*stride + i, q*stride + j, c] over 0 <= i, j < window
//                     index[n,p,q,c] = i*window + j of the first maximum in row-major order (null: not wanted); a NaN
//                     counts as the maximum, of several NaNs the last
//     maxpool_dgrad   dx[n,h,w,c] = sum of dy[n,p,q,c] over the windows whose maximum is at (h, w)   (overwrites or adds)
//
// Each kernel has two forms. In `_packs` a thread has VECTOR neighbouring channels (c is a multiple of VECTOR); in the
// other it has one channel, for any c. In fprop a thread has an output element (or pack). In dgrad it has an input
// element and gathers from the windows over it, in row-major order: nothing has to be cleared and no addition is atomic.
// dgrad has a third form, `maxpool_dgrad_3_2`, for NiN's own pool, window 3 and stride 2: a thread has packs of a square of
// 2 x 2 input pixels. Four windows in all cover the square, and each is read once.
//
// Grid: ceil(count / THREADS), `count` being the number of threads. Block: THREADS.
//
// Forward, a pool may be part of the convolution before it (gemm/pooled.cuh). Backward it has a kernel of its own, whose
// result dgrad and wgrad of that convolution read. If both gathered from dy and `index` instead, that would save 0.85 MB of an
// image at 25 x 25 in bf16, by arithmetic some 23 µs of a batch of 128 on an H200. But they copy their operands with
// `cp.async`, unchanged. A gathered pack takes some hundred instructions, from up to four windows through registers, and every
// tile of columns gathers it again: two times 2.56 million packs are 17 µs of all issue slots, in each of the two kernels.
// That is an estimate; nobody has measured it.
#include "bytes.cuh"
#include "divide.cuh"
#include "elementwise.cuh"
#include "maximum.cuh"
#include "signs.cuh"

// Extents of a pool. `groups` (channels, or packs of them), `columns` and `rows` are those of the tensor that the threads
// divide: the output in fprop, the input in dgrad (its squares in `_3_2`).
struct Pooling {
    unsigned h, w, c, p, q, window, stride;
    Divisor groups, columns, rows;
};

template <int WIDTH>
static __device__ __forceinline__ void fprop(const Rectified &y, unsigned char *index, const Storage *x, const Pooling &pool,
                                             unsigned count) {
    const unsigned thread = blockIdx.x * unsigned(THREADS) + threadIdx.x;
    if (thread >= count) return;
    const auto [pixel, group] = divide(thread, pool.groups);
    const auto [line, column] = divide(pixel, pool.columns);
    const auto [image, row] = divide(line, pool.rows);
    const Storage *corner =
        x + ((image * pool.h + row * pool.stride) * pool.w + column * pool.stride) * pool.c + group * WIDTH;

    float best[WIDTH];
    unsigned position[WIDTH];
    maximum(best, position, pool.window, [&](unsigned i, unsigned j, float (&value)[WIDTH]) {
        load(corner + (i * pool.w + j) * pool.c, value);
    });
    const unsigned at = thread * WIDTH;
    store(y.values + at, best);
    if constexpr (WIDTH == VECTOR) {
        if (y.signs != nullptr) y.signs[thread] = signs_of(best);
    }
    if (index != nullptr) store_bytes(index + at, position);
}

// The initial value of a sum: the old gradient if the kernel accumulates, else 0.
template <int WIDTH>
static __device__ __forceinline__ void begin(float (&sum)[WIDTH], const Storage *old, bool accumulate) {
    if (accumulate) {
        load(old, sum);
    } else {
#pragma unroll
        for (int lane = 0; lane < WIDTH; lane++) sum[lane] = 0.0f;
    }
}

// Adds a window's gradient in the lanes whose maximum was at position `here`.
template <int WIDTH>
static __device__ __forceinline__ void add_where(float (&sum)[WIDTH], const float (&gradient)[WIDTH],
                                                 const unsigned (&position)[WIDTH], unsigned here) {
#pragma unroll
    for (int lane = 0; lane < WIDTH; lane++) {
        sum[lane] = position[lane] == here ? sum[lane] + gradient[lane] : sum[lane];
    }
}

template <int WIDTH>
static __device__ __forceinline__ void dgrad(Storage *dx, const Storage *dy, const unsigned char *index,
                                             const Pooling &pool, unsigned count, bool accumulate) {
    const unsigned thread = blockIdx.x * unsigned(THREADS) + threadIdx.x;
    if (thread >= count) return;
    const auto [pixel, group] = divide(thread, pool.groups);
    const auto [line, column] = divide(pixel, pool.columns);
    const auto [image, row] = divide(line, pool.rows);
    const unsigned channel = group * WIDTH, window = pool.window, stride = pool.stride;
    // The windows that cover this pixel: those that begin at or before it and end after it.
    const unsigned first_p = row < window ? 0 : (row - window) / stride + 1;
    const unsigned first_q = column < window ? 0 : (column - window) / stride + 1;
    const unsigned end_p = min(row / stride + 1, pool.p), end_q = min(column / stride + 1, pool.q);

    float sum[WIDTH];
    const unsigned at = thread * WIDTH;
    begin(sum, dx + at, accumulate);
    for (unsigned p = first_p; p < end_p; p++) {
        for (unsigned q = first_q; q < end_q; q++) {
            const unsigned from = ((image * pool.p + p) * pool.q + q) * pool.c + channel;
            const unsigned here = (row - p * stride) * window + (column - q * stride);
            unsigned position[WIDTH];
            float gradient[WIDTH];
            load_bytes(index + from, position);
            load(dy + from, gradient);
            add_where(sum, gradient, position, here);
        }
    }
    store(dx + at, sum);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    maxpool_fprop(Rectified y, unsigned char *index, const Storage *x, const Pooling pool, unsigned count) {
    fprop<1>(y, index, x, pool, count);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    maxpool_fprop_packs(Rectified y, unsigned char *index, const Storage *x, const Pooling pool, unsigned count) {
    fprop<VECTOR>(y, index, x, pool, count);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    maxpool_dgrad(Storage *dx, const Storage *dy, const unsigned char *index, const Pooling pool, unsigned count,
                  int accumulate) {
    dgrad<1>(dx, dy, index, pool, count, accumulate);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    maxpool_dgrad_packs(Storage *dx, const Storage *dy, const unsigned char *index, const Pooling pool, unsigned count,
                        int accumulate) {
    dgrad<VECTOR>(dx, dy, index, pool, count, accumulate);
}

// The input rows 2a and 2a + 1 lie in windows a - 1 and a; columns likewise.
extern "C" __global__ void __launch_bounds__(THREADS)
    maxpool_dgrad_3_2(Storage *dx, const Storage *dy, const unsigned char *index, const Pooling pool, unsigned count,
                      int accumulate) {
    const unsigned thread = blockIdx.x * unsigned(THREADS) + threadIdx.x;
    if (thread >= count) return;
    const auto [square, group] = divide(thread, pool.groups);
    const auto [line, b] = divide(square, pool.columns);
    const auto [image, a] = divide(line, pool.rows);
    const unsigned channel = group * VECTOR;
    // The address of the first pixel. The others may lie outside of the image.
    const unsigned at = ((image * pool.h + 2 * a) * pool.w + 2 * b) * pool.c + channel;
    const bool inside[2][2] = {{true, 2 * b + 1 < pool.w},
                               {2 * a + 1 < pool.h, 2 * a + 1 < pool.h && 2 * b + 1 < pool.w}};

    float sum[2][2][VECTOR];
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int j = 0; j < 2; j++) {
            begin(sum[i][j], dx + at + (i * pool.w + j) * pool.c, accumulate && inside[i][j]);
        }
    }
#pragma unroll
    for (int up = 1; up >= 0; up--) {
#pragma unroll
        for (int left = 1; left >= 0; left--) {
            // Unsigned: an index before the first window wraps around and is beyond the last.
            const unsigned p = a - up, q = b - left;
            if (p < pool.p && q < pool.q) {
                const unsigned from = ((image * pool.p + p) * pool.q + q) * pool.c + channel;
                unsigned position[VECTOR];
                float gradient[VECTOR];
                load_bytes(index + from, position);
                load(dy + from, gradient);
#pragma unroll
                for (int i = 0; i < (up ? 1 : 2); i++) {
#pragma unroll
                    for (int j = 0; j < (left ? 1 : 2); j++) {
                        add_where(sum[i][j], gradient, position, (2 * up + i) * 3 + 2 * left + j);
                    }
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int j = 0; j < 2; j++) {
            if (inside[i][j]) store(dx + at + (i * pool.w + j) * pool.c, sum[i][j]);
        }
    }
}
