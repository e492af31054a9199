// The epilogue of a 1x1 convolution with a max pool: only the maxima of the windows and their positions leave the block.
//
// The last convolution of a block of NiN is followed by a max pool, and the backward pass needs the positions of the
// maxima, not the activations beside them. So the activations between the two are never in global memory. The results are
// those of `pointwise_fprop` and `maxpool_fprop`, to the bit. Traffic of an image in bf16, without the weights:
//
//     channels, pixels                   two kernels               one kernel      bytes
//     256, 25 x 25 -> 12 x 12            x, a, a, y, index         x, y, index     1,070,592 -> 430,592
//     384, 11 x 11 -> 5 x 5              the same                  the same          307,584 -> 121,728
//
// * Strips. The 128 rows of a block are a strip of pixels: as many whole images as fit (five of 5 x 5, one of 11 x 11), or as
//   many rows of one image as have whole windows. Of 25 x 25, with windows of 3 at stride 2, a strip is five rows for two
//   rows of the output: six strips, 768 rows where 625 would do. `src/ops/pointwise_maxpool/strips.rs` has the arithmetic, and the
//   rule when the additional rows cost less than memory traffic.
// * Shared memory. When all products are summed up, the activations take the place of the stages, rounded as they are stored.
//   128 x 128 floats would be 64 KiB, and only one block would fit a multiprocessor of 100 KiB. So one half of the warps
//   writes and all warps pool, then the other half writes. The waiting sums stay in the registers of the main loop.
// * Banks. Lines are padded by eight elements, so that neither the writes of fragments nor the reads of packs have bank
//   conflicts. A thread takes a pack of a pooled pixel; a power of two of threads share a pixel.
// * Price. Strips have rows in common. The instructions are about those of the two kernels: in bf16 3 % more for d2l's second
//   block, 6 % fewer for its third.
#pragma once

#include "bytes.cuh"
#include "gemm.cuh"
#include "maximum.cuh"

// The pixels of one strip, and the pooled pixels that it gives: ranges [first, end) of all pixels.
struct Strip {
    int first, end, first_pooled, end_pooled;
};

// The division of images into strips; `src/ops/pointwise_maxpool/strips.rs` fills it in. A strip is `images` whole images, or
// rows of one image. Neighbouring strips of an image have rows in common where windows overlap.
struct Strips {
    // Pixels of an image, of a strip, and from one strip to the next of the same image.
    int image_pixels, strip_pixels, step_pixels;
    // Pooled pixels of an image and of a strip; strips do not overlap in the output.
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

    // The first pixel of a pooled pixel's window. Both are counted from the beginning of a strip.
    __device__ int corner(int pooled) const {
        const auto [line, column] = divide(pooled, q);
        const auto [image, row] = divide(line, p);
        return image * image_pixels + (row * w + column) * stride;
    }
};

// Writes neighbouring values to shared memory, rounded as they would be in global memory.
__device__ __forceinline__ void store_rounded(unsigned to, const float (&value)[2]) {
#if PRECISION == 2
    const __nv_bfloat162 pair = __floats2bfloat162_rn(value[0], value[1]);
    unsigned bits;
    memcpy(&bits, &pair, sizeof bits);
    store_shared(to, __uint_as_float(bits));
#else
    store_shared2(to, make_float2(to_storage(value[0]), to_storage(value[1])));
#endif
}

#if PRECISION == 0
__device__ __forceinline__ void store_rounded(unsigned to, const float (&value)[1]) { store_shared(to, value[0]); }
#endif

// Writes the maxima of act(sum + bias) over all windows, overwriting, and their positions (`index`; null: not wanted).
//
// The activations of a tile take the place of its stages. Where they do not fit (128 columns of floats), the columns of
// warps take turns (TURNS): one writes its activations, all warps pool them, then the next one writes.
template <class T, class Core>
__device__ __forceinline__ void pool_block(Core &core, const Rectified &y, unsigned char *index, const float *bias,
                                           int relu, const Strips &strips, int n) {
    // Eight elements of padding, so that the rows that a warp writes at once begin at different banks.
    constexpr int WHOLE = T::M * (T::N + 8) * sizeof(Storage);
    constexpr int TURNS = WHOLE <= T::SHARED_BYTES ? 1 : T::WARPS_N;
    constexpr int COLUMNS = T::N / TURNS, PITCH = COLUMNS + 8;
    static_assert(T::M * PITCH * sizeof(Storage) <= T::SHARED_BYTES, "room for the activations");
    // Threads of a pooled pixel: a power of two, so that each stays in its columns, and at least the 8 whose reads the hardware
    // serves at once, so that these have no bank conflicts. For 96 channels 4 of 16 threads are idle.
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
