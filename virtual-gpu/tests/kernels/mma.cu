// C[m,n] = A[m,k] B[n,k]^T on tensor cores: 64 x 64 tiles, k in steps of 32 (bf16) or 16 (TF32), two stages of cp.async.
#include <cuda_bf16.h>

__device__ void copy16(void *to, const void *from, bool inside) {
    unsigned at = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(inside ? 16 : 0));
}
__device__ void commit() { asm volatile("cp.async.commit_group;"); }
template <int N> __device__ void wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N)); }
__device__ void load4(unsigned *r, const void *from) {
    unsigned at = (unsigned)__cvta_generic_to_shared(from);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at));
}

// 128 threads, 2 x 2 warps of 32 x 32 each. k must be a multiple of 8 (16-byte rows).
extern "C" __global__ void __launch_bounds__(128) gemm_bf16(const __nv_bfloat16 *a, const __nv_bfloat16 *b, float *c,
                                                            int m, int n, int k) {
    __shared__ __align__(16) __nv_bfloat16 as[2][64][40], bs[2][64][40];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int row0 = blockIdx.y * 64, col0 = blockIdx.x * 64, wr = warp / 2 * 32, wc = warp % 2 * 32;
    float sum[2][4][4] = {};
    auto fetch = [&](int stage, int k0) {
        for (int i = threadIdx.x; i < 256; i += 128) {
            int r = i / 4, q = i % 4 * 8;
            bool ia = row0 + r < m && k0 + q < k, ib = col0 + r < n && k0 + q < k;
            copy16(&as[stage][r][q], ia ? a + (row0 + r) * k + k0 + q : a, ia);
            copy16(&bs[stage][r][q], ib ? b + (col0 + r) * k + k0 + q : b, ib);
        }
        commit();
    };
    int steps = (k + 31) / 32;
    fetch(0, 0);
    for (int s = 0; s < steps; s++) {
        if (s + 1 < steps) {
            fetch((s + 1) & 1, (s + 1) * 32);
            wait<1>();
        } else {
            wait<0>();
        }
        __syncthreads();
        for (int kk = 0; kk < 32; kk += 16) {
            unsigned fa[2][4], fb[2][4];
            for (int i = 0; i < 2; i++) load4(fa[i], &as[s & 1][wr + 16 * i + lane % 16][kk + lane / 16 * 8]);
            for (int j = 0; j < 2; j++) load4(fb[j], &bs[s & 1][wc + 16 * j + lane % 16][kk + lane / 16 * 8]);
            for (int i = 0; i < 2; i++)
                for (int j = 0; j < 4; j++)
                    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
                                 "{%8,%9}, {%0,%1,%2,%3};"
                                 : "+f"(sum[i][j][0]), "+f"(sum[i][j][1]), "+f"(sum[i][j][2]), "+f"(sum[i][j][3])
                                 : "r"(fa[i][0]), "r"(fa[i][1]), "r"(fa[i][2]), "r"(fa[i][3]), "r"(fb[j / 2][j % 2]),
                                   "r"(fb[j / 2][j % 2 + 2]));
        }
        __syncthreads();
    }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++)
            for (int e = 0; e < 4; e++) {
                int r = row0 + wr + 16 * i + lane / 4 + e / 2 * 8, q = col0 + wc + 8 * j + lane % 4 * 2 + e % 2;
                if (r < m && q < n) c[r * n + q] = sum[i][j][e];
            }
}

// One warp a 16 x 8 tile, operands straight from global memory.
extern "C" __global__ void gemm_tf32(const float *a, const float *b, float *c, int m, int n, int k) {
    int lane = threadIdx.x, row0 = blockIdx.y * 16, col0 = blockIdx.x * 8, g = lane / 4, t = lane % 4;
    float sum[4] = {};
    for (int k0 = 0; k0 < k; k0 += 8) {
        unsigned fa[4], fb[2];
        for (int i = 0; i < 4; i++) {
            int r = row0 + g + i % 2 * 8, q = k0 + t + i / 2 * 4;
            float v = r < m && q < k ? a[r * k + q] : 0.f;
            asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(fa[i]) : "f"(v));
        }
        for (int i = 0; i < 2; i++) {
            int r = col0 + g, q = k0 + t + i * 4;
            float v = r < n && q < k ? b[r * k + q] : 0.f;
            asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(fb[i]) : "f"(v));
        }
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                     "{%0,%1,%2,%3};"
                     : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                     : "r"(fa[0]), "r"(fa[1]), "r"(fa[2]), "r"(fa[3]), "r"(fb[0]), "r"(fb[1]));
    }
    for (int e = 0; e < 4; e++) {
        int r = row0 + g + e / 2 * 8, q = col0 + t * 2 + e % 2;
        if (r < m && q < n) c[r * n + q] = sum[e];
    }
}
