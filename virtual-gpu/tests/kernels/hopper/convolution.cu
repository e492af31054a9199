// Convolution of NHWC images with KRSC filters in bf16: 64 pixels x 64 filters a block. The images' map is an im2col one.
// The whole block multiplies; one thread keeps one copy in flight ahead of the product.
#include "hopper.cuh"

const int STAGES = 2;

struct Tiles {
    bf16 x[STAGES][64][64], f[STAGES][64][64];
    uint64_t full[STAGES];
};

extern "C" __global__ void __launch_bounds__(128) convolution(MAP x, MAP f, float *y, int pixels, int filters, int channels,
                                                              int p, int q, int r, int s, int stride, int pad, int dilation) {
    extern __shared__ __align__(1024) unsigned char memory[];
    Tiles &tiles = *(Tiles *)memory;
    int first = blockIdx.y * 64, filter0 = blockIdx.x * 64, blocks = (channels + 63) / 64, steps = r * s * blocks;
    int column = first % q * stride - pad, line = first / q % p * stride - pad, image = first / q / p;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) init(&tiles.full[i], 1);
        publish_inits();
    }
    __syncthreads();
    auto fetch = [&](int step) {
        int i = step % STAGES, tap = step / blocks, channel = step % blocks * 64;
        expect(&tiles.full[i], sizeof(tiles.x[0]) + sizeof(tiles.f[0]));
        unsigned short right = tap % s * dilation, down = tap / s * dilation;
        asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes "
                     "[%0], [%1, {%2, %3, %4, %5}], [%6], {%7, %8};" ::"r"(at(tiles.x[i])),
                     "l"(&x), "r"(channel), "r"(column), "r"(line), "r"(image), "r"(at(&tiles.full[i])), "h"(right), "h"(down)
                     : "memory");
        load(tiles.f[i], f, channel, tap, filter0, &tiles.full[i]);
    };
    float d[32];
    if (threadIdx.x == 0) fetch(0);
#pragma unroll 1
    for (int step = 0; step < steps; step++) {
        int i = step % STAGES;
        if (threadIdx.x == 0 && step + 1 < steps) fetch(step + 1);
        wait(&tiles.full[i], step / STAGES & 1);
        wgmma_fence();
#pragma unroll
        for (int j = 0; j < 4; j++)
            multiply(bf16(), d, operand(tiles.x[i], 16, 1024) + 2 * j, operand(tiles.f[i], 16, 1024) + 2 * j, step + j > 0);
        wgmma_commit();
        wgmma_wait<0>();
        pin(d);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 32; i++) {
        int pixel = first + row_of(i), filter = filter0 + column_of(i);
        if (pixel < pixels && filter < filters) y[(size_t)pixel * filters + filter] = d[i];
    }
}
