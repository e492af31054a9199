// Bulk copies without a tensor map, and cp.async that arrives at an mbarrier.
#include "hopper.cuh"

const int CHUNK = 512;

__device__ __forceinline__ void load_bulk(void *to, const void *from, int bytes, uint64_t *bar) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(at(to)),
                 "l"(from), "r"(bytes), "r"(at(bar))
                 : "memory");
}

// y[i] = 2 x[i] in chunks of 512, in place in shared memory; n is a multiple of 4. 128 threads.
extern "C" __global__ void __launch_bounds__(128) twice(const float *x, float *y, int n) {
    __shared__ __align__(16) float part[2][CHUNK];
    __shared__ uint64_t full[2];
    if (threadIdx.x == 0) {
        init(&full[0], 1);
        init(&full[1], 1);
        publish_inits();
    }
    __syncthreads();
    auto size = [&](int chunk) { return min(CHUNK, n - chunk * CHUNK); };
    auto fetch = [&](int chunk, int s) {
        expect(&full[s], size(chunk) * 4);
        load_bulk(part[s], x + chunk * CHUNK, size(chunk) * 4, &full[s]);
    };
    int first = blockIdx.x, step = gridDim.x, count = (n + CHUNK - 1) / CHUNK;
    if (threadIdx.x == 0 && first < count) fetch(first, 0);
#pragma unroll 1
    for (int chunk = first, i = 0; chunk < count; chunk += step, i++) {
        int s = i % 2;
        if (threadIdx.x == 0 && chunk + step < count) {
            // The other stage's store has to have read before a copy overwrites it.
            stores_have_read();
            fetch(chunk + step, s ^ 1);
        }
        wait(&full[s], i / 2 & 1);
        for (int j = threadIdx.x; j < size(chunk); j += 128) part[s][j] *= 2.f;
        fence_async();
        __syncthreads();
        if (threadIdx.x == 0) {
            asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(y + chunk * CHUNK),
                         "r"(at(part[s])), "r"(size(chunk) * 4)
                         : "memory");
            commit_stores();
        }
    }
    if (threadIdx.x == 0) stores_have_written();
}

// sums[i % 64] += x[i]: every block adds up its own values in shared memory, then adds those to global memory. 64 threads.
extern "C" __global__ void __launch_bounds__(64) add_up(const unsigned *x, unsigned *sums, int n) {
    __shared__ __align__(16) unsigned part[64];
    unsigned sum = 0;
    for (int i = blockIdx.x * 64 + threadIdx.x; i < n; i += gridDim.x * 64) sum += x[i];
    part[threadIdx.x] = sum;
    fence_async();
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%0], [%1], 256;" ::"l"(sums), "r"(at(part))
                     : "memory");
        commit_stores();
        stores_have_read();
    }
}

// y[i] = x[n - 1 - i] in chunks of 256: each thread's cp.async arrives at the mbarrier when it is done. n is a multiple of
// 256. 64 threads.
extern "C" __global__ void __launch_bounds__(64) reverse(const float *x, float *y, int n) {
    __shared__ __align__(16) float part[256];
    __shared__ uint64_t full;
    if (threadIdx.x == 0) init(&full, 64);
    __syncthreads();
    int phase = 0;
#pragma unroll 1
    for (int chunk = blockIdx.x; chunk < n / 256; chunk += gridDim.x, phase ^= 1) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at(&part[4 * threadIdx.x])),
                     "l"(x + n - 256 * (chunk + 1) + 4 * threadIdx.x)
                     : "memory");
        asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(at(&full)) : "memory");
        wait(&full, phase);
        for (int i = threadIdx.x; i < 256; i += 64) y[256 * chunk + i] = part[255 - i];
        __syncthreads();
    }
}
