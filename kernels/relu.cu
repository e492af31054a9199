// ReLU as an op of its own, over tensors of any shape.
//
//     relu_fprop   y = x < 0 ? 0 : x            (NaN stays NaN)
//     relu_dgrad   dx = y > 0 ? dy : 0          (overwrites or adds)
//     relu_mask    dy = y > 0 ? dy : 0          (in place; relu_mask_float: where dy is float)
//
// Grid: ceil(len / (THREADS * VECTOR)). Block: THREADS.
#include "elementwise.cuh"

extern "C" __global__ void __launch_bounds__(THREADS) relu_fprop(Storage *y, const Storage *x, unsigned len) {
    each_pack(len, [=](auto width, unsigned at) {
        constexpr int WIDTH = decltype(width)::value;
        float value[WIDTH];
        load(x + at, value);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) value[i] = value[i] < 0.0f ? 0.0f : value[i];
        store(y + at, value);
    });
}

extern "C" __global__ void __launch_bounds__(THREADS)
    relu_dgrad(Storage *dx, const Storage *y, const Storage *dy, unsigned len, int accumulate) {
    each_pack(len, [=](auto width, unsigned at) {
        constexpr int WIDTH = decltype(width)::value;
        float output[WIDTH], gradient[WIDTH];
        load(y + at, output);
        load(dy + at, gradient);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) gradient[i] = output[i] > 0.0f ? gradient[i] : 0.0f;
        // The mask does not apply to gradients that other readers of x have added: x has not gone through this ReLU.
        if (accumulate) {
            float old[WIDTH];
            load(dx + at, old);
#pragma unroll
            for (int i = 0; i < WIDTH; i++) gradient[i] = old[i] + gradient[i];
        }
        store(dx + at, gradient);
    });
}

extern "C" __global__ void __launch_bounds__(THREADS) relu_mask(Storage *dy, const Storage *y, unsigned len) {
    each_pack(len, [=](auto width, unsigned at) {
        constexpr int WIDTH = decltype(width)::value;
        float output[WIDTH], gradient[WIDTH];
        load(y + at, output);
        load(dy + at, gradient);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) gradient[i] = output[i] > 0.0f ? gradient[i] : 0.0f;
        store(dy + at, gradient);
    });
}

// `relu_mask` for a gradient that is float in every precision.
extern "C" __global__ void __launch_bounds__(THREADS) relu_mask_float(float *dy, const Storage *y, unsigned len) {
    each_pack(len, [=](auto width, unsigned at) {
        constexpr int WIDTH = decltype(width)::value;
        float output[WIDTH];
        load(y + at, output);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) {
            if (!(output[i] > 0.0f)) dy[at + i] = 0.0f;
        }
    });
}
