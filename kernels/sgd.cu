// Stochastic gradient descent by PyTorch's rule, for many parameters in one launch.
// With rate = *base_rate * multiplier:
//
//     g = grad + weight_decay * param
//     velocity = momentum * velocity + g
//     param = param - rate * (nesterov ? g + momentum * velocity : velocity)        (rate * g without a velocity)
//     copy = param, rounded to bf16                                                 (null for none)
//
// Everything is overwritten in place but the gradients, which are only read: those that lie in parts are added up here, so
// that no pass of their own does it. `base_rate` lies in device memory, so that the launch can be replayed in a graph.
//
// Grid: for each item as many blocks as `sum` has, one item after the other; of threads that share four elements, one
// updates them. Block: THREADS. The table travels with the arguments (4 KB at most).
#include <cuda_bf16.h>

#include "parts.cuh"

struct Item {
    float *param;
    const float *grad;
    float *velocity;
    __nv_bfloat16 *copy;
    unsigned len;
    float multiplier;
    // The blocks of all items before this one.
    unsigned first_block;
    // Those of the gradient, one if it lies in one piece, and from one to the next.
    unsigned parts, stride, reserved;
};

struct Table {
    Item item[SGD_ITEMS];
};
static_assert(sizeof(Item) == 56 && sizeof(Table) <= 4000, "as src/ops/sgd/cuda.rs lays it out");

struct Rule {
    float rate, momentum, weight_decay;
    bool nesterov;
};

// Products are not fused with sums: the bits are the CPU's.
static __device__ __forceinline__ void update(const Rule &rule, float &w, float g, float *velocity) {
    g = __fadd_rn(g, __fmul_rn(rule.weight_decay, w));
    float direction = g;
    if (velocity != nullptr) {
        const float v = __fadd_rn(__fmul_rn(rule.momentum, *velocity), g);
        *velocity = v;
        direction = rule.nesterov ? __fadd_rn(g, __fmul_rn(rule.momentum, v)) : v;
    }
    w = __fsub_rn(w, __fmul_rn(rule.rate, direction));
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
    const Parts parts{item.grad, item.stride, item.parts};
    const Share share(parts, blockIdx.x - item.first_block, item.len);
    float *param = item.param + share.at, *velocity = item.velocity + share.at;
    const bool moving = item.velocity != nullptr;
    // On their way while the gradient is added up.
    float4 w, v;
    if (share.has_sum()) {
        w = load_four(param, share.there);
        if (moving) v = load_four(velocity, share.there);
    }
    const float4 g = sum_of(parts, share);
    if (!share.has_sum()) return;
    const Rule rule{__fmul_rn(*base_rate, item.multiplier), momentum, weight_decay, nesterov != 0};
    update(rule, w.x, g.x, moving ? &v.x : nullptr);
    update(rule, w.y, g.y, moving ? &v.y : nullptr);
    update(rule, w.z, g.z, moving ? &v.z : nullptr);
    update(rule, w.w, g.w, moving ? &v.w : nullptr);
    if (moving) store_four(velocity, share.there, v);
    store_four(param, share.there, w);
    if (item.copy != nullptr) {
        __nv_bfloat16 *copy = item.copy + share.at;
        if (share.there >= 4) {
            reinterpret_cast<__nv_bfloat162 *>(copy)[0] = __floats2bfloat162_rn(w.x, w.y);
            reinterpret_cast<__nv_bfloat162 *>(copy)[1] = __floats2bfloat162_rn(w.z, w.w);
        } else {
            const float rest[3] = {w.x, w.y, w.z};
#pragma unroll
            for (unsigned i = 0; i < 3; i++) {
                if (i < share.there) copy[i] = __float2bfloat16_rn(rest[i]);
            }
        }
    }
}
