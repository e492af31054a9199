// The epilogue of a 1x1 convolution whose output is pooled at once, and of which nothing else is needed: a block's rows
// are such pixels that whole windows lie in them, and only the windows' maxima leave the block.
#pragma once

#include "bytes.cuh"
#include "gemm.cuh"
#include "maximum.cuh"

// Pixels of one tile, and the pooled pixels that come of them: `[first, end)` of all there are.
struct Strip {
    int first, end, first_pooled, end_pooled;
};

// How images are cut into strips, in `src/ops/pointwise/pooled.rs`: a strip is `images` whole images, or, if it is less
// than one, rows of an image. Neighbours within an image have rows in common where windows overlap.
struct Strips {
    // Of an image, of a strip, and from one strip to the next of the same image.
    int image_pixels, strip_pixels, step_pixels;
    // The same of the output, where strips follow on one another.
    int image_pooled, strip_pooled;
    int images, n, w, window, stride;
    // Strips of an image; rows and columns of the output.
    Divisor strips, p, q;

    __device__ Strip strip(int number) const {
        const auto [group, part] = divide(number, strips);
        const int before = group * images, after = min(before + images, n);
        Strip strip;
        strip.first = before * image_pixels + part * step_pixels;
        strip.end = min(strip.first + strip_pixels, after * image_pixels);
        strip.first_pooled = before * image_pooled + part * strip_pooled;
        strip.end_pooled = min(strip.first_pooled + strip_pooled, after * image_pooled);
        return strip;
    }

    // The first pixel of a pooled pixel's window, both counted from the beginning of a strip.
    __device__ int corner(int pooled) const {
        const auto [line, column] = divide(pooled, q);
        const auto [image, row] = divide(line, p);
        return image * image_pixels + (row * w + column) * stride;
    }
};

// Neighbours, rounded as they would be in global memory.
__device__ __forceinline__ void store_rounded(unsigned to, const float (&value)[2]) {
#if PRECISION == 2
    const __nv_bfloat162 pair = __floats2bfloat162_rn(value[0], value[1]);
    unsigned bits;
    memcpy(&bits, &pair, sizeof bits);
    store_shared(to, __uint_as_float(bits));
#else
    store_shared2(to, make_float2(value[0], value[1]));
#endif
}

#if PRECISION == 0
__device__ __forceinline__ void store_rounded(unsigned to, const float (&value)[1]) { store_shared(to, value[0]); }
#endif

// fprop: act(sum + bias), and of that the windows' maxima, overwriting. `index` may be null.
//
// The activations of a tile lie where its stages were. As floats those of 128 columns have no room there, and more
// shared memory would cost one of the two blocks that a multiprocessor of 100 KiB has; so one column of warps after the
// other has the room to itself, while the others' sums wait in their registers, which by then have no other use.
template <class T, class Core>
__device__ __forceinline__ void pool_block(Core &core, const Rectified &y, unsigned char *index, const float *bias,
                                           int relu, const Strips &strips, int n) {
    // Eight elements more than the tile has, and the rows that a warp writes at once begin at different banks.
    constexpr int WHOLE = T::M * (T::N + 8) * sizeof(Storage);
    constexpr int TURNS = WHOLE <= T::SHARED_BYTES ? 1 : T::WARPS_N;
    constexpr int COLUMNS = T::N / TURNS, PITCH = COLUMNS + 8;
    static_assert(T::M * PITCH * sizeof(Storage) <= T::SHARED_BYTES, "room for the activations");
    // Threads of a pooled pixel: a power of two, so that each stays in its columns, and at least as many as read at
    // once, which then meet in no bank. Of 96 channels' 16 threads 4 have nothing to do.
    constexpr int PACKS = COLUMNS / VECTOR;
    constexpr int LANES = PACKS <= 8 ? 8 : PACKS <= 16 ? 16 : 32;
    static_assert(PACKS <= LANES && T::BLOCK % LANES == 0, "threads for all packs");

    const unsigned shared = shared_address(shared_memory);
    const int warp_m = threadIdx.x / 32 / T::WARPS_N, warp_n = threadIdx.x / 32 % T::WARPS_N;
    const Place at = place<T>(n);
    const Strip strip = strips.strip(at.row / T::M);
    if (bias != nullptr) {
        core.add_to_columns([&](int column) {
            const int channel = at.column + warp_n * T::WARP_N + column;
            return channel < n ? bias[channel] : 0.0f;
        });
    }
    const int pack = threadIdx.x % LANES;
#pragma unroll 1
    for (int turn = 0; turn < TURNS; turn++) {
        if (TURNS == 1 || turn == warp_n) {
            const int first_column = TURNS == 1 ? warp_n * T::WARP_N : 0;
            const unsigned to = shared + (warp_m * T::WARP_M * PITCH + first_column) * sizeof(Storage);
            core.each_sum([&](int row, int column, auto &sums) {
                constexpr int COUNT = sizeof(sums) / sizeof(float);
                float value[COUNT];
#pragma unroll
                for (int i = 0; i < COUNT; i++) value[i] = relu && sums[i] < 0.0f ? 0.0f : sums[i];
                store_rounded(to + (row * PITCH + column) * sizeof(Storage), value);
            });
        }
        __syncthreads();
        const int channel = at.column + turn * COLUMNS + pack * VECTOR;
        if (pack < PACKS && channel < n) {
            const Storage *activations = reinterpret_cast<const Storage *>(shared_memory) + pack * VECTOR;
            const int count = strip.end_pooled - strip.first_pooled;
#pragma unroll 1
            for (int pooled = threadIdx.x / LANES; pooled < count; pooled += T::BLOCK / LANES) {
                const Storage *corner = activations + strips.corner(pooled) * PITCH;
                float best[VECTOR];
                unsigned position[VECTOR];
                maximum(best, position, strips.window, [&](unsigned i, unsigned j, float (&value)[VECTOR]) {
                    load(corner + (i * strips.w + j) * PITCH, value);
                });
                const int to = (strip.first_pooled + pooled) * n + channel;
                store(y.values + to, best);
                if (y.signs != nullptr) y.signs[to / VECTOR] = signs_of(best);
                if (index != nullptr) store_bytes(index + to, position);
            }
        }
        if (turn + 1 < TURNS) __syncthreads();
    }
}
