// A pair of 1x1 convolutions of few channels, a ReLU between them, and the global average that may follow, in one kernel each
// way. The values between them never leave the multiprocessor; the backward kernel computes them again.
//
//     hidden = relu(x · w2ᵀ + b2)    dz = dy · w3, zeroed where hidden is not positive   dw3 = dyᵀ · hidden, db3 = Σ dy
//     y = act(hidden · w3ᵀ + b3)     dx = dz · w2, zeroed where x is not positive        dw2 = dzᵀ · x, db2 = Σ dz
//                                    if `mask` is set
//
//     pointwise_pair_fprop      y, x, w2, b2, w3, b3, extents, relu            overwrites y
//     pointwise_pair_backward   dx (optional), parts, x, dy, w2, b2, w3, b3,   overwrites dx or adds to it;
//                               extents, layout, relu, mask, accumulate        parts[block]: dw2, dw3, db2, db3
//
// Memory: x, y, dy, dx NHWC and w KRSC in Storage; biases and parts in float. Block: PAIR_PIXELS threads, a pixel each.
// Grid: fprop a block for each tile of `extents.tile` pixels, which is PAIR_PIXELS or as many whole images as fit those;
// backward no more than that, each block taking several tiles in turn.
//
// The last block of NiN ends in two such layers, of as many channels as there are classes: ten, at 5 x 5. Of the products
// that a GEMM's tiles compute for them, 1 to 4 % are wanted, in six launches: fprop, dgrad and wgrad of each. The global
// average, which reads the layers' output twice, takes two more. This file has all of it in two launches, for up to 16
// channels of each kind, at any precision.
//
// * A thread has a pixel. The pixels of a tile are one range of memory, which is copied to shared memory and back in
//   packs. There each pixel has a row of 17 floats, an odd pitch, so that neighbouring threads have no bank conflicts. A
//   row goes through a layer in 16 sums in registers. Weights are read four at a time, the same for all threads.
// * Same bits. Sums over channels have the GEMM's order. hidden and dz are rounded to Storage as if they were stored, so masks
//   and factors are those of two convolutions; in fp32 y and dx are so to the bit. Products are plain multiply-adds, since
//   tensor cores would mostly multiply padding.
// * Gradients of the weights. When a tile's rows of x, hidden and both gradients are in shared memory, threads turn from pixels
//   to elements of dw and db. Each adds up its own elements over the tile. A 1 after the last channel makes db a column of
//   dw. After its last tile a block leaves its sums as a part, and the optimiser adds the parts up.
// * The mean. If `extents.image` is not 0, y is the mean of each image, and dy its gradient. Then a tile is as many whole
//   images as there are threads for their pixels: five of 5 x 5. In the backward pass, the gradient of a pixel's y is dy *
//   scale, zeroed where y is not positive if `relu` is set. For that y is computed again from hidden, which takes 100
//   multiply-adds a pixel. A warp adds up an image's pixels, a lane for each channel, in the order of global_avgpool.cu.
//   Both ways the values between the layers and the average are rounded to Storage. So the mean and dx have the bits of
//   the separate kernels. Such a tile may begin within a pack: elements of its first and last pack are accessed one by
//   one. Images of more than PAIR_PIXELS pixels are left to the average's own kernels.
#include "divide.cuh"
#include "elementwise.cuh"

constexpr int PIXELS = PAIR_PIXELS, CHANNELS = PAIR_CHANNELS;
static_assert(PIXELS % 32 == 0 && PIXELS % VECTOR == 0, "whole warps, and full tiles that begin at whole packs");
static_assert(CHANNELS % VECTOR == 0 && CHANNELS % 4 == 0, "a row of weights is read four at a time");

// `src/ops/pointwise_pair/cuda.rs` fills these in.
struct Extents {
    Divisor c, k3;
    // The pixels of an image where its mean is wanted, else 0. `scale` is the factor of their sum.
    Divisor image;
    float scale;
    // `pixels` are those of all images, `tile` those of a tile.
    unsigned k2, pixels, tile;
};

// The places of the gradients of w2, w3, b2 and b3 in a part, and the distance of the parts.
struct Layout {
    unsigned dw2, dw3, db2, db3, stride;
};

// A tile in shared memory, a row for each pixel. The pitch is odd, so that threads that read the same channel of their
// pixels, or neighbouring channels of one pixel, have no bank conflicts. It leaves room for a 1 after the last channel.
constexpr int PITCH = CHANNELS + 1;
static_assert(PITCH % 2 == 1, "no two pixels of a warp in one bank");
using Rows = float[PIXELS][PITCH];

