// The fused block of a network in network: a convolution and two 1x1 convolutions, a ReLU after each, in one kernel each
// way, and the 3x3/2 max pool that may follow. The values between them never leave the multiprocessor; the backward
// kernel computes them again. bf16 alone.
//
//     a1 = relu(patches of x · w1ᵀ + b1)      dz2 = dy · w3, zeroed where a2 is not positive     dw3 = dyᵀ · a2, db3 = Σ dy
//     a2 = relu(a1 · w2ᵀ + b2)                dz1 = dz2 · w2, zeroed where a1 is not positive    dw2 = dz2ᵀ · a1, db2 = Σ dz2
//     y = act(a2 · w3ᵀ + b3)                  (dw1, db1 and dx: conv2d's kernels, from dz1)
//
// a1, a2, dz2 and dz1 are rounded to bf16 as if they were stored, so masks and factors are those of the composition; with
// a pool y and dy are rounded too.
//
//     mlpconv_fprop             y, x, w1, b1, w2, b2, w3, b3, relu, extents           overwrites y
//     mlpconv_maxpool_fprop     y, index (optional: null), x, w1, b1, w2, b2, w3, b3, extents, bands
//                                                                                     overwrites y, the pool's, with its signs
//                                                                                     (`Rectified`), and index
//     mlpconv_backward          dz1, partial, x, dy, w1, b1, w2, b2, w3, extents      overwrites dz1; partial[block]: dw3,
//                                                                                     db3, dw2, db2
//     mlpconv_maxpool_backward  dz1, partial, x, dy, index, w1, b1, w2, b2, w3, extents, pooled
//                                                                                     the same; dy is the pool's
//
// Memory: x, y, dy, dz1 NHWC and w KRSC in Storage; biases and partial results in float. Grid: as many blocks as run at
// once. A block keeps the weights in shared memory and takes tiles of pixels in turn, each of one image, 32 pixels a warp in
// fprop, 16 backward. Block: MLPCONV_WARPS warps.
//
// The kernels are for the first block of d2l's NiN, from one channel to 96 at 54 x 54, which memory bounds. Traffic of an
// image, with U = 2·p·q·k bytes of an activation and X = 2·h·w·c of the input (without weights and second reads that hit
// in the second-level cache):
//
//     pass       three convolutions                                       fused                          bytes of that block
//     forward    x, a1, a1, a2, a2, y                         X + 5U      x, y                  X + U    2,899,712 ->   660,224
//     backward   dy, a2, dy, a2, da2 · da2, a1, da2, a1,      X + 11U     x, dy, dz1 · dz1, x   2X + 3U  6,258,944 -> 1,880,320
//                da1 · da1, x
//     both                                                    2X + 16U                          3X + 4U  9,158,656 -> 2,540,544
//
// The price is arithmetic: the backward kernel computes a1 and a2 again, taps·k + k² multiply-adds a pixel more.
//
// With the pool, of V bytes of output and half as many of positions, only 53² pixels are computed:
//
//     pass       fused, then the pool                                     with the pool                  bytes
//     forward    x, y · y, pooled                       X + 2U + 1.5V     x, pooled          X + 1.5V    1,373,696 ->   295,040
//     backward   pooled, dy · x, dy, dz1 · dz1, x      2X + 4U + 1.5V     x, pooled,    2X + 2U + 1.5V   2,552,704 -> 1,474,048
//                                                                         dz1 · dz1, x
//
// dw1, db1 and dx come of `conv2d_wgrad` and `conv2d_dgrad`. Writing dz1 and reading it again is cheaper than computing
// it twice: dw1 in the same kernel would need registers that dw2 and dw3 take (80 a thread), and shared memory that is
// full.
//
// The weights stay in shared memory for all tiles of a block: loaded for each tile, they would be more bytes than its results.
// With the pool, d2l's first block takes 159 KiB forward and 121 KiB backward. A block may have 163 KiB on compute capability
// 8.0 and 227 on 9.0. Where it may have less, the op calls the pool's own kernels, as for other pools and forward without a
// ReLU. `src/ops/mlpconv/cuda.rs` has the rule for which shapes are fused: bf16, all three channels a multiple of 8 from 56 to
// 96, an even distance between neighbouring windows, weights and image rows that fit. All others, fp32, TF32 and the CPU run
// three convolutions.
//
//     mlpconv/layers.cuh        the 1x1 convolutions, in registers
//     mlpconv/convolution.cuh   the first convolution
//     mlpconv/gradient.cuh      dw and db of the 1x1 convolutions
//     mlpconv/pool.cuh          the pool
#if PRECISION == 2

