// Bilinear resize of [n, h, w] bytes to floats, half-pixel centres, edges repeated.
extern "C" __global__ void resize(const unsigned char *x, float *y, int n, int h, int w, int p, int q) {
    int col = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y * blockDim.y + threadIdx.y, image = blockIdx.z;
    if (col >= q || row >= p) return;
    float fy = fmaxf((row + 0.5f) * h / p - 0.5f, 0.f), fx = fmaxf((col + 0.5f) * w / q - 0.5f, 0.f);
    int y0 = (int)fy, x0 = (int)fx, y1 = min(y0 + 1, h - 1), x1 = min(x0 + 1, w - 1);
    float ay = fy - y0, ax = fx - x0;
    const unsigned char *at = x + (long long)image * h * w;
    float top = at[y0 * w + x0] * (1 - ax) + at[y0 * w + x1] * ax;
    float low = at[y1 * w + x0] * (1 - ax) + at[y1 * w + x1] * ax;
    y[((long long)image * p + row) * q + col] = (top * (1 - ay) + low * ay) / 255.f;
}
