// Epilogues: bias and ReLU, mask, or addition to the old value, and the way of the sums from registers to global memory.
//
// Results go through shared memory once more, 16 rows of a warp at a time. A fragment's rows are 8 bytes wide, and global
// memory is best accessed row by row in 16 bytes a lane, whole sectors. So mask and output are each read and written
// once.
#pragma once

#include "signs.cuh"
#include "tile.cuh"

// The epilogue of fprop: y = act(sum + bias), overwriting. It writes signs where rows are whole packs.
struct Activate {
    static constexpr int WIDTH = VECTOR;
    Rectified y;
    const float *bias;
    int relu, m, n;

    // Adds the bias to the sums in registers, where a thread has whole columns: each bias is read once for all of its rows.
    template <class Core>
    __device__ void begin(Core &core, int first_column) const {
        if (bias == nullptr) return;
        core.add_to_columns([&](int column) {
            const int at = first_column + column;
            return at < n ? bias[at] : 0.0f;
        });
    }

    template <int N>
    __device__ void operator()(int row, int column, float (&value)[N]) const {
        if (relu) {
#pragma unroll
            for (int i = 0; i < N; i++) value[i] = value[i] < 0.0f ? 0.0f : value[i];
        }
        const int at = row * n + column;
        store(y.values + at, value);
        if constexpr (N == VECTOR) {
            if (y.signs != nullptr) y.signs[at / VECTOR] = signs_of(value);
        }
    }
};

// The epilogue of dgrad: dx = sum, or dx += sum, zeroed where the mask is not positive.
struct Mask {
    static constexpr int WIDTH = VECTOR;
    Storage *dx;
    MaskedBy mask;
    int accumulate, m, n;

    template <class Core>
    __device__ void begin(Core &, int) const {}

    template <int N>
    __device__ void operator()(int row, int column, float (&value)[N]) const {
        const int at = row * n + column;
        if (accumulate) {
            float old[N];
            load(dx + at, old);
#pragma unroll
            for (int i = 0; i < N; i++) value[i] = old[i] + value[i];
        }
        if (mask.signs != nullptr) {
            mask_by_signs(value, mask.signs, at);
        } else if (mask.values != nullptr) {
            float input[N];
            load(mask.values + at, input);
#pragma unroll
            for (int i = 0; i < N; i++) value[i] = input[i] > 0.0f ? value[i] : 0.0f;
        }
        store(dx + at, value);
    }
};

// The epilogue of wgrad: dw = sum, or dw += sum, in float.
struct Add {
    static constexpr int WIDTH = 4;
    float *dw;
    int accumulate, m, n;

    template <class Core>
    __device__ void begin(Core &, int) const {}

    template <int N>
    __device__ void operator()(int row, int column, float (&value)[N]) const {
        float *at = dw + row * n + column;
        if constexpr (N == 1) {
            *at = accumulate ? *at + value[0] : value[0];
        } else {
            float4 sum = make_float4(value[0], value[1], value[2], value[3]);
            if (accumulate) {
                const float4 old = *reinterpret_cast<const float4 *>(at);
                sum = make_float4(old.x + sum.x, old.y + sum.y, old.z + sum.z, old.w + sum.w);
            }
            *reinterpret_cast<float4 *>(at) = sum;
        }
    }
};

// The first row and column of a block's tile. The grid's inner order is that of n, so that blocks that share rows of A run
// together and find them in the second-level cache.
struct Place {
    int row, column;
};

template <class T>
__device__ __forceinline__ Place place(int n) {
    // The block's number is read anew at each call (volatile), so that no register holds it while tiles are multiplied.
    unsigned block;
    asm volatile("mov.u32 %0, %%ctaid.x;\n" : "=r"(block));
    const unsigned columns = (n + T::N - 1) / T::N, m = block / columns;
    return {static_cast<int>(m * T::M), static_cast<int>((block - m * columns) * T::N)};
}

// Reads WIDTH neighbouring floats; their place is a multiple of WIDTH.
template <int WIDTH>
__device__ __forceinline__ void read(float (&value)[WIDTH], unsigned from) {
    // Eight floats take two reads. Every second group of four lanes reads its second half first: otherwise each read
    // would leave every second group of four banks idle.
    if constexpr (WIDTH == 8) {
        const bool odd = threadIdx.x / 4 % 2 == 1;
        const float4 one = load_shared4(from + (odd ? 16 : 0)), other = load_shared4(from + (odd ? 0 : 16));
        value[0] = odd ? other.x : one.x, value[4] = odd ? one.x : other.x;
        value[1] = odd ? other.y : one.y, value[5] = odd ? one.y : other.y;
        value[2] = odd ? other.z : one.z, value[6] = odd ? one.z : other.z;
        value[3] = odd ? other.w : one.w, value[7] = odd ? one.w : other.w;
    } else {
        const float4 all = load_shared4(from);
        value[0] = all.x, value[1] = all.y, value[2] = all.z, value[3] = all.w;
    }
}

// Applies an epilogue: sends a block's sums through shared memory to global memory, row by row, in 16 bytes a lane where n
// allows. Each warp has a slice of shared memory of its own, in the stages' place, so all tiles have to be multiplied. Of
// several groups each finishes every GROUPS-th slice.
template <class T, class Core, class Output>
__device__ __forceinline__ void finish(Core &core, unsigned shared, Place block, const Output &output) {
    static_assert(Core::PITCH <= T::WARP_N + 8 && Core::PITCH % 4 == 0, "room for all slices, read in 16 bytes");
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const unsigned slice = shared + warp * 16 * Core::PITCH * sizeof(float);
    const int first_column = block.column + warp % T::WARPS_N * T::WARP_N;
    const bool wide = output.n % Output::WIDTH == 0;
    output.begin(core, first_column);
#pragma unroll
    for (int i = 0; i < Core::SLICES; i++) {
        if (i % T::GROUPS != T::group()) continue;
        const int first_row = block.row + T::slice_row(warp, i);
        __syncwarp();
        core.write(i, slice);
        __syncwarp();
        if (wide) {
            constexpr int WIDTH = Output::WIDTH, CHUNKS = T::WARP_N / WIDTH;
            static_assert(16 * CHUNKS % 32 == 0, "passes of whole warps");
#pragma unroll
            for (int pass = 0; pass < 16 * CHUNKS / 32; pass++) {
                const int at = pass * 32 + lane, row = at / CHUNKS, column = at % CHUNKS * WIDTH;
                if (first_row + row < output.m && first_column + column < output.n) {
                    float value[WIDTH];
                    read(value, slice + Core::place(row, column) * sizeof(float));
                    output(first_row + row, first_column + column, value);
                }
            }
        } else {
#pragma unroll 1
            for (int at = lane; at < 16 * T::WARP_N; at += 32) {
                const int row = at / T::WARP_N, column = at % T::WARP_N;
                if (first_row + row < output.m && first_column + column < output.n) {
                    const unsigned from = slice + Core::place(row, column) * sizeof(float);
                    float value[1] = {__uint_as_float(load_shared(from))};
                    output(first_row + row, first_column + column, value);
                }
            }
        }
    }
}
