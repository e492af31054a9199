// C[m,n] = A[m,k] B[n,k]^T in bf16, by as many blocks as there are: each takes 64 x 64 tiles until none is left. The ring of
// stages goes on from tile to tile, and a stage is released one product late.
#include "hopper.cuh"

const int STAGES = 4;

struct Tiles {
    bf16 a[STAGES][64][64], b[STAGES][64][64];
    float c[64][64];
    uint64_t full[STAGES], empty[STAGES];
};

extern "C" __global__ void __launch_bounds__(160) gemm_persistent(MAP a, MAP b, MAP c, int m, int n, int k) {
    extern __shared__ __align__(1024) unsigned char memory[];
    Tiles &tiles = *(Tiles *)memory;
    int columns = (n + 63) / 64, count = columns * ((m + 63) / 64), steps = (k + 63) / 64, stage = 0, phase = 0;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            init(&tiles.full[s], 1);
            init(&tiles.empty[s], 1);
        }
        publish_inits();
    }
    __syncthreads();
    auto next = [&] {
        stage = (stage + 1) % STAGES;
        phase ^= stage == 0;
    };
    if (threadIdx.x >= 128) {
        if (threadIdx.x == 128) {
#pragma unroll 1
            for (int tile = blockIdx.x; tile < count; tile += gridDim.x)
#pragma unroll 1
                for (int step = 0; step < steps; step++) {
                    wait(&tiles.empty[stage], phase ^ 1);
                    expect(&tiles.full[stage], sizeof(tiles.a[0]) + sizeof(tiles.b[0]));
                    load(tiles.a[stage], a, step * 64, tile / columns * 64, &tiles.full[stage]);
                    load(tiles.b[stage], b, step * 64, tile % columns * 64, &tiles.full[stage]);
                    next();
                }
        }
    } else {
#pragma unroll 1
        for (int tile = blockIdx.x; tile < count; tile += gridDim.x) {
            float d[32] = {};
            int last = 0;
#pragma unroll 1
            for (int step = 0; step < steps; step++) {
                poll(&tiles.full[stage], phase);
                wgmma_fence();
#pragma unroll
                for (int i = 0; i < 4; i++)
                    multiply(bf16(), d, operand(tiles.a[stage], 16, 1024) + 2 * i, operand(tiles.b[stage], 16, 1024) + 2 * i, 1);
                wgmma_commit();
                wgmma_wait<1>();
                if (step > 0 && threadIdx.x == 0) arrive(&tiles.empty[last]);
                last = stage;
                next();
            }
            wgmma_wait<0>();
            pin(d);
            // The previous tile's store still reads c.
            if (threadIdx.x == 0) {
                arrive(&tiles.empty[last]);
                stores_have_read();
            }
            sync(1, 128);
#pragma unroll
            for (int i = 0; i < 32; i += 2) *(float2 *)&tiles.c[row_of(i)][column_of(i)] = make_float2(d[i], d[i + 1]);
            fence_async();
            sync(1, 128);
            if (threadIdx.x == 0) {
                store(c, tile % columns * 64, tile / columns * 64, tiles.c);
                commit_stores();
            }
        }
        if (threadIdx.x == 0) stores_have_read();
    }
}
