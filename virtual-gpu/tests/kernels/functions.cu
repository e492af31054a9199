// Functions that are called: with a struct by value, with local memory, and those of the maths library.
struct Five {
    int a[5];
};

__device__ __noinline__ Five turn(Five s, int i) {
    s.a[i % 5] += i;
    return s;
}

__device__ __noinline__ float pick(float a, int b, double *q) {
    if (a > 3.f) return a * b;
    q[0] = a;
    return a + b;
}

extern "C" __global__ void functions(float *a, double *q, int n) {
    int i = threadIdx.x;
    if (i >= n) return;
    Five s;
    for (int j = 0; j < 5; j++) s.a[j] = i * j;
    s = turn(s, i);
    a[i] = pick(a[i], i, q + i) + s.a[2];
    q[i] = sin(1e6 * q[i]) + pow(fabs(q[i]) + 1, 3.3);
}
