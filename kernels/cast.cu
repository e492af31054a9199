// Conversion between the two types of numbers on the device, `Storage` and float.
//
//     cast_to_storage   y (Storage) = x (float), rounded      (overwrites or adds)
//     cast_to_float     y (float) = x (Storage)               (overwrites or adds)
//
// Grid: ceil(len / (THREADS * VECTOR)). Block: THREADS.
#include "elementwise.cuh"

// Reads WIDTH neighbouring floats: 1, or VECTOR in accesses of 16 bytes.
template <int WIDTH>
static __device__ __forceinline__ void load_floats(const float *from, float (&values)[WIDTH]) {
    if constexpr (WIDTH == 1) {
        values[0] = *from;
    } else {
#pragma unroll
        for (int i = 0; i < WIDTH; i += 4) {
            const float4 four = *reinterpret_cast<const float4 *>(from + i);
            values[i] = four.x, values[i + 1] = four.y, values[i + 2] = four.z, values[i + 3] = four.w;
        }
    }
}

template <int WIDTH>
static __device__ __forceinline__ void store_floats(float *to, const float (&values)[WIDTH]) {
    if constexpr (WIDTH == 1) {
        *to = values[0];
    } else {
#pragma unroll
        for (int i = 0; i < WIDTH; i += 4) {
            const float4 four = make_float4(values[i], values[i + 1], values[i + 2], values[i + 3]);
            *reinterpret_cast<float4 *>(to + i) = four;
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    cast_to_storage(Storage *y, const float *x, unsigned len, int accumulate) {
    each_pack(len, [=](auto width, unsigned at) {
        constexpr int WIDTH = decltype(width)::value;
        float value[WIDTH];
        load_floats(x + at, value);
        if (accumulate) {
            float old[WIDTH];
            load(y + at, old);
#pragma unroll
            for (int i = 0; i < WIDTH; i++) value[i] = old[i] + value[i];
        }
        store(y + at, value);
    });
}

extern "C" __global__ void __launch_bounds__(THREADS)
    cast_to_float(float *y, const Storage *x, unsigned len, int accumulate) {
    each_pack(len, [=](auto width, unsigned at) {
        constexpr int WIDTH = decltype(width)::value;
        float value[WIDTH];
        load(x + at, value);
        if (accumulate) {
            float old[WIDTH];
            load_floats(y + at, old);
#pragma unroll
            for (int i = 0; i < WIDTH; i++) value[i] = old[i] + value[i];
        }
        store_floats(y + at, value);
    });
}