#include "mlpconv/convolution.cuh"
#include "mlpconv/gradient.cuh"
#include "mlpconv/layers.cuh"
#include "mlpconv/pool.cuh"

// The layers' parameters. The backward kernels do not need b3.
struct Parameters {
    const Storage *w1;
    const float *b1;
    const Storage *w2;
    const float *b2;
    const Storage *w3;
    const float *b3;
};

// Stores a lane's chunks of `values` to rows of a tensor of `channels` channels.
template <int ROWS>
__device__ __forceinline__ void store_values(Storage *to, const Values<ROWS> &values, const PixelTile &tile, int first,
                                             int channels, const Extents &e) {
    const int lane = thread() % 32;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int pixel = first + 16 * i + 8 * half + lane / 4;
            Storage *row = to + static_cast<size_t>(tile.n * e.pixels + pixel) * channels;
#pragma unroll
            for (int group = 0; group < GROUPS; group++) {
                const int channel = 32 * group + lane % 4 * 8;
                if (pixel < tile.end && channel < channels) {
                    *reinterpret_cast<uint4 *>(row + channel) = values.chunk(i, group, half);
                }
            }
        }
    }
}

// The output without a pool: y itself.
struct PlainOutput {
    Storage *y;
    const Extents &e;

    __device__ unsigned shared() const { return 0; }
    __device__ void put(const Values<FPROP_ROWS> &values, const PixelTile &tile, int first) const {
        store_values(y, values, tile, first, e.k3, e);
    }
    __device__ void finish(const PixelTile &) const {}
};

// Shared memory: w2, w3, the output's room, w1, the image's rows.
template <class Tiles, class Output>
__device__ __forceinline__ void forward(Tiles tiles, const Output &output, const Storage *x, const Parameters &given,
                                        bool relu, const Extents &e) {
    const unsigned shared = shared_address(shared_memory), before = 2 * SQUARE + output.shared();
    const unsigned filter = shared + before, image = filter + CHANNELS * e.w1_pitch;
    load_image(image, x, *tiles, e);
    commit_copies();
    load_square(shared_memory, given.w2, e.k2, e.k1);
    load_square(shared_memory + SQUARE, given.w3, e.k3, e.k2);
    load_filter(shared_memory + before, given.w1, e);
    const Square second(shared, false), third(shared + SQUARE, false);
    wait_copies<0>();
    __syncthreads();
#pragma unroll 1
    while (tiles.more()) {
        const auto tile = *tiles;
        const int first = tile.first + thread() / 32 * 16 * FPROP_ROWS;
        Values<FPROP_ROWS> even, odd;
        convolve(even, image, filter, tile, first, given.b1, e);
        // The next tile's rows of the image arrive while the other two layers are computed.
        __syncthreads();
        tiles.next();
        if (tiles.more()) load_image(image, x, *tiles, e);
        commit_copies();
        layer(odd, even, second, given.b2, e.k2, true);
        layer(even, odd, third, given.b3, e.k3, relu);
        output.put(even, tile, first);
        wait_copies<0>();
        __syncthreads();
        output.finish(tile);
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK, 1)
    mlpconv_fprop(Storage *y, const Storage *x, const Storage *w1, const float *b1, const Storage *w2, const float *b2,
                  const Storage *w3, const float *b3, int relu, const __grid_constant__ Extents e) {
    forward(ImageTiles<FPROP_PIXELS>(e), PlainOutput{y, e}, x, {w1, b1, w2, b2, w3, b3}, relu, e);
}

extern "C" __global__ void __launch_bounds__(BLOCK, 1)
    mlpconv_maxpool_fprop(Rectified y, unsigned char *index, const Storage *x, const Storage *w1, const float *b1,
                          const Storage *w2, const float *b2, const Storage *w3, const float *b3,
                          const __grid_constant__ Extents e, const __grid_constant__ Bands bands) {
    const Ring ring{shared_address(shared_memory) + 2 * SQUARE, bands};
    forward(BandTiles(e, bands), PooledOutput{y, index, ring, e}, x, {w1, b1, w2, b2, w3, b3}, true, e);
}

// The output's gradient without a pool: dy itself.
struct PlainGradient {
    const Storage *dy;
    const Extents &e;

    __device__ unsigned shared() const { return 0; }
    __device__ void load(const PixelTile &) const {}
    // Beyond the last pixel and the last channel the gradient is zero.
    __device__ void get(Values<1> &to, const PixelTile &tile, int first) const {
        const int lane = thread() % 32;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int pixel = first + 8 * half + lane / 4;
            const Storage *row = dy + static_cast<size_t>(tile.n * e.pixels + pixel) * e.k3;
#pragma unroll
            for (int group = 0; group < GROUPS; group++) {
                const int channel = 32 * group + lane % 4 * 8;
                uint4 value = make_uint4(0, 0, 0, 0);
                if (pixel < tile.end && channel < e.k3) value = *reinterpret_cast<const uint4 *>(row + channel);
                to.set_chunk(0, group, half, value);
            }
        }
    }
};

