// Dropout. The mask is drawn anew in each pass and never stored: an element is dropped if its random word is below a threshold.
//
//     dropout_fprop   y[i] = dropped(i) ? 0 : x[i] * scale
//     dropout_dgrad   dx[i] = dropped(i) ? 0 : dy[i] * scale      (overwrites or adds)
//
// Grid: ceil(len / (THREADS * VECTOR)). Block: THREADS. One call of Philox gives the words of four elements. `progress` lies
// in device memory, so that a replayed graph reads the current epoch and step.
#include "elementwise.cuh"
#include "philox.cuh"

static_assert(VECTOR % 4 == 0, "a pack takes all four words of each counter");

static __device__ __forceinline__ float apply(float value, float scale, unsigned word, unsigned threshold) {
    // `__fmul_rn` is never fused with a following addition, so the bits are the CPU's.
    return word < threshold ? 0.0f : __fmul_rn(value, scale);
}

static __device__ __forceinline__ void dropout(Storage *to, const Storage *from, const Progress *progress,
                                               Stream stream, unsigned threshold, float scale, unsigned len,
                                               bool accumulate) {
    const Progress now = *progress;
    each_pack(len, [=](auto width, unsigned at) {
        constexpr int WIDTH = decltype(width)::value;
        float value[WIDTH];
        load(from + at, value);
        if constexpr (WIDTH == 1) {
            const uint4 word = words(stream, now, at / 4);
            const unsigned low = at % 2 ? word.y : word.x, high = at % 2 ? word.w : word.z;
            value[0] = apply(value[0], scale, at % 4 < 2 ? low : high, threshold);
        } else {
#pragma unroll
            for (int i = 0; i < WIDTH; i += 4) {
                const uint4 word = words(stream, now, (at + i) / 4);
                value[i] = apply(value[i], scale, word.x, threshold);
                value[i + 1] = apply(value[i + 1], scale, word.y, threshold);
                value[i + 2] = apply(value[i + 2], scale, word.z, threshold);
                value[i + 3] = apply(value[i + 3], scale, word.w, threshold);
            }
        }
        if (accumulate) {
            float old[WIDTH];
            load(to + at, old);
#pragma unroll
            for (int i = 0; i < WIDTH; i++) value[i] = old[i] + value[i];
        }
        store(to + at, value);
    });
}

extern "C" __global__ void __launch_bounds__(THREADS)
    dropout_fprop(Storage *y, const Storage *x, const Progress *progress, Stream stream, unsigned threshold,
                  float scale, unsigned len) {
    dropout(y, x, progress, stream, threshold, scale, len, false);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    dropout_dgrad(Storage *dx, const Storage *dy, const Progress *progress, Stream stream, unsigned threshold,
                  float scale, unsigned len, int accumulate) {
    dropout(dx, dy, progress, stream, threshold, scale, len, accumulate);
}
