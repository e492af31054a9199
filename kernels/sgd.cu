// Stochastic gradient descent by PyTorch's rule, for many parameters in one launch (update.cuh has the grid).
// With rate = *base_rate * rate_multiplier and decay = weight_decay * decay_multiplier:
//
//     g = grad + decay * param
//     velocity = momentum * velocity + g
//     param = param - rate * (nesterov ? g + momentum * velocity : velocity)        (rate * g without a velocity)
//
// What would not be finite is left out (update.cuh). `base_rate` lies in device memory, so that the launch can be replayed in a graph.
#include "update.cuh"

struct Rule {
    float rate, momentum, decay;
    bool nesterov, moving;

    // Products are not fused with sums: the bits are the CPU's.
    __device__ __forceinline__ void operator()(float &w, float g, float (&velocity)[1]) const {
        g = __fadd_rn(g, __fmul_rn(decay, w));
        float direction = g;
        if (moving) {
            const float v = __fadd_rn(__fmul_rn(momentum, velocity[0]), g);
            velocity[0] = v;
            direction = nesterov ? __fadd_rn(g, __fmul_rn(momentum, v)) : v;
        }
        w = __fsub_rn(w, __fmul_rn(rate, direction));
    }
};

extern "C" __global__ void __launch_bounds__(THREADS)
    sgd(Guard *guard, const float *base_rate, const __grid_constant__ Table<1, SGD_ITEMS> table, unsigned items, float momentum,
        float weight_decay, int nesterov) {
    const Item<1> &item = own_item(table, items);
    update(item, guard, [&] {
        const float rate = __fmul_rn(*base_rate, item.rate_multiplier);
        const float decay = __fmul_rn(weight_decay, item.decay_multiplier);
        return Rule{rate, momentum, decay, nesterov != 0, item.state[0] != nullptr};
    });
}