// Weights by input and output channel; zero beyond the last channel.
struct alignas(16) Matrix {
    float row[CHANNELS][CHANNELS];
};

// Loads w [outputs, inputs]; TRANSPOSED: w [inputs, outputs], for the backward pass.
template <bool TRANSPOSED>
static __device__ __forceinline__ void load_matrix(Matrix &to, const Storage *w, unsigned inputs, unsigned outputs) {
    for (unsigned i = threadIdx.x; i < CHANNELS * CHANNELS; i += PIXELS) {
        const unsigned input = i / CHANNELS, output = i % CHANNELS;
        const unsigned at = TRANSPOSED ? input * outputs + output : output * inputs + input;
        to.row[input][output] = input < inputs && output < outputs ? to_float(w[at]) : 0.0f;
    }
}

static __device__ __forceinline__ void load_bias(float (&to)[CHANNELS], const float *bias, unsigned channels) {
    if (threadIdx.x < CHANNELS) to[threadIdx.x] = threadIdx.x < channels ? bias[threadIdx.x] : 0.0f;
}

// Calls body(Width<WIDTH>, at) for a tile's elements, begin .. end of the tensor: once for each whole pack, and once for each
// element before the first and after the last whole pack. The number of packs of a thread is a constant, so all its loads are
// under way at once.
template <typename Body>
static __device__ __forceinline__ void each_pack_of_tile(unsigned begin, unsigned end, Body body) {
    // The threads cover PIXELS * CHANNELS elements. A tile that begins within a pack has at most (PIXELS - 1) * (CHANNELS - 1),
    // since 16 channels or 128 pixels make whole packs. So the elements of the first pack before the tile fit too.
    const unsigned first = begin / VECTOR * VECTOR;
#pragma unroll
    for (int i = 0; i < CHANNELS / VECTOR; i++) {
        const unsigned at = first + (i * PIXELS + threadIdx.x) * VECTOR;
        if (at >= begin && at + VECTOR <= end) {
            body(Width<VECTOR>{}, at);
        } else {
            for (unsigned j = max(at, begin); j < min(at + VECTOR, end); j++) body(Width<1>{}, j);
        }
    }
}

// The place of an element in a tile's rows; `next` goes to the element after it.
struct Place {
    unsigned pixel, channel;

    __device__ Place(unsigned at, const Divisor &channels) {
        const Division place = divide(at, channels);
        pixel = place.quotient, channel = place.remainder;
    }
    __device__ void next(const Divisor &channels) {
        if (++channel == channels.value) channel = 0, pixel++;
    }
};

// Loads the pixels first .. first + pixels of a tensor.
static __device__ __forceinline__ void load_tile(Rows &to, const Storage *from, unsigned first, unsigned pixels,
                                                 const Divisor &channels) {
    const unsigned begin = first * channels.value;
    each_pack_of_tile(begin, begin + pixels * channels.value, [&](auto width, unsigned at) {
        constexpr int WIDTH = decltype(width)::value;
        float values[WIDTH];
        load(from + at, values);
        Place place(at - begin, channels);
#pragma unroll
        for (int i = 0; i < WIDTH; i++, place.next(channels)) to[place.pixel][place.channel] = values[i];
    });
}

static __device__ __forceinline__ void store_tile(Storage *to, const Rows &from, unsigned first, unsigned pixels,
                                                  const Divisor &channels, bool accumulate) {
    const unsigned begin = first * channels.value;
    each_pack_of_tile(begin, begin + pixels * channels.value, [&](auto width, unsigned at) {
        constexpr int WIDTH = decltype(width)::value;
        float values[WIDTH];
        Place place(at - begin, channels);
#pragma unroll
        for (int i = 0; i < WIDTH; i++, place.next(channels)) values[i] = from[place.pixel][place.channel];
        if (accumulate) {
            float old[WIDTH];
            load(to + at, old);
#pragma unroll
            for (int i = 0; i < WIDTH; i++) values[i] = old[i] + values[i];
        }
        store(to + at, values);
    });
}

// Multiplies a pixel's channels by a matrix; each sum is in the order of the inputs.
static __device__ __forceinline__ void multiply(float (&sums)[CHANNELS], const float *row, const Matrix &w,
                                                unsigned inputs) {
#pragma unroll
    for (int output = 0; output < CHANNELS; output++) sums[output] = 0.0f;
    for (unsigned input = 0; input < inputs; input++) {
        const float value = row[input];
#pragma unroll
        for (int output = 0; output < CHANNELS; output += 4) {
            const float4 weights = *reinterpret_cast<const float4 *>(&w.row[input][output]);
            sums[output] = fmaf(value, weights.x, sums[output]);
            sums[output + 1] = fmaf(value, weights.y, sums[output + 1]);
            sums[output + 2] = fmaf(value, weights.z, sums[output + 2]);
            sums[output + 3] = fmaf(value, weights.w, sums[output + 3]);
        }
    }
}

