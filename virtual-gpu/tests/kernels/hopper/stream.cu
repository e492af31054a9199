// Rings whose consumers are threads that load from shared memory.
#include "hopper.cuh"

const int STAGES = 3;

// sums[x] += the sum of column x, of an image of 32-bit numbers in tiles of 32 x 16. One warp copies, four add up: every
// thread releases a stage by itself. The blocks' sums are added up by a tensor reduction.
extern "C" __global__ void __launch_bounds__(160) columns(MAP image, MAP sums, int height) {
    __shared__ __align__(128) float tile[STAGES][16][32], part[4][32];
    __shared__ uint64_t full[STAGES], empty[STAGES];
    int steps = (height + 15) / 16, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            init(&full[s], 1);
            init(&empty[s], 128);
        }
        publish_inits();
    }
    __syncthreads();
    if (warp == 4) {
        if (elected()) {
#pragma unroll 1
            for (int step = blockIdx.y, i = 0; step < steps; step += gridDim.y, i++) {
                int s = i % STAGES;
                wait(&empty[s], (i / STAGES & 1) ^ 1);
                expect(&full[s], sizeof(tile[0]));
                load(tile[s], image, blockIdx.x * 32, step * 16, &full[s]);
            }
        }
        return;
    }
    float sum = 0;
#pragma unroll 1
    for (int step = blockIdx.y, i = 0; step < steps; step += gridDim.y, i++) {
        int s = i % STAGES;
        wait(&full[s], i / STAGES & 1);
        for (int row = warp; row < 16; row += 4) sum += tile[s][row][lane];
        arrive(&empty[s]);
    }
    part[warp][lane] = sum;
    sync(1, 128);
    if (warp == 0) {
        part[0][lane] += part[1][lane] + part[2][lane] + part[3][lane];
        fence_async();
        __syncwarp();
        if (lane == 0) {
            asm volatile("cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [%0, {%1, %2}], [%3];" ::"l"(&sums),
                         "r"(blockIdx.x * 32), "r"(0), "r"(at(part[0]))
                         : "memory");
            commit_stores();
            stores_have_read();
        }
    }
}

// y = x + 1 in tiles of 32 x 32, in place: the tile that a thread stores is the one that the whole block has changed, after
// a hand-over by mbarrier. The mbarrier's second phase tells the storing thread that all have written.
extern "C" __global__ void __launch_bounds__(64) increment(MAP x, MAP y, int height) {
    __shared__ __align__(128) float tile[32][32];
    __shared__ uint64_t full, changed;
    if (threadIdx.x == 0) {
        init(&full, 1);
        init(&changed, 64);
        publish_inits();
    }
    __syncthreads();
    int phase = 0;
#pragma unroll 1
    for (int row = blockIdx.y * 32; row < height; row += gridDim.y * 32, phase ^= 1) {
        if (threadIdx.x == 0) {
            expect(&full, sizeof(tile));
            load(tile, x, blockIdx.x * 32, row, &full);
        }
        wait(&full, phase);
        for (int i = threadIdx.x; i < 1024; i += 64) tile[i / 32][i % 32] += 1.f;
        fence_async();
        arrive(&changed);
        wait(&changed, phase);
        if (threadIdx.x == 0) {
            store(y, blockIdx.x * 32, row, tile);
            commit_stores();
            stores_have_read();
        }
    }
}
