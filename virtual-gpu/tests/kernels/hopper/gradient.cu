// Operands that are not K-major rows in shared memory.
#include "hopper.cuh"

struct Tiles {
    bf16 a[64][64], b[2][64][64];
    uint64_t full;
};

// C[m,n] = A[k,m]^T B[k,n], as a convolution's weight gradient: both operands lie with k outermost. 64 x 128 a block.
extern "C" __global__ void __launch_bounds__(128) gemm_transposed(MAP a, MAP b, float *c, int m, int n, int k) {
    extern __shared__ __align__(1024) unsigned char memory[];
    Tiles &tiles = *(Tiles *)memory;
    int row0 = blockIdx.y * 64, col0 = blockIdx.x * 128;
    if (threadIdx.x == 0) {
        init(&tiles.full, 1);
        publish_inits();
    }
    __syncthreads();
    float d[64];
#pragma unroll 1
    for (int step = 0; step < (k + 63) / 64; step++) {
        if (threadIdx.x == 0) {
            expect(&tiles.full, sizeof(tiles.a) + sizeof(tiles.b));
            load(tiles.a, a, row0, step * 64, &tiles.full);
            load(tiles.b[0], b, col0, step * 64, &tiles.full);
            load(tiles.b[1], b, col0 + 64, step * 64, &tiles.full);
        }
        wait(&tiles.full, step & 1);
        wgmma_fence();
        // 16 values of k are 2 x 1024 bytes.
#pragma unroll
        for (int i = 0; i < 4; i++)
            multiply_transposed(d, operand(tiles.a[16 * i], 8192, 1024), operand(tiles.b[0][16 * i], 8192, 1024), step + i > 0);
        wgmma_commit();
        wgmma_wait<0>();
        pin(d);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 64; i++) {
        int row = row0 + row_of(i), column = col0 + column_of(i);
        if (row < m && column < n) c[row * n + column] = d[i];
    }
}

// C[m,n] = relu(A[m,k]) B[n,k]^T: A goes through registers, which are loaded for the next product while one is in flight.
extern "C" __global__ void __launch_bounds__(128) gemm_registers(const bf16 *a, MAP b, float *c, int m, int n, int k) {
    extern __shared__ __align__(1024) unsigned char memory[];
    Tiles &tiles = *(Tiles *)memory;
    int row0 = blockIdx.y * 64, col0 = blockIdx.x * 64;
    if (threadIdx.x == 0) {
        init(&tiles.full, 1);
        publish_inits();
    }
    __syncthreads();
    float d[32];
    auto fetch = [&](uint32_t (&part)[4], int k0) {
        for (int i = 0; i < 4; i++) {
            int row = row0 + row_of(2 * i), column = k0 + threadIdx.x % 4 * 2 + i / 2 * 8;
            __nv_bfloat162 two = __floats2bfloat162_rn(0.f, 0.f);
            if (row < m && column < k) two = __hmax2(*(const __nv_bfloat162 *)(a + row * k + column), two);
            part[i] = *(uint32_t *)&two;
        }
    };
#pragma unroll 1
    for (int step = 0; step < (k + 63) / 64; step++) {
        if (threadIdx.x == 0) {
            expect(&tiles.full, sizeof(tiles.b[0]));
            load(tiles.b[0], b, step * 64, col0, &tiles.full);
        }
        uint32_t part[2][4];
        fetch(part[0], step * 64);
        wait(&tiles.full, step & 1);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            wgmma_fence();
            multiply_registers(d, part[i % 2], operand(tiles.b[0], 16, 1024) + 2 * i, step + i > 0);
            wgmma_commit();
            if (i < 3) fetch(part[(i + 1) % 2], step * 64 + 16 * (i + 1));
            wgmma_wait<0>();
        }
        pin(d);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 32; i++) {
        int row = row0 + row_of(i), column = col0 + column_of(i);
        if (row < m && column < n) c[row * n + column] = d[i];
    }
}
