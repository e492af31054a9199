// 3 x 3 max pool of stride 2 over [n, h, w, c], with the place of the first maximum.
extern "C" __global__ void maxpool(const float *x, float *y, unsigned char *where, int n, int h, int w, int c) {
    int p = (h - 3) / 2 + 1, q = (w - 3) / 2 + 1;
    int total = n * p * q * c;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += gridDim.x * blockDim.x) {
        int ch = i % c, col = i / c % q, row = i / c / q % p, image = i / c / q / p;
        float best = -INFINITY;
        int at = 0;
        for (int r = 0; r < 3; r++)
            for (int s = 0; s < 3; s++) {
                float v = x[((image * h + 2 * row + r) * w + 2 * col + s) * c + ch];
                if (v > best) {
                    best = v;
                    at = r * 3 + s;
                }
            }
        y[i] = best;
        where[i] = at;
    }
}
