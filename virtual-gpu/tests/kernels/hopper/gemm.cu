// C[m,n] = A[m,k] B[n,k]^T. One warp copies 128 x 128 bytes of A and 64 x 128 bytes of B to each of four stages; two
// warpgroups multiply, of 64 rows each.
#include "hopper.cuh"

const int STAGES = 4;

template <typename In, typename Out> struct Tiles {
    In a[STAGES][128][128 / sizeof(In)];
    In b[STAGES][64][128 / sizeof(In)];
    Out c[2][64][64];
    uint64_t full[STAGES], empty[STAGES];
};

// bf16 in the pattern of the map's 128-byte swizzle.
__device__ void keep(bf16 (&c)[64][64], const float (&d)[32]) {
    int lane = threadIdx.x % 32, row = threadIdx.x % 128 / 32 * 16 + lane % 16;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        uint32_t pair[4];
        for (int i = 0; i < 4; i++) {
            __nv_bfloat162 two = __floats2bfloat162_rn(d[8 * j + 2 * i], d[8 * j + 2 * i + 1]);
            pair[i] = *(uint32_t *)&two;
        }
        unsigned to = at(&c[row][16 * j + lane / 16 * 8]);
        to ^= (to >> 7 & 7) << 4;
        asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(pair[0]), "r"(pair[1]),
                     "r"(pair[2]), "r"(pair[3])
                     : "memory");
    }
}
// f32 without a swizzle: its rows have 256 bytes.
__device__ void keep(float (&c)[64][64], const float (&d)[32]) {
#pragma unroll
    for (int i = 0; i < 32; i += 2) *(float2 *)&c[row_of(i)][column_of(i)] = make_float2(d[i], d[i + 1]);
}

template <typename In, typename Out> __device__ __forceinline__ void gemm(const CUtensorMap &a, const CUtensorMap &b, const CUtensorMap &c, int k) {
    extern __shared__ __align__(1024) unsigned char memory[];
    Tiles<In, Out> &tiles = *(Tiles<In, Out> *)memory;
    const int DEPTH = 128 / sizeof(In);
    int row0 = blockIdx.y * 128, col0 = blockIdx.x * 64, steps = (k + DEPTH - 1) / DEPTH;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            init(&tiles.full[s], 1);
            init(&tiles.empty[s], 8);
        }
        publish_inits();
    }
    __syncthreads();
    if (threadIdx.x < 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x < 32 && elected()) {
            prefetch(a);
            prefetch(b);
#pragma unroll 1
            for (int step = 0; step < steps; step++) {
                int s = step % STAGES;
                wait(&tiles.empty[s], (step / STAGES & 1) ^ 1);
                expect(&tiles.full[s], sizeof(tiles.a[0]) + sizeof(tiles.b[0]));
                load(tiles.a[s], a, step * DEPTH, row0, &tiles.full[s]);
                load(tiles.b[s], b, step * DEPTH, col0, &tiles.full[s]);
            }
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        int group = threadIdx.x / 128 - 1;
        float d[32] = {};
#pragma unroll 1
        for (int step = 0; step < steps; step++) {
            int s = step % STAGES;
            wait(&tiles.full[s], step / STAGES & 1);
            wgmma_fence();
#pragma unroll
            for (int i = 0; i < 4; i++)
                multiply(In(), d, operand(tiles.a[s][64 * group], 16, 1024) + 2 * i, operand(tiles.b[s], 16, 1024) + 2 * i, 1);
            wgmma_commit();
            wgmma_wait<0>();
            pin(d);
            if (threadIdx.x % 32 == 0) arrive(&tiles.empty[s]);
        }
        keep(tiles.c[group], d);
        fence_async();
        sync(1 + group, 128);
        if (threadIdx.x % 128 == 0) {
            store(c, col0, row0 + 64 * group, tiles.c[group]);
            commit_stores();
            stores_have_read();
        }
    }
}

extern "C" __global__ void __launch_bounds__(384, 1) gemm_bf16(MAP a, MAP b, MAP c, int k) { gemm<bf16, bf16>(a, b, c, k); }
extern "C" __global__ void __launch_bounds__(384, 1) gemm_tf32(MAP a, MAP b, MAP c, int k) { gemm<float, float>(a, b, c, k); }