static __device__ __forceinline__ float rectify(float value) { return value < 0.0f ? 0.0f : value; }

// The value after a rounding to Storage.
static __device__ __forceinline__ float rounded(float value) { return to_float(to_storage(value)); }

// to[output] = value(output, its sum), for all outputs.
template <typename Value>
static __device__ __forceinline__ void set_row(float *to, const float (&sums)[CHANNELS], unsigned outputs,
                                               Value value) {
#pragma unroll
    for (int output = 0; output < CHANNELS; output++) {
        if (output < outputs) to[output] = value(output, sums[output]);
    }
}

// Stores the means of a tile's images: a warp takes an image, a lane a channel, so that lanes read neighbouring banks.
static_assert(CHANNELS <= 32, "a lane for each channel");
static __device__ __forceinline__ void store_means(Storage *to, const Rows &rows, unsigned first, unsigned pixels,
                                                   const Extents &extents) {
    const unsigned image = extents.image.value, k3 = extents.k3.value, channel = threadIdx.x % 32;
    const unsigned first_image = divide(first, extents.image).quotient;
    if (channel >= k3) return;
    for (unsigned begin = threadIdx.x / 32 * image; begin < pixels; begin += PIXELS / 32 * image) {
        float sums[AVGPOOL_SUMS] = {};
        for (unsigned pixel = 0; pixel < image; pixel += AVGPOOL_SUMS) {
#pragma unroll
            for (int i = 0; i < AVGPOOL_SUMS; i++) {
                if (pixel + i < image) sums[i] += rows[begin + pixel + i][channel];
            }
        }
        float sum = sums[0];
#pragma unroll
        for (int i = 1; i < AVGPOOL_SUMS; i++) sum += sums[i];
        to[(first_image + divide(begin, extents.image).quotient) * k3 + channel] = to_storage(sum * extents.scale);
    }
}

// Loads the gradients of a tile's y, after its ReLU, from those of the means. A thread writes its own pixel's.
static __device__ __forceinline__ void load_means(Rows &to, const Storage *from, unsigned first, unsigned pixels,
                                                  const Extents &extents) {
    const unsigned k3 = extents.k3.value;
    if (threadIdx.x >= pixels) return;
    const Storage *mean = from + divide(first + threadIdx.x, extents.image).quotient * k3;
#pragma unroll
    for (int k = 0; k < CHANNELS; k++) {
        if (k < k3) to[threadIdx.x][k] = rounded(__fmul_rn(to_float(mean[k]), extents.scale));
    }
}

extern "C" __global__ void __launch_bounds__(PAIR_PIXELS)
    pointwise_pair_fprop(Storage *y, const Storage *x, const Storage *w2, const float *b2, const Storage *w3,
                         const float *b3, const __grid_constant__ Extents extents, int relu) {
    __shared__ Rows rows;
    __shared__ Matrix second, third;
    __shared__ float second_bias[CHANNELS], third_bias[CHANNELS];
    const unsigned c = extents.c.value, k2 = extents.k2, k3 = extents.k3.value;
    const unsigned first = blockIdx.x * extents.tile, pixels = min(extents.tile, extents.pixels - first);
    load_tile(rows, x, first, pixels, extents.c);
    load_matrix<false>(second, w2, c, k2);
    load_matrix<false>(third, w3, k2, k3);
    load_bias(second_bias, b2, k2);
    load_bias(third_bias, b3, k3);
    __syncthreads();
    if (threadIdx.x < pixels) {
        // The row of a layer's output takes the place of that of its input.
        float *row = rows[threadIdx.x], sums[CHANNELS];
        multiply(sums, row, second, c);
        set_row(row, sums, k2, [&](int k, float sum) { return rounded(rectify(sum + second_bias[k])); });
        multiply(sums, row, third, k2);
        set_row(row, sums, k3, [&](int k, float sum) {
            const float value = sum + third_bias[k];
            return rounded(relu ? rectify(value) : value);
        });
    }
    __syncthreads();
    if (extents.image.value != 0) {
        store_means(y, rows, first, pixels, extents);
    } else {
        store_tile(y, rows, first, pixels, extents.k3, false);
    }
}

// The most elements of all four gradients (a column of ones makes a bias's gradient a weight's), and those of a thread.
constexpr int MOST_ELEMENTS = 2 * CHANNELS * (CHANNELS + 1), SHARES = (MOST_ELEMENTS + PIXELS - 1) / PIXELS;

