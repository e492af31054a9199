// Convolution as an implicit GEMM: [n*p*q, k] = patches [n*p*q, r*s*c] * weights [k, r*s*c]^T, NHWC and KRSC.
struct Shape {
    int n, h, w, c, k, r, s, p, q, stride, pad;
};

extern "C" __global__ void __launch_bounds__(128) convolution(const float *__restrict__ x, const float *__restrict__ f,
                                                              const float *__restrict__ bias, float *__restrict__ y,
                                                              const Shape shape) {
    __shared__ float patches[16][17], weights[16][33];
    int rows = shape.n * shape.p * shape.q, depth = shape.r * shape.s * shape.c;
    int row0 = blockIdx.x * 16, k0 = blockIdx.y * 32;
    int tk = threadIdx.x % 32, tr = threadIdx.x / 32;
    float sum[4] = {};
    for (int d0 = 0; d0 < depth; d0 += 16) {
        for (int i = threadIdx.x; i < 256; i += 128) {
            int d = d0 + i % 16, row = row0 + i / 16;
            float v = 0.f;
            if (d < depth && row < rows) {
                int c = d % shape.c, s = d / shape.c % shape.s, r = d / shape.c / shape.s;
                int q = row % shape.q, p = row / shape.q % shape.p, n = row / shape.q / shape.p;
                int h = p * shape.stride + r - shape.pad, w = q * shape.stride + s - shape.pad;
                if (h >= 0 && h < shape.h && w >= 0 && w < shape.w) v = x[((n * shape.h + h) * shape.w + w) * shape.c + c];
            }
            patches[i / 16][i % 16] = v;
        }
        for (int i = threadIdx.x; i < 512; i += 128) {
            int d = d0 + i % 16, k = k0 + i / 16;
            weights[i % 16][i / 16] = d < depth && k < shape.k ? f[k * depth + d] : 0.f;
        }
        __syncthreads();
        for (int d = 0; d < 16; d++)
            for (int j = 0; j < 4; j++) sum[j] += patches[tr + 4 * j][d] * weights[d][tk];
        __syncthreads();
    }
    for (int j = 0; j < 4; j++) {
        int row = row0 + tr + 4 * j, k = k0 + tk;
        if (row < rows && k < shape.k) y[row * shape.k + k] = fmaxf(sum[j] + bias[k], 0.f);
    }
}