// Shared memory: w2, w3, two tiles of half a block's pixels, the output gradient's room, w1, the image's rows.
template <class Gradient>
__device__ __forceinline__ void backward(Storage *dz1, float *partial, const Storage *x, const Gradient &output,
                                         const Parameters &given, const Extents &e) {
    constexpr int HALF = BACKWARD_PIXELS / 2 * LINE;
    const unsigned shared = shared_address(shared_memory), before = 2 * SQUARE + 2 * HALF + output.shared();
    const unsigned left = shared + 2 * SQUARE, right = left + HALF, filter = shared + before;
    const unsigned image = filter + CHANNELS * e.w1_pitch;
    const bool later = thread() / 32 >= WARPS / 2;
    ImageTiles<BACKWARD_PIXELS> tiles(e);
    load_image(image, x, *tiles, e);
    output.load(*tiles);
    commit_copies();
    load_square(shared_memory, given.w2, e.k2, e.k1);
    load_square(shared_memory + SQUARE, given.w3, e.k3, e.k2);
    load_filter(shared_memory + before, given.w1, e);
    WeightGradient dw2, dw3;
    // One half of the pixels after the other: two tiles of all pixels do not fit shared memory beside the weights.
    const auto add = [&](WeightGradient &dw, const Values<1> &a, const Values<1> &b) {
#pragma unroll 1
        for (int half = 0; half < 2; half++) {
            if (later == (half == 1)) {
                store_lines(left, a);
                store_lines(right, b);
            }
            __syncthreads();
            dw.add(left, right);
            __syncthreads();
        }
    };
#pragma unroll 1
    while (tiles.more()) {
        const PixelTile tile = *tiles;
        const int first = tile.first + thread() / 32 * 16;
        Values<1> gradient, a1, a2;
        wait_copies<0>();
        __syncthreads();
        output.get(gradient, tile, first);
        convolve(a1, image, filter, tile, first, given.b1, e);
        __syncthreads();
        tiles.next();
        if (tiles.more()) {
            load_image(image, x, *tiles, e);
            output.load(*tiles);
        }
        commit_copies();
        layer(a2, a1, Square(shared, false), given.b2, e.k2, true);
        add(dw3, gradient, a2);
        Values<1> dz2;
        layer_back(dz2, gradient, Square(shared + SQUARE, true), a2);
        add(dw2, dz2, a1);
        layer_back(gradient, dz2, Square(shared, true), a1);
        store_values(dz1, gradient, tile, first, e.k1, e);
    }
    partial += static_cast<size_t>(blockIdx.x) * e.stride;
    dw3.store(partial, partial + e.k3 * e.k2, e.k3, e.k2);
    partial += e.k3 * e.k2 + e.k3;
    dw2.store(partial, partial + e.k2 * e.k1, e.k2, e.k1);
}

extern "C" __global__ void __launch_bounds__(BLOCK, 1)
    mlpconv_backward(Storage *dz1, float *partial, const Storage *x, const Storage *dy, const Storage *w1,
                     const float *b1, const Storage *w2, const float *b2, const Storage *w3,
                     const __grid_constant__ Extents e) {
    backward(dz1, partial, x, PlainGradient{dy, e}, {w1, b1, w2, b2, w3, nullptr}, e);
}

extern "C" __global__ void __launch_bounds__(BLOCK, 1)
    mlpconv_maxpool_backward(Storage *dz1, float *partial, const Storage *x, const Storage *dy,
                             const unsigned char *index, const Storage *w1, const float *b1, const Storage *w2,
                             const float *b2, const Storage *w3, const __grid_constant__ Extents e,
                             const __grid_constant__ PooledRows pooled) {
    const unsigned rows = shared_address(shared_memory) + 2 * SQUARE + BACKWARD_PIXELS * LINE;
    backward(dz1, partial, x, PooledGradient{dy, index, rows, e, pooled}, {w1, b1, w2, b2, w3, nullptr}, e);
}

#endif