// One element: Σ dy[pixel][k] · x[pixel][column] of a layer. Column `inputs` of x is ones.
struct Element {
    const float *dy, *x;
    unsigned to;

    __device__ Element(const Rows &dy, const Rows &x, unsigned inputs, unsigned index, unsigned dw, unsigned db) {
        const unsigned k = index / (inputs + 1), column = index % (inputs + 1);
        this->dy = &dy[0][k], this->x = &x[0][column];
        to = column < inputs ? dw + k * inputs + column : db + k;
    }
};

// Four blocks to a multiprocessor: compute capability 9.0 has shared memory for a fifth, for which ptxas would spill registers.
extern "C" __global__ void __launch_bounds__(PAIR_PIXELS, 4)
    pointwise_pair_backward(Storage *dx, float *parts, const Storage *x, const Storage *dy, const Storage *w2,
                            const float *b2, const Storage *w3, const float *b3,
                            const __grid_constant__ Extents extents, const __grid_constant__ Layout layout, int relu,
                            int mask, int accumulate) {
    // The rows of x, hidden, dz and dy.
    __shared__ Rows input, hidden, dz, output;
    __shared__ Matrix second, third, second_back, third_back;
    __shared__ float second_bias[CHANNELS], third_bias[CHANNELS];
    const unsigned c = extents.c.value, k2 = extents.k2, k3 = extents.k3.value;
    const bool mean = extents.image.value != 0, again = mean && relu;
    load_matrix<false>(second, w2, c, k2);
    load_matrix<true>(second_back, w2, k2, c);
    load_matrix<true>(third_back, w3, k3, k2);
    load_bias(second_bias, b2, k2);
    if (again) {
        load_matrix<false>(third, w3, k2, k3);
        load_bias(third_bias, b3, k3);
    }

    const unsigned elements_of_third = k3 * (k2 + 1), elements = elements_of_third + k2 * (c + 1);
    const auto element = [&](unsigned index) {
        return index < elements_of_third
                   ? Element(output, hidden, k2, index, layout.dw3, layout.db3)
                   : Element(dz, input, c, index - elements_of_third, layout.dw2, layout.db2);
    };
    float gradients[SHARES] = {};
    for (unsigned first = blockIdx.x * extents.tile; first < extents.pixels; first += gridDim.x * extents.tile) {
        const unsigned pixels = min(extents.tile, extents.pixels - first);
        load_tile(input, x, first, pixels, extents.c);
        if (mean) {
            load_means(output, dy, first, pixels, extents);
        } else {
            load_tile(output, dy, first, pixels, extents.k3);
        }
        __syncthreads();
        float *const row = input[threadIdx.x], *const hidden_row = hidden[threadIdx.x];
        float *const output_row = output[threadIdx.x];
        float sums[CHANNELS];
        if (threadIdx.x < pixels) {
            multiply(sums, row, second, c);
            set_row(hidden_row, sums, k2, [&](int k, float sum) { return rounded(rectify(sum + second_bias[k])); });
            if (again) {
                multiply(sums, hidden_row, third, k2);
                set_row(output_row, sums, k3,
                        [&](int k, float sum) { return rounded(sum + third_bias[k]) > 0.0f ? output_row[k] : 0.0f; });
            }
            multiply(sums, output_row, third_back, k3);
            set_row(dz[threadIdx.x], sums, k2,
                    [&](int k, float sum) { return hidden_row[k] > 0.0f ? rounded(sum) : 0.0f; });
            row[c] = hidden_row[k2] = 1.0f;
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < SHARES; i++) {
            const unsigned index = i * PIXELS + threadIdx.x;
            if (index < elements) {
                const Element of = element(index);
                float sum = gradients[i];
#pragma unroll 8
                for (unsigned pixel = 0; pixel < pixels; pixel++) {
                    sum = fmaf(of.dy[pixel * PITCH], of.x[pixel * PITCH], sum);
                }
                gradients[i] = sum;
            }
        }
        __syncthreads();
        if (dx != nullptr) {
            if (threadIdx.x < pixels) {
                multiply(sums, dz[threadIdx.x], second_back, k2);
                set_row(row, sums, c, [&](int k, float sum) { return !mask || row[k] > 0.0f ? sum : 0.0f; });
            }
            __syncthreads();
            store_tile(dx, input, first, pixels, extents.c, accumulate);
            __syncthreads();
        }
    }
    float *part = parts + blockIdx.x * layout.stride;
#pragma unroll
    for (int i = 0; i < SHARES; i++) {
        const unsigned index = i * PIXELS + threadIdx.x;
        if (index < elements) part[element(index).to] = gradients[i];
    }
}
