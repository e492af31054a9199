// Softmax of each row, one warp a row; and the loss of one class a row.
extern "C" __global__ void softmax(const float *x, float *y, int rows, int cols) {
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    float top = -INFINITY;
    for (int i = lane; i < cols; i += 32) top = fmaxf(top, x[row * cols + i]);
    for (int o = 16; o; o >>= 1) top = fmaxf(top, __shfl_xor_sync(~0u, top, o));
    float sum = 0.f;
    for (int i = lane; i < cols; i += 32) sum += expf(x[row * cols + i] - top);
    for (int o = 16; o; o >>= 1) sum += __shfl_xor_sync(~0u, sum, o);
    for (int i = lane; i < cols; i += 32) y[row * cols + i] = expf(x[row * cols + i] - top) / sum;
}
