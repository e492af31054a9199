// Two kernels of which the second starts before the first has ended (programmatic dependent launch).
#include "hopper.cuh"

extern "C" __global__ void first(float *x, int n) {
    asm volatile("griddepcontrol.launch_dependents;");
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] = 2.f * i + 1.f;
}

// `bias` was there before `first`; `x` is what `first` writes.
extern "C" __global__ void second(const float *x, const float *bias, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float b = i < n ? bias[i] : 0.f;
    asm volatile("griddepcontrol.wait;" ::: "memory");
    if (i < n) y[i] = x[n - 1 - i] + b;
}
