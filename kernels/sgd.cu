// Stochastic gradient descent by PyTorch's rule, for many parameters in one launch.
// With rate = *base_rate * multiplier:
//
//     g = grad + weight_decay * param
//     velocity = momentum * velocity + g
//     param = param - rate * (nesterov ? g + momentum * velocity : velocity)        (rate * g without a velocity)
//     copy = param, rounded to bf16                                                 (null for none)
//
// Everything is overwritten in place but the gradients, which are only read. `base_rate` lies in device memory, so
// that the launch can be replayed in a graph.
//
// Grid: for each item ceil(len / (4 * THREADS)) blocks, one item after the other; a thread has four elements.
// Block: THREADS. The table travels with the arguments (4 KB at most).
#include <cuda_bf16.h>

struct Item {
    float *param;
    const float *grad;
    float *velocity;
    __nv_bfloat16 *copy;
    unsigned len;
    float multiplier;
    // The blocks of all items before this one.
    unsigned first_block;
    unsigned reserved;
};

struct Table {
    Item item[SGD_ITEMS];
};
static_assert(sizeof(Item) == 48 && sizeof(Table) <= 4000, "as src/ops/sgd/cuda.rs lays it out");

struct Rule {
    float rate, momentum, weight_decay;
    bool nesterov;
};

// Products are not fused with sums: the bits are the CPU's.
static __device__ __forceinline__ float update(const Rule &rule, float w, float g, float *velocity) {
    g = __fadd_rn(g, __fmul_rn(rule.weight_decay, w));
    float direction = g;
    if (velocity != nullptr) {
        const float v = __fadd_rn(__fmul_rn(rule.momentum, *velocity), g);
        *velocity = v;
        direction = rule.nesterov ? __fadd_rn(g, __fmul_rn(rule.momentum, v)) : v;
    }
    return __fsub_rn(w, __fmul_rn(rule.rate, direction));
}

extern "C" __global__ void __launch_bounds__(THREADS)
    sgd(const float *base_rate, const __grid_constant__ Table table, unsigned items, float momentum,
        float weight_decay, int nesterov) {
    // The last item that begins at or before this block.
    unsigned low = 0, high = items;
    while (high - low > 1) {
        const unsigned middle = (low + high) / 2;
        if (table.item[middle].first_block <= blockIdx.x) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const Item &item = table.item[low];
    const Rule rule{__fmul_rn(*base_rate, item.multiplier), momentum, weight_decay, nesterov != 0};
    const unsigned at = ((blockIdx.x - item.first_block) * unsigned(THREADS) + threadIdx.x) * 4;
    float *param = item.param + at, *velocity = item.velocity == nullptr ? nullptr : item.velocity + at;
    const float *grad = item.grad + at;
    __nv_bfloat16 *copy = item.copy == nullptr ? nullptr : item.copy + at;

    if (at + 4 <= item.len) {
        float4 w = *reinterpret_cast<float4 *>(param), v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        const float4 g = *reinterpret_cast<const float4 *>(grad);
        const bool moving = velocity != nullptr;
        if (moving) v = *reinterpret_cast<float4 *>(velocity);
        w.x = update(rule, w.x, g.x, moving ? &v.x : nullptr);
        w.y = update(rule, w.y, g.y, moving ? &v.y : nullptr);
        w.z = update(rule, w.z, g.z, moving ? &v.z : nullptr);
        w.w = update(rule, w.w, g.w, moving ? &v.w : nullptr);
        if (moving) *reinterpret_cast<float4 *>(velocity) = v;
        *reinterpret_cast<float4 *>(param) = w;
        if (copy != nullptr) {
            reinterpret_cast<__nv_bfloat162 *>(copy)[0] = __floats2bfloat162_rn(w.x, w.y);
            reinterpret_cast<__nv_bfloat162 *>(copy)[1] = __floats2bfloat162_rn(w.z, w.w);
        }
    } else {
        for (unsigned i = 0; at + i < item.len; i++) {
            param[i] = update(rule, param[i], grad[i], velocity == nullptr ? nullptr : velocity + i);
            if (copy != nullptr) copy[i] = __float2bfloat16_rn(param[i]);
        }
    }
}
