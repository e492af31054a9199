// C[m,n] = A[m,k] B[k,n], row-major, tiles of 32 x 32 in shared memory, a 2 x 2 patch of them per thread.
#define T 32
extern "C" __global__ void __launch_bounds__(256) sgemm(const float *__restrict__ a, const float *__restrict__ b,
                                                        float *__restrict__ c, int m, int n, int k) {
    __shared__ float as[T][T + 1];
    __shared__ float bs[T][T];
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    int row0 = blockIdx.y * T, col0 = blockIdx.x * T;
    float sum[2][2] = {};
    for (int k0 = 0; k0 < k; k0 += T) {
        for (int i = threadIdx.x; i < T * T; i += 256) {
            int r = i / T, q = i % T;
            as[r][q] = row0 + r < m && k0 + q < k ? a[(row0 + r) * k + k0 + q] : 0.f;
            bs[r][q] = k0 + r < k && col0 + q < n ? b[(k0 + r) * n + col0 + q] : 0.f;
        }
        __syncthreads();
#pragma unroll 4
        for (int q = 0; q < T; q++)
            for (int i = 0; i < 2; i++)
                for (int j = 0; j < 2; j++) sum[i][j] += as[ty + 16 * i][q] * bs[q][tx + 16 * j];
        __syncthreads();
    }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
            int r = row0 + ty + 16 * i, q = col0 + tx + 16 * j;
            if (r < m && q < n) c[r * n + q] = sum[i][j];
        }
}
