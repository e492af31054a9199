// One sum per block: shuffles within warps, shared memory between them.
extern "C" __global__ void reduce(const float *x, float *sums, int n) {
    __shared__ float partial[32];
    float v = 0.f;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) v += x[i];
    for (int o = 16; o; o >>= 1) v += __shfl_down_sync(~0u, v, o);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = v;
    __syncthreads();
    if (threadIdx.x < 32) {
        v = threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : 0.f;
        for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(~0u, v, o);
        if (threadIdx.x == 0) sums[blockIdx.x] = v;
    }
}

// The same tree in shared memory, its last steps within one warp.
extern "C" __global__ void reduce_tree(const float *x, float *sums, int n) {
    extern __shared__ float tree[];
    int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    tree[t] = i < n ? x[i] : 0.f;
    __syncthreads();
    for (int s = blockDim.x / 2; s >= 32; s >>= 1) {
        if (t < s) tree[t] += tree[t + s];
        __syncthreads();
    }
    if (t < 32) {
        for (int s = 16; s; s >>= 1) {
            float v = tree[t] + tree[t + s];
            __syncwarp();
            tree[t] = v;
            __syncwarp();
        }
        if (t == 0) sums[blockIdx.x] = tree[0];
    }
}
